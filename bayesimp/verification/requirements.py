"""The requirements, each with its source and check. Ids do not change; new requirements go at the end."""

from __future__ import annotations

from bayesimp.verification.calibration import joint_normal_ranks
from bayesimp.verification.exact import binary_posterior, completed_law, normal_posterior
from bayesimp.verification.records import Requirement
from bayesimp.verification.reference import frozen_runs, lme4_fits, metafor_fits, mice_pooling, stored
from bayesimp.verification.repeated import altered_files, continued, federated, refusals, same_seed

__all__ = ["REQUIREMENTS"]


def _with(package: str) -> str:
    session = stored()["R"][package]
    return f"{package} {session[package]}, {session['R']}"


REQUIREMENTS: tuple[Requirement, ...] = (
    Requirement(
        "V-01", "The joint normal model is sampled from its posterior, missing values and effects integrated out.",
        "Schafer & Yucel 2002; docs/mathematics.md, sec. 1", normal_posterior,
    ),
    Requirement(
        "V-02", "Completed tables contain draws from the distribution of missing values given all observed values.",
        "docs/mathematics.md, sec. 1: conditional normal of the missing cells", completed_law,
    ),
    Requirement(
        "V-03", "Binary values are imputed by chained equations from their posterior probabilities in each cluster.",
        "docs/mathematics.md: conditional generalised mixed models; docs/methods.md, method bayes", binary_posterior,
    ),
    Requirement(
        "V-04", "Intervals of parameters and of imputed values have their nominal probability under the prior.",
        "Talts et al. 2018, Modrak et al. 2023: simulation-based calibration", joint_normal_ranks,
    ),
    Requirement(
        "V-05", "Estimates are pooled by Rubin's rules with Barnard & Rubin's degrees of freedom.",
        f"Rubin 1987; Barnard & Rubin 1999; {_with('mice')}", mice_pooling,
    ),
    Requirement(
        "V-06", "Linear mixed models are fitted by REML and by maximum likelihood.", f"{_with('lme4')}", lme4_fits,
    ),
    Requirement(
        "V-07", "Studies are combined by random-effects meta-analysis with Hartung & Knapp's interval.",
        f"Viechtbauer 2005; Hartung & Knapp 2001; {_with('metafor')}", metafor_fits,
    ),
    Requirement(
        "V-08", "The same seed gives the same completed tables, whatever the order of rows, the labels of clusters "
        "and the number of workers.", "ARCHITECTURE.md, Randomness", same_seed,
    ),
    Requirement(
        "V-09", "A run that is saved, loaded and continued equals one uninterrupted run of the same length.",
        "docs/howto/save.md", continued,
    ),
    Requirement(
        "V-10", "Results and logs that were altered after they were written are detected.",
        "docs/howto/audit_trail.md", altered_files,
    ),
    Requirement(
        "V-11", "Models that cannot be estimated and files that must not be run are refused before sampling.",
        "docs/limits.md", refusals,
    ),
    Requirement(
        "V-12", "Sites that release only cross products get the same draws as one site with all rows.",
        "docs/howto/federated.md", federated,
    ),
    Requirement(
        "V-13", "Short runs reproduce the numbers recorded where the package was built, up to rounding.",
        "tests/reference/make_verification.py", frozen_runs,
    ),
)  # fmt: skip

"""Numbers from other software, and from this package on another machine, frozen in reference.json.

tests/reference/make_verification.py writes the file from the output of the R scripts kept in that folder; R is not
needed here. Numbers of this package from elsewhere are compared after short runs only: rounding differs between
processors, and chains amplify it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.analysis.fit import fit_each
from bayesimp.analysis.meta import meta_analyse, tau2_dl
from bayesimp.analysis.pool import pool_scalars
from bayesimp.fcs.model import FCS
from bayesimp.joint.normal import JointNormal
from bayesimp.table.incomplete import IncompleteData
from bayesimp.verification.records import Outcome

__all__ = [
    "ROUNDING",
    "frozen_runs",
    "lme4_fits",
    "metafor_fits",
    "mice_pooling",
    "numbers_of_short_runs",
    "stored",
]

ROUNDING = 1e-6  # upper limit of what differences in the last bits grow to in a few cycles


@cache
def stored() -> dict[str, Any]:
    """The contents of reference.json."""
    return json.loads((Path(__file__).parent / "reference.json").read_text(encoding="utf-8"))


def _relative(ours: Any, theirs: Any) -> float:
    ours, theirs = np.ravel(np.asarray(ours, dtype=float)), np.ravel(np.asarray(theirs, dtype=float))
    return (
        float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        if theirs.any()
        else float(np.abs(ours).max())
    )


def mice_pooling(full: bool) -> Sequence[Outcome]:
    """Compare Rubin's rules and Barnard & Rubin's degrees of freedom with mice's pool.scalar."""
    worst, wrong = 0.0, np.inf
    for case in stored()["mice"]:
        p = pool_scalars(case["Q"], case["U"], float(case["dfcom"]))
        ours = [p.estimate, p.ubar, p.b, p.t, p.df, p.riv, p.fmi, p.lambda_]
        theirs = [case[k] for k in ("qbar", "ubar", "b", "t", "df", "riv", "fmi", "lambda")]
        worst = max(worst, *(_relative(a, b) for a, b in zip(ours, theirs, strict=True)))
        wrong = min(wrong, _relative(p.ubar + p.b, case["t"]))
    return [
        Outcome("8 pooled numbers of each case, largest relative difference", worst, 1e-9),
        Outcome("wrong variant: total variance without b / m", wrong, 1e-9, at_least=True),
    ]


def lme4_fits(full: bool) -> Sequence[Outcome]:
    """Compare a linear mixed model by REML and ML with lme4."""
    table = pd.DataFrame(stored()["lme4 table"])
    out = []
    for case in stored()["lme4"]:
        fit = fit_each([table], "y ~ x1 + x2 + (1 | g)", reml=case["reml"])
        kind, se = "REML" if case["reml"] else "ML", np.array(case["se"])
        apart = np.abs(fit.estimates[0] - case["beta"]) / se
        sd = np.exp(fit.components[0])
        theirs = [np.sqrt(np.ravel(case["Psi"])[0]), case["sigma"]]
        out += [
            Outcome(f"{kind}: fixed effects, largest difference in their standard errors", float(apart.max()), 1e-4),
            Outcome(f"{kind}: standard errors, largest relative difference",
                    _relative(np.sqrt(np.diag(fit.covariances[0])), se), 1e-3),
            Outcome(f"{kind}: standard deviations, largest relative difference",
                    _relative(np.sort(sd), np.sort(theirs)), 1e-3),
            Outcome(f"{kind}: log-likelihood below lme4's", case["loglik"] - float(fit.loglik[0]), 1e-5),
        ]  # fmt: skip
    other = fit_each([table], "y ~ x1 + (1 | g)").estimates[0][1]
    gap = abs(other - stored()["lme4"][0]["beta"][1]) / stored()["lme4"][0]["se"][1]
    return [*out, Outcome("wrong variant: a covariate is left out", float(gap), 1e-4, at_least=True)]


def metafor_fits(full: bool) -> Sequence[Outcome]:
    """Compare random-effects meta-analysis with metafor."""
    worst, wrong = 0.0, 0.0
    for case in stored()["metafor"]:
        meta = meta_analyse(case["y"], case["v"])
        ours = [meta.tau2, meta.estimate, meta.Q, meta.Q_p, meta.std_error, meta.low]
        theirs = [case[k] for k in ("tau2", "estimate", "Q", "Q_p", "se_hk", "low_hk")]
        gaps = [abs(a - b) / max(abs(b), 1e-2) for a, b in zip(ours, theirs, strict=True)]
        worst, wrong = max(worst, *gaps), max(wrong, abs(tau2_dl(case["y"], case["v"]) - case["tau2"]))
    return [
        Outcome("6 numbers of each case, largest relative difference", worst, 1e-4),
        Outcome(
            "wrong variant: DerSimonian & Laird's estimate instead of REML's", wrong, 1e-3, at_least=True
        ),
    ]


def numbers_of_short_runs() -> dict[str, list[float]]:
    """Imputed values and pooled estimates of short runs of both engines, by name."""
    rng = np.random.default_rng(20261130)
    g = np.repeat(np.arange(8), 9)
    x, u = rng.normal(size=72), rng.normal(size=8)[g]
    y = 0.5 * x + u + rng.normal(size=72)
    table = pd.DataFrame(
        {
            "g": g,
            "x": x,
            "y": y,
            "w": y + rng.normal(size=72),
            "b": (y + rng.normal(size=72) > 0).astype(float),
        }
    )
    for name in ("y", "w", "b"):
        table.loc[rng.random(72) < 0.2, name] = np.nan
    table.loc[g == 2, "w"] = np.nan
    data = IncompleteData(table, "g", {"b": "bernoulli"})
    joint = JointNormal(data, "y + w ~ x + (1 | g)").impute(m=4, seed=1, tune=5, draws=8, progress=False)
    chained = FCS(data).impute(m=2, seed=1, cycles=3, progress=False)
    out = {}
    for kind, imp in (("JointNormal", joint), ("FCS", chained)):
        for name in imp.imputed_columns:
            out[f"{kind}: imputed {name}"] = imp.values(name)[:, :6].ravel().tolist()
    pooled = joint.analyse("y ~ w + x + (1 | g)").pool()
    return out | {"pooled estimates and variances": [*pooled.estimate.tolist(), *pooled.t.tolist()]}


def frozen_runs(full: bool) -> Sequence[Outcome]:
    """Compare numbers with those of the machine where reference.json was made, up to rounding."""
    then, now = stored()["short runs"], numbers_of_short_runs()
    if then.keys() != now.keys():
        return [Outcome("runs that give other variables", float(len(then.keys() ^ now.keys())), 0.0)]
    return [
        Outcome(f"{name}, largest relative difference", _relative(now[name], then[name]), ROUNDING)
        for name in then
    ]

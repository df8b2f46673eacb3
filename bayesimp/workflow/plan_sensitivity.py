"""Sensitivity to the prior in a plan: how it is declared, checked, run and written.

    [sensitivity]
    priors = ["default", "pan", "jomo"]          # optional: presets; left out, the grid of `bayesimp.sensitivity`
    reference = "default"                        # to which changes refer; the first, if left out
    analyses = ["science"]                       # optional: names of [[analysis]]; all, if left out
    m = 60                                       # under each prior; that of [impute], if left out

    [sensitivity.priors]                         # instead of the list: priors by name, presets or tables
    default = "default"
    narrow = { Psi = { type = "InverseWishart", nu = 5, V = 1 } }

Each analysis is repeated by `bayesimp.sensitivity`, with the other options of [impute]. The files written are
sensitivity.csv (pooled answers by analysis and prior), sensitivity_model.csv (parameters of the imputation model by
prior), sensitivity_events.csv, sensitivity.txt (what moves most, in words), sensitivity_components.png and, for each
analysis, sensitivity_NAME.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayesimp.contract import ImputationModel
from bayesimp.errors import BayesimpError, SpecificationError
from bayesimp.priors import Priors
from bayesimp.priors.records import priors_from_dict
from bayesimp.sections import Section, possible
from bayesimp.workflow.plan_records import AnalysisPlan, Plan, SensitivityPlan

if TYPE_CHECKING:
    from bayesimp.sensitivity_analysis.result import Sensitivity

__all__ = [
    "check_sensitivity", "describe_sensitivity", "read_sensitivity", "run_sensitivity", "sensitivity_table",
    "sensitivity_words",
]  # fmt: skip

NOT_HERE = ("link", "trials", "weights", "offset")  # options of an analysis that bayesimp.sensitivity lacks


def read_sensitivity(
    top: Section, problems: list[str], analyses: Sequence[AnalysisPlan], m: int | None
) -> SensitivityPlan | None:
    """The section [sensitivity] of a plan; None if there is none. m: that of [impute]."""
    top.known.append("sensitivity")
    if "sensitivity" not in top.record:
        return None
    section = Section(top.record["sensitivity"], "sensitivity", problems)
    priors = _priors(section)
    reference = section.text("reference", None, tuple(priors or ()))
    names = [analysis.name for analysis in analyses]
    if not names:
        section.note("", "shows how far the answers of analyses move; add an [[analysis]]")
    wanted = section.list_of_texts("analyses") or tuple(names)
    for name in wanted:
        if names and name not in names:
            section.note("analyses", f"there is no [[analysis]] named {name!r}; {possible(name, names)}")
    for analysis in analyses:
        other = [key for key in NOT_HERE if getattr(analysis, key) is not None]
        other += ["quadrature"] if analysis.quadrature not in (None, 1) else []
        if analysis.name in wanted and other:
            section.note(
                "analyses", f"'{analysis.name}' has {', '.join(other)}, which an analysis under several priors does not "
                "take; remove it from sensitivity.analyses",
            )  # fmt: skip
    own_m = section.whole("m", m, least=2, most=100_000)
    section.done()
    return SensitivityPlan(priors, reference, tuple(wanted), own_m)


def _priors(section: Section) -> dict[str, Priors] | None:
    """Priors by name, each a preset or a table; None if they are omitted or have a problem, which is noted."""
    section.known.append("priors")
    if "priors" not in section.record:
        return None
    given = section.record["priors"]
    if isinstance(given, list) and all(isinstance(name, str) for name in given):
        if len(set(given)) < len(given):
            section.note("priors", "names one of them twice")
        given = {name: name for name in given}
    if not isinstance(given, dict) or not given:
        section.note(
            "priors", 'must be a list of presets, such as ["default", "pan"], or a table [sensitivity.priors]'
        )
        return None
    out = {}
    for name, record in given.items():
        if not name or "/" in name:
            section.note(f"priors.{name}", "is not a valid name: it must not be empty or contain '/'")
        try:
            out[name] = priors_from_dict(record, f"sensitivity.priors.{name}")
        except SpecificationError as error:
            section.problems.append(str(error))
    return out


def check_sensitivity(plan: Plan, model: ImputationModel) -> None:
    """Refuse priors that the model does not take, before anything is sampled.

    Raises
    ------
    SpecificationError
    """
    for name, priors in ((plan.sensitivity and plan.sensitivity.priors) or {}).items():
        try:
            model.with_priors(priors).check_options(sampler=plan.impute.sampler)
        except BayesimpError as error:
            raise SpecificationError(f"{plan.path}: sensitivity.priors.{name}: {error}") from error


def describe_sensitivity(plan: Plan) -> str:
    """One line for ``bayesimp check``."""
    own = plan.sensitivity
    assert own is not None
    if own.priors is None:
        priors = "the default grid of priors"
    else:
        priors = f"{len(own.priors)} priors ({', '.join(own.priors)})"
    return f"sensitivity to the prior: {priors}, m = {own.m} under each, for {', '.join(own.analyses)}"


def run_sensitivity(plan: Plan, model: ImputationModel, analysis: AnalysisPlan) -> Sensitivity:
    """One analysis of the plan under all priors."""
    from bayesimp.sensitivity_analysis.run import sensitivity

    own = plan.sensitivity
    assert own is not None
    run: dict[str, Any] = plan.impute.arguments(plan.model.type) | {"m": own.m}
    return sensitivity(
        model, own.priors, analysis=str(analysis.formula), reference=own.reference, family=analysis.family,
        reml=analysis.reml, **run,
    )  # fmt: skip


def sensitivity_table(results: dict[str, Sensitivity], what: str) -> pd.DataFrame:
    """The tables ``what`` of all analyses, one below the other, with the name of the analysis first."""
    parts = []
    for name, result in results.items():
        part = pd.DataFrame(getattr(result, what)).copy()
        part.insert(0, "analysis", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def sensitivity_words(results: dict[str, Sensitivity]) -> list[str]:
    """The largest changes, one line each; lines about the imputation model, which all analyses share, appear once."""
    lines = [line for result in results.values() for line in result.words()]
    return [line for line in dict.fromkeys(lines) if not line.endswith("see .events")]

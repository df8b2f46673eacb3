"""Values missing not at random in a plan: how they are declared, checked, run and written.

    [mnar]
    by = "arm"                         # optional: a complete column, whose values have deltas of their own
    where = "missing"                  # "missing" | "systematic" | "sporadic"
    unit = "link"                      # "link" | "sd" | "ratio", or a table by variable
    combine = "product"                # "product" | "together" | "one at a time"
    threshold = 0.0                    # of the tipping points

    [mnar.delta]
    course = [0, -5, -10]              # numbers for a variable; by group: course = { drug = [0, -5], placebo = [0] }

`bayesimp.mnar` explains each. Its scenarios are imputed and analysed with the options of [impute] and of every
[[analysis]]. The files written are mnar.csv (pooled answers by scenario), mnar_imputed.csv (the imputed values),
mnar_tipping.csv (tipping points of all fixed effects), mnar_events.csv, and mnar_NAME.png for each analysis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayesimp.arguments import number
from bayesimp.contract import ImputationModel
from bayesimp.errors import SpecificationError
from bayesimp.sections import Section
from bayesimp.workflow.plan_records import MnarPlan, Plan

if TYPE_CHECKING:
    from bayesimp.sensitivity_analysis.not_at_random import NotAtRandom

__all__ = ["check_mnar", "describe_mnar", "read_mnar", "run_mnar", "tipping_points"]

WHERE, UNITS = ("missing", "systematic", "sporadic"), ("link", "sd", "ratio")
COMBINE = ("product", "together", "one at a time")  # a test compares these with those of bayesimp.mnar


def read_mnar(top: Section, problems: list[str], has_analyses: bool) -> MnarPlan | None:
    """The section [mnar] of a plan; None if there is none."""
    top.known.append("mnar")
    if "mnar" not in top.record:
        return None
    section = Section(top.record["mnar"], "mnar", problems)
    delta = section.table("delta", why="name what to shift: delta = { bsi = [0, -2, -4] }")
    for name, given in delta.items():
        if problem := _problem(given):
            section.note(f"delta.{name}", problem)
    if "delta" in section.record and not delta:
        section.note("delta", "is empty; state what to shift: delta = { bsi = [0, -2, -4] }")
    if not has_analyses:
        section.note("", "shows how far the answers of analyses move; add an [[analysis]]")
    by_variable = isinstance(section.record.get("unit"), dict)
    plan = MnarPlan(
        delta,
        by=section.text("by", None),
        where=section.text("where", "missing", WHERE),
        unit=section.table("unit") if by_variable else section.text("unit", "link", UNITS),
        combine=section.text("combine", "product", COMBINE),
        threshold=section.checked("threshold", lambda: number(section.record.get("threshold", 0.0), "it")),
    )
    section.known.append("threshold")
    section.done()
    return plan


def _problem(given: Any) -> str:
    """What is wrong with the numbers of a variable, of a group or of a level; empty if nothing is."""
    if isinstance(given, dict):
        return next((problem for each in given.values() if (problem := _problem(each))), "")
    values = given if isinstance(given, list) else [given]
    good = values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return "" if good else f"must be numbers, such as [0, -2, -4], not {given!r}"


def _arguments(plan: Plan) -> dict[str, Any]:
    """The arguments of `bayesimp.mnar` other than the model."""
    assert plan.mnar is not None
    own, run = plan.mnar, plan.impute.arguments(plan.model.type)
    analyses = {
        a.name: {
            "analysis": str(a.formula), "family": a.family, "reml": a.reml, "link": a.link, "quadrature": a.quadrature,
            **a.columns,
        }
        for a in plan.analyses
    }  # fmt: skip
    return {
        "delta": own.delta, "analysis": analyses, "by": own.by, "where": own.where, "unit": own.unit,
        "combine": own.combine, "m": run.pop("m"), "seed": run.pop("seed"), "impute": run,
    }  # fmt: skip


def check_mnar(plan: Plan, model: ImputationModel) -> None:
    """Refuse shifts that the model cannot make, before anything is sampled.

    Raises
    ------
    SpecificationError
    """
    if plan.mnar is None:
        return
    from bayesimp.sensitivity_analysis.mnar import requested

    try:
        request, axes, asked = requested(model, **_arguments(plan), level=0.95, fitting={})
        request.models(axes, asked)
    except SpecificationError as error:
        raise SpecificationError(f"{plan.path}: mnar: {error}") from error


def describe_mnar(plan: Plan, model: ImputationModel) -> str:
    """One line for ``bayesimp check``: the number of scenarios and their deltas."""
    from bayesimp.sensitivity_analysis.mnar import requested

    _, axes, asked = requested(model, **_arguments(plan), level=0.95, fitting={})
    named = ", ".join(f"{axis.label} ({', '.join(f'{v:g}' for v in axis.values)})" for axis in axes[:5])
    more = f" and {len(axes) - 5} more" if len(axes) > 5 else ""
    return f"missing not at random: {len(asked)} scenarios, shifts of {named}{more}"


def run_mnar(plan: Plan, model: ImputationModel) -> NotAtRandom:
    """All scenarios of a plan, imputed and analysed."""
    from bayesimp.sensitivity_analysis.mnar import mnar

    arguments = _arguments(plan)
    impute: Mapping[str, Any] = arguments.pop("impute")
    return mnar(model, **arguments, **impute)


def tipping_points(result: NotAtRandom, threshold: float) -> tuple[pd.DataFrame, list[str]]:
    """Tipping points of every fixed effect except intercepts and thresholds, as a table and in words."""
    tables, words = [], []
    for analysis in result.analyses:
        rows = result.table[(result.table["analysis"] == analysis) & (result.table["part"] == "fixed effect")]
        for term in rows["term"].drop_duplicates():
            if term in result.fits[result.scenarios[0].name][analysis].constants:
                continue
            point = result.tipping_point(term, analysis=analysis, threshold=threshold)
            tables.append(point.table.assign(analysis=analysis, term=term))
            words.append(str(point))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    first = ["analysis", "term"] if tables else []
    return table[[*first, *(name for name in table if name not in first)]], words

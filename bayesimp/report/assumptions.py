"""Assumptions of a run in two lists: what was checked and with which findings, and what is assumed because it cannot
be."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from bayesimp.contract import model_type
from bayesimp.report.document import Block, Bullets, Paragraph, ReportSection, Tabulated, drawing
from bayesimp.report.facts import ReportFacts, SensitivityTable
from bayesimp.report.sections import stated

__all__ = ["assumed", "assumptions", "checked", "not_at_random", "sensitivity_sections"]

IMPLAUSIBLE = (
    "impossible values",
    "far outside",
    "outside the range",
    "whole numbers",
    "two values",
    "rounded",
)
ON_PRIOR = ("prior only", "prior matters")
OF_ENGINE = {
    "JointNormal": (
        "Residuals of rows are jointly normal over all variables, with the same covariance matrix in all clusters.",
        "Cluster effects are normal and independent of the covariates of the model.",
    ),
    "JointLatent": (
        "The variables are jointly normal, through latent normal variables if they are not normal themselves, given "
        "the clusters: probit models, with thresholds that are the same in all clusters.",
        "Cluster effects are normal and independent of the covariates of the model.",
    ),
    "JointGLMM": (
        "The analysis model is correct, and so are the models of the incomplete covariates, in the order in "
        "which they are factorised: the analysis alone does not say how covariates are distributed.",
        "Cluster effects are normal.",
    ),
    "FCS": (
        "Each conditional model has the right form: linear predictors on the scale of its link, normal "
        "cluster effects.",
        "The conditional models need not belong to one joint distribution; what they jointly imply is "
        "assumed to be close to one.",
    ),
    "FromPyMC": ("The PyMC model is correct; none of its assumptions were checked by bayesimp.",),
}


def assumptions(facts: ReportFacts) -> ReportSection:
    """Both lists."""
    parts = (
        ReportSection("checked", "What was checked", (Bullets(checked(facts)),)),
        ReportSection("assumed", "What is assumed", (Bullets(assumed(facts)),)),
    )
    return ReportSection("assumptions", "Step 2. Assumptions", (), parts)


def checked(facts: ReportFacts) -> tuple[str, ...]:
    """What the run and the report checked, and what they found."""
    out = [facts.summary.verdict]
    # nothing is known about the user's own models, nor about engines that others register
    if facts.engine in OF_ENGINE and not model_type(facts.engine).user_defined:
        nothing = "No part of the model was found to rest on the prior alone."
        out.append(
            "Identification: the observed cells were checked before sampling; a model that they cannot identify "
            "is refused. " + _found(facts, ON_PRIOR, "Resting on the prior", nothing)
        )
    nothing = (
        "Implausible imputed values: none were found (signs that are never observed, values outside the "
        "observed ones, continuous values of short scales)."
    )
    out.append(_found(facts, IMPLAUSIBLE, "Implausible imputed values", nothing))
    nothing = "Codes for missing values: no observed value looks like one (-999, 99, texts such as 'NA')."
    out.append(
        _found(facts, ("code for missing",), "Observed values that may stand for missing ones", nothing)
    )
    for each in facts.analyses:
        out.append(_congenial(facts, each.name, each.gaps, each.formula))
    out.append(
        "Imputed against observed values: compared below, variable by variable and cluster by cluster."
    )
    if facts.overimputation is not None:
        out.append("Predictions of observed values: overimputation, below.")
    if facts.replicates is not None:
        out.append(
            f"Replicates of observed values by cluster: {len(facts.replicates.extreme)} extreme statistics, below."
        )
    if facts.sensitivity is not None:
        out.append("Sensitivity to the prior: " + " ".join(facts.sensitivity.words))
    if facts.mnar is not None:
        out.append("Sensitivity to values missing not at random: " + " ".join(facts.mnar.words))
    return tuple(out)


def _found(facts: ReportFacts, kinds: tuple[str, ...], heading: str, nothing: str) -> str:
    rows = facts.events[facts.events["kind"].isin(kinds)]
    if rows.empty:
        return nothing
    return (
        f"{heading}: "
        + "; ".join(f"{row.where} ({row.kind})" for row in rows.itertuples())
        + "; see the events."
    )


def _congenial(facts: ReportFacts, name: str, gaps: int, formula: str) -> str:
    if facts.model is None or facts.model.contents() is None or not _is_formula(formula):
        return (
            f"Analysis '{name}' was not compared with the imputation model: one of them is user-defined code."
        )
    if gaps:
        return f"Analysis '{name}' is NOT congenial with the imputation model: it lacks terms that {gaps} events name."
    return f"Analysis '{name}' ({formula}) is congenial: the imputation model contains all its terms."


def _is_formula(text: str) -> bool:
    return "~" in text


def assumed(facts: ReportFacts) -> tuple[str, ...]:
    """What data cannot show, and what was not examined."""
    imp = facts.imputations
    at_random = not_at_random(facts) or (
        f"Values are missing at random, given the variables of the imputation model "
        f"({', '.join(_known(facts))}). No data can show this."
    )
    out = [f"{at_random} Why this is plausible: {stated(facts, 'missing at random')}."]
    families = [
        f"{name} {imp.data.families[name]}" for name in imp.imputed_columns if name in imp.data.families
    ]
    out.append(f"Distributions of the imputed variables: {', '.join(families) or 'none'}.")
    out.append(
        "Clusters are independent of each other, and rows are independent given the effects of their clusters."
    )
    out += OF_ENGINE.get(facts.engine, ())
    if facts.sensitivity is None:
        out.append("How far the answers depend on the prior was not examined in this report.")
    if facts.mnar is None:
        out.append("How far the answers depend on values missing at random was not examined in this report.")
    return tuple(out)


def not_at_random(facts: ReportFacts) -> str:
    """How the model departs from values missing at random, in sentences; empty if it does not."""
    model = facts.model
    if model is None:
        return ""
    out = []
    if model.reference is not None:
        out.append(
            f"Values are imputed by reference to another arm, as if missing NOT at random ({model.reference.words}); the "
            "parameters, and all other values, are those under missingness at random."
        )
    if model.shift:
        also = "also " if out else ""
        out.append(
            f"Values are {also}missing NOT at random, as specified by the shift of the model: see the printed model."
        )
    return " ".join(out)


def _known(facts: ReportFacts) -> list[str]:
    """Variables of the imputation model: all variables named in its formulas, in the order of the table."""
    from bayesimp.formulas.formula import parse

    data, contents = facts.imputations.data, None if facts.model is None else facts.model.contents()
    if not contents:
        return list(facts.imputations.responses)
    named = {name for each in contents.values() for name in parse(each.formula).columns} | set(contents)
    return [name for name in data.frame.columns if name in named and name not in data.cluster_columns]


def sensitivity_sections(facts: ReportFacts) -> tuple[ReportSection, ...]:
    """Sensitivity to priors and to values missing not at random, or a statement that it was not examined."""
    return (
        _sensitivity(facts, facts.sensitivity, "prior-sensitivity", "Sensitivity to the prior", "prior",
                     "sensitivity=bi.sensitivity(model, analysis=...)"),
        _sensitivity(facts, facts.mnar, "not-at-random", "Sensitivity to values missing not at random", "scenario",
                     "mnar=bi.mnar(model, delta, analysis=...)"),
    )  # fmt: skip


def _sensitivity(
    facts: ReportFacts, given: SensitivityTable | None, key: str, title: str, by: str, call: str
) -> ReportSection:
    own = not_at_random(facts) if key == "not-at-random" else ""
    first: list[Block] = [Paragraph(own)] if own else []
    if given is None:
        nothing = Paragraph(f"Not examined in this report; report(..., {call}) adds it.")
        if own:
            nothing = Paragraph(
                "This report has no imputation at random to compare with: impute the same model without it, with "
                "the same seed, and pool the same analysis."
            )
        return ReportSection(key, title, (*first, nothing))
    blocks: list[Block] = [
        *first,
        *(Paragraph(line) for line in given.words if line.strip()),
    ]
    wanted = [
        "analysis",
        by,
        "term",
        "estimate",
        "std.error",
        "conf.low",
        "conf.high",
        "change",
        "mc.change",
        "mc.error",
    ]
    columns = [name for name in given.table.columns if name in wanted or str(name).startswith("delta ")]
    blocks.append(
        Tabulated(
            _plain(given.table[columns]),
            f"Pooled estimates by {by}; change: in standard errors of the reference",
        )
    )
    if facts.figures and given.result is not None:
        blocks.append(drawing(partial(_figure, given.result), f"Pooled estimates by {by}, with intervals."))
    return ReportSection(key, title, tuple(blocks))


def _figure(result: Any) -> Any:
    if type(result).__name__ == "Sensitivity":
        from bayesimp.plots.sensitivity import plot_sensitivity

        return plot_sensitivity(result)
    from bayesimp.plots.mnar import plot_mnar

    return plot_mnar(result)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(table).reset_index(drop=True)

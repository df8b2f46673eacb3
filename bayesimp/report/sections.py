"""Sections on plan, missing values, model, convergence, imputed values and results (TARMOS; Lee et al. 2021)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.messages import signed
from bayesimp.report.document import Block, Bullets, Code, Paragraph, ReportSection, Tabulated, drawing
from bayesimp.report.facts import STATED, Analysed, ReportFacts
from bayesimp.report.references import EQUATIONS, NAMES

__all__ = [
    "NOT_STATED",
    "convergence",
    "missingness",
    "model",
    "plan",
    "plan_statements",
    "results",
    "stated",
]

NOT_STATED = "not stated"
PATTERNS, PARAMETERS, STATISTICS = 12, 40, 20  # rows shown
NEAREST = 3  # number of variables shown that differ most between rows with and without a value


def stated(facts: ReportFacts, key: str) -> str:
    """The user's statement, or "not stated"."""
    return facts.stated.get(key, NOT_STATED)


def plan_statements(facts: ReportFacts) -> list[Block]:
    """What the user says about the plan, and the analyses."""
    keys = ("question", "prespecified", "deviations")
    blocks: list[Block] = [
        Bullets(tuple(f"{STATED[key].capitalize()}: {stated(facts, key)}" for key in keys))
    ]
    rows = [(each.name, each.formula, each.family) for each in facts.analyses]
    if rows:
        blocks.append(
            Tabulated(
                pd.DataFrame(rows, columns=["analysis", "formula", "family"]),
                "Analyses of the completed tables",
            )
        )
    else:
        blocks.append(Paragraph("No analysis was given to this report."))
    return blocks


def plan(facts: ReportFacts) -> ReportSection:
    """Step 1 of TARMOS: the plan."""
    blocks = plan_statements(facts)
    attrs = facts.imputations.attrs
    blocks.append(Paragraph(
        f"Missing values are imputed {facts.imputations.m} times under "
        f"{NAMES.get(facts.engine, facts.engine)} ({facts.engine}, sampler: {attrs['sampler']}, seed "
        f"{attrs['seed']}). Sensitivity to the prior: {_whether(facts.sensitivity)}; to values missing not at "
        f"random: {_whether(facts.mnar)}."
    ))  # fmt: skip
    if facts.plan is not None:
        blocks += [Paragraph("The plan file, as it was run:"), Code(facts.plan.rstrip())]
    return ReportSection("plan", "Step 1. The plan", tuple(blocks))


def _whether(given: Any) -> str:
    return "examined below" if given is not None else "not examined"


def missingness(facts: ReportFacts) -> ReportSection:
    """Step 2 of TARMOS: what is missing, where, and what it is associated with."""
    data = facts.imputations.data
    summary = data.summary().reset_index()
    summary["% missing"] = 100 * summary.pop("share")
    rows = " ".join(repr(data).partition("\n\n")[0].split()).removeprefix("IncompleteData: ")
    blocks: list[Block] = [
        Paragraph(f"The table has {rows}."),
        Tabulated(summary, "By variable: clusters in which it is complete, missing in some rows (sporadic) or missing in "
                      "all rows (systematic); missing cells and their share of the rows"),
    ]  # fmt: skip
    patterns = _patterns(facts)
    if len(patterns):
        blocks.append(Tabulated(patterns, "Patterns of missing values, the most frequent first"))
    related = _related(facts)
    if len(related):
        caption = (
            "How rows with a missing value differ from rows with an observed value: the variables with the "
            "largest differences in means, in standard deviations. Variables that predict missing values "
            "belong in the imputation model"
        )
        blocks.append(Tabulated(related, caption))
    if facts.figures:
        from bayesimp.plots.missing import plot_missing

        blocks.append(drawing(partial(plot_missing, data), "Missing cells by variable and cluster. Grey: complete; blue, "
                              "darker with the share of rows: sporadic; hatched: systematic."))  # fmt: skip
    by_cluster = data.counts.T.rename_axis(columns=None).assign(rows=data.sizes).reset_index()
    blocks.append(Tabulated(by_cluster, "Missing cells by cluster", folded=True))
    blocks.append(
        Bullets(tuple(f"{STATED[key].capitalize()}: {stated(facts, key)}" for key in ("reasons", "flow")))
    )
    return ReportSection("missingness", "Step 2. What is missing", tuple(blocks))


def _patterns(facts: ReportFacts) -> pd.DataFrame:
    """Variables missing together, and the number of such rows."""
    data = facts.imputations.data
    names = [name for name in data.variables if data.missing(name).any()]
    if not names:
        return pd.DataFrame()
    found = data.patterns(names)
    sets = [", ".join(name for name in names if row[name]) or "nothing" for _, row in found.iterrows()]
    table = pd.DataFrame({"missing": sets, "rows": found["rows"].to_numpy()})
    table["% of rows"] = 100 * table["rows"] / len(data)
    if len(table) > PATTERNS:
        rest = table.iloc[PATTERNS:]
        last = (f"{len(rest)} further patterns", int(rest["rows"].sum()), float(rest["% of rows"].sum()))
        table = pd.concat(
            [table.head(PATTERNS), pd.DataFrame([last], columns=table.columns)], ignore_index=True
        )
    return table


def _related(facts: ReportFacts) -> pd.DataFrame:
    """By incomplete variable: standardised differences of other variables between rows without and with it."""
    data = facts.imputations.data
    values = {name: data.numeric(name) for name in data.variables if _is_scale(data, name)}
    rows = []
    for name in data.variables:
        hole = data.missing(name)
        if not hole.any() or hole.all():
            continue
        found = {other: _difference(x, hole) for other, x in values.items() if other != name}
        found = {other: d for other, d in found.items() if np.isfinite(d)}
        largest = sorted(found, key=lambda other: -abs(found[other]))[:NEAREST]
        rows.append((name, ", ".join(f"{other} ({signed(found[other])})" for other in largest)))
    return pd.DataFrame(rows, columns=["missing", "largest differences"])


def _is_scale(data: Any, name: str) -> bool:
    """Whether a mean makes sense, as it does not for a factor with several levels."""
    family = data.variable(name).distribution
    return family.is_imputable and (not family.is_coded or family.is_two_valued)


def _difference(x: np.ndarray, hole: np.ndarray) -> float:
    known = np.isfinite(x)
    a, b = x[known & hole], x[known & ~hole]
    sd = x[known].std(ddof=1) if known.sum() > 2 else 0.0
    return float((a.mean() - b.mean()) / sd) if len(a) > 1 and len(b) > 1 and sd > 0 else np.nan


def model(facts: ReportFacts) -> ReportSection:
    """The imputation model: equations, what each variable's model contains, priors in numbers."""
    blocks: list[Block] = [Code(EQUATIONS.get(facts.engine, facts.imputations.attrs["formula"]))]
    contents = facts.model.contents() if facts.model is not None else None
    if contents:
        families = facts.imputations.data.families
        rows = [
            (name, families.get(name, ""), each.formula, each.clusters) for name, each in contents.items()
        ]
        caption = "Terms of the other variables in the model of each variable, as a conditional mean"
        blocks.append(
            Tabulated(
                pd.DataFrame(rows, columns=["variable", "family", "contains", "effects of clusters"]), caption
            )
        )
    if facts.model is None:
        blocks.append(Paragraph(
            f"Formula: {facts.imputations.attrs['formula']}. Priors: "
            f"{facts.imputations.attrs['priors_name']}. The result does not carry its model, so priors are "
            "not shown in numbers."
        ))  # fmt: skip
    elif facts.model.user_defined:
        blocks += [Paragraph("The PyMC model, with its priors:"), Code(_pymc_text(facts.model))]
    else:
        blocks += [Paragraph("The model as printed, with its priors in numbers, on the scale of the data:"),
                   Code(repr(facts.model))]  # fmt: skip
    return ReportSection("model", "The imputation model", tuple(blocks))


def _pymc_text(model: Any) -> str:
    """A PyMC model as PyMC prints it."""
    return str(model.model.str_repr()) if hasattr(model.model, "str_repr") else repr(model.model)


def convergence(facts: ReportFacts) -> ReportSection:
    """Whether the chains have mixed and are long enough."""
    summary, attrs = facts.summary, facts.imputations.attrs
    text = (
        f"{facts.length} ({attrs['sampler']}). R-hat is "
        "rank-normalised and split, ESS of bulk and tails (Vehtari et al. 2021); both are checked for "
        "parameters and for the means and standard deviations of the missing values by variable and cluster."
    )
    blocks: list[Block] = [Paragraph(summary.verdict), Paragraph(text)]
    names = ["mean", "sd", "ess_bulk", "ess_tail", "mcse_mean", "r_hat", "r_hat_limit"]
    for table, most, what in ((summary.parameters, PARAMETERS, "Parameters"),
                              (summary.imputed, STATISTICS, "Means and sds of missing values")):  # fmt: skip
        if not len(table):
            continue
        rows = (
            table.sort_values("r_hat", ascending=False)
            .head(most)[names]
            .rename_axis("quantity")
            .reset_index()
        )
        which = f"{what}: {len(rows)} of {len(table)}, the largest R-hat first"
        blocks.append(Tabulated(_rounded(rows), which, folded=True))
    if facts.figures:
        from bayesimp.plots.imputed_trace import plot_imputed_trace
        from bayesimp.plots.trace import plot_trace

        imp = facts.imputations
        blocks.append(drawing(partial(plot_trace, imp, at_most=6), "Traces of the parameters with the largest "
                                                                   "R-hat. Chains that overlap and look like "
                                                                   "noise have mixed."))  # fmt: skip
        blocks.append(drawing(partial(plot_imputed_trace, imp, at_most=4), "Traces of the mean and standard "
                                                                           "deviation of missing values, of "
                                                                           "the clusters with the largest "
                                                                           "R-hat."))  # fmt: skip
    return ReportSection("convergence", "Convergence", tuple(blocks))


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """R-hat to three decimals, and ESS as whole numbers."""
    out = table.copy()
    for name in ("ess_bulk", "ess_tail"):
        out[name] = out[name].map(lambda x: "" if np.isnan(x) else f"{x:,.0f}")
    for name in ("r_hat", "r_hat_limit"):
        out[name] = out[name].map(lambda x: "" if np.isnan(x) else f"{x:.3f}")
    return out


def results(facts: ReportFacts) -> ReportSection:
    """Step 3 of TARMOS: pooled answers, with Monte Carlo errors, next to those of the complete rows."""
    parts = tuple(_result(facts, each, k) for k, each in enumerate(facts.analyses, 1))
    blocks: tuple[Block, ...] = (Paragraph(
        f"Estimates are pooled by Rubin's rules over {facts.imputations.m} imputations; degrees of freedom of "
        f"Barnard & Rubin (1999); intervals at {facts.level:.0%}. fmi: fraction of missing information. "
        "mc.error: Monte Carlo error, the typical difference from the estimate of another run; those of other "
        "numbers by the jackknife (White, Royston & Wood 2011). needed: imputations for a Monte Carlo error "
        "of 10 % of the standard error and a standard error that varies by 5 % between runs (von Hippel "
        "2020)."
    ),)  # fmt: skip
    if not parts:
        blocks = (
            Paragraph("No analysis was given: imp.report(path, analysis='y ~ x + (1 | cluster)') adds it."),
        )
    reading = Paragraph(f"{STATED['interpretation'].capitalize()}: {stated(facts, 'interpretation')}")
    return ReportSection("results", "Step 3. Results", (*blocks, reading), parts)


def _result(facts: ReportFacts, each: Analysed, number: int) -> ReportSection:
    blocks: list[Block] = [Tabulated(each.table(facts.level), f"{each.formula}: pooled")]
    if each.complete is None:
        blocks.append(Paragraph(f"Complete rows: {each.why}."))
    else:
        total = len(facts.imputations.data)
        caption = f"The same analysis of the {each.rows:,} of {total:,} rows that are complete in its columns"
        blocks.append(Tabulated(each.complete[0].to_frame(facts.level), caption))
    if each.components is not None:
        caption = "Standard deviations and correlations, pooled on the logarithm and on Fisher's z"
        blocks.append(Tabulated(each.component_table(facts.level), caption))
        blocks += [Paragraph(f"{term}: {why}.") for term, why in each.components.notes.items()]
    blocks.append(
        Tabulated(each.errors(facts.level), "Monte Carlo errors, and imputations needed", folded=True)
    )
    if doubts := _doubts(each):
        blocks.append(Paragraph(f"Note: {'; '.join(doubts)}."))
    if facts.figures:
        from bayesimp.plots.pooled import plot_pooled

        shown_too = {"imputed": each.pooled} | (
            {} if each.complete is None else {"complete rows": each.complete[0]}
        )
        caption = f"Estimates of {each.name} with {facts.level:.0%} intervals."
        blocks.append(drawing(partial(plot_pooled, shown_too, level=facts.level), caption))
    return ReportSection(f"result-{number}", f"Analysis: {each.name}", tuple(blocks))


def _doubts(each: Analysed) -> list[str]:
    """What readers of an analysis must know about its fits."""
    astray, singular = int((~each.fits.converged).sum()), int(each.fits.singular.sum())
    out = [f"{astray} of {len(each.fits)} fits did not converge"] if astray else []
    out += [f"{singular} of {len(each.fits)} fits are singular"] if singular else []
    return out + (
        [f"the imputation model lacks terms that {each.gaps} events name (not congenial)"]
        if each.gaps
        else []
    )

"""Reports of tables in partitions: what counts, draws and analyses say.

These results keep no rows, so the report has the steps of TARMOS without what needs them: patterns and differences
between rows with and without values, imputed beside observed values, analyses of the complete rows. It says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bayesimp.diagnostics.convergence import Summary
from bayesimp.report.assumptions import OF_ENGINE
from bayesimp.report.checklist import items
from bayesimp.report.document import Block, Bullets, Code, Document, Paragraph, ReportSection, Tabulated
from bayesimp.report.facts import STATED, ReportFacts, gather
from bayesimp.report.make import check_path, events, of_versions, subtitle, write
from bayesimp.report.methods import Citations, analysed, as_section, converged
from bayesimp.report.references import EQUATIONS, NAMES, SOURCES
from bayesimp.report.sections import NOT_STATED, convergence, plan_statements, results, stated

__all__ = ["PartsRun", "report_of_parts"]

NO_ROWS = "the rows of a table in partitions are not kept"
FROM_FACTS = (  # items of the checklist that need no rows
    "Research question and estimand", "Analysis plan fixed in advance, including the handling of missing values",
    "Deviations from the plan", "Reasons for missing values",
    "Losses and exclusions, and numbers analysed, by group",
    "Why missing at random is plausible given the variables of the model", "Number of imputations",
    "Results interpreted in the light of the missing values", "Software and key settings", "Convergence of the chains",
    "What was not done as specified",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PartsRun:
    """What a report reads of a result: as `bayesimp.Imputations`, without rows.

    Attributes
    ----------
    result
        The imputations of a table in partitions.
    of
        The engine of tables in memory with the same model.
    printed
        The model as it is printed.
    missing
        Variable, clusters by how much is missing, missing cells and their share.
    attrs
        Model, sampler, seed, chains, draws, priors_name, versions.
    chained
        Whether chains are those of chained equations.
    responses
        The variables with missing values.
    """

    result: Any
    of: str
    printed: str
    missing: pd.DataFrame
    attrs: Mapping[str, Any]
    chained: bool
    responses: tuple[str, ...]
    data: None = None
    model: None = None

    @property
    def m(self) -> int:
        """Number of imputations."""
        return int(self.result.m)

    @property
    def events(self) -> pd.DataFrame:
        """Events of the run."""
        return self.result.events

    def summary(self) -> Summary:
        """Convergence of the run."""
        return self.result.summary()

    def analyse(self, analysis: Any, **options: Any) -> Any:
        """Fit an analysis to every completed table."""
        return self.result.analyse(analysis, **options)


def report_of_parts(
    run: PartsRun, path: str | os.PathLike[str], *, analysis: Any, title: str, stated: Mapping[str, str] | None,
    level: float, figures: bool, **options: Any,
) -> Path:  # fmt: skip
    """Write a report; arguments: see `bayesimp.partitioned.parts.CompletedParts.report`."""
    place = check_path(path)
    facts = gather(
        run, analysis=analysis, sensitivity=None, mnar=None, overimputation=None, replicates=None, stated=stated,
        plan=None, level=level, figures=figures, options=options,
    )  # fmt: skip
    sections = (
        _plan(facts, run), _missing(facts, run), _assumptions(facts, run), _model(run),
        convergence(replace(facts, figures=False)),  # its figures need values by cluster
        results(facts), events(facts), _methods(facts, run), _checklist(facts, run), of_versions(facts),
    )  # fmt: skip
    write(Document(title, subtitle(), sections), place)
    return place


def _plan(facts: ReportFacts, run: PartsRun) -> ReportSection:
    text = (
        f"Missing values are imputed {run.m} times under {NAMES[run.of]} ({run.attrs['model']}: the model of {run.of}, "
        f"for a table that is read part by part; sampler {run.attrs['sampler']}, seed {run.attrs['seed']}). Sensitivity "
        "to the prior and to values missing not at random: not examined, because neither is available for such tables."
    )
    return ReportSection("plan", "Step 1. The plan", (*plan_statements(facts), Paragraph(text)))


def _missing(facts: ReportFacts, run: PartsRun) -> ReportSection:
    keys = ("reasons", "flow")
    caption = (
        "By variable: clusters in which it is complete, missing in some rows (sporadic) or missing in all rows "
        "(systematic); missing cells and their share of the rows"
    )
    blocks: tuple[Block, ...] = (
        Paragraph(f"The table has {run.attrs['rows']:,} rows in {run.attrs['clusters']:,} clusters."),
        Tabulated(run.missing, caption),
        Paragraph(
            f"Patterns, and how rows with a missing value differ from others: not shown, because {NO_ROWS}."
        ),
        Bullets(tuple(f"{STATED[key].capitalize()}: {stated(facts, key)}" for key in keys)),
    )
    return ReportSection("missingness", "Step 2. What is missing", blocks)


def _assumptions(facts: ReportFacts, run: PartsRun) -> ReportSection:
    compared = [
        f"Analysis '{each.name}': " + (
            f"NOT congenial; the imputation model lacks terms that {each.gaps} events name."
            if each.gaps
            else "congenial with the conditional models."
            if run.chained and each.family != "normal"
            else "not compared with the imputation model."
        )
        for each in facts.analyses
    ]  # fmt: skip
    checked = (
        facts.summary.verdict,
        "Identification: the counts were checked before sampling; a model that they cannot identify is refused.",
        f"Single imputed values were NOT checked, and not compared with observed ones, because {NO_ROWS}.",
        *compared,
    )
    assumed = (
        f"Values are missing at random, given the variables of the imputation model. No data can show this. Why this is "
        f"plausible: {stated(facts, 'missing at random')}.",
        "Clusters are independent of each other, and rows are independent given the effects of their clusters.",
        *OF_ENGINE[run.of],
        "How far the answers depend on the prior, and on values missing at random, was not examined.",
    )
    parts = (
        ReportSection("checked", "What was checked", (Bullets(checked),)),
        ReportSection("assumed", "What is assumed", (Bullets(assumed),)),
    )
    return ReportSection("assumptions", "Step 2. Assumptions", (), parts)


def _model(run: PartsRun) -> ReportSection:
    return ReportSection("model", "The imputation model", (Code(EQUATIONS[run.of]), Code(run.printed)))


def _methods(facts: ReportFacts, run: PartsRun) -> ReportSection:
    """The paragraph for a methods section, and its references."""
    cite, attrs = Citations(), run.attrs
    amounts = ", ".join(f"{row.variable} ({row.share:.1f} %)" for row in _shares(run).itertuples())
    text = (
        f"Missing values of {amounts} ({int(run.missing['missing'].sum()):,} cells of {attrs['rows']:,} rows in "
        f"{attrs['clusters']:,} clusters) were multiply imputed (m = {run.m}) under {NAMES[run.of]}"
        f"{cite(*SOURCES[run.of])}, with priors '{attrs['priors_name']}', from counts and sums of the rows, which were "
        f"read part by part. The model was sampled by {attrs['sampler']}, {facts.length} (seed {attrs['seed']}). "
        f"{converged(facts, cite)}{analysed(facts, cite)}Values were assumed to be missing at random given the variables "
        f"of the model. Missing data are reported following TARMOS{cite('TARMOS')} and Sterne et al.{cite('Sterne')}. "
        f"Software: bayesimp {attrs['bayesimp_version']} (Python)."
    )
    return as_section(text, cite.keys)


def _shares(run: PartsRun) -> pd.DataFrame:
    return run.missing.rename(columns={"% missing": "share"})[["variable", "share"]]


def _checklist(facts: ReportFacts, run: PartsRun) -> ReportSection:
    """The items of `bayesimp.report.checklist`; those that need rows say so."""
    known = {
        "Numbers of missing values of each variable": "in 'What is missing'",
        "Type of analysis, and its assumptions about missing values": f"multiple imputation by {run.attrs['model']}; "
        "assumptions in 'Assumptions', split into checked and assumed",
        "Variables of the imputation model": f"{', '.join(run.responses)} (imputed); others in 'The imputation model'",
        "How the imputation model takes clusters into account": "random effects, in 'The imputation model'",
        "Priors, and sensitivity to them": f"'{run.attrs['priors_name']}'; sensitivity {NOT_STATED} (not available)",
    }
    table = pd.DataFrame(
        items(facts, FROM_FACTS, known, f"{NOT_STATED} ({NO_ROWS})"), columns=["source", "item", "answer"]
    )
    missing = int(table["answer"].str.startswith(NOT_STATED).sum())
    say = f"{len(table) - missing} of {len(table)} items are answered; {missing} are not stated."
    return ReportSection(
        "checklist", "Reporting checklist", (Paragraph(say), Tabulated(table, "Items and answers"))
    )

"""`bayesimp demo`: real examination marks imputed and analysed, with a few sentences on the results."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pandas as pd

from bayesimp.diagnostics.convergence import ESS_LIMIT, R_HAT_LIMIT, Summary
from bayesimp.workflow.folder import Folder
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.plan_records import AnalysisPlan, Plan
from bayesimp.workflow.prepare import Prepared
from bayesimp.workflow.run import Captions

__all__ = ["Story", "demo_plan"]

WIDTH = 100


def demo_plan() -> Plan:
    """The plan of the demonstration, which comes with the package."""
    with resources.as_file(resources.files("bayesimp.datasets").joinpath("plans", "exam.toml")) as path:
        return read_plan(path)


class Story(Captions):
    """Sentences for the demonstration; every number in them is computed."""

    def missing(self, ready: Prepared) -> str:
        """Step 1: how much is missing."""
        data, responses = ready.data, ready.model.responses
        shares = " and ".join(f"{data.missing(name).mean():.1%} of '{name}'" for name in responses)
        incomplete = np.any([data.missing(name) for name in responses], axis=0).sum()
        return _step(
            1,
            "What is missing",
            f"{len(data):,} pupils in {len(data.clusters)} schools, with two marks each; {shares} are "
            f"missing. An analysis of complete rows would lose the {incomplete:,} pupils who lack one of them.",
        )

    def imputing(self, ready: Prepared) -> str:
        """Step 2: the model, the chains and the seed."""
        p = ready.plan.impute
        return _step(
            2,
            "Imputation",
            "Both marks are imputed from one model, in which schools differ (Psi) and the marks of a pupil "
            f"are correlated (Sigma). {p.chains} chains are run, and {p.m} completed tables drawn from them. "
            f"The seed, {p.seed}, makes the run reproducible. (On a new machine the first run also compiles, once.)",
        )

    def convergence(self, summary: Summary) -> str:
        """Step 3: whether the chains converged."""
        return _step(
            3,
            "Did the chains converge?",
            f"R-hat compares the chains and should be at most {R_HAT_LIMIT}: the largest is "
            f"{summary.worst_r_hat:.3f}. The effective number of draws should be at least {ESS_LIMIT}: the "
            f"smallest is {summary.smallest_ess:,.0f}. {len(summary.parameters)} parameters were checked, and "
            f"{len(summary.imputed)} means and standard deviations of imputed values, school by school.",
        )

    def pooled(self, analysis: AnalysisPlan, table: pd.DataFrame, rows: tuple[int, int]) -> str:
        """Step 4: the pooled analysis next to the analysis of complete rows."""
        least, most = table["fmi"].min(), table["fmi"].max()
        change = (table["std.error"] / table["cc.std.error"] - 1).dropna()
        compared = (
            f"Next to it, the same analysis of the {rows[0]:,} complete rows alone: the pooled standard errors "
            f"differ from theirs by {change.min():+.1%} to {change.max():+.1%}."
            if len(change)
            else "Complete rows alone do not allow this analysis."
        )
        return _step(
            4,
            "The analysis, pooled",
            f"{analysis.formula}, fitted to every completed table and pooled with Rubin's rules. fmi is the "
            "fraction of information on a term that is lost with the missing values, here from "
            f"{least:.0%} to {most:.0%}. {compared}",
            "Below: standard deviations between schools, and between the pupils of a school.",
        )

    def files(self, folder: Folder) -> str:
        """Step 5: where everything was written."""
        figures = [name for name in folder.files if name.endswith(".png")]
        others = [name for name in folder.files if name not in figures]
        return _step(
            5, f"Everything is in {folder.root}",
            f"Figures: {', '.join(figures)}.",
            f"Tables and records: {', '.join(others)}.",
            f"This took {sum(folder.seconds.values()):.0f} seconds. plan.toml describes what was done. "
            "Change it, and:",
        ) + f"\n\n    bayesimp run {folder.root / 'plan.toml'} --out results"  # fmt: skip


def _step(number: int, title: str, *paragraphs: str) -> str:
    import textwrap

    wrapped = [textwrap.fill(p, WIDTH, break_long_words=False, break_on_hyphens=False) for p in paragraphs]
    return "\n".join([f"{number}. {title}", *wrapped])

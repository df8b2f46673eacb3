"""The section that compares imputed with observed values: means, spreads, shares; checks of the model."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.plots._variable import variable
from bayesimp.report.document import Block, Paragraph, ReportSection, Tabulated, drawing
from bayesimp.report.facts import ReportFacts

__all__ = ["compared", "imputed"]

LEVELS = 12  # largest number shown per variable


def imputed(facts: ReportFacts) -> ReportSection:
    """Imputed against observed values."""
    blocks: list[Block] = [Paragraph(
        "Imputed values need not look like observed ones: rows with missing values may differ from the "
        "others, which is why they are imputed from a model. Look for impossible values, and for differences "
        "that knowledge of the data does not explain."
    )]  # fmt: skip
    scales, levels = compared(facts)
    if len(scales):
        blocks.append(Tabulated(scales, "Observed and imputed values: means and standard deviations (imputed: averaged "
                                   "over the imputations), the difference of means in observed standard "
                                   "deviations, and the share of imputed values outside the observed range"))  # fmt: skip
    if len(levels):
        blocks.append(
            Tabulated(
                levels,
                "Observed and imputed values: shares of levels (imputed: averaged over the imputations)",
            )
        )
    if facts.figures:
        from bayesimp.plots.imputed import plot_imputed

        imp = facts.imputations
        whole = "Observed (black) and imputed (orange, each imputation) values."
        by_cluster = "Observed and imputed values by cluster; shaded: nothing observed."
        blocks.append(drawing(partial(plot_imputed, imp), whole))
        blocks.append(drawing(partial(plot_imputed, imp, by_cluster=True, at_most=20), by_cluster))
    if facts.overimputation is not None:
        caption = (
            "Overimputation: the share of observed values, hidden in turn, inside the range of values imputed "
            "for them, and the share expected if the model predicts well"
        )
        blocks.append(Paragraph(repr(facts.overimputation).partition("\n")[0] + "."))
        blocks.append(Tabulated(facts.overimputation.by_variable(), caption))
    if facts.replicates is not None:
        caption = (
            "Replicates of observed values: clusters whose statistic lies in the outer 5 % of those that the model "
            "replicates, and the largest number expected if the model is correct"
        )
        blocks.append(Tabulated(facts.replicates.by_variable(), caption))
        if len(facts.replicates.extreme):
            blocks.append(
                Tabulated(facts.replicates.extreme, "These clusters, the most extreme first", folded=True)
            )
    return ReportSection("imputed", "Imputed and observed values", tuple(blocks))


def compared(facts: ReportFacts) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scales: means, sds and ranges; levels: shares."""
    scales: list[dict[str, Any]] = []
    levels: list[dict[str, Any]] = []
    imp = facts.imputations
    for name in (n for n in imp.imputed_columns if n in imp.data.variables):
        of = variable(imp, name)
        if not of.imputed.size:
            continue
        seen = of.observed
        if of.distribution.is_coded:
            for k, label in list(enumerate(of.levels))[:LEVELS]:
                share = (seen == k).mean() if len(seen) else np.nan
                row = {"variable": name, "level": str(label), "observed": share}
                levels.append({**row, "imputed": (of.imputed == k).mean()})
            continue
        sd = seen.std(ddof=1) if len(seen) > 1 else np.nan
        sds = of.imputed.std(axis=1, ddof=1) if of.imputed.shape[1] > 1 else np.full(1, np.nan)
        outside = (of.imputed < seen.min()) | (of.imputed > seen.max()) if len(seen) else np.zeros(1, bool)
        mean, drawn = seen.mean() if len(seen) else np.nan, of.imputed.mean()
        scales.append({
            "variable": name, "unit": of.unit, "observed": len(seen), "imputed": of.imputed.shape[1],
            "observed mean": mean, "imputed mean": drawn, "observed sd": sd, "imputed sd": sds.mean(),
            "difference": (drawn - mean) / sd if sd > 0 else np.nan, "% outside": 100 * outside.mean(),
        })  # fmt: skip
    return pd.DataFrame(scales), pd.DataFrame(levels)

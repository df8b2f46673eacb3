"""Traces of imputed values: parameters can have converged while the values of one cluster have not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.diagnostics.convergence import diagnose
from bayesimp.errors import must_be
from bayesimp.plots._chains import chain_legend, draw_course
from bayesimp.plots._style import SMALL, Array, chosen, subplots, titled, wrapped
from bayesimp.plots._variable import second_level

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from bayesimp.imputation.result import Imputations

__all__ = ["plot_imputed_trace"]


def plot_imputed_trace(
    imp: Imputations,
    responses: Sequence[str] | str | None = None,
    clusters: Sequence | None = None,
    *,
    at_most: int = 5,
) -> Figure:
    """Plot mean and standard deviation of the imputed values along the chains, by response and cluster.

    A variable with two levels is shown by the share of the second. One with more levels is shown by the mean and standard
    deviation of the numbers that models use for the levels: numeric levels as they are, others as 0, 1, ... ("mean of
    level").

    Parameters
    ----------
    imp
        Imputations.
    responses, clusters
        Names and labels; by default all with imputed values.
    at_most
        Number of rows. If more pairs of response and cluster have imputed values, those with the largest R-hat (of
        mean or sd) are shown, and the title says so.

    Raises
    ------
    SpecificationError
        If a name is not an imputed response or a cluster.
    """
    must_be(imp, "Imputations", "plot_imputed_trace")
    from matplotlib.ticker import MaxNLocator

    drawn = [
        name for name in imp.imputed_columns if name in imp.responses
    ]  # columns computed from others are left out
    names = chosen(responses, drawn, "an imputed response")
    stats = imp.tree["imputed_stats"].to_dataset()
    labels = [str(c) for c in stats["cluster"].values]
    wanted = set(chosen(None if clusters is None else [str(c) for c in clusters], labels, "a cluster"))
    table = _pairs(stats, names, labels, wanted, imp)
    chosen(None, list(table.index), "an imputed value")
    shown = table.nlargest(at_most, "worst").sort_values("worst", ascending=False)

    figure, axes = subplots(
        len(shown), 2, figsize=(9, 0.9 + 1.35 * len(shown)), layout="constrained", squeeze=False
    )
    for (left, right), row in zip(axes, shown.itertuples(), strict=True):
        for ax, what in ((left, "mean"), (right, "sd")):
            values, called = _course(imp, row.response, what, stats[what].values[:, :, row.k, row.i])
            if called and np.isfinite(values).all() and np.ptp(values) > 0:
                draw_course(ax, values)
                ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                ax.set_ylabel(called, fontsize=SMALL)
            else:
                ax.set_axis_off()
        two = second_level(imp.data, row.response) is not None
        if two:  # the sd follows from the share
            left.set_subplotspec(left.get_gridspec()[left.get_subplotspec().rowspan.start, :])
        heading = _heading(row, f"{imp.data.cluster} {labels[row.i]}", two)
        left.set_title(wrapped(heading, 8.4), loc="left", fontsize=SMALL, pad=8)
    for ax in axes[-1]:
        ax.set_xlabel("cycle after warm-up" if imp.chained else "draw", fontsize=SMALL)
    title = "Imputed values along the chains: their mean and standard deviation"
    if len(shown) < len(table):
        title = (
            f"Imputed values along the chains: {len(shown)} of {len(table)} pairs of variable and cluster,\n"
            "those with the largest R-hat"
        )
    titled(figure, title, "chains that mix overlap and do not drift")
    chain_legend(figure, stats.sizes["chain"])
    return figure


def _course(imp: Imputations, name: str, what: str, values: Array) -> tuple[Array, str]:
    """The values drawn and their name, which is empty if the other panel has the same values."""
    second = second_level(imp.data, name)
    if second is not None:
        level, low, high = second
        return (values - low) / (high - low), f"share of {level}" if what == "mean" else ""
    coded = name in imp.data.families and imp.data.variable(name).distribution.is_factor
    number = coded and np.array_equal(imp.data.level_values(name), range(len(imp.data.levels(name))))
    return values, f"{what} of level" if number else what


def _heading(row: Any, cluster: str, two_levels: bool) -> str:
    cells = f"all {row.cells} missing" if row.cells == row.rows else f"{row.cells} of {row.rows} missing"
    by = [
        f"R-hat of the {what} {r_hat:.3f}" if np.isfinite(r_hat) else f"no R-hat of the {what}"
        for what, r_hat in (("share" if two_levels else "mean", row.r_hat_mean), ("sd", row.r_hat_sd))
    ]
    return f"{row.response}, {cluster}: {cells}     {', '.join(by)}"


def _pairs(
    stats: xr.Dataset, names: Sequence[str], labels: Sequence[str], wanted: Collection[str], imp: Imputations
) -> pd.DataFrame:
    """One row for each response and cluster with imputed values."""
    r_hat = diagnose(stats)["r_hat"]
    responses = [str(r) for r in stats["response"].values]
    rows = []
    for name in names:
        missing = np.bincount(imp.data.codes[imp.data.missing(name)], minlength=len(labels))
        for i in np.flatnonzero(missing).tolist():
            if labels[i] not in wanted:
                continue
            by = [r_hat.get(f"{what}[{name}, {labels[i]}]", np.nan) for what in ("mean", "sd")]
            worst = np.nanmax(by) if np.isfinite(by).any() else 0.0
            rows.append((name, responses.index(name), i, missing[i], imp.data.sizes[i], *by, worst))
    columns = ["response", "k", "i", "cells", "rows", "r_hat_mean", "r_hat_sd", "worst"]
    return pd.DataFrame(rows, columns=columns)

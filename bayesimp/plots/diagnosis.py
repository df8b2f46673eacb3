"""How far the conditional models behind a joint model vary between the clusters of the data."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from bayesimp.arguments import whole
from bayesimp.errors import must_be
from bayesimp.plots._style import (
    BLUE,
    GREY,
    SMALL,
    VERMILLION,
    legend_below,
    panel_grid,
    spaced,
    titled,
    wrapped,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.compatibility.diagnose import Diagnosis

__all__ = ["plot_diagnosis"]


def plot_diagnosis(diagnosis: Diagnosis, *, at_most: int = 9) -> Figure:
    """What the conditional model of each variable needs in each cluster, compared with one value for all clusters.

    Points are posterior medians by cluster; the one farthest off is drawn in vermillion, with its distance in posterior
    standard deviations.
    The grey line is the single value that a homogeneous model would use, the grey band the central 68 % of its posterior.

    Parameters
    ----------
    diagnosis
        From `bayesimp.compatibility.diagnose`.
    at_most
        Largest number of panels. If there are more parameters, the panels show those with the largest misses, and the
        title says so.
    """
    must_be(diagnosis, "Diagnosis", "plots.plot_diagnosis")
    at_most = whole(at_most, "at_most")
    table = diagnosis.table
    shown = table.loc[sorted(table["miss"].nlargest(at_most).index)]
    columns = 2 if len(shown) in (2, 4) else min(len(shown), 3)
    lines = -(-len(shown) // columns)
    figure, axes = panel_grid(len(shown), lines, columns, (max(3.4 * columns, 5), 1.1 + 2.3 * lines))
    for ax, row in zip(axes.flat, shown.itertuples(), strict=False):
        clusters = diagnosis.clusters
        own = (clusters.response == row.response) & (clusters.parameter == row.parameter)
        _panel(ax, row, clusters[own], diagnosis.cluster)
    title = f"What conditional models need, by {diagnosis.cluster}, and one value for all"
    if len(shown) < len(table):
        title += f":\nthe {len(shown)} of {len(table)} parameters that are missed most"
    titled(figure, title)
    for ax in axes.flat[max(len(shown) - columns, 0) : len(shown)]:  # the lowest panel of each column
        ax.set_xlabel(wrapped(f"rows of the {diagnosis.cluster}", 2.6), fontsize=SMALL)
    legend_below(figure, *axes[0, 0].get_legend_handles_labels())
    return figure


def _panel(ax: Axes, row: Any, clusters: pd.DataFrame, label: str) -> None:
    ax.axhspan(row.one_low, row.one_high, color=GREY, alpha=0.2, linewidth=0)
    ax.axhline(
        row.one_value,
        color=GREY,
        linewidth=1.2,
        label="one value for all, with the central 68 % of its posterior",
    )
    ax.plot(clusters.rows, clusters.value, "o", color=BLUE, markersize=3.5, alpha=0.7, label=label)
    worst = clusters.loc[clusters["miss"].abs().idxmax()]
    ax.plot(worst.rows, worst.value, "o", color=VERMILLION, markersize=5, label=f"{label} farthest off")
    spaced(ax)
    if clusters.rows.max() > 10 * clusters.rows.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
    ax.margins(y=0.12)
    title = f"{row.response}: {row.parameter}"
    ax.set_title(f"{textwrap.fill(title, 44)}\nmisses by at most {row.miss:.2f} sd", fontsize=SMALL)

"""Pooled estimates by prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.errors import must_be
from bayesimp.messages import shortened
from bayesimp.plots._style import BLUE, GREY, SMALL, chosen, headings, panel_grid, spaced, titled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.sensitivity_analysis.result import Sensitivity

__all__ = ["plot_sensitivity"]

COLUMNS = 3
PANEL, FMI = 2.7, 0.5  # width of a panel, and of the heading of its right column, in inches


def plot_sensitivity(
    result: Sensitivity, terms: Sequence[str] | str | None = None, *, at_most: int = 9
) -> Figure:
    """Plot estimates with intervals, with a panel for each parameter and a line for each prior.

    The band is one standard error (under the reference prior) either side of the reference's estimate: an estimate
    outside it moves by more than the data themselves leave open. The fraction of missing information is on the right.

    Parameters
    ----------
    result
        From `bayesimp.sensitivity`.
    terms
        Names; by default all, fixed effects before variance components.
    at_most
        Number of panels. With more terms, the first are shown, and the title says so.

    Raises
    ------
    SpecificationError
        If the analysis does not have a term.
    """
    must_be(result, "Sensitivity", "plot_sensitivity")
    table = result.table
    known = list(table.sort_values("part", ascending=False, kind="stable")["term"].drop_duplicates())
    known.sort(key=list(table["term"].drop_duplicates()).index)
    names = chosen(terms, known, "a term")
    shown, priors = names[:at_most], result.priors
    columns = min(len(shown), COLUMNS)
    lines = -(-len(shown) // columns)
    called = shortened(priors)
    margin = 0.085 * max(map(len, called))
    titles = headings(shown, PANEL - FMI)
    above = 0.15 * max(title.count("\n") for title in titles)
    figure, axes = panel_grid(
        len(shown),
        lines,
        columns,
        (margin + max(PANEL * columns, 4.2), 0.9 + lines * (0.75 + above + 0.23 * len(priors))),
        sharey=True,
    )
    for ax, term, title in zip(axes.flat, shown, titles, strict=False):
        _panel(ax, table[table["term"] == term].set_index("prior"), priors, result.reference)
        ax.set_yticks(range(len(priors)), called)
        ax.set_title(title, loc="left", fontsize=SMALL, fontweight="bold")
    title = f"{result.analysis}\nestimates and intervals by prior; band: one standard error under '{result.reference}'"
    if len(shown) < len(names):
        title += f"; the first {len(shown)} of {len(names)} terms"
    titled(figure, title)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, priors: Sequence[str], reference: str) -> None:
    base = rows.loc[reference]
    if np.isfinite(base["std.error"]):
        low, high = (base["estimate"] + sign * base["std.error"] for sign in (-1, 1))
        ax.axvspan(low, high, color=GREY, alpha=0.16, linewidth=0, zorder=0)
    ax.axvline(base["estimate"], color=GREY, linewidth=0.8, zorder=0)
    right = ax.get_yaxis_transform()
    for line, prior in enumerate(priors):
        row = rows.loc[prior]
        ax.plot([row["conf.low"], row["conf.high"]], [line, line], color=BLUE, linewidth=1.5)
        face = "white" if prior == reference else BLUE
        ax.plot(
            row["estimate"], line, "o", color=BLUE, markerfacecolor=face, markersize=5.5, markeredgewidth=1.4
        )
        if np.isfinite(row["fmi"]):
            ax.text(1.02, line, f"{row['fmi']:.0%}", transform=right, va="center", fontsize=SMALL, color=GREY)
    if rows["fmi"].notna().any():
        ax.set_title("fmi", loc="right", fontsize=SMALL, color=GREY)
    spaced(ax)
    ax.margins(x=0.06)
    ax.set_ylim(len(priors) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)

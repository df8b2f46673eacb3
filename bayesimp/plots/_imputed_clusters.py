"""Observed and imputed values by cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.messages import shortened
from bayesimp.plots._style import (
    GREY,
    IMPUTED,
    OBSERVED,
    SMALL,
    WIDEST,
    chosen,
    label,
    omissions,
    panel_grid,
    spaced,
    titled,
    wrapped,
)
from bayesimp.plots._variable import PlottedVariable, Statistic, statistics, variable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.imputation.result import Imputations

__all__ = ["by_clusters", "picked"]

COLUMNS = 4  # panels in a row
PANEL = 2.6  # width in inches, without the names of clusters
LINE, ABOVE, TALLEST = 0.27, 1.4, 20.0  # of a cluster, of title and legend, and of the figure, in inches
LEVELS = 6  # most levels shown of one variable
OUTER, INNER = (0.05, 0.95), (0.25, 0.75)
VALUES = "Median, quartiles, 5 and 95 % quantiles of the values"
SUMMARY = {
    "share": "Observed shares; imputed shares: median, quartiles,\n5 and 95 % quantiles over the imputations",
    "mean": "Observed means; imputed means: median, quartiles,\n5 and 95 % quantiles over the imputations",
    "both": "Observed shares and means; imputed ones: median, quartiles,\n5 and 95 % quantiles over the imputations",
}


def by_clusters(
    imp: Imputations,
    names: list[str],
    clusters: Sequence | None,
    at_most: int,
    labels: Mapping[str, str] | None,
) -> Figure:
    """A figure with a panel for each variable, or for each of its levels if there are several, and a line per cluster."""
    every = [str(c) for c in imp.data.clusters]
    asked = set(chosen(None if clusters is None else [str(c) for c in clusters], every, "a cluster"))
    there = [c in asked for c in every]
    shown = {name: variable(imp, name) for name in names}
    panels = [(name, each) for name in names for each in statistics(shown[name], label(name, labels), LEVELS)]
    called = shortened(every)
    width = PANEL + 0.075 * max(map(len, called))
    columns = min(len(panels), COLUMNS, max(int(WIDEST / width), 1))
    lines = -(-len(panels) // columns)
    titles = [wrapped(each.title, PANEL, "medium") for _, each in panels]
    frame = 0.7 + 0.17 * max(title.count("\n") for title in titles)
    at_most = max(min(at_most, int(((TALLEST - ABOVE) / lines - frame) / LINE)), 1)
    picks = {name: _pick(imp, name, there, at_most, clusters is not None) for name in names}
    tallest = max(len(places) for places, _ in picks.values())
    chosen(None, every[:tallest], "a cluster with imputed values")
    size = (max(width * columns, 6.4), ABOVE + (frame + LINE * tallest) * lines)
    figure, axes = panel_grid(len(panels), lines, columns, size)
    systematic = False
    for ax, (name, each), title in zip(axes.flat, panels, titles, strict=False):
        places, possible = picks[name]
        systematic |= _lines(ax, shown[name], each, places, called)
        ax.set_title(_how_many(len(places), possible, clusters is not None), fontsize=SMALL)
        ax.set_xlabel(title)
        ax.set_ylim(tallest - 0.4, -0.6)
    for ax in axes[:, 0]:
        ax.set_ylabel(wrapped(shortened([imp.data.cluster], 60)[0], 0.5 + 0.2 * tallest, "medium"))
    _legend(figure, systematic)
    some = any(len(places) < possible for places, possible in picks.values())
    titled(figure, _title(panels, shown, some) + omissions(figure))
    return figure


def picked(imp: Imputations, names: list[str], clusters: Sequence | None, at_most: int) -> list[int]:
    """Positions of the clusters to show: those that are named, or those with imputed values of one of the variables."""
    every = [str(c) for c in imp.data.clusters]
    asked = set(chosen(None if clusters is None else [str(c) for c in clusters], every, "a cluster"))
    there = [c in asked for c in every]
    picks = [_pick(imp, name, there, at_most, clusters is not None)[0] for name in names]
    return sorted({place for places in picks for place in places})


def _title(panels: Sequence[tuple[str, Statistic]], shown: dict[str, PlottedVariable], some: bool) -> str:
    summaries = [each for _, each in panels if each.summary]
    kinds = {"mean" if each.title.endswith(": mean") else "share" for each in summaries}
    parts = [SUMMARY["both" if len(kinds) == 2 else kinds.pop()]] if kinds else []
    if len(summaries) < len(panels):
        parts.append(("Other variables: " + VALUES.lower()) if parts else VALUES)
    for name, of in shown.items():
        if len(of.levels) > LEVELS:
            parts.append(f"{name}: the {LEVELS} most frequent of {len(of.levels)} levels")
    if some:
        parts.append("clusters with the most imputed values")
    return ";\n".join(parts)


def _legend(figure: Figure, systematic: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list = [
        Line2D([], [], color=OBSERVED, marker="o", markersize=4, linewidth=2.5, label="observed"),
        Line2D([], [], color=IMPUTED, marker="D", markersize=4, linewidth=2.5, label="imputed"),
    ]
    if systematic:
        handles.append(Patch(facecolor=GREY, alpha=0.25, label="nothing observed (systematically missing)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)


def _how_many(shown: int, possible: int, named: bool) -> str:
    what = "" if named else " with imputed values"
    if shown < possible:
        return f"{shown} of {possible} clusters{what}"
    return f"{shown} cluster{'' if shown == 1 else 's'}{what}"


def _pick(
    imp: Imputations, name: str, asked: Sequence[bool], at_most: int, named: bool
) -> tuple[list[int], int]:
    """The clusters to show, in their own order, and the number of clusters to choose from.

    They are all that the user named, or else those with imputed values.
    """
    missing = np.bincount(imp.data.codes[imp.rows(name)], minlength=len(asked))
    possible = np.flatnonzero(((missing > 0) | named) & np.array(asked))
    first = np.lexsort((-missing[possible], missing[possible] < imp.data.sizes[possible]))
    return sorted(possible[first[:at_most]]), len(possible)


def _lines(ax: Axes, of: PlottedVariable, each: Statistic, places: list[int], every: list[str]) -> bool:
    """Draw the intervals of the clusters, one below the other; return whether any cluster has no observed values."""
    systematic = False
    for line, place in enumerate(places):
        seen, drawn = np.flatnonzero(of.observed_at == place), np.flatnonzero(of.imputed_at == place)
        if len(seen):
            _interval(ax, line - 0.17, np.atleast_1d(each.of(of.observed[seen], seen)), OBSERVED, "o")
        else:
            systematic = True
            ax.axhspan(line - 0.5, line + 0.5, color=GREY, alpha=0.25, linewidth=0)
        if len(drawn):
            where = len(of.observed) + drawn
            _interval(ax, line + 0.17, each.of(of.imputed[:, drawn], where), IMPUTED, "D")
    spaced(ax)
    if each.summary and ": mean" not in each.title:
        ax.set_xlim(-0.03, 1.03)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    elif of.log and not each.summary:
        ax.set_xscale("log")
    ax.set_yticks(range(len(places)), [every[k] for k in places])
    ax.tick_params(axis="y", length=0)
    return systematic


def _interval(ax: Axes, height: float, x: np.ndarray, colour: str, marker: str) -> None:
    ax.plot(np.quantile(x, OUTER), [height] * 2, color=colour, linewidth=0.8)
    ax.plot(np.quantile(x, INNER), [height] * 2, color=colour, linewidth=2.5, solid_capstyle="butt")
    ax.plot(
        np.median(x), height, marker, color=colour, markersize=3.5, markeredgecolor="white", markeredgewidth=0.4
    )  # fmt: skip

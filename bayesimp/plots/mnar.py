"""Pooled estimates against the shift of the imputed values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.errors import SpecificationError, must_be
from bayesimp.messages import shortened
from bayesimp.plots._style import (
    BLUE,
    GREY,
    SMALL,
    VERMILLION,
    chosen,
    headings,
    panel_grid,
    spaced,
    titled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.sensitivity_analysis.deltas import Axis
    from bayesimp.sensitivity_analysis.not_at_random import NotAtRandom
    from bayesimp.sensitivity_analysis.tipping import Line

__all__ = ["plot_mnar", "shift_label"]

WIDTH, HEIGHT = 3.3, 2.3  # of a panel, in inches
UNITS = {
    "identity": "", "matching": " (before matching)", "logit": " (log odds)", "probit": " (sd of the latent normal)",
    "log": " (log mean)", "utility": " (latent utility)",
}  # fmt: skip


def plot_mnar(
    result: NotAtRandom,
    terms: Sequence[str] | str | None = None,
    *,
    analysis: str | None = None,
    threshold: float = 0.0,
    at_most: int = 9,
) -> Figure:
    """Plot estimates with intervals against delta: a row of panels for each parameter, a panel for each delta.

    The open circle is the answer if values are missing at random. The horizontal line is the threshold; a vertical line
    marks the tipping point, where the interval begins or ceases to cover it. Shifts are on the scale of the link.

    Parameters
    ----------
    result
        From `bayesimp.mnar`.
    terms
        Names; all fixed effects by default.
    analysis
        Name of the analysis; the first by default.
    threshold
        The value with which intervals are compared.
    at_most
        Number of panels. If there would be more, the first are shown, and the title says so.

    Raises
    ------
    SpecificationError
        If a term or the analysis is not known, or no delta varies.
    """
    must_be(result, "NotAtRandom", "plot_mnar")
    analysis = chosen(analysis, result.analyses, "an analysis")[0]
    table = result.table[result.table["analysis"] == analysis]
    known = list(table["term"].drop_duplicates())
    fixed = list(table.loc[table["part"] == "fixed effect", "term"].drop_duplicates())
    names, lines = chosen(fixed if terms is None else terms, known, "a term"), result.lines
    if not lines:
        raise SpecificationError(
            "No delta varies: give mnar a list of numbers, delta={'variable': [0, -1, -2]}."
        )
    drawn = lines[:at_most]
    shown = names[: max(at_most // len(drawn), 1)]
    # many deltas of few terms continue in further rows
    columns = len(drawn) if len(shown) > 1 or len(drawn) <= 3 else 3
    rows = len(shown) if columns == len(drawn) else -(-len(drawn) // columns)
    panels = [(term, line) for term in shown for line in drawn]
    figure, axes = panel_grid(
        len(panels),
        rows,
        columns,
        (max(WIDTH * columns, 4.6), 1.0 + HEIGHT * rows),
        sharey="row" if columns == len(drawn) else True,
    )
    titles = dict(zip(shown, headings(shown, figure.get_figwidth() / columns - 0.7), strict=True))
    labels = shortened([line.label for line in drawn], 72)
    for ax, (term, line) in zip(axes.flat, panels, strict=False):
        _panel(ax, result, line, analysis, term, threshold)
        ax.set_title(titles[term], loc="left", fontsize=SMALL, fontweight="bold")
        text = shift_label(result.axes[line.moves[0]], labels[drawn.index(line)])
        ax.set_xlabel(wrapped(text, figure.get_figwidth() / columns - 0.6), fontsize=SMALL)
    title = (
        f"{analysis}\nestimate and {result.request.level:.0%} interval, by the shift of the imputed values; open circle: "
        "missing at random"
    )
    if len(panels) < len(names) * len(lines):
        title += f"; {len(panels)} of {len(names) * len(lines)} panels"
    titled(figure, title)
    return figure


def _panel(ax: Axes, result: NotAtRandom, line: Line, analysis: str, term: str, threshold: float) -> None:
    along = result.along(line, analysis, term)
    low, middle, high = (along[name].to_numpy(float) for name in ("conf.low", "estimate", "conf.high"))
    ax.axhline(threshold, color=GREY, linewidth=0.8, zorder=0)
    ax.fill_between(line.x, low, high, color=BLUE, alpha=0.2, linewidth=0)
    ax.plot(line.x, middle, "-", color=BLUE, linewidth=1.3)
    ax.plot(line.x, middle, "o", color=BLUE, markersize=3.5)
    ax.plot(line.x[line.start], middle[line.start], "o", color=BLUE, markerfacecolor="white", markersize=6.5)
    if np.isfinite(low).all():
        _tipping(ax, result, line, term, analysis, threshold)
    spaced(ax)


def _tipping(ax: Axes, result: NotAtRandom, line: Line, term: str, analysis: str, threshold: float) -> None:
    for row in result.tipping_point(term, analysis=analysis, threshold=threshold).table.itertuples():
        if row.axis == line.label and np.isfinite(row.shift):
            ax.axvline(row.shift, color=VERMILLION, linewidth=1.1, linestyle="--")
            right = row.shift < (line.x[0] + line.x[-1]) / 2
            ax.annotate(
                f"{row.shift:.3g}", (row.shift, 1.0), xycoords=("data", "axes fraction"),
                xytext=(3 if right else -3, -2), textcoords="offset points", ha="left" if right else "right", va="top",
                fontsize=SMALL, color=VERMILLION,
            )  # fmt: skip


def shift_label(axis: Axis, label: str) -> str:
    """The label of an axis: a shift on the scale of the link."""
    return f"shift of {label}{UNITS[axis.link]}"

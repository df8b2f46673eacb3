"""Observed and imputed values as points: alone, against another variable, or against the probability of being missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.messages import shortened, suggestion
from bayesimp.plots._style import (
    IMPUTED,
    OBSERVED,
    SMALL,
    label,
    omissions,
    panel_grid,
    spaced,
    titled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.imputation.result import Imputations

__all__ = ["imputed_points"]

PANEL = 3.4  # inches
COLUMNS = 3
PANELS = 18  # panels of a figure, which is then no taller than 20 inches
STRIPS = 5  # imputations next to the observed values
POINTS = 2000  # of each colour in a panel, spread evenly over the rows
DENSE = 60  # points of a panel above which they are drawn small and transparent
PROPENSITY = "probability of being missing, given the others"


READ = {
    "strip": "Observed values, and those of the first imputations: every point is a value",
    "scatter": "The first completed table: imputed values should continue the pattern of the observed ones",
    "propensity": "Missing at random, observed and imputed values are alike where the probability of being missing is",
}


def imputed_points(
    imp: Imputations, names: Sequence[str], kind: str, against: str | None, clusters: Sequence[int] | None,
    labels: Mapping[str, str] | None,
) -> Figure:  # fmt: skip
    """A panel for each variable, or for each variable and cluster (by position)."""
    if kind == "scatter":
        _check_against(imp, against, names)
    places = [None] if clusters is None else list(clusters)
    panels = [(name, place) for name in names for place in places]
    shown = panels[:PANELS]
    columns = min(len(shown), COLUMNS)
    lines = -(-len(shown) // columns)
    figure, axes = panel_grid(len(shown), lines, columns, (max(PANEL * columns, 5.4), 1.2 + 2.7 * lines))
    called = shortened([str(c) for c in imp.data.clusters], 32)
    x = {name: _abscissa(imp, name, kind, against) for name in names}
    for ax, (name, place) in zip(axes.flat, shown, strict=False):
        inside = np.ones(len(imp.data), bool) if place is None else imp.data.codes == place
        _panel(ax, imp, name, x[name], inside)
        ax.set_ylabel(wrapped(label(name, labels), 2.4))
        if kind == "scatter" and against is not None:
            _levels(ax.set_xticks, imp, against)
        ax.set_xlabel({"scatter": wrapped(label(against or "", labels), 3.0), "propensity": PROPENSITY,
                       "strip": "observed, then imputations"}[kind], fontsize=SMALL)  # fmt: skip
        if place is not None:
            ax.set_title(wrapped(f"{imp.data.cluster} {called[place]}", 3.0), fontsize=SMALL)
    _legend(figure, kind, imp.m)
    few = f"; the first {len(shown)} of {len(panels)} panels" if len(shown) < len(panels) else ""
    titled(figure, READ[kind] + few + omissions(figure))
    return figure


def _check_against(imp: Imputations, against: str | None, names: Sequence[str]) -> None:
    known = [name for name in imp.data.variables if name in imp.data.families]
    if against is None:
        raise SpecificationError(
            "plot_imputed: kind = 'scatter' shows one variable against another; name it: against='age'."
        )
    if against not in known:
        raise SpecificationError(f"against: {against!r} is not a variable. {suggestion(against, known)}")
    if list(names) == [against]:
        raise SpecificationError(f"against: {against!r} is the variable itself; name another one.")


def _abscissa(imp: Imputations, name: str, kind: str, against: str | None) -> np.ndarray | None:
    """(n,) horizontal position of each row; None: tables are shown side by side."""
    from bayesimp.diagnostics.propensity import completed_numbers, missing_propensity

    if kind == "propensity":
        return missing_propensity(imp, name)
    return None if against is None else completed_numbers(imp, against, 0)


def _panel(ax: Axes, imp: Imputations, name: str, x: np.ndarray | None, inside: np.ndarray) -> None:
    values, rows = imp.data.numeric(name), imp.rows(name)
    seen = np.flatnonzero(np.isfinite(values) & inside)
    drawn = np.flatnonzero(inside[rows])
    jitter = np.random.default_rng(0)  # positions only; the same at each call
    coded = bool(imp.data.levels(name))
    tables = range(min(imp.m, STRIPS)) if x is None else range(1)
    dense = len(seen) + len(drawn) > DENSE  # among a few points, a small faint one would be overlooked
    for k, (where, y, colour) in enumerate([
        (seen, values[seen], OBSERVED), *((rows[drawn], imp.values(name)[t][drawn], IMPUTED) for t in tables)
    ]):  # fmt: skip
        few = np.unique(np.linspace(0, max(len(y) - 1, 0), min(len(y), POINTS)).round().astype(int))
        y = y[few] + (jitter.uniform(-0.25, 0.25, len(few)) if coded else 0.0)
        at = k + jitter.uniform(-0.3, 0.3, len(few)) if x is None else x[where[few]]
        size, alpha = ((7, 0.35) if colour == OBSERVED else (9, 0.6)) if dense else (18, 0.75)
        ax.scatter(at, y, s=size, color=colour, alpha=alpha, linewidths=0)
    spaced(ax)
    if x is None:
        ax.set_xticks(range(len(tables) + 1), ["obs.", *(str(t + 1) for t in tables)])
    _levels(ax.set_yticks, imp, name)


def _levels(set_ticks: Callable, imp: Imputations, name: str) -> None:
    levels = imp.data.levels(name)
    if levels:
        set_ticks(range(len(levels)), shortened([str(level) for level in levels], 14))


def _legend(figure: Figure, kind: str, m: int) -> None:
    from matplotlib.lines import Line2D

    which = (
        f"imputed: {min(m, STRIPS)} of {m} imputations"
        if kind == "strip"
        else f"imputed: the first of {m} imputations"
    )
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=5, linewidth=0, label=text)
        for colour, text in ((OBSERVED, "observed"), (IMPUTED, which))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)

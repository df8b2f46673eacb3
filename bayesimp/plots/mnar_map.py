"""A pooled estimate against two shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError, must_be
from bayesimp.plots._style import BLACK, BLUE, ORANGE, SMALL, chosen, subplots, titled, wrapped
from bayesimp.plots.mnar import shift_label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayesimp.sensitivity_analysis.not_at_random import NotAtRandom

__all__ = ["plot_mnar_map"]

Array = NDArray[np.float64]
MOST_WRITTEN = 100  # cells up to which each shows its number


def plot_mnar_map(
    result: NotAtRandom,
    term: str,
    *,
    axes: tuple[int, int] | None = None,
    analysis: str | None = None,
    threshold: float = 0.0,
) -> Figure:
    """Plot, for every combination of two deltas, the estimate and whether its interval covers the threshold.

    A cell is blue if the interval excludes the threshold and orange if it covers it; the border between the colours is
    the set of tipping points. The framed cell is the answer if values are missing at random. Further deltas are at their
    base.

    Parameters
    ----------
    result
        From `bayesimp.mnar` with ``combine="product"``.
    term
        As in ``result.table["term"]``.
    axes
        Positions of two of ``result.axes``; by default the first two that vary.
    analysis
        Name of the analysis; the first by default.
    threshold
        The value with which intervals are compared.

    Raises
    ------
    SpecificationError
        If fewer than two deltas vary, their combinations were not run, or a term or the analysis is not known.
    """
    must_be(result, "NotAtRandom", "plot_mnar_map")
    analysis = chosen(analysis, result.analyses, "an analysis")[0]
    table = result.table[result.table["analysis"] == analysis]
    chosen(term, list(table["term"].drop_duplicates()), "a term")
    across, up = _two(result, axes)
    estimate, covers, xs, ys = _cells(
        result, table[table["term"] == term].set_index("scenario"), across, up, threshold
    )
    figure, ax = subplots(
        figsize=(max(2.2 + 0.75 * len(xs), 5.4), 2.4 + 0.45 * len(ys)), layout="constrained"
    )
    for i, j in np.ndindex(estimate.shape):
        fill = ORANGE if covers[i, j] else BLUE
        ax.fill_between([i - 0.5, i + 0.5], j - 0.5, j + 0.5, color=fill, alpha=0.45, linewidth=0)
        if estimate.size <= MOST_WRITTEN:
            ax.text(i, j, f"{estimate[i, j]:.3g}", ha="center", va="center", fontsize=SMALL)
    start = [int(np.flatnonzero(np.isclose(v, 0.0))[0]) if np.isclose(v, 0.0).any() else 0 for v in (xs, ys)]
    ax.plot(start[0] + 0.46 * np.array([-1, 1, 1, -1, -1]), start[1] + 0.46 * np.array([-1, -1, 1, 1, -1]), color=BLACK,
            linewidth=1.4)  # fmt: skip
    ax.set_xticks(range(len(xs)), [f"{x:.3g}" for x in xs], fontsize=SMALL)
    ax.set_yticks(range(len(ys)), [f"{y:.3g}" for y in ys], fontsize=SMALL)
    ax.set_xlim(-0.5, len(xs) - 0.5)
    ax.set_ylim(-0.5, len(ys) - 0.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    width, height = figure.get_size_inches()
    ax.set_xlabel(
        wrapped(shift_label(result.axes[across], result.axes[across].label), width - 1.2), fontsize=SMALL
    )
    ax.set_ylabel(wrapped(shift_label(result.axes[up], result.axes[up].label), height - 0.8), fontsize=SMALL)
    titled(
        figure,
        f"{analysis}\n{term}; orange: the {result.request.level:.0%} interval covers {threshold:g}; "
        "frame: missing at random",
    )
    return figure


def _two(result: NotAtRandom, axes: tuple[int, int] | None) -> tuple[int, int]:
    varied = [k for k, axis in enumerate(result.axes) if len(axis.values) > 1]
    asked = varied[:2] if axes is None else list(axes)
    if result.combine != "product" or len(set(asked)) != 2 or not set(asked) <= set(varied):
        raise SpecificationError(
            "A map needs two deltas that vary, with all their combinations: mnar(..., delta={'a': [...], 'b': [...]}, "
            f"combine='product'). Here {len(varied)} vary, with combine = {result.combine!r}; plot() shows each."
        )
    return asked[0], asked[1]


def _cells(
    result: NotAtRandom, rows: pd.DataFrame, across: int, up: int, threshold: float
) -> tuple[Array, NDArray[np.bool_], Array, Array]:
    """Estimates (x, y), whether their intervals cover the threshold (x, y), and the shifts on both axes, in order."""
    base = [axis.base for axis in result.axes]
    steps = [sorted({(result.axes[k].shift(v), v) for v in result.axes[k].values}) for k in (across, up)]
    of = {scenario.values: scenario.name for scenario in result.scenarios}
    names = []
    for _, x in steps[0]:
        for _, y in steps[1]:
            base[across], base[up] = x, y
            names.append(of.get(tuple(base)))
    if None in names:
        raise SpecificationError(
            "Some combinations are missing: the run was interrupted before them. Run mnar again."
        )
    found = rows.loc[names]
    shape = len(steps[0]), len(steps[1])
    covers = (found["conf.low"] <= threshold) & (threshold <= found["conf.high"])
    xs, ys = (np.array([shift for shift, _ in step]) for step in steps)
    return found["estimate"].to_numpy().reshape(shape), covers.to_numpy().reshape(shape), xs, ys

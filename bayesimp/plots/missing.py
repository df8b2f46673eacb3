"""What is missing, by variable and cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayesimp.errors import SpecificationError, must_be
from bayesimp.messages import shortened
from bayesimp.plots._style import WIDEST, subplots, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayesimp.table.incomplete import IncompleteData

__all__ = ["plot_missing"]

# Blue and vermillion (Okabe & Ito) can be told apart with any colour vision, and in print by the hatching.
COMPLETE, LIGHT, DARK, SYSTEMATIC = "#f2f2f2", "#c6dbef", "#08519c", "#d55e00"
SIZES = "#8c8c8c"
LABELS_AT_MOST = 60  # with more clusters, their names are left out


def plot_missing(
    data: IncompleteData, *, variables: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Plot the missing cells by variable (rows) and cluster (columns), with the clusters' sizes on top.

    Grey means complete. Blue means sporadically missing, and is darker the more rows are missing. Hatched vermillion
    means missing in all rows of the cluster (systematically).

    Parameters
    ----------
    data
        The table.
    variables
        Names, top to bottom; all of the table's variables by default.
    ax
        The axes of the map; the sizes are drawn above them. By default, a new figure of suitable size.

    Returns
    -------
    The axes of the map; its figure is ``ax.figure``.

    Raises
    ------
    SpecificationError
        If a name is not a variable, or there are no variables.
    """
    must_be(data, "IncompleteData", "plot_missing")
    names = list(data.variables if variables is None else variables)
    for name in names:
        data.missing(name)  # raises for unknown names
    if not names:
        raise SpecificationError("There is no variable to show: the table has no column except the cluster.")
    share = data.counts.loc[names].to_numpy() / data.sizes
    own = ax is None
    if ax is None:
        side = 0.075 * max(map(len, shortened(names)))
        width = float(np.clip(1.5 + side + 0.22 * share.shape[1], 7, WIDEST))
        below = 0.075 * max(map(len, _labels(data)), default=0) if _upright(data) else 0.0
        _, ax = subplots(figsize=(width, 2.4 + below + 0.32 * len(names)), layout="constrained")
    _map(ax, share)
    _cluster_axis(ax, data)
    ax.set_yticks(range(len(names)), shortened(names))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    _sizes(ax, data.sizes)
    _legend(ax, own)
    if own:
        titled(
            ax.figure, f"What is missing, by variable and {data.cluster}",
            "bars: rows; the darker the blue, the more of them lack the variable; hatched: all",
        )  # fmt: skip
    return ax


def _colours(share: ArrayLike) -> np.ndarray:
    """The colours (..., 3) for shares of missing rows."""
    from matplotlib.colors import to_rgb

    light, dark = np.array(to_rgb(LIGHT)), np.array(to_rgb(DARK))
    share = np.asarray(share)[..., None]
    return np.where(
        share == 0, to_rgb(COMPLETE), np.where(share == 1, to_rgb(SYSTEMATIC), light + share * (dark - light))
    )


def _map(ax: Axes, share: np.ndarray) -> None:
    """Draw one rectangle for each variable and cluster."""
    rows, columns = share.shape
    # lines between cells help the eye only if the cells are wide
    ax.pcolormesh(
        np.arange(columns + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        _colours(share),
        edgecolors="white",
        linewidth=1.0 if columns <= 80 else 0.0,
    )
    for row in range(rows):
        for start, stop in _runs(share[row] == 1):
            ax.fill_between(
                [start - 0.5, stop - 0.5], row - 0.5, row + 0.5,
                facecolor="none", edgecolor="white", linewidth=0, hatch="////", alpha=0.6,
            )  # fmt: skip
    for row in range(1, rows):
        ax.axhline(row - 0.5, color="white", linewidth=1.5)
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and stop of each run of True."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return zip(change[::2], change[1::2], strict=True)


def _cluster_axis(ax: Axes, data: IncompleteData) -> None:
    labels = _labels(data)
    if not labels:
        ends = shortened([str(data.clusters[0]), str(data.clusters[-1])])
        ax.set_xticks([])
        ax.set_xlabel(f"{data.cluster}: {len(data.clusters):,} clusters, {ends[0]} to {ends[1]}")
        return
    size = "small" if len(labels) <= 40 else "x-small"
    ax.set_xticks(range(len(labels)), labels, rotation=90 if _upright(data) else 0, fontsize=size)
    ax.set_xlabel(data.cluster)


def _labels(data: IncompleteData) -> list[str]:
    """Write the names of the clusters below the map, unless there are too many."""
    every = [str(label) for label in data.clusters]
    return [] if len(every) > LABELS_AT_MOST else shortened(every)


def _upright(data: IncompleteData) -> bool:
    return sum(len(label) + 2 for label in _labels(data)) > 70


def _sizes(ax: Axes, sizes: np.ndarray) -> None:
    """Draw bars for the clusters' sizes above the map."""
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    bars = make_axes_locatable(ax).append_axes("top", size=0.6, pad=0.06, sharex=ax)
    bars.bar(np.arange(len(sizes)), sizes, width=0.8 if len(sizes) <= 80 else 1.0, color=SIZES)
    bars.set_ylim(0, 1.6 * sizes.max())
    text = f"rows, at most {int(sizes.max()):,}"
    bars.text(0.0, 1.0, text, transform=bars.transAxes, ha="left", va="top", fontsize="small")
    bars.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
    bars.spines[:].set_visible(False)


def _legend(ax: Axes, own: bool) -> None:
    """Add the legend: below a figure of our own, to the right of the user's axes."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=COMPLETE, edgecolor="#bdbdbd", label="complete")]
    handles += [
        Patch(facecolor=tuple(_colours(share)), label=f"{share:.0%} of rows missing")
        for share in (0.1, 0.5, 0.9)
    ]
    handles.append(
        Patch(
            facecolor=SYSTEMATIC,
            edgecolor="white",
            linewidth=0,
            hatch="////",
            label="all missing: systematic",
        )
    )
    if not own:
        ax.legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize="small"
        )
        return
    columns = 5 if ax.figure.bbox.width > 9 * ax.figure.dpi else 3
    ax.figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize="small"
    )

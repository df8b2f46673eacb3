"""One row of a trace figure: the density of each chain next to its trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.plots._style import CYCLE, GREY, SMALL, Array, density, spaced, subplots, titled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

CENTRAL = (0.005, 0.995)  # the part of the draws that densities show


@dataclass(frozen=True)
class Chains:
    """A quantity shown along the chains: values (chains, draws)."""

    name: str
    values: Array
    r_hat: float

    @property
    def log(self) -> bool:
        """Whether a logarithmic scale is needed: all values positive, over more than two orders of magnitude."""
        low, high = np.quantile(self.values, CENTRAL)
        return bool(self.values.min() > 0 and high > 100 * low)


def draw_course(ax: Axes, values: Array, log: bool = False) -> None:
    """Plot the values of each chain against the number of the draw."""
    for chain, x in enumerate(values):
        ax.plot(x, color=CYCLE[chain % len(CYCLE)], linewidth=0.5, alpha=0.7, rasterized=True)
    ax.margins(x=0.01)
    spaced(ax)
    if log:
        ax.set_yscale("log")
        _few(ax.yaxis)


def draw_density(ax: Axes, values: Array, log: bool = False) -> None:
    """Plot the density of each chain (of its logarithm, if requested) within the central 99 % of all draws."""
    values = np.log(values) if log else values
    limits = tuple(np.quantile(values, CENTRAL))
    for chain, x in enumerate(values):
        grid, height = density(x, limits)
        ax.plot(np.exp(grid) if log else grid, height, color=CYCLE[chain % len(CYCLE)], linewidth=1)
    spaced(ax)
    if log:
        ax.set_xscale("log")
        _few(ax.xaxis)
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)


def _few(axis: Axis) -> None:
    """Make the axis logarithmic, with few ticks."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(numticks=5))
    axis.set_minor_locator(NullLocator())


def heading(item: Chains) -> str:
    """The title of a panel: the parameter with its R-hat."""
    scale = " (log scale)" if item.log else ""
    return f"{item.name}{scale}     " + (
        f"R-hat {item.r_hat:.3f}" if np.isfinite(item.r_hat) else "does not move"
    )


def trace_figure(items: Sequence[Chains], title: str) -> Figure:
    """A figure with one row per item: the density on the left, the trace on the right."""
    figure, axes = subplots(
        len(items),
        2,
        figsize=(9, 0.9 + 1.25 * len(items)),
        width_ratios=(1, 2),
        layout="constrained",
        squeeze=False,
    )
    for (left, right), item in zip(axes, items, strict=True):
        draw_density(left, item.values, item.log)
        draw_course(right, item.values, item.log)
        left.set_title(wrapped(heading(item), 8.4), loc="left", fontsize=SMALL, pad=8)
    axes[-1, 0].set_xlabel("value (central 99 % of the draws)", fontsize=SMALL)
    axes[-1, 1].set_xlabel("draw", fontsize=SMALL)
    titled(figure, title)
    chain_legend(figure, len(items[0].values))
    return figure


def chain_legend(figure: Figure, chains: int) -> None:
    """Add a legend with the colours of the chains."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=CYCLE[c % len(CYCLE)], label=f"chain {c + 1}")
        for c in range(min(chains, len(CYCLE)))
    ]
    if chains > len(CYCLE):
        handles.append(Line2D([], [], color=GREY, label=f"... {chains} chains, colours repeat"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=SMALL)

"""The prior that a joint prior implies for a conditional model, compared with the FCS prior of the same parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.compatibility.priors import ImpliedPrior
from bayesimp.errors import must_be
from bayesimp.plots._style import BLUE, ORANGE, SMALL, Array, density, panel_grid, spaced, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_implied_prior", "variance_density"]


def plot_implied_prior(prior: ImpliedPrior) -> Figure:
    """Plot the density of each parameter of the conditional model under both priors (Kunkel & Kaizar's figure 2).

    An axis shows the central 90 % of the implied prior (the lower 80 % for a variance); the share beyond is written
    below it. Flat priors have no density to show, and the panel says so.

    Parameters
    ----------
    prior
        From `bayesimp.compatibility.implied_prior`.
    """
    must_be(prior, "ImpliedPrior", "plots.plot_implied_prior")
    names = list(prior.joint)
    columns = min(len(names), 4)
    lines = -(-len(names) // columns)
    figure, axes = panel_grid(len(names), lines, columns, (2.7 * columns, 0.9 + 2.3 * lines))
    for ax, name in zip(axes.flat, names, strict=False):
        _panel(ax, name, prior)
    titled(figure, f"Priors of the conditional model of y{prior.k + 1}, clusters of {prior.n} rows")
    figure.legend(
        *axes.flat[len(names) - 1].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=SMALL,
    )
    return figure


def _panel(ax: Axes, name: str, prior: ImpliedPrior) -> None:
    draws = prior.joint[name], prior.fcs[name]
    low, high = (
        (0.0, np.quantile(draws[0], 0.8)) if "variance" in name else np.quantile(draws[0], [0.05, 0.95])
    )
    names = f"implied by the joint prior '{prior.names[0]}'", f"FCS prior '{prior.names[1]}'"
    beyond = []
    for x, colour, style, what, kind in zip(
        draws, (BLUE, ORANGE), ("-", "--"), names, ("joint", "FCS"), strict=True
    ):
        if x is None:
            ax.plot([], [], style, color=colour, label=what)
            ax.text(
                0.98,
                0.98,
                "FCS: flat",
                transform=ax.transAxes,
                ha="right",
                va="top",
                fontsize=SMALL,
                color=colour,
            )
            continue
        grid, height = variance_density(x, high) if "variance" in name else density(x, (low, high))
        ax.plot(grid, height, style, color=colour, label=what)
        ax.fill_between(grid, height, color=colour, alpha=0.15, linewidth=0)
        beyond.append(f"{((x < low) | (x > high)).mean():.0%} ({kind})")
    spaced(ax)
    ax.set(xlim=(low, high), yticks=[])
    ax.set_ylim(bottom=0, top=1.12 * ax.get_ylim()[1])
    ax.spines["left"].set_visible(False)
    ax.set_title(name, fontsize=SMALL)
    ax.set_xlabel("beyond: " + ", ".join(beyond), fontsize=SMALL)


def variance_density(x: Array, limit: float) -> tuple[Array, Array]:
    """Grid up to `limit` and density of draws of a variance, smoothed on the log scale: zero at zero, long tail."""
    grid, height = density(np.log(x))
    at = np.linspace(0, limit, 402)[1:]
    return at, np.interp(np.log(at), grid, height, left=0.0) / at

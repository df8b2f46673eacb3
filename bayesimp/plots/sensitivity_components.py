"""Prior and posterior of every standard deviation and correlation, by prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.diagnostics.components import Component, components
from bayesimp.errors import must_be
from bayesimp.messages import shortened
from bayesimp.plots._style import BLUE, GREY, ORANGE, SMALL, chosen, density, panel_grid, spaced, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.sensitivity_analysis.result import Sensitivity

__all__ = ["plot_sensitivity_components"]

COLUMNS = 3
TOP = 0.8  # height of a posterior, in units of a line
HIGHEST = 1.05  # height at which a prior is cut off, in the same units


def plot_sensitivity_components(
    result: Sensitivity,
    terms: Sequence[str] | str | None = None,
    *,
    correlations: bool = True,
    at_most: int = 12,
    seed: int = 0,
) -> Figure:
    """Plot a panel for each standard deviation or correlation, with one line of densities for each prior.

    Prior and posterior of a line have the same scale (a far higher prior is cut off), and all posteriors of a panel the
    same height. A posterior that follows its prior from line to line shows the prior, not the data.

    Parameters
    ----------
    result
        From `bayesimp.sensitivity`.
    terms
        Names as in ``result.model["term"]``; all by default.
    correlations
        Whether to show correlations too.
    at_most
        Number of panels. With more terms, those that move most between priors (``change`` of ``result.model``) are
        shown, and the title says so.
    seed
        Seed of the draws from the priors.

    Raises
    ------
    SpecificationError
        If the imputation model does not have a term.
    """
    must_be(result, "Sensitivity", "plot_sensitivity_components")
    import matplotlib.pyplot as plt

    by_prior = {name: components(imp, seed=seed) for name, imp in result.imputations.items()}
    titles = {key.replace("\n", " "): key for found in by_prior.values() for key in found}
    known = list(titles)
    if not correlations:
        known = [key for key in known if key.startswith("sd ")]
    names = chosen(terms, known, "a standard deviation or correlation that is not fixed")
    change = result.model.groupby("term")["change"]
    moves = (change.max() - change.min()).fillna(0.0)
    most = sorted(names, key=lambda name: -moves[name])[:at_most]
    shown = [name for name in names if name in most]
    columns = 2 if len(shown) == 4 else min(len(shown), COLUMNS)
    lines = -(-len(shown) // columns)
    priors = result.priors
    called = dict(zip(priors, shortened(priors), strict=True))
    margin = 0.085 * max(map(len, called.values()))
    width = max(2.9, 0.1 * max(len(line) for name in shown for line in titles[name].splitlines()))
    figure, axes = panel_grid(
        len(shown),
        lines,
        columns,
        (margin + max(width * columns, 4.2), 1.0 + lines * (0.7 + 0.36 * len(priors))),
        sharey=True,
    )
    for ax, name in zip(axes.flat, shown, strict=False):
        _panel(
            ax, {called[prior]: found.get(titles[name]) for prior, found in by_prior.items()}, titles[name]
        )
    title = "Prior and posterior, by prior"
    if len(shown) < len(names):
        title += f": {len(shown)} of {len(names)} quantities, those that move most"
    titled(figure, title, "a posterior that follows its prior shows the prior, not the data")
    handles = [
        plt.Line2D([], [], color=ORANGE, linestyle="--", label="prior"),
        plt.Line2D([], [], color=BLUE, label="posterior"),
        plt.Line2D([], [], color=BLUE, marker="|", linestyle="", label="posterior mean"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def _panel(ax: Axes, found: dict[str, Component | None], name: str) -> None:
    limits = _limits([c for c in found.values() if c is not None])
    for line, c in enumerate(found.values()):
        base = len(found) - 1 - line
        ax.axhline(base, color=GREY, linewidth=0.4, zorder=0)
        if c is None:
            ax.text(0.5, base + 0.1, "fixed", transform=ax.get_yaxis_transform(), fontsize=SMALL, color=GREY)
            continue
        grid, height = density(c.posterior.ravel(), limits)
        unit = TOP / height.max()
        ax.fill_between(grid, base, base + unit * height, color=BLUE, alpha=0.25, linewidth=0)
        ax.plot(grid, base + unit * height, color=BLUE, linewidth=1.1)
        ax.plot(c.posterior.mean(), base + 0.06, "|", color=BLUE, markersize=6, markeredgewidth=1.5)
        grid, height = density(c.prior, limits)
        if len(grid):
            height = np.where(unit * height > HIGHEST, np.nan, unit * height)
            ax.plot(grid, base + height, "--", color=ORANGE, linewidth=1.2)
    spaced(ax)
    ax.set_xlim(*limits)
    ax.set_ylim(-0.15, len(found) - 1 + HIGHEST)
    ax.set_yticks(range(len(found)), list(found)[::-1])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_title(name, loc="left", fontsize=SMALL, fontweight="bold")


def _limits(found: Sequence[Component]) -> tuple[float, float]:
    """Range of the axis: all values of a correlation; for standard deviations, 98 % of the widest posterior, from 0."""
    if found[0].limits is not None:
        return found[0].limits
    return 0.0, float(max(1.05 * np.quantile(c.posterior, 0.98) for c in found))

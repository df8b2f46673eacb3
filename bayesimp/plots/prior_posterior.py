"""How far the data have moved the prior: standard deviations and correlations of Sigma and Psi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.diagnostics.components import Component, components, covariance_names, overlap, view
from bayesimp.errors import must_be
from bayesimp.plots._style import BLUE, ORANGE, SMALL, chosen, density, panel_grid, spaced, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.imputation.result import Imputations

__all__ = ["plot_prior_posterior"]


def plot_prior_posterior(
    imp: Imputations,
    var_names: Sequence[str] | str | None = None,
    *,
    correlations: bool = True,
    at_most: int = 12,
    seed: int = 0,
) -> Figure:
    """Plot prior and posterior of the standard deviations and correlations within and between clusters.

    If the two look alike, the data say little and another prior would give another answer. An improper
    prior (Sigma in `priors.jomo`) has no density to show.

    Parameters
    ----------
    imp
        Imputations.
    var_names
        ``"Sigma"`` (within clusters), ``"Psi"`` (between clusters), or those of conditional models; all by default.
    correlations
        Whether to show correlations too.
    at_most
        Number of panels. If there would be more, the quantities whose posterior is closest to the prior (largest
        overlap of the two densities) are shown, and the title says so.
    seed
        Seed of the draws from the prior.

    Raises
    ------
    SpecificationError
        If a name is not known, the imputations lack the model that they came from, or the covariances are fixed.
    """
    must_be(imp, "Imputations", "plot_prior_posterior")
    names = chosen(var_names, covariance_names(imp), "a covariance matrix")
    quantities = components(imp, names, correlations=correlations, seed=seed)
    chosen(None, list(quantities), "a standard deviation or correlation that is not fixed")
    shown = sorted(quantities, key=lambda name: -np.nan_to_num(overlap(quantities[name])))[:at_most]
    shown = [name for name in quantities if name in shown]
    columns = min(len(shown), 4)
    lines = -(-len(shown) // columns)
    width = max(2.9, 0.09 * max(len(line) for name in shown for line in name.splitlines()))
    figure, axes = panel_grid(len(shown), lines, columns, (max(width * columns, 5), 1.1 + 1.9 * lines))
    for ax, name in zip(axes.flat, shown, strict=False):
        _panel(ax, name, quantities[name])
    title = f"Prior '{imp.tree.attrs['priors_name']}' and the posterior"
    if len(shown) < len(quantities):
        title += f": {len(shown)} of {len(quantities)} quantities, those that the data moved least"
    titled(figure, title, "where the two are alike, the data say little")
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def _panel(ax: Axes, name: str, component: Component) -> None:
    low, high = view(component)
    prior, posterior = component.prior, component.posterior.ravel()
    for x, colour, style, what in ((prior, ORANGE, "--", "prior"), (posterior, BLUE, "-", "posterior")):
        grid, height = density(x, (low, high))
        ax.plot(grid, height, style, color=colour, label=what)
        ax.fill_between(grid, height, color=colour, alpha=0.15, linewidth=0)
    beyond = (prior > high).mean() if len(prior) else 0.0
    spaced(ax)
    ax.set_xlim(low, high)
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_title(name, fontsize=SMALL)
    if len(prior) == 0:
        ax.set_xlabel("the prior is improper", fontsize=SMALL)
    if beyond >= 0.005:
        ax.set_xlabel(f"{beyond:.0%} of the prior lies beyond", fontsize=SMALL)

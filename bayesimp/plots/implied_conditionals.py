"""How the conditional model that a joint model implies changes with the size of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayesimp.arguments import numbers, pair, whole
from bayesimp.compatibility.implied import implied_conditional
from bayesimp.compatibility.published import kunkel_kaizar
from bayesimp.errors import SpecificationError
from bayesimp.plots._style import SMALL, spaced, subplots, titled, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_implied_conditionals"]

CORRELATIONS = (-0.9, -0.5, 0.0, 0.5, 0.7, 0.9)


def plot_implied_conditionals(
    Sigma: ArrayLike | None = None,
    variances: ArrayLike | None = None,
    correlations: Sequence[float] = CORRELATIONS,
    sizes: tuple[int, int] = (1, 150),
    names: tuple[str, str] = ("y1", "y2"),
) -> Figure:
    """Plot the conditional model of the first variable: its slopes on the cluster sum and the cluster mean of the second
    variable, and the variance of its intercept.

    There is one curve for each correlation between clusters; under a homogeneous conditional model all are flat. Without
    arguments this is Kunkel & Kaizar's figure 1, with the slope on the mean added.

    Parameters
    ----------
    Sigma
        (2, 2) covariance within clusters.
    variances
        (2,) variances of the random intercepts.
    correlations
        Correlations of the random intercepts.
    sizes
        Smallest and largest number of rows in a cluster.
    names
        Names of the variables, for the axes.

    Raises
    ------
    SpecificationError
        If correlations are outside (-1, 1), or there are not two variables.
    """
    import matplotlib.pyplot as plt

    published = kunkel_kaizar()
    S = numbers(published[0] if Sigma is None else Sigma, "Sigma", (2, 2))
    variances = numbers(np.diag(published[1]) if variances is None else variances, "variances", (2,))
    correlations = numbers(correlations, "correlations", ("any",)).tolist()
    if not correlations or not all(-1 < rho < 1 for rho in correlations) or (variances < 0).any():
        raise SpecificationError("Give correlations between -1 and 1, and variances of at least 0.")
    if not (np.diag(S) > 0).all():
        raise SpecificationError("Sigma must have positive variances.")
    sd = np.sqrt(variances)
    least, most = (whole(size, "sizes, of clusters,") for size in pair(sizes, "sizes"))
    names = pair(names, "names")
    if least >= most:
        raise SpecificationError(f"sizes must be the smallest and the largest number of rows, got {sizes}.")
    within = S[0, 1] / np.sqrt(S[0, 0] * S[1, 1])
    nearest = min(correlations, key=lambda rho: abs(rho - within))
    n = np.arange(least, most + 1)
    figure, axes = subplots(1, 3, figsize=(10, 3.9), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.92, len(correlations)))
    for rho, colour in sorted(zip(correlations, map(tuple, colours), strict=True), reverse=True):
        c = implied_conditional(S, np.outer(sd, sd) * np.array([[1, rho], [rho, 1]]), 0, n=n)
        curves = (c.contextual, c.contextual_on_means(), c.effect_covariance)
        for ax, values in zip(axes, curves, strict=True):
            style = "--" if rho == nearest else "-"
            ax.plot(n, values.ravel(), style, color=colour, linewidth=1.8, label=f"{rho:g}".replace("-", "−"))
    titles = (
        f"slope on the sum of {names[1]} over the cluster",
        f"slope on the cluster mean of {names[1]}",
        f"variance of the intercept of {names[0]}",
    )
    for ax, title in zip(axes, titles, strict=True):
        spaced(ax)
        ax.set_title(wrapped(title, 2.4), fontsize=SMALL)
        ax.set_xlabel("rows in the cluster", fontsize=SMALL)
        ax.set_xlim(0, most)
    for ax in axes[:2]:
        ax.axhline(0, color="black", linewidth=0.6, zorder=0)
    axes[2].set_ylim(bottom=0)
    titled(figure, f"The model of {names[0]} given {names[1]} that the joint model implies")
    legend = figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=SMALL,
        title=f"correlation\nbetween clusters\n(within: {within:.2f})", title_fontsize=SMALL,
    )  # fmt: skip
    legend.get_title().set_multialignment("left")
    return figure

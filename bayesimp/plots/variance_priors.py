"""The bulk and the tails of several priors on one variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayesimp import priors as pr
from bayesimp.arguments import number
from bayesimp.compatibility.priors import EFFECT, ImpliedPrior
from bayesimp.errors import SpecificationError, must_be
from bayesimp.plots._style import BLACK, CYCLE, SMALL, legend_below, spaced, subplots, titled
from bayesimp.plots.implied_prior import variance_density
from bayesimp.priors.draws import draw_covariance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_variance_priors"]

DRAWS = 50_000


def plot_variance_priors(
    priors: Mapping[str, pr.CovariancePrior] | None = None,
    *,
    implied: ImpliedPrior | None = None,
    limit: float = 4.0,
    sd: float = 1.0,
) -> Figure:
    """Plot the density of each prior on a variance, and how much of it lies beyond any value.

    Without arguments, these are the three priors of Kunkel & Kaizar's figure 4: IW(1, 1), IW(1.6, 1), IW(5, 1).

    Parameters
    ----------
    priors
        Label -> prior of a covariance matrix, taken in one dimension.
    implied
        The prior that a joint prior implies on the variance of the intercept in a conditional model, shown in grey.
    limit
        Upper end of the axis of the densities.
    sd
        Standard deviation of the variable, for priors in multiples of it.

    Raises
    ------
    SpecificationError
        If a prior is improper.
    """
    limit, sd = number(limit, "limit", low=0), number(sd, "sd", low=0)
    if priors is not None and not (
        isinstance(priors, Mapping)
        and all(isinstance(prior, pr.CovariancePrior) for prior in priors.values())
    ):
        raise SpecificationError(
            f"priors must be {{label: prior of a covariance matrix}}, as in {{'IW': priors.InverseWishart(1, 1)}}, got "
            f"{priors!r}."
        )
    if implied is not None:
        must_be(implied, "ImpliedPrior", "plots.plot_variance_priors")
    chosen = priors or {f"IW({nu:g}, 1)": pr.InverseWishart(nu, 1.0) for nu in (1.0, 1.6, 5.0)}
    figure, (left, right) = subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    far = np.geomspace(limit / 100, 1000 * limit, 200)
    if implied is not None:
        x = implied.joint[EFFECT]
        left.fill_between(
            *variance_density(x, limit), color="0.85", label=f"implied by joint '{implied.names[0]}'"
        )
        right.fill_between(far, _beyond(x, far), color="0.85")
    for (name, prior), colour, style in zip(chosen.items(), CYCLE, _styles(), strict=False):
        (grid, height), tail = _curves(pr.resolve(prior, [sd], name), limit, far)
        left.plot(grid, height, style, color=colour, label=name)
        right.plot(far, tail, style, color=colour)
    for ax in (left, right):
        spaced(ax)
        ax.set_xlabel("variance", fontsize=SMALL)
    left.set(xlim=(0, limit), ylim=(0, None))
    left.set_title("density", fontsize=SMALL)
    right.set_xscale("log")
    right.set(xlim=(far[0], far[-1]), ylim=(0, 1))
    right.set_title("share of the prior beyond the variance", fontsize=SMALL)
    right.axvline(limit, color=BLACK, linewidth=0.6, linestyle=":")
    titled(figure, "Priors of a variance between clusters: density, and how much lies beyond each value")
    handles, labels = left.get_legend_handles_labels()
    legend_below(figure, handles, labels)
    return figure


def _styles() -> list[str]:
    return ["-", "--", "-.", ":", "-", "--", "-."]


def _curves(
    prior: pr.CovariancePrior, limit: float, far: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Density on a grid up to `limit` and share beyond `far`: exact if the distribution is known, else from draws."""
    law = prior.variance_law()
    if law is not None:
        grid = np.linspace(0, limit, 801)[1:]
        return (grid, law.pdf(grid)), law.sf(far)
    x = draw_covariance(np.random.default_rng(0), prior, 1, DRAWS)[:, 0, 0]
    return variance_density(x, limit), _beyond(x, far)


def _beyond(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    return 1 - np.searchsorted(np.sort(x), values) / len(x)

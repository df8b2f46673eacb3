"""Draws of the prior on a conditional model's parameters that a joint prior implies (Kunkel & Kaizar 2017, 3.3).

    (Sigma, Psi) ~ joint prior   ->   (w, C, s, T) of variable k for clusters of n rows   (`implied`)

is compared with the prior of the same parameters in fully conditional specification. For Sigma, Psi ~ IW(2, I) and r =
2, s ~ IW(2, 1) and w ~ t_2 / sqrt(2); T tends to IW(2, 1) as n grows, and at n = 30 it is close to the IW(1.6, 1) that
Kunkel & Kaizar give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp import priors as pr
from bayesimp.arguments import generator, numbers, whole
from bayesimp.compatibility.implied import implied_conditional
from bayesimp.errors import SpecificationError
from bayesimp.layout import Record
from bayesimp.priors.draws import draw_covariance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImpliedPrior", "implied_prior"]

Array = NDArray[np.float64]
WITHIN, CONTEXTUAL = "slope on the row value", "slope on the cluster sum"
RESIDUAL, EFFECT = "residual variance", "intercept variance"


@dataclass(frozen=True)
class ImpliedPrior(Record):
    """Draws of the parameters of a conditional model under two priors.

    Attributes
    ----------
    joint
        Parameter -> draws (draws,) implied by the joint prior. Parameters: "slope on the row value", "slope on the
        cluster sum" (with " of y3" if there are more than two variables), "residual variance", "intercept variance".
    fcs
        Parameter -> draws (draws,) from its FCS prior; None if that is flat.
    Sigma, Psi
        (draws, r, r) the draws from which `joint` is computed.
    k, n
        The variable, and the number of rows of the cluster.
    names
        Names of the joint and the FCS prior.
    """

    joint: dict[str, Array]
    fcs: dict[str, Array | None]
    Sigma: Array
    Psi: Array
    k: int
    n: int
    names: tuple[str, str]

    def plot(self) -> Figure:
        """See `bayesimp.plots.plot_implied_prior`."""
        from bayesimp.plots.implied_prior import plot_implied_prior

        return plot_implied_prior(self)


def implied_prior(
    joint: pr.Priors | None = None,
    fcs: pr.Priors | None = None,
    *,
    n: int = 30,
    r: int = 2,
    k: int = 1,
    sds: ArrayLike = 1.0,
    draws: int = 100_000,
    seed: int = 0,
) -> ImpliedPrior:
    """Compare what a joint prior implies for the conditional model of variable k with an FCS prior (random intercepts).

    Parameters
    ----------
    joint
        Prior of the joint model of r variables; default `priors.pan()`, IW(r, I) for Sigma and Psi.
    fcs
        Prior of the conditional model of one variable; default `priors.mice()`: IW(1, 1), flat slopes.
    n
        Number of rows of the cluster.
    r, k
        Number of variables, and the one modelled given the others, 0 .. r-1.
    sds
        Number or (r,): standard deviations of the variables, for priors in multiples of them.
    draws, seed
        Number of draws from the priors, and their seed.

    Raises
    ------
    SpecificationError
        The joint prior is improper, so there is nothing to draw from, or a prior does not fit r variables.
    """
    joint, fcs = (pr.pan() if joint is None else pr.read(joint)), (pr.mice() if fcs is None else pr.read(fcs))
    r, n, draws, rng = whole(r, "r", 2), whole(n, "n"), whole(draws, "draws"), generator(seed)
    k = whole(k, "k, the position of a variable,", 0, r - 1)
    given = numbers(sds, "sds")
    sds = np.broadcast_to(numbers(given, "sds", (r,)) if given.ndim else given, (r,))
    if not (sds > 0).all():
        raise SpecificationError(f"sds must be positive, got {sds.tolist()}.")
    Sigma, Psi = (_draw(rng, getattr(joint, name), sds, name, draws) for name in ("Sigma", "Psi"))
    c = implied_conditional(Sigma, Psi, k, n=n)
    others = [""] if r == 2 else [f" of y{j + 1}" for j in range(r) if j != k]
    of_joint = {WITHIN + name: c.within[:, j] for j, name in enumerate(others)}
    of_joint |= {CONTEXTUAL + name: c.contextual[:, 0, j, 0] for j, name in enumerate(others)}
    of_joint |= {RESIDUAL: c.residual_variance, EFFECT: c.effect_covariance[:, 0, 0]}
    of_fcs: dict[str, Array | None] = {name: _slope(rng, fcs.beta, draws) for name in of_joint}
    for name, matrix in ((RESIDUAL, "Sigma"), (EFFECT, "Psi")):
        of_fcs[name] = _draw(rng, getattr(fcs, matrix), sds[k : k + 1], matrix, draws)[:, 0, 0]
    return ImpliedPrior(of_joint, of_fcs, Sigma, Psi, k, n, (joint.name, fcs.name))


def _draw(
    rng: np.random.Generator, prior: pr.CovariancePrior, sds: Sequence[float] | Array, where: str, draws: int
) -> Array:
    return draw_covariance(rng, pr.resolve(prior, sds, where), len(sds), draws)


def _slope(rng: np.random.Generator, prior: pr.CoefficientPrior, draws: int) -> Array | None:
    """Draws of a slope; None if it is flat."""
    if prior.in_predictor_units:
        name = type(prior).__name__
        raise SpecificationError(
            f"Priors of FCS slopes: {name}() is for generalised models; give Normal(mean, sd) here."
        )
    try:
        return prior.draw(rng, (), draws)
    except ValueError:
        raise SpecificationError(
            "Normal prior of FCS slopes: give one mean and one sd for all slopes here."
        ) from None

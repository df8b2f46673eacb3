"""Draws from priors on covariance matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.priors.base import CovariancePrior
from bayesimp.priors.scales import ScalePrior

__all__ = ["draw_correlation_lkj", "draw_covariance", "draw_sd", "is_proper"]

Array = NDArray[np.float64]


def draw_covariance(rng: np.random.Generator, prior: CovariancePrior, d: int, size: int) -> Array:
    """(size, d, d) draws from a resolved prior (see `priors.resolve`, `priors.centred`).

    Raises
    ------
    SpecificationError
        The prior is improper.
    """
    if not prior.is_proper(d):
        raise SpecificationError(f"An improper prior cannot be drawn from: {prior!r}.")
    return prior.draw(rng, d, size)


def is_proper(prior: CovariancePrior, d: int) -> bool:
    """Whether a resolved prior of a (d, d) matrix is proper, so that it can be drawn from."""
    return prior.is_proper(d)


def draw_sd(rng: np.random.Generator, prior: ScalePrior, d: int, size: int) -> Array:
    """(size, d) standard deviations from a resolved prior."""
    return prior.draw_sd(rng, d, size)


def draw_correlation_lkj(rng: np.random.Generator, eta: float, d: int, size: int) -> Array:
    """(size, d, d) correlation matrices R with density proportional to det(R)^(eta - 1)."""
    from bayesimp.kernels.covariance.draws import draw_lkj_correlation

    return draw_lkj_correlation(rng, eta, d, (size,))

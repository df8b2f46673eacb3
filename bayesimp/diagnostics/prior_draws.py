"""Draws from the priors on covariance matrices (`bayesimp.priors`), to compare with the posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.kernels.covariance.density import draw_inverse_wishart
from bayesimp.priors.centred import Centred

__all__ = [
    "WithPriors",
    "draw_correlation_lkj",
    "draw_covariance",
    "draw_sd",
    "is_proper",
    "prior_group",
]

Array = NDArray[np.float64]


class WithPriors(Protocol):
    """An imputation model that knows the priors of its parameters, on the scale of the data."""

    @property
    def parameter_priors(self) -> Mapping[str, pr.CovariancePrior | Centred | pr.Flat | pr.Normal]: ...


def prior_group(
    model: WithPriors, posterior: xr.Dataset, size: int, seed: int
) -> tuple[xr.Dataset, list[Event]]:
    """Draws of every parameter from its prior, with the dims of `posterior` (1 chain, `size` draws).

    Returns
    -------
    Dataset, and an event "no prior draws" for each parameter that has none: an improper prior (flat beta), or
    one that the model does not know.
    """
    rng = np.random.default_rng(seed)
    draws, events = {}, []
    for name, array in posterior.data_vars.items():
        prior, shape = model.parameter_priors.get(str(name)), array.shape[2:]
        d = shape[0] if shape else 1
        x: Array | None
        match prior:
            case pr.Normal():
                x = np.asarray(prior.mean) + np.asarray(prior.sd) * rng.standard_normal((size, *shape))
            case None | pr.Flat():
                x = None
            case _:
                x = draw_covariance(rng, prior, d, size) if is_proper(prior, d) else None
        if x is None:
            why = "the model does not give its prior" if prior is None else "its prior is improper"
            events.append(Event("no prior draws", str(name), f"{why}: there is nothing to draw from"))
        else:
            draws[name] = (array.dims, x.reshape(1, size, *shape))
    coords = {name: c for name, c in posterior.coords.items() if not {"chain", "draw"} & set(c.dims)}
    return xr.Dataset(draws, coords={**coords, "chain": [0], "draw": np.arange(size)}), events


def draw_covariance(
    rng: np.random.Generator, prior: pr.CovariancePrior | Centred, d: int, size: int
) -> Array:
    """(size, d, d) draws from a resolved prior (see `priors.resolve`, `priors.centred`).

    Raises
    ------
    SpecificationError
        The prior is improper.
    """
    if not is_proper(prior, d):
        raise SpecificationError(f"There is nothing to draw from an improper prior: {prior!r}.")
    match prior:
        case Centred(inner, C):
            return C @ draw_covariance(rng, inner, d, size) @ C.T
        case pr.InverseWishart():
            return draw_inverse_wishart(rng, prior.nu, np.linalg.inv(np.asarray(prior.V)), (size,))
        case pr.HuangWand():
            # 1/a_k ~ Gamma(1/2, rate 1/scale_k^2); S = diag(c) W diag(c), c_k^2 = 2 nu/a_k, W ~ IW(nu+d-1, I)
            inverse_a = rng.gamma(0.5, 1.0, (size, d)) * np.asarray(prior.scale) ** 2
            c = np.sqrt(2 * prior.nu * inverse_a)
            W = draw_inverse_wishart(rng, prior.nu + d - 1, np.eye(d), (size,))
            return c[:, :, None] * W * c[:, None, :]
        case pr.LKJ():
            s = draw_sd(rng, prior.sd, d, size)
            return s[:, :, None] * draw_correlation_lkj(rng, prior.eta, d, size) * s[:, None, :]
        case pr.Diagonal(variances=pr.InverseWishart() as inner):
            assert inner.nu is not None  # resolved
            variances = 1 / (rng.gamma(inner.nu / 2, 1.0, (size, d)) * 2 * np.asarray(inner.V))
            return variances[:, :, None] * np.eye(d)
        case pr.Diagonal(variances=inner):
            return draw_sd(rng, inner, d, size)[:, :, None] ** 2 * np.eye(d)
        case pr.Fixed():
            return np.broadcast_to(np.asarray(prior.value, dtype=float), (size, d, d)).copy()
    raise TypeError(prior)


def is_proper(prior: pr.CovariancePrior | Centred, d: int) -> bool:
    """Whether a resolved prior is a distribution, so that it can be drawn from."""
    prior = prior.prior if isinstance(prior, Centred) else prior
    return not isinstance(prior, pr.InverseWishart) or (prior.nu is not None and prior.nu > d - 1)


def draw_sd(rng: np.random.Generator, prior, d: int, size: int) -> Array:
    """(size, d) standard deviations."""
    match prior:
        case pr.HalfT():
            unit = np.abs(rng.standard_t(prior.nu, (size, d)))
        case pr.HalfNormal():
            unit = np.abs(rng.standard_normal((size, d)))
        case pr.Exponential():
            unit = rng.standard_exponential((size, d))
        case _:
            raise TypeError(prior)
    return unit * np.asarray(prior.scale)


def draw_correlation_lkj(rng: np.random.Generator, eta: float, d: int, size: int) -> Array:
    """(size, d, d) correlation matrices, density proportional to det(R)^(eta - 1).

    Partial correlation of j and k given 1..j-1 ~ 2 Beta(b, b) - 1, b = eta + (d - 1 - j) / 2 (j from 1): the
    C-vine of Lewandowski, Kurowicka & Joe (2009, sec. 2.4), here row by row of the Cholesky factor.
    """
    L = np.zeros((size, d, d))
    left = np.ones((size, d))  # the remainder of each row's sum of squares
    for j in range(d):
        b = eta + (d - 2 - j) / 2
        L[:, j, j] = np.sqrt(left[:, j])
        if j < d - 1:
            partial = 2 * rng.beta(b, b, (size, d - 1 - j)) - 1
            L[:, j + 1 :, j] = partial * np.sqrt(left[:, j + 1 :])
            left[:, j + 1 :] *= 1 - partial**2
    return L @ L.swapaxes(1, 2)

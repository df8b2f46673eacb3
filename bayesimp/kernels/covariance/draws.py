"""Exact draws from the distributions of a covariance matrix whose densities are in kernels/covariance/density.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bayesimp.kernels.covariance.density import HALF_NORMAL, HALF_T
from bayesimp.notation import Array

__all__ = [
    "draw_huang_wand", "draw_inverse_wishart", "draw_lkj_correlation", "draw_lkj_covariance", "draw_standard_deviations",
]  # fmt: skip


def draw_inverse_wishart(
    rng: np.random.Generator, nu: ArrayLike, scale: ArrayLike, size: tuple[int, ...] | None = None
) -> Array:
    """(\\*size, d, d) draws by Bartlett's decomposition, for `nu` (...) and `scale` (..., d, d)."""
    nu, scale = np.asarray(nu, dtype=float), np.asarray(scale, dtype=float)
    d = scale.shape[-1]
    shape = _batch(size, nu.shape, scale.shape[:-2])
    A = np.tril(rng.normal(size=(*shape, d, d)), -1)
    A[..., range(d), range(d)] = np.sqrt(rng.chisquare(nu[..., None] - np.arange(d), size=(*shape, d)))
    F = np.linalg.solve(A, np.broadcast_to(np.linalg.cholesky(scale).mT, A.shape))  # S = F'F
    return F.mT @ F


def draw_huang_wand(
    rng: np.random.Generator, nu: ArrayLike, scale: ArrayLike, size: tuple[int, ...] | None = None
) -> Array:
    """(\\*size, d, d) draws by the prior's hierarchy, for `nu` (...) and `scale` (..., d)."""
    nu, scale = np.asarray(nu, dtype=float), np.asarray(scale, dtype=float)
    d = scale.shape[-1]
    shape = _batch(size, nu.shape, scale.shape[:-1])
    diagonal = np.zeros((*shape, d, d))  # 2 nu / a_k, 1 / a_k ~ Gamma(1/2, rate 1 / scale_k^2)
    diagonal[..., range(d), range(d)] = 2 * nu[..., None] * rng.gamma(0.5, size=(*shape, d)) * scale**2
    return draw_inverse_wishart(rng, nu + d - 1, diagonal, shape)


def draw_standard_deviations(
    rng: np.random.Generator,
    scale: ArrayLike,
    nu: ArrayLike,
    family: int,
    size: tuple[int, ...] | None = None,
) -> Array:
    """(\\*size, d) standard deviations drawn from `family`, for `scale` (..., d) and `nu` (...)."""
    scale, nu = np.asarray(scale, dtype=float), np.asarray(nu, dtype=float)
    shape = (*_batch(size, scale.shape[:-1], nu.shape), scale.shape[-1])
    if family == HALF_T:
        return scale * np.abs(rng.standard_t(nu[..., None], size=shape))
    if family == HALF_NORMAL:
        return scale * np.abs(rng.standard_normal(size=shape))
    return scale * rng.standard_exponential(size=shape)


def draw_lkj_correlation(rng: np.random.Generator, eta: ArrayLike, d: int, size: tuple[int, ...]) -> Array:
    """(\\*size, d, d) correlation matrices with density proportional to det(R)^(eta - 1); `eta` (...).

    The partial correlation of j and k given 1..j-1 ~ 2 Beta(b, b) - 1, b = eta + (d - 1 - j) / 2 (j from 1): the C-vine
    of Lewandowski, Kurowicka & Joe (2009, sec. 2.4), row by row of the Cholesky factor.
    """
    shape = tuple(int(n) for n in size)
    L, left = (
        np.zeros((*shape, d, d)),
        np.ones((*shape, d)),
    )  # left: what remains of each row's sum of squares
    for j in range(d):
        b = (np.asarray(eta, dtype=float) + (d - 2 - j) / 2)[..., None]
        L[..., j, j] = np.sqrt(left[..., j])
        if j < d - 1:
            partial = 2 * rng.beta(b, b, (*shape, d - 1 - j)) - 1
            L[..., j + 1 :, j] = partial * np.sqrt(left[..., j + 1 :])
            left[..., j + 1 :] *= 1 - partial**2
    return L @ L.mT


def draw_lkj_covariance(
    rng: np.random.Generator,
    eta: ArrayLike,
    scale: ArrayLike,
    nu: ArrayLike,
    family: int,
    size: tuple[int, ...] | None = None,
) -> Array:
    """(\\*size, d, d) draws of diag(s) R diag(s) with R ~ LKJ(eta), for `eta`, `nu` (...) and `scale` (..., d)."""
    eta, scale, nu = (np.asarray(x, dtype=float) for x in (eta, scale, nu))
    shape = _batch(size, eta.shape, scale.shape[:-1], nu.shape)
    s = draw_standard_deviations(rng, scale, nu, family, shape)
    return s[..., :, None] * draw_lkj_correlation(rng, eta, scale.shape[-1], shape) * s[..., None, :]


def _batch(size: tuple[int, ...] | None, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    return np.broadcast_shapes(*shapes) if size is None else tuple(int(n) for n in size)

"""A covariance matrix S given n vectors with cross product T, under conditionally conjugate priors.

    INVERSE_WISHART          S | x ~ IW(nu + n, scale + T)
    HUANG_WAND               S | a, x ~ IW(nu + d - 1 + n, 2 nu diag(1/a) + T),  a_k ~ IG(1/2, 1/sd_k^2), so
                             a_k | S ~ IG((nu + d)/2, nu (S^-1)_kk + 1/sd_k^2)      Huang & Wand 2013, sec. 4.1
    DIAGONAL_HALF_T          the same, with d = 1 for every variance; no correlations
    DIAGONAL_INVERSE_GAMMA   S_kk | x ~ IG((nu + n)/2, (scale_kk + T_kk)/2); no correlations
    FIXED                    S is known

A prior's `update` (`bayesimp.priors`) says which of these applies, and with which numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import draw_inverse_wishart
from bayesimp.kernels.linalg import cholesky, copy_to, inverse_from_cholesky
from bayesimp.notation import Integer, Matrix

__all__ = [
    "DIAGONAL_HALF_T",
    "DIAGONAL_INVERSE_GAMMA",
    "FIXED",
    "HUANG_WAND",
    "INVERSE_WISHART",
    "CovarianceUpdate",
    "invert",
    "update_covariance",
]

INVERSE_WISHART, HUANG_WAND, DIAGONAL_HALF_T, DIAGONAL_INVERSE_GAMMA, FIXED = range(5)


class CovarianceUpdate(NamedTuple):
    """Prior of a covariance matrix (d, d), in the form that kernels read.

    Attributes
    ----------
    kind
        One of the codes in the module docstring.
    nu
        Degrees of freedom.
    scale
        (d, d): scale of an inverse-Wishart prior as in SciPy, V^-1; DIAGONAL_INVERSE_GAMMA reads its diagonal.
    sd
        (d,): scales of the half-t priors of HUANG_WAND and DIAGONAL_HALF_T.
    """

    kind: int
    nu: float
    scale: np.ndarray
    sd: np.ndarray


@inner
def update_covariance(
    rng: np.random.Generator, prior: CovarianceUpdate, S: Matrix, n: Integer, inverse: Matrix, out: Matrix
) -> bool:
    """out ~ p(covariance | n vectors with cross product S); out holds the current value, inverse its inverse.

    Returns False if the scale of the draw is not positive definite.
    """
    d = S.shape[0]
    if prior.kind == FIXED:
        return True
    if prior.kind == INVERSE_WISHART:
        T = np.empty((d, d))
        for k in range(d):
            for j in range(d):
                T[k, j] = prior.scale[k, j] + S[k, j]
        return draw_inverse_wishart(rng, prior.nu + n, T, out, d)
    if prior.kind == HUANG_WAND:
        T = np.empty((d, d))
        copy_to(T, S)
        for k in range(d):
            rate = prior.nu * inverse[k, k] + 1.0 / prior.sd[k] ** 2
            one_over_a = rng.standard_gamma(0.5 * (prior.nu + d)) / rate
            T[k, k] += 2.0 * prior.nu * one_over_a
        return draw_inverse_wishart(rng, prior.nu + d - 1.0 + n, T, out, d)
    for k in range(d):
        scale = S[k, k]
        if prior.kind == DIAGONAL_HALF_T:
            rate = prior.nu * inverse[k, k] + 1.0 / prior.sd[k] ** 2
            scale += 2.0 * prior.nu * rng.standard_gamma(0.5 * (prior.nu + 1.0)) / rate
        else:
            scale += prior.scale[k, k]
        out[k, k] = 0.5 * scale / rng.standard_gamma(0.5 * (prior.nu + n))
    return True


@inner
def invert(S: Matrix, out: Matrix) -> bool:
    """out <- S^-1; returns False if S is not positive definite."""
    L = np.empty(S.shape)
    copy_to(L, S)
    if not cholesky(L, S.shape[0]):
        return False
    inverse_from_cholesky(L, out, S.shape[0])
    return True

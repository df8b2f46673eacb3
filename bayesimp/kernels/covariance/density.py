"""Distributions of a covariance matrix S (d x d): density and gradient.

With K = S^-1, s_k = S_kk^1/2 and log Gamma_d the multivariate gamma function, log p(S) is

    inverse_wishart(nu, scale)    nu/2 log|scale| - nu d/2 log 2 - log Gamma_d(nu/2)
                                  - (nu+d+1)/2 log|S| - 1/2 tr(scale K)
    huang_wand(nu, scale)         (nu+d-1) d/2 log nu - log Gamma_d((nu+d-1)/2)
                                  + sum_k [log Gamma((nu+d)/2) - 1/2 log pi - log scale_k]
                                  - (nu+2d)/2 log|S| - (nu+d)/2 sum_k log(nu K_kk + 1/scale_k^2)
    lkj(eta, scale)               sum_k [log p_sd(s_k / scale_k) - log scale_k] - d log 2 - d sum_k log s_k
                                  + log c(eta) + (eta-1) (log|S| - 2 sum_k log s_k)
    diagonal(scale)               sum_k [log p_sd(s_k / scale_k) - log scale_k], density of s_1..s_d, or of
                                  s_k^2 ~ InvGamma(nu/2, scale_k)

The second is the integral over a of S | a ~ IW(nu+d-1, 2 nu diag(1/a)), a_k ~ InvGamma(1/2, 1/scale_k^2)
(Huang & Wand 2013, eq. 2): each a_k integrates to a gamma function. In the third, 2^d prod_k s_k^d is the
Jacobian of (s, R) -> S, and c(eta) is the constant of Lewandowski, Kurowicka & Joe 2009, theorem 5.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.inverse import symmetric_inverse
from bayesimp.notation import Matrix, Vector

__all__ = [
    "EXPONENTIAL", "HALF_NORMAL", "HALF_T", "INVERSE_GAMMA", "diagonal", "huang_wand", "inverse_wishart", "lkj",
    "sandwich",
]  # fmt: skip

HALF_T, HALF_NORMAL, EXPONENTIAL = 0, 1, 2  # p_sd of lkj and diagonal
INVERSE_GAMMA = 3  # for diagonal only: a prior on variances


@kernel(nogil=True)
def inverse_wishart(S: Matrix, nu: float, scale: Matrix) -> tuple[float, Matrix]:
    """(log p(S), dS); `nu` a number, `scale` (d, d), as in ``scipy.stats.invwishart(nu, scale)``."""
    d = len(S)
    K, logdet = symmetric_inverse(S)
    trace = 0.0
    for i in range(d):
        for j in range(d):
            trace += scale[i, j] * K[i, j]
    constant = 0.5 * nu * (symmetric_inverse(scale)[1] - d * math.log(2)) - _log_gamma_d(0.5 * nu, d)
    dS = sandwich(K, scale)
    _combine(0.5, dS, -0.5 * (nu + d + 1), K)
    return constant - 0.5 * (nu + d + 1) * logdet - 0.5 * trace, dS


@kernel(nogil=True)
def huang_wand(S: Matrix, nu: float, scale: Vector) -> tuple[float, Matrix]:
    """(log p(S), dS); `nu` a number, `scale` (d,)."""
    d = len(S)
    K, logdet = symmetric_inverse(S)
    n = nu + d - 1
    value = 0.5 * n * d * math.log(nu) - _log_gamma_d(0.5 * n, d)
    value += d * (math.lgamma(0.5 * (nu + d)) - 0.5 * math.log(math.pi))
    middle = np.zeros((d, d))
    for k in range(d):
        c = nu * K[k, k] + scale[k] ** -2
        middle[k, k] = nu / c
        value -= math.log(scale[k]) + 0.5 * (nu + d) * math.log(c)
    dS = sandwich(K, middle)
    _combine(0.5 * (nu + d), dS, -0.5 * (nu + 2 * d), K)
    return value - 0.5 * (nu + 2 * d) * logdet, dS


@kernel(nogil=True)
def lkj(S: Matrix, eta: float, scale: Vector, nu: float, family: int) -> tuple[float, Matrix]:
    """(log p(S), dS); `scale` (d,); `family` HALF_T (`nu` df), HALF_NORMAL or EXPONENTIAL."""
    d = len(S)
    K, logdet = symmetric_inverse(S)
    value = (d - 1) * math.lgamma(eta + 0.5 * (d - 1)) - 0.25 * d * (d - 1) * math.log(math.pi)
    for k in range(1, d):
        value -= math.lgamma(eta + 0.5 * (d - 1 - k))
    dS = np.zeros((d, d))
    _combine(0.0, dS, eta - 1, K)
    for k in range(d):
        s = math.sqrt(S[k, k])
        log_p, slope = _log_sd(s / scale[k], nu, family)
        value += log_p - math.log(scale[k]) - math.log(2) - (d + 2 * (eta - 1)) * math.log(s)
        dS[k, k] += (slope / scale[k] - (d + 2 * (eta - 1)) / s) / (2 * s)
    return value + (eta - 1) * logdet, dS


@kernel(nogil=True)
def diagonal(free: Vector, nu: float, scale: Vector, family: int) -> tuple[Matrix, float, Vector]:
    """(S, log p, dlog p) of a diagonal S on the free scale, Jacobian included.

    `free` (d,) is log s_k, or log s_k^2 with INVERSE_GAMMA; `nu`, `scale` (d,), `family` are as in `lkj`.
    """
    d = len(free)
    S, value, slopes = np.zeros((d, d)), 0.0, np.zeros(d)
    for k in range(d):
        if family == INVERSE_GAMMA:
            S[k, k] = math.exp(free[k])
            x = scale[k] / S[k, k]
            value += 0.5 * nu * math.log(scale[k]) - math.lgamma(0.5 * nu) - 0.5 * nu * free[k] - x
            slopes[k] = x - 0.5 * nu
        else:
            x = math.exp(free[k]) / scale[k]
            log_p, slope = _log_sd(x, nu, family)
            S[k, k] = (x * scale[k]) ** 2
            value += log_p - math.log(scale[k]) + free[k]
            slopes[k] = slope * x + 1
    return S, value, slopes


@inner
def _log_sd(x: float, nu: float, family: int) -> tuple[float, float]:
    """Log density of a standard deviation, x, in units of its scale, and its derivative."""
    if family == HALF_T:
        constant = math.lgamma(0.5 * (nu + 1)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * nu)
        value = math.log(2) + constant - 0.5 * (nu + 1) * math.log1p(x * x / nu)
        return value, -(nu + 1) * x / (nu + x * x)
    if family == HALF_NORMAL:
        return 0.5 * math.log(2 / math.pi) - 0.5 * x * x, -x
    return -x, -1.0


@inner
def _log_gamma_d(x: float, d: int) -> float:
    value = 0.25 * d * (d - 1) * math.log(math.pi)
    for k in range(d):
        value += math.lgamma(x - 0.5 * k)
    return value


@inner
def _combine(a: float, A: Matrix, b: float, B: Matrix) -> None:
    """A <- a A + b B, as a loop, because array expressions take seconds to compile."""
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            A[i, j] = a * A[i, j] + b * B[i, j]


@inner
def sandwich(A: Matrix, B: Matrix) -> Matrix:
    """A B A for symmetric A."""
    d = len(A)
    AB, out = np.zeros((d, d)), np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            for k in range(d):
                AB[i, j] += A[i, k] * B[k, j]
    for i in range(d):
        for j in range(d):
            for k in range(d):
                out[i, j] += AB[i, k] * A[k, j]
    return out

"""Distributions of a covariance matrix S (d x d): density and gradient, exact draws, free parameters.

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
(Huang & Wand 2013, eq. 2): each a_k integrates to a gamma function. In the third 2^d prod_k s_k^d is the
Jacobian of (s, R) -> S and c(eta) the constant of Lewandowski, Kurowicka & Joe 2009, theorem 5.

Free parameters. A matrix G, which is S or K, is written G = C C', row k of C of length kappa_k, and

    y_k = log kappa_k,    sinh(x_kj) = C_kj / C_kk, j < k
    log|dS / d(y, x)| = d log 2 + (d+1)/2 log|S| + sum_kj log cosh x_kj,    for G = S and for G = K

With G = K a Huang-Wand matrix has independent y_k and x_k (its precision is diag(kappa) R diag(kappa) with
R ~ LKJ(nu/2)), and so has an inverse-Wishart with diagonal scale; with G = S the same is true of lkj. All
tails are exponential: at the smallest degrees of freedom NUTS meets neither a funnel nor a heavy tail.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.normal.marginal import symmetric_inverse
from bayesimp.notation import Array, Matrix, Vector

__all__ = [
    "EXPONENTIAL", "HALF_NORMAL", "HALF_T", "INVERSE_GAMMA", "diagonal", "draw_huang_wand", "draw_inverse_wishart",
    "draw_lkj_correlation", "draw_lkj_covariance", "draw_standard_deviations", "from_free", "huang_wand",
    "inverse_wishart", "lkj", "pull_free", "to_free",
]  # fmt: skip

HALF_T, HALF_NORMAL, EXPONENTIAL = 0, 1, 2  # p_sd of lkj and diagonal
INVERSE_GAMMA = 3  # of diagonal: on variances


# --- log density and its derivative with respect to S ---------------------------------------------


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
    dS = _sandwich(K, scale)
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
    dS = _sandwich(K, middle)
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

    `free` (d,) is log s_k, with INVERSE_GAMMA log s_k^2; `nu`, `scale` (d,), `family` as in `lkj`.
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
    """Log density of a standard deviation in units of its scale, and its derivative."""
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
def _sandwich(A: Matrix, B: Matrix) -> Matrix:
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


# --- free parameters ------------------------------------------------------------------------------


@inner
def _rows(free: Vector, d: int) -> tuple[Matrix, Matrix, Vector]:
    """C of `free`, and u_kj = sinh(x_kj), n_k^2 = 1 + sum_j u_kj^2."""
    C, u, n2 = np.zeros((d, d)), np.zeros((d, d)), np.ones(d)
    at = d
    for k in range(d):
        for j in range(k):
            u[k, j] = math.sinh(free[at])
            n2[k] += u[k, j] ** 2
            at += 1
        C[k, k] = math.exp(free[k]) / math.sqrt(n2[k])
        for j in range(k):
            C[k, j] = u[k, j] * C[k, k]
    return C, u, n2


@kernel(nogil=True)
def from_free(free: Vector, precision: bool) -> tuple[Matrix, float]:
    """S and log|dS / d free| at `free` = (y_1..y_d, x_21, x_31, x_32, ...); `precision`: G is K."""
    d = int((math.sqrt(8 * len(free) + 1) - 1) / 2 + 0.5)
    C, _, _ = _rows(free, d)
    if precision:
        C = _transposed_inverse(C)
    S = np.zeros((d, d))
    value = d * math.log(2)
    for i in range(d):
        value += (d + 1) * math.log(C[i, i])
        for j in range(d):
            for k in range(d):
                S[i, j] += C[i, k] * C[j, k]
    for k in range(d, len(free)):
        x = free[k]
        value += abs(x) - math.log(2) + math.log1p(math.exp(-2 * abs(x)))
    return S, value


@kernel(nogil=True)
def pull_free(free: Vector, precision: bool, S: Matrix, S_bar: Matrix, jacobian_bar: float) -> Vector:
    """Derivative of a function of (S, log Jacobian) by `free`, given its derivatives by S and by the log Jacobian."""
    d = len(S)
    C, u, n2 = _rows(free, d)
    G_bar = np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            G_bar[i, j] = S_bar[i, j] + S_bar[j, i]
    sign = 1.0
    if precision:
        G_bar, sign = _sandwich(S, G_bar), -1.0
    out = np.zeros(len(free))
    at = d
    for k in range(d):
        C_bar = np.zeros(d)
        for j in range(d):
            for i in range(d):
                C_bar[j] += sign * G_bar[k, i] * C[i, j]
            out[k] += C_bar[j] * C[k, j]
        for j in range(k):
            cosh = math.sqrt(1 + u[k, j] ** 2)
            u_bar = C[k, k] * C_bar[j] - u[k, j] / n2[k] * (out[k] + sign * (d + 1) * jacobian_bar)
            out[at] = u_bar * cosh + jacobian_bar * u[k, j] / cosh
            at += 1
        out[k] += sign * (d + 1) * jacobian_bar
    return out


@kernel(nogil=True)
def to_free(S: Matrix, precision: bool) -> Vector:
    """The free parameters of S."""
    d = len(S)
    G = symmetric_inverse(S)[0] if precision else S
    C = np.zeros((d, d))
    free = np.zeros(d + d * (d - 1) // 2)
    at = d
    for k in range(d):
        free[k] = 0.5 * math.log(G[k, k])
        for j in range(k + 1):
            x = G[k, j]
            for i in range(j):
                x -= C[k, i] * C[j, i]
            C[k, j] = math.sqrt(x) if j == k else x / C[j, j]
        for j in range(k):
            free[at] = math.asinh(C[k, j] / C[k, k])
            at += 1
    return free


@inner
def _transposed_inverse(C: Matrix) -> Matrix:
    """C^-T of a lower triangular C."""
    d = len(C)
    M = np.zeros((d, d))
    for j in range(d):
        M[j, j] = 1 / C[j, j]
        for i in range(j + 1, d):
            for k in range(j, i):
                M[j, i] -= C[i, k] * M[j, k] / C[i, i]
    return M


# --- exact draws ----------------------------------------------------------------------------------


def draw_inverse_wishart(
    rng: np.random.Generator, nu: ArrayLike, scale: ArrayLike, size: tuple[int, ...] | None = None
) -> Array:
    """By Bartlett's decomposition: (\\*size, d, d) for `nu` (...) and `scale` (..., d, d)."""
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
    """By its hierarchy: (\\*size, d, d) for `nu` (...) and `scale` (..., d)."""
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
    """Standard deviations from `family`: (\\*size, d) for `scale` (..., d) and `nu` (...)."""
    scale, nu = np.asarray(scale, dtype=float), np.asarray(nu, dtype=float)
    shape = (*_batch(size, scale.shape[:-1], nu.shape), scale.shape[-1])
    if family == HALF_T:
        return scale * np.abs(rng.standard_t(nu[..., None], size=shape))
    if family == HALF_NORMAL:
        return scale * np.abs(rng.standard_normal(size=shape))
    return scale * rng.standard_exponential(size=shape)


def draw_lkj_correlation(rng: np.random.Generator, eta: ArrayLike, d: int, size: tuple[int, ...]) -> Array:
    """(\\*size, d, d) correlation matrices, density proportional to det(R)^(eta - 1); `eta` (...).

    Partial correlation of j and k given 1..j-1 ~ 2 Beta(b, b) - 1, b = eta + (d - 1 - j) / 2 (j from 1): the C-vine
    of Lewandowski, Kurowicka & Joe (2009, sec. 2.4), row by row of the Cholesky factor.
    """
    shape = tuple(int(n) for n in size)
    L, left = (
        np.zeros((*shape, d, d)),
        np.ones((*shape, d)),
    )  # left: the remainder of each row's sum of squares
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
    """diag(s) R diag(s) with R ~ LKJ(eta): (\\*size, d, d) for `eta`, `nu` (...) and `scale` (..., d)."""
    eta, scale, nu = (np.asarray(x, dtype=float) for x in (eta, scale, nu))
    shape = _batch(size, eta.shape, scale.shape[:-1], nu.shape)
    s = draw_standard_deviations(rng, scale, nu, family, shape)
    return s[..., :, None] * draw_lkj_correlation(rng, eta, scale.shape[-1], shape) * s[..., None, :]


def _batch(size: tuple[int, ...] | None, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    return np.broadcast_shapes(*shapes) if size is None else tuple(int(n) for n in size)

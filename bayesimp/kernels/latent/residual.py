"""Element-by-element draws of a Sigma with fixed entries, given the cross product T of n residuals.

A latent variable has residual variance 1, and utilities of one variable correlations of 1/2; all other entries are free.
Their prior is that of Sigma given the fixed entries: with s_k = Sigma_kk^1/2 and R the correlations, its density is
|R|^kappa prod_k g_k(s_k) etr(-V Sigma^-1 / 2) on the free entries for which R is positive definite, where

    INVERSE_WISHART    kappa = -(nu + r + 1) / 2,   g(s) = s^-(nu + 1),   V = scale
    HUANG_WAND         the same given a, with nu + r - 1 for nu, V = 2 nu diag(1/a); a_k | Sigma: covariance/update.py
    SCALES             kappa = eta - 1,   g the prior of a standard deviation,   V = 0          (LKJ; diagonal)
    INVERSE_GAMMAS     g(s) = s^-(nu + 1),   V diagonal,   no correlations

A correlation is drawn through t, the partial correlation of its two variables given the others (Barnard, McCulloch & Meng
2000 give its interval on the scale of the correlation): with A the others, c_ii and c_jj the conditional variances and
Q (2, 2) the cross product of the residuals of i and j after regression on those of A,

    Sigma_ij = Sigma_iA Sigma_AA^-1 Sigma_Aj + t (c_ii c_jj)^1/2,     -1 < t < 1
    log p(t | rest) = (kappa - n/2) log(1 - t^2) - [q_ii/c_ii + q_jj/c_jj - 2 t q_ij (c_ii c_jj)^-1/2] / (2 (1 - t^2))

Moving a standard deviation, s_k -> s_k e^x, changes its row and column of Sigma but not R; with K = Sigma^-1

    log p(x | rest) = -n x + x + log g(s_k e^x) - e^(-2x) K_kk T_kk / 2 - e^(-x) sum_{j != k} K_kj T_kj

Each is one slice-sampling step and costs O(r^3), whatever the number of rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.density import HALF_NORMAL, HALF_T
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.linalg import cholesky, solve_lower, solve_lower_t
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, begin_within, next_on_slice
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

__all__ = [
    "HUANG_WAND",
    "INVERSE_GAMMAS",
    "INVERSE_WISHART",
    "KNOWN",
    "SCALES",
    "ResidualPrior",
    "draw_residual_covariance",
    "log_g",
    "residual_steps",
]

INVERSE_WISHART, HUANG_WAND, SCALES, INVERSE_GAMMAS, KNOWN = range(5)


class ResidualPrior(NamedTuple):
    """Prior of Sigma (r, r) as kernels read it, with its free entries.

    kind; nu: degrees of freedom of the matrix or of half-t standard deviations; scale (r, r), as in scipy; sd (r,):
    scales of standard deviations; eta; family: code of the distribution of standard deviations.
    free_sd (r,) bool; free_correlation (r, r) bool.
    """

    kind: int
    nu: float
    scale: np.ndarray
    sd: np.ndarray
    eta: float
    family: int
    free_sd: np.ndarray
    free_correlation: np.ndarray


@inner
def log_g(prior: ResidualPrior, nu: float, k: Integer, s: float) -> float:
    """log g_k(s) up to a constant."""
    if prior.kind != SCALES:
        return -(nu + 1.0) * math.log(s)
    z = s / prior.sd[k]
    if prior.family == HALF_T:
        return -0.5 * (prior.nu + 1.0) * math.log1p(z * z / prior.nu)
    return -0.5 * z * z if prior.family == HALF_NORMAL else -z


@inner
def _log_scale_target(
    prior: ResidualPrior, nu: float, n: Integer, k: Integer, s: float, own: float, cross: float, x: float
) -> float:
    """log p(x | rest), with own = K_kk T_kk and cross = sum_{j != k} K_kj T_kj."""
    u = math.exp(-x)
    return (1.0 - n) * x + log_g(prior, nu, k, s / u) - 0.5 * u * u * own - u * cross


@inner
def _draw_scale(
    rng: np.random.Generator,
    prior: ResidualPrior,
    nu: float,
    n: Integer,
    k: Integer,
    T: Matrix,
    K: Matrix,
    Sigma: Matrix,
) -> None:
    """One step for s_k; Sigma and its inverse K change in place."""
    r = Sigma.shape[0]
    s, own, cross = math.sqrt(Sigma[k, k]), K[k, k] * T[k, k], 0.0
    for j in range(r):
        if j != k:
            cross += K[k, j] * T[k, j]
    search, width = np.empty(ENTRIES), 2.0 / math.sqrt(n + 1.0)
    now = _log_scale_target(prior, nu, n, k, s, own, cross, 0.0)
    x = begin_slice(rng, now, 0.0, width, math.inf, -math.inf, math.inf, search)
    while search[PHASE] != DONE:
        x = next_on_slice(rng, x, _log_scale_target(prior, nu, n, k, s, own, cross, x), search)
    factor = math.exp(x)
    for j in range(r):
        Sigma[k, j] *= factor
        Sigma[j, k] *= factor
        K[k, j] /= factor
        K[j, k] /= factor


@inner
def _log_partial_target(power: float, qi: float, qj: float, qij: float, t: float) -> float:
    """log p(t | rest), with q in units of the conditional standard deviations."""
    rest = (1.0 - t) * (1.0 + t)
    if not rest > 0.0:
        return -math.inf
    return power * math.log(rest) - 0.5 * (qi + qj - 2.0 * t * qij) / rest


@inner
def _regress(Sigma: Matrix, A: Matrix, others: IntVector, i: Integer, g: Vector) -> float:
    """g (r - 2,) <- Sigma_AA^-1 Sigma_Ai, where A is the Cholesky factor of Sigma_AA; returns c_ii."""
    o = others.size
    for k in range(o):
        g[k] = Sigma[others[k], i]
    solve_lower(A, g, o)
    c = Sigma[i, i]
    for k in range(o):
        c -= g[k] * g[k]
    solve_lower_t(A, g, o)
    return c


@inner
def _cross_product(T: Matrix, others: IntVector, i: Integer, j: Integer, g: Vector, h: Vector) -> float:
    """(e_i - g'e_A)'(e_j - h'e_A) from T = E'E."""
    s = T[i, j]
    for k in range(others.size):
        s -= g[k] * T[others[k], j] + h[k] * T[others[k], i]
        for l in range(others.size):
            s += g[k] * T[others[k], others[l]] * h[l]
    return s


@inner
def _draw_correlation(
    rng: np.random.Generator, power: float, i: Integer, j: Integer, T: Matrix, Sigma: Matrix
) -> bool:
    """One step for Sigma_ij, in place; power = kappa - n/2. False if Sigma is not positive definite."""
    r = Sigma.shape[0]
    others = np.empty(r - 2, np.int64)
    o = np.int64(0)
    for k in range(r):
        if k != i and k != j:
            others[o] = k
            o += 1
    A = np.empty((o, o))
    for k in range(o):
        for l in range(o):
            A[k, l] = Sigma[others[k], others[l]]
    if not cholesky(A, o):
        return False
    g, h = np.empty(o), np.empty(o)
    ci, cj = _regress(Sigma, A, others, i, g), _regress(Sigma, A, others, j, h)
    if not (ci > 0.0 and cj > 0.0):
        return False
    middle = 0.0
    for k in range(o):
        middle += g[k] * Sigma[others[k], j]
    size = math.sqrt(ci * cj)
    now = (Sigma[i, j] - middle) / size
    qi = _cross_product(T, others, i, i, g, g) / ci
    qj = _cross_product(T, others, j, j, h, h) / cj
    qij = _cross_product(T, others, i, j, g, h) / size
    search = np.empty(ENTRIES)
    t = begin_within(rng, _log_partial_target(power, qi, qj, qij, now), now, -1.0, 1.0, search)
    while search[PHASE] != DONE:
        t = next_on_slice(rng, t, _log_partial_target(power, qi, qj, qij, t), search)
    Sigma[i, j] = middle + t * size
    Sigma[j, i] = Sigma[i, j]
    return True


@inner
def draw_exponents(
    rng: np.random.Generator, prior: ResidualPrior, K: Matrix, T: Matrix
) -> tuple[float, float]:
    """nu and kappa of the prior given its mixing variances, which are drawn given K = Sigma^-1 and added to T (r, r)."""
    r, nu, kappa = K.shape[0], prior.nu, prior.eta - 1.0
    if prior.kind == HUANG_WAND:
        nu = prior.nu + r - 1.0
        for k in range(r):
            rate = prior.nu * K[k, k] + 1.0 / prior.sd[k] ** 2
            T[k, k] += 2.0 * prior.nu * rng.standard_gamma(0.5 * (prior.nu + r)) / rate
    if prior.kind == INVERSE_WISHART or prior.kind == HUANG_WAND:
        kappa = -0.5 * (nu + r + 1.0)
    return nu, kappa


@inner
def draw_residual_covariance(
    rng: np.random.Generator, prior: ResidualPrior, S: Matrix, n: Integer, Sigma: Matrix
) -> bool:
    """One step for every free entry of Sigma (r, r), in place, given n residuals with cross product S (r, r).

    Returns False if Sigma is not positive definite.
    """
    r = Sigma.shape[0]
    K, T = np.empty((r, r)), np.empty((r, r))
    if not invert(Sigma, K):
        return False
    for k in range(r):
        for j in range(r):
            T[k, j] = S[k, j] + prior.scale[k, j]
    nu, kappa = draw_exponents(rng, prior, K, T)
    for k in range(r):
        if prior.free_sd[k]:
            _draw_scale(rng, prior, nu, n, k, T, K, Sigma)
    for i in range(r):
        for j in range(i):
            if prior.free_correlation[i, j] and not _draw_correlation(rng, kappa - 0.5 * n, i, j, T, Sigma):
                return False
    return True


@kernel(nogil=True)
def residual_steps(
    rng: np.random.Generator, prior: ResidualPrior, S: Matrix, n: int, Sigma: Matrix, out: Stack
) -> bool:
    """out (D, r, r) <- Sigma after each of D calls of `draw_residual_covariance`; Sigma itself ends at the last."""
    for d in range(out.shape[0]):
        if not draw_residual_covariance(rng, prior, S, n, Sigma):
            return False
        for k in range(Sigma.shape[0]):
            for j in range(Sigma.shape[0]):
                out[d, k, j] = Sigma[k, j]
    return True

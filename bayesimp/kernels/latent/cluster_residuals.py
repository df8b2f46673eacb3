"""One residual covariance matrix in each cluster, alike between clusters (Yucel 2011; R jomo's "random").

    Sigma_i ~ IW(nu, a S),    nu = a + r - 1,    density  |Sigma_i|^-(nu + r + 1)/2 etr(-a S Sigma_i^-1 / 2)

Every variance is then that of kernels/chained/gibbs.py: 1 / Sigma_i,kk ~ Gamma(a/2, rate a S_kk / 2), so that S_kk is a
typical variance, E(1 / Sigma_i,kk) = 1 / S_kk, and h = (2/a)^1/2 about the standard deviation of log Sigma_i,kk between
clusters. S has the prior of a common Sigma; h ~ half-normal(spread), whose density is positive at h = 0, where all
matrices are S.

With T_i the cross product of the n_i completed residuals of cluster i, the Sigma_i integrated out,

    p(T | S, a)  ~  prod_i Gamma_r((nu + n_i)/2) / Gamma_r(nu/2)  |a S|^(nu/2) |a S + T_i|^-((nu + n_i)/2)

Latent variables (2) have no scale in any cluster, so that their block is that of S in all, and the law is that of an
inverse-Wishart matrix given this block, which is known: with A = a S, A_11.2 = A_11 - A_12 A_22^-1 A_21,

    Sigma_i,22 = S_22,    Sigma_i,11.2 ~ IW(nu, A_11.2),    G_i | Sigma_i,11.2 ~ N(A_12 A_22^-1, Sigma_i,11.2 x A_22^-1)
    Sigma_i,12 = G_i S_22,    Sigma_i,11 = Sigma_i,11.2 + G_i S_22 G_i'

G_i are the regressions of the r_1 numbers on the latent residuals. Integrated out, with A_i = a S + T_i,

    p(T | S, a)  ~  |S_22|^-(n/2) etr(-S_22^-1 T_22 / 2)  prod_i Gamma_r1((nu + n_i)/2) / Gamma_r1(nu/2)
                    |A_11.2|^(nu/2) |A_i,11.2|^-((nu + n_i)/2)  (|A_22| / |A_i,22|)^(r_1/2)

Standard deviations and partial correlations of S (their priors: kernels/latent/residual.py) and log h are each moved by
one step of slice sampling under it (Neal 2003); then Sigma_i | S, a, T_i has the law above with nu + n_i and A_i, of
numbers alone IW(nu + n_i, A_i).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.draws import draw_inverse_wishart
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.kernels.latent.residual import HUANG_WAND, INVERSE_WISHART, KNOWN, log_g
from bayesimp.kernels.linalg import cholesky, cholesky_log_det, copy_to
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.residual import ResidualPrior

__all__ = ["cluster_residual_steps", "draw_cluster_residuals"]

SCALE, CORRELATION, LIKENESS = range(3)


class Residuals(NamedTuple):
    """Cross products T (m, r, r) of n (m,) completed residuals, columns in `order` (r,): latent ones, then numbers.

    latent: how many are latent; rows: of all clusters; total (latent, latent): the sum of the T_22.
    """

    n: np.ndarray
    T: np.ndarray
    order: np.ndarray
    latent: Integer
    rows: Integer
    total: np.ndarray


@inner
def _ordered(n: IntVector, T: Stack, kind: IntVector) -> Residuals:
    """The record; kind (r,): codes of kernels/latent/records.py."""
    m, r, _ = T.shape
    order, latent, rows = np.empty(r, np.int64), np.int64(0), np.int64(0)
    for k in range(r):
        if kind[k] != NUMBER:
            order[latent] = k
            latent += 1
    last = latent
    for k in range(r):
        if kind[k] == NUMBER:
            order[last] = k
            last += 1
    own, total = np.empty((m, r, r)), np.zeros((latent, latent))
    for i in range(m):
        rows += n[i]
        for k in range(r):
            for j in range(r):
                own[i, k, j] = T[i, order[k], order[j]]
                if k < latent and j < latent:
                    total[k, j] += own[i, k, j]
    return Residuals(n, own, order, latent, rows, total)


@inner
def _log_dets(A: Matrix, latent: Integer) -> tuple[float, float]:
    """log |A_22| and log |A_11.2|, rows and columns in order; A is overwritten; nan where it is not positive definite."""
    if not cholesky(A, A.shape[0]):
        return math.nan, math.nan
    of_latent = of_numbers = 0.0
    for k in range(A.shape[0]):
        if k < latent:
            of_latent += math.log(A[k, k])
        else:
            of_numbers += math.log(A[k, k])
    return 2.0 * of_latent, 2.0 * of_numbers


@inner
def _log_latent(residuals: Residuals, S: Matrix) -> float:
    """log |S_22|^-(n/2) etr(-S_22^-1 T_22 / 2)."""
    size = residuals.latent
    S22, K = np.empty((size, size)), np.empty((size, size))
    for k in range(size):
        for j in range(size):
            S22[k, j] = S[residuals.order[k], residuals.order[j]]
    if not invert(S22, K):
        return -math.inf
    total = -0.5 * residuals.rows * cholesky_log_det(S22, S22.shape[0])
    for k in range(size):
        for j in range(size):
            total -= 0.5 * K[k, j] * residuals.total[k, j]
    return total


@inner
def _log_likelihood(residuals: Residuals, S: Matrix, a: float, of_a: bool) -> float:
    """log p(T | S, a), without the gamma functions unless `of_a`; -inf where S is not positive definite."""
    r, order, latent, n = S.shape[0], residuals.order, residuals.latent, residuals.n
    A = np.empty((r, r))
    for k in range(r):
        for j in range(r):
            A[k, j] = a * S[order[k], order[j]]
    latent_before, before = _log_dets(A, latent)
    if math.isnan(before):
        return -math.inf
    nu, total, numbers = a + r - 1.0, 0.0, r - latent
    if latent:
        total += _log_latent(residuals, S)
    for i in range(n.size):
        if n[i] == 0:
            continue
        for k in range(r):
            for j in range(k + 1):
                A[k, j] = a * S[order[k], order[j]] + residuals.T[i, k, j]
        latent_after, after = _log_dets(A, latent)
        # the difference of the two first: each is large where the matrices hardly differ
        total -= 0.5 * nu * (after - before) + 0.5 * n[i] * after
        if latent:
            total -= 0.5 * numbers * (latent_after - latent_before)
        if of_a:
            for k in range(numbers):
                total += math.lgamma(0.5 * (nu + n[i] - k)) - math.lgamma(0.5 * (nu - k))
    return total if not math.isnan(total) else -math.inf


@inner
def _log_target(
    move: Integer, x: float, k: Integer, j: Integer, middle: float, size: float, prior: ResidualPrior, nu: float,
    kappa: float, scale: Matrix, spread: float, residuals: Residuals, S: Matrix, a: float, out: Matrix,
) -> float:  # fmt: skip
    """log p of one number given everything else; out (r, r) <- S at it.

    SCALE: x of s_k e^x; CORRELATION: partial correlation x of k and j, S_kj = middle + x size; LIKENESS: log h. nu,
    kappa, scale: the density of S as in kernels/latent/residual.py.
    """
    r = S.shape[0]
    if move == LIKENESS:
        h = math.exp(x)
        square = h * h
        if not 0.0 < square < math.inf:
            return -math.inf
        return x - 0.5 * square / spread**2 + _log_likelihood(residuals, S, 2.0 / square, True)
    copy_to(out, S)
    if move == SCALE:
        factor = math.exp(x)
        for l in range(r):
            out[k, l] *= factor
            out[l, k] *= factor
        log_p = x + log_g(prior, nu, k, math.sqrt(out[k, k]))
    else:
        rest = (1.0 - x) * (1.0 + x)
        if not rest > 0.0:
            return -math.inf
        out[k, j] = middle + x * size
        out[j, k] = out[k, j]
        log_p = kappa * math.log(rest)
    K = np.empty((r, r))
    if not invert(out, K):
        return -math.inf
    for l in range(r):
        for o in range(r):
            log_p -= 0.5 * scale[l, o] * K[l, o]
    return log_p + _log_likelihood(residuals, out, a, False)


@inner
def _slice(
    rng: np.random.Generator, move: Integer, k: Integer, j: Integer, prior: ResidualPrior, nu: float, kappa: float,
    scale: Matrix, spread: float, residuals: Residuals, S: Matrix, likeness: Vector,
) -> None:  # fmt: skip
    """One step of slice sampling of the number that `move` names; S or likeness in place."""
    r, a = S.shape[0], likeness[0]
    out, K = np.empty((r, r)), np.empty((r, r))
    now = middle = size = 0.0
    width = 3.0 / math.sqrt(residuals.rows + 1)
    if move == LIKENESS:
        now, width = 0.5 * math.log(2.0 / a), 1.0
    elif move == CORRELATION:
        if not invert(S, K):
            return
        det = K[k, k] * K[j, j] - K[k, j] * K[k, j]
        size = math.sqrt(K[k, k] * K[j, j]) / det
        now = -K[k, j] / math.sqrt(K[k, k] * K[j, j])
        middle = S[k, j] - now * size
    common = (move, k, j, middle, size)
    height = (
        _at(common, now, prior, nu, kappa, scale, spread, residuals, S, a, out) - rng.standard_exponential()
    )
    low = now - width * rng.random()
    high = low + width
    least, most = (-1.0, 1.0) if move == CORRELATION else (-math.inf, math.inf)
    while low > least and _at(common, low, prior, nu, kappa, scale, spread, residuals, S, a, out) >= height:
        low -= width
    while high < most and _at(common, high, prior, nu, kappa, scale, spread, residuals, S, a, out) >= height:
        high += width
    low, high = max(low, least), min(high, most)
    while True:
        x = low + (high - low) * rng.random()
        if _at(common, x, prior, nu, kappa, scale, spread, residuals, S, a, out) >= height:
            break
        if x == now:  # round-off: the interval has no other number
            return
        if x < now:
            low = x
        else:
            high = x
    if move == LIKENESS:
        likeness[0] = 2.0 * math.exp(-2.0 * x)
    else:
        copy_to(S, out)


@inner
def _at(
    common: tuple, x: float, prior: ResidualPrior, nu: float, kappa: float, scale: Matrix, spread: float,
    residuals: Residuals, S: Matrix, a: float, out: Matrix,
) -> float:  # fmt: skip
    """`_log_target` at x; common: what does not change within a step."""
    move, k, j, middle, size = common
    return _log_target(move, x, k, j, middle, size, prior, nu, kappa, scale, spread, residuals, S, a, out)


@inner
def draw_cluster_residuals(
    rng: np.random.Generator, prior: ResidualPrior, spread: float, kind: IntVector, n: IntVector, T: Stack, S: Matrix,
    likeness: Vector, Sigma: Stack, given: bool,
) -> bool:  # fmt: skip
    """S (r, r), a (1,) and Sigma (m, r, r), in place, given cross products T (m, r, r) of n (m,) residuals.

    kind (r,): codes of kernels/latent/records.py; given: S and a stay as they are.
    Returns False where a matrix is not positive definite.
    """
    residuals = _ordered(n, T, kind)
    if not given and not _draw_common(rng, prior, spread, residuals, S, likeness):
        return False
    r, order, a = S.shape[0], residuals.order, likeness[0]
    A, own = np.empty((r, r)), np.empty((r, r))
    for k in range(r):
        for j in range(r):
            own[k, j] = S[order[k], order[j]]
    for i in range(n.size):
        for k in range(r):
            for j in range(r):
                A[k, j] = a * own[k, j] + residuals.T[i, k, j]
        if not _draw_given_block(rng, a + r - 1.0 + n[i], A, own, residuals.latent):
            return False
        for k in range(r):
            for j in range(r):
                Sigma[i, order[k], order[j]] = A[k, j]
    return True


@inner
def _draw_given_block(rng: np.random.Generator, nu: float, A: Matrix, S: Matrix, latent: Integer) -> bool:
    """A (r, r) <- a draw from IW(nu, A) given that its leading block is that of S; False if A is not p.d."""
    numbers = A.shape[0] - latent
    L = np.empty((latent, latent))
    for k in range(latent):
        for j in range(latent):
            L[k, j] = A[k, j]
    if not cholesky(L, latent):
        return False
    # M = A_12 L^-T, so that A_12 A_22^-1 = M L^-1
    M = np.empty((numbers, latent))
    for k in range(numbers):
        for j in range(latent):
            s = A[latent + k, j]
            for h in range(j):
                s -= M[k, h] * L[j, h]
            M[k, j] = s / L[j, j]
    Omega, F = np.empty((numbers, numbers)), np.empty((numbers, numbers))
    for k in range(numbers):
        for j in range(numbers):
            F[k, j] = A[latent + k, latent + j]
            for h in range(latent):
                F[k, j] -= M[k, h] * M[j, h]
    if not draw_inverse_wishart(rng, nu, F, Omega, numbers):
        return False
    for k in range(latent):
        for j in range(latent):
            A[k, j] = S[k, j]
    for k in range(numbers):
        for j in range(numbers):
            A[latent + k, latent + j] = Omega[k, j]
    return latent == 0 or _regress_on_block(rng, Omega, L, M, A)


@inner
def _regress_on_block(rng: np.random.Generator, Omega: Matrix, L: Matrix, M: Matrix, A: Matrix) -> bool:
    """A_12 and A_11 <- G A_22, Omega + G A_22 G', with G = (M + F Z) L^-1, F F' = Omega, Z standard normal."""
    numbers, latent = M.shape
    F, G = Omega.copy(), np.empty((numbers, latent))
    if not cholesky(F, numbers):
        return False
    for j in range(latent - 1, -1, -1):
        z = np.empty(numbers)
        for k in range(numbers):
            z[k] = rng.standard_normal()
        for k in range(numbers):
            s = M[k, j]
            for h in range(k + 1):
                s += F[k, h] * z[h]
            for h in range(j + 1, latent):
                s -= G[k, h] * L[h, j]
            G[k, j] = s / L[j, j]
    for k in range(numbers):
        for j in range(latent):
            s = 0.0
            for h in range(latent):
                s += G[k, h] * A[h, j]
            A[latent + k, j] = s
            A[j, latent + k] = s
    for k in range(numbers):
        for j in range(numbers):
            for h in range(latent):
                A[latent + k, latent + j] += A[latent + k, h] * G[j, h]
    return True


@inner
def _draw_common(
    rng: np.random.Generator,
    prior: ResidualPrior,
    spread: float,
    residuals: Residuals,
    S: Matrix,
    likeness: Vector,
) -> bool:
    """S and a, in place, the matrices of the clusters integrated out; False where S is not positive definite."""
    r = S.shape[0]
    nu, kappa = prior.nu, prior.eta - 1.0
    if prior.kind == HUANG_WAND:
        nu = prior.nu + r - 1.0
    if prior.kind == INVERSE_WISHART or prior.kind == HUANG_WAND:
        kappa = -0.5 * (nu + r + 1.0)
    K, scale = np.empty((r, r)), np.empty((r, r))
    if not invert(S, K):
        return False
    copy_to(scale, prior.scale)
    if prior.kind == HUANG_WAND:
        for k in range(r):
            rate = prior.nu * K[k, k] + 1.0 / prior.sd[k] ** 2
            scale[k, k] += 2.0 * prior.nu * rng.standard_gamma(0.5 * (prior.nu + r)) / rate
    zero = np.int64(0)
    if prior.kind != KNOWN:
        for k in range(r):
            if prior.free_sd[k]:
                _slice(rng, SCALE, k, zero, prior, nu, kappa, scale, spread, residuals, S, likeness)
        for k in range(r):
            for j in range(k):
                if prior.free_correlation[k, j]:
                    _slice(rng, CORRELATION, k, j, prior, nu, kappa, scale, spread, residuals, S, likeness)
    _slice(rng, LIKENESS, zero, zero, prior, nu, kappa, scale, spread, residuals, S, likeness)
    return True


@kernel(nogil=True)
def cluster_residual_steps(
    rng: np.random.Generator, prior: ResidualPrior, spread: float, kind: IntVector, n: IntVector, T: Stack, S: Matrix,
    likeness: Vector, Sigma: Stack, S_out: Stack, a_out: Vector,
) -> bool:  # fmt: skip
    """S_out (D, r, r), a_out (D,) <- S and a after each of D rounds of `draw_cluster_residuals`, for tests."""
    for d in range(a_out.size):
        if not draw_cluster_residuals(rng, prior, spread, kind, n, T, S, likeness, Sigma, False):
            return False
        a_out[d] = likeness[0]
        copy_to(S_out[d], S)
    return True

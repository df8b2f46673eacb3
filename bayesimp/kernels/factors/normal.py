"""Parameters of one normal factor of a joint GLMM, given the completed variables and the effects of other factors.

y_ij = x_ij' beta + z_ij' b_i + e_ij,   e_ij ~ N(0, sigma^2),   b_i ~ N(Q^-1 t_i, Q^-1),   beta ~ N(Q0^-1 t0, Q0^-1)

BETA     beta | sigma^2, effects integrated out     precision  Q0 + sum_i X'X / sigma^2 - X'Z W_i^-1 Z'X / sigma^4
                                                    times mean t0 + sum_i X'y / sigma^2 - X'Z W_i^-1 u_i / sigma^2
EFFECTS  b_i | beta                                 precision  W_i = Z'Z / sigma^2 + Q,   times mean
                                                    u_i = Z'(y - X beta) / sigma^2 + t_i
SCALE    b_e -> alpha_e b_e with Psi                normal given mixing precisions (kernels/factors/effects.py)
SIGMA    sigma^2 | residuals                        conjugate
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel, reduction
from bayesimp.kernels.covariance.update import (
    DIAGONAL_HALF_T,
    FIXED,
    HUANG_WAND,
    CovarianceUpdate,
    invert,
    update_covariance,
)
from bayesimp.kernels.draws import draw_by_factor, draw_by_precision
from bayesimp.kernels.factors.effects import conditional_prior, mixing_precision, scaled
from bayesimp.kernels.linalg import cholesky, fill, solve_lower
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

__all__ = ["normal_step"]


@reduction
def _add_gram(W: Matrix, n: Integer, out: Matrix) -> None:
    """out += W W', lower triangle, of the first n columns of W."""
    for a in range(W.shape[0]):
        for b in range(a + 1):
            s = 0.0
            for j in range(n):
                s += W[a, j] * W[b, j]
            out[a, b] += s


@inner
def _products(X: Matrix, Z: Matrix, y: Vector, start: Integer, stop: Integer, W: Matrix, G: Matrix) -> None:
    """G (p + q + 1, p + q + 1) <- cross products of (X, Z, y) in rows start .. stop - 1, lower triangle; W: work space.

    With each column of these rows contiguous in W, `reduction` adds several rows at a time.
    """
    p, q = X.shape[1], Z.shape[1]
    for j in range(start, stop):
        for a in range(p):
            W[a, j - start] = X[j, a]
        for l in range(q):
            W[p + l, j - start] = Z[j, l]
        W[p + q, j - start] = y[j]
    fill(G, 0.0)
    _add_gram(W, stop - start, G)


@inner
def _draw_beta(
    rng: np.random.Generator,
    X: Matrix,
    Z: Matrix,
    y: Vector,
    first: IntVector,
    Q0: Matrix,
    t0: Vector,
    Q: Matrix,
    t: Matrix,
    variance: float,
    beta: Vector,
    WW: Stack,
    ZZ: Stack,
    ZX: Stack,
    Zys: Matrix,
) -> int:
    """BETA. Leaves the Cholesky factors of W_i in WW (m, q, q), Z'Z in ZZ (m, q, q), lower triangles, Z'X in ZX (m, p, q)
    and Z'y in Zys (m, q)."""
    p, q, m, most = X.shape[1], Z.shape[1], first.size - 1, 1
    H, h, Xy, v = np.zeros((p, p)), np.empty(p), np.zeros(p), np.empty(q)
    correction, pull = np.zeros((p, p)), np.zeros(p)
    for i in range(m):
        most = max(most, first[i + 1] - first[i])
    W, G, half = np.empty((p + q + 1, most)), np.empty((p + q + 1, p + q + 1)), np.empty((p, q))
    for i in range(m):
        _products(X, Z, y, first[i], first[i + 1], W, G)
        for a in range(p):
            Xy[a] += G[p + q, a]
            for b in range(a + 1):
                H[a, b] += G[a, b]
            for l in range(q):
                ZX[i, a, l] = G[p + l, a]
        for l in range(q):
            Zys[i, l] = G[p + q, p + l]
            for k in range(l + 1):
                ZZ[i, l, k] = G[p + l, p + k]
                WW[i, l, k] = ZZ[i, l, k] / variance + Q[l, k]
        if not cholesky(WW[i], q):
            return 2
        if first[i] == first[i + 1]:
            continue
        for a in range(p):  # rows of half: L^-1 Z'x_a
            for l in range(q):
                half[a, l] = ZX[i, a, l]
            solve_lower(WW[i], half[a], q)
        for l in range(q):
            v[l] = Zys[i, l] / variance + t[i, l]
        solve_lower(WW[i], v, q)
        for a in range(p):
            for l in range(q):
                pull[a] += half[a, l] * v[l]
            for b in range(a + 1):
                for l in range(q):
                    correction[a, b] += half[a, l] * half[b, l]
    for a in range(p):
        h[a] = t0[a] + (Xy[a] - pull[a]) / variance
        for b in range(a + 1):
            H[a, b] = Q0[a, b] + (H[a, b] - correction[a, b] / variance) / variance
    if not draw_by_precision(rng, H, h, p):
        return 3
    for a in range(p):
        beta[a] = h[a]
    return 0


@inner
def _draw_effects(
    rng: np.random.Generator,
    beta: Vector,
    t: Matrix,
    variance: float,
    WW: Stack,
    ZX: Stack,
    Zys: Matrix,
    at: Integer,
    B: Matrix,
) -> None:
    """EFFECTS, for all clusters, written to the columns of B from `at` on."""
    m, p, q = ZX.shape
    u = np.empty(q)
    for i in range(m):
        for l in range(q):
            s = Zys[i, l]
            for a in range(p):
                s -= ZX[i, a, l] * beta[a]
            u[l] = s / variance + t[i, l]
        draw_by_factor(rng, WW[i], u, q)
        for l in range(q):
            B[i, at + l] = u[l]


@inner
def _sum_of_squares(
    X: Matrix, Z: Matrix, y: Vector, first: IntVector, beta: Vector, B: Matrix, at: Integer
) -> float:
    """The sum of squares of the residuals y - X beta - Z b."""
    total = 0.0
    for i in range(first.size - 1):
        for j in range(first[i], first[i + 1]):
            s = y[j]
            for a in range(X.shape[1]):
                s -= X[j, a] * beta[a]
            for l in range(Z.shape[1]):
                s -= Z[j, l] * B[i, at + l]
            total += s * s
    return total


@inner
def _draw_scales(
    rng: np.random.Generator,
    beta: Vector,
    ZZ: Stack,
    ZX: Stack,
    Zys: Matrix,
    B: Matrix,
    at: Integer,
    variance: float,
    H: Matrix,
    alpha: Vector,
) -> bool:
    """alpha (q,) of SCALE; on entry, H (q, q) has the mixing precisions.

    With z_jl b_il as the columns of alpha, cluster i adds b_il b_ih (Z'Z)_lh to their cross products, and
    b_il (Z'(y - X beta))_l to those with the residuals.
    """
    m, p, q = ZX.shape
    for l in range(q):
        alpha[l] = 0.0
    for i in range(m):
        for l in range(q):
            s = Zys[i, l]
            for a in range(p):
                s -= ZX[i, a, l] * beta[a]
            alpha[l] += B[i, at + l] * s / variance
            for h in range(l + 1):
                H[l, h] += B[i, at + l] * B[i, at + h] * ZZ[i, l, h] / variance
    return draw_by_precision(rng, H, alpha, q)


@kernel(nogil=True)
def normal_step(
    rng: np.random.Generator,
    X: Matrix,
    Z: Matrix,
    y: Vector,
    first: IntVector,
    Q0: Matrix,
    t0: Vector,
    sigma_prior: CovarianceUpdate,
    psi_prior: CovarianceUpdate,
    at: Integer,
    beta: Vector,
    sd: Vector,
    Psi: Matrix,
    B: Matrix,
) -> int:
    """Update the parameters of a normal factor.

    Parameters
    ----------
    X, Z, y, first
        (n, p), (n, q), (n,) rows in which the factor is used, sorted by cluster: those of cluster i begin at first[i].
    Q0, t0
        Prior of beta: precision (p, p) and precision times mean (p,).
    sigma_prior, psi_prior
        Priors of the variance, (1, 1), and of the block of Psi that contains the factor's effects.
    at
        First column of the factor's effects in B (m, D).
    beta (p,), sd (1,), Psi (D, D), B (m, D)
        The state, changed in place.

    Returns
    -------
    0, or a key of `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    n, p, q, m = X.shape[0], X.shape[1], Z.shape[1], first.size - 1
    R, Q, t = np.empty(Psi.shape), np.empty((q, q)), np.empty((m, q))
    if not invert(Psi, R):
        return 1
    conditional_prior(R, B, at, at + q, Q, t)
    WW, ZZ, ZX, Zys = np.empty((m, q, q)), np.empty((m, q, q)), np.empty((m, p, q)), np.empty((m, q))
    variance = sd[0] * sd[0]
    failed = _draw_beta(rng, X, Z, y, first, Q0, t0, Q, t, variance, beta, WW, ZZ, ZX, Zys)
    if failed:
        return failed
    _draw_effects(rng, beta, t, variance, WW, ZX, Zys, at, B)
    if q > 0 and (psi_prior.kind == HUANG_WAND or psi_prior.kind == DIAGONAL_HALF_T):
        H, alpha = np.empty((q, q)), np.empty(q)
        mixing_precision(rng, psi_prior, R, at, at + q, H)
        if not _draw_scales(rng, beta, ZZ, ZX, Zys, B, at, variance, H, alpha):
            return 4
        scaled(alpha, at, B, Psi, R)
    if sigma_prior.kind == FIXED:
        return 0
    S, inverse, out = np.empty((1, 1)), np.empty((1, 1)), np.empty((1, 1))
    S[0, 0] = _sum_of_squares(X, Z, y, first, beta, B, at)
    out[0, 0] = variance
    inverse[0, 0] = 1.0 / variance
    if not update_covariance(rng, sigma_prior, S, n, inverse, out):
        return 1
    sd[0] = math.sqrt(out[0, 0])
    return 0

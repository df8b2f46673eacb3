"""Draws of fixed and cluster effects of the joint normal model given (Sigma, Psi), with missing values integrated out.

For the observed block O_a of pattern a let W_a = Sigma[O_a, O_a]^-1, zero elsewhere, and for each cluster i

    P_i = sum_a W_a kron (Z'Z)_ia         g_i = vec( sum_a (Z'Y)_ia W_a )        C_i = sum_a W_a kron (Z'X)_ia

Then, with M_i = Psi^-1 + P_i = L_i L_i', U_i = L_i^-1 C_i, v_i = L_i^-1 g_i  (docs/mathematics.md, sec. 1),

    vec(beta) | Sigma, Psi, Y_obs        ~ N(Q^-1 t, Q^-1)
        Q = Q_0 + sum_a W_a kron (X'X)_a - sum_i U_i'U_i,   t = Q_0 mu_0 + vec(sum_a (X'Y)_a W_a) - sum_i U_i'v_i
    vec(B_i) | beta, Sigma, Psi, Y_obs   ~ N(L_i^-T (v_i - U_i vec(beta)), M_i^-1)

So beta and all B_i are drawn in one block, without conditioning on missing values.

Where a flat prior leaves Q singular, the caller may let coefficients keep their values (kernels/normal/held.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import draw_by_precision
from bayesimp.kernels.linalg import (
    cholesky,
    copy_to,
    inverse_from_cholesky,
)
from bayesimp.kernels.normal.equations import (
    add_crosses,
    add_fixed,
    add_precision,
    factor_precision,
    given_factors,
    solve_crosses,
    subtract_clusters,
)
from bayesimp.kernels.normal.held import hold
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.notation import BoolMatrix, IntVector, Matrix, Stack, Vector

__all__ = [
    "Moments",
    "draw_beta_and_effects",
    "draw_effects",
    "effects_from_normals",
    "moments",
    "pattern_weights",
]


class Moments(NamedTuple):
    """Blocks of the Gram matrices as read by the sampler (a tuple, so that numba accepts it as one argument).

    patterns (A, r) bool; pattern_rows (A,); XX (A, p, p), XY (A, p, r), YY (A, r, r): sums over clusters;
    first (m+1,): cells of cluster i are first[i]..first[i+1]-1; cell_pattern (C,);
    ZZ (C, q, q); ZX (C, q, p); ZY (C, q, r).
    """

    patterns: np.ndarray
    pattern_rows: np.ndarray
    XX: np.ndarray
    XY: np.ndarray
    YY: np.ndarray
    first: np.ndarray
    cell_pattern: np.ndarray
    ZZ: np.ndarray
    ZX: np.ndarray
    ZY: np.ndarray


def moments(statistics: SufficientStatistics) -> Moments:
    """Blocks of the cells with at least one observed response."""
    s = statistics
    x, z, y = (slice(a, b) for a, b in [(1, 1 + s.p), (1 + s.p, 1 + s.p + s.q), (1 + s.p + s.q, None)])
    keep = s.patterns[s.cell_pattern].any(1)
    gram, cell_pattern = s.gram[keep], s.cell_pattern[keep]
    by_pattern = np.zeros((len(s.patterns), *s.gram.shape[1:]))
    np.add.at(by_pattern, cell_pattern, gram)
    rows = np.bincount(cell_pattern, weights=s.cell_rows[keep], minlength=len(s.patterns)).astype(np.int64)
    first = np.searchsorted(s.cell_cluster[keep], np.arange(s.clusters + 1)).astype(np.int64)
    XX, XY, YY = (np.ascontiguousarray(by_pattern[:, a, b]) for a, b in [(x, x), (x, y), (y, y)])
    ZZ, ZX, ZY = (np.ascontiguousarray(gram[:, z, b]) for b in (z, x, y))
    return Moments(s.patterns, rows, XX, XY, YY, first, cell_pattern.astype(np.int64), ZZ, ZX, ZY)


@kernel
def pattern_weights(Sigma: Matrix, patterns: BoolMatrix) -> tuple[Stack, bool]:
    """W (A, r, r) of all patterns, and whether Sigma is positive definite."""
    A, r = patterns.shape
    W = np.zeros((A, r, r))
    block = np.empty((r, r))
    inverse = np.empty((r, r))
    index = np.empty(r, np.int64)
    ok = True
    for a in range(A):
        o = np.int64(0)
        for k in range(r):
            if patterns[a, k]:
                index[o] = k
                o += 1
        for i in range(o):
            for j in range(o):
                block[i, j] = Sigma[index[i], index[j]]
        if o and not cholesky(block, o):
            ok = False
            continue
        inverse_from_cholesky(block, inverse, o)
        for i in range(o):
            for j in range(o):
                W[a, index[i], index[j]] = inverse[i, j]
    return W, ok


@inner
def _factor_precisions(W: Stack, Psi_inverse: Matrix, m: Moments, L: Stack, v: Matrix) -> bool:
    """L (m, n, n), v (m, n) <- L_i, v_i of every cluster; returns False if some M_i is not positive definite."""
    clusters, n, _ = L.shape
    for i in range(clusters):
        for e in range(n):
            v[i, e] = 0.0
            for f in range(e + 1):
                L[i, e, f] = Psi_inverse[e, f]
        add_precision(W, m, i, L, v)
        if not factor_precision(L, v, i):
            return False
    return True


@inner
def _factor_crosses(W: Stack, m: Moments, L: Stack, U: Stack) -> None:
    """U (m, n, r p) <- U_i = L_i^-1 C_i of every cluster; zero for clusters without observed rows."""
    clusters, n, P = U.shape
    for i in range(clusters):
        for e in range(n):
            for x in range(P):
                U[i, e, x] = 0.0
        add_crosses(W, m, i, U)
        solve_crosses(L, i, U)


@inner
def draw_beta_and_effects(
    rng: np.random.Generator,
    W: Stack,
    Psi_inverse: Matrix,
    m: Moments,
    Q0: Matrix,
    t0: Vector,
    beta: Matrix,
    B: Stack,
    held: IntVector,
) -> int:
    """Draw beta (p, r) and B (m, q, r) in place; see the module's equations.

    Q0 (r p, r p), t0 = Q0 mu0 (r p,): normal prior of vec(beta), zero if flat.
    held (r p,) int64: incremented for every coefficient that the data do not determine and that keeps its value; with
    shape (0,), none may be held.
    Returns 0, or 1 if some M_i, 2 if Q is not positive definite (beta not identified).
    """
    p, r = beta.shape
    clusters, q, _ = B.shape
    n, P = r * q, r * p
    L = np.empty((clusters, n, n))
    U = np.empty((clusters, n, P))
    v = np.empty((clusters, n))
    if not _factor_precisions(W, Psi_inverse, m, L, v):
        return 1
    _factor_crosses(W, m, L, U)
    Q = np.empty((P, P))
    t = np.empty(P)
    copy_to(Q, Q0)
    for x in range(P):
        t[x] = t0[x]
    add_fixed(W, m, Q, t)
    before = np.empty(P)
    for x in range(P):
        before[x] = Q[x, x]
    subtract_clusters(U, v, Q, t)
    fixed = np.zeros(P, np.bool_)
    if held.size:
        hold(Q, t, Q0, before, beta, fixed)
    if not draw_by_precision(rng, Q, t, P):
        return 2
    for x in range(P):
        if fixed[x]:
            t[x] = beta[x % p, x // p]
            held[x] += 1
        beta[x % p, x // p] = t[x]
    z = np.empty(clusters * n)
    for e in range(z.size):
        z[e] = rng.standard_normal()
    given_factors(z, L, U, v, t, B)
    return 0


@inner
def effects_from_normals(
    z: Vector, W: Stack, Psi_inverse: Matrix, m: Moments, beta: Matrix, B: Stack
) -> bool:
    """B (m, q, r) <- B | beta, Sigma, Psi, Y_obs, computed from the first m r q standard normals of z.

    Returns False if some M_i is not positive definite.
    """
    p, r = beta.shape
    clusters, q, _ = B.shape
    n = r * q
    L = np.empty((clusters, n, n))
    U = np.empty((clusters, n, r * p))
    v = np.empty((clusters, n))
    vec_beta = np.empty(r * p)
    for k in range(r):
        for x in range(p):
            vec_beta[k * p + x] = beta[x, k]
    if not _factor_precisions(W, Psi_inverse, m, L, v):
        return False
    _factor_crosses(W, m, L, U)
    given_factors(z, L, U, v, vec_beta, B)
    return True


@kernel
def draw_effects(
    rng: np.random.Generator, W: Stack, Psi_inverse: Matrix, m: Moments, beta: Matrix, B: Stack
) -> bool:
    """Draw B (m, q, r) given beta (p, r); returns False if some M_i is not positive definite."""
    z = np.empty(B.size)
    for e in range(z.size):
        z[e] = rng.standard_normal()
    return effects_from_normals(z, W, Psi_inverse, m, beta, B)

"""Draws of the cross product of completed rows' residuals, without touching rows.

In pattern a, with observed residuals E_O (n rows), K = Sigma_OO^-1 Sigma_OM and S = Sigma_MM - Sigma_MO K = A A',
the missing residuals are E_M = E_O K + F, where the rows of F are N(0, S), i.e. F = N A' with N standard normal.
With R = E_O'E_O = L L' of rank rho, E_O = Q L', Q orthonormal, and U = Q'N (rho x |M|) standard normal:

    E_O'F   = L U A'
    F'F     = A (U'U + W) A',                 W ~ Wishart(n - rho, I) from the rest of N
    E_O'E_M = R K + E_O'F
    E_M'E_M = K'R K + K'(E_O'F) + (E_O'F)'K + F'F
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import draw_wishart_identity
from bayesimp.kernels.linalg import cholesky, semidefinite_cholesky
from bayesimp.notation import BoolVector, Integer, Matrix

__all__ = ["complete", "conditional"]

# a pivot of E_O'E_O below this share of its diagonal is round-off: the pattern has fewer than |O| rows
ROUND_OFF = 1e-10


@inner
def conditional(W: Matrix, Sigma: Matrix, observed: BoolVector, K: Matrix, A: Matrix) -> Integer:
    """K (r, r) <- Sigma_OO^-1 Sigma_OM at [O, M]; A (|M|, |M|), in its leading rows, <- lower Cholesky factor of S.

    W (r, r): Sigma_OO^-1, zero elsewhere. Returns |M|, or -1 if S is not positive definite.
    """
    r = Sigma.shape[0]
    u: Integer = np.int64(0)
    for v in range(r):
        if observed[v]:
            continue
        for k in range(r):
            K[k, v] = 0.0
            for j in range(r):
                K[k, v] += W[k, j] * Sigma[j, v]
        i = 0
        for w in range(v + 1):
            if observed[w]:
                continue
            s = Sigma[v, w]
            for k in range(r):
                s -= Sigma[v, k] * K[k, w]
            A[u, i] = s
            i += 1
        u += 1
    if u and not cholesky(A, u):
        return -1
    return u


@inner
def complete(
    rng: np.random.Generator, rows: int, observed: BoolVector, W: Matrix, Sigma: Matrix, R: Matrix, S: Matrix
) -> bool:
    """S (r, r) <- S + E'E of the completed rows of one pattern.

    rows: their number; observed (r,) bool; W (r, r) as in `conditional`; R (r, r): E_O'E_O, read at [O, O].
    Returns False if the conditional covariance is not positive definite.
    """
    r = Sigma.shape[0]
    for i in range(r):
        for j in range(r):
            if observed[i] and observed[j]:
                S[i, j] += R[i, j]
    K = np.zeros((r, r))
    A = np.empty((r, r))
    u = conditional(W, Sigma, observed, K, A)
    if u <= 0:
        return u == 0
    OF = np.zeros((r, u))  # E_O'F, rows O
    FF = np.zeros((u, u))
    _noise(rng, rows, observed, R, A, u, OF, FF)
    _add_products(observed, R, K, OF, FF, S)
    return True


@inner
def _noise(
    rng: np.random.Generator,
    rows: int,
    observed: BoolVector,
    R: Matrix,
    A: Matrix,
    u: Integer,
    OF: Matrix,
    FF: Matrix,
) -> None:
    """OF (r, |M|) <- E_O'F in rows O; FF (|M|, |M|) <- F'F."""
    r = R.shape[0]
    O = np.empty(r, np.int64)
    o: Integer = np.int64(0)
    for k in range(r):
        if observed[k]:
            O[o] = k
            o += 1
    L = np.empty((o, o))
    for i in range(o):
        for j in range(o):
            L[i, j] = R[O[i], O[j]]
    # as many rows of normals as the rank can be at most, so that round-off in the rank does not shift the random stream:
    # those not matched to a pivot are rows of N like any others
    limit: Integer = min(rows, o)
    semidefinite_cholesky(L, o, ROUND_OFF, limit)
    G = np.zeros((u, u))  # U'U + W
    z = np.empty(u)
    k = 0
    for _ in range(limit):
        for j in range(u):
            z[j] = rng.standard_normal()
            for i in range(j + 1):
                G[j, i] += z[i] * z[j]
                G[i, j] = G[j, i]
        while k < o and not L[k, k] > 0.0:
            k += 1
        if k < o:
            for j in range(u):
                s = 0.0  # (U A')_kj
                for h in range(j + 1):
                    s += z[h] * A[j, h]
                for i in range(k, o):
                    OF[O[i], j] += L[i, k] * s
            k += 1
    draw_wishart_identity(rng, rows - limit, G, u)
    for i in range(u):
        for j in range(u):
            for k in range(i + 1):
                for h in range(j + 1):
                    FF[i, j] += A[i, k] * G[k, h] * A[j, h]


@inner
def _add_products(observed: BoolVector, R: Matrix, K: Matrix, OF: Matrix, FF: Matrix, S: Matrix) -> None:
    """S <- S + E_O'E_M, its transpose, and E_M'E_M."""
    r = R.shape[0]
    j = 0
    for v in range(r):
        if observed[v]:
            continue
        for k in range(r):
            if not observed[k]:
                continue
            s = OF[k, j]
            for h in range(r):
                if observed[h]:
                    s += R[k, h] * K[h, v]
            S[k, v] += s
            S[v, k] += s
        i = 0
        for w in range(v + 1):
            if observed[w]:
                continue
            s = FF[j, i]
            for k in range(r):
                if observed[k]:
                    # K'(R K + E_O'F) + (E_O'F)'K
                    t = OF[k, i]
                    for h in range(r):
                        if observed[h]:
                            t += R[k, h] * K[h, w]
                    s += K[k, v] * t + OF[k, j] * K[k, w]
            S[v, w] += s
            if v != w:
                S[w, v] += s
            i += 1
        j += 1

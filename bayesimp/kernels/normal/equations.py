"""Normal equations of beta and the cluster effects, one cluster at a time; symbols as in kernels/normal/effects.py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.normal.effects import Moments

__all__ = [
    "add_crosses",
    "add_fixed",
    "add_precision",
    "factor_precision",
    "given_factors",
    "solve_crosses",
    "subtract_clusters",
]


@inner
def add_precision(W: Stack, m: Moments, i: Integer, L: Stack, v: Matrix) -> None:
    """L[i], v[i] <- L[i] + P_i (lower triangle), v[i] + g_i.

    Here and below, clusters are indexed rather than sliced: in numba a view costs more than the work on it.
    """
    q, r = m.ZZ.shape[1], W.shape[1]
    for c in range(m.first[i], m.first[i + 1]):
        a = m.cell_pattern[c]
        for k in range(r):
            for j in range(r):
                w = W[a, k, j]
                if w == 0.0:
                    continue
                for l in range(q):
                    v[i, k * q + l] += m.ZY[c, l, j] * w
                if j <= k:
                    for l in range(q):
                        for h in range(q):
                            L[i, k * q + l, j * q + h] += w * m.ZZ[c, l, h]


@inner
def factor_precision(L: Stack, v: Matrix, i: Integer) -> bool:
    """L[i] <- its lower Cholesky factor L_i, v[i] <- L_i^-1 v[i]; returns False if M_i is not positive definite."""
    for e in range(L.shape[1]):
        for f in range(e):
            s = L[i, e, f]
            for k in range(f):
                s -= L[i, e, k] * L[i, f, k]
            L[i, e, f] = s / L[i, f, f]
        s = L[i, e, e]
        for k in range(e):
            s -= L[i, e, k] * L[i, e, k]
        if not s > 0.0:
            return False
        L[i, e, e] = math.sqrt(s)
        s = v[i, e]
        for k in range(e):
            s -= L[i, e, k] * v[i, k]
        v[i, e] = s / L[i, e, e]
    return True


@inner
def add_crosses(W: Stack, m: Moments, i: Integer, U: Stack) -> None:
    """U[i] <- U[i] + C_i, in its leading r p columns."""
    q, p, r = m.ZX.shape[1], m.ZX.shape[2], W.shape[1]
    for c in range(m.first[i], m.first[i + 1]):
        a = m.cell_pattern[c]
        for k in range(r):
            for j in range(r):
                w = W[a, k, j]
                if w != 0.0:
                    for l in range(q):
                        for x in range(p):
                            U[i, k * q + l, j * p + x] += w * m.ZX[c, l, x]


@inner
def solve_crosses(L: Stack, i: Integer, U: Stack) -> None:
    """U[i] <- L_i^-1 U[i]."""
    for e in range(U.shape[1]):
        for k in range(e):
            f = L[i, e, k]
            for x in range(U.shape[2]):
                U[i, e, x] -= f * U[i, k, x]
        d = 1.0 / L[i, e, e]
        for x in range(U.shape[2]):
            U[i, e, x] *= d


@inner
def add_fixed(W: Stack, m: Moments, Q: Matrix, t: Vector) -> None:
    """Q, t <- Q + sum_a W_a kron (X'X)_a, t + vec(sum_a (X'Y)_a W_a), in their leading r p rows and columns."""
    p, r = m.XX.shape[1], W.shape[1]
    for a in range(W.shape[0]):
        if m.pattern_rows[a] == 0:
            continue
        for k in range(r):
            for j in range(r):
                w = W[a, k, j]
                for x in range(p):
                    t[k * p + x] += m.XY[a, x, j] * w
                    for h in range(p):
                        Q[k * p + x, j * p + h] += w * m.XX[a, x, h]


@inner
def subtract_clusters(U: Stack, v: Matrix, Q: Matrix, t: Vector) -> None:
    """Q, t <- Q - sum_i U_i'U_i (lower triangle), t - sum_i U_i'v_i."""
    clusters, n, P = U.shape
    for i in range(clusters):
        for e in range(n):
            for x in range(P):
                u = U[i, e, x]
                t[x] -= u * v[i, e]
                for h in range(x + 1):
                    Q[x, h] -= u * U[i, e, h]


@inner
def given_factors(z: Vector, L: Stack, U: Stack, v: Matrix, vec_beta: Vector, B: Stack) -> None:
    """B_i (m, q, r) <- L_i^-T (v_i - U_i vec(beta) + z_i), z (>= m n,) standard normal."""
    clusters, q, r = B.shape
    n = r * q
    b = np.empty(n)
    for i in range(clusters):
        for e in range(n):
            s = v[i, e]
            for x in range(vec_beta.size):
                s -= U[i, e, x] * vec_beta[x]
            b[e] = s + z[i * n + e]
        for e in range(n - 1, -1, -1):
            s = b[e]
            for k in range(e + 1, n):
                s -= L[i, k, e] * b[k]
            b[e] = s / L[i, e, e]
            B[i, e % q, e // q] = b[e]

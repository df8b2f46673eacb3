"""The restricted deviance of the model in meta_analysis.py, and its gradient.

With K_i = V_i^-1, N_i = K_i W_i, C^-1 = R R' = sum W_i'N_i, q_i = K_i r_i:

    deviance       = sum log|V_i| + 2 log|R| + sum r_i'q_i
    d deviance / dL = 2 G L,     G = sum { K_i - q_i q_i' - E_i'E_i },   E_i = R^-1 N_i'
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import (
    fill,
    semidefinite_cholesky,
    solve_lower,
    solve_lower_t,
)
from bayesimp.notation import Matrix, Stack

__all__ = ["RemlWork", "reml_deviance", "reml_work"]


class RemlWork(NamedTuple):
    """Results that the deviance leaves for its gradient and for draws, and work arrays; k = p + c."""

    K: np.ndarray  # (n, p, p)
    R: np.ndarray  # (k, k), k = p + c; lower triangle
    inverse: np.ndarray  # (k,): 1 / diagonal of R
    beta: np.ndarray  # (k,)
    dL: np.ndarray  # (p, p), lower triangle
    G: np.ndarray  # (p, p)
    E: np.ndarray  # (k + 1, p): E_i, then q_i
    r: np.ndarray  # (p,)


@inner
def reml_work(n: int, p: int, k: int) -> RemlWork:
    """Work arrays for n clusters, p means, k = p + c coefficients."""
    return RemlWork(
        np.empty((n, p, p)), np.zeros((k, k)), np.empty(k), np.empty(k), np.zeros((p, p)), np.empty((p, p)),
        np.empty((k + 1, p)), np.empty(p),
    )  # fmt: skip


@inner
def reml_deviance(b: Matrix, S: Stack, T: Matrix, L: Matrix, w: RemlWork) -> float:
    """w.K, w.R, w.beta, w.dL <- their values at Psi = L L'; returns the deviance, inf where it does not exist."""
    value = _normal_equations(b, S, T, L, w)
    k = w.beta.size
    if not value < math.inf or semidefinite_cholesky(w.R, k, 1e-11, k) < k:
        return math.inf
    for x in range(k):
        value += 2.0 * math.log(w.R[x, x])
        w.inverse[x] = 1.0 / w.R[x, x]
    solve_lower(w.R, w.beta, k)
    solve_lower_t(w.R, w.beta, k)
    return value + _gradient(b, T, L, w)


@inner
def _normal_equations(b: Matrix, S: Stack, T: Matrix, L: Matrix, w: RemlWork) -> float:
    """w.K <- K_i, w.R <- sum W_i'K_i W_i (lower), w.beta <- sum W_i'K_i b_i; returns sum log|V_i|."""
    (n, p), k, value, product = b.shape, w.beta.size, 0.0, 1.0
    K, R, h, Psi = w.K, w.R, w.beta, w.G
    for x in range(k):
        h[x] = 0.0
        for y in range(x + 1):
            R[x, y] = 0.0
    for x in range(p):
        for y in range(x + 1):
            s = 0.0
            for l in range(y + 1):
                s += L[x, l] * L[y, l]
            Psi[x, y] = s
            Psi[y, x] = s
    for i in range(n):
        for x in range(p):
            for y in range(p):
                K[i, x, y] = S[i, x, y] + Psi[x, y]
        for l in range(p):  # Gauss-Jordan elimination
            pivot = K[i, l, l]
            if not 0.0 < pivot < math.inf:
                return math.inf
            product *= pivot
            if not 1e-150 < product < 1e150:  # one logarithm for many pivots
                value, product = value + math.log(product), 1.0
            pivot = 1.0 / pivot
            K[i, l, l] = 1.0
            for y in range(p):
                K[i, l, y] *= pivot
            for x in range(p):
                if x != l:
                    s = K[i, x, l]
                    K[i, x, l] = 0.0
                    for y in range(p):
                        K[i, x, y] -= s * K[i, l, y]
        for x in range(p):
            s = 0.0
            for y in range(p):
                s += K[i, x, y] * b[i, y]
            h[x] += s
            for y in range(x + 1):
                R[x, y] += K[i, x, y]
            if x == 0:
                for a in range(k - p):
                    h[p + a] += s * T[i, a]
        for a in range(k - p):
            for y in range(p):
                R[p + a, y] += T[i, a] * K[i, 0, y]
            for e in range(a + 1):
                R[p + a, p + e] += T[i, a] * T[i, e] * K[i, 0, 0]
    return value + math.log(product)


@inner
def _gradient(b: Matrix, T: Matrix, L: Matrix, w: RemlWork) -> float:
    """w.dL <- 2 G L; returns sum r_i'K_i r_i."""
    (n, p), k, value = b.shape, w.beta.size, 0.0
    K, R, E, G, r = w.K, w.R, w.E, w.G, w.r
    fill(G, 0.0)
    for i in range(n):
        for x in range(p):
            r[x] = b[i, x] - w.beta[x]
        for a in range(k - p):
            r[0] -= T[i, a] * w.beta[p + a]
        for x in range(p):
            s = 0.0
            for y in range(p):
                s += K[i, x, y] * r[y]
            E[k, x] = s
            value += s * r[x]
        for x in range(k):
            row, t = (x, 1.0) if x < p else (0, T[i, x - p])
            for y in range(p):
                s = t * K[i, row, y]
                for l in range(x):
                    s -= R[x, l] * E[l, y]
                E[x, y] = s * w.inverse[x]
        for x in range(p):
            for y in range(x + 1):
                s = K[i, x, y]
                for l in range(k + 1):
                    s -= E[l, x] * E[l, y]
                G[x, y] += s
    for x in range(p):
        for y in range(x + 1):
            G[y, x] = G[x, y]
    for x in range(p):
        for y in range(x + 1):
            s = 0.0
            for l in range(y, p):
                s += G[x, l] * L[l, y]
            w.dL[x, y] = 2.0 * s
    return value

"""Terms of the observed values' log-likelihood (kernels/normal/marginal.py), by pattern and by cluster.

W_a = Sigma[O_a, O_a]^-1 zero-padded      P_i = sum_a kron(W_a, (Z'Z)_ia)      h_i = vec(sum_a (Z'R)_ia W_a)
V_i = (Psi^-1 + P_i)^-1 = L (I + L'P_i L)^-1 L',      Psi = L L'
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.covariance.inverse import inverse_of_lower, lower_factor, quadratic_form
from bayesimp.kernels.linalg import fill
from bayesimp.notation import Integer, Matrix, Stack, Vector

__all__ = ["fixed_part", "information", "posterior", "precisions", "random_by_residual"]

LOG_2PI = np.log(2 * np.pi)


@inner
def precisions(Sigma: Matrix, observed: NDArray[np.int32], W: Stack, logdet: Vector) -> bool:
    """W, logdet <- W_a, logdet Sigma[O_a, O_a] of every pattern; False if Sigma is not positive definite."""
    r = len(Sigma)
    if not lower_factor(Sigma, np.zeros((r, r))):
        return False
    S, L, M = np.zeros((r, r)), np.zeros((r, r)), np.zeros((r, r))
    for a in range(len(observed)):
        for i in range(r):
            for j in range(r):
                S[i, j] = 1.0 if i == j else 0.0  # unobserved: as if independent, with variance 1
                if observed[a, i] and observed[a, j]:
                    S[i, j] = Sigma[i, j]
        lower_factor(S, L)
        inverse_of_lower(L, M)
        logdet[a] = 0.0
        for i in range(r):
            logdet[a] += 2 * np.log(L[i, i])
            for j in range(r):
                W[a, i, j] = 0.0
                if observed[a, i] and observed[a, j]:
                    for k in range(r):
                        W[a, i, j] += M[k, i] * M[k, j]
    return True


@inner
def fixed_part(
    beta: Matrix, observed: NDArray[np.int32], W: Stack, logdet: Vector, total: Stack, R2: Stack, XR: Stack
) -> float:
    """-1/2 sum_a [n_a (|O_a| log 2pi + logdet) + tr(W_a R'R_a)]; R2 <- R'R_a, XR <- X'R_a."""
    p, r = beta.shape
    y = total.shape[1] - r  # first column of Y
    value = 0.0
    for a in range(len(observed)):
        G = total[a]
        for k in range(r):
            for c in range(p):
                x = G[1 + c, y + k]
                for d in range(p):
                    x -= G[1 + c, 1 + d] * beta[d, k]
                XR[a, c, k] = x
        value -= 0.5 * G[0, 0] * logdet[a]
        for j in range(r):
            value -= 0.5 * G[0, 0] * observed[a, j] * LOG_2PI
            for k in range(r):
                x = G[y + j, y + k]
                for c in range(p):
                    x -= G[y + j, 1 + c] * beta[c, k] + beta[c, j] * XR[a, c, k]
                R2[a, j, k] = x
                value -= 0.5 * W[a, j, k] * x
    return value


@inner
def random_by_residual(beta: Matrix, G: Matrix, l: int, k: int) -> float:
    """Row l, column k of Z'R = Z'Y - Z'X beta."""
    p, r = beta.shape
    z, y = 1 + p, len(G) - r
    x = G[z + l, y + k]
    for c in range(p):
        x -= G[z + l, 1 + c] * beta[c, k]
    return x


@inner
def information(
    beta: Matrix, W: Stack, cells: NDArray[np.int32], gram: Stack, start: Integer, P: Matrix, h: Vector
) -> Integer:
    """P_i, h_i <- those of the cluster whose cells begin at `start`; returns where its cells end."""
    p, r = beta.shape
    z, q = 1 + p, gram.shape[1] - 1 - p - r
    fill(P, 0.0)
    for i in range(len(h)):
        h[i] = 0.0
    stop = start
    while stop < len(cells) and cells[stop, 0] == cells[start, 0]:
        G, w = gram[stop], W[cells[stop, 1]]
        for l in range(q):
            for k in range(r):
                zr = random_by_residual(beta, G, l, k)
                for j in range(r):
                    h[j * q + l] += zr * w[k, j]
                    for c in range(q):
                        P[k * q + l, j * q + c] += w[k, j] * G[z + l, z + c]
        stop += 1
    return stop


@inner
def posterior(L: Matrix, P: Matrix, h: Vector, M: Matrix, V: Matrix, b: Vector) -> float:
    """V, b <- V_i and b_i = V_i h_i, with Psi = L L'; returns -1/2 logdet(I + Psi P_i) + 1/2 h_i'V_i h_i."""
    s = len(h)
    quadratic_form(P, L, M, V)
    for i in range(s):
        V[i, i] += 1
    if not lower_factor(V, M):
        return -np.inf
    value = 0.0
    for i in range(s):
        value -= np.log(M[i, i])
    # V_i = (M^-1 L')'(M^-1 L'); the lower triangle of V first holds M^-1
    inverse_of_lower(M, V)
    for i in range(s):
        for j in range(s):
            M[i, j] = 0
            for k in range(i + 1):
                M[i, j] += V[i, k] * L[j, k]
    for i in range(s):
        for j in range(s):
            V[i, j] = 0
            for k in range(s):
                V[i, j] += M[k, i] * M[k, j]
    for i in range(s):
        b[i] = 0
        for k in range(s):
            b[i] += V[i, k] * h[k]
        value += 0.5 * h[i] * b[i]
    return value

"""A covariance matrix S (d x d) in terms of free parameters, for samplers that move in a Euclidean space.

A matrix G, which is S or K = S^-1, is written as G = C C', where row k of C has length kappa_k, and

    y_k = log kappa_k,    sinh(x_kj) = C_kj / C_kk, j < k
    log|dS / d(y, x)| = d log 2 + (d+1)/2 log|S| + sum_kj log cosh x_kj,    for G = S and for G = K

With G = K, a Huang-Wand matrix has independent y_k and x_k (its precision is diag(kappa) R diag(kappa) with
R ~ LKJ(nu/2)), and so has an inverse-Wishart with diagonal scale; with G = S, the same is true of lkj. All
tails are exponential: at the smallest degrees of freedom NUTS meets neither a funnel nor a heavy tail.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.density import sandwich
from bayesimp.kernels.covariance.inverse import symmetric_inverse
from bayesimp.notation import Matrix, Vector

__all__ = ["from_free", "pull_free", "to_free"]


@inner
def _rows(free: Vector, d: int) -> tuple[Matrix, Matrix, Vector]:
    """C at `free`, u_kj = sinh(x_kj), and n_k^2 = 1 + sum_j u_kj^2."""
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
    """Gradient, with respect to `free`, of a function whose derivatives by S and the log Jacobian are given."""
    d = len(S)
    C, u, n2 = _rows(free, d)
    G_bar = np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            G_bar[i, j] = S_bar[i, j] + S_bar[j, i]
    sign = 1.0
    if precision:
        G_bar, sign = sandwich(S, G_bar), -1.0
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

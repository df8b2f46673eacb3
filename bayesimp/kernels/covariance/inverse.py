"""Inverse and log determinant of a symmetric positive definite matrix, and the routines behind them.

Unlike `bayesimp.kernels.linalg`, which overwrites its argument, these routines leave their arguments unchanged, and
they refuse infinite pivots: a density is then -inf instead of nan.
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import fill
from bayesimp.notation import Matrix

__all__ = ["inverse_of_lower", "lower_factor", "quadratic_form", "symmetric_inverse"]


@inner
def lower_factor(A: Matrix, L: Matrix) -> bool:
    """L <- lower Cholesky factor of A; returns False if A is not positive definite."""
    for i in range(len(A)):
        for j in range(i + 1):
            x = A[i, j]
            for k in range(j):
                x -= L[i, k] * L[j, k]
            if i > j:
                L[i, j] = x / L[j, j]
            elif x > 0 and x < np.inf:
                L[i, i] = np.sqrt(x)
            else:
                return False
    return True


@inner
def inverse_of_lower(L: Matrix, M: Matrix) -> None:
    """M <- L^-1, both lower triangular."""
    for j in range(len(L)):
        M[j, j] = 1 / L[j, j]
        for i in range(j + 1, len(L)):
            x = 0.0
            for k in range(j, i):
                x -= L[i, k] * M[k, j]
            M[i, j] = x / L[i, i]


@kernel(nogil=True)
def symmetric_inverse(S: Matrix) -> tuple[Matrix, float]:
    """S^-1 and log|S| of a symmetric (d, d) matrix; nan if it is not positive definite."""
    d = len(S)
    L, M, K = np.zeros((d, d)), np.zeros((d, d)), np.zeros((d, d))
    if not lower_factor(S, L):
        fill(K, np.nan)
        return K, np.nan
    inverse_of_lower(L, M)
    logdet = 0.0
    for i in range(d):
        logdet += 2 * np.log(L[i, i])
        for j in range(d):
            K[i, j] = 0
            for k in range(d):
                K[i, j] += M[k, i] * M[k, j]
    return K, logdet


@inner
def quadratic_form(A: Matrix, B: Matrix, AB: Matrix, out: Matrix) -> None:
    """out <- B'A B, AB <- A B."""
    s = len(A)
    for i in range(s):
        for j in range(s):
            AB[i, j] = 0
            for k in range(s):
                AB[i, j] += A[i, k] * B[k, j]
    for i in range(s):
        for j in range(s):
            out[i, j] = 0
            for k in range(s):
                out[i, j] += B[k, i] * AB[k, j]

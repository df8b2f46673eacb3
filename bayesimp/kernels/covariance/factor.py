"""Effects with covariance Psi, computed from independent ones, and the derivatives of this map.

    b_i = L u_i,      L L' = Psi,      u_i ~ N(0, I)

The derivative of L is obtained by reversing, line by line, the algorithm that computes L (Smith 1995, "Differentiation
of the Cholesky algorithm").
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.notation import Matrix

__all__ = ["effects", "pull_effects"]


@inner
def _factor(Psi: Matrix) -> Matrix:
    """L; nan where Psi is not positive definite."""
    d = Psi.shape[0]
    L = np.zeros((d, d))
    for k in range(d):
        for i in range(k, d):
            s = Psi[i, k]
            for j in range(k):
                s -= L[i, j] * L[k, j]
            if i > k:
                L[i, k] = s / L[k, k]
            else:
                L[k, k] = math.sqrt(s) if s > 0.0 else math.nan
    return L


@kernel(nogil=True)
def effects(u: Matrix, Psi: Matrix) -> Matrix:
    """(m, d) b from (m, d) u and (d, d) Psi; nan where Psi is not positive definite."""
    L, b = _factor(Psi), np.zeros(u.shape)
    for i in range(u.shape[0]):
        for j in range(L.shape[0]):
            for k in range(j + 1):
                b[i, j] += L[j, k] * u[i, k]
    return b


@kernel(nogil=True)
def pull_effects(u: Matrix, Psi: Matrix, b_bar: Matrix) -> tuple[Matrix, Matrix]:
    """Gradients with respect to u and to Psi (symmetric) of a function whose gradient with respect to b is b_bar."""
    L, u_bar = _factor(Psi), np.zeros(u.shape)
    d = L.shape[0]
    L_bar, Psi_bar = np.zeros((d, d)), np.zeros((d, d))
    for i in range(u.shape[0]):
        for j in range(d):
            for k in range(j + 1):
                u_bar[i, k] += L[j, k] * b_bar[i, j]
                L_bar[j, k] += u[i, k] * b_bar[i, j]
    for k in range(d - 1, -1, -1):
        for i in range(d - 1, k, -1):
            t = L_bar[i, k] / L[k, k]
            Psi_bar[i, k] = 0.5 * t
            Psi_bar[k, i] = 0.5 * t
            L_bar[k, k] -= t * L[i, k]
            for j in range(k):
                L_bar[i, j] -= t * L[k, j]
                L_bar[k, j] -= t * L[i, j]
        t = 0.5 * L_bar[k, k] / L[k, k]
        Psi_bar[k, k] = t
        for j in range(k):
            L_bar[k, j] -= 2.0 * t * L[k, j]
    return u_bar, Psi_bar

"""A covariance matrix given its leading block: the clusters' matrices where some variables are latent.

Latent variables (2) have no scale in any cluster, so their block equals that of S in all. The distribution is that of an
inverse-Wishart matrix IW(nu, A) given this block: with A_11.2 = A_11 - A_12 A_22^-1 A_21,

    Sigma_22 = S_22,    Sigma_11.2 ~ IW(nu, A_11.2),    G | Sigma_11.2 ~ N(A_12 A_22^-1, Sigma_11.2 x A_22^-1)
    Sigma_12 = G S_22,    Sigma_11 = Sigma_11.2 + G S_22 G'

G holds the regression coefficients of the numeric residuals (1) on the latent ones.
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import draw_inverse_wishart
from bayesimp.kernels.linalg import cholesky
from bayesimp.notation import Integer, Matrix

__all__ = ["draw_given_block"]


@inner
def draw_given_block(rng: np.random.Generator, nu: float, A: Matrix, S: Matrix, latent: Integer) -> bool:
    """A (r, r) <- a draw from IW(nu, A) given the leading block of S; False if A is not positive definite."""
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

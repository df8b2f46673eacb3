"""Multivariate random-effects meta-analysis: the mean of cluster estimates and their between-cluster covariance.

    b_i ~ N(W_i beta, V_i),   V_i = Psi + S_i,   Psi = L L',   i = 1..n,   S_i known

W_i = [I, e_1 t_i']: p means and, for the first of them, the regression on c cluster-level columns t_i (c = 0: none).

REML. With C^-1 = sum W_i'V_i^-1 W_i, beta_hat = C sum W_i'V_i^-1 b_i, r_i = b_i - W_i beta_hat,

    deviance       = sum log|V_i| - log|C| + sum r_i'V_i^-1 r_i           Jackson, Riley & White 2011, sec. 3
    d deviance / dL = 2 sum { V_i^-1 - V_i^-1 (r_i r_i' + W_i C W_i') V_i^-1 } L

L is unconstrained: the deviance is even in each of its columns, so a singular Psi needs no constraint. With H the second
derivatives of the deviance, vec L* ~ N(L_hat, 2 H^-1) (Resche-Rigon & White 2018; Audigier et al. 2018) in those
directions of L that the data determine: the others, with zero curvature or a standard deviation far above the spread of
the b_i, stay at L_hat, which is reported.

Moments (Jackson, White & Riley 2013; DerSimonian & Laird 1986 for p = 1). With the fit of Psi = 0, K_i = S_i^-1,
P_ij = W_i C W_j' K_j and A = I - P,

    Q   = sum K_i r_i r_i',     E Q = sum K_i (S_i - W_i C W_i') + sum_ij K_i A_ij Psi A_ij'

is solved for Psi, which is made symmetric and, through its eigenvalues, positive semidefinite. As published, Psi is not
drawn: Psi* = Psi_hat, so imputations ignore that Psi is estimated (improper in Rubin's sense).

beta* ~ N(beta_hat, C) at Psi*, its exact distribution given Psi* under a flat prior; as published, at Psi_hat.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.two_stage.reml import (
    NO_ESTIMATE,
    NOT_CONVERGED,
    SINGULAR,
    UNDETERMINED,
    draw_mean,
    reml,
)
from bayesimp.notation import Matrix, Stack, Vector

__all__ = ["MOMENTS", "REML", "WORDS", "MetaAnalysisDraw", "meta_analysis"]

REML, MOMENTS = 0, 1
TRUNCATED = 8
WORDS = {
    SINGULAR: "the covariance matrix between clusters is estimated as singular",
    UNDETERMINED: "there are too few clusters to determine their covariance matrix; the undetermined part is not drawn",
    NOT_CONVERGED: "the search for the covariance matrix between clusters ended before its maximum",
    TRUNCATED: "the moment estimate of the covariance between clusters was not positive semidefinite, and made so",
}


class MetaAnalysisDraw(NamedTuple):
    """Estimates beta (p + c,), L (p, p); draws beta_drawn, L_drawn; deviance: -2 log restricted likelihood, or nan.

    code: sum of the keys of WORDS that apply.
    """

    beta: np.ndarray
    L: np.ndarray
    beta_drawn: np.ndarray
    L_drawn: np.ndarray
    deviance: float
    code: int


def meta_analysis(
    rng: np.random.Generator, b: Matrix, S: Stack, T: Matrix, method: int = REML, published: bool = False
) -> MetaAnalysisDraw | None:
    """Estimate beta and Psi = L L', and draw them.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    b, S, T
        (n, p), (n, p, p), (n, c): estimates, their covariance matrices (positive definite), cluster-level columns.
    method
        REML or MOMENTS.
    published
        Whether to draw beta at Psi_hat instead of Psi*.

    Returns
    -------
    MetaAnalysisDraw, or None if there are too few clusters (n < 2 + c) or the columns of T are linearly dependent.
    """
    b, S, T = (np.ascontiguousarray(a, dtype=float) for a in (b, S, T))  # compiled only for that layout
    (n, p), c = b.shape, T.shape[1]
    L, L_drawn, beta, beta_drawn = np.zeros((p, p)), np.empty((p, p)), np.empty(p + c), np.empty(p + c)
    if n < 2 + c:
        return None
    if method == REML:
        deviance, code = reml(b, S, T, rng.standard_normal(p * (p + 1) // 2), L, L_drawn)
        if code == NO_ESTIMATE:
            return None
    else:
        if not draw_mean(b, S, T, L, L, np.zeros(p + c), beta, beta_drawn) < math.inf:
            return None
        L, code = _moments(b, S, T, beta)
        L_drawn, deviance = L, math.nan
    draw_mean(b, S, T, L, L if published else L_drawn, rng.standard_normal(p + c), beta, beta_drawn)
    return MetaAnalysisDraw(beta, L, beta_drawn, L_drawn, deviance, code)


def _moments(b: Matrix, S: Stack, T: Matrix, beta: Vector) -> tuple[Matrix, int]:
    """L_hat and code; beta is the estimate at Psi = 0."""
    (n, p), k = b.shape, len(beta)
    W = np.zeros((n, p, k))
    W[:, range(p), range(p)] = 1.0
    W[:, 0, p:] = T
    K = np.linalg.inv(S)
    KW = K @ W
    C = np.linalg.inv((W.swapaxes(1, 2) @ KW).sum(0))
    D = C @ KW.swapaxes(1, 2)  # P_ij = W_i D_j
    r, P = b - W @ beta, W @ D
    Q = np.einsum("ixl,il,iy->xy", K, r, r) - n * np.eye(p) + np.einsum("ixk,kl,iyl->xy", KW, C, W)
    # coefficients of Psi_ef in sum_ij (K_i A_ij Psi A_ij')_xy, A_ij = delta_ij I - W_i D_j
    M = np.einsum("ixe,yf->xyef", K - KW @ D, np.eye(p)) - np.einsum("ixe,iyf->xyef", K, P)
    outer = np.einsum("ixe,iyf->xyef", KW, W).reshape(p * p, k * k) @ np.einsum(
        "iex,ify->efxy", D, D
    ).reshape(k * k, p * p)
    Psi = np.linalg.solve(M.reshape(p * p, p * p) + outer, Q.ravel()).reshape(p, p)
    values, vectors = np.linalg.eigh(0.5 * (Psi + Psi.T))
    kept = values > 1e-10 * abs(values).max()
    root = vectors * np.sqrt(np.where(kept, values, 0.0))
    L = np.ascontiguousarray(np.linalg.qr(root.T)[1].T)  # root root' = L L', L lower triangular
    return L, TRUNCATED * bool((values < 0.0).any()) + SINGULAR * (not kept.all())

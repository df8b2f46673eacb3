"""Multivariate random-effects meta-analysis: estimates of clusters, their mean and the covariance between clusters.

    b_i ~ N(W_i beta, V_i),   V_i = Psi + S_i,   Psi = L L',   i = 1..n,   S_i known

W_i = [I, e_1 t_i']: p means and, on the first of them, the regression on c columns t_i of clusters (c = 0: none).

REML. With C^-1 = sum W_i'V_i^-1 W_i, beta_hat = C sum W_i'V_i^-1 b_i, r_i = b_i - W_i beta_hat,

    deviance       = sum log|V_i| - log|C| + sum r_i'V_i^-1 r_i           Jackson, Riley & White 2011, sec. 3
    d deviance / dL = 2 sum { V_i^-1 - V_i^-1 (r_i r_i' + W_i C W_i') V_i^-1 } L

L is free: the deviance is even in each of its columns, so a singular Psi needs no constraint. vec L* ~ N(L_hat, 2 H^-1)
with H the second derivatives of the deviance (Resche-Rigon & White 2018; Audigier et al. 2018), in those directions of L
that data determine: the others, of curvature zero or with a standard deviation far above the spread of the b_i, stay at
L_hat, which is reported.

Moments (Jackson, White & Riley 2013; DerSimonian & Laird 1986 for p = 1). With the fit of Psi = 0, K_i = S_i^-1,
P_ij = W_i C W_j' K_j and A = I - P,

    Q   = sum K_i r_i r_i',     E Q = sum K_i (S_i - W_i C W_i') + sum_ij K_i A_ij Psi A_ij'

is solved for Psi, made symmetric and, by its eigenvalues, positive semidefinite. As published it is not drawn:
Psi* = Psi_hat, so imputations do not know that Psi is estimated (improper in Rubin's sense).

beta* ~ N(beta_hat, C) at Psi*, its exact law given Psi* under a flat prior; as published at Psi_hat.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import (
    cholesky_log_det,
    copy_to,
    inverse_from_cholesky,
    semidefinite_cholesky,
)
from bayesimp.kernels.mixed_model_search import update_inverse_hessian

__all__ = ["MOMENTS", "REML", "WORDS", "MetaAnalysis", "meta_analysis"]

REML, MOMENTS = 0, 1
SINGULAR, UNDETERMINED, NOT_CONVERGED, TRUNCATED = 1, 2, 4, 8
WORDS = {
    SINGULAR: "the covariance matrix between clusters is estimated as singular",
    UNDETERMINED: "clusters are too few to determine their covariance matrix; what they leave open is not drawn",
    NOT_CONVERGED: "the search for the covariance matrix between clusters ended before its maximum",
    TRUNCATED: "the moment estimate of the covariance between clusters was not positive semidefinite, and made so",
}
EVALUATIONS = 300  # of a search
BOUNDARY = 1e-4  # standard deviations below this share of their scale are zero
STEP = 1e-4  # of differences, relative to the scale
FLAT = 1e-7  # share of the largest curvature below which there is none
FAR = 2.0  # standard deviations of L beyond this many scales: not determined


class MetaAnalysis(NamedTuple):
    """beta (p + c,), L (p, p): estimates; beta_drawn, L_drawn: draws; deviance: -2 log restricted likelihood, or nan.

    code: sum of the keys of WORDS that apply.
    """

    beta: np.ndarray
    L: np.ndarray
    beta_drawn: np.ndarray
    L_drawn: np.ndarray
    deviance: float
    code: int


def meta_analysis(rng, b, S, T, method=REML, published=False):
    """Estimate beta and Psi = L L', and draw them.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    b, S, T
        (n, p), (n, p, p), (n, c): estimates, their covariance matrices (positive definite), columns of clusters.
    method
        REML or MOMENTS.
    published
        Draw beta at Psi_hat, not at Psi*.

    Returns
    -------
    MetaAnalysis, or None where clusters are too few (n < 2 + c) or columns T depend on each other.
    """
    b, S, T = (np.ascontiguousarray(a, dtype=float) for a in (b, S, T))  # compiled for that layout alone
    (n, p), c = b.shape, T.shape[1]
    w = _Work(
        np.empty((n, p, p)),
        np.empty((p + c, p + c)),
        np.empty((p + c, p + c)),
        np.empty(p + c),
        np.zeros((p, p)),
    )
    if n < 2 + c or not _fit(b, S, T, np.zeros((p, p)), w) < math.inf:
        return None
    if method == REML:
        L, L_drawn, deviance, code = _reml(rng, b, S, T, w)
    else:
        L, code = _moments(b, S, T, w)
        L_drawn, deviance = L, math.nan
    _fit(b, S, T, L, w)
    beta = w.beta.copy()
    if not published:
        _fit(b, S, T, L_drawn, w)
    beta_drawn = w.beta + np.linalg.solve(np.tril(w.R).T, rng.standard_normal(p + c))
    return MetaAnalysis(beta, L, beta_drawn, L_drawn, deviance, code)


def _reml(rng, b, S, T, w):
    """L_hat, L*, deviance, code."""
    p = b.shape[1]
    scale, tau = _scales(b, S)
    free = np.tril_indices(p)
    L, code = np.diag(tau), 0
    for attempt in range(3):
        deviance, converged = _descend(b, S, T, L, w)
        values, vectors = np.linalg.eigh(_second_derivatives(b, S, T, L, scale, w))
        if attempt == 2 or values[0] > -1e-5 * abs(values[-1]):
            break
        L[free] += 0.1 * vectors[:, 0] * scale[free[0]]  # a saddle: off it
    sd = np.sqrt(2.0 / np.maximum(values, FLAT * max(values[-1], 1e-300)))
    determined = (values > FLAT * values[-1]) & (sd < FAR)
    step = vectors @ np.where(determined, sd * rng.standard_normal(len(values)), 0.0)
    drawn = L.copy()
    drawn[free] += step * scale[free[0]]
    code = SINGULAR * bool((np.abs(np.diag(L)) < BOUNDARY * scale).any())
    return L, drawn, deviance, code + UNDETERMINED * (not determined.all()) + NOT_CONVERGED * (not converged)


def _scales(b, S):
    """Standard deviation of b_i, within and between, and between alone: rough (DerSimonian & Laird), to start from."""
    weight = 1.0 / np.diagonal(S, axis1=1, axis2=2)
    total, n = weight.sum(0), len(b)
    heterogeneity = (weight * (b - (weight * b).sum(0) / total) ** 2).sum(0) - (n - 1)
    between = np.maximum(heterogeneity / (total - (weight**2).sum(0) / total), 0.1 * n / total)
    return np.sqrt(n / total + between), np.sqrt(between)


def _moments(b, S, T, w):
    """L_hat and code; w as `_fit` left it at L = 0, so that K_i = S_i^-1."""
    (n, p), k = b.shape, len(w.beta)
    W = np.zeros((n, p, k))
    W[:, range(p), range(p)] = 1.0
    W[:, 0, p:] = T
    K, KW = w.K, w.K @ W
    D = w.C @ KW.swapaxes(1, 2)  # P_ij = W_i D_j
    r, P = b - W @ w.beta, W @ D
    Q = np.einsum("ixl,il,iy->xy", K, r, r) - n * np.eye(p) + np.einsum("ixk,kl,iyl->xy", KW, w.C, W)
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


class _Work(NamedTuple):
    K: np.ndarray  # V_i^-1
    C: np.ndarray
    R: np.ndarray  # factor of C^-1
    beta: np.ndarray
    dL: np.ndarray


@kernel(nogil=True)
def _fit(b, S, T, L, w):
    """w.beta, w.C, w.R <- at Psi = L L', w.dL <- d deviance / dL; the deviance, inf where it does not exist."""
    n, p = b.shape
    k, value = w.beta.size, 0.0
    A, B, h, u = np.empty((p, p)), np.zeros((k, k)), np.zeros(k), np.empty(p)
    for i in range(n):
        for x in range(p):
            for y in range(x + 1):
                A[x, y] = S[i, x, y]
                for l in range(y + 1):
                    A[x, y] += L[x, l] * L[y, l]
        value += cholesky_log_det(A, p)
        if not value < math.inf:
            return math.inf
        inverse_from_cholesky(A, w.K[i], p)
        for x in range(k):
            row, s = (x, 1.0) if x < p else (0, T[i, x - p])
            for y in range(p):
                h[x] += s * w.K[i, row, y] * b[i, y]
            for y in range(x + 1):
                column, t = (y, 1.0) if y < p else (0, T[i, y - p])
                B[x, y] += s * t * w.K[i, row, column]
    copy_to(w.R, B)
    if semidefinite_cholesky(w.R, k, 1e-11, k) < k:
        return math.inf
    inverse_from_cholesky(w.R, w.C, k)
    for x in range(k):
        value += 2.0 * math.log(w.R[x, x])
        w.beta[x] = 0.0
        for y in range(k):
            w.beta[x] += w.C[x, y] * h[y]
    G = np.zeros((p, p))
    for i in range(n):
        _residual(b, T, w.beta, i, u)
        _inner_products(T, w.C, i, A)
        for x in range(p):
            for y in range(p):
                A[x, y] += u[x] * u[y]
                value += w.K[i, x, y] * u[x] * u[y]
        for x in range(p):
            for l in range(p):
                u[l] = 0.0
                for y in range(p):
                    u[l] += w.K[i, x, y] * A[y, l]
            for y in range(p):
                G[x, y] += w.K[i, x, y]
                for l in range(p):
                    G[x, y] -= u[l] * w.K[i, l, y]
    for x in range(p):
        for y in range(x + 1):
            w.dL[x, y] = 0.0
            for l in range(y, p):
                w.dL[x, y] += 2.0 * G[x, l] * L[l, y]
    return value


@inner
def _residual(b, T, beta, i, u):
    """u <- b_i - W_i beta."""
    p = u.size
    for x in range(p):
        u[x] = b[i, x] - beta[x]
    for x in range(p, beta.size):
        u[0] -= T[i, x - p] * beta[x]


@inner
def _inner_products(T, C, i, A):
    """A <- W_i C W_i'."""
    p, k = A.shape[0], C.shape[0]
    for x in range(p):
        for y in range(p):
            A[x, y] = C[x, y]
    for l in range(p, k):
        t = T[i, l - p]
        for y in range(p):
            A[0, y] += t * C[l, y]
            A[y, 0] += t * C[y, l]
        for y in range(p, k):
            A[0, 0] += t * T[i, y - p] * C[l, y]


@kernel(nogil=True)
def _descend(b, S, T, L, w):
    """L <- where BFGS ends; the deviance and whether no decrease is left. Armijo's rule; as in mixed_model_search."""
    p = L.shape[0]
    d = p * (p + 1) // 2
    H, scaled, trial = np.eye(d), False, np.zeros((p, p))
    s, y, g = np.zeros(d), np.empty(d), np.empty(d)
    copy_to(trial, L)
    value, slope, t = math.inf, 0.0, 1.0
    for _ in range(EVALUATIONS):
        after = _fit(b, S, T, trial, w)
        if not after <= value + 1e-4 * t * slope:
            if t < 1e-12:
                return value, -slope < 1e-7
            t *= 0.3
        else:
            if not after < math.inf:
                return after, False
            a = 0
            for x in range(p):
                for l in range(x + 1):
                    s[a], y[a], g[a] = trial[x, l] - L[x, l], w.dL[x, l] - g[a], w.dL[x, l]
                    a += 1
            if value < math.inf:
                scaled = update_inverse_hessian(H, s, y, scaled)
            copy_to(L, trial)
            value, slope, length, t = after, 0.0, 0.0, 1.0
            for a in range(d):
                s[a] = 0.0
                for l in range(d):
                    s[a] -= H[a, l] * g[l]
                slope += s[a] * g[a]
                length += s[a] * s[a]
            if -slope < 1e-10:
                return value, True
            if not scaled:
                t = min(1.0, 0.3 * abs(L[0, 0]) / math.sqrt(length))
        a = 0
        for x in range(p):
            for l in range(x + 1):
                trial[x, l] = L[x, l] + t * s[a]
                a += 1
    return value, False


@kernel(nogil=True)
def _second_derivatives(b, S, T, L, scale, w):
    """(d, d): differences of the gradient in the lower triangle of L, in units of scale."""
    p = L.shape[0]
    d = p * (p + 1) // 2
    H, moved = np.zeros((d, d)), L.copy()
    for side in range(2):
        sign, k = 1.0 - 2.0 * side, 0
        for x in range(p):
            for l in range(x + 1):
                moved[x, l] = L[x, l] + sign * STEP * scale[x]
                _fit(b, S, T, moved, w)
                moved[x, l] = L[x, l]
                a = 0
                for y in range(p):
                    for h in range(y + 1):
                        half = 0.25 * sign * w.dL[y, h] * scale[y] / STEP
                        H[k, a] += half
                        H[a, k] += half
                        a += 1
                k += 1
    return H

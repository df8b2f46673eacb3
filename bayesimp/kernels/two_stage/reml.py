"""Restricted maximum likelihood for the model in meta_analysis.py: the search for L, and draws of it.

The deviance and its gradient are in reml_deviance.py. The search is BFGS, whose first metric is the inverse of the
expected second derivatives in L_xl, L_yh, with K_i = V_i^-1,

    2 sum { (K_i)_xy (L'K_i L)_lh + (K_i L)_xh (K_i L)_yl }

which is the Fisher information with beta known: from there the search takes a third of the steps it takes from a multiple
of I.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import (
    copy_to,
    fill,
    inverse_from_cholesky,
    semidefinite_cholesky,
    solve_lower_t,
)
from bayesimp.kernels.lmm.search import update_inverse_hessian
from bayesimp.kernels.newton import downhill
from bayesimp.kernels.two_stage.reml_deviance import RemlWork, reml_deviance, reml_work
from bayesimp.notation import Matrix, Stack, Vector

__all__ = ["NOT_CONVERGED", "NO_ESTIMATE", "SINGULAR", "UNDETERMINED", "draw_mean", "reml"]

SINGULAR, UNDETERMINED, NOT_CONVERGED = 1, 2, 4
NO_ESTIMATE = -1
EVALUATIONS = 300  # per search, at most
BOUNDARY = 1e-4  # standard deviations below this share of their scale are zero
STEP = 1e-4  # step of differences, relative to the scale
FLAT = 1e-7  # share of the largest curvature below which a curvature is zero
FAR = 2.0  # a standard deviation of L beyond this many scales: not determined by the data


# -- search ------------------------------------------------------------------------------------------------------


@inner
def _first_metric(L: Matrix, w: RemlWork, H: Matrix) -> bool:
    """H (d, d) <- inverse of the expected second derivatives at L, w from `reml_deviance`; False if there is none."""
    p, n, d = L.shape[0], w.K.shape[0], H.shape[0]
    F, KL, LKL = np.zeros((d, d)), np.empty((p, p)), np.empty((p, p))
    for i in range(n):
        for x in range(p):
            for l in range(p):
                KL[x, l] = 0.0
                for y in range(l, p):
                    KL[x, l] += w.K[i, x, y] * L[y, l]
        for l in range(p):
            for h in range(p):
                LKL[l, h] = 0.0
                for y in range(l, p):
                    LKL[l, h] += L[y, l] * KL[y, h]
        a = 0
        for x in range(p):
            for l in range(x + 1):
                e = 0
                for y in range(x + 1):
                    for h in range(y + 1):
                        F[a, e] += 2.0 * (w.K[i, x, y] * LKL[l, h] + KL[x, h] * KL[y, l])
                        e += 1
                a += 1
    if semidefinite_cholesky(F, d, 1e-8, d) < d:
        return False
    inverse_from_cholesky(F, H, d)
    return True


@inner
def _descend(b: Matrix, S: Stack, T: Matrix, L: Matrix, w: RemlWork) -> tuple[float, bool]:
    """L <- end of BFGS with Armijo's rule; returns the deviance and whether no decrease is left."""
    p = L.shape[0]
    d = p * (p + 1) // 2
    H, scaled, trial = np.eye(d), False, np.zeros((p, p))
    s, y, g = np.zeros(d), np.empty(d), np.empty(d)
    copy_to(trial, L)
    value, slope, t = math.inf, 0.0, 1.0
    for _ in range(EVALUATIONS):
        after = reml_deviance(b, S, T, trial, w)
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
            else:
                scaled = _first_metric(trial, w, H)
            copy_to(L, trial)
            value, t = after, 1.0
            slope, length = downhill(H, g, s)
            if -slope < 1e-10:
                return value, True
            if not scaled:
                t = min(1.0, 0.3 * abs(L[0, 0]) / length)
        a = 0
        for x in range(p):
            for l in range(x + 1):
                trial[x, l] = L[x, l] + t * s[a]
                a += 1
    return value, False


@inner
def _second_derivatives(
    b: Matrix, S: Stack, T: Matrix, L: Matrix, scale: Vector, w: RemlWork, H: Matrix
) -> None:
    """H (d, d) <- differences of the gradient in the lower triangle of L, in units of scale; L does not change."""
    p, k = L.shape[0], 0
    fill(H, 0.0)
    for x in range(p):
        for l in range(x + 1):
            at = L[x, l]
            for side in range(2):
                sign = 1.0 - 2.0 * side
                L[x, l] = at + sign * STEP * scale[x]
                reml_deviance(b, S, T, L, w)
                a = 0
                for y in range(p):
                    for h in range(y + 1):
                        half = 0.25 * sign * w.dL[y, h] * scale[y] / STEP
                        H[k, a] += half
                        H[a, k] += half
                        a += 1
            L[x, l] = at
            k += 1


@inner
def _scales(b: Matrix, S: Stack, scale: Vector, L: Matrix) -> None:
    """scale <- standard deviation of the b_i; diagonal of L <- rough starting value of its between-cluster part
    (DerSimonian & Laird)."""
    n, p = b.shape
    for x in range(p):
        total, squares, mean, Q = 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            weight = 1.0 / S[i, x, x]
            total += weight
            squares += weight * weight
            mean += weight * b[i, x]
        for i in range(n):
            Q += (b[i, x] - mean / total) ** 2 / S[i, x, x]
        between = max((Q - (n - 1)) / (total - squares / total), 0.1 * n / total)
        scale[x], L[x, x] = math.sqrt(n / total + between), math.sqrt(between)


@kernel(nogil=True)
def reml(b: Matrix, S: Stack, T: Matrix, z: Vector, L: Matrix, drawn: Matrix) -> tuple[float, int]:
    """L, drawn (p, p) <- L_hat, L*, from standard normal z (d,).

    Returns the deviance and the sum of codes that apply, or NO_ESTIMATE.
    """
    n, p = b.shape
    d = p * (p + 1) // 2
    w, H, scale = reml_work(n, p, p + T.shape[1]), np.empty((d, d)), np.empty(p)
    fill(L, 0.0)
    if not reml_deviance(b, S, T, L, w) < math.inf:
        return math.nan, NO_ESTIMATE
    _scales(b, S, scale, L)
    attempt = 0
    while True:
        deviance, converged = _descend(b, S, T, L, w)
        _second_derivatives(b, S, T, L, scale, w, H)
        values, vectors = np.linalg.eigh(H)
        attempt += 1
        if attempt == 3 or values[0] > -1e-5 * abs(values[d - 1]):
            break
        _add(L, vectors, 0, 0.1, scale)  # leave the saddle point
    copy_to(drawn, L)
    code, largest = 0 if converged else NOT_CONVERGED, values[d - 1]
    for e in range(d):
        sd = math.sqrt(2.0 / max(values[e], FLAT * max(largest, 1e-300)))
        if values[e] > FLAT * largest and sd < FAR:
            _add(drawn, vectors, e, sd * z[e], scale)
        else:
            code |= UNDETERMINED
    for x in range(p):
        if abs(L[x, x]) < BOUNDARY * scale[x]:
            code |= SINGULAR
    return deviance, code


@inner
def _add(L: Matrix, vectors: Matrix, e: int, length: float, scale: Vector) -> None:
    """L <- L + length times eigenvector e of the second derivatives."""
    a = 0
    for x in range(L.shape[0]):
        for l in range(x + 1):
            L[x, l] += length * vectors[a, e] * scale[x]
            a += 1


# -- mean --------------------------------------------------------------------------------------------------------


@kernel(nogil=True)
def draw_mean(
    b: Matrix, S: Stack, T: Matrix, L: Matrix, L_drawn: Matrix, z: Vector, beta: Vector, drawn: Vector
) -> float:
    """beta (k,) <- beta_hat at L; drawn (k,) <- beta_hat + R^-T z at L_drawn, with covariance C for normal z.

    Returns the deviance at L.
    """
    k = beta.size
    w = reml_work(b.shape[0], b.shape[1], k)
    for side in range(2):  # a single call of reml_deviance, which is slow to compile
        after = reml_deviance(b, S, T, L if side == 0 else L_drawn, w)
        if side == 0:
            value = after
            for x in range(k):
                beta[x] = w.beta[x]
    for x in range(k):
        drawn[x] = z[x]
    solve_lower_t(w.R, drawn, k)
    for x in range(k):
        drawn[x] += w.beta[x]
    return value

"""Restricted maximum likelihood of the model in meta_analysis.py: the search for L, and draws of it.

With K_i = V_i^-1, N_i = K_i W_i, C^-1 = R R' = sum W_i'N_i, q_i = K_i r_i:

    deviance       = sum log|V_i| + 2 log|R| + sum r_i'q_i
    d deviance / dL = 2 G L,     G = sum { K_i - q_i q_i' - E_i'E_i },   E_i = R^-1 N_i'

The search is BFGS. Its first metric is the inverse of what the second derivatives in L_xl, L_yh are expected to be,

    2 sum { (K_i)_xy (L'K_i L)_lh + (K_i L)_xh (K_i L)_yl }

the Fisher information with beta known: from there it takes a third of the steps that it takes from a multiple of I.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import (
    copy_to,
    fill,
    inverse_from_cholesky,
    semidefinite_cholesky,
    solve_lower,
    solve_lower_t,
)
from bayesimp.kernels.lmm.search import update_inverse_hessian
from bayesimp.kernels.newton import downhill
from bayesimp.notation import Matrix, Stack, Vector

__all__ = ["NOT_CONVERGED", "NO_ESTIMATE", "SINGULAR", "UNDETERMINED", "draw_mean", "reml"]

SINGULAR, UNDETERMINED, NOT_CONVERGED = 1, 2, 4
NO_ESTIMATE = -1
EVALUATIONS = 300  # of a search
BOUNDARY = 1e-4  # standard deviations below this share of their scale are zero
STEP = 1e-4  # of differences, relative to the scale
FLAT = 1e-7  # share of the largest curvature below which there is none
FAR = 2.0  # standard deviations of L beyond this many scales: not determined


class _Work(NamedTuple):
    K: np.ndarray  # (n, p, p)
    R: np.ndarray  # (k, k), k = p + c; lower triangle
    inverse: np.ndarray  # (k,), of the diagonal of R
    beta: np.ndarray  # (k,)
    dL: np.ndarray  # (p, p), lower triangle
    G: np.ndarray  # (p, p)
    E: np.ndarray  # (k + 1, p): E_i, then q_i
    r: np.ndarray  # (p,)


@inner
def _work(n: int, p: int, k: int) -> _Work:
    return _Work(
        np.empty((n, p, p)), np.zeros((k, k)), np.empty(k), np.empty(k), np.zeros((p, p)), np.empty((p, p)),
        np.empty((k + 1, p)), np.empty(p),
    )  # fmt: skip


# -- deviance ----------------------------------------------------------------------------------------------------


@inner
def _fit(b: Matrix, S: Stack, T: Matrix, L: Matrix, w: _Work) -> float:
    """w.K, w.R, w.beta, w.dL <- at Psi = L L'; the deviance, inf where it does not exist."""
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
def _normal_equations(b: Matrix, S: Stack, T: Matrix, L: Matrix, w: _Work) -> float:
    """w.K <- K_i, w.R <- sum W_i'K_i W_i (lower), w.beta <- sum W_i'K_i b_i; sum log|V_i|."""
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
        for l in range(p):  # Gauss and Jordan
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
def _gradient(b: Matrix, T: Matrix, L: Matrix, w: _Work) -> float:
    """w.dL <- 2 G L; sum r_i'K_i r_i."""
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


# -- search ------------------------------------------------------------------------------------------------------


@inner
def _first_metric(L: Matrix, w: _Work, H: Matrix) -> bool:
    """H (d, d) <- the inverse of the expected second derivatives at L, w of `_fit`; False where it has none."""
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
def _descend(b: Matrix, S: Stack, T: Matrix, L: Matrix, w: _Work) -> tuple[float, bool]:
    """L <- the end of BFGS, with Armijo's rule; returns the deviance and whether no decrease is left."""
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
    b: Matrix, S: Stack, T: Matrix, L: Matrix, scale: Vector, w: _Work, H: Matrix
) -> None:
    """H (d, d) <- differences of the gradient in the lower triangle of L, in units of scale; L is unchanged."""
    p, k = L.shape[0], 0
    fill(H, 0.0)
    for x in range(p):
        for l in range(x + 1):
            at = L[x, l]
            for side in range(2):
                sign = 1.0 - 2.0 * side
                L[x, l] = at + sign * STEP * scale[x]
                _fit(b, S, T, L, w)
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
    """scale, diagonal of L <- standard deviation of b_i, and of it what is between clusters: rough (DerSimonian &
    Laird), to start from."""
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
    w, H, scale = _work(n, p, p + T.shape[1]), np.empty((d, d)), np.empty(p)
    fill(L, 0.0)
    if not _fit(b, S, T, L, w) < math.inf:
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
        _add(L, vectors, 0, 0.1, scale)  # a saddle: off it
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
    """L <- L + length times an eigenvector of the second derivatives."""
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
    """beta (k,) <- beta_hat at L; drawn (k,) <- beta_hat + R^-T z at L_drawn, so of covariance C for normal z.

    Returns the deviance at L.
    """
    k = beta.size
    w = _work(b.shape[0], b.shape[1], k)
    for side in range(2):  # one call of _fit, for the time it takes to compile
        after = _fit(b, S, T, L if side == 0 else L_drawn, w)
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

"""Fits of single clusters by maximum likelihood or least squares, and draws for those without a finite estimate.

Newton's method starts where the last visit ended; a cluster's columns are contiguous in memory. The last step is made
when twice the remaining gain in log-likelihood, g'H^-1 g, is below 1e-6; after it, the remaining gain is about 1e-12. The
information is that of the last evaluation, a thousandth of a standard error away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel, reduction
from bayesimp.kernels.families.scalar import POISSON, all_terms, sum_of_logs
from bayesimp.kernels.glm.density import GlmPrior, curvature
from bayesimp.kernels.glm.posterior import find_mode, metropolis
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.linalg import (
    fill,
    inverse_from_cholesky,
    semidefinite_cholesky,
    solve_lower,
    solve_lower_t,
)
from bayesimp.kernels.newton import newton_step
from bayesimp.notation import IntVector, Matrix, Stack, Vector

__all__ = ["FAILED", "FITTED", "NO_ROWS", "STEPS", "draw_failed", "fit_clusters", "fit_normal"]

NO_ROWS, FITTED, DEPENDENT, SEPARATED, NOT_CONVERGED, FEW_ROWS, EXACT = range(-1, 6)
FAILED = {
    DEPENDENT: "predictors are linearly dependent in the cluster",
    SEPARATED: "predictors separate the values of the cluster, or all are equal: its estimate is infinite",
    NOT_CONVERGED: "the fit of the cluster did not converge",
    FEW_ROWS: "the cluster has too few rows for a variance of its own (at most 4 degrees of freedom)",
    EXACT: "predictors fit the values of the cluster exactly, or all are equal: no residual variance",
}
STEPS = 20  # Metropolis steps for a failed cluster
NO_RESIDUAL = 1e-12  # share of the sum of squares
SINGULAR = 1e-10  # columns are dependent if elimination leaves less than this share of a diagonal element
EVALUATIONS = 100  # per search, at most
DECREMENT, LEAST = 1e-6, 1e-9  # twice the log-likelihood still to gain: worth one more step; nothing
LONG = 1e-3  # a step this long that gains nothing: the estimate is infinite


class _Cluster(NamedTuple):
    x: np.ndarray  # (p, N): columns of the cluster, N rows of the largest
    offset: np.ndarray  # (N,), as are the next four
    eta: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    product: np.ndarray
    g: np.ndarray  # (p,), as are the next two
    step: np.ndarray
    new: np.ndarray
    G: np.ndarray  # (p, p), lower triangle


@inner
def _workspace(rows: GlmmRows) -> _Cluster:
    p, N = rows.X.shape[1], 0
    for i in range(rows.first.size - 1):
        N = max(N, rows.first[i + 1] - rows.first[i])
    return _Cluster(
        np.empty((p, N)), np.empty(N), np.empty(N), np.empty(N), np.empty(N), np.empty(N),
        np.empty(p), np.empty(p), np.empty(p), np.zeros((p, p)),
    )  # fmt: skip


@inner
def _load(rows: GlmmRows, start: int, n: int, c: _Cluster) -> None:
    for j in range(n):
        c.offset[j] = rows.offset[start + j]
        for a in range(c.g.size):
            c.x[a, j] = rows.X[start + j, a]


@reduction
def _cross_products(n: int, c: _Cluster) -> None:
    """g <- x'score, G <- x'(weight x), lower triangle."""
    for a in range(c.g.size):
        s = 0.0
        for j in range(n):
            s += c.x[a, j] * c.score[j]
            c.product[j] = c.x[a, j] * c.weight[j]
        c.g[a] = s
        for b in range(a + 1):
            s = 0.0
            for j in range(n):
                s += c.product[j] * c.x[b, j]
            c.G[a, b] = s


@inner
def _predict(n: int, c: _Cluster, b: Vector) -> None:
    """eta <- offset + x'b."""
    for j in range(n):
        c.eta[j] = c.offset[j]
    for a in range(b.size):
        for j in range(n):
            c.eta[j] += c.x[a, j] * b[a]


@kernel(nogil=True)
def fit_normal(
    rows: GlmmRows, fits: Matrix, XX: Stack, Xy: Matrix, s2: Vector, yy: Vector, status: IntVector
) -> None:
    """Least squares by cluster; s2 and yy must be zero on entry."""
    p = rows.X.shape[1]
    c, b = _workspace(rows), np.empty(p)
    for i in range(rows.first.size - 1):
        start, n = rows.first[i], rows.first[i + 1] - rows.first[i]
        status[i] = NO_ROWS if n == 0 else FEW_ROWS if n - p <= 4 else FITTED
        _load(rows, start, n, c)
        for j in range(n):
            y = rows.y[start + j] - c.offset[j]
            c.weight[j], c.score[j] = rows.weight[start + j], rows.weight[start + j] * y
            yy[i] += c.score[j] * y
        _cross_products(n, c)
        for x in range(p):
            Xy[i, x], b[x] = c.g[x], c.g[x]
            for k in range(x + 1):
                XX[i, x, k], XX[i, k, x] = c.G[x, k], c.G[x, k]
        if status[i] != FITTED:
            continue
        if semidefinite_cholesky(c.G, p, SINGULAR, p) < p:
            status[i] = DEPENDENT
            continue
        solve_lower(c.G, b, p)
        solve_lower_t(c.G, b, p)
        _predict(n, c, b)
        for j in range(n):
            s2[i] += c.weight[j] * (rows.y[start + j] - c.eta[j]) ** 2 / (n - p)
        if not s2[i] > NO_RESIDUAL * yy[i]:
            status[i] = EXACT
        for x in range(p):
            fits[i, x] = b[x]


@inner
def _log_likelihood(rows: GlmmRows, start: int, n: int, c: _Cluster) -> float:
    """Log-likelihood of a cluster at c.eta, up to a constant; c.score, c.weight <- its derivatives in eta."""
    value, product = 0.0, 1.0
    for j in range(n):
        w, trials = rows.weight[start + j], rows.trials[start + j]
        l, rest, score, minus, _, _ = all_terms(rows.family, rows.y[start + j], trials, c.eta[j], 1.0)
        product, logs = sum_of_logs(product, w * trials, rest)
        value += w * l - logs
        c.score[j], c.weight[j] = w * score, w * minus
    value -= math.log(product)
    return value if value == value else -math.inf


@inner
def _newton(rows: GlmmRows, start: int, n: int, c: _Cluster, b: Vector, H: Matrix) -> int:
    """b <- maximum of a cluster's likelihood, H <- information, c.G <- its factor; returns FITTED or why it failed."""
    p, value, t = b.size, -math.inf, 1.0
    for x in range(p):
        c.step[x] = 0.0
    for evaluation in range(EVALUATIONS):
        for x in range(p):
            c.new[x] = b[x] + t * c.step[x]
        _predict(n, c, c.new)
        after = _log_likelihood(rows, start, n, c)
        if evaluation > 0 and not after >= value - 1e-12 * abs(value):
            t *= 0.5
            if t < 1e-8:
                return NOT_CONVERGED
            continue
        value, t = after, 1.0
        _cross_products(n, c)
        for x in range(p):
            b[x], c.step[x] = c.new[x], c.g[x]
            for y in range(x + 1):
                H[x, y] = c.G[x, y]
        if semidefinite_cholesky(c.G, p, SINGULAR, p) < p:
            return DEPENDENT if evaluation == 0 else SEPARATED
        gain, longest = newton_step(c.G, c.step), 0.0
        for x in range(p):
            longest = max(longest, abs(c.step[x]))
        if gain < DECREMENT and longest < LONG:
            for x in range(p):
                b[x] += c.step[x]
            return FITTED
        if gain < LEAST:
            return SEPARATED
    return NOT_CONVERGED


@kernel(nogil=True)
def fit_clusters(rows: GlmmRows, fits: Matrix, H: Stack, Hb: Matrix, S: Stack, status: IntVector) -> None:
    """Maximum likelihood by cluster, started from fits (nan: cold); H (m, p, p) <- information, S <- H^-1, Hb (m, p).

    Without a fit these are zero, and fits is nan.
    """
    p = rows.X.shape[1]
    c, b = _workspace(rows), np.empty(p)
    for i in range(rows.first.size - 1):
        start, n = rows.first[i], rows.first[i + 1] - rows.first[i]
        status[i] = NO_ROWS
        warm = fits[i, 0] == fits[i, 0]
        _load(rows, start, n, c)
        while n > 0:  # after a failed warm start, try a cold one
            total = 0.0
            for j in range(n):
                total += rows.y[start + j]
            for x in range(p):
                b[x] = fits[i, x] if warm else 0.0
            if rows.family == POISSON and not warm:
                b[0] = math.log((total + 0.5) / n)
            status[i] = _newton(rows, start, n, c, b, H[i])
            if status[i] == FITTED or not warm:
                break
            warm = False
        fitted = status[i] == FITTED
        if fitted:
            inverse_from_cholesky(c.G, S[i], p)
        for x in range(p):
            Hb[i, x], fits[i, x] = 0.0, b[x] if fitted else math.nan
            for y in range(p):
                if y > x:
                    H[i, x, y] = H[i, y, x]
                if not fitted:
                    H[i, x, y] = 0.0
                    S[i, x, y] = 0.0
                else:
                    Hb[i, x] += H[i, x, y] * b[y]


@kernel(nogil=True)
def draw_failed(
    rng: np.random.Generator,
    rows: GlmmRows,
    failed: IntVector,
    means: Matrix,
    L: Matrix,
    effects: Matrix,
    coefficients: Matrix,
) -> tuple[int, int]:
    """coefficients of failed clusters <- draws from their exact conditionals; returns the numbers of accepted steps and
    of clusters without a mode, which keep their values."""
    p, accepted = L.shape[0], 0
    prior = GlmPrior(np.zeros(p), np.ones(p), 1.0, 0.0, np.zeros(1), 0.0)  # v ~ N(0, I)
    h, none, mode = curvature(p, 0, 1), np.empty((0, 1)), np.empty(p)
    bounds, levels, lost = np.zeros(2, np.int64), np.int64(2), 0
    for i in failed:
        start, stop = rows.first[i], rows.first[i + 1]
        bounds[1] = stop - start
        X, offset = np.empty((stop - start, p)), np.empty(stop - start)
        fill(X, 0.0)
        for j in range(stop - start):  # eta = offset + x'mu + (x'L) v
            offset[j] = rows.offset[start + j]
            for x in range(p):
                offset[j] += rows.X[start + j, x] * means[i, x]
                for k in range(x + 1):
                    X[j, k] += rows.X[start + j, x] * L[x, k]
        own = GlmmRows(
            rows.family,
            rows.y[start:stop],
            rows.trials[start:stop],
            rows.weight[start:stop],
            offset,
            X,
            rows.Z,
            rows.first,
        )
        for x in range(p):
            mode[x] = 0.0
        if find_mode(own, levels, bounds, prior, mode, none, h) != FITTED:
            lost += 1
            continue
        accepted += metropolis(rng, own, levels, bounds, prior, STEPS, mode, h, effects[i])
        for x in range(p):
            coefficients[i, x] = means[i, x]
            for k in range(x + 1):
                coefficients[i, x] += L[x, k] * effects[i, k]
    return accepted, lost

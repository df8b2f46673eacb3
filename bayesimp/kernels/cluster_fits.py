"""Every cluster by itself: maximum likelihood or least squares, and draws where that has no finite estimate."""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families import POISSON
from bayesimp.kernels.glm import Prior, curvature
from bayesimp.kernels.glm_posterior import find_mode, metropolis
from bayesimp.kernels.glmm_rows import GlmmRows
from bayesimp.kernels.linalg import fill, semidefinite_cholesky, solve_lower, solve_lower_t

__all__ = ["FAILED", "FITTED", "NO_ROWS", "STEPS", "draw_failed", "fit_clusters", "fit_normal"]

NO_ROWS, FITTED, DEPENDENT, SEPARATED, NOT_CONVERGED, FEW_ROWS, EXACT = range(-1, 6)
FAILED = {
    DEPENDENT: "predictors are linearly dependent in the cluster",
    SEPARATED: "predictors separate the values of the cluster, or all are equal: its estimate is infinite",
    NOT_CONVERGED: "the fit of the cluster did not converge",
    FEW_ROWS: "the cluster has too few rows for a variance of its own (at most 4 degrees of freedom)",
    EXACT: "predictors fit the values of the cluster exactly, or all are equal: no residual variance",
}
STEPS = 20  # of Metropolis for a failed cluster
NO_RESIDUAL = 1e-12  # share of the sum of squares


@kernel(nogil=True)
def fit_normal(rows, fits, XX, Xy, s2, yy, status):
    """Least squares by cluster; XX, Xy, yy zero on entry."""
    p = rows.X.shape[1]
    L, b = np.empty((p, p)), np.empty(p)
    for i in range(rows.first.size - 1):
        start, stop = rows.first[i], rows.first[i + 1]
        status[i] = NO_ROWS if stop == start else FEW_ROWS if stop - start - p <= 4 else FITTED
        for j in range(start, stop):
            w, y = rows.weight[j], rows.y[j] - rows.offset[j]
            yy[i] += w * y * y
            for x in range(p):
                Xy[i, x] += w * rows.X[j, x] * y
                for k in range(p):
                    XX[i, x, k] += w * rows.X[j, x] * rows.X[j, k]
        if status[i] != FITTED:
            continue
        for x in range(p):
            b[x] = Xy[i, x]
            for k in range(p):
                L[x, k] = XX[i, x, k]
        if semidefinite_cholesky(L, p, 1e-10, p) < p:
            status[i] = DEPENDENT
            continue
        solve_lower(L, b, p)
        solve_lower_t(L, b, p)
        for j in range(start, stop):
            residual = rows.y[j] - rows.offset[j]
            for x in range(p):
                residual -= rows.X[j, x] * b[x]
            s2[i] += rows.weight[j] * residual**2 / (stop - start - p)
        if not s2[i] > NO_RESIDUAL * yy[i]:
            status[i] = EXACT
        for x in range(p):
            fits[i, x] = b[x]


@inner
def _centred_prior(p, precision):
    """beta ~ N(0, 1 / precision)."""
    return Prior(np.zeros(p), np.full(p, precision), 1.0, 0.0, np.zeros(1), 0.0)


@kernel(nogil=True)
def fit_clusters(rows, fits, H, status):
    """Maximum likelihood by cluster from fits, nan for a cold start; H (m, p, p) <- information."""
    p = rows.X.shape[1]
    h, none, prior, b = curvature(p, 0, 1), np.empty((0, 1)), _centred_prior(p, 0.0), np.empty(p)
    bounds, levels = np.empty(2, np.int64), np.int64(2)
    for i in range(rows.first.size - 1):
        bounds[0], bounds[1] = rows.first[i], rows.first[i + 1]
        status[i] = NO_ROWS
        warm = fits[i, 0] == fits[i, 0]
        while bounds[1] > bounds[0]:  # a failed warm start is followed by a cold one
            total = 0.0
            for j in range(bounds[0], bounds[1]):
                total += rows.y[j]
            for x in range(p):
                b[x] = fits[i, x] if warm else 0.0
            if rows.family == POISSON and not warm:
                b[0] = math.log((total + 0.5) / (bounds[1] - bounds[0]))
            status[i] = find_mode(rows, levels, bounds, prior, b, none, h)
            if status[i] == FITTED or not warm:
                break
            warm = False
        for x in range(p):
            fits[i, x] = b[x] if status[i] == FITTED else math.nan
            for y in range(p):  # H = G G'
                H[i, x, y] = 0.0
                if status[i] == FITTED:
                    for k in range(min(x, y) + 1):
                        H[i, x, y] += h.G[x, k] * h.G[y, k]


@kernel(nogil=True)
def draw_failed(rng, rows, failed, means, L, effects, coefficients):
    """coefficients of failed clusters <- from their exact conditional laws; the numbers of accepted steps and of
    clusters without a mode, left as they are."""
    p, accepted = L.shape[0], 0
    h, none, prior, mode = curvature(p, 0, 1), np.empty((0, 1)), _centred_prior(p, 1.0), np.empty(p)
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

"""The search for the best Lambda (BFGS with exact gradients), table after table, and its information."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from bayesimp.kernels.linalg import inner
from bayesimp.kernels.profiled_deviance import (
    cluster_products,
    copy_vector,
    deviance,
    orthonormalise,
    project_out,
    sum_of_squares,
    workspace,
)

__all__ = ["evaluate", "search"]

BOUNDARY = 1e-4  # a relative standard deviation below this counts as zero; as lme4's isSingular(tol = 1e-4)
START = 0.5  # relative standard deviation to start from: intraclass correlation 0.2
AWAY = 0.03  # and to start from again, so near to zero that a search finds back only if zero is a minimum
RESOLUTION = 1e-11  # decrease of the deviance not worth a step
EVALUATIONS = 500
STEP = 1e-4  # for differences of the gradient


@inner
def update_inverse_hessian(H, s, y, scaled):
    """BFGS (Nocedal & Wright 2006, eq. 6.17; 6.20 first), skipped where curvature is not positive."""
    d = s.shape[0]
    Hy = np.zeros(d)
    sy, yHy, yy = 0.0, 0.0, sum_of_squares(y)
    for a in range(d):
        sy += s[a] * y[a]
    if not sy > 1e-14:
        return scaled
    for a in range(d):
        if not scaled:
            H[a, a] = sy / yy
    for a in range(d):
        for b in range(d):
            Hy[a] += H[a, b] * y[b]
        yHy += y[a] * Hy[a]
    for a in range(d):
        for b in range(d):
            H[a, b] += (1.0 + yHy / sy) * s[a] * s[b] / sy - (Hy[a] * s[b] + s[a] * Hy[b]) / sy
    return True


@inner
def minimise(theta, free, A, B, c, n, reml, work, g):
    """theta <- where BFGS from theta ends, g <- gradient; returns deviance, whether no decrease is left."""
    d = theta.shape[0]
    H, scaled = np.eye(d), False
    s, y, trial, g_trial = np.zeros(d), np.empty(d), theta.copy(), np.empty(d)
    value, slope, t = np.inf, 0.0, 1.0
    for _ in range(EVALUATIONS):
        after = deviance(trial, free, A, B, c, n, reml, 0.0, work, g_trial)
        if not after <= value + 1e-4 * t * slope:  # backtrack until the decrease is sufficient (Armijo)
            if t < 1e-12:
                # what is left to gain is below rounding of the deviance (near enough), or the search is stuck
                return value, -slope < 1e-7
            parabola = -slope * t / (2.0 * (after - value - slope * t)) if after < np.inf else 0.1
            shrink = max(0.1, min(0.5, parabola))
            t *= shrink
            for a in range(d):
                trial[a] = theta[a] + t * s[a]
            continue
        if value < np.inf:
            for a in range(d):
                s[a], y[a] = trial[a] - theta[a], g_trial[a] - g[a]
            scaled = update_inverse_hessian(H, s, y, scaled)
        copy_vector(theta, trial)
        copy_vector(g, g_trial)
        value, slope, length = after, 0.0, 0.0
        for a in range(d):
            s[a] = 0.0
            for b in range(d):
                s[a] -= H[a, b] * g[b]
            slope += s[a] * g[a]
            length += s[a] * s[a]
        if -slope < RESOLUTION:
            return value, True
        t = 1.0 if scaled else min(1.0, 0.5 / math.sqrt(length))
        for a in range(d):
            trial[a] = theta[a] + t * s[a]
    return value, False


@inner
def is_singular(theta, free):
    for k in range(theta.shape[0]):
        if free[k, 0] == free[k, 1] and abs(theta[k]) < BOUNDARY:
            return True
    return False


@inner
def best_of_two(theta, free, A, B, c, n, reml, work, g):
    """`minimise`, and once more from near zero where it ended at a variance of zero.

    Zero is stationary by symmetry, be it a minimum or not, and a long step can land there; hence the second
    look. A diagonal element that zero serves as well becomes zero.
    """
    d = theta.shape[0]
    trial, g_trial = theta.copy(), np.empty(d)
    best, converged = np.inf, False
    for attempt in range(2):
        value, ended = minimise(trial, free, A, B, c, n, reml, work, g_trial)
        if value < best - 1e-8:
            best, converged = value, ended
            copy_vector(theta, trial)
            copy_vector(g, g_trial)
        if not is_singular(theta, free):
            return best, converged
        copy_vector(trial, theta)
        for k in range(d):
            if free[k, 0] == free[k, 1] and abs(theta[k]) < BOUNDARY:
                trial[k] = AWAY if attempt == 0 else 0.0
    value = deviance(trial, free, A, B, c, n, reml, 0.0, work, g_trial)
    if value <= best + 1e-9:
        best = value
        copy_vector(theta, trial)
        copy_vector(g, g_trial)
    return best, converged


@inner
def second_derivatives(theta, sigma2, free, A, B, c, n, p, reml, work, out):
    """out <- Hessian of the deviance in (theta, log sigma^2): central differences of the exact gradient."""
    d = theta.shape[0]
    at, low, high = theta.copy(), np.empty(d), np.empty(d)
    for k in range(d + 1):
        for side in range(2):
            shift = STEP if side == 1 else -STEP
            held = sigma2
            if k < d:
                at[k] = theta[k] + shift
            else:
                held = sigma2 * math.exp(shift)
            deviance(at, free, A, B, c, n, reml, held, work, high if side == 1 else low)
        if k < d:
            at[k] = theta[k]
        for l in range(d):
            out[l, k] = (high[l] - low[l]) / (2.0 * STEP)
            if k == d:
                out[d, l] = out[l, d]
    out[d, d] = n - p if reml else n  # of df log sigma^2 + rss / sigma^2, at sigma^2 = rss / df


@inner
def prepare(y, X, Z, block, zeros, Tx, Tz, alpha):
    """X, Z <- orthonormal rows (those of Z of mean square 1), y <- residual of X with mean square 1.

    Returns what is wrong (0 nothing; 1 + c or -1 - c: column c of X or Z depends on others; 1 + p: X fits y
    exactly) and the scale of y.
    """
    (p, n), q = X.shape, Z.shape[0]
    bad = orthonormalise(X, zeros, Tx)
    if bad >= 0:
        return 1 + bad, 0.0
    bad = orthonormalise(Z, block, Tz)
    if bad >= 0:
        return -1 - bad, 0.0
    root, before = math.sqrt(n), sum_of_squares(y)
    for a in range(q):
        for b in range(q):
            Tz[a, b] /= root
        for j in range(n):
            Z[a, j] *= root
    for _ in range(2):
        for a in range(p):
            alpha[a] += project_out(X[a], y)
    after = sum_of_squares(y)
    if not after > 1e-24 * before:
        return 1 + p, 0.0
    scale = math.sqrt(after / n)
    for j in range(n):
        y[j] /= scale
    return 0, scale


@njit(cache=True, nogil=True, error_model="numpy")
def search(y, X, Z, codes, starts, free, block, reml, start, A, B, c, Tx, Tz, alpha, scale, theta, beta, R,
           values, flags, hessian):  # fmt: skip
    """Fit table after table: rows starts[k]:starts[k+1] of y (N,), X (N, p), Z (N, q), codes (N,).

    Outputs have a leading axis of tables and are zero on entry: the products A, B, c of the prepared rows;
    Tx, Tz, alpha, scale that lead back to the given ones; theta, beta, R at the optimum; values (deviance,
    rss, largest gradient); flags (what is wrong, converged, singular); hessian in (theta, log sigma^2).
    ``start`` (q, q): a Lambda to begin with, or zeros.
    """
    p, q, d, m = X.shape[1], Z.shape[1], len(free), A.shape[1]
    zeros, previous, warm = np.zeros(p, np.int64), np.zeros(d), False
    for k in range(len(starts) - 1):
        n = starts[k + 1] - starts[k]
        Xk, Zk, yk = np.empty((p, n)), np.empty((q, n)), np.empty(n)
        for j in range(n):
            yk[j] = y[starts[k] + j]
            for a in range(p):
                Xk[a, j] = X[starts[k] + j, a]
            for a in range(q):
                Zk[a, j] = Z[starts[k] + j, a]
        flags[k, 0], scale[k] = prepare(yk, Xk, Zk, block, zeros, Tx[k], Tz[k], alpha[k])
        if flags[k, 0] != 0:
            continue
        cluster_products(Xk, Zk, yk, codes[starts[k] : starts[k + 1]], A[k], B[k], c[k])
        for l in range(d):
            theta[k, l] = previous[l]
            if not warm:
                for e in range(q):
                    theta[k, l] += Tz[k, free[l, 0], e] * start[e, free[l, 1]]
                if free[l, 0] == free[l, 1] and abs(theta[k, l]) < BOUNDARY:
                    theta[k, l] = START
        work, g = workspace(m, q, p), np.empty(d)
        values[k, 0], converged = best_of_two(theta[k], free, A[k], B[k], c[k], n, reml, work, g)
        flags[k, 1], flags[k, 2] = converged, is_singular(theta[k], free)
        for l in range(d):
            values[k, 2] = max(values[k, 2], abs(g[l]))
        deviance(theta[k], free, A[k], B[k], c[k], n, reml, 0.0, work, g)
        values[k, 1] = work[6][0]
        copy_vector(beta[k], work[5])
        for a in range(p):
            copy_vector(R[k, a], work[4][a])
        if flags[k, 2] == 0:  # the next table starts here, never from a zero, which is stationary
            second_derivatives(theta[k], work[6][1], free, A[k], B[k], c[k], n, p, reml, work, hessian[k])
            copy_vector(previous, theta[k])
            warm = True


@njit(cache=True, nogil=True, error_model="numpy")
def evaluate(theta, free, A, B, c, n, reml):
    """Deviance and its gradient (d,) at theta, for products of prepared rows. For tests."""
    g = np.empty(len(theta))
    work = workspace(A.shape[0], A.shape[1], B.shape[2])
    value = deviance(theta, free, A, B, c, n, reml, 0.0, work, g)
    return value, g

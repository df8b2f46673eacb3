"""One draw of multilevel imputation to the letter of Jolani (2025), sec. 2.4 and example 2.1, for comparison.

1. beta^, Psi^, b^: the penalised fit of his code (lme4 with nAGQ = 0): given theta, (beta, u) at their joint mode; theta
   where

       sum_ij w_ij log p(y_ij | eta_ij) - sum_i (u_i'u_i + log|H_i|) / 2      is largest     (a simplex search)

2. Lambda = sum b^_i b^_i' over the m_obs clusters with rows
3. beta*    ~ N(beta^, RX covariance), the inverse of sum_i X'CX - X'CZ L H^-1 L'Z'CX
4. Psi*^-1  ~ Wishart(m_obs, Lambda^-1)
5. clusters with rows: b ~ N(0, Psi*) is accepted if U <= p(y_i | beta*, b) / p(y_i | beta^, b^_i); the 250th is kept even
   if not. Clusters without: N(0, Psi*)

It is not a draw from a posterior: modes are shrunken and so is Lambda; the ratio in 5 can pass 1; the last draw of 250 is
from the wrong law, in the clusters with most rows. All this is counted. His code inverts Psi* by mistake where Lambda is
singular; here RIDGE is added to the diagonal of Lambda and counted.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import draw_inverse_wishart
from bayesimp.kernels.glmm_modes import (
    cluster_log_likelihood,
    effects_of,
    find_mode,
    fixed_part,
    workspace,
)
from bayesimp.kernels.laplace import put_theta
from bayesimp.kernels.laplace_record import free_elements
from bayesimp.kernels.linalg import cholesky, cholesky_log_det, copy_to, fill, solve_lower, solve_lower_t

__all__ = [
    "EVENTS",
    "FAILED",
    "FAILURES",
    "PUBLISHED_TALLIES",
    "published_draw",
    "published_fit",
    "published_step",
]

PUBLISHED_TALLIES = (
    "visits",
    "clusters drawn",
    "tries",
    "ratios above 1",
    "unconditional draws",
    "Lambda singular",
)
FAILED = -1
FAILURES = {
    FAILED: (
        "failed",
        "the published algorithm has no estimate: fewer clusters with the variable than random effects, or a separated "
        "fit",
    )
}
EVENTS = {
    "ratios above 1": "accept-reject ratios above 1: the bound of the published algorithm was none",
    "unconditional draws": "clusters whose effects were drawn without their data, after 250 rejections",
    "Lambda singular": "draws of Psi from a singular sum of squared modes, with a ridge",
}  # tally: words

LIMIT = 250  # tries of accept-reject
RIDGE = 1e-4
STEPS, ENOUGH = 60, 1e-14  # of Newton for beta
SEARCH = 300  # evaluations of the simplex


@inner
def joint_mode(rows, shape, L, beta, u, w, F):
    """beta, u <- their joint mode given L: Newton in beta, u at its mode for each; F (p, p) <- RX'RX.

    Returns the criterion of step 1, -inf if there is none.
    """
    (m, q), p = u.shape, beta.shape[0]
    step, root, before, t = np.zeros(p), np.empty((p, p)), -math.inf, 1.0
    half, gradient = np.empty((q, p)), np.empty(p)
    for _ in range(STEPS):
        fixed_part(rows, beta, w.eta0)
        fill(F, 0.0)
        value, log_det = 0.0, 0.0
        for x in range(p):
            gradient[x] = 0.0
        for i in range(m):
            if rows.first[i] == rows.first[i + 1]:
                continue
            ui = u[i]
            if not find_mode(rows, shape, i, L, ui, w, 1e-12):
                return -math.inf
            value += cluster_log_likelihood(rows, shape, i, w.eta0, w.b)
            for a in range(q):
                value -= 0.5 * ui[a] ** 2
                log_det += math.log(w.H[a, a])
            for x in range(p):  # half = C^-1 L'Z'CX
                for c in range(q):
                    s = 0.0
                    for j in range(rows.first[i], rows.first[i + 1]):
                        s += rows.Z[j, c] * w.curvature[j] * rows.X[j, x]
                    w.trial[c] = s
                for a in range(q):
                    w.step[a] = 0.0
                    for c in range(a, q):
                        w.step[a] += L[c, a] * w.trial[c]
                solve_lower(w.H, w.step, q)
                for a in range(q):
                    half[a, x] = w.step[a]
            for x in range(p):
                for y in range(x + 1):
                    for a in range(q):
                        F[x, y] -= half[a, x] * half[a, y]
                for j in range(rows.first[i], rows.first[i + 1]):
                    gradient[x] += w.score[j] * rows.X[j, x]
                    for y in range(x + 1):
                        F[x, y] += w.curvature[j] * rows.X[j, x] * rows.X[j, y]
        if not value >= before - 1e-9 * abs(before):  # too far: half way back
            if t < 1e-6:
                return -math.inf
            t *= 0.5
            for x in range(p):
                beta[x] -= t * step[x]
            continue
        copy_to(root, F)
        if not cholesky(root, p):
            return -math.inf
        before, t, decrement = value, 1.0, 0.0
        for x in range(p):
            step[x] = gradient[x]
        solve_lower(root, step, p)
        for x in range(p):
            decrement += step[x] ** 2
        if decrement < ENOUGH:
            return value - log_det
        solve_lower_t(root, step, p)
        for x in range(p):
            beta[x] += step[x]
    return -math.inf


@inner
def order(points, values):
    """Rows of points by falling values; an insertion sort."""
    for i in range(1, values.shape[0]):
        for j in range(i, 0, -1):
            if not values[j] > values[j - 1]:
                break
            values[j], values[j - 1] = values[j - 1], values[j]
            for l in range(points.shape[1]):
                points[j, l], points[j - 1, l] = points[j - 1, l], points[j, l]


@kernel(nogil=True)
def published_fit(rows, shape, free, theta, beta, u, F):
    """Step 1: theta (d,), beta (p,), u (m, q) in: the start (theta without zeros on the diagonal), out: estimates.

    F (p, p) <- precision of beta^, lower triangle. Nelder & Mead's simplex in theta. Returns whether it ended.
    """
    q, d = u.shape[1], theta.shape[0]
    w, L = workspace(rows.y.shape[0], q), np.zeros((q, q))
    points, values = np.empty((d + 1, d)), np.full(d + 1, -math.inf)
    trial, centre, after = np.empty(d), np.empty(d), -math.inf
    # stages: 0 first points (index k), 1 reflected, 2 expanded, 3 contracted, 4 shrunk (index k), 5 the end
    stage, k, reflected, value_reflected = 0, 0, np.empty(d), 0.0
    for l in range(d):
        trial[l] = theta[l]
    for _ in range(SEARCH):
        put_theta(trial, 0, free, L)
        after = joint_mode(rows, shape, L, beta, u, w, F)
        if stage == 5:
            for l in range(d):
                theta[l] = trial[l]
            return math.isfinite(after)
        if stage == 0 or stage == 4:
            for l in range(d):
                points[k, l] = trial[l]
            values[k] = after
            k += 1
            if k <= d:
                for l in range(d):
                    trial[l] = (
                        theta[l] + (0.2 if l == k - 1 else 0.0)
                        if stage == 0
                        else 0.5 * (points[k, l] + points[0, l])
                    )
                continue
        elif stage == 1 and after > values[0]:
            value_reflected = after
            for l in range(d):
                reflected[l] = trial[l]
                trial[l] = 2.0 * trial[l] - centre[l]
            stage = 2
            continue
        elif stage == 1 and not after > values[d - 1]:
            better = after > values[d]
            for l in range(d):
                trial[l] = 0.5 * ((trial[l] if better else points[d, l]) + centre[l])
            stage = 3
            continue
        elif stage == 3 and not after > values[d]:
            stage, k = 4, 1
            for l in range(d):
                trial[l] = 0.5 * (points[1, l] + points[0, l])
            continue
        else:
            if stage == 2 and not after > value_reflected:
                after = value_reflected
                for l in range(d):
                    trial[l] = reflected[l]
            values[d] = after
            for l in range(d):
                points[d, l] = trial[l]
        order(points, values)
        if values[0] - values[d] < 1e-6:
            stage = 5
            for l in range(d):
                trial[l] = points[0, l]
            continue
        stage = 1
        for l in range(d):
            centre[l] = 0.0
            for j in range(d):
                centre[l] += points[j, l] / d
            trial[l] = 2.0 * centre[l] - points[d, l]
    return False


@kernel(nogil=True)
def published_draw(rng, rows, shape, free, theta, beta_hat, u, F, incomplete, beta, Psi, B, tallies):
    """Steps 2 to 5; returns 0 or `FAILED`."""
    (m, q), p, n = u.shape, beta.shape[0], rows.y.shape[0]
    L, Lambda, observed = np.zeros((q, q)), np.zeros((q, q)), 0
    put_theta(theta, 0, free, L)
    for i in range(m):
        effects_of(L, u[i], B[i])
        if rows.first[i] < rows.first[i + 1]:
            observed += 1
            for a in range(q):
                for c in range(q):
                    Lambda[a, c] += B[i, a] * B[i, c]
    root = Lambda.copy()
    ridge = not cholesky_log_det(root, q) > -12.0 * q
    if ridge:
        tallies[5] += 1
        for a in range(q):
            Lambda[a, a] += RIDGE
    root_F = F.copy()
    if observed < q or not cholesky(root_F, p):
        return FAILED
    z = np.empty(p)
    for x in range(p):
        z[x] = rng.standard_normal()
    solve_lower_t(root_F, z, p)
    for x in range(p):
        beta[x] = beta_hat[x] + z[x]
    if not draw_inverse_wishart(rng, float(observed), Lambda, Psi, q):
        return FAILED
    copy_to(L, Psi)
    if not cholesky(L, q):
        return FAILED
    at_hat, at_star, v = np.empty(n), np.empty(n), np.empty(q)
    fixed_part(rows, beta_hat, at_hat)
    fixed_part(rows, beta, at_star)
    for i in range(m):
        has_rows = rows.first[i] < rows.first[i + 1]
        if has_rows and not incomplete[i]:
            continue
        bound = cluster_log_likelihood(rows, shape, i, at_hat, B[i]) if has_rows else 0.0
        for attempt in range(LIMIT if has_rows else 1):
            for a in range(q):
                v[a] = rng.standard_normal()
            effects_of(L, v, B[i])
            if has_rows:
                tallies[2] += 1
                log_ratio = cluster_log_likelihood(rows, shape, i, at_star, B[i]) - bound
                tallies[3] += log_ratio > 0.0
                if math.log(rng.random()) <= log_ratio:
                    break
                tallies[4] += attempt == LIMIT - 1
        tallies[1] += has_rows
    tallies[0] += 1
    return 0


def published_step(rng, rows, shape, incomplete, theta, beta_hat, u, beta, Psi, B, tallies) -> int:
    """One visit of the published algorithm; arrays are the chain's own and are updated in place.

    Parameters
    ----------
    rng, rows, shape
        As for `bayesimp.kernels.mlmi.mlmi_step`.
    incomplete (m,) bool
        Clusters with values to impute: where there are rows too, effects are drawn by accept-reject; complete clusters
        keep their modes.
    theta (d,), beta_hat (p,), u (m, q)
        Estimates: warm starts, zeros at first.
    beta (p,), Psi (q, q), B (m, q)
        <- the draw.
    tallies (6,) int64
        Counts are added: `PUBLISHED_TALLIES`.

    Returns
    -------
    0, or `FAILED`: nothing was drawn, see `FAILURES`.
    """
    p, free = len(beta), free_elements(u.shape[1])
    diagonal = free[:, 0] == free[:, 1]
    theta[diagonal & (np.abs(theta) < 0.05)] = 0.5
    F = np.empty((p, p))
    if not published_fit(rows, shape, free, theta, beta_hat, u, F):
        beta_hat[:], u[:], theta[:] = 0.0, 0.0, 0.0
        return FAILED
    return published_draw(rng, rows, shape, free, theta, beta_hat, u, F, incomplete, beta, Psi, B, tallies)

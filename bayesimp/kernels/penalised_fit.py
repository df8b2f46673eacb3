"""The penalised fit of a generalised linear mixed model: lme4 with nAGQ = 0, on which Jolani's code (2025) rests.

    eta_ij = offset_ij + x_ij'beta + z_ij'L u_i,     L = L(theta), Psi = L L'

Not a maximum of the likelihood: beta is where the joint density is highest, not where the integral is. With score s,
curvature C = -w d^2 log p / d eta^2 and D = dC / d eta of the rows, g_i = Z_i's_i, A_i = Z_i'C_iZ_i, M_i = X_i'C_iZ_i:

1. beta, u given theta: the highest

       f = sum_ij w_ij log p(y_ij | eta_ij) - sum_i u_i'u_i / 2

   by Newton's steps, halved where f falls, with gradient (X's, L'g_i - u_i) and curvature

       K = [X'CX  M_i L; .  H_i],     H_i = I + L'A_iL,     F = X'CX - sum_i M_i L H_i^-1 L'M_i'     (lme4's RX'RX)

   The first is from linear predictors near each response, as R's mustart. The end, as lme4's: the penalised deviance
   2 (f_max - f), f_max of a model with a parameter a row, no longer falls relative to itself. Where some rows are
   separated that is at a large estimate; where all are, at none: an error there. So that searches in step 2 do not carry
   such an estimate further, each starts where the first has ended, as in lme4; else where the best one has.
2. theta where V = f - sum_i log|H_i| / 2 is highest, by BFGS (lme4: by bobyqa, without slopes). With rho the derivatives
   of -log|H_i| / 2, rho_ij = -D_ij z_ij'L H_i^-1 L'z_ij / 2, r_i = Z_i'rho_i and lambda = K^-1 (X'rho, L'r_i)

       dV / dL_ac = sum_i  u_ic (g_i + r_i - M_i'lambda_beta - A_i L lambda_i)_a + g_ia lambda_ic - (A_i L H_i^-1)_ac
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families import POISSON, PROBIT, all_terms, sum_of_logs
from bayesimp.kernels.glmm_modes import dot, effects_of
from bayesimp.kernels.laplace import put_theta
from bayesimp.kernels.linalg import cholesky, copy_to, fill, solve_lower, solve_lower_t

__all__ = ["FAILED", "FITTED", "LARGE", "highest", "penalised_fit"]

FITTED, LARGE, FAILED = 0, 1, -1
STEPS = 100  # of Newton
ENOUGH = 1e-7  # share of the penalised deviance: a step that gained no more was the last (lme4's tolPwrss);
THERE = 1e-10  # and where no more could be gained, none is made
EVALUATIONS, GAIN = 200, 1e-7  # of V; gain in V expected from a step that is not worth it
CAP = 3.0  # largest step in theta
COLLINEAR = 1e-12  # part of a column's square that is left after the others
STILL = 0.5  # step of a linear predictor in a fit that has ended: the rows are separated
FAR = 10.0  # standard deviation of effects (log odds, log means) of clusters that are separated


class Joint(NamedTuple):
    """By row: slope D; by cluster: g (m, q), A (m, q, q), M (m, p, q), roots of H (m, q, q), half = root^-1 L'M'
    (m, q, p); score X's (p,), F (p, p) and its root; step (p,), step_u (m, q): Newton's."""

    slope: np.ndarray
    g: np.ndarray
    A: np.ndarray
    M: np.ndarray
    root_H: np.ndarray
    half: np.ndarray
    score: np.ndarray
    F: np.ndarray
    root_F: np.ndarray
    step: np.ndarray
    step_u: np.ndarray


@inner
def _joint(n, m, p, q):
    return Joint(
        np.empty(n), np.empty((m, q)), np.empty((m, q, q)), np.empty((m, p, q)), np.empty((m, q, q)),
        np.empty((m, q, p)), np.empty(p), np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty((m, q)),
    )  # fmt: skip


@kernel(nogil=True)
def highest(rows, out):
    """out (n,) <- the highest w log p(y_j | eta) over eta, without the terms that do not depend on eta."""
    for j in range(rows.y.shape[0]):
        y, trials, value = rows.y[j], rows.trials[j], 0.0
        if rows.family == POISSON:
            value = y * math.log(y) - y if y > 0.0 else 0.0
        elif 0.0 < y < trials:
            value = y * math.log(y / trials) + (trials - y) * math.log1p(-y / trials)
        out[j] = rows.weight[j] * value


@inner
def _guess(family, y, trials):
    """A linear predictor near one response."""
    if family == POISSON:
        return math.log(y + 0.1)
    eta = math.log((y + 0.5) / (trials - y + 0.5))
    return 0.6 * eta if family == PROBIT else eta


@inner
def _sums(rows, shape, L, beta, u, cold, w):
    """Sums of rows in w at (beta, u); returns f. cold: at `_guess`, beta and u zero, s such that a step leads from there
    to where it would from the guess."""
    (m, q), p = u.shape, beta.shape[0]
    b, value, product = np.empty(q), 0.0, 1.0
    fill(w.F, 0.0)
    for x in range(p):
        w.score[x] = 0.0
    for i in range(m):
        effects_of(L, u[i], b)
        for a in range(q):
            value -= 0.5 * u[i, a] ** 2
            w.g[i, a] = 0.0
            for c in range(q):
                w.A[i, a, c] = 0.0
            for x in range(p):
                w.M[i, x, a] = 0.0
        for j in range(rows.first[i], rows.first[i + 1]):
            eta, weight, trials = rows.offset[j] + dot(rows.Z, j, b), rows.weight[j], rows.trials[j]
            for x in range(p):
                eta += rows.X[j, x] * beta[x]
            if cold:
                eta = _guess(rows.family, rows.y[j], trials)
            l, rest, s, c, D, _ = all_terms(rows.family, rows.y[j], trials, eta, shape)
            if cold:
                s += c * (eta - rows.offset[j])
            product, logs = sum_of_logs(product, weight * trials, rest)
            value += weight * l - logs
            s, c, w.slope[j] = weight * s, weight * c, weight * D
            for x in range(p):
                cx = c * rows.X[j, x]
                w.score[x] += s * rows.X[j, x]
                for k in range(x + 1):
                    w.F[x, k] += cx * rows.X[j, k]
                for a in range(q):
                    w.M[i, x, a] += cx * rows.Z[j, a]
            for a in range(q):
                w.g[i, a] += s * rows.Z[j, a]
                for k in range(a + 1):
                    w.A[i, a, k] += c * rows.Z[j, a] * rows.Z[j, k]
    return value - math.log(product)


@inner
def _factor(L, w):
    """Roots of H and F, half; returns sum_i log|H_i| / 2, nan if K is singular."""
    m, q, p = w.half.shape
    AL, log_det = np.empty((q, q)), 0.0
    copy_to(w.root_F, w.F)  # its diagonal is X'CX yet
    for i in range(m):
        for a in range(q):
            for c in range(a):
                w.A[i, c, a] = w.A[i, a, c]
        for a in range(q):
            for c in range(q):
                AL[a, c] = 0.0
                for k in range(c, q):
                    AL[a, c] += w.A[i, a, k] * L[k, c]
        H, half = w.root_H[i], w.half[i]
        for a in range(q):
            for c in range(a + 1):
                H[a, c] = 1.0 if a == c else 0.0
                for k in range(a, q):
                    H[a, c] += L[k, a] * AL[k, c]
        if not cholesky(H, q):
            return math.nan
        for a in range(q):
            log_det += math.log(H[a, a])
            for x in range(p):  # row a of L'M', then root^-1 of it
                half[a, x] = 0.0
                for k in range(a, q):
                    half[a, x] += L[k, a] * w.M[i, x, k]
                for k in range(a):
                    half[a, x] -= H[a, k] * half[k, x]
                half[a, x] /= H[a, a]
        for x in range(p):
            for k in range(x + 1):
                for a in range(q):
                    w.F[x, k] -= half[a, x] * half[a, k]
    for x in range(p):
        least = COLLINEAR * w.root_F[x, x]
        for k in range(x + 1):
            w.root_F[x, k] = w.F[x, k]
        w.step[x] = least
    if not cholesky(w.root_F, p):
        return math.nan
    for x in range(p):
        if not w.root_F[x, x] ** 2 > w.step[x]:
            return math.nan
    return log_det


@inner
def _solve(w, side, side_u):
    """(side (p,), side_u (m, q)) <- K^-1 of them; returns their product with what they were."""
    m, q, p = w.half.shape
    product = 0.0
    for i in range(m):
        solve_lower(w.root_H[i], side_u[i], q)
        for a in range(q):
            product += side_u[i, a] ** 2
            for x in range(p):
                side[x] -= w.half[i, a, x] * side_u[i, a]
    solve_lower(w.root_F, side, p)
    for x in range(p):
        product += side[x] ** 2
    solve_lower_t(w.root_F, side, p)
    for i in range(m):
        for a in range(q):
            for x in range(p):
                side_u[i, a] -= w.half[i, a, x] * side[x]
        solve_lower_t(w.root_H[i], side_u[i], q)
    return product


@inner
def _move(beta, u, t, w):
    """(beta, u) <- moved by t of the step."""
    for x in range(beta.shape[0]):
        beta[x] += t * w.step[x]
    for i in range(u.shape[0]):
        for a in range(u.shape[1]):
            u[i, a] += t * w.step_u[i, a]


@inner
def _joint_mode(rows, shape, top, L, beta, u, cold, w):
    """beta, u <- step 1 from where they are, w at them. Returns V, -inf if the steps do not end. top: f_max."""
    before, t, decrement, q = -math.inf, 1.0, math.inf, L.shape[0]
    for k in range(STEPS):
        guessed = cold and k == 0
        f = _sums(rows, shape, L, beta, u, guessed, w)
        if not guessed and not f >= before - THERE * (top - before):  # too far
            if t < 1e-9:
                return -math.inf
            t *= 0.5
            _move(beta, u, -t, w)
            continue
        log_det = _factor(L, w)
        if not math.isfinite(log_det):
            return -math.inf
        for x in range(beta.shape[0]):
            w.step[x] = w.score[x]
        for i in range(u.shape[0]):
            for c in range(q):
                w.step_u[i, c] = -u[i, c]
                for a in range(c, q):
                    w.step_u[i, c] += L[a, c] * w.g[i, a]
        last, decrement = decrement, _solve(w, w.step, w.step_u)
        if not guessed:
            if last <= ENOUGH * 2.0 * (top - f) or decrement <= THERE * 2.0 * (top - f):
                return f - log_det
            before, t = f, 1.0
        _move(beta, u, 1.0, w)
    return -math.inf


@inner
def _copy(beta, u, beta_0, u_0):
    """(beta, u) <- (beta_0, u_0)."""
    for x in range(beta.shape[0]):
        beta[x] = beta_0[x]
    copy_to(u, u_0)


@inner
def _mode_from(rows, shape, top, L, beta_0, u_0, beta, u, w):
    """`_joint_mode` from (beta_0, u_0)."""
    _copy(beta, u, beta_0, u_0)
    return _joint_mode(rows, shape, top, L, beta, u, False, w)


@inner
def _slopes(rows, free, L, u, w, out):
    """out (d,) <- dV / dtheta at the joint mode."""
    (m, q), p = u.shape, rows.X.shape[1]
    side, side_u, r, v = np.zeros(p), np.zeros((m, q)), np.zeros((m, q)), np.empty(q)
    for i in range(m):
        for j in range(rows.first[i], rows.first[i + 1]):
            square = 0.0
            for c in range(q):
                v[c] = 0.0
                for a in range(c, q):
                    v[c] += L[a, c] * rows.Z[j, a]
                for k in range(c):
                    v[c] -= w.root_H[i, c, k] * v[k]
                v[c] /= w.root_H[i, c, c]
                square += v[c] ** 2
            rho = -0.5 * w.slope[j] * square
            for x in range(p):
                side[x] += rho * rows.X[j, x]
            for a in range(q):
                r[i, a] += rho * rows.Z[j, a]
        for c in range(q):
            for a in range(c, q):
                side_u[i, c] += L[a, c] * r[i, a]
    _solve(w, side, side_u)
    for l in range(free.shape[0]):
        out[l] = 0.0
    for i in range(m):
        effects_of(L, side_u[i], v)  # L lambda
        for a in range(q):
            r[i, a] += w.g[i, a]
            for x in range(p):
                r[i, a] -= w.M[i, x, a] * side[x]
            for k in range(q):
                r[i, a] -= w.A[i, a, k] * v[k]
        for l in range(free.shape[0]):
            a, c = free[l, 0], free[l, 1]
            for k in range(q):  # column c of L H^-1, then (A L H^-1)_ac
                v[k] = 1.0 if k == c else 0.0
            solve_lower(w.root_H[i], v, q)
            solve_lower_t(w.root_H[i], v, q)
            for k in range(q - 1, -1, -1):
                s = 0.0
                for e in range(k + 1):
                    s += L[k, e] * v[e]
                v[k] = s
            out[l] += u[i, c] * r[i, a] + w.g[i, a] * side_u[i, c]
            for k in range(q):
                out[l] -= w.A[i, a, k] * v[k]


@inner
def _renew(metric, s, y):
    """BFGS: metric (d, d), the inverse of -d^2 V, after a step s in theta that lowered the slopes by y."""
    d, sy, yHy = s.shape[0], 0.0, 0.0
    Hy = np.zeros(d)
    for k in range(d):
        sy += s[k] * y[k]
        for l in range(d):
            Hy[k] += metric[k, l] * y[l]
        yHy += Hy[k] * y[k]
    if sy > 1e-10 * yHy:
        for k in range(d):
            for l in range(d):
                metric[k, l] += (1.0 + yHy / sy) * s[k] * s[l] / sy - (Hy[k] * s[l] + s[k] * Hy[l]) / sy


@inner
def _has_ended(rows, L, theta, w):
    """Whether the estimate is where slopes vanish, not far out where separated data stop a search."""
    b = np.empty(L.shape[0])
    for l in range(theta.shape[0]):
        if abs(theta[l]) > FAR:
            return False
    for i in range(w.g.shape[0]):
        effects_of(L, w.step_u[i], b)
        for j in range(rows.first[i], rows.first[i + 1]):
            move = dot(rows.Z, j, b)
            for x in range(rows.X.shape[1]):
                move += rows.X[j, x] * w.step[x]
            if abs(move) > STILL:
                return False
    return True


@kernel(nogil=True)
def penalised_fit(rows, shape, free, top, theta, metric, beta, u, cold, F):
    """Steps 1 and 2.

    Parameters
    ----------
    rows, shape, free
        `GlmmRows`, shape of the family, `free_elements`.
    top
        Sum of `highest`.
    theta (d,), metric (d, d), beta (p,), u (m, q)
        In: the start, theta without zeros on the diagonal, `metric` a guess at the inverse of -d^2 V; out: the estimates.
    cold
        Whether beta, u have no start; they are zero then.
    F (p, p)
        <- precision of beta given theta, lower triangle.

    Returns
    -------
    `FITTED`; `LARGE`: the search stopped far out, the data being separated, or at its limit; `FAILED`.
    """
    (m, q), p, d = u.shape, beta.shape[0], theta.shape[0]
    w, L = _joint(rows.y.shape[0], m, p, q), np.zeros((q, q))
    g, g_trial, step, trial = np.empty(d), np.empty(d), np.zeros(d), theta.copy()
    put_theta(theta, 0, free, L)
    value, slope, t, code = _joint_mode(rows, shape, top, L, beta, u, cold, w), 0.0, 1.0, LARGE
    if not math.isfinite(value):
        return FAILED
    _slopes(rows, free, L, u, w, g)
    beta_0, u_0, fresh, separated = beta.copy(), u.copy(), True, not _has_ended(rows, L, theta, w)
    for _ in range(EVALUATIONS):
        if fresh:
            slope, largest = 0.0, 0.0
            for k in range(d):
                step[k] = 0.0
                for l in range(d):
                    step[k] += metric[k, l] * g[l]
                slope += step[k] * g[k]
                largest = max(largest, abs(step[k]))
            if 0.5 * slope < GAIN:
                code = FITTED
                break
            t = min(1.0, CAP / largest)
        for k in range(d):
            trial[k] = theta[k] + t * step[k]
        put_theta(trial, 0, free, L)
        after = _mode_from(rows, shape, top, L, beta_0, u_0, beta, u, w)
        fresh = after >= value + 1e-4 * t * slope
        if fresh:
            _slopes(rows, free, L, u, w, g_trial)
            for k in range(d):
                step[k], g[k] = trial[k] - theta[k], g[k] - g_trial[k]
                theta[k] = trial[k]
            _renew(metric, step, g)
            for k in range(d):
                g[k] = g_trial[k]
            value = after
            if not separated:
                _copy(beta_0, u_0, beta, u)
        elif not math.isfinite(after) and t > 1e-6:
            t *= 0.1
        elif t * slope < 0.01 * GAIN:  # rounding
            code = FITTED
            break
        else:
            t *= max(0.1, min(0.5, 0.5 * t * slope / (t * slope + value - after)))
    if not fresh:
        put_theta(theta, 0, free, L)
        if not math.isfinite(_mode_from(rows, shape, top, L, beta_0, u_0, beta, u, w)):
            return FAILED
    copy_to(F, w.F)
    return code if _has_ended(rows, L, theta, w) else LARGE

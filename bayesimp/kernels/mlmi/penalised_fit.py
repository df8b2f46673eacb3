"""The penalised fit of a generalised linear mixed model: lme4 with nAGQ = 0, as used by Jolani's code (2025).

    eta_ij = offset_ij + x_ij'beta + z_ij'L u_i,     L = L(theta), Psi = L L'

It does not maximise the likelihood: beta maximises the joint density, not the integral.

1. beta, u given theta: the joint mode, with log density f and K, F, g_i, A_i, M_i, H_i as in
   kernels/mlmi/penalised_mode.py. If the rows are separated, every search within step 2 starts where the first one
   ended, as in lme4, so that the estimate does not drift further out; otherwise where the best one ended.
2. theta where V = f - sum_i log|H_i| / 2 is highest, by BFGS (lme4: by bobyqa, without derivatives). With rho the
   derivatives of -log|H_i| / 2, rho_ij = -D_ij z_ij'L H_i^-1 L'z_ij / 2, r_i = Z_i'rho_i, lambda = K^-1 (X'rho, L'r_i)

       dV / dL_ac = sum_i  u_ic (g_i + r_i - M_i'lambda_beta - A_i L lambda_i)_a + g_ia lambda_ic - (A_i L H_i^-1)_ac
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.glmm.modes import dot, effects_of
from bayesimp.kernels.laplace.criterion import put_theta
from bayesimp.kernels.linalg import copy_to, solve_lower, solve_lower_t
from bayesimp.kernels.mlmi.penalised_mode import copy_mode, joint, joint_mode, mode_from, solve
from bayesimp.kernels.newton import bfgs, shortened, uphill
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.mlmi.penalised_mode import JointMode

__all__ = ["FAILED", "FITTED", "LARGE", "penalised_fit"]

FITTED, LARGE, FAILED = 0, 1, -1
EVALUATIONS, GAIN = 200, 1e-7  # evaluations of V, at most; expected gain in V not worth a step
CAP = 3.0  # largest step in theta
STILL = 0.5  # a finished fit whose linear predictors still move by this much has separated rows
FAR = 10.0  # a standard deviation of effects (log odds, log means) beyond this means separated clusters


@inner
def _slopes(rows: GlmmRows, free: IntMatrix, L: Matrix, u: Matrix, w: JointMode, out: Vector) -> None:
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
    solve(w, side, side_u)
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
            for k in range(q):  # column c of L H^-1, followed by (A L H^-1)_ac
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
def _has_ended(rows: GlmmRows, L: Matrix, theta: Vector, w: JointMode) -> bool:
    """Whether the gradient vanishes at the estimate, as opposed to a search that stopped far out on separated data."""
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
def penalised_fit(
    rows: GlmmRows,
    shape: float,
    free: IntMatrix,
    top: float,
    theta: Vector,
    metric: Matrix,
    beta: Vector,
    u: Matrix,
    cold: bool,
    F: Matrix,
) -> int:
    """Steps 1 and 2 of the module docstring.

    Parameters
    ----------
    rows, shape, free
        `GlmmRows`, shape of the family, `free_elements`.
    top
        Sum of `highest`.
    theta (d,), metric (d, d), beta (p,), u (m, q)
        In: the start, theta without zeros on the diagonal, `metric` a guess at the inverse of -d^2 V; out: the estimates.
    cold
        Whether beta, u have no start; if so, they are zero.
    F (p, p)
        <- precision of beta given theta, lower triangle.

    Returns
    -------
    `FITTED`; `LARGE` if the search stopped far out, on separated data, or at its limit; `FAILED`.
    """
    (m, q), p, d = u.shape, beta.shape[0], theta.shape[0]
    w, L = joint(rows.y.shape[0], m, p, q), np.zeros((q, q))
    g, g_trial, step, trial = np.empty(d), np.empty(d), np.zeros(d), theta.copy()
    put_theta(theta, 0, free, L)
    value, slope, t, code = joint_mode(rows, shape, top, L, beta, u, cold, w), 0.0, 1.0, LARGE
    if not math.isfinite(value):
        return FAILED
    _slopes(rows, free, L, u, w, g)
    beta_0, u_0, fresh, separated = beta.copy(), u.copy(), True, not _has_ended(rows, L, theta, w)
    for _ in range(EVALUATIONS):
        if fresh:
            slope, largest = uphill(metric, g, step)
            if 0.5 * slope < GAIN:
                code = FITTED
                break
            t = min(1.0, CAP / largest)
        for k in range(d):
            trial[k] = theta[k] + t * step[k]
        put_theta(trial, 0, free, L)
        after = mode_from(rows, shape, top, L, beta_0, u_0, beta, u, w)
        fresh = after >= value + 1e-4 * t * slope
        if fresh:
            _slopes(rows, free, L, u, w, g_trial)
            for k in range(d):
                step[k], g[k] = trial[k] - theta[k], g[k] - g_trial[k]
                theta[k] = trial[k]
            bfgs(metric, step, g, 1e-10)
            for k in range(d):
                g[k] = g_trial[k]
            value = after
            if not separated:
                copy_mode(beta_0, u_0, beta, u)
        elif not math.isfinite(after) and t > 1e-6:
            t *= 0.1
        elif t * slope < 0.01 * GAIN:  # rounding
            code = FITTED
            break
        else:
            t = shortened(t, slope, after - value)
    if not fresh:
        put_theta(theta, 0, free, L)
        if not math.isfinite(mode_from(rows, shape, top, L, beta_0, u_0, beta, u, w)):
            return FAILED
    copy_to(F, w.F)
    return code if _has_ended(rows, L, theta, w) else LARGE

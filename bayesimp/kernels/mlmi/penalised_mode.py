"""Joint mode of the fixed and random effects of a generalised linear mixed model given theta.

This is step 1 of kernels/mlmi/penalised_fit.py.

    eta_ij = offset_ij + x_ij'beta + z_ij'L u_i,     L = L(theta), Psi = L L'

With the rows' score s, curvature C = -w d^2 log p / d eta^2 and D = dC / d eta, and g_i = Z_i's_i, A_i = Z_i'C_iZ_i,
M_i = X_i'C_iZ_i, beta and u maximise

       f = sum_ij w_ij log p(y_ij | eta_ij) - sum_i u_i'u_i / 2

by Newton's steps, which are halved if f falls, with gradient (X's, L'g_i - u_i) and curvature

       K = [X'CX  M_i L; .  H_i],     H_i = I + L'A_iL,     F = X'CX - sum_i M_i L H_i^-1 L'M_i'     (lme4's RX'RX)

The first step starts from linear predictors near each response, like R's mustart. As in lme4, the search ends when the
relative decrease of the penalised deviance 2 (f_max - f) is negligible; f_max is that of a model with one parameter per
row. If some rows are separated, it ends at a large estimate; if all are, there is none, and lme4 stops with an error.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families.scalar import POISSON, all_terms, sum_of_logs
from bayesimp.kernels.glmm.modes import dot, effects_of
from bayesimp.kernels.laplace.start import guess
from bayesimp.kernels.linalg import cholesky, copy_to, fill, solve_lower, solve_lower_t
from bayesimp.notation import Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["JointMode", "copy_mode", "highest", "joint", "joint_mode", "mode_from", "solve"]

STEPS = 100  # Newton steps, at most
ENOUGH = 1e-7  # share of the penalised deviance: a step that gains no more than this is the last (lme4's tolPwrss);
THERE = 1e-10  # and if no more than this can be gained, no step is made
COLLINEAR = 1e-12  # share of a column's squares left by the others that counts as none


class JointMode(NamedTuple):
    """By row: slope D; by cluster: g (m, q), A (m, q, q), M (m, p, q), roots of H (m, q, q), half = root^-1 L'M'
    (m, q, p); score X's (p,), F (p, p) and its root; Newton step (p,), step_u (m, q)."""

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
def joint(n: int, m: int, p: int, q: int) -> JointMode:
    """Work arrays for n rows, m clusters, p columns of X and q of Z."""
    return JointMode(
        np.empty(n), np.empty((m, q)), np.empty((m, q, q)), np.empty((m, p, q)), np.empty((m, q, q)),
        np.empty((m, q, p)), np.empty(p), np.empty((p, p)), np.empty((p, p)), np.empty(p), np.empty((m, q)),
    )  # fmt: skip


@kernel(nogil=True)
def highest(rows: GlmmRows, out: Vector) -> None:
    """out (n,) <- maximum over eta of w log p(y_j | eta), without the terms that do not depend on eta."""
    for j in range(rows.y.shape[0]):
        y, trials, value = rows.y[j], rows.trials[j], 0.0
        if rows.family == POISSON:
            value = y * math.log(y) - y if y > 0.0 else 0.0
        elif 0.0 < y < trials:
            value = y * math.log(y / trials) + (trials - y) * math.log1p(-y / trials)
        out[j] = rows.weight[j] * value


@inner
def _sums(
    rows: GlmmRows, shape: float, L: Matrix, beta: Vector, u: Matrix, cold: bool, w: JointMode
) -> float:
    """Sums over rows in w at (beta, u); returns f. cold: at `guess`, with beta and u zero and s such that a step from
    zero leads to where it would from the guess."""
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
            for k in range(q):
                w.A[i, a, k] = 0.0
            for x in range(p):
                w.M[i, x, a] = 0.0
        for j in range(rows.first[i], rows.first[i + 1]):
            eta, weight, trials = rows.offset[j] + dot(rows.Z, j, b), rows.weight[j], rows.trials[j]
            for x in range(p):
                eta += rows.X[j, x] * beta[x]
            if cold:
                eta = guess(rows.family, rows.y[j], trials)
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
def _factor(L: Matrix, w: JointMode) -> float:
    """Compute the roots of H and F, and half; returns sum_i log|H_i| / 2, nan if K is singular."""
    m, q, p = w.half.shape
    AL, log_det = np.empty((q, q)), 0.0
    copy_to(w.root_F, w.F)  # at this point its diagonal is still X'CX
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
def solve(w: JointMode, side: Vector, side_u: Matrix) -> float:
    """(side (p,), side_u (m, q)) <- K^-1 times them; returns the product of new and old values."""
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
def _move(beta: Vector, u: Matrix, t: float, w: JointMode) -> None:
    """(beta, u) <- (beta, u) + t times the step."""
    for x in range(beta.shape[0]):
        beta[x] += t * w.step[x]
    for i in range(u.shape[0]):
        for a in range(u.shape[1]):
            u[i, a] += t * w.step_u[i, a]


@inner
def joint_mode(
    rows: GlmmRows, shape: float, top: float, L: Matrix, beta: Vector, u: Matrix, cold: bool, w: JointMode
) -> float:
    """beta, u <- step 1 from their values; w follows. Returns V, or -inf if the steps do not end. top: f_max."""
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
        last, decrement = decrement, solve(w, w.step, w.step_u)
        if not guessed:
            if last <= ENOUGH * 2.0 * (top - f) or decrement <= THERE * 2.0 * (top - f):
                return f - log_det
            before, t = f, 1.0
        _move(beta, u, 1.0, w)
    return -math.inf


@inner
def copy_mode(beta: Vector, u: Matrix, beta_0: Vector, u_0: Matrix) -> None:
    """(beta, u) <- (beta_0, u_0)."""
    for x in range(beta.shape[0]):
        beta[x] = beta_0[x]
    copy_to(u, u_0)


@inner
def mode_from(
    rows: GlmmRows,
    shape: float,
    top: float,
    L: Matrix,
    beta_0: Vector,
    u_0: Matrix,
    beta: Vector,
    u: Matrix,
    w: JointMode,
) -> float:
    """`joint_mode` from (beta_0, u_0)."""
    copy_mode(beta, u, beta_0, u_0)
    return joint_mode(rows, shape, top, L, beta, u, False, w)

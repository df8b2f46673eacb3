"""Laplace log-likelihood of a generalised linear mixed model with one grouping factor, with exact gradient and Hessian.

In the notation of kernels/glmm/modes.py and with u_i at its mode, the log-likelihood is, up to terms without eta,

    l(beta, L) = sum_i { sum_j w_ij log p(y_ij | eta_ij) - u_i'u_i / 2 - log|H_i| / 2 },    H_i = I + L'A_i L

(Tierney & Kadane 1986; Bates et al. 2015). H_i uses the observed information, as in glmmTMB; lme4 uses the expected one,
so its log-likelihood differs for non-canonical links (probit).
Gradient, with Q_i = H_i^-1, v_ij = z_ij'L Q_i L'z_ij, D_ij = w_ij dC / d eta, r_i = sum_j D_ij v_ij z_ij,
k_i = Q_i L'r_i, t_i = L k_i
(because dh_i / du = 0, du_i / dbeta = -Q_i L'Z_i'C_i X_i, H_i du_i / dL_ab = e_b g_a - L'A_i[:, a] u_b):

    dl / dbeta = sum_ij x_ij (s_ij - D_ij v_ij / 2 + C_ij z_ij't_i / 2)
    dl / dL_ab = sum_i { g_a u_b - (A L Q)_ab - (r_a u_b + k_b g_a - (A t)_a u_b) / 2 }

For the inverse Gaussian, whose C is the expected one, the gradient is approximate. Hessian: kernels/laplace/hessian.py.
The penalty is the logarithm of a weak prior; a zero turns off the corresponding part:

    -beta'Q0 beta / 2 + t0'beta + sum_k power_k log|L_kk| - tr(P0 L L') / 2

power = 1 is |Psi|^(1/2), which keeps the maximum off the boundary (Chung et al. 2013, 2015); P0 keeps it finite where
clusters are separated (all events or none).
l is even in every column of L, so variances of zero need no constraint.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel, merged
from bayesimp.kernels.families.scalar import all_terms, log_normaliser, sum_of_logs
from bayesimp.kernels.glmm.modes import (
    ModeWork,
    dot,
    effects_of,
    factor,
    find_mode,
    fixed_part,
    workspace,
)
from bayesimp.kernels.laplace.cluster_sums import ClusterSums, fourth_moments, moments, sum_moments
from bayesimp.kernels.laplace.hessian import Directions, add_hessian, directions
from bayesimp.kernels.linalg import fill, inverse_from_cholesky
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = [
    "Evaluation", "Penalty", "evaluate", "laplace", "normalisers", "put_theta", "working",
]  # fmt: skip


NEAR = 1e-9  # Newton decrement at which one more step leaves an error below 1e-9 standard deviations


class Penalty(NamedTuple):
    """Q0 (p, p), t0 (p,) for beta; power (q,), P0 (q, q) for Psi. Zeros give maximum likelihood."""

    Q0: np.ndarray
    t0: np.ndarray
    power: np.ndarray
    P0: np.ndarray


class Evaluation(NamedTuple):
    """Work arrays of `evaluate`: L (q, q), from theta; w; D, E of rows (n,); sums and rates of change of the current
    cluster; Q, M = L Q, V = L Q L' (q, q); r, k, t, r - A t (q,); rates (m, p + d, q) at which modes move with x;
    shrinkage (q,), the sum over clusters of the diagonals of Q; information (p, p) on beta given Psi, lower triangle."""

    L: np.ndarray
    w: ModeWork
    slope: np.ndarray
    bend: np.ndarray
    m: ClusterSums
    d: Directions
    Q: np.ndarray
    M: np.ndarray
    V: np.ndarray
    r: np.ndarray
    k: np.ndarray
    t: np.ndarray
    rest: np.ndarray
    rates: np.ndarray
    shrinkage: np.ndarray
    information: np.ndarray


@inner
def working(m: int, n: int, p: int, q: int, k: int) -> Evaluation:
    """Work arrays for m clusters, n rows, q effects, k = p + d parameters."""
    return Evaluation(
        np.zeros((q, q)), workspace(n, q), np.empty(n), np.empty(n), moments(p, q), directions(p, q, k),
        np.empty((q, q)), np.empty((q, q)), np.empty((q, q)), np.empty(q), np.empty(q), np.empty(q), np.empty(q),
        np.zeros((m, k, q)), np.zeros(q), np.empty((p, p)),
    )  # fmt: skip


@inner
def put_theta(x: Vector, p: int, free: IntMatrix, L: Matrix) -> None:
    """L <- its free elements, which follow beta in x = (beta, theta); free (d, 2): their rows and columns."""
    for a in range(L.shape[0]):
        for b in range(L.shape[0]):
            L[a, b] = 0.0
    for l in range(free.shape[0]):
        L[free[l, 0], free[l, 1]] = x[p + l]


@inner
def penalty_value(penalty: Penalty, x: Vector, L: Matrix, gradient: Vector) -> float:
    """The penalty at x = (beta, theta); adds its gradient in beta to `gradient` (in L: `penalty_slope`)."""
    p, q = penalty.Q0.shape[0], L.shape[0]
    value = 0.0
    for a in range(p):
        slope = penalty.t0[a]
        for b in range(p):
            slope -= penalty.Q0[a, b] * x[b]
        value += 0.5 * x[a] * (slope + penalty.t0[a])
        gradient[a] += slope
    for k in range(q):
        if penalty.power[k] > 0.0:
            value += penalty.power[k] * math.log(abs(L[k, k]))
        for a in range(k, q):
            for c in range(q):
                value -= 0.5 * L[a, k] * penalty.P0[a, c] * L[c, k]
    return value


@inner
def penalty_slope(penalty: Penalty, L: Matrix, a: int, b: int) -> float:
    """Derivative of the penalty with respect to L_ab."""
    slope = penalty.power[a] / L[a, a] if a == b and penalty.power[a] > 0.0 else 0.0
    for c in range(L.shape[0]):
        slope -= penalty.P0[a, c] * L[c, b]
    return slope


@merged
def penalty_bend(penalty: Penalty, p: int, free: IntMatrix, L: Matrix, hessian: Matrix) -> None:
    """Add the second derivatives of the penalty to the lower triangle of hessian."""
    for a in range(p):
        for b in range(a + 1):
            hessian[a, b] -= penalty.Q0[a, b]
    for l in range(free.shape[0]):
        a, b = free[l, 0], free[l, 1]
        if a == b and penalty.power[a] > 0.0:
            hessian[p + l, p + l] -= penalty.power[a] / L[a, a] ** 2
        for h in range(l + 1):
            if free[h, 1] == b:
                hessian[p + l, p + h] -= penalty.P0[a, free[h, 0]]


@merged
def terms_at(rows: GlmmRows, shape: float, i: int, u: Vector, v: Evaluation) -> float:
    """Update s, C, D, E of the rows of cluster i at u, their sums, w.g and w.A; returns the rows' log-likelihood."""
    w, value, product = v.w, 0.0, 1.0
    effects_of(v.L, u, w.b)
    for j in range(rows.first[i], rows.first[i + 1]):
        eta, weight, trials = w.eta0[j] + dot(rows.Z, j, w.b), rows.weight[j], rows.trials[j]
        l, rest, s, curvature, D, E = all_terms(rows.family, rows.y[j], trials, eta, shape)
        product, logs = sum_of_logs(product, weight * trials, rest)
        value += weight * l - logs
        w.score[j], w.curvature[j], v.slope[j], v.bend[j] = (
            weight * s,
            weight * curvature,
            weight * D,
            weight * E,
        )
    sum_moments(rows, i, w.score, w.curvature, v.slope, v.m)
    q = u.shape[0]
    p = rows.X.shape[1]
    for a in range(q):
        w.g[a] = v.m.S[p + a]
        for b in range(q):
            w.A[a, b] = v.m.C[p + a, p + b]
    return value - math.log(product)


@merged
def small_matrices(p: int, q: int, v: Evaluation) -> float:
    """Update Q, M, V, r, k, t, r - A t of a cluster, after `terms_at` and `factor`; returns log|H| / 2."""
    half, L, D = 0.0, v.L, v.m.D
    inverse_from_cholesky(v.w.H, v.Q, q)
    for a in range(q):
        half += math.log(v.w.H[a, a])
        for b in range(q):
            v.M[a, b] = 0.0
            for c in range(a + 1):
                v.M[a, b] += L[a, c] * v.Q[c, b]
        for b in range(q):
            v.V[a, b] = 0.0
            for c in range(b + 1):
                v.V[a, b] += v.M[a, c] * L[b, c]
    for a in range(q):
        v.r[a] = 0.0
        for b in range(q):
            for c in range(q):
                v.r[a] += D[p + a, b, c] * v.V[b, c]
    for b in range(q):
        v.k[b], v.t[b] = 0.0, 0.0
        for a in range(q):
            v.k[b] += v.M[a, b] * v.r[a]
    for a in range(q):
        for b in range(a + 1):
            v.t[a] += L[a, b] * v.k[b]
    for a in range(q):
        v.rest[a] = v.r[a]
        for b in range(q):
            v.rest[a] -= v.w.A[a, b] * v.t[b]
    return half


@merged
def add_gradient(p: int, free: IntMatrix, u: Vector, v: Evaluation, gradient: Vector) -> None:
    """gradient (p + d,) += the contribution of a cluster, after `small_matrices`."""
    q, g, m = u.shape[0], v.w.g, v.m
    for a in range(p):
        s = m.S[a]
        for b in range(q):
            s += 0.5 * m.C[a, p + b] * v.t[b]
            for c in range(q):
                s -= 0.5 * m.D[a, b, c] * v.V[b, c]
        gradient[a] += s
    for l in range(free.shape[0]):
        a, b = free[l, 0], free[l, 1]
        s = (g[a] - 0.5 * v.rest[a]) * u[b] - 0.5 * v.k[b] * g[a]
        for c in range(q):
            s -= v.w.A[a, c] * v.M[c, b]
        gradient[p + l] += s


@inner
def evaluate(
    rows: GlmmRows,
    shape: float,
    penalty: Penalty,
    free: IntMatrix,
    x: Vector,
    u: Matrix,
    v: Evaluation,
    gradient: Vector,
    hessian: Matrix,
) -> float:
    """Penalised l at x = (beta, theta), without the normalisers; nan if a mode is not found.

    u (m, q): modes, updated. v: `Evaluation`, whose L and rates are updated. gradient (p + d,), hessian (p + d, p + d) <-
    derivatives in (beta, theta).
    """
    (m, q), p, k = u.shape, rows.X.shape[1], x.shape[0]
    put_theta(x, p, free, v.L)
    fixed_part(rows, x, v.w.eta0)
    fill(hessian, 0.0)
    for l in range(k):
        gradient[l] = 0.0
    for a in range(q):
        v.shrinkage[a] = 0.0
    for a in range(p):
        for b in range(a + 1):
            v.information[a, b] = penalty.Q0[a, b]
    value = penalty_value(penalty, x, v.L, gradient)
    for i in range(m):
        if rows.first[i] == rows.first[i + 1]:
            continue
        ui = u[i]
        if not find_mode(rows, shape, i, v.L, ui, v.w, NEAR):
            return math.nan
        for a in range(q):  # one more step, which brings the mode to rounding accuracy
            ui[a] += v.w.step[a]
            value -= 0.5 * ui[a] * ui[a]
        value += terms_at(rows, shape, i, ui, v)
        if not factor(v.L, v.w):
            return math.nan
        value -= small_matrices(p, q, v)
        add_gradient(p, free, ui, v, gradient)
        fourth_moments(rows, i, v.slope, v.bend, v.V, v.t, v.m)
        add_hessian(free, v.L, ui, v.Q, v.M, v.k, v.rest, v.m, v.d, hessian, v.information)
        for a in range(q):
            v.shrinkage[a] += v.Q[a, a]
            for e in range(k):
                v.rates[i, e, a] = v.d.du[e, a]
    for l in range(free.shape[0]):
        gradient[p + l] += penalty_slope(penalty, v.L, free[l, 0], free[l, 1])
    penalty_bend(penalty, p, free, v.L, hessian)
    for a in range(k):
        for b in range(a):
            hessian[b, a] = hessian[a, b]
    return value


@inner
def normalisers(rows: GlmmRows, shape: float) -> float:
    """The terms of the log-likelihood that do not depend on eta."""
    value = 0.0
    for j in range(rows.y.shape[0]):
        value += rows.weight[j] * log_normaliser(rows.family, rows.y[j], rows.trials[j], shape)
    return value


@kernel(nogil=True)
def laplace(
    rows: GlmmRows,
    shape: float,
    penalty: Penalty,
    free: IntMatrix,
    x: Vector,
    u: Matrix,
    gradient: Vector,
    hessian: Matrix,
) -> float:
    """Penalised Laplace log-likelihood at x = (beta, theta), normalisers included.

    theta: the elements of L listed in free (d, 2), (row, column), by columns of its lower triangle. gradient (p + d,),
    hessian (p + d, p + d) and modes u (m, q) are updated. nan if a mode is not found.
    """
    (m, q), (n, p) = u.shape, rows.X.shape
    value = evaluate(rows, shape, penalty, free, x, u, working(m, n, p, q, x.shape[0]), gradient, hessian)
    return value + normalisers(rows, shape)

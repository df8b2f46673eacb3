"""Starting values of fits of generalised linear mixed models.

beta comes from the pooled model, by iteratively reweighted least squares with capped steps, and a diagonal Psi from
moments of the scores at b = 0: E g_a^2 = A_aa + A_aa^2 Psi_aa.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, merged
from bayesimp.kernels.families.scalar import LOGIT, PROBIT, derivatives
from bayesimp.kernels.glmm.modes import at_effects, fixed_part
from bayesimp.kernels.linalg import cholesky, solve_lower, solve_lower_t
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.modes import ModeWork
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.laplace.criterion import Penalty

__all__ = ["guess", "pooled_start", "variance_start"]

CAP = 5.0  # largest step in a parameter


@inner
def _solve(A: Matrix, b: Vector, k: int) -> bool:
    """b <- A^-1 b, A (k, k) overwritten; False if A is not positive definite."""
    if not cholesky(A, k):
        return False
    solve_lower(A, b, k)
    solve_lower_t(A, b, k)
    return True


@inner
def guess(family: int, y: float, trials: float) -> float:
    """A linear predictor near one response, as R's mustart."""
    if family == LOGIT or family == PROBIT:
        eta = math.log((y + 0.5) / (trials - y + 0.5))
        return eta if family == LOGIT else 0.6 * eta
    return math.log(y + 0.1)


@merged
def pooled_start(rows: GlmmRows, shape: float, penalty: Penalty, x: Vector, eta0: Vector) -> None:
    """x[:p] <- approximate mode of the model without effects; eta0 (n,) <- its linear predictors."""
    n, p = rows.X.shape
    F, step = np.empty((p, p)), np.empty(p)
    for a in range(p):
        x[a] = 0.0
    for iteration in range(12):
        for a in range(p):
            step[a] = penalty.t0[a]
            for b in range(p):
                step[a] -= penalty.Q0[a, b] * x[b]
                F[a, b] = penalty.Q0[a, b]
        for j in range(n):
            if iteration == 0:
                eta0[j] = guess(rows.family, rows.y[j], rows.trials[j])
            s, curvature = derivatives(rows.family, rows.y[j], rows.trials[j], eta0[j], shape)
            s, curvature = s * rows.weight[j], curvature * rows.weight[j]
            if iteration == 0:
                s += curvature * (eta0[j] - rows.offset[j])
            for a in range(p):
                step[a] += s * rows.X[j, a]
                for b in range(a + 1):
                    F[a, b] += curvature * rows.X[j, a] * rows.X[j, b]
        for a in range(p):
            F[a, a] += 1e-9 * (1.0 + F[a, a])
        gradient = step.copy()
        if not _solve(F, step, p):
            return
        decrement, largest = 0.0, 0.0
        for a in range(p):
            decrement += step[a] * gradient[a]
            largest = max(largest, abs(step[a]))
        shrink = 1.0 if iteration == 0 else min(1.0, CAP / (largest + 1e-300))
        for a in range(p):
            x[a] += shrink * step[a]
        fixed_part(rows, x, eta0)
        if iteration > 0 and decrement < 0.01:
            return


@merged
def variance_start(rows: GlmmRows, shape: float, free: IntMatrix, x: Vector, L: Matrix, w: ModeWork) -> None:
    """theta in x <- a diagonal L from moments of the scores at b = 0; w.eta0 holds linear predictors without effects."""
    q, p = L.shape[0], rows.X.shape[1]
    zero, excess, squares = np.zeros(q), np.zeros(q), np.full(q, 1e-300)
    for a in range(q):
        for b in range(q):
            L[a, b] = 0.0
    for i in range(rows.first.shape[0] - 1):
        at_effects(rows, shape, i, L, zero, w)
        for a in range(q):
            excess[a] += w.g[a] ** 2 - w.A[a, a]
            squares[a] += w.A[a, a] ** 2
    for l in range(free.shape[0]):
        a = free[l, 0]
        psi = excess[a] / squares[a]
        x[p + l] = math.sqrt(min(max(psi, 0.04), 4.0)) if a == free[l, 1] else 0.0

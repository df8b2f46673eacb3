"""Maximum of the log-likelihood by adaptive quadrature, and its curvature: `maximise_quadrature`, arrays in and out.

Newton's method uses the exact Hessian (kernels/laplace/quadrature.py), with a ridge where it is not negative definite.
It starts at the Laplace estimates, or at a standard deviation of one if those are on the boundary or infinite. The
criterion is even in the standard deviation l, so zero is stationary; if the criterion is no lower there, zero is the
estimate, and l is held at zero. A penalty -beta'Q0 beta / 2 + t0'beta is added to the log-likelihood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.laplace.fit import (
    FAR,
    FINE,
    LITTLE,
    NO_CURVATURE,
    NO_GAIN,
    NOT_CONVERGED,
    RIDGE,
    SEPARATED,
    SINGULAR,
)
from bayesimp.kernels.laplace.quadrature import Quadrature, quadrature
from bayesimp.kernels.laplace.start import CAP
from bayesimp.notation import BoolVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.laplace.criterion import Penalty

__all__ = ["ascent", "maximise_quadrature"]

EVALUATIONS = 200


def ascent(hessian: Matrix, gradient: Vector, keep: BoolVector) -> tuple[Vector, bool]:
    """Newton's step in the kept elements, with as large a ridge as needed, and whether none was needed."""
    step, ridge = np.zeros(len(gradient)), 0.0
    minus, unit = -hessian[np.ix_(keep, keep)], np.eye(int(keep.sum()))
    while True:
        try:
            root = np.linalg.cholesky(minus + ridge * unit)
            break
        except np.linalg.LinAlgError:
            ridge = max(4.0 * ridge, RIDGE)
    step[keep] = np.linalg.solve(root.T, np.linalg.solve(root, gradient[keep]))
    return step, ridge == 0.0


def _penalised(rows: GlmmRows, nodes: int, penalty: Penalty, x: Vector, u: Vector) -> Quadrature:
    """The criterion at x, with the penalty."""
    at, p = quadrature(rows, nodes, x, u), len(penalty.t0)
    slope = penalty.t0 - penalty.Q0 @ x[:p]
    at.gradient[:p] += slope
    at.hessian[:p, :p] -= penalty.Q0
    return at._replace(value=at.value + 0.5 * float(x[:p] @ (slope + penalty.t0)))


def _climb(
    rows: GlmmRows, nodes: int, penalty: Penalty, x: Vector, u: Vector, keep: BoolVector
) -> tuple[Vector, Quadrature, bool, int]:
    """End point of the search from x, the criterion there, whether it converged, and the number of evaluations."""
    now = _penalised(rows, nodes, penalty, x, u)
    for evaluation in range(1, EVALUATIONS):
        if not np.isfinite(now.value):
            return x, now, False, evaluation
        step, newton = ascent(now.hessian, now.gradient, keep)
        slope = float(step @ now.gradient)
        if slope < FINE:
            return x, now, newton, evaluation
        t = min(1.0, CAP / np.abs(step).max())
        while True:
            then = _penalised(rows, nodes, penalty, x + t * step, now.u)
            evaluation += 1
            if then.value >= now.value + 1e-4 * t * slope - 1e-10 * (1.0 + abs(now.value)):
                break
            t *= 0.5
            if t < 1e-9:
                return x, now, slope < 1e-5, evaluation
        x, now = x + t * step, then
    return x, now, False, EVALUATIONS


def maximise_quadrature(
    rows: GlmmRows,
    nodes: int,
    penalty: Penalty,
    code: int,
    x: Vector,
    u: Matrix,
    covariance: Matrix,
    gradient: Vector,
    numbers: Vector,
) -> int:
    """Turn a Laplace fit (arrays and code of `maximise_laplace`) into one by quadrature, in place; bits of its EVENTS.

    Parameters
    ----------
    rows, nodes, penalty
        `GlmmRows` with one column in Z; nodes of the quadrature; Q0 and t0 of a `Penalty`.
    code, x (p + 1,), u (m, 1)
        Those of the Laplace fit, where the search begins; x and u <- estimates (beta, l), l >= 0, and modes.
    covariance (p + 1, p + 1), gradient (p + 1,), numbers (3,)
        <- as for `maximise_laplace`.
    """
    keep, p = np.ones(len(x), dtype=bool), len(x) - 1
    start = np.array(x, dtype=float)
    if code & (SEPARATED | NOT_CONVERGED):
        start[:] = 0.0
    if code & (SEPARATED | NOT_CONVERGED | SINGULAR):
        start[p] = 1.0
    best, at, converged, used = _climb(rows, nodes, penalty, start, u[:, 0], keep)
    if abs(best[p]) < LITTLE or not converged:
        keep[p] = False
        flat = np.where(keep, best if np.isfinite(at.value) else 0.0, 0.0)
        flat, at_flat, ended, more = _climb(rows, nodes, penalty, flat, np.zeros(len(u)), keep)
        used += more
        if at_flat.value >= at.value - NO_GAIN or not np.isfinite(at.value):
            best, at, converged = flat, at_flat, ended
        else:
            keep[p] = True
    answer = 0 if keep[p] else SINGULAR
    answer |= 0 if converged else NOT_CONVERGED
    answer |= _curvature(at, keep, covariance)
    if (np.diag(covariance)[:p] > FAR**2).any() or abs(best[p]) > FAR:
        answer |= SEPARATED
    sign = -1.0 if best[p] < 0.0 else 1.0
    x[:], u[:, 0], gradient[:] = best, sign * at.u, at.gradient
    x[p], gradient[p] = sign * best[p], sign * at.gradient[p]
    covariance[p, :p] *= sign
    covariance[:p, p] *= sign
    without = quadrature(rows, nodes, best, at.u).value if penalty.t0.any() else at.value
    numbers[:] = at.value, without, used
    return answer


def _curvature(at: Quadrature, keep: BoolVector, covariance: Matrix) -> int:
    """covariance <- inverse of -hessian in the kept elements, else zero; if not definite, that of beta given l."""
    covariance[:] = 0.0
    for answer, part in ((0, keep), (NO_CURVATURE, keep & (np.arange(len(keep)) < len(keep) - 1))):
        information = -at.hessian[np.ix_(part, part)]
        if np.isfinite(information).all() and np.linalg.eigvalsh(information)[0] > 0.0:
            covariance[np.ix_(part, part)] = np.linalg.inv(information)
            return answer
    covariance[:] = np.nan
    return NO_CURVATURE

"""Newton's method for the maximum of the (penalised) Laplace log-likelihood: one search from a given start.

The exact Hessian (kernels/laplace/hessian.py) is adjusted for steps in L (`bend`) and gets a ridge where it is not
negative definite. Modes of effects are updated to first order along the step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, merged
from bayesimp.kernels.laplace.criterion import evaluate
from bayesimp.kernels.laplace.start import CAP
from bayesimp.kernels.linalg import cholesky, copy_to, fill, inverse_from_cholesky
from bayesimp.kernels.newton import shortened, uphill
from bayesimp.notation import BoolVector, IntMatrix, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows
    from bayesimp.kernels.laplace.criterion import Evaluation, Penalty

__all__ = ["LITTLE", "RIDGE", "Search", "climb", "covariance_at"]

EVALUATIONS = 300
RIDGE = 1e-3  # smallest ridge added to a Hessian that is not definite
LITTLE = 0.02  # a standard deviation below this may be held at zero (kernels/laplace/fit.py)


@inner
def factor_kept(hessian: Matrix, keep: BoolVector, ridge: float, F: Matrix) -> bool:
    """F <- Cholesky factor of ridge I - hessian in the kept rows and columns, I elsewhere; False if it has none."""
    for a in range(keep.shape[0]):
        for b in range(a):
            F[a, b] = -hessian[a, b] if keep[a] and keep[b] else 0.0
        F[a, a] = ridge - hessian[a, a] if keep[a] else 1.0
    return cholesky(F, keep.shape[0])


@inner
def covariance_at(hessian: Matrix, keep: BoolVector, least: float, out: Matrix) -> bool:
    """out <- inverse of the kept rows and columns of -hessian, zero elsewhere; whether these are positive definite.

    If not, and least > 0, out is the inverse of ridge I - hessian, where the ridge is twice what is needed and at least
    `least`.
    """
    k, ridge = hessian.shape[0], 0.0
    F = np.empty((k, k))
    while not factor_kept(hessian, keep, ridge, F):
        if least == 0.0 or ridge > 1e30:
            return False
        ridge = max(4.0 * ridge, least)
    if ridge > 0.0:
        factor_kept(hessian, keep, 2.0 * ridge, F)
    inverse_from_cholesky(F, out, k)
    for a in range(k):
        if not keep[a]:
            out[a, a] = 0.0
    return ridge == 0.0


@merged
def bend(hessian: Matrix, g: Vector, free: IntMatrix, clusters: float, v: Evaluation) -> None:
    """hessian <- the Hessian of a function whose Newton steps in L are right to second order for well-determined effects.

    The log-likelihood of one normal effect observed with variance tau, -m log(L^2 + tau) / 2 - const / (L^2 + tau), is
    far from a parabola. With alpha f' / L added to f'', the error of a step from L to the maximum is of third order if
    alpha = 4 L^2 / (L^2 + tau) - 3/2. Here f' dL^2 / L is g'(dL L^-1 dL), and tau / (L^2 + tau) the largest mean of Q_kk.
    """
    q = v.L.shape[0]
    p, W, G = g.shape[0] - free.shape[0], v.Q, v.M
    alpha = 2.5
    for a in range(q):
        alpha = min(alpha, 2.5 - 4.0 * v.shrinkage[a] / clusters if abs(v.L[a, a]) > LITTLE else 0.0)
    if not alpha > 0.0:
        return
    fill(G, 0.0)
    for a in range(q):
        for b in range(q):
            W[b, a] = 1.0 if a == b else 0.0
        for b in range(a, q):
            for c in range(a, b):
                W[b, a] -= v.L[b, c] * W[c, a]
            W[b, a] /= v.L[b, b]
    for l in range(free.shape[0]):
        G[free[l, 0], free[l, 1]] = g[p + l]
    for l in range(free.shape[0]):
        for h in range(free.shape[0]):
            a, b, c, d = free[l, 0], free[l, 1], free[h, 0], free[h, 1]
            hessian[p + l, p + h] += 0.5 * alpha * (G[a, d] * W[b, c] + G[c, b] * W[d, a])


@merged
def is_accepted(after: float, value: float, slope: float, t: float, s: Vector, g: Vector) -> bool:
    """Whether a step t s gained enough (Armijo), or only changed the value by rounding while the slope along it fell."""
    steep = 0.0
    for a in range(s.shape[0]):
        steep += s[a] * g[a]
    gained = math.isfinite(after) and after >= value + 1e-4 * t * slope
    return gained or (after >= value - 1e-10 * (1.0 + abs(value)) and abs(steep) <= 0.9 * slope)


@merged
def rates_along(rates: Stack, s: Vector, lean: Matrix) -> None:
    """lean (m, q) <- derivatives of the modes along s; rates (m, k, q)."""
    for i in range(lean.shape[0]):
        for a in range(lean.shape[1]):
            lean[i, a] = 0.0
            for e in range(s.shape[0]):
                lean[i, a] += s[e] * rates[i, e, a]


@merged
def go(x: Vector, s: Vector, modes: Matrix, lean: Matrix, t: float, trial: Vector, u: Matrix) -> None:
    """trial <- x + t s, u <- modes + t lean."""
    for a in range(x.shape[0]):
        trial[a] = x[a] + t * s[a]
    for i in range(u.shape[0]):
        for a in range(u.shape[1]):
            u[i, a] = modes[i, a] + t * lean[i, a]


class Search(NamedTuple):
    """The problem and the current state of a search; its arrays change in place.

    rows, shape, penalty, free: as in `bayesimp.kernels.laplace.fit.maximise_laplace`. keep (k,): elements that are not
    held. x (k,), u (m, q): parameters, modes of effects. gradient (k,), hessian, inverse (k, k): derivatives of the
    criterion, inverse of the negative Hessian. v: work space for an evaluation.
    """

    rows: GlmmRows
    shape: float
    penalty: Penalty
    free: np.ndarray
    keep: np.ndarray
    x: np.ndarray
    u: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    inverse: np.ndarray
    v: Evaluation


@merged
def climb(at: Search, gain: float, given: bool) -> tuple[float, bool, int]:
    """at.x <- end of the search from x; returns the value, whether it converged, and the number of evaluations.

    gain: a step whose slope (twice its expected gain) is below this is not worth an evaluation; u, the gradient and the
    value are extrapolated along it, and hessian stays that before it. given: whether the first step uses the inverse
    passed in; after a fit of similar data this is the expected curvature, which works better far from the maximum than
    the observed one.
    """
    rows, free, keep, v = at.rows, at.free, at.keep, at.v
    x, u, g, hessian, inverse = at.x, at.u, at.gradient, at.hessian, at.inverse
    k, (m, q) = x.shape[0], u.shape
    s, trial, g_trial = np.zeros(k), x.copy(), np.empty(k)
    h_trial, modes, lean = np.empty((k, k)), np.zeros((m, q)), np.zeros((m, q))
    value, slope, t, newton, clusters = -math.inf, 0.0, 1.0, False, 0.0
    for i in range(m):
        clusters += rows.first[i + 1] > rows.first[i]
    for evaluation in range(1, EVALUATIONS + 1):
        after = evaluate(rows, at.shape, at.penalty, free, trial, u, v, g_trial, h_trial)
        if evaluation == 1:
            if not math.isfinite(after):
                return -math.inf, False, evaluation
        elif not is_accepted(after, value, slope, t, s, g_trial):
            if t < 1e-9:
                return value, slope < 1e-5, evaluation
            t = shortened(t, slope, after - value)
            go(x, s, modes, lean, t, trial, u)
            continue
        value = after
        copy_to(hessian, h_trial)
        for a in range(k):
            x[a], g[a] = trial[a], g_trial[a]
        if evaluation > 1 or not given:
            bend(h_trial, g, free, clusters, v)
            newton = covariance_at(h_trial, keep, 0.0, inverse) or covariance_at(
                hessian, keep, RIDGE, inverse
            )
        slope, largest = uphill(inverse, g, s)
        done = not slope >= gain
        if done and not newton:
            return value, slope >= 0.0, evaluation
        t = min(1.0, CAP / largest)
        copy_to(modes, u)
        rates_along(v.rates, s, lean)
        go(x, s, modes, lean, t, trial, u)
        if done:
            for a in range(k):
                x[a] = trial[a]
                for b in range(k):
                    g[a] += t * hessian[a, b] * s[b]
            return value + 0.5 * slope, True, evaluation
    return value, False, EVALUATIONS

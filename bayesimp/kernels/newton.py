"""Steps of Newton and quasi-Newton searches. Which search has its own loop, and why: ARCHITECTURE.md."""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import merged
from bayesimp.kernels.linalg import solve_lower, solve_lower_t
from bayesimp.notation import Matrix, Vector

__all__ = ["bfgs", "downhill", "newton_step", "shortened", "uphill"]


@merged
def newton_step(L: Matrix, s: Vector) -> float:
    """s <- H^-1 s, H = L L', Newton's step from the gradient g in s; returns the decrement g'H^-1 g = |L^-1 g|^2.

    Half the decrement is the gain of the step if the target is quadratic.
    """
    d, decrement = s.shape[0], 0.0
    solve_lower(L, s, d)
    for a in range(d):
        decrement += s[a] * s[a]
    solve_lower_t(L, s, d)
    return decrement


@merged
def uphill(inverse: Matrix, g: Vector, s: Vector) -> tuple[float, float]:
    """s <- inverse g, a step of a maximisation; returns the slope s'g and the largest element of s."""
    slope, largest = 0.0, 0.0
    for a in range(g.shape[0]):
        s[a] = 0.0
        for b in range(g.shape[0]):
            s[a] += inverse[a, b] * g[b]
        slope += s[a] * g[a]
        largest = max(largest, abs(s[a]))
    return slope, largest


@merged
def downhill(inverse: Matrix, g: Vector, s: Vector) -> tuple[float, float]:
    """s <- -inverse g, a step of a minimisation; returns the slope s'g and the length of s."""
    slope, squares = 0.0, 0.0
    for a in range(g.shape[0]):
        s[a] = 0.0
        for b in range(g.shape[0]):
            s[a] -= inverse[a, b] * g[b]
        slope += s[a] * g[a]
        squares += s[a] * s[a]
    return slope, math.sqrt(squares)


@merged
def shortened(t: float, slope: float, change: float) -> float:
    """Step length between 0.1 t and 0.5 t, at the extremum of the parabola with this slope at zero and change at t.

    A change that is not finite gives 0.1 t.
    """
    shrink = 0.1
    if math.isfinite(change):
        shrink = max(0.1, min(0.5, 0.5 * slope * t / (slope * t - change)))
    return t * shrink


@merged
def bfgs(inverse: Matrix, s: Vector, y: Vector, least: float) -> None:
    """BFGS update of an inverse Hessian, in place, after a step s that changed the gradient by y.

    Nocedal & Wright (2006), eq. 6.17; skipped unless s'y > least y' inverse y.
    """
    d, sy, yHy = s.shape[0], 0.0, 0.0
    Hy = np.zeros(d)
    for a in range(d):
        sy += s[a] * y[a]
        for b in range(d):
            Hy[a] += inverse[a, b] * y[b]
        yHy += y[a] * Hy[a]
    if sy > least * yHy:
        for a in range(d):
            for b in range(d):
                inverse[a, b] += (1.0 + yHy / sy) * s[a] * s[b] / sy - (Hy[a] * s[b] + s[a] * Hy[b]) / sy

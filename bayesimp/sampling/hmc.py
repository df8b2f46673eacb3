"""Hamiltonian Monte Carlo on a compiled log density: transitions, and their adaptation.

With target density exp(U(theta)), C a factor of the metric (C C' about the covariance of theta) and momentum
p ~ N(0, I), one transition follows K leapfrog steps of size e,

    p <- p + e/2 C' dU(theta),    theta <- theta + e C p,    p <- p + e/2 C' dU(theta),

and accepts their end point with probability min(1, exp(H - H')), H = p'p/2 - U(theta)  (Neal 2011, sec. 5.3). Where the
target is normal with covariance C C', theta turns by the angle K e about its mean. e is jittered by a fifth, and K is
chosen so that the angle is uniform on TURN, over which its cosine has mean about 0: successive draws are uncorrelated.

The density is PyTensor's compiled function itself, passed as a value (sampling/compiled_model.py): the loop runs in
machine code, without the interpreter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit, typeof, types
from numpy.typing import NDArray

__all__ = ["Adaptation", "adapt", "hmc"]

DIVERGENT = 1000.0  # increase of H beyond which a trajectory counts as divergent, as in Stan
TURN = (0.8, 2.3)
JITTER = 0.2
DENSE = 100  # up to this many parameters the metric is dense
MOST_STEPS = 256


@dataclass(frozen=True)
class Adaptation:
    """Step size and metric found by a warm-up, fixed from then on.

    step: size e. factor: C, (n, n) lower triangular, or (n, 1) its diagonal. mean (n,): mean of the warm-up draws.
    acceptance: mean acceptance probability in the last stretch, with the step sizes in use then.
    """

    step: float
    factor: np.ndarray
    mean: np.ndarray
    acceptance: float


@cache
def hmc(density: types.FunctionType, arrays: types.Tuple) -> Callable:
    """The sampler for densities of one numba type.

    Parameters
    ----------
    density
        ``((theta, *arrays)) -> (log density (0-d), gradient (n,))``, as numba has it.

    Returns
    -------
    ``(density, rng, theta (n,), C, e, trace (T, 2), arrays) -> ok``: T transitions that move theta in place. trace
    receives the acceptance probability and 1 for a divergence; ok is False if the density is not finite at the start. The
    sampler releases the interpreter lock.
    """
    vector, matrix = types.Array(types.float64, 1, "C"), types.Array(types.float64, 2, "C")
    rng = typeof(np.random.default_rng())
    signature = types.boolean(density, rng, vector, matrix, types.float64, matrix, arrays)
    return njit(signature, nogil=True, cache=True, error_model="numpy")(_transitions)


@njit(inline="always", error_model="numpy")
def _move_momentum(p: np.ndarray, C: np.ndarray, size: float, slope: np.ndarray) -> None:
    """p <- p + size / 2 C' dU: half a step of the momentum."""
    dense = C.shape[1] == p.size
    for i in range(p.size):
        if dense:
            for j in range(i + 1):
                p[j] += 0.5 * size * C[i, j] * slope[i]
        else:
            p[i] += 0.5 * size * C[i, 0] * slope[i]


@njit(inline="always", error_model="numpy")
def _move_position(theta: np.ndarray, C: np.ndarray, size: float, p: np.ndarray) -> None:
    """theta <- theta + size C p: a step of the position."""
    dense = C.shape[1] == p.size
    for i in range(p.size):
        z = 0.0
        if dense:
            for j in range(i + 1):
                z += C[i, j] * p[j]
        else:
            z = C[i, 0] * p[i]
        theta[i] += size * z


def _transitions(
    density: Callable[[tuple], tuple[NDArray, NDArray]],
    rng: np.random.Generator,
    theta: np.ndarray,
    C: np.ndarray,
    e: float,
    trace: np.ndarray,
    arrays: tuple[np.ndarray, ...],
) -> bool:
    n = theta.size
    value, gradient = density((theta,) + arrays)  # noqa: RUF005 (numba knows this one only)
    U = value[()]
    if not math.isfinite(U):
        return False
    p = np.empty(n)
    for t in range(trace.shape[0]):
        trace[t, 0] = 0.0
        trace[t, 1] = 0.0
        size = e * (1.0 + JITTER * (2.0 * rng.random() - 1.0))
        angle = TURN[0] + (TURN[1] - TURN[0]) * rng.random()
        steps = min(max(int(angle / size + 0.5), 1), MOST_STEPS)
        H = -U
        for i in range(n):
            p[i] = rng.standard_normal()
            H += 0.5 * p[i] * p[i]
        new, slope, U_new = theta.copy(), gradient, U
        for k in range(2 * steps):
            _move_momentum(p, C, size, slope)
            if k % 2:
                continue
            _move_position(new, C, size, p)
            value, slope = density((new,) + arrays)  # noqa: RUF005
            U_new = value[()]
            if not math.isfinite(U_new):
                break
        loss = -U_new - H
        for i in range(n):
            loss += 0.5 * p[i] * p[i]
        # a comparison with nan is false, so nan is rejected; exp(min(0, nan)) would accept it
        if loss < DIVERGENT and math.isfinite(U_new):
            trace[t, 0] = math.exp(-loss) if loss > 0.0 else 1.0
        else:
            trace[t, 1] = 1.0
        if rng.random() < trace[t, 0]:
            for i in range(n):
                theta[i] = new[i]
            U, gradient = U_new, slope
    return True


def adapt(
    move: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
    theta: np.ndarray,
    *,
    target: float = 0.8,
    stretches: tuple[int, ...] = (50, 50, 100, 200),
    last: int = 100,
) -> Adaptation:
    """Step size and metric found by a warm-up from `theta`, which is moved.

    Parameters
    ----------
    move
        ``(theta, C, e) -> trace (1, 2)``: one transition in place, including whatever else changes between transitions.
    target
        Target mean acceptance probability.
    stretches, last
        Numbers of transitions. After each stretch but the first the metric becomes the covariance of its draws, shrunk as
        in Stan; the step size is tuned again in each (dual averaging, Hoffman & Gelman 2014, sec. 3.2) and the last one
        is kept.
    """
    n = theta.size
    C = np.eye(n) if n <= DENSE else np.ones((n, 1))
    step, mean = 0.5, theta.copy()
    for number, length in enumerate((*stretches, last)):
        draws = np.empty((length, n))
        rate = _DualAveraging(step, target)
        total = 0.0
        for t in range(length):
            probability = float(move(theta, C, rate.step)[0, 0])
            total += probability
            rate.update(probability)
            draws[t] = theta
        step = rate.final
        mean = draws.mean(0)
        if 0 < number < len(stretches):
            C = _factor(draws, dense=n <= DENSE)
            step = 1.0
    return Adaptation(step, C, mean, total / length)


class _DualAveraging:
    """log e_t = mu - sqrt(t)/gamma * mean of (target - acceptance); `final` is the weighted mean of log e_t."""

    def __init__(self, step: float, target: float) -> None:
        self.mu, self.target = math.log(5 * step), target
        self.gap, self.log_mean, self.t = 0.0, math.log(step), 0
        self.step = step

    @property
    def final(self) -> float:
        return math.exp(self.log_mean)

    def update(self, acceptance: float) -> None:
        self.t += 1
        weight = 1 / (self.t + 10)
        self.gap += weight * (self.target - acceptance - self.gap)
        log_step = min(self.mu - math.sqrt(self.t) / 0.05 * self.gap, math.log(2.0))
        self.step = math.exp(log_step)
        self.log_mean += self.t**-0.75 * (log_step - self.log_mean)


def _factor(draws: np.ndarray, dense: bool) -> np.ndarray:
    """C of the covariance of `draws` (T, n), shrunk towards a small multiple of the identity with the weight of five
    draws."""
    T, n = draws.shape
    weight = T / (T + 5)
    if dense:
        covariance = np.atleast_2d(np.cov(draws.T))
        return np.linalg.cholesky(weight * covariance + (1 - weight) * 1e-3 * np.eye(n))
    return np.sqrt(weight * draws.var(0) + (1 - weight) * 1e-3)[:, None]

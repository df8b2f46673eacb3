"""The shape of negative binomial, gamma, inverse Gaussian, beta and lognormal responses, by slice sampling (Neal 2003).

    coefficient of variation v = shape^-1/2 ~ half-t(3, scale),     delta = log shape,  v = e^(-delta/2)
    log p(delta) = -2 log(1 + v^2 / (3 scale^2)) + log v,     1e-8 < shape < 1e8

v is that of a gamma response, of the negative binomial's mixing law, or of the inverse Gaussian at mean one (so its
response must be scaled to a mean of about one). The shape of a beta response is its precision phi, var y = mu (1 - mu) /
(1 + phi); that of a lognormal response is 1 / sigma^2, so that v is sigma, the residual standard deviation of log y.
The prior is zero below v = 1e-4: otherwise no posterior would be proper if all rows fitted exactly, as equal responses
do. Log-likelihoods, with shape k and n rows:

    GAMMA              n (k log k - lgamma(k)) + k sum (log y - eta - y e^-eta)
    BETA               n lgamma(k) - sum (lgamma(k mu) + lgamma(k (1 - mu))) + k sum (mu log y + (1 - mu) log(1 - y))
    INVERSE_GAUSSIAN   n log(k) / 2 - (k / 2) sum (e^-2eta y - 2 e^-eta + 1 / y)
    LOGNORMAL          n log(k) / 2 - (k / 2) sum (log y - eta)^2
    NEGATIVE_BINOMIAL  sum_{t < T} N(y > t) log(k + t) + sum_{y > T} lgamma(y + k) - lgamma(T + k)
                       + n k log k - sum (y + k) log(k + mu),       lgamma(y + k) - lgamma(k) = sum_{t < y} log(k + t)

The first sum of the last one uses a table of N(y > t), T <= 1000, made once per call, which avoids a gamma function for
every row and cancellation for large k.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.beta import shares
from bayesimp.kernels.families.scalar import BETA, GAMMA, LOGNORMAL, NEGATIVE_BINOMIAL
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import IntVector, Matrix, Vector

__all__ = ["LARGEST", "counts_above", "draw_shape", "log_shape_density"]

TABLE, WIDTH, STEPS = 1000, 0.5, 60.0
LARGEST = math.log(1e8)


def counts_above(y: Vector) -> np.ndarray:
    """N(y > t), t = 0..T-1, where T is the largest y or TABLE."""
    counts = np.bincount(np.minimum(y, TABLE).astype(np.int64), minlength=1)
    return (len(y) - np.cumsum(counts)[:-1]).astype(float)


@inner
def _sum(family: int, y: Vector, eta: Matrix) -> float:
    """The sum over rows that does not depend on the shape; for the negative binomial, eta becomes mu."""
    total = 0.0
    for j in range(y.size):
        if family == BETA:
            mu, rest = shares(eta[j, 0])
            total += mu * math.log(y[j]) + rest * math.log1p(-y[j])
            continue
        if family == LOGNORMAL:
            total += (math.log(y[j]) - eta[j, 0]) ** 2
            continue
        e = math.exp(-eta[j, 0])
        if family == NEGATIVE_BINOMIAL:
            eta[j, 0] = 1.0 / e
        elif family == GAMMA:
            total += math.log(y[j]) - eta[j, 0] - y[j] * e
        else:
            total += y[j] * e * e - 2.0 * e + 1.0 / y[j]
    return total


@inner
def log_shape_density(
    family: int, y: Vector, mu: Matrix, above: Vector, fixed_sum: float, scale: float, delta: float
) -> float:
    """log p(delta | rest) up to a constant; mu (n, 1) as `_sum` leaves it, which is eta for BETA."""
    if abs(delta) > LARGEST:
        return -math.inf
    k, n = math.exp(delta), y.size
    total = -0.5 * delta - 2.0 * math.log1p(1.0 / (3.0 * k * scale * scale))
    if family == GAMMA:
        return total + n * (k * delta - math.lgamma(k)) + k * fixed_sum
    if family == BETA:
        for j in range(n):
            share, rest = shares(mu[j, 0])
            total -= math.lgamma(k * share) + math.lgamma(k * rest)
        return total + n * math.lgamma(k) + k * fixed_sum
    if family != NEGATIVE_BINOMIAL:
        return total + 0.5 * (n * delta - k * fixed_sum)
    for t in range(above.size):
        total += above[t] * math.log(k + t)
    top = float(above.size)
    for j in range(n):
        total -= y[j] * math.log(k + mu[j, 0]) + k * math.log1p(mu[j, 0] / k)
        if y[j] > top:
            total += math.lgamma(y[j] + k) - math.lgamma(top + k)
    return total


@inner
def draw_shape(
    rng: np.random.Generator,
    family: int,
    y: Vector,
    eta: Matrix,
    above: Vector,
    scale: float,
    shape: float,
    tally: IntVector,
) -> float:
    """A draw of the shape given eta (n, 1), which is overwritten. tally (2,): counts of draws, of evaluations."""
    fixed_sum = _sum(family, y, eta)
    now = math.log(shape)
    search = np.empty(ENTRIES)
    value = log_shape_density(family, y, eta, above, fixed_sum, scale, now)
    delta = begin_slice(rng, value, now, WIDTH, STEPS, -math.inf, math.inf, search)
    tally[0] += 1
    tally[1] += 1
    while search[PHASE] != DONE:
        value = log_shape_density(family, y, eta, above, fixed_sum, scale, delta)
        delta = next_on_slice(rng, delta, value, search)
        tally[1] += 1
    return math.exp(delta)

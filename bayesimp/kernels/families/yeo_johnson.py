"""The Yeo-Johnson transformation (Yeo & Johnson 2000, eq. 2.1), and draws of its parameter with the residual scale.

    psi(y) = sign(y) ((1 + |y|)^p - 1) / p,      p = lambda where y >= 0,  2 - lambda where y < 0
    log psi'(y) = (p - 1) log(1 + |y|)

    psi(y) ~ N(eta, sigma^2),     lambda / 2 ~ Beta(2, 2),     sigma ~ half-t(3, scale),  1e-4 < sigma < 1e4

lambda = 1 is the normal model; the right tail is the longer one if lambda < 1, the left one if lambda > 1; and psi(-y)
at 2 - lambda is -psi(y) at lambda. For 0 < lambda < 2, psi takes all real values, so psi(y) can be normal; otherwise
it is bounded on one side.

sigma is drawn together with lambda, as a mixture of inverse gamma distributions (Wand et al. 2011, result 5),

    sigma^2 | a ~ IG(3/2, 3/a),   a ~ IG(1/2, 1/scale^2)     so that     a | sigma ~ IG(2, 3/sigma^2 + 1/scale^2)

    p(lambda | a, eta, y)  ~  p(lambda) prod_j psi'(y_j) (3/a + SS/2)^(-(n + 3)/2),      SS = sum_j (psi(y_j) - eta_j)^2
    sigma^2 | lambda, a, eta, y  ~  IG((n + 3)/2, 3/a + SS/2)

with lambda drawn by slice sampling (Neal 2003) of logit(lambda / 2). Both keep their values if sigma would leave its
bounds; without these bounds, no posterior would be proper if all rows fitted exactly.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.beta import shares
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import Matrix, Vector

__all__ = ["PRIOR", "draw_power", "transformed", "untransformed", "yeo_johnson_density"]

PRIOR = 2.0  # both parameters of the beta prior of lambda / 2
DF = 3.0  # of the half-t prior of sigma
LEAST, LARGEST = 1e-4, 1e4  # of sigma
WIDTH, STEPS, FARTHEST = 0.5, 60.0, 30.0  # slices of logit(lambda / 2); its bound
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@inner
def transformed(y: float, power: float) -> float:
    """psi(y) with lambda = power."""
    p = power if y >= 0.0 else 2.0 - power
    return math.copysign(math.expm1(p * math.log1p(abs(y))) / p, y)


@inner
def untransformed(z: float, power: float) -> float:
    """y with psi(y) = z."""
    p = power if z >= 0.0 else 2.0 - power
    return math.copysign(math.expm1(math.log1p(p * abs(z)) / p), z)


@inner
def yeo_johnson_density(y: float, eta: float, sigma: float, power: float) -> float:
    """log p(y | eta)."""
    z = (transformed(y, power) - eta) / sigma
    slope = (power - 1.0) * math.copysign(math.log1p(abs(y)), y)
    return -0.5 * z * z - math.log(sigma) - HALF_LOG_2PI + slope


@inner
def _sum_of_squares(y: Vector, eta: Matrix, power: float) -> float:
    """SS."""
    total = 0.0
    for j in range(y.size):
        r = transformed(y[j], power) - eta[j, 0]
        total += r * r
    return total


@inner
def _log_power(y: Vector, eta: Matrix, logs: float, rate: float, at: float) -> float:
    """log p(at | a, eta, y) up to a constant, at = logit(lambda / 2); logs: sum of sign(y) log(1 + |y|); rate: 3 / a."""
    if abs(at) > FARTHEST:
        return -math.inf
    half, rest = shares(at)
    spread = math.log(rate + 0.5 * _sum_of_squares(y, eta, 2.0 * half))
    return PRIOR * (math.log(half) + math.log(rest)) + 2.0 * half * logs - 0.5 * (y.size + DF) * spread


@inner
def draw_power(rng: np.random.Generator, y: Vector, eta: Matrix, scale: float, aux: Vector) -> None:
    """aux <- sigma and lambda given rows with predictors eta (n, 1)."""
    a = (DF / aux[0] ** 2 + scale**-2.0) / rng.standard_gamma(0.5 * (DF + 1.0))
    rate, logs = DF / a, 0.0
    for j in range(y.size):
        logs += math.copysign(math.log1p(abs(y[j])), y[j])
    now = math.log(aux[1]) - math.log(2.0 - aux[1])
    search, value = np.empty(ENTRIES), _log_power(y, eta, logs, rate, now)
    at = begin_slice(rng, value, now, WIDTH, STEPS, -math.inf, math.inf, search)
    while search[PHASE] != DONE:
        at = next_on_slice(rng, at, _log_power(y, eta, logs, rate, at), search)
    power = 2.0 * shares(at)[0]
    spread = rate + 0.5 * _sum_of_squares(y, eta, power)
    sigma = math.sqrt(spread / rng.standard_gamma(0.5 * (y.size + DF)))
    if LEAST < sigma and sigma < LARGEST:
        aux[0], aux[1] = sigma, power

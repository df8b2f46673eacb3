"""Counts above zero: the part of hurdle models that depends on predictors (Mullahy 1986).

    TRUNCATED_POISSON              P(y) = Poisson(y; mu) / (1 - p_0),      p_0 = e^-mu,               mu = e^eta
    TRUNCATED_NEGATIVE_BINOMIAL    P(y) = NB(y; mu, k) / (1 - p_0),        p_0 = (1 + mu / k)^-k,     y = 1, 2, ..

With mean m = mu / (1 - p_0) and c = k / (k + mu), which is 1 for the Poisson (k = infinity):

    d log p / d eta = c (y - m),      expected curvature  c^2 var y,      var y = m (1 + mu + mu / k - m)

log mu is the natural parameter of the truncated Poisson, whose log density is concave in it, with that curvature. The log
density of the truncated negative binomial is not concave if k < 1: at y = 1 its second derivative is about
k^2 (mu / k)^-k > 0 for large mu. With several rows, there may therefore be more than one mode in a coefficient, and
proposals do not assume a single mode (glmm/blocks.py).

A draw is 1 + the number of events in [0, 1] after the first. The first event comes before t with probability
1 - e^(-mu t); for the negative binomial, a Poisson process whose rate is Gamma(k, k / mu), with 1 - (1 + mu t / k)^-k,
and given that it came at t, the rate is Gamma(k + 1, k / mu + t). So with u ~ U(0, 1), and no rejection,

    e^-s = 1 - u (1 - p_0),    Poisson: t = s / mu,    NB: t = (e^(s / k) - 1) k / mu,    y - 1 ~ Poisson(rate (1 - t))
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.codes import TRUNCATED_POISSON

__all__ = ["draw_truncated", "log_above_zero", "minus_log_zero", "truncated_terms"]

SMALL = 1e-3  # below this value of -log p_0, differences are computed from their series


@inner
def minus_log_zero(mu: float, k: float) -> float:
    """-log p_0 of a count of mean mu and shape k (infinite for the Poisson)."""
    return mu if k == math.inf else k * math.log1p(mu / k)


@inner
def log_above_zero(s: float, eta: float) -> float:
    """log(1 - p_0) from s = -log p_0, which is about mu = e^eta if it is small, and 0 if it underflows."""
    if s < 1e-300:
        return eta
    return math.log(-math.expm1(-s)) if s < 1.0 else math.log1p(-math.exp(-s))


@inner
def truncated_terms(family: int, y: float, eta: float, shape: float) -> tuple[float, float, float]:
    """The terms of log p(y | eta) that depend on eta, the score and the expected curvature; y = 1, 2, .."""
    mu = math.exp(eta)
    k = math.inf if family == TRUNCATED_POISSON else shape
    s = minus_log_zero(mu, k)
    ratio = 1.0 if k == math.inf else (mu / s if s > 0.0 else 1.0)
    above = log_above_zero(s, eta)
    c = 1.0 if k == math.inf else k / (k + mu)
    value = y * eta - s - above if k == math.inf else y * (eta - math.log(k + mu)) - s - above
    beyond = s / 2.0 + s * s / 12.0 if s < SMALL else s / -math.expm1(-s) - 1.0  # s / (1 - p_0) - 1
    m = ratio * (1.0 + beyond)
    return value, c * (y - m), c * c * m * _spread(mu, k, ratio, beyond)


@inner
def _spread(mu: float, k: float, ratio: float, beyond: float) -> float:
    """var y / m = mu + mu / k - (m - 1), m - 1 = (ratio - 1) + ratio beyond; (1 + 1 / k) mu / 2 where mu is small."""
    inverse = 0.0 if k == math.inf else 1.0 / k
    if mu * (1.0 + inverse) < SMALL:
        return 0.5 * mu * (1.0 + inverse)
    return mu + mu * inverse - (ratio - 1.0) - ratio * beyond


@inner
def draw_truncated(rng: np.random.Generator, mu: float, k: float) -> float:
    """A draw of a count above zero."""
    s = -math.log1p(rng.random() * math.expm1(-minus_log_zero(mu, k)))
    if k == math.inf:
        return 1.0 + float(rng.poisson(max(mu - s, 0.0)))
    t = min(math.expm1(s / k) * k / mu, 1.0)
    return 1.0 + float(rng.poisson(rng.standard_gamma(k + 1.0) / (k / mu + t) * (1.0 - t)))

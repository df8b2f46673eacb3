"""Responses of generalised linear mixed models: densities, derivatives and draws, one row at a time.

With linear predictor eta, trials n and shape k (of the families that have one):

    LOGIT              y ~ Binomial(n, 1 / (1 + e^-eta))
    PROBIT             y ~ Binomial(n, Phi(eta))
    POISSON            y ~ Poisson(mu),                         mu = e^eta here and below
    NEGATIVE_BINOMIAL  y ~ NB(mu, k),    var y = mu + mu^2 / k
    GAMMA              y ~ Gamma(k, k / mu),    var y = mu^2 / k
    INVERSE_GAUSSIAN   y ~ IG(mu, k),    var y = mu^3 / k
    BETA               y ~ Beta(k mu, k (1 - mu)),    mu = 1 / (1 + e^-eta)        (kernels/families/beta.py)
    LOGNORMAL          log y ~ N(eta, 1 / k)

The log density is split: `log_likelihood` has the terms that depend on eta, `log_normaliser` the rest, so moves of
effects need no gamma functions. All densities are log-concave in eta except the inverse Gaussian and the beta, whose
curvature is the expected one, and TRUNCATED_NEGATIVE_BINOMIAL (kernels/families/truncated.py), which only
`is_log_concave` handles here.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.beta import (
    beta_curvature,
    beta_draw,
    beta_log_likelihood,
    beta_log_normaliser,
    beta_score,
)
from bayesimp.kernels.families.codes import (
    BETA,
    GAMMA,
    INVERSE_GAUSSIAN,
    LOGIT,
    LOGNORMAL,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
    TRUNCATED_NEGATIVE_BINOMIAL,
)

__all__ = ["BETA", "GAMMA", "INVERSE_GAUSSIAN", "LARGEST_LOG_MEAN", "LOGIT", "LOGNORMAL", "NEGATIVE_BINOMIAL", "POISSON",
           "PROBIT",
           "all_terms", "curvature_slope", "sum_of_logs",
           "derivatives", "draw_response", "inverse_link", "is_log_concave", "log_likelihood", "log_normaliser",
           "split_log_likelihood"]  # fmt: skip

# above this, a count is no longer exact in float64: such means are refused, not clipped
LARGEST_LOG_MEAN = 34.0
ROOT_2 = math.sqrt(2.0)
LOG_2PI = math.log(2.0 * math.pi)


@inner
def is_log_concave(family: int) -> bool:
    """Whether log p(y | eta) is concave in eta for every y, so that a block of coefficients has one mode."""
    return family != INVERSE_GAUSSIAN and family != BETA and family != TRUNCATED_NEGATIVE_BINOMIAL


@inner
def _softplus(x: float) -> float:
    """log(1 + e^x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@inner
def _log_add(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


@inner
def _log_normal_cdf(x: float) -> tuple[float, float]:
    """log Phi(x) and phi(x) / Phi(x), accurate in the lower tail (continued fraction of Mills' ratio)."""
    if x > -6.0:
        cdf = 0.5 * math.erfc(-x / ROOT_2)
        return math.log(cdf), math.exp(-0.5 * (x * x + LOG_2PI)) / cdf
    # Phi(x) / phi(x) = 1 / (t + 1 / (t + 2 / (t + 3 / ..))) with t = -x
    t = -x
    tail = t
    for k in range(40, 0, -1):
        tail = t + k / tail
    return -0.5 * (x * x + LOG_2PI) - math.log(tail), tail


@inner
def log_likelihood(family: int, y: float, trials: float, eta: float, shape: float) -> float:
    """The terms of log p(y | eta) that depend on eta."""
    if family == LOGIT:
        return y * eta - trials * _softplus(eta)
    if family == PROBIT:
        value = 0.0
        for side in range(2):  # successes, then failures: one call site saves compilation time
            times, t = (y, eta) if side == 0 else (trials - y, -eta)
            if times > 0.0:
                value += times * _log_normal_cdf(t)[0]
        return value
    if family == POISSON:
        return y * eta - math.exp(eta)
    if family == NEGATIVE_BINOMIAL:
        return y * eta - (y + shape) * _log_add(math.log(shape), eta)
    if family == GAMMA:
        return -shape * (eta + y * math.exp(-eta))
    if family == BETA:
        return beta_log_likelihood(y, eta, shape)
    if family == LOGNORMAL:
        return -0.5 * shape * (math.log(y) - eta) ** 2
    return -0.5 * shape * (y * math.exp(-2.0 * eta) - 2.0 * math.exp(-eta))


@inner
def log_normaliser(family: int, y: float, trials: float, shape: float) -> float:
    """The terms of log p(y | eta) that do not depend on eta."""
    if family == LOGIT or family == PROBIT:
        if trials == 1.0:
            return 0.0
        return math.lgamma(trials + 1.0) - math.lgamma(y + 1.0) - math.lgamma(trials - y + 1.0)
    if family == POISSON:
        return -math.lgamma(y + 1.0)
    if family == NEGATIVE_BINOMIAL:
        return math.lgamma(y + shape) - math.lgamma(shape) - math.lgamma(y + 1.0) + shape * math.log(shape)
    if family == GAMMA:
        return shape * math.log(shape) - math.lgamma(shape) + (shape - 1.0) * math.log(y)
    if family == BETA:
        return beta_log_normaliser(y, shape)
    if family == LOGNORMAL:
        return 0.5 * (math.log(shape) - LOG_2PI) - math.log(y)
    return 0.5 * (math.log(shape) - LOG_2PI - 3.0 * math.log(y) - shape / y)


@inner
def derivatives(family: int, y: float, trials: float, eta: float, shape: float) -> tuple[float, float]:
    """d log p / d eta, and the curvature -d^2 log p / d eta^2 (its expectation where it may be negative)."""
    if family == LOGIT:
        e = math.exp(-abs(eta))
        larger = 1.0 / (1.0 + e)
        p = larger if eta >= 0.0 else e * larger
        return y - trials * p, trials * e * larger * larger
    if family == PROBIT:
        score, curvature = 0.0, 0.0
        for side in range(2):
            times, t = (y, eta) if side == 0 else (trials - y, -eta)
            if times > 0.0:
                _, ratio = _log_normal_cdf(t)
                score += (1.0 - 2.0 * side) * times * ratio
                curvature += times * ratio * (t + ratio)
        return score, max(curvature, 0.0)
    if family == POISSON:
        mu = math.exp(eta)
        return y - mu, mu
    if family == NEGATIVE_BINOMIAL:
        p = 1.0 / (1.0 + shape * math.exp(-eta))  # mu / (mu + shape)
        return y - (y + shape) * p, (y + shape) * p * (1.0 - p)
    if family == GAMMA:
        ratio = y * math.exp(-eta)
        return shape * (ratio - 1.0), shape * ratio
    if family == BETA:
        return beta_score(y, eta, shape)
    if family == LOGNORMAL:
        return shape * (math.log(y) - eta), shape
    inverse = math.exp(-eta)
    return shape * (y * inverse * inverse - inverse), shape * inverse


@inner
def curvature_slope(family: int, y: float, trials: float, eta: float, shape: float) -> float:
    """The derivative with respect to eta of the curvature that `derivatives` returns."""
    if family == LOGIT:
        e = math.exp(-abs(eta))
        tilt = (1.0 - e) / (1.0 + e)  # |1 - 2 p|
        return (-tilt if eta >= 0.0 else tilt) * trials * e / (1.0 + e) ** 2
    if family == PROBIT:
        slope = 0.0
        if y > 0.0:
            _, ratio = _log_normal_cdf(eta)
            above = eta + ratio
            slope += y * ratio * (1.0 - ratio * above - above * above)
        if y < trials:
            _, ratio = _log_normal_cdf(-eta)
            above = ratio - eta
            slope -= (trials - y) * ratio * (1.0 - ratio * above - above * above)
        return slope
    if family == POISSON:
        return math.exp(eta)
    if family == NEGATIVE_BINOMIAL:
        p = 1.0 / (1.0 + shape * math.exp(-eta))
        return (y + shape) * p * (1.0 - p) * (1.0 - 2.0 * p)
    if family == GAMMA:
        return -shape * y * math.exp(-eta)
    if family == BETA:
        return beta_curvature(eta, shape)[0]
    if family == LOGNORMAL:
        return 0.0
    return -shape * math.exp(-eta)


@inner
def all_terms(
    family: int, y: float, trials: float, eta: float, shape: float
) -> tuple[float, float, float, float, float, float]:
    """`log_likelihood`, the two `derivatives`, `curvature_slope` and its derivative at once, with a single exponential
    where possible.

    The first is split into value - trials log(rest), rest >= 1, because logarithms, which take half of the time, can
    then be taken of products (`sum_of_logs`).
    """
    if family == LOGIT:
        e = math.exp(-abs(eta))
        larger = 1.0 / (1.0 + e)
        p, variance = larger if eta >= 0.0 else e * larger, e * larger * larger
        curvature = trials * variance
        return (
            y * eta - trials * max(eta, 0.0),
            1.0 + e,
            y - trials * p,
            curvature,
            curvature * (1.0 - 2.0 * p),
            curvature * (1.0 - 6.0 * variance),
        )
    if family == POISSON:
        mu = math.exp(eta)
        return y * eta - mu, 1.0, y - mu, mu, mu, mu
    if family == PROBIT:
        value, score, curvature, slope, bend = 0.0, 0.0, 0.0, 0.0, 0.0
        for side in range(2):
            times, t = (y, eta) if side == 0 else (trials - y, -eta)
            if times > 0.0:
                log_cdf, ratio = _log_normal_cdf(t)
                sign, above = 1.0 - 2.0 * side, t + ratio
                third = ratio * (1.0 - ratio * above - above * above)
                value += times * log_cdf
                score += sign * times * ratio
                curvature += times * ratio * above
                slope += sign * times * third
                bend -= times * ((above + ratio) * third + 2.0 * ratio * above * (1.0 - ratio * above))
        return value, 1.0, score, max(curvature, 0.0), slope, bend
    if family == NEGATIVE_BINOMIAL:
        p = 1.0 / (1.0 + shape * math.exp(-eta))
        variance = p * (1.0 - p)
        curvature = (y + shape) * variance
        value = y * eta - (y + shape) * _log_add(math.log(shape), eta)
        slope, bend = curvature * (1.0 - 2.0 * p), curvature * (1.0 - 6.0 * variance)
        return value, 1.0, y - (y + shape) * p, curvature, slope, bend
    if family == BETA:
        score, curvature = beta_score(y, eta, shape)
        slope, bend = beta_curvature(eta, shape)
        return beta_log_likelihood(y, eta, shape), 1.0, score, curvature, slope, bend
    if family == LOGNORMAL:
        r = math.log(y) - eta
        return -0.5 * shape * r * r, 1.0, shape * r, shape, 0.0, 0.0
    inverse = math.exp(-eta)
    if family == GAMMA:
        ratio = y * inverse
        expected = shape * ratio
        return -shape * (eta + ratio), 1.0, expected - shape, expected, -expected, expected
    square, expected = y * inverse * inverse, shape * inverse
    return shape * (inverse - 0.5 * square), 1.0, shape * square - expected, expected, -expected, expected


@inner
def split_log_likelihood(
    family: int, y: float, trials: float, eta: float, shape: float
) -> tuple[float, float]:
    """`log_likelihood` as value - trials log(rest), as in `all_terms`."""
    if family == LOGIT:
        return y * eta - trials * max(eta, 0.0), 1.0 + math.exp(-abs(eta))
    return log_likelihood(family, y, trials, eta, shape), 1.0


@inner
def sum_of_logs(product: float, times: float, rest: float) -> tuple[float, float]:
    """Add times log(rest), 1 <= rest <= 2, to a sum kept as log(product) + the second number returned."""
    if times == 1.0:
        product *= rest
        if product < 1e290:
            return product, 0.0
        return 1.0, math.log(product)
    return product, times * math.log(rest)


@inner
def inverse_link(family: int, eta: float) -> float:
    """The mean of one trial or row; the median for LOGNORMAL."""
    if family == LOGIT or family == BETA:
        return 1.0 / (1.0 + math.exp(-eta)) if eta >= 0.0 else math.exp(eta) / (1.0 + math.exp(eta))
    if family == PROBIT:
        return 0.5 * math.erfc(-eta / ROOT_2)
    return math.exp(eta)


@inner
def draw_response(rng: np.random.Generator, family: int, trials: float, eta: float, shape: float) -> float:
    """A draw of one response; nan if a log mean is out of range (`LARGEST_LOG_MEAN`), a proportion rounds to 0 or 1, or
    a lognormal value rounds to 0 or is infinite.
    """
    if family == LOGIT or family == PROBIT:
        p = inverse_link(family, eta)
        successes = 0.0
        for _ in range(int(trials)):
            if rng.random() < p:
                successes += 1.0
        return successes
    if family == BETA:
        return beta_draw(rng, eta, shape)
    if not abs(eta) < LARGEST_LOG_MEAN:
        return math.nan if not eta < 0.0 or family >= GAMMA else 0.0
    mu = math.exp(eta)
    if family == POISSON:
        return float(rng.poisson(mu))
    if family == NEGATIVE_BINOMIAL:
        return float(rng.poisson(mu * rng.standard_gamma(shape) / shape))
    if family == GAMMA:
        return mu * rng.standard_gamma(shape) / shape
    if family == LOGNORMAL:
        y = math.exp(eta + rng.standard_normal() / math.sqrt(shape))
        return y if 0.0 < y < math.inf else math.nan
    return rng.wald(mu, shape)

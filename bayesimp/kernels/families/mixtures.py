"""Responses that are simpler given latent variables: Student-t, counts with extra zeros, Yeo-Johnson.

    STUDENT    y ~ t_nu(eta, sigma),      w ~ Gamma(nu / 2, nu / 2),      y | w ~ N(eta, sigma^2 / w)     (Geweke 1993)

    ZERO_INFLATED_POISSON              y = 0 with probability zi, else y ~ Poisson(mu),    mu = e^eta       (Lambert 1992)
    ZERO_INFLATED_NEGATIVE_BINOMIAL    y = 0 with probability zi, else y ~ NB(mu, k)

    HURDLE_POISSON              y = 0 with probability hu, else y ~ Poisson(mu) given y > 0                (Mullahy 1986)
    HURDLE_NEGATIVE_BINOMIAL    y = 0 with probability hu, else y ~ NB(mu, k) given y > 0

    YEO_JOHNSON    psi(y) ~ N(eta, sigma^2),    psi with parameter lambda               (kernels/families/yeo_johnson.py)

log p(y | eta) of the first three is not concave in eta: with several rows, there may be two modes in a coefficient. It
is concave given the latent w of every row, or given whether each zero is structural (which has probability zi), so an
update of the parameters first draws

    w | y, eta, sigma, nu ~ Gamma((nu + 1) / 2, (nu + z^2) / 2),      z = (y - eta) / sigma
    P(structural zero | y = 0, eta, zi, k) = zi / (zi + (1 - zi) p_0),      p_0 = e^-mu, or (1 + mu / k)^-k

and moves coefficients and effects given these (`latent`): precisions w / sigma^2 of normal rows replace `trials`, which
is 0 in rows with structural zeros, because these say nothing about eta. The latent variables are not kept: they are
integrated out when missing cells are drawn, and when the auxiliary parameters are drawn by slice sampling (Neal 2003) of
log sigma, log(nu - 2), log k, logit zi. Every zero of a hurdle model is structural, so nothing is latent: rows above zero
are counts of kernels/families/truncated.py, and hu | y ~ Beta(1 + zeros, 1 + others) exactly. Given lambda, psi(y) of a
Yeo-Johnson response is normal with precision 1 / sigma^2, and replaces y.

    sigma ~ half-t(3, scale),  1e-4 < sigma < 1e4,      nu - 2 ~ Gamma(2, 1/10)        (Juarez & Steel 2010, from 2 on)

    zi, hu ~ Beta(1, 1),      k as kernels/families/shape.py

Thus nu > 2, and imputed values have a variance, which Rubin's rules and linear predictors that contain them need.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.families.beta import shares
from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    NEGATIVE_BINOMIAL,
    POISSON,
    STUDENT,
    TRUNCATED_NEGATIVE_BINOMIAL,
    TRUNCATED_POISSON,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.scalar import LARGEST_LOG_MEAN, draw_response, log_likelihood, log_normaliser
from bayesimp.kernels.families.shape import LARGEST as LARGEST_SHAPE
from bayesimp.kernels.families.shape import log_shape_density
from bayesimp.kernels.families.truncated import draw_truncated, log_above_zero, minus_log_zero
from bayesimp.kernels.families.yeo_johnson import draw_power, transformed, untransformed, yeo_johnson_density
from bayesimp.kernels.slices import DONE, ENTRIES, PHASE, begin_slice, next_on_slice
from bayesimp.notation import Matrix, Vector

__all__ = [
    "component", "draw_mixture", "draw_mixture_aux", "has_extra_zeros", "is_mixture", "latent", "mixture_density",
    "propose_count",
]  # fmt: skip

LARGEST = math.log(1e4)  # of |log sigma|: without a bound, exact fits would make posteriors improper
LEAST_DF, DF_SHAPE, DF_RATE = 2.0, 2.0, 0.1
WIDTH, STEPS, SWEEPS = 1.0, 60, 2
SIGMA, DF = SHAPE, INFLATION = range(2)
FARTHEST = 30.0  # bound of log(nu - 2) and logit zi


@inner
def has_extra_zeros(family: int) -> bool:
    """Whether zeros have their own probability, which is then the last auxiliary parameter."""
    return ZERO_INFLATED_POISSON <= family <= HURDLE_NEGATIVE_BINOMIAL


@inner
def _is_hurdle(family: int) -> bool:
    """Whether every zero is structural."""
    return family == HURDLE_POISSON or family == HURDLE_NEGATIVE_BINOMIAL


@inner
def _has_no_shape(family: int) -> bool:
    """Whether the probability of zero is the only auxiliary parameter."""
    return family == ZERO_INFLATED_POISSON or family == HURDLE_POISSON


@inner
def is_mixture(family: int) -> bool:
    """Whether the family is one of those in this module."""
    return STUDENT <= family <= YEO_JOHNSON


@inner
def component(family: int) -> int:
    """The family of a row given its latent variable (normal for STUDENT); the family itself if it is not a mixture."""
    if family == YEO_JOHNSON:
        return STUDENT
    if family == ZERO_INFLATED_POISSON:
        return POISSON
    if family == HURDLE_POISSON:
        return TRUNCATED_POISSON
    if family == HURDLE_NEGATIVE_BINOMIAL:
        return TRUNCATED_NEGATIVE_BINOMIAL
    return NEGATIVE_BINOMIAL if family == ZERO_INFLATED_NEGATIVE_BINOMIAL else family


@inner
def _log_count(family: int, y: float, eta: float, first: float) -> float:
    """log p(y | eta) of a count that is not a structural zero, truncated or not."""
    given = POISSON if _has_no_shape(family) else NEGATIVE_BINOMIAL
    return log_likelihood(given, y, 1.0, eta, first) + log_normaliser(given, y, 1.0, first)


@inner
def mixture_density(family: int, y: float, eta: float, first: float, second: float) -> float:
    """log p(y | eta), with latent variables integrated out; first, second: auxiliary parameters in order."""
    if has_extra_zeros(family):
        zi = first if _has_no_shape(family) else second
        if _is_hurdle(family) and y == 0.0:
            return math.log(zi)
        count = math.log1p(-zi) + _log_count(family, y, eta, first)
        if _is_hurdle(family):
            k = math.inf if _has_no_shape(family) else first
            return count - log_above_zero(minus_log_zero(math.exp(eta), k), eta)
        return count if y > 0.0 else math.log(zi + math.exp(count))
    if family == YEO_JOHNSON:
        return yeo_johnson_density(y, eta, first, second)
    z = (y - eta) / first
    tail = 0.5 * (second + 1.0)
    constant = math.lgamma(tail) - math.lgamma(0.5 * second) - 0.5 * math.log(math.pi * second)
    return constant - math.log(first) - tail * math.log1p(z * z / second)


@inner
def draw_mixture(rng: np.random.Generator, family: int, eta: float, aux: Vector) -> float:
    """A draw of the response; not finite if eta is not, or if the mean of a count is out of range (scalar.py)."""
    if has_extra_zeros(family):
        return propose_count(rng, family, eta, aux[0], aux[aux.size - 1])
    if family == YEO_JOHNSON:
        return untransformed(eta + aux[0] * rng.standard_normal(), aux[1])
    return eta + aux[0] * rng.standard_normal() / math.sqrt(rng.standard_gamma(0.5 * aux[1]) / (0.5 * aux[1]))


@inner
def propose_count(rng: np.random.Generator, family: int, eta: float, first: float, second: float) -> float:
    """A draw of a count with extra zeros, as by `draw_mixture` with auxiliary parameters first, second."""
    zi = first if _has_no_shape(family) else second
    if _is_hurdle(family):
        if not eta < LARGEST_LOG_MEAN:
            return math.nan
        k = math.inf if _has_no_shape(family) else first
        y = draw_truncated(rng, math.exp(eta), k) if eta > -LARGEST_LOG_MEAN else 1.0
        return 0.0 if rng.random() < zi else y
    y = draw_response(rng, component(family), 1.0, eta, first)
    return 0.0 if y >= 0.0 and rng.random() < zi else y


@inner
def latent(
    rng: np.random.Generator, family: int, y: Vector, eta: Matrix, aux: Vector, out: Vector, response: Vector
) -> None:
    """out (n,) <- latent variables of rows with predictors eta (n, 1), which moves of coefficients read as `trials`;
    response (n,) <- what these moves read as y.
    """
    for j in range(y.size):
        response[j] = transformed(y[j], aux[1]) if family == YEO_JOHNSON else y[j]
    if family == YEO_JOHNSON:
        out[:] = aux[0] ** -2.0
        return
    if has_extra_zeros(family):
        zi = aux[aux.size - 1]
        for j in range(y.size):
            out[j] = 1.0
            if y[j] == 0.0 and _is_hurdle(family):
                out[j] = 0.0
            elif y[j] == 0.0:
                p = (1.0 - zi) * math.exp(_log_count(family, 0.0, eta[j, 0], aux[0]))
                out[j] = 0.0 if rng.random() * (zi + p) < zi else 1.0
        return
    sigma, nu = aux[0], aux[1]
    for j in range(y.size):
        z = (y[j] - eta[j, 0]) / sigma
        out[j] = 2.0 * rng.standard_gamma(0.5 * (nu + 1.0)) / ((nu + z * z) * sigma * sigma)


@inner
def _log_student(which: int, y: Vector, eta: Matrix, scale: float, at: float, aux: Vector) -> float:
    """log p(at | y) up to a constant, at = log sigma or log(nu - 2); the other parameter is as in aux."""
    if abs(at) > (LARGEST if which == SIGMA else FARTHEST):
        return -math.inf
    here = math.exp(at)
    sigma, nu = (here, aux[DF]) if which == SIGMA else (aux[SIGMA], LEAST_DF + here)
    total, least = 0.0, nu * sigma * sigma
    for j in range(y.size):
        r = y[j] - eta[j, 0]
        total -= math.log1p(r * r / least)
    total *= 0.5 * (nu + 1.0)
    if which == SIGMA:
        return total - y.size * at - 2.0 * math.log1p((here / scale) ** 2 / 3.0) + at
    constant = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(nu)
    return total + y.size * constant + DF_SHAPE * at - DF_RATE * here


@inner
def _log_hurdle_shape(y: Vector, mu: Matrix, above: Vector, scale: float, at: float) -> float:
    """log p(at | y) up to a constant, at = log k; y, mu (n, 1): those of counts above zero."""
    total, k = log_shape_density(NEGATIVE_BINOMIAL, y, mu, above, 0.0, scale, at), math.exp(at)
    for j in range(y.size):
        total -= log_above_zero(minus_log_zero(mu[j, 0], k), math.log(mu[j, 0]))
    return total


@inner
def _log_zero_inflated(
    which: int, y: Vector, mu: Matrix, zeros: Vector, above: Vector, scale: float, at: float, aux: Vector
) -> float:
    """log p(at | y) up to a constant, at = log k or logit zi; the other parameter is as in aux. y, mu (n, 1): those of
    counts above zero; zeros: means of the other rows. The Poisson, which has no shape, has k = infinity.
    """
    if abs(at) > (LARGEST_SHAPE if which == SHAPE else FARTHEST):
        return -math.inf
    k = math.exp(at) if which == SHAPE else (aux[0] if aux.size > 1 else math.inf)
    zi, rest = shares(at) if which == INFLATION else (aux[aux.size - 1], 1.0 - aux[aux.size - 1])
    total = (
        log_shape_density(NEGATIVE_BINOMIAL, y, mu, above, 0.0, scale, at)
        if which == SHAPE
        else math.log(zi) + (1.0 + y.size) * math.log(rest)
    )
    for j in range(zeros.size):
        none = -zeros[j] if k == math.inf else -k * math.log1p(zeros[j] / k)
        total += math.log(zi + rest * math.exp(none))
    return total


@inner
def _log_aux(
    family: int,
    which: int,
    y: Vector,
    eta: Matrix,
    zeros: Vector,
    above: Vector,
    scale: float,
    at: float,
    aux: Vector,
) -> float:
    if family == STUDENT:
        return _log_student(which, y, eta, scale, at, aux)
    if family == HURDLE_NEGATIVE_BINOMIAL:
        return _log_hurdle_shape(y, eta, above, scale, at)
    return _log_zero_inflated(which, y, eta, zeros, above, scale, at, aux)


@inner
def _parted(y: Vector, eta: Matrix) -> tuple[Vector, Matrix, Vector]:
    """Counts above zero with their means, and the means of rows where y is zero."""
    many = np.int64(0)
    for j in range(y.size):
        many += y[j] > 0.0
    counts, means, zeros = np.empty(many), np.empty((many, 1)), np.empty(y.size - many)
    a, b = 0, 0
    for j in range(y.size):
        mu = math.exp(eta[j, 0])
        if y[j] > 0.0:
            counts[a], means[a, 0] = y[j], mu
            a += 1
        else:
            zeros[b] = mu
            b += 1
    return counts, means, zeros


@inner
def draw_mixture_aux(
    rng: np.random.Generator, family: int, y: Vector, eta: Matrix, above: Vector, scale: float, aux: Vector
) -> None:
    """aux <- auxiliary parameters given rows with predictors eta (n, 1), with latent variables integrated out.

    above: `counts_above` of kernels/families/shape.py, for the negative binomial.
    """
    if family == YEO_JOHNSON:
        draw_power(rng, y, eta, scale, aux)
        return
    zeros = np.empty(0)
    if family != STUDENT:
        y, eta, zeros = _parted(y, eta)
    free = aux.size
    if _is_hurdle(family):  # the last is drawn exactly
        free -= 1
        none, some = rng.standard_gamma(1.0 + zeros.size), rng.standard_gamma(1.0 + y.size)
        aux[free] = none / (none + some)
    search = np.empty(ENTRIES)
    for draw in range(SWEEPS * free):
        which = draw % free
        if family == ZERO_INFLATED_POISSON:
            which = INFLATION
        value = aux[which % aux.size]
        if family == STUDENT:
            now = math.log(value if which == SIGMA else value - LEAST_DF)
        else:
            now = math.log(value) if which == SHAPE else math.log(value) - math.log1p(-value)
        here = _log_aux(family, which, y, eta, zeros, above, scale, now, aux)
        at = begin_slice(rng, here, now, WIDTH, STEPS, -math.inf, math.inf, search)
        while search[PHASE] != DONE:
            here = _log_aux(family, which, y, eta, zeros, above, scale, at, aux)
            at = next_on_slice(rng, at, here, search)
        if family == STUDENT:
            value = math.exp(at) + (LEAST_DF if which == DF else 0.0)
        else:
            value = math.exp(at) if which == SHAPE else shares(at)[0]
        aux[which % aux.size] = value

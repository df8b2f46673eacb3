"""Means of a response given a linear predictor, or averaged over normal cluster effects, with derivatives.

    mu(eta) = g^-1(eta)                                     at given effects
    mu(eta, s2) = E g^-1(eta + s e),  e ~ N(0, 1)           averaged over effects z'b ~ N(0, s2 = z'Psi z)

Any number of effects reduces to one normal variable, so the integral is one-dimensional:

    log      exp(eta + s2 / 2)
    probit   Phi(eta / sqrt(1 + s2))                                        Zeger, Liang & Albert 1988
    logit    the trapezoid rule on e in [-9, 9] with step h; its error falls as exp(-2 pi d / h), with d = pi / s the
             distance of the poles of the logistic function from the real line (Trefethen & Weideman 2014)

The derivative by s2 is half the mean second derivative of g^-1, because the normal density solves the heat equation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from bayesimp.notation import Matrix, Vector

__all__ = ["LINKS", "SCALES_OF_POOLING", "PoolingScale", "mean_at", "mean_over"]

LINKS = ("identity", "logit", "probit", "log")
ENDS = 9.0  # limits of the trapezoid rule, in standard deviations, where the normal density is 1e-18
EXPONENT = 25.0  # the rule has errors of about exp(-25) relative to the integrand
AT_ONCE = 2_000_000  # most values of the integrand in memory at a time


class PoolingScale(NamedTuple):
    """A scale on which estimates are pooled: x -> f(x) and f', and back, t -> f^-1(t) and its derivative by t."""

    to: Callable[[Vector], Vector]
    slope: Callable[[Vector], Vector]
    back: Callable[[Vector], Vector]
    back_slope: Callable[[Vector], Vector]


def _density(x: Vector) -> Vector:
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


SCALES_OF_POOLING = {
    "identity": PoolingScale(lambda x: x, np.ones_like, lambda t: t, np.ones_like),
    "log": PoolingScale(np.log, lambda x: 1 / x, np.exp, np.exp),
    "logit": PoolingScale(
        special.logit,
        lambda x: 1 / (x * (1 - x)),
        special.expit,
        lambda t: special.expit(t) * special.expit(-t),
    ),
    "probit": PoolingScale(special.ndtri, lambda x: 1 / _density(special.ndtri(x)), special.ndtr, _density),
    "fisher z": PoolingScale(np.arctanh, lambda x: 1 / (1 - x**2), np.tanh, lambda t: 1 / np.cosh(t) ** 2),
}


def mean_at(link: str, eta: Vector) -> tuple[Vector, Vector]:
    """The mean mu (n,) at the linear predictor eta, and its derivative."""
    scale = SCALES_OF_POOLING[link]
    return scale.back(eta), scale.back_slope(eta)


def mean_over(link: str, eta: Vector, s2: Vector) -> tuple[Vector, Vector, Vector]:
    """The mean mu (n,) averaged over effects with variance s2 (n,), and its derivatives by eta and s2."""
    if link == "identity":
        return eta, np.ones_like(eta), np.zeros_like(eta)
    if link == "log":
        mu = np.exp(eta + s2 / 2)
        return mu, mu, mu / 2
    if link == "probit":
        shrink = 1 / np.sqrt(1 + s2)
        density = _density(eta * shrink)
        return special.ndtr(eta * shrink), density * shrink, -density * eta * shrink**3 / 2
    return _logistic(eta, s2)


def _logistic(eta: Vector, s2: Vector) -> tuple[Vector, Vector, Vector]:
    """Means of p, p' = p (1 - p) and p'' / 2 by the trapezoid rule."""
    s = np.sqrt(s2)
    step = min(0.5, 2 * np.pi**2 / (EXPONENT * max(s.max(initial=0.0), 1e-8)))
    at = np.arange(-np.ceil(ENDS / step), np.ceil(ENDS / step) + 1) * step
    weight = _density(at) * step
    weight /= weight.sum()
    out = np.empty((3, len(eta)))
    rows = max(AT_ONCE // len(at), 1)
    for first in range(0, len(eta), rows):
        part = slice(first, first + rows)
        out[:, part] = _three_means(eta[part, None] + s[part, None] * at, weight)
    return out[0], out[1], out[2]


def _three_means(eta: Matrix, weight: Vector) -> Matrix:
    p = special.expit(eta)
    slope = p * special.expit(-eta)
    return np.array([p @ weight, slope @ weight, (slope * (1 - 2 * p)) @ weight / 2])

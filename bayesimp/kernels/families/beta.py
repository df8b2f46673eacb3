"""The beta density of a proportion as a function of its linear predictor: values, derivatives, draws.

    y ~ Beta(a, b),   a = mu phi,   b = (1 - mu) phi,   mu = 1 / (1 + e^-eta),   var y = mu (1 - mu) / (1 + phi)
                                                                               (Ferrari & Cribari-Neto 2004, eq. 4)
    log p = lgamma(phi) - lgamma(a) - lgamma(b) + (a - 1) log y + (b - 1) log(1 - y)

With v = mu (1 - mu) and the polygamma functions psi_n, n = 0..3, of a and b:

    score                  phi v (log(y / (1 - y)) - psi_0(a) + psi_0(b))
    curvature, expected    phi^2 v^2 S_1,                                       S_n = psi_n(a) + psi_n(b)
    its slope              phi^2 (2 v v' S_1 + phi v^3 D_2),                    D_n = psi_n(a) - psi_n(b)
    its second derivative  phi^2 (2 (v'^2 + v v'') S_1 + 5 phi v^2 v' D_2 + phi^2 v^4 S_3)
                           v' = v (1 - 2 mu),   v'' = v (1 - 6 v)

The density is log-concave in mu, not in eta: with several rows, there may be two modes in a coefficient.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner

__all__ = ["beta_curvature", "beta_draw", "beta_log_likelihood", "beta_log_normaliser", "beta_score", "polygammas",
           "shares"]  # fmt: skip

SHIFT = 10.0  # from here on, the asymptotic series of the polygamma functions are exact in double precision
ATTEMPTS = 100


@inner
def shares(eta: float) -> tuple[float, float]:
    """mu and 1 - mu, each to full precision."""
    e = math.exp(-abs(eta))
    larger = 1.0 / (1.0 + e)
    return (larger, e * larger) if eta >= 0.0 else (e * larger, larger)


@inner
def polygammas(x: float) -> tuple[float, float, float, float]:
    """psi_0(x), .., psi_3(x) for x > 0, by recurrence up to `SHIFT`, then by the series in Bernoulli numbers
    (DLMF 5.5.2, 5.11.2, 5.15.5, 5.15.8).
    """
    p0, p1, p2, p3 = 0.0, 0.0, 0.0, 0.0
    while x < SHIFT:
        t = 1.0 / x
        p0, p1, p2, p3 = p0 - t, p1 + t * t, p2 - 2.0 * t * t * t, p3 + 6.0 * t * t * t * t
        x += 1.0
    t = 1.0 / x
    power = t * t
    p0 += math.log(x) - 0.5 * t
    p1 += t + 0.5 * power
    p2 -= power + power * t
    p3 += (2.0 + 3.0 * t) * power * t
    for k in range(1, 8):
        if k == 1:
            bernoulli = 1.0 / 6.0
        elif k == 2:
            bernoulli = -1.0 / 30.0
        elif k == 3:
            bernoulli = 1.0 / 42.0
        elif k == 4:
            bernoulli = -1.0 / 30.0
        elif k == 5:
            bernoulli = 5.0 / 66.0
        elif k == 6:
            bernoulli = -691.0 / 2730.0
        else:
            bernoulli = 7.0 / 6.0
        term, n = bernoulli * power, 2.0 * k  # power = x^-2k
        p0 -= term / n
        p1 += term * t
        p2 -= (n + 1.0) * term * t * t
        p3 += (n + 1.0) * (n + 2.0) * term * t * t * t
        power *= t * t
    return p0, p1, p2, p3


@inner
def beta_log_likelihood(y: float, eta: float, phi: float) -> float:
    """The terms of log p(y | eta) that depend on eta; -inf if y is not strictly between 0 and 1."""
    if not 0.0 < y < 1.0:
        return -math.inf
    mu, rest = shares(eta)
    a, b = mu * phi, rest * phi
    if not (a > 0.0 and b > 0.0):
        return -math.inf
    return a * (math.log(y) - math.log1p(-y)) - math.lgamma(a) - math.lgamma(b)


@inner
def beta_log_normaliser(y: float, phi: float) -> float:
    """The terms of log p(y | eta) that do not depend on eta."""
    return math.lgamma(phi) - math.log(y) + (phi - 1.0) * math.log1p(-y)


@inner
def beta_score(y: float, eta: float, phi: float) -> tuple[float, float]:
    """The score and the expected curvature."""
    mu, rest = shares(eta)
    a, b = mu * phi, rest * phi
    if not (a > 0.0 and b > 0.0):
        return 0.0, 0.0  # the density is zero there
    slope = phi * mu * rest
    a0, a1, _, _ = polygammas(a)
    b0, b1, _, _ = polygammas(b)
    return slope * (math.log(y) - math.log1p(-y) - a0 + b0), slope * slope * (a1 + b1)


@inner
def beta_curvature(eta: float, phi: float) -> tuple[float, float]:
    """First and second derivatives of the expected curvature."""
    mu, rest = shares(eta)
    a, b = mu * phi, rest * phi
    if not (a > 0.0 and b > 0.0):
        return 0.0, 0.0
    v, tilt = mu * rest, rest - mu
    v1, v2 = v * tilt, v * (1.0 - 6.0 * v)
    _, a1, a2, a3 = polygammas(a)
    _, b1, b2, b3 = polygammas(b)
    S1, D2, S3 = a1 + b1, a2 - b2, a3 + b3
    slope = 2.0 * v * v1 * S1 + phi * v * v * v * D2
    bend = 2.0 * (v1 * v1 + v * v2) * S1 + 5.0 * phi * v * v * v1 * D2 + (phi * v * v) ** 2 * S3
    return phi * phi * slope, phi * phi * bend


@inner
def beta_draw(rng: np.random.Generator, eta: float, phi: float) -> float:
    """A draw of y = A / (A + B), A ~ Gamma(a), B ~ Gamma(b), given that it is strictly between 0 and 1 as a double.

    nan if `ATTEMPTS` successive draws are 0 or 1 in double precision: nearly all the density is there.
    """
    mu, rest = shares(eta)
    for _ in range(ATTEMPTS):
        if not (mu * phi > 0.0 and rest * phi > 0.0):
            break
        first, second = rng.standard_gamma(mu * phi), rng.standard_gamma(rest * phi)
        y = first / (first + second) if first + second > 0.0 else 0.0
        if 0.0 < y < 1.0:
            return y
    return math.nan

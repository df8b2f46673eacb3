"""Families for positive numbers, with mu = e^eta.

    gamma               y ~ Gamma(k, k / mu),    var y = mu^2 / k
    inverse_gaussian    y ~ IG(mu, k),           var y = mu^3 / k
    lognormal           log y ~ N(eta, sigma^2)

Models use y divided by its mean. The shape of the gamma family and sigma do not depend on the unit of y; the shape of
the inverse Gaussian does. mu is the mean in the first two families and the median of a lognormal variable, whose mean
is mu e^(sigma^2 / 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesimp.families.auxiliary import LOG_SCALE, SHAPE, SHAPE_WITH_UNIT, scale_node, shape_node
from bayesimp.families.record import POSITIVE, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["GAMMA", "INVERSE_GAUSSIAN", "LOGNORMAL"]


def _gamma(data: Any, eta: Any) -> None:
    import pymc as pm

    k = shape_node()
    pm.Gamma(data.name, alpha=k, beta=k / pm.math.exp(eta[:, 0]), observed=data.y)


def _inverse_gaussian(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.Wald(data.name, mu=pm.math.exp(eta[:, 0]), lam=shape_node(), observed=data.y)


def _lognormal(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.LogNormal(data.name, mu=eta[:, 0], sigma=scale_node(), observed=data.y)


def _log_gamma(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    """k log(k / mu) - log Gamma(k) + (k - 1) log y - k y / mu."""
    import pytensor.tensor as pt

    k, one = given.scale, eta[0]
    return k * pt.log(k) - pt.gammaln(k) + (k - 1) * pt.log(y) - k * (one + y * pt.exp(-one))


def _log_inverse_gaussian(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    """[log(k / (2 pi)) - 3 log y - k (y / mu - 1)^2 / y] / 2."""
    import pytensor.tensor as pt

    k, one = given.scale, eta[0]
    return 0.5 * (pt.log(k / (2 * np.pi)) - 3 * pt.log(y) - k * (y * pt.exp(-one) - 1) ** 2 / y)


def _log_lognormal(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    import pytensor.tensor as pt

    sigma, log_y = given.scale, pt.log(y)
    return -0.5 * ((log_y - eta[0]) / sigma) ** 2 - pt.log(sigma) - 0.5 * np.log(2 * np.pi) - log_y


def _simulate_gamma(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return rng.gamma(v.shape, np.exp(eta[:, 0]) / v.shape)


def _simulate_inverse_gaussian(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return rng.wald(np.exp(eta[:, 0]), v.shape)


def _simulate_lognormal(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return np.exp(eta[:, 0] + v.sd * rng.standard_normal(len(eta)))


GAMMA = Family(
    "gamma", "positive numbers", POSITIVE, {"log": codes.GAMMA}, (), _gamma, SHAPE,
    as_predictor="log", fitted_by="glmm", glmm_name="gamma", log_density=_log_gamma, simulate=_simulate_gamma,
)  # fmt: skip
INVERSE_GAUSSIAN = Family(
    "inverse_gaussian", "positive numbers", POSITIVE, {"log": codes.INVERSE_GAUSSIAN}, (), _inverse_gaussian,
    SHAPE_WITH_UNIT, as_predictor="log", fitted_by="glmm", glmm_name="inversegaussian",
    log_density=_log_inverse_gaussian, simulate=_simulate_inverse_gaussian,
)  # fmt: skip
LOGNORMAL = Family(
    "lognormal", "positive numbers", POSITIVE, {"log": codes.LOGNORMAL}, ("log_normal",), _lognormal, LOG_SCALE,
    as_predictor="log", log_density=_log_lognormal, simulate=_simulate_lognormal,
)  # fmt: skip

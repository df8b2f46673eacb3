"""Families of positive numbers, with mu = e^eta.

    gamma               y ~ Gamma(k, k / mu),    var y = mu^2 / k
    inverse_gaussian    y ~ IG(mu, k),           var y = mu^3 / k
    lognormal           log y ~ N(eta, sigma^2)

Models see y divided by its mean; the shape of the gamma family and sigma do not depend on the unit of y, the shape of the
inverse Gaussian does. mu is the mean of the first two, the median of a lognormal variable, whose mean is
mu e^(sigma^2 / 2).
"""

from __future__ import annotations

from typing import Any

from bayesimp.families.auxiliary import LOG_SCALE, SHAPE, SHAPE_WITH_UNIT, scale_node, shape_node
from bayesimp.families.record import POSITIVE, Family
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


GAMMA = Family(
    "gamma", "positive numbers", POSITIVE, {"log": codes.GAMMA}, (), _gamma, SHAPE,
    as_predictor="log", fitted_by="glmm", glmm_name="gamma",
)  # fmt: skip
INVERSE_GAUSSIAN = Family(
    "inverse_gaussian", "positive numbers", POSITIVE, {"log": codes.INVERSE_GAUSSIAN}, (), _inverse_gaussian,
    SHAPE_WITH_UNIT, as_predictor="log", fitted_by="glmm", glmm_name="inversegaussian",
)  # fmt: skip
LOGNORMAL = Family(
    "lognormal", "positive numbers", POSITIVE, {"log": codes.LOGNORMAL}, ("log_normal",), _lognormal, LOG_SCALE,
    as_predictor="log",
)  # fmt: skip

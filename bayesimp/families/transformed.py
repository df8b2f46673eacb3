"""The Yeo-Johnson family, for skewed numbers of either sign that are normal after transformation.

    yeo_johnson    psi(u) ~ N(eta, sigma^2),      u = (y - c) / s,     c and s the mean and sd of the observed y
                   psi(u) = sign(u) ((1 + |u|)^p - 1) / p,    p = lambda where u >= 0,  2 - lambda where u < 0
                   lambda / 2 ~ Beta(2, 2),     sigma ~ half-t(3, 1)

(Yeo & Johnson 2000). lambda = 1 is the normal family; below 1 the right tail is longer, above 1 the left tail. Since 0
< lambda < 2, psi takes all real values. Parameters are in the units of the data, those of T(y) = c + s psi(u), which is
y for lambda = 1. lambda does not depend on the origin or unit of y, because u does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.families.auxiliary import POWER, SCALE, power_node, scale_node
from bayesimp.families.record import REAL, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["YEO_JOHNSON"]


def _log_density(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    """log N(psi(y) | eta, sigma^2) + log psi'(y)."""
    import pytensor.tensor as pt

    sigma, power = given.scale, given.second
    side = pt.where(pt.ge(y, 0), 1.0, -1.0)
    p, logs = pt.where(pt.ge(y, 0), power, 2.0 - power), pt.log1p(abs(y))
    z = side * pt.expm1(p * logs) / p
    return -0.5 * ((z - eta[0]) / sigma) ** 2 - pt.log(sigma) - 0.5 * np.log(2 * np.pi) + (p - 1.0) * logs


def _yeo_johnson(data: Any, eta: Any) -> None:
    import pymc as pm

    def logp(y: Any, mean: Any, sigma: Any, power: Any) -> Any:
        return _log_density(y, [mean], GivenParameters(data.name, data.link, np.ones(1), 0, sigma, power))

    def draw(mean: Any, sigma: Any, power: Any, rng: np.random.Generator, size: Any = None) -> Any:
        return _untransformed(rng.normal(mean, sigma, size), power)

    pm.CustomDist(
        data.name, eta[:, 0], scale_node(), power_node(), logp=logp, random=draw, observed=data.y, dtype="float64"
    )  # fmt: skip


def _simulate(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    """Values on the scale on which u = y."""
    if not 0 < v.shape < 2:
        raise SpecificationError(
            f"'{v.name}': shape is lambda of yeo_johnson, between 0 and 2; got {v.shape}."
        )
    return _untransformed(eta[:, 0] + v.sd * rng.standard_normal(len(eta)), v.shape)


def _untransformed(z: Any, power: Any) -> Any:
    """psi^-1(z)."""
    p = np.where(z >= 0, power, 2.0 - power)
    return np.sign(z) * np.expm1(np.log1p(p * np.abs(z)) / p)


YEO_JOHNSON = Family(
    "yeo_johnson", "numbers, skewed", REAL, {"identity": codes.YEO_JOHNSON}, ("yeo-johnson", "yj"), _yeo_johnson, SCALE,
    further=(POWER,), log_density=_log_density, simulate=_simulate,
)  # fmt: skip

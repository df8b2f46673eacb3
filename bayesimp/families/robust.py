"""The Student-t family, for numbers with outliers.

    student    y ~ t_nu(eta, sigma),    sigma ~ half-t(3, sd of y),    nu - 2 ~ Gamma(2, 1/10)

nu is above 2, so that the variance sigma^2 nu / (nu - 2) is finite, as pooled analyses of the completed tables assume.
The prior mean of 22 degrees of freedom is close to the normal model; outliers lower nu. Like normal models, its models
use the response minus its mean, divided by its standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesimp.families.auxiliary import DEGREES_OF_FREEDOM, SCALE, df_node, scale_node
from bayesimp.families.record import REAL, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["STUDENT"]


def _student(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.StudentT(data.name, nu=df_node(), mu=eta[:, 0], sigma=scale_node(), observed=data.y)


def _log_density(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    import pytensor.tensor as pt

    sigma, nu = given.scale, given.second
    tail = 0.5 * (nu + 1)
    constant = pt.gammaln(tail) - pt.gammaln(0.5 * nu) - 0.5 * pt.log(np.pi * nu)
    return constant - pt.log(sigma) - tail * pt.log1p(((y - eta[0]) / sigma) ** 2 / nu)


def _simulate(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return eta[:, 0] + v.sd * rng.standard_t(v.shape, len(eta))


STUDENT = Family(
    "student", "numbers, some far out", REAL, {"identity": codes.STUDENT}, ("student_t", "t"), _student, SCALE,
    further=(DEGREES_OF_FREEDOM,), log_density=_log_density, simulate=_simulate,
)  # fmt: skip

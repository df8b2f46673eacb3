"""The normal family, and the family for columns that are not imputed.

    normal    y = eta + e,    e ~ N(0, sigma^2)

Its conditional models use cross products (`bayesimp.kernels.chained`), not rows, and its PyMC model integrates out the
cluster effects (`bayesimp.models.conditional_normal`), so there is no node for its response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesimp.families.record import NOTHING, REAL, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["NONE", "NORMAL", "log_normal", "simulate_normal"]


def log_normal(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    """log N(y | eta, sigma^2)."""
    import pytensor.tensor as pt

    sigma = given.scale
    return -0.5 * ((y - eta[0]) / sigma) ** 2 - pt.log(sigma) - 0.5 * np.log(2 * np.pi)


def simulate_normal(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    """Values given eta (n, 1), with standard deviation `v.sd`."""
    return eta[:, 0] + v.sd * rng.standard_normal(len(eta))


# leaves five degrees of freedom for the residual variance of a cluster
NORMAL = Family(
    "normal", "any number", REAL, {"identity": codes.NORMAL}, ("gaussian",),
    spare_rows=5, fitted_by="linear", glmm_name="gaussian", log_density=log_normal, simulate=simulate_normal,
)  # fmt: skip
NONE = Family("none", "not imputed", NOTHING, {})

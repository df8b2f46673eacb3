"""The beta family for proportions, with mu = 1 / (1 + e^-eta) and precision phi.

    beta    y ~ Beta(mu phi, (1 - mu) phi),    var y = mu (1 - mu) / (1 + phi),    1 / sqrt(phi) ~ half-t(3, 1)

It has no mass at 0 and 1, where its density is zero or infinite, so a column with these values is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from bayesimp.families.auxiliary import SHAPE, shape_node
from bayesimp.families.record import PROPORTION, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["BETA"]


def _beta(data: Any, eta: Any) -> None:
    import pymc as pm

    phi, one = shape_node(), eta[:, 0]
    pm.Beta(data.name, alpha=phi * pm.math.sigmoid(one), beta=phi * pm.math.sigmoid(-one), observed=data.y)


def _log_density(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    """log of Gamma(phi) / (Gamma(a) Gamma(b)) y^(a-1) (1 - y)^(b-1), a = mu phi, b = (1 - mu) phi."""
    import pytensor.tensor as pt

    phi, one = given.scale, eta[0]
    a, b = phi * pt.sigmoid(one), phi * pt.sigmoid(-one)
    return pt.gammaln(phi) - pt.gammaln(a) - pt.gammaln(b) + (a - 1) * pt.log(y) + (b - 1) * pt.log1p(-y)


def _simulate(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return rng.beta(v.shape * expit(eta[:, 0]), v.shape * expit(-eta[:, 0]))


BETA = Family(
    "beta", "numbers between 0 and 1", PROPORTION, {"logit": codes.BETA}, ("proportion",), _beta, SHAPE,
    log_density=_log_density, simulate=_simulate,
)  # fmt: skip

"""The beta family of proportions, with mu = 1 / (1 + e^-eta) and precision phi.

    beta    y ~ Beta(mu phi, (1 - mu) phi),    var y = mu (1 - mu) / (1 + phi),    1 / sqrt(phi) ~ half-t(3, 1)

It has no mass at 0 and 1, where its density is zero or infinite: a column with such values is refused.
"""

from __future__ import annotations

from typing import Any

from bayesimp.families.auxiliary import SHAPE, shape_node
from bayesimp.families.record import PROPORTION, Family
from bayesimp.kernels.families import codes

__all__ = ["BETA"]


def _beta(data: Any, eta: Any) -> None:
    import pymc as pm

    phi, one = shape_node(), eta[:, 0]
    pm.Beta(data.name, alpha=phi * pm.math.sigmoid(one), beta=phi * pm.math.sigmoid(-one), observed=data.y)


BETA = Family(
    "beta", "numbers between 0 and 1", PROPORTION, {"logit": codes.BETA}, ("proportion",), _beta, SHAPE
)

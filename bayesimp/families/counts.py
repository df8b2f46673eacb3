"""Families of counts, with mu = e^eta.

poisson              y ~ Poisson(mu)
negative_binomial    y ~ NB(mu, k),      var y = mu + mu^2 / k
"""

from __future__ import annotations

from typing import Any

from bayesimp.families.auxiliary import SHAPE, shape_node
from bayesimp.families.record import COUNTS, Family
from bayesimp.kernels.families import codes

__all__ = ["NEGATIVE_BINOMIAL", "POISSON"]


def _poisson(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.Poisson(data.name, mu=pm.math.exp(eta[:, 0]), observed=data.y)


def _negative_binomial(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.NegativeBinomial(data.name, mu=pm.math.exp(eta[:, 0]), alpha=shape_node(), observed=data.y)


POISSON = Family(
    "poisson", "0, 1, 2, ...", COUNTS, {"log": codes.POISSON}, ("count",), _poisson,
    as_predictor="log1p", fitted_by="laplace", glmm_name="poisson",
)  # fmt: skip
NEGATIVE_BINOMIAL = Family(
    "negative_binomial", "0, 1, 2, ..., overdispersed", COUNTS, {"log": codes.NEGATIVE_BINOMIAL},
    ("negbinomial", "nb"), _negative_binomial, SHAPE,
    as_predictor="log1p", fitted_by="glmm", glmm_name="negativebinomial",
)  # fmt: skip

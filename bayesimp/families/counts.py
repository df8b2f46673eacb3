"""Families for counts, with mu = e^eta.

poisson              y ~ Poisson(mu)
negative_binomial    y ~ NB(mu, k),      var y = mu + mu^2 / k
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesimp.families.auxiliary import SHAPE, shape_node
from bayesimp.families.record import COUNTS, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = [
    "NEGATIVE_BINOMIAL", "POISSON", "log_negative_binomial", "log_poisson", "simulate_negative_binomial",
    "simulate_poisson",
]  # fmt: skip


def _poisson(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.Poisson(data.name, mu=pm.math.exp(eta[:, 0]), observed=data.y)


def _negative_binomial(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.NegativeBinomial(data.name, mu=pm.math.exp(eta[:, 0]), alpha=shape_node(), observed=data.y)


def log_poisson(y: Any, eta: Any) -> Any:
    """y eta - e^eta - log y! as a PyTensor node."""
    import pytensor.tensor as pt

    return y * eta - pt.exp(eta) - pt.gammaln(y + 1)


def log_negative_binomial(y: Any, eta: Any, k: Any) -> Any:
    """log of Gamma(y + k) / (Gamma(k) y!) (k / (k + mu))^k (mu / (k + mu))^y as a PyTensor node."""
    import pytensor.tensor as pt

    total = pt.logaddexp(pt.log(k), eta)
    ways = pt.gammaln(y + k) - pt.gammaln(k) - pt.gammaln(y + 1)
    return ways + k * (pt.log(k) - total) + y * (eta - total)


def _log_poisson(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    return log_poisson(y, eta[0])


def _log_negative_binomial(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    return log_negative_binomial(y, eta[0], given.scale)


def simulate_poisson(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    """Counts given eta (n, 1)."""
    return rng.poisson(np.exp(eta[:, 0]))


def simulate_negative_binomial(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    """Counts given eta (n, 1), with shape `v.shape`."""
    return rng.poisson(np.exp(eta[:, 0]) * rng.gamma(v.shape, 1 / v.shape, len(eta)))


POISSON = Family(
    "poisson", "0, 1, 2, ...", COUNTS, {"log": codes.POISSON}, ("count",), _poisson,
    as_predictor="log1p", fitted_by="laplace", glmm_name="poisson",
    log_density=_log_poisson, simulate=simulate_poisson,
)  # fmt: skip
NEGATIVE_BINOMIAL = Family(
    "negative_binomial", "0, 1, 2, ..., overdispersed", COUNTS, {"log": codes.NEGATIVE_BINOMIAL},
    ("negbinomial", "nb"), _negative_binomial, SHAPE,
    as_predictor="log1p", fitted_by="glmm", glmm_name="negativebinomial",
    log_density=_log_negative_binomial, simulate=simulate_negative_binomial,
)  # fmt: skip

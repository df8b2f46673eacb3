"""Families for counts with excess zeros, with mu = e^eta (Lambert 1992).

zero_inflated_poisson              y = 0 with probability zi,   else y ~ Poisson(mu)
zero_inflated_negative_binomial    y = 0 with probability zi,   else y ~ NB(mu, k),    var y = mu + mu^2 / k

zi ~ Beta(1, 1) is the same for all rows: a structural zero depends on no predictor and no cluster. If it should, split
the variable into whether it is 0 and the count if it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bayesimp.families.auxiliary import SHAPE, ZERO_INFLATION, shape_node, zi_node
from bayesimp.families.counts import (
    NEGATIVE_BINOMIAL,
    POISSON,
    log_negative_binomial,
    log_poisson,
    simulate_negative_binomial,
    simulate_poisson,
)
from bayesimp.families.record import GivenParameters, Simulator
from bayesimp.kernels.families import codes

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ZERO_INFLATED_NEGATIVE_BINOMIAL", "ZERO_INFLATED_POISSON"]


def _poisson(data: Any, eta: Any) -> None:
    import pymc as pm

    # PyMC's psi is the probability of a count, not of a structural zero
    pm.ZeroInflatedPoisson(data.name, psi=1 - zi_node(), mu=pm.math.exp(eta[:, 0]), observed=data.y)


def _negative_binomial(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.ZeroInflatedNegativeBinomial(
        data.name, psi=1 - zi_node(), mu=pm.math.exp(eta[:, 0]), alpha=shape_node(), observed=data.y
    )


def _log_zero_inflated(y: Any, count: Any, zi: Any) -> Any:
    """log p(y) from log((1 - zi) p(y)) of the count, as a PyTensor node."""
    import pytensor.tensor as pt

    return pt.switch(pt.eq(y, 0), pt.logaddexp(pt.log(zi), count), count)


def _log_poisson(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    import pytensor.tensor as pt

    zi = given.scale
    return _log_zero_inflated(y, pt.log1p(-zi) + log_poisson(y, eta[0]), zi)


def _log_negative_binomial(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    import pytensor.tensor as pt

    k, zi = given.scale, given.second
    return _log_zero_inflated(y, pt.log1p(-zi) + log_negative_binomial(y, eta[0], k), zi)


def _simulate(count: Simulator, v: Any, eta: Any, rng: np.random.Generator) -> Any:
    """Counts of which a share `v.zeros` are structural zeros."""
    return count(v, eta, rng) * (rng.random(len(eta)) >= v.zeros)


ZERO_INFLATED_POISSON = replace(
    POISSON, name="zero_inflated_poisson", words="0, 1, 2, ..., many of them 0",
    links={"log": codes.ZERO_INFLATED_POISSON}, aliases=("zip",), response=_poisson, auxiliary=ZERO_INFLATION,
    fitted_by="", glmm_name="", log_density=_log_poisson,
    simulate=partial(_simulate, simulate_poisson),
)  # fmt: skip
ZERO_INFLATED_NEGATIVE_BINOMIAL = replace(
    NEGATIVE_BINOMIAL, name="zero_inflated_negative_binomial", words="0, 1, 2, ..., overdispersed, many of them 0",
    links={"log": codes.ZERO_INFLATED_NEGATIVE_BINOMIAL}, aliases=("zinb",), response=_negative_binomial, auxiliary=SHAPE,
    further=(ZERO_INFLATION,), fitted_by="", glmm_name="", log_density=_log_negative_binomial,
    simulate=partial(_simulate, simulate_negative_binomial),
)  # fmt: skip

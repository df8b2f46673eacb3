"""Families for counts with a separate process for zeros, with mu = e^eta (Mullahy 1986).

hurdle_poisson              y = 0 with probability hu,   else y ~ Poisson(mu) given y > 0
hurdle_negative_binomial    y = 0 with probability hu,   else y ~ NB(mu, k) given y > 0,    var NB = mu + mu^2 / k

hu ~ Beta(1, 1) is the same for all rows: whether a count is zero depends on no predictor and no cluster. If it should,
split the variable into whether it is 0 and the count if it is not. Unlike in the zero-inflated families, zeros may also
be rarer than in the count model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bayesimp.families.auxiliary import HURDLE, SHAPE, hu_node, shape_node
from bayesimp.families.counts import NEGATIVE_BINOMIAL, POISSON, log_negative_binomial, log_poisson
from bayesimp.families.record import GivenParameters
from bayesimp.kernels.families import codes

if TYPE_CHECKING:
    import numpy as np

__all__ = ["HURDLE_NEGATIVE_BINOMIAL", "HURDLE_POISSON", "log_above_zero", "log_hurdle"]


def log_above_zero(eta: Any, k: Any = None) -> Any:
    """log(1 - p_0), with p_0 = e^-mu or (1 + mu / k)^-k, as a PyTensor node."""
    import pytensor.tensor as pt

    return pt.log1mexp(-pt.exp(eta) if k is None else k * (pt.log(k) - pt.logaddexp(pt.log(k), eta)))


def log_hurdle(y: Any, count: Any, above: Any, hu: Any) -> Any:
    """log p(y) from that of the count model and `log_above_zero`, as a PyTensor node."""
    import pytensor.tensor as pt

    return pt.switch(pt.eq(y, 0), pt.log(hu), pt.log1p(-hu) + count - above)


def _poisson(data: Any, eta: Any) -> None:
    import pymc as pm

    def log_p(y: Any, hu: Any, eta: Any) -> Any:
        return log_hurdle(y, pm.logp(pm.Poisson.dist(pm.math.exp(eta)), y), log_above_zero(eta), hu)

    def draw(hu: Any, eta: Any, rng: np.random.Generator, size: Any = None) -> Any:
        return _random(rng, size, hu, eta)

    pm.CustomDist(data.name, hu_node(), eta[:, 0], logp=log_p, random=draw, observed=data.y, dtype="float64")


def _negative_binomial(data: Any, eta: Any) -> None:
    import pymc as pm

    def log_p(y: Any, hu: Any, eta: Any, k: Any) -> Any:
        count = pm.logp(pm.NegativeBinomial.dist(mu=pm.math.exp(eta), alpha=k), y)
        return log_hurdle(y, count, log_above_zero(eta, k), hu)

    def draw(hu: Any, eta: Any, k: Any, rng: np.random.Generator, size: Any = None) -> Any:
        return _random(rng, size, hu, eta, k)

    pm.CustomDist(
        data.name, hu_node(), eta[:, 0], shape_node(), logp=log_p, random=draw, observed=data.y, dtype="float64"
    )  # fmt: skip


def _random(rng: np.random.Generator, size: Any, hu: Any, eta: Any, k: Any = None) -> Any:
    """Draws for simulated tables and PyMC's predictive draws; kernels have their own."""
    import numpy as np
    from scipy import stats

    mu = np.exp(eta)
    law = stats.poisson(mu) if k is None else stats.nbinom(k, k / (k + mu))
    above = law.isf(rng.random(size) * law.sf(0))
    return np.where(rng.random(size) < hu, 0.0, np.maximum(above, 1.0))


def _log_poisson(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    return log_hurdle(y, log_poisson(y, eta[0]), log_above_zero(eta[0]), given.scale)


def _log_negative_binomial(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    k = given.scale
    return log_hurdle(y, log_negative_binomial(y, eta[0], k), log_above_zero(eta[0], k), given.second)


def _simulate_poisson(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return _random(rng, len(eta), v.zeros, eta[:, 0])


def _simulate_negative_binomial(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return _random(rng, len(eta), v.zeros, eta[:, 0], v.shape)


HURDLE_POISSON = replace(
    POISSON, name="hurdle_poisson", words="0, 1, 2, ..., zeros apart", links={"log": codes.HURDLE_POISSON}, aliases=(),
    response=_poisson, auxiliary=HURDLE, fitted_by="", glmm_name="", log_density=_log_poisson, simulate=_simulate_poisson,
)  # fmt: skip
HURDLE_NEGATIVE_BINOMIAL = replace(
    NEGATIVE_BINOMIAL, name="hurdle_negative_binomial", words="0, 1, 2, ..., overdispersed, zeros apart",
    links={"log": codes.HURDLE_NEGATIVE_BINOMIAL}, aliases=(), response=_negative_binomial, auxiliary=SHAPE,
    further=(HURDLE,), fitted_by="", glmm_name="", log_density=_log_negative_binomial,
    simulate=_simulate_negative_binomial,
)  # fmt: skip

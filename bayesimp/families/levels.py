"""Families with more than two levels, y = 0..K-1.

ordinal        P(y <= l) = logistic(c_l - eta),    c_0 = 0,    c_l = c_(l-1) + increment_l
categorical    P(y = l) ~ e^eta_l,                 eta_0 = 0,  eta_1..eta_(K-1) with separate effects
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from bayesimp.families.auxiliary import CUTPOINTS
from bayesimp.families.record import LEVELS, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["CATEGORICAL", "ORDINAL", "log_cumulative"]


def _ordinal(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.Categorical(data.name, logit_p=log_cumulative(eta[:, 0], data.levels), observed=data.y)


def _categorical(data: Any, eta: Any) -> None:
    import pymc as pm
    import pytensor.tensor as pt

    logit_p = pt.concatenate([pt.zeros_like(eta[:, :1]), eta], axis=1)
    pm.Categorical(data.name, logit_p=logit_p, observed=data.y)


def log_cumulative(eta: Any, levels: int, response: str = "") -> Any:
    """log P(y = l) = log P(y <= l) + log P(y > l - 1) + log(1 - e^-increment_l), (n, K).

    This writes the difference of two logistic functions as a product: computed as a difference (pm.OrderedLogistic) it
    is 0 in float64 if |eta| > 37. response: suffix of the names of its variables in a model of several responses.
    """
    import pymc as pm
    import pytensor.tensor as pt

    end = f"_{response}" if response else ""
    increments = pm.Exponential(f"{CUTPOINTS.sampled}{end}", 1, shape=levels - 2)
    cutpoints = pm.Deterministic(f"{CUTPOINTS.name}{end}", pt.concatenate([[0.0], pt.cumsum(increments)]))
    distance = cutpoints - eta[:, None]
    at_most, above = -pt.softplus(-distance), -pt.softplus(distance)
    between = at_most[:, 1:] + above[:, :-1] + pt.log1mexp(-increments)
    return pt.concatenate([at_most[:, :1], between, above[:, -1:]], axis=1)


def _log_ordinal(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    return log_cumulative(eta[0], given.levels, given.name)[np.arange(len(y)), y.astype(int)]


def _log_categorical(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    import pytensor.tensor as pt

    log_p = pt.stack([pt.zeros_like(eta[0]), *eta], axis=1)
    return log_p[np.arange(len(y)), y.astype(int)] - pt.logsumexp(log_p, axis=1)


def _simulate_ordinal(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    cutpoints = np.concatenate([[0.0], np.cumsum(v.increments)])
    return (rng.random(len(eta))[:, None] > expit(cutpoints - eta[:, :1])).sum(axis=1)


def _simulate_categorical(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    """The level l with the largest eta_l + Gumbel noise."""
    gumbel = rng.gumbel(size=(len(eta), eta.shape[1] + 1))
    return (np.column_stack([np.zeros(len(eta)), eta]) + gumbel).argmax(axis=1)


ORDINAL = Family(
    "ordinal", "ordered category or whole numbers", LEVELS, {"logit": codes.ORDINAL}, (), _ordinal, CUTPOINTS,
    least_levels=3, is_ordered=True, fitted_by="cumulative", log_density=_log_ordinal, simulate=_simulate_ordinal,
)  # fmt: skip
CATEGORICAL = Family(
    "categorical", "any values, unordered", LEVELS, {"logit": codes.CATEGORICAL}, ("nominal",), _categorical,
    least_levels=2, predictor_per_level=True, log_density=_log_categorical, simulate=_simulate_categorical,
)  # fmt: skip

"""Families for successes out of trials.

bernoulli    P(y = 1) = h(eta)                 h logistic, or Phi (link probit)
binomial     y ~ Binomial(trials, h(eta))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, ndtr

from bayesimp.families.record import BINARY, SUCCESSES, Family, GivenParameters
from bayesimp.kernels.families import codes

__all__ = ["BERNOULLI", "BINOMIAL", "logit_of_mean"]

ROOT_2 = np.sqrt(2.0)


def _bernoulli(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.Bernoulli(data.name, logit_p=logit_of_mean(eta[:, 0], data.link), observed=data.y)


def _binomial(data: Any, eta: Any) -> None:
    import pymc as pm

    pm.Binomial(data.name, n=data.trials, logit_p=logit_of_mean(eta[:, 0], data.link), observed=data.y)


def logit_of_mean(eta: Any, link: str) -> Any:
    """logit h(eta), with logit Phi(eta) exact in both tails."""
    return eta if link == "logit" else _log_normal_cdf(eta) - _log_normal_cdf(-eta)


def _log_normal_cdf(x: Any) -> Any:
    import pytensor.tensor as pt

    # each branch sees only arguments in its range: otherwise the gradient of the other one would be 0 * inf
    low, high = pt.minimum(x, 0.0), pt.maximum(x, 0.0)
    return pt.switch(
        x < 0, pt.log(0.5 * pt.erfcx(-low / ROOT_2)) - 0.5 * low**2, pt.log1p(-0.5 * pt.erfc(high / ROOT_2))
    )


def _log_density(y: Any, eta: Sequence[Any], given: GivenParameters) -> Any:
    """y logit h - n log(1 + e^(logit h)) + log (n over y); the last term is 0 if all n = 1."""
    import pytensor.tensor as pt

    logit, trials = logit_of_mean(eta[0], given.link), given.trials
    ways = pt.gammaln(trials + 1) - pt.gammaln(y + 1) - pt.gammaln(trials - y + 1)
    return y * logit - trials * pt.softplus(logit) + (ways if (trials != 1).any() else 0.0)


def _simulate(v: Any, eta: Any, rng: np.random.Generator) -> Any:
    return rng.binomial(v.trials, ndtr(eta[:, 0]) if v.link == "probit" else expit(eta[:, 0]))


LINKS = {"logit": codes.LOGIT, "probit": codes.PROBIT}
# with as many coefficients as rows 0 and 1 are separated (counts are not), so a cluster needs one more row
BERNOULLI = Family(
    "bernoulli", "two values", BINARY, LINKS, ("binary", "logistic"), _bernoulli,
    most_levels=2, takes_trials=True, spare_rows=1, fitted_by="laplace", glmm_name="binomial",
    log_density=_log_density, simulate=_simulate,
)  # fmt: skip
BINOMIAL = Family(
    "binomial", "successes; binomial(n): out of the column n", SUCCESSES, LINKS, (), _binomial,
    takes_trials=True, column_of_trials=True, fitted_by="laplace", glmm_name="binomial",
    log_density=_log_density, simulate=_simulate,
)  # fmt: skip

"""A pattern-mixture model of one variable missing not at random (Little 1993): missing values differ by delta.

    y_ij | observed  ~  N(mu + x_ij' beta + b_i,          sigma^2),    b_i ~ N(0, tau^2)
    y_ij | missing   ~  N(mu + x_ij' beta + b_i + delta,  sigma^2)

    delta ~ N(d, s_d^2), or delta = d if s_d = 0
    mu ~ N(c, (10 s)^2),    beta_k ~ N(0, (10 s / sd(x_k))^2),    tau, sigma ~ half-normal(2 s)
    c, s: mean and sd of observed y

The data say nothing about delta: its posterior is its prior, and a sensitivity analysis varies (d, s_d). Missing values
are y = mu + x' beta + b + delta + sigma z with z ~ N(0, 1). They carry no information, so the posterior of (theta, z)
does not depend on delta.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike

from bayesimp.errors import DataError

__all__ = ["pattern_mixture"]


def pattern_mixture(
    y: ArrayLike,
    cluster: ArrayLike,
    x: ArrayLike | None = None,
    *,
    delta: float = 0.0,
    delta_sd: float = 0.0,
) -> pm.Model:
    """The model above, for ``bi.FromPyMC(model, data, columns={"column": "y"})``.

    Parameters
    ----------
    y
        (n,) with NaN for missing values.
    cluster
        (n,) codes 0..m-1, as in ``data.codes``.
    x
        (n, p) complete covariates, without the constant.
    delta, delta_sd
        d and s_d, in the units of y.

    Raises
    ------
    DataError
        If y has fewer than two different values, or none missing.
    """
    y, cluster = np.asarray(y, dtype=float), np.asarray(cluster)
    x = np.zeros((len(y), 0)) if x is None else np.asarray(x, dtype=float)
    missing = np.isnan(y)
    if not missing.any() or len(np.unique(y[~missing])) < 2:
        raise DataError("y needs missing values, and at least two different observed ones.")
    c, s = np.nanmean(y), np.nanstd(y)

    with pm.Model() as model:
        mu = pm.Normal("mu", c, 10 * s)
        beta = pm.Normal("beta", 0, 10 * s / x.std(0), shape=x.shape[1])
        tau = pm.HalfNormal("tau", 2 * s)
        sigma = pm.HalfNormal("sigma", 2 * s)
        u = pm.Normal("u", 0, 1, shape=int(cluster.max()) + 1)  # b_i = tau u_i
        eta = mu + pt.dot(x, beta) + tau * u[cluster]
        pm.Normal("y_observed", eta[~missing], sigma, observed=y[~missing])
        difference = pm.Normal("delta", delta, delta_sd) if delta_sd else delta
        z = pm.Normal("z", 0, 1, shape=int(missing.sum()))
        imputed = eta[missing] + difference + sigma * z
        pm.Deterministic("y", pt.set_subtensor(pt.as_tensor(y)[missing], imputed))
    return model

"""One quantity on two scales: studies measured a or b, and some rows have both (linear calibration).

    a_ij = mu + u_i + e_ij,               u_i ~ N(0, tau^2),    e_ij ~ N(0, sigma^2)
    b_ij = alpha + lambda (a_ij - c_a) + d_ij,    d_ij ~ N(0, omega^2)

    mu ~ N(c_a, (10 s_a)^2),    tau, sigma ~ half-normal(2 s_a)
    alpha ~ N(c_b, (10 s_b)^2),    lambda ~ N(0, (10 s_b / s_a)^2),    omega ~ half-normal(s_b)
    c, s: mean and sd of observed values

alpha, lambda and omega are the same in all studies, and estimated from rows with both. If only a is missing, it is drawn
given b; if only b, given a; if both, from the distribution in their study.
"""

from __future__ import annotations

import warnings

import numpy as np
import pymc as pm
from numpy.typing import ArrayLike
from pymc.exceptions import ImputationWarning

from bayesimp.errors import DataError

__all__ = ["two_scales"]

LEAST = 3  # rows with both scales, since a line has two parameters and its residual one more


def two_scales(a: ArrayLike, b: ArrayLike, cluster: ArrayLike) -> pm.Model:
    """The model above, for ``bi.FromPyMC(model, data, columns={"column": "a", "other column": "b"})``.

    Parameters
    ----------
    a, b
        (n,) with NaN for values not measured.
    cluster
        (n,) codes 0..m-1 of the studies, as in ``data.codes``.

    Raises
    ------
    DataError
        If fewer than three rows have both.
    """
    a, b, cluster = np.asarray(a, dtype=float), np.asarray(b, dtype=float), np.asarray(cluster)
    both = int((~np.isnan(a) & ~np.isnan(b)).sum())
    if both < LEAST:
        raise DataError(
            f"{both} rows have both scales; at least {LEAST} are needed to learn how they are related."
        )
    c_a, s_a, c_b, s_b = np.nanmean(a), np.nanstd(a), np.nanmean(b), np.nanstd(b)

    with pm.Model() as model, warnings.catch_warnings():
        warnings.simplefilter("ignore", ImputationWarning)  # rows with one scale are what the model is for
        mu = pm.Normal("mu", c_a, 10 * s_a)
        tau = pm.HalfNormal("tau", 2 * s_a)
        sigma = pm.HalfNormal("sigma", 2 * s_a)
        u = pm.Normal("u", 0, 1, shape=int(cluster.max()) + 1)  # u_i = tau u
        a_all = pm.Normal("a", mu + tau * u[cluster], sigma, observed=np.ma.masked_invalid(a))
        alpha = pm.Normal("alpha", c_b, 10 * s_b)  # mean of b at a = c_a
        slope = pm.Normal("lambda", 0, 10 * s_b / s_a)
        omega = pm.HalfNormal("omega", s_b)
        pm.Normal("b", alpha + slope * (a_all - c_a), omega, observed=np.ma.masked_invalid(b))
    return model

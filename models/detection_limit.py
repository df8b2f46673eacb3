"""A biomarker below a limit of detection: missing cells with a known upper bound.

    y_ij = mu + x_ij' beta + b_i + e_ij,    b_i ~ N(0, tau^2),    e_ij ~ N(0, sigma^2)
    y_ij < L_ij  if y_ij is missing

    mu ~ N(c, (10 s)^2),    beta_k ~ N(0, (10 s / sd(x_k))^2),    tau, sigma ~ half-normal(s)
    c, s: mean and sd of observed y

A missing cell is a free variable with the density of y, restricted to (-inf, L) and not normalised: its integral, the
probability of a value below L, is what the cell says about the parameters. (`pm.Truncated` would divide by it.)
y is usually the logarithm of a concentration, and L that of the limit.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import ArrayLike
from pymc.distributions.transforms import Interval

from bayesimp.errors import DataError

__all__ = ["detection_limit"]


def detection_limit(
    y: ArrayLike, limit: ArrayLike, cluster: ArrayLike, x: ArrayLike | None = None
) -> pm.Model:
    """The model above, for ``bi.FromPyMC(model, data, columns={"column": "y"})``.

    Parameters
    ----------
    y
        (n,) with NaN for values below the limit.
    limit
        (n,) or one number for all.
    cluster
        (n,) codes 0..m-1, as in ``data.codes``.
    x
        (n, p) complete covariates, without the constant.

    Raises
    ------
    DataError
        If a missing value has no finite limit, an observed value is below its limit, or fewer than two values differ.
    """
    y, cluster = np.asarray(y, dtype=float), np.asarray(cluster)
    L = np.broadcast_to(np.asarray(limit, dtype=float), y.shape)
    x = np.zeros((len(y), 0)) if x is None else np.asarray(x, dtype=float)
    missing = np.isnan(y)
    _check(y, L, missing)
    c, s = np.nanmean(y), np.nanstd(y)

    with pm.Model() as model:
        mu = pm.Normal("mu", c, 10 * s)
        beta = pm.Normal("beta", 0, 10 * s / x.std(0), shape=x.shape[1])
        tau = pm.HalfNormal("tau", s)
        sigma = pm.HalfNormal("sigma", s)
        u = pm.Normal("u", 0, 1, shape=int(cluster.max()) + 1)  # b_i = tau u_i
        eta = mu + pt.dot(x, beta) + tau * u[cluster]
        pm.Normal("y_observed", eta[~missing], sigma, observed=y[~missing])
        if missing.any():
            upper = L[missing]
            below = pm.Normal(
                "y_below", eta[missing], sigma, shape=len(upper), initval=upper - s,
                default_transform=Interval(bounds_fn=lambda *args: (None, upper)),
            )  # fmt: skip
            pm.Deterministic("y", pt.set_subtensor(pt.as_tensor(y)[missing], below))
    return model


def _check(y: np.ndarray, L: np.ndarray, missing: np.ndarray) -> None:
    if not np.isfinite(L[missing]).all():
        raise DataError(f"{int((~np.isfinite(L[missing])).sum())} missing values have no finite limit.")
    if (y[~missing] < L[~missing]).any():
        count = int((y[~missing] < L[~missing]).sum())
        raise DataError(f"{count} observed values are below their limit; make them missing.")
    if len(np.unique(y[~missing])) < 2:
        raise DataError("Fewer than two different values are above the limit, so nothing says how y varies.")

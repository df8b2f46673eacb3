"""A variable of clusters (constant within each), imputed from a table of one row per cluster.

    normal      y_i ~ N(x_i' beta, sigma^2),   sigma ~ half-t(3, scale)
    others      y_i ~ family(x_i' beta), as in glm.py;   d ~ Gamma(2, 1/2) of an ordinal variable

    beta_1 ~ N(location, (TERM_SD scale)^2),    other beta_k ~ N(0, (SLOPE_SD scale)^2)

(location 0, scale 1 but for the normal.) Clusters are few, perhaps fewer than predictors, so posteriors are proper by
these priors and sampled exactly, not by a normal approximation: the normal by Gibbs with sigma^2 | a ~ IG(3/2, 3/a),
a ~ IG(1/2, 1/scale^2) (Wand et al. 2011), the others by independence Metropolis. The chain goes on from visit to visit.
Predictive mean matching (mice's 2lonly.pmm): the normal model, donors matched as in single_level.py, observed clusters
at the mean of beta given sigma^2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, ndtr

from bayesimp.kernels.families import LARGEST_LOG_MEAN, LOGIT, POISSON, PROBIT
from bayesimp.kernels.glm import CATEGORICAL, NORMAL, ORDINAL
from bayesimp.kernels.glmm_rows import GlmmRows
from bayesimp.kernels.single_level import match
from bayesimp.kernels.stratified import (
    NO_MODE,
    SLOPE_SD,
    TERM_SD,
    RegressionState,
    initial_regression_state,
    regression,
)
from bayesimp.kernels.stratified import WORDS as REGRESSION_WORDS

__all__ = ["WORDS", "ClusterLevel", "ClusterLevelState", "cluster_level_step", "draw_values",
           "initial_cluster_level_state"]  # fmt: skip

STEPS = 20  # of Gibbs or Metropolis a visit
T_DF = 3.0  # of the half-t prior of sigma
NO_VALUES, TOO_LARGE = 32, 64
WORDS = REGRESSION_WORDS | {
    NO_VALUES: "no cluster has a value of the variable; nothing drawn",
    TOO_LARGE: "a count's mean is out of range (log mean above 34); its value is nan",
}


class ClusterLevelState(NamedTuple):
    """What one visit leaves to the next, updated in place: regression, sigma2 (1,) nan at first."""

    regression: RegressionState
    sigma2: np.ndarray


class ClusterLevel(NamedTuple):
    """values of the clusters without one, in order; beta (p, r), sigma2, aux as in `Regression`.

    accepted: share of Metropolis steps, nan of the normal. code: sum of keys of WORDS.
    """

    values: np.ndarray
    beta: np.ndarray
    sigma2: float
    aux: np.ndarray
    accepted: float
    code: int


def initial_cluster_level_state(family: int, p: int, levels: int = 2) -> ClusterLevelState:
    """Of a first visit."""
    return ClusterLevelState(initial_regression_state(family, p, levels), np.full(1, np.nan))


def cluster_level_step(
    rng, family, X, y, observed, state, levels=2, location=0.0, scale=1.0, donors=0, steps=STEPS
) -> ClusterLevel:
    """One visit.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    family
        NORMAL, LOGIT, PROBIT, POISSON, ORDINAL or CATEGORICAL (y 0..levels-1).
    X, y, observed
        (m, p) the intercept first, others with sd 1; (m,); (m,) bool.
    state
        `initial_cluster_level_state`, updated in place.
    location, scale
        Of y, for the priors of the normal family: its mean and sd, say.
    donors
        Predictive mean matching from so many, for the normal family; 0: a normal draw.
    """
    if not observed.any():
        nan = np.full((~observed).sum(), np.nan)
        return ClusterLevel(nan, np.empty((0, 0)), np.nan, np.empty(0), np.nan, NO_VALUES)
    X_mis, X_obs, y_obs = (
        X[~observed],
        np.ascontiguousarray(X[observed], dtype=float),
        y[observed].astype(float),
    )
    if family == NORMAL:
        sd = scale * np.where(np.arange(X.shape[1]) == 0, TERM_SD, SLOPE_SD)
        mean = np.where(np.arange(X.shape[1]) == 0, location, 0.0)
        beta, estimated, sigma2 = _gibbs(rng, X_obs, y_obs, mean, sd, scale, steps, state.sigma2)
        if donors:
            values = np.empty(len(X_mis))
            match(rng, X_obs @ estimated, y_obs, X_mis @ beta, donors, values)
        else:
            values = X_mis @ beta + np.sqrt(sigma2) * rng.standard_normal(len(X_mis))
        return ClusterLevel(values, beta[:, None], sigma2, np.empty(0), np.nan, 0)
    n, r = len(y_obs), levels - 1 if family == CATEGORICAL else 1
    rows = GlmmRows(
        family, y_obs, np.ones(n), np.ones(n), np.zeros(n), X_obs, np.empty((n, 0)), np.array([0, n])
    )
    draw = regression(rng, rows, levels, np.zeros(r), SLOPE_SD, TERM_SD, steps, state.regression)
    values = np.full(len(X_mis), np.nan)
    if draw.code < NO_MODE:
        values = draw_values(rng, family, X_mis @ draw.beta, draw.aux)
    code = draw.code | TOO_LARGE * bool(draw.code < NO_MODE and np.isnan(values).any())
    return ClusterLevel(values, draw.beta, 1.0, draw.aux, draw.accepted / steps, code)


def _gibbs(rng, X, y, mean, sd, scale, steps, state):
    """beta, its mean given sigma^2, sigma^2; state (1,) <- sigma^2."""
    XX, right, n = X.T @ X, X.T @ (y - X @ mean), len(y)
    sigma2 = state[0] if np.isfinite(state[0]) else scale**2
    for _ in range(steps):
        L = np.linalg.cholesky(XX / sigma2 + np.diag(sd**-2.0))
        half = np.linalg.solve(L, right / sigma2)
        estimated, beta = (
            mean + np.linalg.solve(L.T, h) for h in (half, half + rng.standard_normal(len(mean)))
        )
        a = (T_DF / sigma2 + scale**-2.0) / rng.standard_gamma(0.5 * (T_DF + 1.0))
        rss = ((y - X @ beta) ** 2).sum()
        sigma2 = (T_DF / a + 0.5 * rss) / rng.standard_gamma(0.5 * (T_DF + n))
    state[0] = sigma2
    return beta, estimated, sigma2


def draw_values(rng, family, eta, aux):
    """(M,) values of a discrete family at predictors eta (M, r); aux (K - 2,): increments of cutpoints."""
    M, u = len(eta), rng.random(len(eta))
    if family == LOGIT:
        return (u < expit(eta[:, 0])).astype(float)
    if family == PROBIT:
        return (u < ndtr(eta[:, 0])).astype(float)
    if family == POISSON:
        fine = eta[:, 0] < LARGEST_LOG_MEAN
        values = np.full(M, np.nan)
        values[fine] = rng.poisson(np.exp(eta[fine, 0]))
        return values
    if family == ORDINAL:
        cuts = np.concatenate([[0.0], np.cumsum(aux)])
        return (u[:, None] < expit(eta - cuts)).sum(axis=1).astype(float)
    assert family == CATEGORICAL
    highest = np.maximum(eta.max(axis=1, keepdims=True), 0.0)
    weight = np.exp(np.column_stack([np.zeros(M), eta]) - highest)
    return (
        (u[:, None] * weight.sum(axis=1, keepdims=True) > np.cumsum(weight, axis=1)[:, :-1])
        .sum(axis=1)
        .astype(float)
    )

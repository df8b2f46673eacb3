"""Imputation of a cluster-level variable (constant within clusters) from a table with one row per cluster.

    normal                    y_i ~ N(x_i' beta, sigma^2),   sigma ~ half-t(3, scale)
    with a log link           y_i ~ family(exp(x_i' beta), shape),   shape^-1/2 ~ half-t(3, 1)
    Student-t                 y_i ~ t_nu(x_i' beta, sigma),   as in kernels/families/mixtures.py
    others                    y_i ~ family(x_i' beta), as in density.py;  d ~ Gamma(2, 1/2) if ordinal

    beta_1 ~ N(location, (TERM_SD scale)^2)
    other beta_k ~ N(0, (SLOPE_SD scale)^2),   with a log link N(0, scale^2 / (p - 1))

(Location 0 and scale 1, except for identity and log links.) Clusters are few, perhaps fewer than predictors. These priors
make the posteriors proper, and they are sampled exactly, not by a normal approximation: the normal by Gibbs with
sigma^2 | a ~ IG(3/2, 3/a), a ~ IG(1/2, 1/scale^2) (Wand et al. 2011), the others by independence Metropolis, with shapes
by the moves of kernels/glmm/gibbs.py without cluster effects. The chain continues from visit to visit.

If there are hardly more clusters than predictors, most information about x' beta comes from the prior. With a log link
its tails multiply: slopes with sd 2.5 each impute counts of hundreds when the largest observed count is 4. Therefore,
with a log link, all predictors together have a prior sd of `scale`, the sd of log y, so that a priori they explain
about all of it.

Predictive mean matching (mice's 2lonly.pmm): the normal model, donors matched as in kernels/chained/regression.py,
observed clusters at the mean of beta given sigma^2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, ndtr

from bayesimp.kernels.chained.regression import match
from bayesimp.kernels.covariance.update import FIXED, CovarianceUpdate
from bayesimp.kernels.draws import truncated_normals
from bayesimp.kernels.families.codes import STUDENT, YEO_JOHNSON
from bayesimp.kernels.families.responses import EXTRA_ZEROS, aux_size, dispersed_aux, draw_rows
from bayesimp.kernels.families.scalar import (
    BETA,
    GAMMA,
    INVERSE_GAUSSIAN,
    LARGEST_LOG_MEAN,
    LOGIT,
    LOGNORMAL,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
)
from bayesimp.kernels.glm.density import CATEGORICAL, NORMAL, ORDINAL
from bayesimp.kernels.glm.regression import (
    NO_MODE,
    SLOPE_SD,
    TERM_SD,
    RegressionState,
    initial_regression_state,
    regression,
)
from bayesimp.kernels.glm.regression import WORDS as REGRESSION_WORDS
from bayesimp.kernels.glmm.gibbs import MOVES, GlmmPrior, glmm_step, new_tallies
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import BoolVector, Matrix, Vector

__all__ = ["LOG_LINKS", "WORDS", "ClusterLevelDraw", "ClusterLevelState", "cluster_level_step", "draw_values",
           "initial_cluster_level_state"]  # fmt: skip

STEPS = 20  # Gibbs or Metropolis steps per visit
T_DF = 3.0  # degrees of freedom of the half-t prior of sigma
SHAPED = NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, BETA, LOGNORMAL, STUDENT, YEO_JOHNSON, *EXTRA_ZEROS
LOG_LINKS = POISSON, NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, LOGNORMAL, *EXTRA_ZEROS
NO_VALUES, TOO_LARGE, NOT_FINITE = 32, 64, 128
WORDS = REGRESSION_WORDS | {
    NO_VALUES: "no cluster has a value of the variable, so nothing is drawn",
    TOO_LARGE: "a log mean is out of range (above 34); its value is nan",
    NOT_FINITE: "the likelihood is not finite: a linear predictor is out of range",
}


class ClusterLevelState(NamedTuple):
    """State carried from one visit to the next and updated in place; nan at first.

    regression; sigma2 (1,), or the auxiliary parameters of families that have some; beta (p, 1), for such families.
    """

    regression: RegressionState
    sigma2: np.ndarray
    beta: np.ndarray


class ClusterLevelDraw(NamedTuple):
    """values: draws for clusters without one, in order; beta (p, r), sigma2, aux as in `Regression`, or the shape (1,).

    accepted: share of accepted Metropolis steps, nan for the normal family. code: sum of keys of WORDS.
    """

    values: np.ndarray
    beta: np.ndarray
    sigma2: float
    aux: np.ndarray
    accepted: float
    code: int


def initial_cluster_level_state(family: int, p: int, levels: int = 2) -> ClusterLevelState:
    """State before the first visit."""
    regression_state = initial_regression_state(family, p, levels)
    shapes = aux_size(family) if family in SHAPED else 1
    return ClusterLevelState(regression_state, np.full(shapes, np.nan), np.full((p, 1), np.nan))


def cluster_level_step(
    rng: np.random.Generator,
    family: int,
    X: Matrix,
    y: Vector,
    observed: BoolVector,
    state: ClusterLevelState,
    levels: int = 2,
    location: float = 0.0,
    scale: float = 1.0,
    donors: int = 0,
    steps: int = STEPS,
    *,
    trials: Vector | None = None,
    bounds: tuple[Vector, Vector] | None = None,
    shift: Matrix | float = 0.0,
) -> ClusterLevelDraw:
    """One visit.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    family
        NORMAL, those of kernels/families/scalar.py, ORDINAL or CATEGORICAL (y 0..levels-1).
    X, y, observed
        (m, p), intercept first, other columns with sd 1; (m,); (m,) bool.
    state
        `initial_cluster_level_state`, updated in place.
    location, scale
        Location and scale for the priors: of y for the normal family (its mean and sd, say), of log y for log links.
    donors
        Number of donors for predictive mean matching, normal family only; 0: a normal draw.
    trials
        (m,) binomial trials; None: one.
    bounds
        (lower, upper) bounds of the normal draws for each cluster without a value, in order; None: no bounds.
    shift
        Number, or (clusters without a value, r), added to their linear predictors.
    """
    if not observed.any():
        nan = np.full((~observed).sum(), np.nan)
        return ClusterLevelDraw(nan, np.empty((0, 0)), np.nan, np.empty(0), np.nan, NO_VALUES)
    X_mis, X_obs, y_obs = (
        X[~observed],
        np.ascontiguousarray(X[observed], dtype=float),
        y[observed].astype(float),
    )
    trials = np.ones(len(X)) if trials is None else trials
    if family == NORMAL:
        return _normal(rng, X_obs, y_obs, X_mis, state, location, scale, donors, steps, bounds, shift)
    n, r = len(y_obs), levels - 1 if family == CATEGORICAL else 1
    rows = GlmmRows(
        family, y_obs, trials[observed], np.ones(n), np.zeros(n), X_obs, np.empty((n, 0)), np.array([0, n])
    )
    slope_sd = scale / np.sqrt(max(X.shape[1] - 1, 1)) if family in LOG_LINKS else SLOPE_SD * scale
    if family in SHAPED:
        return _shaped(rng, rows, X_mis, location, scale, slope_sd, steps, state, shift)
    draw = regression(
        rng, rows, levels, np.full(r, location), slope_sd, TERM_SD * scale, steps, state.regression
    )
    values = np.full(len(X_mis), np.nan)
    if draw.code < NO_MODE:
        values = draw_values(rng, family, X_mis @ draw.beta + shift, draw.aux, trials[~observed])
    code = draw.code | TOO_LARGE * bool(draw.code < NO_MODE and np.isnan(values).any())
    return ClusterLevelDraw(values, draw.beta, 1.0, draw.aux, draw.accepted / steps, code)


def _normal(
    rng: np.random.Generator,
    X_obs: Matrix,
    y_obs: Vector,
    X_mis: Matrix,
    state: ClusterLevelState,
    location: float,
    scale: float,
    donors: int,
    steps: int,
    bounds: tuple[Vector, Vector] | None,
    shift: Matrix | float,
) -> ClusterLevelDraw:
    """One visit for a normal variable."""
    first = np.arange(X_obs.shape[1]) == 0
    sd, mean = scale * np.where(first, TERM_SD, SLOPE_SD), np.where(first, location, 0.0)
    beta, estimated, sigma2 = _gibbs(rng, X_obs, y_obs, mean, sd, scale, steps, state.sigma2)
    centre, values = X_mis @ beta + np.broadcast_to(shift, (len(X_mis), 1))[:, 0], np.empty(len(X_mis))
    if donors:
        match(rng, X_obs @ estimated, y_obs, centre, donors, values)
    elif bounds is None:
        values = centre + np.sqrt(sigma2) * rng.standard_normal(len(X_mis))
    else:
        truncated_normals(rng, centre, np.full(len(X_mis), np.sqrt(sigma2)), *bounds, values)
    return ClusterLevelDraw(values, beta[:, None], sigma2, np.empty(0), np.nan, 0)


def _shaped(
    rng: np.random.Generator,
    rows: GlmmRows,
    X_mis: Matrix,
    location: float,
    scale: float,
    slope_sd: float,
    steps: int,
    state: ClusterLevelState,
    shift: Matrix | float,
) -> ClusterLevelDraw:
    """One visit for a family with a shape: `steps` moves of beta given the shape and of the shape given beta."""
    p, none = rows.X.shape[1], np.zeros((0, 0))
    precision, t0 = np.full(p, slope_sd**-2.0), np.zeros(p)
    precision[0], t0[0] = (TERM_SD * scale) ** -2.0, location * (TERM_SD * scale) ** -2.0
    unit = scale if rows.family in (STUDENT, YEO_JOHNSON) else 1.0
    prior = GlmmPrior(np.diag(precision), t0, CovarianceUpdate(FIXED, 0.0, none, np.ones(0)), unit)
    if np.isnan(state.sigma2[0]):
        state.beta[:], state.sigma2[:] = 0.0, dispersed_aux(rng, rows.family)
        state.beta[0] = location
    tallies, shape = new_tallies(), state.sigma2
    failed = glmm_step(
        rng, rows, steps, prior, state.beta, shape, none, np.zeros((1, 0, 1)), tallies, MOVES["fixed"] | MOVES["aux"]
    )  # fmt: skip
    values = np.full(len(X_mis), np.nan)
    if not failed:
        draw_rows(rng, rows.family, np.ones(len(X_mis)), X_mis @ state.beta + shift, shape, values)
    code = NOT_FINITE if failed else TOO_LARGE * bool(np.isnan(values).any())
    tried, accepted = tallies[1]
    return ClusterLevelDraw(values, state.beta.copy(), 1.0, shape.copy(), accepted / max(tried, 1), code)


def _gibbs(
    rng: np.random.Generator,
    X: Matrix,
    y: Vector,
    mean: Vector,
    sd: Vector,
    scale: float,
    steps: int,
    state: Vector,
) -> tuple[Vector, Vector, float]:
    """Draws of beta and sigma^2, and the mean of beta given sigma^2; state (1,) <- sigma^2."""
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


def draw_values(
    rng: np.random.Generator, family: int, eta: Matrix, aux: Vector, trials: ArrayLike = 1
) -> Vector:
    """(M,) draws from a discrete family at predictors eta (M, r); aux (K - 2,): cutpoint increments; trials (M,)."""
    M, u = len(eta), rng.random(len(eta))
    if family in (LOGIT, PROBIT):
        share = expit(eta[:, 0]) if family == LOGIT else ndtr(eta[:, 0])
        if np.all(np.equal(trials, 1)):
            return (u < share).astype(float)
        return rng.binomial(np.asarray(trials, dtype=np.int64), share).astype(float)
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

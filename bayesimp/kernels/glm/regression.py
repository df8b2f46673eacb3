"""Parameter draws for a regression of any family, with a fixed term for every cluster (stratified) or without.

    stratified      eta_ij = offset_ij + x_ij' beta + alpha_i       columns x without the intercept
    single level    eta_ij = offset_ij + x_ij' beta                 the intercept first

(beta, alpha, d) ~ N(mode, H^-1), as mice's logreg, polyreg and polr draw beta (Rubin 1987, sec. 5.3), except that the
mode is that of a posterior with weak priors rather than of the likelihood: slopes N(0, slope_sd^2); intercept and terms
N(centre, term_sd^2), where centre is the link of the overall mean; d ~ Gamma(2, 1/2). The likelihood alone has no mode
where predictors separate the values, as in any cluster whose values are all equal; mice instead adds pseudo-data to every
column (White, Daniel & Royston 2010), whose weight grows with the number of terms. `weak` counts the parameters for which
the prior contributes more than a quarter of the information or moves the mode by more than a fifth of a posterior
standard deviation. With steps > 0 the single-level posterior is sampled exactly, by Metropolis.

Normal: a Gibbs step from the previous visit's sigma^2, which at the first visit is drawn around its estimate,

    (beta, alpha) | sigma^2 ~ N(mode, sigma^2 H^-1),  H = D'D + sigma^2 Lambda        Lambda: precision of the priors
    sigma^2 | beta, alpha ~ RSS(beta, alpha) / chi2(n)                                p(sigma^2) = 1 / sigma^2

which becomes mice's `norm` as Lambda -> 0; dependent columns do no harm. Priors in units of sigma^2 would save the Gibbs
step, but N(0, 2.5^2 sigma^2) is strong where predictors or clusters explain nearly everything: with clusters 35 residual
sds apart, residual variances came out three times too large.

A cluster without the variable gets the average of the drawn terms, without their variance, so stratified imputation of a
systematically missing variable is overconfident (Jolani 2025).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import logit, ndtri

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families.scalar import LOGIT, PROBIT
from bayesimp.kernels.glm.density import CATEGORICAL, NORMAL, ORDINAL, GlmPrior, curvature, evaluate
from bayesimp.kernels.glm.posterior import draw_normal, find_mode, metropolis, variances
from bayesimp.notation import BoolVector, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glm.density import Curvature
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["SLOPE_SD", "TERM_SD", "WORDS", "Regression", "RegressionState", "initial_regression_state",
           "regression", "single_level_glm", "stratified_step"]  # fmt: skip

SLOPE_SD, TERM_SD = (
    2.5,
    5.0,
)  # for columns with sd 1; Gelman, Jakulin, Pittau & Su 2008 use Cauchy priors with these scales
SHARE, PULL = 0.25, 0.2
ESTIMATES = 5  # passes in which the first sigma^2 and the weight of the priors settle
INCREMENTS = 2.0, 0.5  # shape and rate: mean 4, sd 2.8, on the logistic scale
WEAK, EMPTY_LEVEL, NO_MODE, FEW_ROWS, EXACT = 1, 2, 4, 8, 16
WORDS = {
    WEAK: "the weak prior matters for some coefficients (separation, few rows, dependent predictors)",
    EMPTY_LEVEL: "a level does not occur among the observed values; its frequency rests on the prior",
    NO_MODE: "no mode was found; nothing drawn",
    FEW_ROWS: "too few rows for a residual variance (less than one degree of freedom); nothing drawn",
    EXACT: "predictors fit the values exactly, no residual variance; nothing drawn",
}


class RegressionState(NamedTuple):
    """State carried from one visit to the next and updated in place: mode (P,), terms (m, r), current (P,); nan at first.

    sigma2 (1,): for the normal family.
    """

    mode: np.ndarray
    terms: np.ndarray
    current: np.ndarray
    sigma2: np.ndarray


class Regression(NamedTuple):
    """Draws of one visit: beta (p, r), intercept first; B (m, 1, r), deviations of cluster terms; aux (K - 2,), d.

    estimated_beta, estimated_B: values at the mode, for observed rows in predictive mean matching. sigma2: 1 unless the
    family is normal. weak: number of parameters reported under WEAK. rejected: draws that violated d > 0. accepted:
    Metropolis steps. code: sum of keys of WORDS.
    """

    beta: np.ndarray
    B: np.ndarray
    aux: np.ndarray
    sigma2: float
    estimated_beta: np.ndarray
    estimated_B: np.ndarray
    weak: int
    rejected: int
    accepted: int
    code: int

    @property
    def drawn(self) -> bool:
        """Whether there are draws."""
        return self.code < NO_MODE


def initial_regression_state(family: int, p: int, levels: int = 2, m: int = 0) -> RegressionState:
    """State before the first visit, for p columns of X including the intercept and m clusters (0: single-level model)."""
    r = levels - 1 if family == CATEGORICAL else 1
    P = (p - (m > 0)) * r + (levels - 2 if family == ORDINAL else 0)
    return RegressionState(*(np.full(shape, np.nan) for shape in (P, (m, r), P, 1)))


def stratified_step(
    rng: np.random.Generator,
    rows: GlmmRows,
    levels: int,
    state: RegressionState,
    slope_sd: float = SLOPE_SD,
    term_sd: float = TERM_SD,
) -> Regression:
    """One visit with a term for every cluster.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    rows
        GlmmRows; family NORMAL, LOGIT, PROBIT, POISSON, ORDINAL or CATEGORICAL (y 0..levels-1); X with the
        intercept first.
    levels
        Of an ordinal or categorical variable; 2 otherwise.
    state
        `initial_regression_state(family, p, levels, m)`, updated in place.
    """
    slopes = rows._replace(X=np.ascontiguousarray(rows.X[:, 1:]))
    return regression(rng, slopes, levels, centre(rows, levels), slope_sd, term_sd, 0, state)


def single_level_glm(
    rng: np.random.Generator,
    rows: GlmmRows,
    levels: int,
    state: RegressionState,
    slope_sd: float = SLOPE_SD,
    term_sd: float = TERM_SD,
    steps: int = 0,
) -> Regression:
    """One visit without clusters (B zero), as `stratified_step`; with steps > 0, that many Metropolis steps."""
    return regression(rng, rows, levels, centre(rows, levels), slope_sd, term_sd, steps, state)


def centre(rows: GlmmRows, levels: int) -> Vector:
    """(r,): the link of the overall mean."""
    total, N = (rows.weight * rows.y).sum(), rows.weight.sum()
    if rows.family in (ORDINAL, CATEGORICAL):
        counts = np.bincount(rows.y.astype(np.int64), rows.weight, levels)
        above = counts[1:] if rows.family == CATEGORICAL else counts[1:].sum()
        eta = np.log((above + 0.5) / (counts[0] + 0.5))
    elif rows.family in (LOGIT, PROBIT):
        share = (total + 0.5) / ((rows.weight * rows.trials).sum() + 1.0)
        eta = logit(share) if rows.family == LOGIT else ndtri(share)
    else:
        eta = total / N if rows.family == NORMAL else np.log((total + 0.5) / N)
    return np.atleast_1d(eta) - np.average(rows.offset, weights=rows.weight)


def _start(rows: GlmmRows, levels: int, eta: Vector, state: RegressionState) -> None:
    """state <- starting values of the first Newton search: zero slopes and the overall frequencies of the levels."""
    p, r, m = rows.X.shape[1], len(eta), len(state.terms)
    state.mode[:], state.terms[:] = 0.0, eta
    if m == 0:
        state.mode[: p * r : p] = eta
    if rows.family == ORDINAL:
        above = np.cumsum(np.bincount(rows.y.astype(np.int64), minlength=levels)[::-1])[::-1][1:]
        state.mode[p:] = np.maximum(-np.diff(logit((above + 0.5) / (len(rows.y) + 1.0))), 0.1)


def regression(
    rng: np.random.Generator,
    rows: GlmmRows,
    levels: int,
    eta: Vector,
    slope_sd: float,
    term_sd: float,
    steps: int,
    state: RegressionState,
) -> Regression:
    """`stratified_step` (state has terms; X lacks the intercept) or `single_level_glm`, given the centre eta (r,)."""
    p, r, (m, _) = rows.X.shape[1], len(eta), state.terms.shape
    precision, mean = np.full(p * r, slope_sd**-2.0), np.zeros(p * r)
    if m == 0:
        precision[::p], mean[::p] = term_sd**-2.0, eta
    prior = GlmPrior(mean, precision, *INCREMENTS, eta, term_sd**-2.0)
    fresh = np.isnan(state.mode).any() or np.isnan(state.terms).any()
    if fresh:
        _start(rows, levels, eta, state)
    theta, alpha = np.empty_like(state.mode), np.empty_like(state.terms)
    bounds = rows.first if m else np.array([0, len(rows.y)])
    arguments = rng, rows, levels, bounds, prior, steps, *state, theta, alpha
    sigma2, weak, rejected, accepted, code = _draw(*arguments)
    if code == NO_MODE and not fresh:  # after a failed warm start, try a cold one
        _start(rows, levels, eta, state)
        sigma2, weak, rejected, accepted, code = _draw(*arguments)
    if code:
        state.mode[:], state.terms[:], state.sigma2[:] = np.nan, np.nan, np.nan
    if rows.family in (ORDINAL, CATEGORICAL) and len(np.unique(rows.y)) < levels:
        code |= EMPTY_LEVEL
    seen = np.diff(rows.first) > 0
    beta, B = _split(theta, alpha, p, seen)
    beta_hat, B_hat = _split(state.mode, state.terms, p, seen)
    return Regression(
        beta, B, theta[p * r :], sigma2, beta_hat, B_hat, weak, rejected, accepted, code | WEAK * (weak > 0)
    )


def _split(theta: Vector, alpha: Matrix, p: int, seen: BoolVector) -> tuple[Matrix, Stack]:
    """beta (p, r) and B (m, 1, r); the intercept is the average of the terms."""
    r = alpha.shape[1]
    beta = theta[: p * r].reshape(r, p).T
    if len(alpha) == 0:
        return np.ascontiguousarray(beta), np.zeros((len(seen), 1, r))
    average = alpha[seen].mean(axis=0)
    return np.vstack([average, beta]), np.where(seen[:, None], alpha - average, 0.0)[:, None]


@inner
def _in_units_of(prior: GlmPrior, sigma2: float) -> GlmPrior:
    """The prior in units of sigma2, to go with the likelihood of a normal with variance 1."""
    return GlmPrior(prior.mean, sigma2 * prior.precision, prior.shape, prior.rate, prior.centre,
                 sigma2 * prior.term_precision)  # fmt: skip


@inner
def _rss(
    rows: GlmmRows,
    levels: int,
    bounds: IntVector,
    prior: GlmPrior,
    theta: Vector,
    alpha: Matrix,
    h: Curvature,
) -> float:
    """Weighted residual sum of squares of a normal model."""
    flat = _in_units_of(prior, 0.0)
    return -2.0 * evaluate(rows, levels, bounds, flat, theta, alpha, h, theta.size < 0)


@inner
def _determined(prior: GlmPrior, n_beta: int, spread: Vector, spread_terms: Matrix) -> float:
    """tr{(H - Lambda) H^-1}, the effective number of coefficients determined by the data."""
    total = 0.0
    for k in range(n_beta):
        total += 1.0 - spread[k] * prior.precision[k]
    for i in range(spread_terms.shape[0]):
        for k in range(spread_terms.shape[1]):
            total += 1.0 - spread_terms[i, k] * prior.term_precision
    return total


@kernel(nogil=True)
def _draw(
    rng: np.random.Generator,
    rows: GlmmRows,
    levels: int,
    bounds: IntVector,
    prior: GlmPrior,
    steps: int,
    mode: Vector,
    terms: Matrix,
    current: Vector,
    variance: Vector,
    theta: Vector,
    alpha: Matrix,
) -> tuple[float, int, int, int, int]:
    """mode, terms <- the mode, searched from their values; theta, alpha <- a draw.

    Returns sigma2, weak, rejected, accepted and code.

    For the normal family, variance (1,) holds the previous visit's sigma2 (nan: estimate it first) and, on return, the
    new one.
    """
    P, (m, r) = mode.size, terms.shape
    n, n_beta, normal = rows.y.size, rows.X.shape[1] * r, rows.family == NORMAL
    h = curvature(P, m, r)
    spread, spread_terms = np.empty(P), np.empty((m, r))
    fresh = not variance[0] > 0.0
    sigma2, total, searches = 1.0, 0.0, 1
    if normal:
        for j in range(n):
            total += rows.weight[j] * (rows.y[j] - rows.offset[j]) ** 2
        if not total > 0.0:
            return 1.0, 0, 0, 0, EXACT
        sigma2, searches = (total / n, ESTIMATES) if fresh else (variance[0], 1)
    scaled = prior
    for search in range(searches):
        scaled = _in_units_of(prior, sigma2)
        if find_mode(rows, levels, bounds, scaled, mode, terms, h) != 0:
            return 1.0, 0, 0, 0, NO_MODE
        variances(h, spread, spread_terms)
        if normal:
            free = n - _determined(scaled, n_beta, spread, spread_terms)
            if not free >= 1.0:
                return 1.0, 0, 0, 0, FEW_ROWS
            rss = _rss(rows, levels, bounds, scaled, mode, terms, h)
            if not rss > 1e-13 * total:
                return 1.0, 0, 0, 0, EXACT
            if search < searches - 1:
                sigma2 = rss / free
            elif fresh:
                sigma2 = 0.5 * rss / rng.standard_gamma(0.5 * free)
    weak = _count_weak(n_beta, bounds, scaled, mode, terms, spread, spread_terms, sigma2)
    rejected, accepted = 0, 0
    if steps > 0:
        accepted = metropolis(rng, rows, levels, bounds, scaled, steps, mode, h, current)
        for k in range(P):
            theta[k] = current[k]
    else:
        rejected = draw_normal(rng, math.sqrt(sigma2), n_beta, mode, terms, h, theta, alpha)
    if normal:
        sigma2 = 0.5 * _rss(rows, levels, bounds, scaled, theta, alpha, h) / rng.standard_gamma(0.5 * n)
        variance[0] = sigma2
    return sigma2, weak, rejected, accepted, 0


@inner
def _count_weak(
    n_beta: int, bounds: IntVector, scaled: GlmPrior, mode: Vector, terms: Matrix, spread: Vector,
    spread_terms: Matrix, sigma2: float,
) -> int:  # fmt: skip
    """Number of coefficients, and terms of clusters with rows, that the prior moves or informs; spread: variances."""
    m, r = terms.shape
    weak = 0
    for k in range(n_beta):
        weak += _weak(scaled.precision[k], spread[k], mode[k] - scaled.mean[k], sigma2)
    for i in range(m):
        for k in range(r):
            if bounds[i + 1] > bounds[i]:
                gap = terms[i, k] - scaled.centre[k]
                weak += _weak(scaled.term_precision, spread_terms[i, k], gap, sigma2)
    return weak


@inner
def _weak(precision: float, variance: float, gap: float, sigma2: float) -> bool:
    """Whether the prior has a SHARE of the information or moves the mode by PULL posterior standard deviations."""
    return precision * variance > SHARE or precision * abs(gap) * math.sqrt(variance / sigma2) > PULL

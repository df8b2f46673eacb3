"""Cluster-level variables: simulation-based calibration with few clusters, values drawn, matching."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.special import expit, ndtr
from scipy.stats import invgamma, kstest, nbinom, poisson, truncnorm
from scipy.stats import t as student

from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    STUDENT,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.scalar import (
    BETA,
    GAMMA,
    INVERSE_GAUSSIAN,
    LOGIT,
    LOGNORMAL,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
)
from bayesimp.kernels.glm import cluster_level as cl
from bayesimp.kernels.glm import regression as st
from bayesimp.kernels.glm.density import CATEGORICAL, NORMAL, ORDINAL
from tests.calibration.montecarlo import LEVEL, REJECTED, bonferroni
from tests.calibration.uniformity import p_value
from tests.longhand import yeo_johnson

DRAWS = 99
FAMILIES = [(NORMAL, 2), (LOGIT, 2), (PROBIT, 2), (POISSON, 2), (NEGATIVE_BINOMIAL, 2), (GAMMA, 2), (INVERSE_GAUSSIAN, 2),
            (BETA, 2), (LOGNORMAL, 2), (HURDLE_POISSON, 2), (HURDLE_NEGATIVE_BINOMIAL, 2), (STUDENT, 2), (YEO_JOHNSON, 2),
            (ZERO_INFLATED_POISSON, 2), (ZERO_INFLATED_NEGATIVE_BINOMIAL, 2),
             (ORDINAL, 4), (CATEGORICAL, 3)]  # fmt: skip


def truth(rng, family, levels, X, location, scale):
    """beta (p, r), sigma2, d (or the shape) and y from their prior."""
    r, p = levels - 1 if family == CATEGORICAL else 1, X.shape[1]
    slope = 1 / np.sqrt(p - 1) if family in cl.LOG_LINKS else st.SLOPE_SD
    sd = np.where(np.arange(p) == 0, st.TERM_SD, slope) * scale
    beta = rng.normal(size=(X.shape[1], r)) * sd[:, None]
    beta[0] += location
    a = invgamma(0.5, scale=scale**-2.0).rvs(random_state=rng)
    sigma2 = invgamma(1.5, scale=3 / a).rvs(random_state=rng)
    d = (
        rng.gamma(st.INCREMENTS[0], 1 / st.INCREMENTS[1], size=levels - 2)
        if family == ORDINAL
        else np.empty(0)
    )
    if family == NORMAL:
        return beta, sigma2, d, X @ beta[:, 0] + np.sqrt(sigma2) * rng.normal(size=len(X))
    if family == STUDENT:
        aux = np.array([scale * abs(student(3).rvs(random_state=rng)), 2 + rng.gamma(2, 10)])
        return beta, 1.0, aux, X @ beta[:, 0] + aux[0] * student(aux[1]).rvs(len(X), random_state=rng)
    if family == YEO_JOHNSON:
        aux = np.array([scale * abs(student(3).rvs(random_state=rng)), 2 * rng.beta(2, 2)])
        return beta, 1.0, aux, yeo_johnson.back(X @ beta[:, 0] + aux[0] * rng.normal(size=len(X)), aux[1])
    if family == BETA:
        k, mu = abs(student(3).rvs(random_state=rng)) ** -2.0, expit(X @ beta[:, 0])
        y = rng.beta(k * mu, k * (1 - mu))
        return beta, 1.0, np.array([k]), np.where((y > 1e-12) & (y < 1 - 1e-12), y, np.nan)
    if family not in cl.LOG_LINKS:
        return beta, 1.0, d, cl.draw_values(rng, family, X @ beta, d)
    mu = np.exp(X @ beta[:, 0])
    if family == POISSON:
        return beta, 1.0, d, rng.poisson(mu).astype(float) if mu.max() < 1e15 else mu * np.nan
    zi = rng.random() if family in cl.EXTRA_ZEROS else 0.0
    if family == LOGNORMAL:
        sigma = abs(student(3).rvs(random_state=rng))
        return beta, 1.0, np.array([sigma**-2.0]), mu * np.exp(sigma * rng.normal(size=len(mu)))
    if family == HURDLE_POISSON:
        count = poisson(mu).isf(rng.random(len(mu)) * poisson(mu).sf(0)) if mu.max() < 1e15 else mu * np.nan
        return beta, 1.0, np.array([zi]), np.where(rng.random(len(mu)) < zi, 0.0, np.maximum(count, 1.0))
    if family == ZERO_INFLATED_POISSON:
        y = np.where(rng.random(len(mu)) < zi, 0.0, rng.poisson(np.minimum(mu, 1e15)))
        return beta, 1.0, np.array([zi]), y if mu.max() < 1e15 else mu * np.nan
    k = abs(student(3).rvs(random_state=rng)) ** -2.0
    if family == HURDLE_NEGATIVE_BINOMIAL:
        law = nbinom(k, k / (k + mu))
        count = np.maximum(law.isf(rng.random(len(mu)) * law.sf(0)), 1.0) if mu.max() < 1e6 else mu * np.nan
        return beta, 1.0, np.array([k, zi]), np.where(rng.random(len(mu)) < zi, 0.0, count)
    y = rng.wald(mu, k) if family == INVERSE_GAUSSIAN else mu * rng.gamma(k, size=len(mu)) / k
    if family in (NEGATIVE_BINOMIAL, ZERO_INFLATED_NEGATIVE_BINOMIAL):
        y = rng.poisson(y).astype(float) if y.max() < 1e15 else y * np.nan
    if family == ZERO_INFLATED_NEGATIVE_BINOMIAL:
        return beta, 1.0, np.array([k, zi]), np.where(rng.random(len(mu)) < zi, 0.0, y)
    return beta, 1.0, np.array([k]), np.where((y > 0) | (family == NEGATIVE_BINOMIAL), y, np.nan)


def ranks(family, levels, datasets, seed, m=9, p=3, spoil=None, thin=1):
    """Ranks of true parameters and of a missing value among draws; m clusters, two without the variable."""
    steps = 5 if family == NORMAL else cl.STEPS
    location = {NORMAL: 1.5, STUDENT: 1.5, YEO_JOHNSON: 1.5}.get(family, 0.4 * (family in cl.LOG_LINKS))
    out, scale = (
        [],
        {NORMAL: 2.0, STUDENT: 2.0, YEO_JOHNSON: 2.0}.get(family, 0.5 if family in cl.LOG_LINKS else 1.0),
    )
    observed = np.arange(m) >= 2
    for k in range(datasets):
        rng = np.random.default_rng([seed, k])
        X = np.column_stack([np.ones(m), 0.5 * rng.normal(size=(m, p - 1))])
        while True:
            beta, sigma2, d, y = truth(rng, family, levels, X, location, scale)
            if np.isfinite(y).all():
                break
        state = cl.initial_cluster_level_state(family, p, levels)
        draws = []
        for step in range(10 + DRAWS * thin):
            seen = np.where(observed, y, np.nan)
            got = cl.cluster_level_step(
                rng, family, X, seen, observed, state, levels, location, scale, steps=steps
            )
            if step >= 10 and step % thin == 0:
                jitter = 1e-6 * rng.random()
                draws.append(
                    np.concatenate([got.beta.ravel(), got.aux, [got.sigma2, got.values[0] + jitter]])
                )
        draws = np.array(draws)
        if spoil:
            draws = draws.mean(0) + spoil * (draws - draws.mean(0))
        true = np.concatenate([beta.ravel(), d, [sigma2, y[0] + 1e-6 * rng.random()]])
        out.append((draws < true).sum(axis=0))
    out = np.array(out)
    return out if family == NORMAL else np.delete(out, -2, axis=1)


@pytest.mark.parametrize(("family", "levels"), FAMILIES)
def test_calibration(family, levels):
    found = ranks(family, levels, 25, 3)
    assert bonferroni([p_value(column, DRAWS) for column in found.T]) > LEVEL


def test_wrong_draws_are_told_apart():
    """Draws with half the correct spread."""
    found = ranks(LOGIT, 2, 60, 3, spoil=0.3)
    assert bonferroni([p_value(column, DRAWS) for column in found.T]) < REJECTED


@pytest.mark.slow
@pytest.mark.parametrize(("family", "levels"), FAMILIES)
@pytest.mark.parametrize("p", [3, 8])
def test_calibration_long(family, levels, p):
    """With p = 8 predictors there are more coefficients than clusters with a value. Last run: all 12 pass, 18 minutes."""
    found = ranks(family, levels, 400, 7, p=p, thin=3)
    assert bonferroni([p_value(column, DRAWS) for column in found.T]) > LEVEL


@pytest.mark.parametrize("family", [LOGIT, PROBIT, POISSON, ORDINAL, CATEGORICAL])
def test_values_have_their_probabilities(family):
    rng, M = np.random.default_rng(0), 40_000
    eta = np.tile([0.4, -0.6][: 2 if family == CATEGORICAL else 1], (M, 1))
    values = cl.draw_values(rng, family, eta, np.array([0.7]))
    expected = {
        LOGIT: [expit(-0.4), expit(0.4)],
        PROBIT: [ndtr(-0.4), ndtr(0.4)],
        POISSON: np.exp(-np.exp(0.4)) * np.exp(0.4) ** np.arange(3) / [1, 1, 2],
        ORDINAL: [expit(-0.4), expit(0.4) - expit(-0.3), expit(-0.3)],
        CATEGORICAL: np.exp([0, 0.4, -0.6]) / np.exp([0, 0.4, -0.6]).sum(),
    }[family]
    share = np.array([(values == k).mean() for k in range(len(expected))])
    assert (np.abs(share - expected) < 4.5 * np.sqrt(expected * (1 - np.array(expected)) / M)).all()


def test_matching_is_of_type_1():
    """Observed clusters are predicted at the mean of beta given sigma^2, those without a value at the drawn beta."""
    rng, m = np.random.default_rng(31), 24
    X = np.column_stack([np.ones(m), rng.normal(size=(m, 2))])
    y = X @ np.array([1.0, 1.5, -1.0]) + rng.normal(size=m)
    observed, sigma2 = np.arange(m) < 16, 1.3
    prior_sd = 2.0 * np.array([st.TERM_SD, st.SLOPE_SD, st.SLOPE_SD])
    A = X[observed].T @ X[observed] / sigma2 + np.diag(prior_sd**-2.0)
    estimated = np.linalg.solve(A, X[observed].T @ y[observed] / sigma2 + [1.0 / prior_sd[0] ** 2, 0, 0])
    of_type = {1: 0, 2: 0, "0": 0}
    for _ in range(40):
        state = cl.initial_cluster_level_state(NORMAL, 3)
        state.sigma2[0] = sigma2
        out = cl.cluster_level_step(
            rng, NORMAL, X, y, observed, state, location=1.0, scale=2.0, donors=1, steps=1
        )
        drawn = out.beta[:, 0]
        for kind, at_observed, at_missing in (
            (1, estimated, drawn),
            (2, drawn, drawn),
            ("0", estimated, estimated),
        ):
            gaps = np.abs((X[observed] @ at_observed)[:, None] - X[~observed] @ at_missing)
            of_type[kind] += int((out.values == y[observed][gaps.argmin(axis=0)]).sum())
    assert of_type[1] == 40 * 8 and max(of_type[2], of_type["0"]) < 0.9 * 40 * 8


def test_matching_gives_observed_values():
    """mice's 2lonly.pmm: donors among observed clusters, nearer ones for nearer predictions."""
    rng = np.random.default_rng(1)
    X = np.column_stack([np.ones(30), rng.normal(size=30)])
    y, observed = X @ [1.0, 2.0] + 0.2 * rng.normal(size=30), np.arange(30) > 4
    state, drawn = cl.initial_cluster_level_state(NORMAL, 2), []
    for _ in range(200):
        out = cl.cluster_level_step(rng, NORMAL, X, y, observed, state, location=1.0, scale=2.0, donors=3)
        assert set(out.values) <= set(y[observed])
        drawn.append(out.values)
    assert np.corrcoef(np.mean(drawn, axis=0), y[:5])[0, 1] > 0.9


def test_extremes():
    """No value at all; one value; a level never seen; a count out of range."""
    rng, X = np.random.default_rng(0), np.column_stack([np.ones(5), np.arange(5) - 2.0])
    for family, levels in FAMILIES:
        y = np.array([0.9, 0.1, 0.9, 0.9, 0.1]) if family == BETA else np.array([1.0, 0, 1, 1, 0])
        state = cl.initial_cluster_level_state(family, 2, levels)
        out = cl.cluster_level_step(rng, family, X, y, np.zeros(5, bool), state, levels)
        assert out.code == cl.NO_VALUES and np.isnan(out.values).all() and len(out.values) == 5
        for _ in range(3):
            out = cl.cluster_level_step(rng, family, X, y, np.arange(5) == 2, state, levels)
        assert np.isfinite(out.values).all() or out.code & cl.TOO_LARGE
    big = cl.draw_values(rng, POISSON, np.array([[40.0], [1.0]]), np.empty(0))
    assert_array_equal(np.isnan(big), [True, False])


def test_values_between_bounds_are_the_truncated_law():
    """Against the normal cut off, at the parameters of each visit; bounds ten sds away give finite values inside."""
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(40), rng.normal(size=40)])
    y, observed = X @ [1.0, 0.5] + rng.normal(size=40), np.arange(40) >= 20
    lower, upper = np.repeat([0.5, -np.inf, 12.0, -np.inf], 5), np.repeat([1.5, 0.0, np.inf, -9.0], 5)
    state, uniform = cl.initial_cluster_level_state(NORMAL, 2), []
    for _ in range(300):
        out = cl.cluster_level_step(
            rng, NORMAL, X, y, observed, state, location=1.0, scale=1.0, bounds=(lower, upper)
        )
        assert (out.values >= lower).all() and (out.values <= upper).all()
        mean, sd = X[:20] @ out.beta[:, 0], np.sqrt(out.sigma2)
        uniform.append(truncnorm.cdf(out.values, (lower - mean) / sd, (upper - mean) / sd, mean, sd))
    assert bonferroni([kstest(column, "uniform").pvalue for column in np.array(uniform).T]) > LEVEL


def test_poisson_against_a_grid():
    """Posterior of the log mean of a missing cluster, two coefficients, on a grid."""
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(8), np.linspace(-1.5, 1.5, 8)])
    y, observed = np.array([0.0, 2, 1, 3, 2, 5, np.nan, np.nan]), np.arange(8) < 6
    location, scale = np.log(2.0), 0.8
    a, b = np.meshgrid(np.linspace(-6, 5, 700), np.linspace(-5, 5, 700), indexing="ij")
    log = -0.5 * ((a - location) / (st.TERM_SD * scale)) ** 2 - 0.5 * (b / scale) ** 2
    for x, count in zip(X[:6, 1], y[:6], strict=True):
        log += poisson.logpmf(count, np.exp(a + b * x))
    weight = np.exp(log - log.max())
    mean = (weight * b).sum() / weight.sum()
    sd = np.sqrt((weight * (b - mean) ** 2).sum() / weight.sum())
    state = cl.initial_cluster_level_state(POISSON, 2)
    draws = [
        cl.cluster_level_step(rng, POISSON, X, y, observed, state, location=location, scale=scale).beta[1, 0]
        for _ in range(2000)
    ]
    # 20 Metropolis steps between draws leave next to no dependence
    assert abs(np.mean(draws) - mean) < 4.5 * sd / np.sqrt(2000)
    assert abs(np.std(draws) / sd - 1) < 4.5 / np.sqrt(4000)


def test_few_clusters_do_not_make_huge_counts():
    """Six clusters, five predictors: uncertain slopes do not turn counts of 4 into hundreds."""
    rng, largest = np.random.default_rng(4), []
    for _ in range(20):
        X = np.column_stack([np.ones(8), rng.normal(size=(8, 5))])
        y, observed = rng.poisson(1.5, 8).astype(float), np.arange(8) < 6
        logs = np.log(y[observed] + 0.5)
        state = cl.initial_cluster_level_state(POISSON, 6)
        values = [
            cl.cluster_level_step(
                rng, POISSON, X, y, observed, state, location=logs.mean(), scale=logs.std() or 1.0
            ).values
            for _ in range(20)
        ]
        largest.append(np.quantile(values, 0.95))
    assert np.median(largest) < 15


def test_binomial_successes_are_out_of_their_trials():
    rng = np.random.default_rng(5)
    X, trials = np.ones((60, 1)), np.repeat([4.0, 50.0], 30)
    y, observed = rng.binomial(trials.astype(int), 0.3).astype(float), np.arange(60) % 3 > 0
    state, shares = cl.initial_cluster_level_state(LOGIT, 1), []
    for _ in range(50):
        out = cl.cluster_level_step(rng, LOGIT, X, y, observed, state, trials=trials)
        assert (out.values <= trials[~observed]).all()
        shares.append(out.values.sum() / trials[~observed].sum())
    assert abs(np.mean(shares) - 0.3) < 0.05

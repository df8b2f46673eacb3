"""Variables of clusters: simulation-based calibration with few clusters, values drawn, matching."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.special import expit, ndtr
from scipy.stats import invgamma

from bayesimp.kernels import cluster_level as cl
from bayesimp.kernels import stratified as st
from bayesimp.kernels.families import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glm import CATEGORICAL, NORMAL, ORDINAL
from tests.calibration.montecarlo import LEVEL, REJECTED, bonferroni
from tests.calibration.uniformity import p_value

DRAWS = 99
FAMILIES = [(NORMAL, 2), (LOGIT, 2), (PROBIT, 2), (POISSON, 2), (ORDINAL, 4), (CATEGORICAL, 3)]


def truth(rng, family, levels, X, location, scale):
    """beta (p, r), sigma2, d and y from their prior."""
    r = levels - 1 if family == CATEGORICAL else 1
    sd = np.where(np.arange(X.shape[1]) == 0, st.TERM_SD, st.SLOPE_SD) * scale
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
    return beta, 1.0, d, cl.draw_values(rng, family, X @ beta, d)


def ranks(family, levels, datasets, seed, m=9, p=3, spoil=None, thin=1):
    """Ranks of true parameters and of a missing value among draws; m clusters, two without the variable."""
    steps = 5 if family == NORMAL else cl.STEPS
    out, location, scale = [], 1.5 * (family == NORMAL), 2.0 if family == NORMAL else 1.0
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
    """Draws of half the spread they should have."""
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
    y = np.array([1.0, 0, 1, 1, 0])
    for family, levels in FAMILIES:
        state = cl.initial_cluster_level_state(family, 2, levels)
        out = cl.cluster_level_step(rng, family, X, y, np.zeros(5, bool), state, levels)
        assert out.code == cl.NO_VALUES and np.isnan(out.values).all() and len(out.values) == 5
        for _ in range(3):
            out = cl.cluster_level_step(rng, family, X, y, np.arange(5) == 2, state, levels)
        assert np.isfinite(out.values).all() or out.code & cl.TOO_LARGE
    big = cl.draw_values(rng, POISSON, np.array([[40.0], [1.0]]), np.empty(0))
    assert_array_equal(np.isnan(big), [True, False])

"""Densities, derivatives and draws of the families against SciPy and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats
from scipy.special import expit

from bayesimp.kernels.families import scalar as f

SHAPE, TRIALS = 2.3, 5.0
ETAS = np.array([-9.0, -2.0, -0.3, 0.0, 0.7, 2.5])
YS = {
    f.LOGIT: [0.0, 2.0, 5.0], f.PROBIT: [0.0, 2.0, 5.0], f.POISSON: [0.0, 1.0, 7.0],
    f.NEGATIVE_BINOMIAL: [0.0, 1.0, 7.0], f.GAMMA: [0.01, 1.0, 4.0], f.INVERSE_GAUSSIAN: [0.05, 1.0, 4.0],
    f.BETA: [1e-6, 0.03, 0.4, 0.98],
}  # fmt: skip


@njit
def log_density(family, y, trials, eta, shape):
    return f.log_likelihood(family, y, trials, eta, shape) + f.log_normaliser(family, y, trials, shape)


@njit
def derivatives(family, y, trials, eta, shape):
    return f.derivatives(family, y, trials, eta, shape)


@njit
def curvature_slope(family, y, trials, eta, shape):
    return f.curvature_slope(family, y, trials, eta, shape)


@njit
def all_terms(family, y, trials, eta, shape):
    l, rest, score, curvature, slope, bend = f.all_terms(family, y, trials, eta, shape)
    again = f.split_log_likelihood(family, y, trials, eta, shape)
    value = f.log_likelihood(family, y, trials, eta, shape)
    terms = l - trials * np.log(rest), score, curvature, slope
    return terms, again[0] - trials * np.log(again[1]), value, bend


@njit
def draws(rng, family, trials, eta, shape, n):
    out = np.empty(n)
    for k in range(n):
        out[k] = f.draw_response(rng, family, trials, eta, shape)
    return out


def scipy_law(family, eta):
    mu = np.exp(eta)
    return {
        f.LOGIT: lambda: stats.binom(5, 1 / (1 + np.exp(-eta))),
        f.PROBIT: lambda: stats.binom(5, stats.norm.cdf(eta)),
        f.POISSON: lambda: stats.poisson(mu),
        f.NEGATIVE_BINOMIAL: lambda: stats.nbinom(SHAPE, SHAPE / (SHAPE + mu)),
        f.GAMMA: lambda: stats.gamma(SHAPE, scale=mu / SHAPE),
        f.INVERSE_GAUSSIAN: lambda: stats.invgauss(mu / SHAPE, scale=SHAPE),
        f.BETA: lambda: stats.beta(SHAPE * expit(eta), SHAPE * expit(-eta)),
    }[family]()


@pytest.mark.parametrize("family", YS)
def test_log_density(family):
    for eta in ETAS:
        law = scipy_law(family, eta)
        for y in YS[family]:
            expected = law.logpdf(y) if family >= f.GAMMA else law.logpmf(y)
            if np.isfinite(expected):
                np.testing.assert_allclose(
                    log_density(family, y, TRIALS, eta, SHAPE), expected, rtol=1e-8, atol=1e-9
                )


@pytest.mark.parametrize("family", YS)
def test_derivatives(family):
    h = 1e-4
    for eta in ETAS:
        for y in YS[family]:
            low, mid, high = (log_density(family, y, TRIALS, eta + s, SHAPE) for s in (-h, 0.0, h))
            score, curvature = derivatives(family, y, TRIALS, eta, SHAPE)
            scale = 1.0 + abs(mid)
            np.testing.assert_allclose(score, (high - low) / (2 * h), rtol=1e-5, atol=1e-7 * scale)
            if family not in (f.INVERSE_GAUSSIAN, f.BETA):
                np.testing.assert_allclose(
                    curvature, -(high - 2 * mid + low) / h**2, rtol=1e-4, atol=1e-6 * scale
                )


@pytest.mark.parametrize("family", YS)
def test_slope_of_the_curvature(family):
    h = 1e-5
    for eta in ETAS:
        for y in YS[family]:
            low, high = (derivatives(family, y, TRIALS, eta + s, SHAPE)[1] for s in (-h, h))
            slope = curvature_slope(family, y, TRIALS, eta, SHAPE)
            scale = 1.0 + abs(low)
            np.testing.assert_allclose(slope, (high - low) / (2 * h), rtol=1e-6, atol=1e-8 * scale)


@pytest.mark.parametrize("family", YS)
def test_second_derivative_of_the_curvature(family):
    h = 1e-3
    for eta in (*ETAS, -30.0):
        for y in YS[family]:
            ends = np.array([all_terms(family, y, TRIALS, eta + s * h, SHAPE)[0][3] for s in (-2, -1, 1, 2)])
            bend = all_terms(family, y, TRIALS, eta, SHAPE)[3]
            difference = ends @ [1, -8, 8, -1] / (12 * h)
            np.testing.assert_allclose(bend, difference, rtol=1e-6, atol=1e-8 * (1 + np.abs(ends).max()))


@pytest.mark.parametrize("family", YS)
def test_all_terms_at_once_are_those_one_by_one(family):
    for eta in ETAS:
        for y in YS[family]:
            at_once, again, value, _ = all_terms(family, y, TRIALS, eta, SHAPE)
            one_by_one = (
                value,
                *derivatives(family, y, TRIALS, eta, SHAPE),
                curvature_slope(family, y, TRIALS, eta, SHAPE),
            )
            np.testing.assert_allclose(at_once, one_by_one, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(again, value, rtol=1e-12, atol=1e-14)


@njit
def summed(family, y, weight, trials, eta):
    value, product = 0.0, 1.0
    for j in range(y.size):
        l, rest = f.split_log_likelihood(family, y[j], trials[j], eta[j], 1.0)
        product, logs = f.sum_of_logs(product, weight[j] * trials[j], rest)
        value += weight[j] * l - logs
    return value - np.log(product)


def test_sums_of_logarithms_by_products():
    """Thousands of rows, so that products overflow unless they are taken up, with and without weights and trials."""
    rng = np.random.default_rng(1)
    for weight, trials in ((1.0, 1.0), (0.5, 1.0), (1.0, 3.0), (0.5, 2.0)):
        eta, mixed = rng.normal(size=5_000), np.where(rng.random(5_000) < 0.5, weight, 1.0)
        y, trials = rng.integers(0, 2, 5_000).astype(float), np.full(5_000, trials)
        expected = mixed @ (y * eta - trials * np.logaddexp(0, eta))
        assert abs(summed(f.LOGIT, y, mixed, trials, eta) - expected) < 1e-10 * abs(expected)


def test_expected_curvature_of_the_inverse_gaussian():
    eta = 0.4
    y = scipy_law(f.INVERSE_GAUSSIAN, eta).rvs(size=20_000, random_state=1)
    scores = np.array([derivatives(f.INVERSE_GAUSSIAN, v, 1.0, eta, SHAPE)[0] for v in y])
    curvature = derivatives(f.INVERSE_GAUSSIAN, 1.0, 1.0, eta, SHAPE)[1]
    assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(len(y))
    assert abs((scores**2).mean() / curvature - 1) < 4 * (scores**2).std() / curvature / np.sqrt(len(y))


@pytest.mark.parametrize("eta", [-700.0, -40.0, 40.0, 700.0])
@pytest.mark.parametrize("family", [f.LOGIT, f.PROBIT])
def test_far_out_nothing_overflows(family, eta):
    for y in (0.0, 1.0):
        value = log_density(family, y, 1.0, eta, 1.0)
        score, curvature = derivatives(family, y, 1.0, eta, 1.0)
        assert np.isfinite([value, score, curvature]).all() and curvature >= 0
    if family == f.PROBIT:
        np.testing.assert_allclose(
            log_density(family, 1.0, 1.0, -40.0, 1.0), stats.norm.logcdf(-40.0), rtol=1e-12
        )


@pytest.mark.parametrize("family", YS)
def test_draws(family):
    eta, n = 0.4, 20_000
    law = scipy_law(family, eta)
    x = draws(np.random.default_rng(family), family, TRIALS, eta, SHAPE, n)
    assert abs(x.mean() - law.mean()) < 4 * law.std() / np.sqrt(n)
    fourth = float(((x - x.mean()) ** 4).mean())
    assert abs(x.var() - law.var()) < 4 * np.sqrt((fourth - law.var() ** 2) / n)


def test_means_out_of_range_are_refused_not_clipped():
    rng = np.random.default_rng(0)
    for family in (f.POISSON, f.NEGATIVE_BINOMIAL, f.GAMMA, f.INVERSE_GAUSSIAN):
        assert np.isnan(draws(rng, family, 1.0, 800.0, SHAPE, 1)[0])
        assert np.isnan(draws(rng, family, 1.0, np.nan, SHAPE, 1)[0])
    assert draws(rng, f.POISSON, 1.0, -800.0, SHAPE, 1)[0] == 0.0

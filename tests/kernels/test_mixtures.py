"""Student-t and zero-inflated responses as mixtures: density, draws, latent variables, parameters, by SciPy and grids.

Comparisons of chains are in Monte Carlo standard errors by batch means, at 1e-5 each (tests/kernels/test_glmm_gibbs.py);
Kolmogorov-Smirnov tests at 1e-3, and wrong laws below 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats
from scipy.special import expit, logsumexp

from bayesimp.kernels.families import mixtures
from bayesimp.kernels.families.codes import (
    STUDENT,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.responses import dispersed_aux, draw_rows, usual_aux
from bayesimp.kernels.glmm.gibbs import MOVES
from tests.kernels.test_glmm_gibbs import blank, has_quantiles, make_prior, make_rows, run
from tests.longhand import yeo_johnson

Y = np.array([0.2, -1.3, 6.0, 0.4, 0.9, -0.4])


@njit
def density(family, y, eta, first, second):
    return mixtures.mixture_density(family, y, eta, first, second)


@njit
def latent(rng, family, y, eta, aux, out):
    mixtures.latent(rng, family, y, eta, aux, out, np.empty(y.size))


def test_density_is_scipys():
    for y in (-40.0, 0.3, 1e6):
        for sigma, nu in ((0.4, 2.01), (3.0, 7.0), (1.0, 4000.0)):
            expected = stats.t.logpdf(y, nu, 1.5, sigma)
            np.testing.assert_allclose(density(STUDENT, y, 1.5, sigma, nu), expected, rtol=1e-9)


def test_draws_have_the_distribution():
    n, aux = 20_000, np.array([0.7, 2.6])
    out = np.empty(n)
    draw_rows(np.random.default_rng(1), STUDENT, np.ones(n), np.full((n, 1), 1.5), aux, out)
    assert stats.kstest(out, stats.t(2.6, 1.5, 0.7).cdf).pvalue > 1e-3
    assert stats.kstest(out, stats.t(4.0, 1.5, 0.7).cdf).pvalue < 1e-6
    draw_rows(np.random.default_rng(1), STUDENT, np.ones(n), np.full((n, 1), np.nan), aux, out)
    assert np.isnan(out).all()


@pytest.mark.parametrize("y", [0.1, 5.0])
def test_precisions_of_rows(y):
    """p(w | y) ~ Gamma(w; nu/2, nu/2) N(y; eta, sigma^2 / w), on a grid."""
    n, (sigma, nu), eta = 20_000, (0.8, 3.0), 0.4
    out = np.empty(n)
    latent(np.random.default_rng(2), STUDENT, np.full(n, y), np.full((n, 1), eta), np.array([sigma, nu]), out)
    w = np.linspace(1e-4, 8, 80_001)
    log = stats.gamma(nu / 2, scale=2 / nu).logpdf(w) + stats.norm.logpdf(y, eta, sigma / np.sqrt(w))
    weight = np.exp(log - logsumexp(log))
    cdf = np.cumsum(weight) - 0.5 * weight
    assert stats.kstest(np.interp(out * sigma**2, w, cdf), "uniform").pvalue > 1e-3
    assert stats.kstest(np.interp(out, w, cdf), "uniform").pvalue < 1e-6  # variances of one


@pytest.mark.parametrize("which", [0, 1])
def test_scale_and_degrees_of_freedom_alone(which):
    """Each marginally against a grid of both, under the stated priors."""
    rows, prior = make_rows(STUDENT, Y, [6]), make_prior(1, 1, 1)._replace(shape_scale=0.7)
    _, aux, _, _ = state = blank(rows)
    draws = run(rows, prior, state, lambda: np.log(aux - [0, 2]), 6000, 2, MOVES["aux"])[:, which]
    grids = np.linspace(-3, 3, 241), np.linspace(-5, 6, 241)
    sigma, excess = (np.exp(g) for g in np.meshgrid(*grids, indexing="ij"))
    log_p = stats.t.logpdf(Y, 2 + excess[..., None], 0, sigma[..., None]).sum(-1)
    log_p += stats.t(3, scale=0.7).logpdf(sigma) + np.log(sigma)
    log_p += stats.gamma(2, scale=10).logpdf(excess) + np.log(excess)
    has_quantiles(draws, grids[which], logsumexp(log_p, axis=1 - which))


@pytest.mark.parametrize("which", [0, 1])
def test_scale_and_power_alone(which):
    """sigma and lambda marginally against a grid of both, under the stated priors."""
    rows, prior = make_rows(YEO_JOHNSON, Y, [6]), make_prior(1, 1, 1)._replace(shape_scale=0.7)
    _, aux, _, _ = state = blank(rows)
    draws = run(rows, prior, state, lambda: np.log([aux[0], aux[1] / (2 - aux[1])]), 6000, 2, MOVES["aux"])
    grids = np.linspace(-3, 4, 281), np.linspace(-9, 9, 361)
    sigma, half = (f(g) for f, g in zip((np.exp, expit), np.meshgrid(*grids, indexing="ij"), strict=True))
    log_p = yeo_johnson.log_density(Y, 0.0, sigma[..., None], 2 * half[..., None]).sum(-1)
    log_p += stats.t(3, scale=0.7).logpdf(sigma) + np.log(sigma)
    log_p += stats.beta(2, 2).logpdf(half) + np.log(half * (1 - half))
    has_quantiles(draws[:, which], grids[which], logsumexp(log_p, axis=1 - which))
    wrong = log_p - np.where(Y >= 0, 1, -1) @ np.log1p(np.abs(Y)) * (2 * half - 1)  # no Jacobian
    if which == 1:
        with pytest.raises(AssertionError):
            has_quantiles(draws[:, which], grids[which], logsumexp(wrong, axis=1 - which))


def test_a_prior_of_another_scale_is_noticed():
    rows, prior = make_rows(STUDENT, Y, [6]), make_prior(1, 1, 1)._replace(shape_scale=0.7)
    _, aux, _, _ = state = blank(rows)
    aux[1] = 30.0
    reads = run(rows, prior._replace(shape_scale=0.1), state, lambda: np.log(aux[0]), 3000, 2, MOVES["aux"])
    _, aux, _, _ = state = blank(rows)
    right = run(rows, prior, state, lambda: np.log(aux[0]), 3000, 2, MOVES["aux"])
    assert right.mean() - reads.mean() > 0.2


def test_values_to_begin_with():
    assert usual_aux(STUDENT).tolist() == [1.0, 22.0]
    rng = np.random.default_rng(0)
    drawn = np.array([dispersed_aux(rng, STUDENT) for _ in range(4000)])
    assert stats.kstest(drawn[:, 1] - 2, stats.gamma(2, scale=10).cdf).pvalue > 1e-3


def test_a_response_that_is_fitted_exactly_has_a_scale():
    rows, prior = make_rows(STUDENT, np.zeros(8), [8]), make_prior(1, 1, 1)
    _, aux, _, _ = state = blank(rows)
    run(rows, prior, state, lambda: aux, 300)
    assert 1e-4 <= aux[0] < 1.0 and aux[1] > 2.0


# -- zero-inflated counts ------------------------------------------------------------------------------------

COUNTS = np.array([0.0, 0.0, 3.0, 0.0, 7.0, 1.0, 0.0, 4.0, 12.0])
KINDS = [(ZERO_INFLATED_POISSON, np.array([0.3])), (ZERO_INFLATED_NEGATIVE_BINOMIAL, np.array([1.7, 0.3]))]


def count_law(family, mu, aux):
    return (
        stats.poisson(mu) if family == ZERO_INFLATED_POISSON else stats.nbinom(aux[0], aux[0] / (aux[0] + mu))
    )


@pytest.mark.parametrize("family, aux", KINDS)
def test_density_of_zero_inflated_counts_is_scipys(family, aux):
    for eta in (-700.0, -3.0, 0.5, 3.0):
        for y in (0.0, 1.0, 25.0):
            law = count_law(family, np.exp(eta), aux)
            if law.pmf(y) > 0:
                expected = np.log(0.3 * (y == 0) + 0.7 * law.pmf(y))
                np.testing.assert_allclose(
                    density(family, y, eta, aux[0], aux[-1]), expected, rtol=1e-9, atol=1e-12
                )


@pytest.mark.parametrize("family, aux", KINDS)
def test_draws_of_zero_inflated_counts(family, aux):
    """Chi-square at 1e-3; those of the counts alone are rejected."""
    n, law = 20_000, count_law(family, np.exp(1.1), aux)
    out = np.empty(n)
    draw_rows(np.random.default_rng(1), family, np.ones(n), np.full((n, 1), 1.1), aux, out)
    seen = np.bincount(out.astype(int), minlength=12)[:8]
    p = law.pmf(np.arange(8)) * 0.7 + 0.3 * (np.arange(8) == 0)
    p_value = [
        stats.chisquare(np.append(seen, n - seen.sum()), n * np.append(q, 1 - q.sum())).pvalue
        for q in (p, law.pmf(np.arange(8)))
    ]
    assert p_value[0] > 1e-3 and p_value[1] < 1e-6
    eta = np.array([[0.0], [40.0], [np.nan]])
    draw_rows(np.random.default_rng(1), family, np.ones(3), eta, aux, out[:3])
    assert np.isnan(out[:3]).tolist() == [False, True, True]


@pytest.mark.parametrize("family, aux", KINDS)
def test_structural_zeros(family, aux):
    """Rows above zero count always, zeros with the chance that Bayes' rule gives; |z| < 4."""
    n, eta = 40_000, 0.4
    y, out = np.tile([0.0, 2.0], n // 2), np.empty(n)
    latent(np.random.default_rng(2), family, y, np.full((n, 1), eta), aux, out)
    none = 0.7 * count_law(family, np.exp(eta), aux).pmf(0)
    share = none / (0.3 + none)
    assert (out[1::2] == 1).all() and set(out[::2]) == {0.0, 1.0}
    assert abs(out[::2].mean() - share) < 4 * np.sqrt(share * (1 - share) / (n / 2))
    assert abs(out[::2].mean() - none) > 20 * np.sqrt(share * (1 - share) / (n / 2))


@pytest.mark.parametrize("which", [0, 1])
def test_shape_and_inflation_alone(which):
    """Each marginally against a grid of both, under the stated priors."""
    family = ZERO_INFLATED_NEGATIVE_BINOMIAL
    rows, prior = make_rows(family, COUNTS, [9]), make_prior(1, 1, 1)._replace(shape_scale=0.7)
    beta, aux, _, _ = state = blank(rows)
    beta[:] = 1.2
    draws = run(
        rows, prior, state, lambda: [np.log(aux[0]), np.log(aux[1] / (1 - aux[1]))], 8000, 2, MOVES["aux"]
    )[:, which]
    grids = np.linspace(-6, 16, 353), np.linspace(-8, 4, 241)
    log_k, logit = np.meshgrid(*grids, indexing="ij")
    k, zi, mu = np.exp(log_k)[..., None], expit(logit)[..., None], np.exp(1.2)
    pmf = stats.nbinom.pmf(COUNTS, k, k / (k + mu))
    log_p = np.log(zi * (COUNTS == 0) + (1 - zi) * pmf).sum(-1) + stats.logistic.logpdf(logit)
    v = np.exp(-log_k / 2)
    log_p += np.log(v) - 2 * np.log1p(v**2 / (3 * 0.49))
    has_quantiles(draws, grids[which], logsumexp(log_p, axis=1 - which))


def test_inflation_of_a_poisson_count_alone():
    rows = make_rows(ZERO_INFLATED_POISSON, COUNTS, [9])
    beta, aux, _, _ = state = blank(rows)
    beta[:] = 0.7
    draws = run(rows, make_prior(1, 1, 1), state, lambda: aux[0], 6000, 1, MOVES["aux"])
    zi = np.linspace(0, 1, 2001)[1:-1]
    pmf = stats.poisson.pmf(COUNTS, np.exp(0.7))
    log_p = np.log(zi[:, None] * (COUNTS == 0) + (1 - zi[:, None]) * pmf).sum(1)
    has_quantiles(draws, zi, log_p)
    with pytest.raises(AssertionError):  # every zero structural
        has_quantiles(draws, zi, stats.beta(1 + 4, 1 + 5).logpdf(zi))


@pytest.mark.parametrize("y", [np.zeros(8), np.arange(1.0, 9.0)])
@pytest.mark.parametrize("family, aux", KINDS)
def test_all_zeros_or_none(family, aux, y):
    rows = make_rows(family, y, [8])
    _, own, _, _ = state = blank(rows)
    kept = run(rows, make_prior(1, 1, 1), state, lambda: own, 400)
    assert ((kept[:, -1] > 0) & (kept[:, -1] < 1)).all()
    assert kept[:, -1].mean() > 0.3 if y[0] == 0 else kept[:, -1].mean() < 0.3

"""Counts above zero and the hurdle in front of them: densities, draws, derivatives, parameters, by SciPy and grids.

Levels as in tests/kernels/test_mixtures.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import stats
from scipy.special import logsumexp

from bayesimp.kernels.families import mixtures, truncated
from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    TRUNCATED_NEGATIVE_BINOMIAL,
    TRUNCATED_POISSON,
)
from bayesimp.kernels.families.responses import draw_rows
from bayesimp.kernels.glmm.gibbs import MOVES
from tests.kernels.test_glmm_gibbs import blank, has_quantiles, make_prior, make_rows, run
from tests.longhand.glmm_density import log_likelihood

COUNTS = np.array([0.0, 0.0, 3.0, 0.0, 7.0, 1.0, 0.0, 4.0, 1.0])
KINDS = [
    (HURDLE_POISSON, TRUNCATED_POISSON, np.array([0.3])),
    (HURDLE_NEGATIVE_BINOMIAL, TRUNCATED_NEGATIVE_BINOMIAL, np.array([0.6, 0.3])),
    (HURDLE_NEGATIVE_BINOMIAL, TRUNCATED_NEGATIVE_BINOMIAL, np.array([7.0, 0.3])),
]


@njit
def terms(family, y, eta, shape):
    return truncated.truncated_terms(family, y, eta, shape)


@njit
def density(family, y, eta, first, second):
    return mixtures.mixture_density(family, y, eta, first, second)


def law(family, eta, aux):
    mu = np.exp(eta)
    return stats.poisson(mu) if family == HURDLE_POISSON else stats.nbinom(aux[0], aux[0] / (aux[0] + mu))


def log_above(family, y, eta, aux):
    """log p(y | y > 0)."""
    count = law(family, eta, aux)
    return count.logpmf(y) - np.log(count.sf(0))


@pytest.mark.parametrize("family, given, aux", KINDS)
def test_densities_are_scipys(family, given, aux):
    for eta in (-9.0, -3.0, 0.5, 4.0):
        for y in (0.0, 1.0, 25.0):
            expected = log_likelihood(family, np.array([y]), 1, np.array([[eta]]), aux)[0]
            np.testing.assert_allclose(density(family, y, eta, aux[0], aux[-1]), expected, rtol=1e-9)


@pytest.mark.parametrize("family, given, aux", KINDS)
def test_a_mean_that_vanishes_leaves_a_one(family, given, aux):
    """P(y = 1 | y > 0) -> 1, also where e^eta underflows."""
    for eta in (-40.0, -300.0, -800.0):
        assert abs(density(family, 1.0, eta, aux[0], aux[-1]) - np.log(0.7)) < 1e-9
        value, score, curvature = terms(given, 1.0, eta, aux[0])
        lower = terms(given, 1.0, eta - 3.0, aux[0])[0]
        assert abs(value - lower) < 1e-9 and abs(score) < 1e-9 and 0.0 <= curvature < 1e-9


@pytest.mark.parametrize("family, given, aux", KINDS)
@pytest.mark.parametrize("eta", [-7.5, -7.0, -2.0, 0.3, 3.0])
def test_derivatives(family, given, aux, eta):
    """Score by differences, curvature as the variance of the score; both sides of where series take over."""
    y, h = np.arange(1.0, 3000.0), 1e-5
    value, score, curvature = np.array([terms(given, v, eta, aux[0]) for v in y]).T
    low, high = (np.array([terms(given, v, eta + side * h, aux[0])[0] for v in y]) for side in (-1, 1))
    np.testing.assert_allclose(score, (high - low) / (2 * h), rtol=1e-6, atol=1e-6)
    p = np.exp(log_above(family, y, eta, aux))
    assert abs(p @ score) < 1e-9
    np.testing.assert_allclose(curvature, p @ score**2, rtol=2e-3)
    moved = np.array([terms(given, v, eta + 0.5, aux[0])[0] for v in y]) - value
    expected = log_above(family, y, eta + 0.5, aux) - log_above(family, y, eta, aux)
    np.testing.assert_allclose(moved, expected, atol=1e-7)


def test_where_log_densities_are_concave():
    """The truncated Poisson always, with the curvature as said; the negative binomial not if its shape is below one."""
    eta, h = np.linspace(-8.0, 8.0, 161), 1e-3
    bend = {}
    for given, shape in ((TRUNCATED_POISSON, 1.0), (TRUNCATED_NEGATIVE_BINOMIAL, 0.3)):
        for y in (1.0, 2.0, 30.0):
            at = np.array([[terms(given, y, e + s, shape)[0] for s in (-h, 0.0, h)] for e in eta])
            bend[given, y] = (at[:, 0] - 2 * at[:, 1] + at[:, 2]) / h**2
    for y in (1.0, 2.0, 30.0):
        expected = [-terms(TRUNCATED_POISSON, y, e, 1.0)[2] for e in eta]
        np.testing.assert_allclose(bend[TRUNCATED_POISSON, y], expected, rtol=1e-3, atol=1e-4)
    convex = bend[TRUNCATED_NEGATIVE_BINOMIAL, 1.0][-1]
    assert abs(convex / (0.3**2 * (np.exp(8.0) / 0.3) ** -0.3) - 1) < 0.15


@pytest.mark.parametrize("family, given, aux", KINDS)
@pytest.mark.parametrize("eta", [-2.0, 1.1, 3.0])
def test_draws(family, given, aux, eta):
    """Chi-square at 1e-4 each; those of a zero-inflated count are rejected where zeros of the count are many."""
    n, count = 20_000, law(family, eta, aux)
    out = np.empty(n)
    draw_rows(np.random.default_rng(1), family, np.ones(n), np.full((n, 1), eta), aux, out)
    y = np.arange(80)
    seen = np.bincount(out.astype(int), minlength=80)[:80]
    right = np.where(y == 0, 0.3, 0.7 * count.pmf(y) / count.sf(0))
    wrong = np.where(y == 0, 0.3 + 0.7 * count.pmf(0), 0.7 * count.pmf(y))
    p_values = []
    for p in (right, wrong):
        many = right * n > 8
        both = np.append(seen[many], n - seen[many].sum()), n * np.append(p[many], 1 - p[many].sum())
        p_values.append(
            stats.chi2.sf(((both[0] - both[1]) ** 2 / np.maximum(both[1], 1e-9)).sum(), many.sum())
        )
    assert p_values[0] > 1e-4 and (p_values[1] < 1e-6 or count.pmf(0) < 1e-3)


@pytest.mark.parametrize("family, given, aux", KINDS)
def test_draws_out_of_range(family, given, aux):
    out = np.empty(4)
    eta = np.array([[0.0], [40.0], [np.nan], [-900.0]])
    draw_rows(np.random.default_rng(1), family, np.ones(4), eta, aux, out)
    assert np.isnan(out).tolist() == [False, True, True, False] and out[3] in (0.0, 1.0)


def test_the_hurdle_is_drawn_from_its_beta_distribution():
    rows = make_rows(HURDLE_POISSON, COUNTS, [9])
    beta, aux, _, _ = state = blank(rows)
    beta[:] = -2.0
    draws = run(rows, make_prior(1, 1, 1), state, lambda: aux[0], 4000, 1, MOVES["aux"])
    hu = np.linspace(0, 1, 2001)[1:-1]
    has_quantiles(draws, hu, stats.beta(1 + 4, 1 + 5).logpdf(hu))
    with pytest.raises(AssertionError):  # zeros of the count as well
        pmf = stats.poisson.pmf(COUNTS, np.exp(-2.0))
        has_quantiles(draws, hu, np.log(hu[:, None] * (COUNTS == 0) + (1 - hu[:, None]) * pmf).sum(1))


@pytest.mark.parametrize("eta", [-0.5, 1.2])
def test_shape_alone(eta):
    """Against a grid; the shape of an untruncated count differs."""
    family = HURDLE_NEGATIVE_BINOMIAL
    rows, prior = make_rows(family, COUNTS, [9]), make_prior(1, 1, 1)._replace(shape_scale=0.7)
    beta, aux, _, _ = state = blank(rows)
    beta[:] = eta
    draws = run(rows, prior, state, lambda: np.log(aux[0]), 8000, 2, MOVES["aux"])
    log_k = np.linspace(-8, 16, 481)
    k, some, v = np.exp(log_k)[:, None], COUNTS[COUNTS > 0], np.exp(-log_k / 2)
    count = stats.nbinom(k, k / (k + np.exp(eta)))
    log_prior = np.log(v) - 2 * np.log1p(v**2 / (3 * 0.49))
    has_quantiles(draws, log_k, (count.logpmf(some) - np.log(count.sf(0))).sum(1) + log_prior)
    with pytest.raises(AssertionError):
        has_quantiles(draws, log_k, count.logpmf(some).sum(1) + log_prior)


def test_the_truncation_is_in_the_moves_of_coefficients():
    """Ones and twos alone: without the truncation the mean would be 1.3, with it the mean is small."""
    y = np.array([1.0, 1.0, 2.0, 0.0, 1.0, 0.0])
    rows, prior = make_rows(HURDLE_POISSON, y, [6]), make_prior(1, 1, 1)
    beta, _, Psi, _ = state = blank(rows)
    Psi[:] = 0.01
    draws = run(rows, prior, state, lambda: beta[0, 0], 6000, 1, MOVES["fixed"])
    grid = np.linspace(-9, 4, 2001)
    sd = prior.Q0[0, 0] ** -0.5
    log_prior = stats.norm(prior.t0[0] * sd**2, sd).logpdf(grid)
    mu, some = np.exp(grid)[:, None], y[y > 0]
    log_p = stats.poisson.logpmf(some, mu) - np.log(-np.expm1(-mu))
    has_quantiles(draws, grid, log_p.sum(1) + log_prior)
    with pytest.raises(AssertionError):
        has_quantiles(draws, grid, stats.poisson.logpmf(some, mu).sum(1) + log_prior)


@pytest.mark.parametrize("move", ["effects", "fixed"])
def test_coefficients_where_the_density_is_not_concave(move):
    """A shape far below one, two ones, a wide prior: a third of the posterior is where the density is convex."""
    y, k, sd = np.array([1.0, 1.0]), 0.05, 2.0
    rows, prior = make_rows(HURDLE_NEGATIVE_BINOMIAL, y, [2]), make_prior(1, 1, 1)
    prior = prior._replace(Q0=np.eye(1) / sd**2, t0=np.zeros(1))
    beta, aux, Psi, B = state = blank(rows)
    aux[:], Psi[:] = (k, 0.3), sd**2
    grid = np.linspace(-9, 16, 3001)
    count = stats.nbinom(k, k / (k + np.exp(grid[:, None])))
    log_p = (count.logpmf(y) - np.log(count.sf(0))).sum(1)
    bend = np.gradient(np.gradient(log_p, grid), grid)
    log_p += stats.norm.logpdf(grid, 0, sd)
    weight = np.exp(log_p - logsumexp(log_p))
    assert weight[bend > 0].sum() > 0.2
    read = (lambda: beta[0, 0]) if move == "fixed" else lambda: B[0, 0, 0]
    has_quantiles(run(rows, prior, state, read, 20_000, 1, MOVES[move]), grid, log_p)


def test_intercept_and_slope():
    """The move of both, against a grid of both."""
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(14), rng.normal(size=14)])
    y = rng.poisson(np.exp(-0.5 + 0.8 * X[:, 1])).astype(float)
    rows, prior = make_rows(HURDLE_POISSON, y, [14], X), make_prior(2, 1, 1)
    beta, _, _, _ = state = blank(rows)
    draws = run(rows, prior, state, lambda: beta[:, 0].copy(), 20_000, 1, MOVES["fixed"])
    grids = np.linspace(-14, 8, 441), np.linspace(-8, 10, 361)
    a, b = np.meshgrid(*grids, indexing="ij")
    log_p = -0.5 * (prior.Q0[0, 0] * a**2 + prior.Q0[1, 1] * b**2) + prior.t0[0] * a + prior.t0[1] * b
    for j in np.flatnonzero(y > 0):
        eta = a + b * X[j, 1]
        log_p += y[j] * eta - np.exp(eta) - np.log(-np.expm1(-np.exp(eta)))
    for k in range(2):
        has_quantiles(draws[:, k], grids[k], logsumexp(log_p, axis=1 - k))

"""Rescaling effects with their covariance: the posterior does not change, and is reached sooner.

A random-intercept model with Sigma and beta known leaves one parameter, the sd of the effects, whose posterior
under a half-t prior can be computed by quadrature.
"""

import numpy as np
import pytest
from numba import njit
from scipy.stats import norm, t

from bayesimp.kernels.normal.effects import draw_effects, moments, pattern_weights
from bayesimp.kernels.normal.rescale import rescale_effects
from bayesimp.kernels.normal.statistics import collect

CLUSTERS, ROWS, NU, SCALE = 5, 6, 2.0, 1.0
ITERATIONS = 20_000
PROBS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])


@njit
def rescale(rng, d, W, m, beta, B, Psi, Psi_inverse):
    return rescale_effects(rng, NU, np.array([SCALE]), d, W, m, beta, B, Psi, Psi_inverse)


def data():
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(CLUSTERS), ROWS)
    y = rng.normal(size=CLUSTERS)[codes] * 0.3 + rng.normal(size=len(codes))
    y[::5] = np.nan
    return y, codes


def exact_quantiles(y, codes):
    """Quantiles of the sd given means of clusters: ybar_i ~ N(0, sd^2 + 1/n_i)."""
    sd = np.exp(np.linspace(np.log(1e-6), np.log(60), 200_000))
    log_density = np.log(2 * t(NU).pdf(sd / SCALE)) + np.log(sd)  # on the log scale
    for i in range(CLUSTERS):
        own = y[(codes == i) & ~np.isnan(y)]
        log_density += norm(0, np.sqrt(sd**2 + 1 / len(own))).logpdf(own.mean())
    cdf = np.cumsum(np.exp(log_density - log_density.max()))
    return np.interp(PROBS, cdf / cdf[-1], sd)


def chain(y, codes, d, seed=0):
    """Draws of the sd by Gibbs: B | Psi, rescaled unless d is None, then Psi | B with its auxiliary variable."""
    rng = np.random.default_rng(seed)
    one = np.ones((len(y), 1))
    m = moments(collect(one, one, y[:, None], codes, CLUSTERS))
    W, _ = pattern_weights(np.eye(1), m.patterns)
    beta, B, Psi = np.zeros((1, 1)), np.empty((CLUSTERS, 1, 1)), np.eye(1)
    out = np.empty(ITERATIONS)
    for k in range(ITERATIONS):
        inverse = 1 / Psi
        assert draw_effects(rng, W, inverse, m, beta, B)
        if d is not None:
            rescale(rng, d, W, m, beta, B, Psi, inverse)
            np.testing.assert_allclose(inverse * Psi, 1, rtol=1e-9)
        one_over_a = rng.gamma((NU + 1) / 2) / (NU / Psi[0, 0] + SCALE**-2)
        Psi[0, 0] = (NU * one_over_a + (B**2).sum() / 2) / rng.gamma((NU + CLUSTERS) / 2)
        out[k] = np.sqrt(Psi[0, 0])
    return out


def z_scores(draws, exact):
    """(P(draw <= exact quantile) - p) in Monte Carlo standard errors from 50 batches."""
    below = draws[:, None] <= exact
    batches = below.reshape(50, -1, len(PROBS)).mean(1)
    return (below.mean(0) - PROBS) / (batches.std(0, ddof=1) / np.sqrt(50))


LIMIT = norm.isf(0.001 / len(PROBS) / 2)  # level 0.001, Bonferroni over the quantiles


def test_posterior_is_unchanged():
    y, codes = data()
    z = z_scores(chain(y, codes, d=1), exact_quantiles(y, codes))
    assert np.abs(z).max() < LIMIT, z


@pytest.mark.parametrize("d", [0, 2])
def test_wrong_power_of_the_jacobian_is_noticed(d):
    y, codes = data()
    z = z_scores(chain(y, codes, d=d), exact_quantiles(y, codes))
    assert np.abs(z).max() > LIMIT, z


def test_mixes_better():
    """The reason for the move: autocorrelation of log sd at lag 20."""
    y, codes = data()
    lag = {d: autocorrelation(np.log(chain(y, codes, d=d)), 20) for d in (1, None)}
    assert lag[1] < 0.5 * lag[None], lag


def autocorrelation(x, k):
    x = x - x.mean()
    return (x[:-k] * x[k:]).mean() / x.var()

"""Sigma with fixed entries: the steps against importance sampling from its density on the free entries.

Proposals draw free correlations uniformly and standard deviations from wide log-t laws; those that are not positive
definite weigh nothing. Weights are the density of the prior on the whole matrix, from `kernels.covariance.density` or
SciPy, times the Jacobian, times the density of n residuals with cross product S. Means and mean squares of the free
entries are compared in standard errors (batch means of the steps, the delta method of the weights): Bonferroni, level
1e-4.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.stats import invwishart, norm
from scipy.stats import t as student

from bayesimp.joint.latent.prior import GivenEntries, residual_prior
from bayesimp.kernels.covariance.density import huang_wand, lkj
from bayesimp.kernels.latent import residual
from bayesimp.kernels.latent.residual import residual_steps
from bayesimp.priors import LKJ, Diagonal, Fixed, HalfNormal, HalfT, HuangWand, InverseWishart
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni

NAN = np.nan
# a number, a binary variable, and the two utilities of a nominal one
ENTRIES = np.array([[NAN, NAN, NAN, NAN], [NAN, 1, NAN, NAN], [NAN, NAN, 1, 0.5], [NAN, NAN, 0.5, 1]])
SCALES = np.array([0.8, 1.0, 1.0, 1.0])
V = np.array([[1.0, 0.2, 0, 0], [0.2, 0.7, 0.1, 0], [0, 0.1, 0.6, 0], [0, 0, 0, 0.5]])
PRIORS = {
    "LKJ(1)": LKJ(1.0, HalfT(scale=SCALES, nu=4.0)),
    "LKJ(3)": LKJ(3.0, HalfNormal(scale=SCALES)),
    "Huang-Wand": HuangWand(scale=SCALES, nu=4.0),
    "inverse-Wishart": InverseWishart(7.0, V),
}
ROWS = 6


def log_prior(prior, S: np.ndarray) -> float:
    """Of the whole matrix, with respect to its entries."""
    match prior:
        case InverseWishart():
            return invwishart.logpdf(S, prior.nu, np.linalg.inv(prior.V))
        case HuangWand():
            return huang_wand(S, prior.nu, prior.scales)[0]
    return lkj(S, prior.eta, prior.sd.scales, prior.sd.degrees, prior.sd.family)[0]


def cross_product() -> np.ndarray:
    E = np.random.default_rng(5).normal(size=(ROWS, 4)) @ np.linalg.cholesky(np.linalg.inv(V)).T * 0.7
    return E.T @ E


@cache
def proposed(size: int = 400_000) -> tuple[np.ndarray, np.ndarray]:
    """Proposals (k, 4, 4) that are positive definite, the same for all priors, and log s (k,)."""
    rng = np.random.default_rng(20261129)
    free = [(i, j) for i in range(4) for j in range(i) if np.isnan(ENTRIES[i, j])]
    R = np.tile(np.where(np.isnan(ENTRIES), np.eye(4), ENTRIES), (size, 1, 1))
    for i, j in free:
        R[:, i, j] = R[:, j, i] = rng.uniform(-1, 1, size)
    R = R[np.linalg.eigvalsh(R).min(axis=1) > 1e-9]
    log_s = -0.2 + 0.7 * rng.standard_t(4, len(R))
    D = np.ones((len(R), 4))
    D[:, 0] = np.exp(log_s)
    return R * D[:, :, None] * D[:, None, :], log_s


@cache
def log_priors(name: str) -> np.ndarray:
    """Of the proposals."""
    return np.array([log_prior(PRIORS[name], x) for x in proposed()[0]])


def weighted(name: str, n: int, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Proposals and their weights."""
    Sigma, log_s = proposed()
    inverse = np.linalg.inv(Sigma)
    # (log s, correlations) -> entries of Sigma: 2 s^2 for the variance, s for each of three covariances
    log_w = 5 * log_s - student.logpdf(log_s, 4, -0.2, 0.7)
    log_w += log_priors(name)
    log_w -= 0.5 * (n * np.linalg.slogdet(Sigma)[1] + np.einsum("kij,ji->k", inverse, S))
    return Sigma, np.exp(log_w - log_w.max())


def free_entries(Sigma: np.ndarray) -> np.ndarray:
    """(..., 12) log s, correlations that are free, and their squares."""
    s = np.sqrt(Sigma[..., 0, 0])
    entries = [np.log(s)] + [Sigma[..., k, 0] / s for k in (1, 2, 3)] + [Sigma[..., k, 1] for k in (2, 3)]
    x = np.stack(entries, axis=-1)
    return np.concatenate([x, x**2], axis=-1)


def compared(name: str, n: int, spoiled=None, draws: int = 40_000) -> float:
    """p-value; spoiled: record -> wrong record."""
    S = cross_product() if n else np.zeros((4, 4))
    Sigma, w = weighted(name, n, S)
    x, w = free_entries(Sigma), w / w.sum()
    expected = w @ x
    error = np.sqrt((w**2) @ (x - expected) ** 2)
    assert 1 / (w**2).sum() > 1000
    _, record = residual_prior(PRIORS[name], ENTRIES)
    record = record if spoiled is None else spoiled(record)
    start, out = np.where(np.isnan(ENTRIES), np.eye(4), ENTRIES), np.empty((draws, 4, 4))
    rng = np.random.Generator(np.random.PCG64(3))
    assert residual_steps(rng, record, S, n, start, out)
    np.testing.assert_array_equal(
        out[:, ~np.isnan(ENTRIES)], np.tile(ENTRIES[~np.isnan(ENTRIES)], (draws, 1))
    )
    mean, se = batch_means(free_entries(out)[None, draws // 20 :], 100)
    return bonferroni(2 * norm.sf(np.abs(mean - expected) / np.hypot(se, error)))


@pytest.mark.parametrize("n", [0, ROWS])
@pytest.mark.parametrize("name", PRIORS)
def test_steps_have_the_stated_density(name, n):
    assert compared(name, n) > LEVEL


def test_a_step_without_the_prior_of_correlations_is_rejected():
    assert compared("LKJ(3)", 0, lambda record: record._replace(eta=1.0)) < REJECTED


def test_a_step_with_another_degree_of_freedom_is_rejected():
    assert compared("Huang-Wand", ROWS, lambda record: record._replace(nu=8.0)) < REJECTED


def test_a_matrix_without_fixed_entries_has_its_inverse_wishart_law():
    """Three free standard deviations: the step of each reads the inverse of Sigma as the one before has left it.

    Means of log s_k and atanh of the correlations, of their squares and products, against exact draws. With the inverse
    of the beginning, the largest z is above 25.
    """
    nu, n, free = 5.0, 3, ~np.eye(3, dtype=bool)
    scale = np.array([[1.0, 0.7, 0], [0.7, 0.8, 0.2], [0, 0.2, 0.5]])
    S = 5.0 + np.diag([0.3, 0.5, 0.2])
    record = residual.ResidualPrior(
        residual.INVERSE_WISHART, nu, scale, np.ones(3), 1.0, 0, np.ones(3, dtype=bool), free
    )

    def found(Sigma):
        s = np.sqrt(np.einsum("kii->ki", Sigma))
        z = [np.arctanh(Sigma[:, i, j] / (s[:, i] * s[:, j])) for i, j in ((1, 0), (2, 0), (2, 1))]
        x = np.column_stack([np.log(s), *z])
        i, j = np.triu_indices(6)
        return np.hstack([x, x[:, i] * x[:, j]])

    out = np.empty((15_000, 3, 3))
    assert residual_steps(np.random.Generator(np.random.PCG64(2)), record, S, n, np.eye(3), out)
    mean, se = batch_means(found(out)[None, 1000:], 50)

    def p_value(df):
        exact = found(invwishart(df, scale + S).rvs(30_000, random_state=4))
        z = (mean - exact.mean(axis=0)) / np.hypot(se, exact.std(axis=0) / np.sqrt(len(exact)))
        return bonferroni(2 * norm.sf(np.abs(z)))

    assert p_value(nu + n) > LEVEL
    assert p_value(nu + n - 1) < REJECTED


@pytest.mark.parametrize("prior", [Diagonal(HalfT(scale=SCALES)), Diagonal(InverseWishart(6.0, 1.5))])
def test_a_diagonal_prior_leaves_correlations_at_zero_and_draws_the_variance(prior):
    _, record = residual_prior(prior.resolve(SCALES, "Sigma"), ENTRIES)
    assert not record.free_correlation.any()
    S, out = cross_product(), np.empty((60_000, 4, 4))
    start = np.where(np.isnan(ENTRIES), np.eye(4), ENTRIES)
    residual_steps(np.random.Generator(np.random.PCG64(1)), record, S, ROWS, start, out)
    assert (out[:, 0, 1:] == 0).all() and (out[:, 1, 2:] == 0).all() and (out[:, 2, 3] == 0.5).all()
    grid = np.linspace(-2.5, 2.5, 20_001)
    s2 = np.exp(2 * grid)
    if record.kind == residual.SCALES:
        log_p = grid - 2 * np.log1p(s2 / SCALES[0] ** 2 / 3)
    else:
        log_p = -6.0 * grid - 1 / (2 * 1.5 * s2)
    log_p += -ROWS * grid - S[0, 0] / (2 * s2)
    w = np.exp(log_p - log_p.max())
    expected = np.array([w @ grid, w @ grid**2]) / w.sum()
    x = 0.5 * np.log(out[:, 0, 0])
    mean, se = batch_means(np.stack([x, x**2], axis=-1)[None], 100)
    assert bonferroni(2 * norm.sf(np.abs(mean - expected) / se)) > LEVEL


def test_a_known_matrix_has_the_fixed_entries():
    good = np.where(np.isnan(ENTRIES), np.eye(4), ENTRIES)
    assert residual_prior(Fixed(good), ENTRIES)[1].kind == residual.KNOWN
    with pytest.raises(ValueError, match=r"residual variance 1.*covariances of 1/2"):
        residual_prior(Fixed(np.eye(4)), ENTRIES)


def test_the_prior_can_be_drawn_from():
    prior = GivenEntries(PRIORS["LKJ(1)"], ENTRIES)
    draws = prior.draw(np.random.default_rng(2), 4, 4000)
    Sigma, w = weighted("LKJ(1)", 0, np.zeros((4, 4)))
    expected = w @ free_entries(Sigma) / w.sum()
    mean, se = batch_means(free_entries(draws)[None], 40)
    assert (np.abs(mean - expected) < 5 * se + 0.02).all()
    text = prior.describe(["y", "b", "c[1]", "c[2]"])
    assert "variances of 1 (b, c[1], c[2])" in text and "1/2" in text

"""Residual covariances of clusters with latent variables: the block of these is that of S in every cluster.

The formulas of kernels/latent/residual_likelihood.py against SciPy's inverse-Wishart densities by Bayes' theorem, the
steps against importance sampling, and the matrices against inverse-Wishart draws turned into draws given their block.
The latent column comes first or last. Bonferroni, level 1e-4.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import halfnorm, invwishart
from scipy.stats import t as student

from bayesimp.joint.latent.prior import residual_prior
from bayesimp.kernels.latent.cluster_residuals import cluster_residual_steps
from bayesimp.kernels.latent.records import NUMBER, UTILITY
from bayesimp.priors import Fixed, InverseWishart
from tests.calibration.latent_clusters import given_block
from tests.calibration.montecarlo import LEVEL, REJECTED, two_samples
from tests.kernels.latent.test_cluster_residuals import SPREAD, N, compared, cross_products

PRIOR = InverseWishart(6.0, np.array([[0.5, 0.1], [0.1, 0.3]]))


def log_likelihood(T: np.ndarray, S: np.ndarray, a: np.ndarray, latent: int) -> np.ndarray:
    """(k,) the formula of the kernel's module at S (k, r, r), a (k,), the last `latent` columns latent."""
    r, r1 = S.shape[-1], S.shape[-1] - latent
    nu, A, block = a + r - 1, a[:, None, None] * S, S[:, r1:, r1:]
    total = np.zeros(len(S))
    for n, t in zip(N, T, strict=True):
        if n:
            total -= 0.5 * (
                n * logdet(block) + np.trace(np.linalg.inv(block) @ t[r1:, r1:], axis1=1, axis2=2)
            )
            total += sum(gammaln((nu + n - k) / 2) - gammaln((nu - k) / 2) for k in range(r1))
            total += 0.5 * nu * schur(A, r1) - 0.5 * (nu + n) * schur(A + t, r1)
            total += 0.5 * r1 * (logdet(A[:, r1:, r1:]) - logdet((A + t)[:, r1:, r1:]))
    return total


def logdet(A: np.ndarray) -> np.ndarray:
    return np.linalg.slogdet(A)[1]


def schur(A: np.ndarray, r1: int) -> np.ndarray:
    """log |A_11.2|."""
    return logdet(A) - logdet(A[..., r1:, r1:])


def by_bayes(T: np.ndarray, S: np.ndarray, a: float, latent: int, at: np.ndarray) -> float:
    """The same up to a constant: p(residuals | Sigma_i) p(Sigma_i | block) / p(Sigma_i | residuals, block)."""
    r, r1 = len(S), len(S) - latent
    Sigma, total = given_block(at, S[r1:, r1:]), 0.0

    def given(nu: float, A: np.ndarray) -> float:
        return invwishart.logpdf(Sigma, nu, A) - invwishart.logpdf(S[r1:, r1:], nu - r1, A[r1:, r1:])

    for n, t in zip(N, T, strict=True):
        if n:
            total -= 0.5 * (n * logdet(Sigma) + np.trace(np.linalg.solve(Sigma, t)))
            total += given(a + r - 1, a * S) - given(a + r - 1 + n, a * S + t)
    return total


@pytest.mark.parametrize("latent", [1, 2])
def test_the_density_of_cross_products(latent):
    rng, T, gaps = np.random.default_rng(4), cross_products(3), []
    for a in (0.7, 3.0, 40.0):
        F = rng.normal(size=(2, 3, 6))
        S, at = F[0] @ F[0].T / 6, F[1] @ F[1].T / 6  # whatever Sigma_i
        gaps.append(by_bayes(T, S, a, latent, at) - log_likelihood(T, S[None], np.array([a]), latent)[0])
    assert np.ptp(gaps) < 1e-8


def columns(first: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where number and latent variable are, kinds, and the fixed entries."""
    order = np.array([1, 0] if first else [0, 1])  # of [number, latent]
    kind = np.array([NUMBER, UTILITY], dtype=np.int64)[order]
    entries = np.full((2, 2), np.nan)
    entries[order[1], order[1]] = 1.0  # an involution: the place of the latent one
    return order, kind, entries


def quantities(S: np.ndarray, h: np.ndarray) -> np.ndarray:
    """(..., 6): log standard deviation of the number, the correlation, h; and squares. S: number, then latent."""
    s = np.sqrt(S[..., 0, 0])
    x = np.stack([np.log(s), S[..., 0, 1] / s, h], axis=-1)
    return np.concatenate([x, x**2], axis=-1)


def expected(size: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Means of `quantities` and their standard errors, by importance sampling."""
    rng, T = np.random.default_rng(1), cross_products(2)
    centre = 0.5 * np.log(T[:, 0, 0].sum() / N.sum())
    log_s = centre + 0.35 * rng.standard_t(5, size)
    h, rho = halfnorm(0, 0.7).rvs(size, random_state=rng), rng.uniform(-0.999, 0.999, size)
    S = np.ones((size, 2, 2))
    S[:, 0, 0] = np.exp(2 * log_s)
    S[:, 0, 1] = S[:, 1, 0] = rho * np.exp(log_s)
    log_w = (
        halfnorm.logpdf(h, 0, SPREAD)
        - halfnorm.logpdf(h, 0, 0.7)
        - student.logpdf((log_s - centre) / 0.35, 5)
    )
    # the inverse-Wishart density given a variance of 1, of the other log standard deviation and the correlation
    nu, V = PRIOR.numbers
    log_w += 3 * log_s - 0.5 * (nu + 3) * logdet(S)
    log_w -= 0.5 * np.trace(np.linalg.inv(V) @ np.linalg.inv(S), axis1=1, axis2=2)
    log_w += log_likelihood(T, S, 2 / h**2, 1)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    x = quantities(S, h)
    mean = w @ x
    return mean, np.sqrt((w[:, None] ** 2 * (x - mean) ** 2).sum(axis=0))


def stepped(first: bool, kinds: np.ndarray | None = None, draws: int = 4_000) -> np.ndarray:
    """(4, draws, 6) `quantities` of four chains."""
    order, kind, entries = columns(first)
    scale, out = np.linalg.inv(PRIOR.numbers[1]), []
    own = InverseWishart(PRIOR.numbers[0], np.linalg.inv(scale[np.ix_(order, order)]))
    _, prior = residual_prior(own, entries, by_element=True)
    T = np.ascontiguousarray(cross_products(2)[:, order][:, :, order])
    for chain in range(4):
        rng, S, a = np.random.default_rng([3, chain]), np.eye(2), np.array([8.0])
        Ss, As, Sigma = np.empty((draws, 2, 2)), np.empty(draws), np.tile(np.eye(2), (len(N), 1, 1))
        given = kind if kinds is None else kinds
        assert cluster_residual_steps(rng, prior, SPREAD, given, N, T, S, a, Sigma, Ss, As)
        out.append(quantities(Ss[:, order][:, :, order], np.sqrt(2 / As)))
    return np.array(out)


def test_typical_covariance_and_likeness():
    truth = expected()
    for first in (False, True):
        assert compared(stepped(first), *truth) > LEVEL
    assert compared(stepped(False, np.zeros(2, dtype=np.int64)), *truth) < REJECTED  # both taken for numbers


def test_matrices_are_inverse_wishart_given_the_block_of_s():
    S0, T = np.array([[0.8, 0.3, 0.4], [0.3, 1.0, 0.5], [0.4, 0.5, 1.0]]), cross_products(3)
    kind = np.array([NUMBER, UTILITY, UTILITY], dtype=np.int64)
    entries = np.full((3, 3), np.nan)
    entries[1:, 1:] = S0[1:, 1:]
    _, prior = residual_prior(Fixed(S0), entries, by_element=True)
    rng, ours, right, free = np.random.default_rng(2), [], [], []
    for _ in range(1_200):
        S, a, Sigma = S0.copy(), np.array([6.0]), np.tile(np.eye(3), (len(N), 1, 1))
        Ss, As = np.empty((1, 3, 3)), np.empty(1)
        assert cluster_residual_steps(rng, prior, SPREAD, kind, N, T, S, a, Sigma, Ss, As)
        assert np.array_equal(S, S0) and np.array_equal(Sigma[:, 1:, 1:], np.tile(S0[1:, 1:], (len(N), 1, 1)))
        ours.append(Sigma)
        drawn = [
            invwishart(As[0] + 2 + n, As[0] * S0 + t).rvs(random_state=rng) for n, t in zip(N, T, strict=True)
        ]
        right.append([given_block(x, S0[1:, 1:]) for x in drawn])
        free.append(drawn)
    a, b, c = (
        np.concatenate([x[:, :, 0].reshape(len(x), -1), np.log(x[:, :, 0, 0])], axis=1)
        for x in map(np.array, (ours, right, free))
    )
    a, b, c = (np.tanh(x / 2) for x in (a, b, c))  # heavy tails where a cluster is empty
    assert two_samples(a, b) > LEVEL
    assert two_samples(a, c) < REJECTED

"""Residual covariances of clusters: S and a against importance sampling, the matrices against their conditional law.

p(T | S, a), the matrices integrated out, is checked by Bayes' theorem with SciPy's inverse-Wishart densities. Proposals
of S and h are wide. Means and mean squares in standard errors (batch means of the steps, the delta method of the
weights): Bonferroni, level 1e-4.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import halfnorm, invwishart, norm
from scipy.stats import t as student

from bayesimp.joint.latent.prior import residual_prior
from bayesimp.kernels.latent.cluster_residuals import cluster_residual_steps
from bayesimp.priors import LKJ, Diagonal, Fixed, HalfT, HuangWand, InverseWishart
from tests.calibration.montecarlo import LEVEL, REJECTED, batch_means, bonferroni, means, with_products
from tests.kernels.latent.test_residual import log_prior

SPREAD = 0.5
N = np.array([6, 9, 0, 4, 12, 7])
SCALES = np.array([0.8, 1.3])
NUMBERS = np.zeros(3, dtype=np.int64)


def cross_products(r: int) -> np.ndarray:
    rng = np.random.default_rng(9)
    T = np.zeros((len(N), r, r))
    for i, n in enumerate(N):
        E = rng.normal(size=(n, r)) * rng.uniform(0.4, 1.6, r) @ (np.eye(r) + 0.4 * np.tri(r, k=-1)).T
        T[i] = E.T @ E
    return T


def log_likelihoods(T: np.ndarray, S: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(k,) log p(T | S, a), S (k, r, r), a (k,): the formula of the kernel's module."""
    r, nu = S.shape[-1], a + S.shape[-1] - 1
    total = np.zeros(len(S))
    for n, t in zip(N, T, strict=True):
        A = a[:, None, None] * S
        total += multigammaln((nu + n) / 2, r) - multigammaln(nu / 2, r) if n else 0.0
        total += 0.5 * nu * np.linalg.slogdet(A)[1] - 0.5 * (nu + n) * np.linalg.slogdet(A + t)[1]
    return total


def multigammaln(x: np.ndarray, r: int) -> np.ndarray:
    return sum(gammaln(x - k / 2) for k in range(r))


def by_bayes(T: np.ndarray, S: np.ndarray, a: float) -> float:
    """The same up to a constant: p(residuals | Sigma_i) p(Sigma_i) / p(Sigma_i | residuals), whatever Sigma_i."""
    r, total = len(S), 0.0
    at = np.eye(r) + 0.2
    for n, t in zip(N, T, strict=True):
        if n:
            total -= 0.5 * (n * np.linalg.slogdet(at)[1] + np.trace(np.linalg.solve(at, t)))
            total += invwishart.logpdf(at, a + r - 1, a * S) - invwishart.logpdf(at, a + r - 1 + n, a * S + t)
    return total


def quantities(S: np.ndarray, h: np.ndarray) -> np.ndarray:
    """(..., 2 q): log standard deviations, the correlation, h; and squares."""
    s = np.sqrt(np.diagonal(S, axis1=-2, axis2=-1))
    x = [*np.moveaxis(np.log(s), -1, 0), h]
    if S.shape[-1] > 1:
        x.append(S[..., 0, 1] / s[..., 0] / s[..., 1])
    x = np.stack(x, axis=-1)
    return np.concatenate([x, x**2], axis=-1)


def expected(prior, r: int, spread: float = SPREAD, size: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Means of `quantities` and their standard errors."""
    rng, T = np.random.default_rng(1), cross_products(r)
    centre = np.log(np.sqrt(np.diagonal(T.sum(0)) / N.sum()))
    log_s = centre + 0.35 * rng.standard_t(5, (size, r))
    h = halfnorm(0, 0.7).rvs(size, random_state=rng)
    rho = rng.uniform(-0.95, 0.95, size) if r > 1 and not isinstance(prior, Diagonal) else np.zeros(size)
    S = np.exp(log_s)[:, :, None] * np.exp(log_s)[:, None, :]
    if r > 1:
        S[:, 0, 1] *= rho
        S[:, 1, 0] *= rho
    log_w = -student.logpdf((log_s - centre) / 0.35, 5).sum(axis=1)
    log_w += halfnorm.logpdf(h, 0, spread) - halfnorm.logpdf(h, 0, 0.7)
    log_w += np.array([of_scales(prior, x) for x in S])
    log_w += log_likelihoods(T, S, 2 / h**2)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    x = quantities(S, h)
    mean = w @ x
    return mean, np.sqrt((w[:, None] ** 2 * (x - mean) ** 2).sum(axis=0))


def of_scales(prior, S: np.ndarray) -> float:
    """Log density of log standard deviations and the correlation."""
    s = np.sqrt(np.diag(S))
    if isinstance(prior, Diagonal):
        return float((np.log(s) - 0.5 * 4.0 * np.log1p((s / SCALES[: len(s)]) ** 2 / 3.0)).sum())
    r = len(s)
    return log_prior(prior, S) + (r + 1) * float(np.log(s).sum())


def stepped(prior, r: int, draws: int = 3_000, spread: float = SPREAD) -> np.ndarray:
    """(4, draws, ..) `quantities` of four chains."""
    out = []
    _, kernel_prior = residual_prior(prior, np.full((r, r), np.nan), by_element=True)
    for chain in range(4):
        rng, S, a = np.random.default_rng([3, chain]), np.eye(r), np.array([8.0])
        Ss, As = np.empty((draws, r, r)), np.empty(draws)
        Sigma = np.tile(np.eye(r), (len(N), 1, 1))
        assert cluster_residual_steps(
            rng, kernel_prior, spread, NUMBERS[:r], N, cross_products(r), S, a, Sigma, Ss, As
        )
        out.append(quantities(Ss, np.sqrt(2 / As)))
    return np.array(out)


PRIORS = {
    "inverse-Wishart, 1": (InverseWishart(5.0, 0.3 * np.eye(1)), 1),
    "inverse-Wishart, 2": (InverseWishart(6.0, np.array([[0.5, 0.1], [0.1, 0.3]])), 2),
    "Huang-Wand, 2": (HuangWand(scale=SCALES, nu=4.0), 2),
    "LKJ, 2": (LKJ(2.0, HalfT(scale=SCALES, nu=4.0)), 2),
    "diagonal, 2": (Diagonal(HalfT(scale=SCALES, nu=3.0)), 2),
}


def compared(x: np.ndarray, mean: np.ndarray, error: np.ndarray) -> float:
    found, own = batch_means(x, 30)
    keep = own > 1e-10  # the correlation of a diagonal S
    z = np.abs(found - mean)[keep] / np.hypot(own, error)[keep]
    return bonferroni(2 * norm.sf(z))


def test_the_density_of_cross_products():
    rng = np.random.default_rng(4)
    for r in (1, 2):
        T, gaps = cross_products(r), []
        for a in (0.7, 3.0, 40.0):
            S = rng.uniform(0.5, 2.0, r) * np.eye(r) + 0.2
            gaps.append(by_bayes(T, S, a) - log_likelihoods(T, S[None], np.array([a]))[0])
        assert np.ptp(gaps) < 1e-8


@pytest.mark.parametrize("name", PRIORS)
def test_typical_covariance_and_likeness(name):
    prior, r = PRIORS[name]
    assert compared(stepped(prior, r), *expected(prior, r)) > LEVEL


def test_other_priors_are_told_apart():
    prior, r = PRIORS["inverse-Wishart, 2"]
    x = stepped(prior, r)
    assert compared(x, *expected(prior, r, spread=0.2)) < REJECTED
    assert compared(x, *expected(InverseWishart(9.0, np.array([[0.5, 0.1], [0.1, 0.3]])), r)) < REJECTED


def test_matrices_have_their_conditional_law_and_a_known_s_stays():
    """Given S and a (held in 20,000 first steps from one state), Sigma_i^-1 has the mean of its Wishart law."""
    r, T = 2, cross_products(2)
    S0 = np.array([[1.0, 0.3], [0.3, 0.6]])
    _, prior = residual_prior(Fixed(S0), np.full((r, r), np.nan), by_element=True)
    whitened, rng = [], np.random.default_rng(2)
    for _ in range(4_000):
        S, a, Sigma = S0.copy(), np.array([6.0]), np.tile(np.eye(r), (len(N), 1, 1))
        Ss, As = np.empty((1, r, r)), np.empty(1)
        assert cluster_residual_steps(rng, prior, SPREAD, NUMBERS[:r], N, T, S, a, Sigma, Ss, As)
        assert np.array_equal(S, S0)
        scale, nu = As[0] * S0 + T, As[0] + r - 1 + N
        L = np.linalg.cholesky(scale)
        # L' Sigma_i^-1 L ~ Wishart(nu, I): less its mean, over the standard deviation of a diagonal element
        W = np.einsum("ikj,ikl,ilm->ijm", L, np.linalg.inv(Sigma), L) - nu[:, None, None] * np.eye(r)
        whitened.append((W / np.sqrt(2 * nu)[:, None, None])[:, [0, 1, 1], [0, 1, 0]].ravel())
    x = np.array(whitened)
    i, j = np.tril_indices(x.shape[1])
    target = np.where(i == j, np.tile([1.0, 1.0, 0.5], len(N))[i], 0.0)
    assert means(with_products(x), np.concatenate([np.zeros(x.shape[1]), target])) > LEVEL
    assert means(with_products(1.15 * x), np.concatenate([np.zeros(x.shape[1]), target])) < LEVEL


def test_clusters_almost_alike():
    """With h near 0, S has the posterior of a common Sigma, IW(6 + n, ...); with no bound on a, S could fall to 0."""
    scale = np.array([[0.5, 0.1], [0.1, 0.3]])
    _, prior = residual_prior(InverseWishart(6.0, scale), np.full((2, 2), np.nan), by_element=True)
    S, a, draws = np.eye(2), np.array([1e9]), 2_000
    Ss, As, Sigma = np.empty((draws, 2, 2)), np.empty(draws), np.tile(np.eye(2), (len(N), 1, 1))
    rng, T = np.random.default_rng(5), cross_products(2)
    assert cluster_residual_steps(rng, prior, 1e-8, NUMBERS[:2], N, T, S, a, Sigma, Ss, As)
    of_common = invwishart(6 + N.sum(), np.linalg.inv(scale) + T.sum(axis=0))
    mean, error = batch_means(Ss[None, :, [0, 0, 1], [0, 1, 1]], 30)
    z = (mean - of_common.mean()[[0, 0, 1], [0, 1, 1]]) / error
    assert bonferroni(2 * norm.sf(np.abs(z))) > LEVEL
    assert As.max() < 1e10

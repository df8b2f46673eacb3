"""Covariance priors: density, exact draws and free parameters describe one distribution.

Exact draws are pushed through the free parameters and compared with NUTS on density + Jacobian by
Kolmogorov-Smirnov tests of log-variances, a correlation and the log determinant.
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.integrate import quad

from bayesimp import priors
from bayesimp.kernels.covariance import density as kernels
from bayesimp.kernels.covariance import draws
from bayesimp.kernels.covariance import free as free_parameters
from bayesimp.models.covariance import (
    HuangWandCovariance,
    InverseWishartCovariance,
    LKJCovariance,
    ScaleCorrelation,
    covariance,
)
from bayesimp.sampling.nuts import sample_nuts

LEVEL = 1e-3  # of a whole test, shared between its comparisons (Bonferroni)
SD = {
    kernels.HALF_T: lambda nu, scale: stats.t(nu, scale=scale),
    kernels.HALF_NORMAL: lambda nu, scale: stats.norm(scale=scale),
}


def spd(d, seed):
    A = np.random.default_rng(seed).normal(size=(d, d + 3))
    return A @ A.T


# --- density --------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("more", [0.3, 1.0, 4.7])
def test_inverse_wishart_is_scipys(d, more):
    nu, scale, S = d - 1 + more, spd(d, 1), spd(d, 2)
    expected = stats.invwishart(nu, scale).logpdf(S)
    assert_allclose(kernels.inverse_wishart(S, nu, scale)[0], expected, rtol=1e-10)


def test_one_dimension_is_the_density_of_a_squared_standard_deviation():
    # p(S) = p_sd(s) ds/dS = p_sd(s) / (2 s)
    for s in (0.1, 1.0, 7.0):
        S, scale = np.array([[s**2]]), np.array([1.7])
        half_t = np.log(2) + stats.t(2.5, scale=1.7).logpdf(s) - np.log(2 * s)
        assert_allclose(kernels.huang_wand(S, 2.5, scale)[0], half_t, rtol=1e-12)
        assert_allclose(kernels.lkj(S, 2.0, scale, 2.5, kernels.HALF_T)[0], half_t, rtol=1e-12)
        half_normal = np.log(2) + stats.norm(scale=1.7).logpdf(s) - np.log(2 * s)
        assert_allclose(kernels.lkj(S, 2.0, scale, 2.5, kernels.HALF_NORMAL)[0], half_normal, rtol=1e-12)
        exponential = stats.expon(scale=1.7).logpdf(s) - np.log(2 * s)
        assert_allclose(kernels.lkj(S, 2.0, scale, 2.5, kernels.EXPONENTIAL)[0], exponential, rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("nu", [2.0, 3.3])
def test_huang_wand_is_the_mean_over_its_latent_scales(d, nu):
    # p(S) = E_a p(S | a), each a_k integrated by quadrature: IW(S | a) factorises over k up to |S|
    S, scale = spd(d, 3), np.linspace(0.7, 2.0, d)
    K, n = np.linalg.inv(S), nu + d - 1
    expected = stats.invwishart(n, np.eye(d)).logpdf(S) + 0.5 * np.trace(K)
    for k in range(d):
        prior = stats.invgamma(0.5, scale=scale[k] ** -2)

        def given(t, k=k, prior=prior):  # a = e^t
            power = (2 * nu * np.exp(-t)) ** (n / 2)
            return power * np.exp(-nu * K[k, k] * np.exp(-t) + t + prior.logpdf(np.exp(t)))

        expected += np.log(quad(given, -15, 25, limit=400)[0])
    assert_allclose(kernels.huang_wand(S, nu, scale)[0], expected, rtol=1e-7)


@pytest.mark.parametrize("family", [kernels.HALF_T, kernels.HALF_NORMAL])
def test_lkj_in_two_dimensions(family):
    # p(r) = (1 - r^2)^(eta-1) / B(1/2, eta);  S = (s1^2, s1 s2 r, s2^2) has Jacobian 4 s1^2 s2^2
    s, r, eta, scale = np.array([0.6, 2.0]), 0.4, 1.7, np.array([1.0, 3.0])
    S = np.outer(s, s) * np.array([[1, r], [r, 1]])
    expected = stats.beta(eta, eta, loc=-1, scale=2).logpdf(r)
    expected += 2 * np.log(2) - np.log(4) - 2 * np.log(s).sum()
    expected += sum(SD[family](3.0, b).logpdf(a) for a, b in zip(s, scale, strict=True))
    assert_allclose(kernels.lkj(S, eta, scale, 3.0, family)[0], expected, rtol=1e-12)


DENSITIES = {
    "inverse_wishart": lambda S: kernels.inverse_wishart(S, len(S) + 0.5, np.eye(len(S)) + 0.3),
    "huang_wand": lambda S: kernels.huang_wand(S, 2.0, np.linspace(0.5, 2, len(S))),
    "lkj_t": lambda S: kernels.lkj(S, 1.5, np.linspace(0.5, 2, len(S)), 3.0, kernels.HALF_T),
    "lkj_normal": lambda S: kernels.lkj(S, 1.0, np.linspace(2, 5, len(S)), 3.0, kernels.HALF_NORMAL),
    "lkj_exponential": lambda S: kernels.lkj(S, 3.0, np.linspace(0.5, 2, len(S)), 3.0, kernels.EXPONENTIAL),
}


def slope(f, x, direction, e=1e-4):
    """Richardson: error e^4."""
    g = [f(x + k * e * direction) for k in (-2, -1, 1, 2)]
    return (8 * (g[2] - g[1]) - (g[3] - g[0])) / (12 * e)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_slope_of_the_density(name, d):
    S, D = spd(d, 4), np.random.default_rng(5).normal(size=(d, d))
    D = D + D.T
    expected = slope(lambda S: DENSITIES[name](S)[0], S, D)
    assert_allclose((DENSITIES[name](S)[1] * D).sum(), expected, rtol=1e-7)


# --- free parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [True, False])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_free_parameters(d, precision):
    rng = np.random.default_rng(d)
    free = rng.normal(size=d * (d + 1) // 2)
    S, jacobian = free_parameters.from_free(free, precision)
    assert_allclose(free_parameters.to_free(S, precision), free, rtol=1e-8, atol=1e-10)
    lower = np.tril_indices(d)
    columns = [
        slope(lambda x: free_parameters.from_free(x, precision)[0][lower], free, e) for e in np.eye(len(free))
    ]
    assert_allclose(jacobian, np.linalg.slogdet(np.array(columns))[1], rtol=1e-7)
    W, c = rng.normal(size=(d, d)), 0.7

    def f(x):
        S, jacobian = free_parameters.from_free(x, precision)
        return (W * S).sum() + c * jacobian

    expected = [slope(f, free, e) for e in np.eye(len(free))]
    assert_allclose(free_parameters.pull_free(free, precision, S, W, c), expected, rtol=1e-6, atol=1e-7)


# --- draws ----------------------------------------------------------------------------------------


def features(S):
    """Columns that together would show a wrong scale, correlation or determinant."""
    s = np.sqrt(np.einsum("...kk->...k", S))
    out = [np.log(s[..., 0]), np.log(s[..., -1]), np.linalg.slogdet(S)[1]]
    if S.shape[-1] > 1:
        out += [S[..., 0, -1] / (s[..., 0] * s[..., -1]), S[..., 0, 1] / (s[..., 0] * s[..., 1])]
    return np.stack(out, axis=-1)


def p_values(A, B):
    return [stats.ks_2samp(a, b).pvalue for a, b in zip(features(A).T, features(B).T, strict=True)]


def test_marginals_of_exact_draws():
    rng, d, N = np.random.default_rng(6), 3, 20_000
    IW = draws.draw_inverse_wishart(rng, 3.4, spd(d, 7), (N,))
    theirs = stats.invwishart(3.4, spd(d, 7)).rvs(N, random_state=8)
    p = p_values(IW, theirs)
    HW = draws.draw_huang_wand(rng, 2.0, np.array([0.5, 1.0, 4.0]), (N,))
    s = np.sqrt(np.einsum("nkk->nk", HW))
    for k, c in enumerate([0.5, 1.0, 4.0]):
        p.append(stats.kstest(s[:, k] / c, lambda x: 2 * stats.t(2).cdf(x) - 1).pvalue)
    p += [stats.kstest(HW[:, 0, 2] / s[:, 0] / s[:, 2], stats.uniform(-1, 2).cdf).pvalue]
    for eta in (1.0, 2.5):
        L = draws.draw_lkj_covariance(rng, eta, np.ones(4), 3.0, kernels.HALF_NORMAL, (N,))
        s = np.sqrt(np.einsum("nkk->nk", L))
        a = eta + 1  # every correlation: Beta(eta + d/2 - 1) on (-1, 1)
        marginal = stats.beta(a, a, loc=-1, scale=2).cdf
        for j, k in ((0, 1), (0, 3), (2, 3)):
            p.append(stats.kstest(L[:, j, k] / s[:, j] / s[:, k], marginal).pvalue)
    assert min(p) > LEVEL / len(p)


DISTRIBUTIONS = {
    "inverse_wishart": (
        lambda d, **more: InverseWishartCovariance("S", float(d), scale=np.eye(d) + 0.5, **more),
        lambda rng, d, N: draws.draw_inverse_wishart(rng, float(d), np.eye(d) + 0.5, (N,)),
    ),
    "huang_wand": (
        lambda d: HuangWandCovariance("S", 2.0, np.linspace(1, 3, d)),
        lambda rng, d, N: draws.draw_huang_wand(rng, 2.0, np.linspace(1, 3, d), (N,)),
    ),
    "lkj": (
        lambda d: LKJCovariance("S", 1.0, priors.HalfT(nu=3.0, scale=np.linspace(1, 3, d))),
        lambda rng, d, N: draws.draw_lkj_covariance(
            rng, 1.0, np.linspace(1, 3, d), 3.0, kernels.HALF_T, (N,)
        ),
    ),
}


def nuts_against_draws(name, d, seed, draws=6000, thin=6, **variant):
    """(smallest p value times the number of comparisons, divergences)."""
    build, exact = DISTRIBUTIONS[name]
    with pm.Model() as model:
        build(d, **variant)
    settings = {"chains": 2, "tune": 1000, "draws": draws, "evaluate": "pytensor", "target_accept": 0.9}
    out = sample_nuts(model, seed=seed, **settings)
    chain = out.draws["S"][:, ::thin].reshape(-1, d, d)
    p = p_values(chain, exact(np.random.default_rng(seed), d, len(chain)))
    return min(p) * len(p), int(out.stats["diverging"].sum())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_nuts_draws_what_random_draws(name):
    corrected, divergences = nuts_against_draws(name, 3, seed=11)
    assert corrected > LEVEL
    assert divergences <= 2  # of 12,000, at the smallest degrees of freedom


class JacobianWithoutCosh(ScaleCorrelation):
    def log_jac_det(self, value, *inputs):
        return super().log_jac_det(value) - pt.log(pt.cosh(value[3:])).sum()


def test_a_missing_jacobian_term_is_rejected():
    variant = JacobianWithoutCosh(precision=True)
    assert nuts_against_draws("inverse_wishart", 3, seed=11, default_transform=variant)[0] < LEVEL


# python -m pytest tests/models/test_covariance.py -m slow: 9 passed, at most 2 divergences in 12,000 draws
@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_nuts_draws_what_random_draws_in_every_dimension(name, d):
    corrected, divergences = nuts_against_draws(name, d, seed=20 + d)
    assert corrected > LEVEL
    assert divergences <= 2


# --- in PyMC --------------------------------------------------------------------------------------


def test_prior_predictive_and_batches():
    with pm.Model() as model:
        InverseWishartCovariance("A", 2.5, V=np.eye(2))
        HuangWandCovariance("B", 2.0, [1.0, 2.0, 3.0])
        LKJCovariance("C", 2.0, priors.Exponential(scale=np.ones(2)))
    A, B, C = pm.draw([model["A"], model["B"], model["C"]], draws=3, random_seed=1)
    assert A.shape == (3, 2, 2) and B.shape == (3, 3, 3) and C.shape == (3, 2, 2)
    assert pm.draw(HuangWandCovariance.dist(2.0, np.ones(2), size=4), random_seed=1).shape == (4, 2, 2)
    for S in (*A, *B, *C):
        assert np.linalg.eigvalsh(S)[0] > 0


def test_random_hyperparameters_are_refused():
    with pm.Model() as model:
        HuangWandCovariance("S", pm.HalfNormal("nu"), np.ones(2))
    with pytest.raises(Exception, match="hyperparameters are numbers"):
        model.dlogp()


def test_arguments():
    with pytest.raises(ValueError, match="exactly one"):
        InverseWishartCovariance.dist(3.0)


@pytest.mark.parametrize(
    "prior",
    [
        priors.Diagonal(priors.HalfT(scale=np.ones(2))),
        priors.Diagonal(priors.HalfNormal(scale=np.ones(2))),
        priors.Diagonal(priors.Exponential(scale=np.ones(2))),
        priors.Diagonal(priors.InverseWishart(1.0, np.array([1.0, 2.0]))),
        priors.Fixed(np.array([[2.0, 1.0], [1.0, 2.0]])),
    ],
)
def test_diagonal_and_fixed(prior):
    with pm.Model(coords={"a": range(2), "b": range(2)}) as model:
        S = covariance("S", prior, 2, ("a", "b"))
    value = pm.draw(S, random_seed=1)
    if isinstance(prior, priors.Fixed):
        assert_allclose(value, prior.value)
    else:
        assert value[0, 1] == 0 == value[1, 0] and np.all(np.diag(value) > 0)
    assert model.named_vars_to_dims["S"] == ("a", "b")

"""Draws against known distributions (Kolmogorov-Smirnov, level 0.001 each), with wrong variants that fail."""

import numpy as np
import pytest
from scipy import stats

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.priors.draws import draw_correlation_lkj, draw_covariance, draw_sd

SIZE = 4000
SDS = np.array([2.0, 0.5, 10.0])


def fits(x, distribution):
    return stats.kstest(x, distribution.cdf).pvalue > 0.001


def parts(S):
    """(size, d) standard deviations and (size, d, d) correlations."""
    sd = np.sqrt(np.einsum("kaa->ka", S))
    return sd, S / (sd[:, :, None] * sd[:, None, :])


class HalfT:
    def __init__(self, nu, scale):
        self.cdf = lambda x: 2 * stats.t(nu, scale=scale).cdf(x) - 1


@pytest.mark.parametrize("nu", [2.0, 3.5])
def test_huang_wand_is_half_t_on_every_sd(nu):
    prior = pr.resolve(pr.HuangWand(nu=nu, times_sd=1.5), SDS, "Psi")
    sd, _ = parts(draw_covariance(np.random.default_rng(1), prior, 3, SIZE))
    for k in range(3):
        assert fits(sd[:, k], HalfT(nu, 1.5 * SDS[k]))
        assert not fits(sd[:, k], HalfT(nu + 1, 1.2 * SDS[k]))


def test_huang_wand_2_has_uniform_correlations():
    _, R = parts(draw_covariance(np.random.default_rng(2), pr.resolve(pr.HuangWand(), SDS, "Psi"), 3, SIZE))
    for a, b in [(1, 0), (2, 0), (2, 1)]:
        assert fits(R[:, a, b], stats.uniform(-1, 2))


@pytest.mark.parametrize("d", [2, 4])
@pytest.mark.parametrize("eta", [1.0, 2.5])
def test_lkj_correlations_are_beta(eta, d):
    R = draw_correlation_lkj(np.random.default_rng(3), eta, d, SIZE)
    np.testing.assert_allclose(np.einsum("kaa->ka", R), 1, atol=1e-12)
    b = eta - 1 + d / 2  # Lewandowski et al. 2009, sec. 2.4
    for i, j in zip(*np.tril_indices(d, -1), strict=True):
        assert fits((R[:, i, j] + 1) / 2, stats.beta(b, b))
        assert not fits((R[:, i, j] + 1) / 2, stats.beta(1.5 * b, 1.5 * b))


def test_lkj_determinant():
    R = draw_correlation_lkj(np.random.default_rng(4), 1.0, 3, 40_000)
    det = np.linalg.det(R)
    # (1 - r12^2)(1 - r13^2)(1 - r23.1^2), independent, r = 2 Beta(b, b) - 1: E(1 - r^2) = 2b / (2b + 1)
    expected = (3 / 4) ** 2 * (2 / 3)
    assert abs(det.mean() - expected) < 4 * det.std() / 200


def test_lkj_sds():
    prior = pr.resolve(pr.LKJ(2.0, pr.HalfNormal(times_sd=1.0)), SDS, "Sigma")
    sd, _ = parts(draw_covariance(np.random.default_rng(5), prior, 3, SIZE))
    for k in range(3):
        assert fits(sd[:, k], stats.halfnorm(scale=SDS[k]))


def test_inverse_wishart_margins():
    """A diagonal entry of IW(nu, scale L) is InvGamma((nu - d + 1) / 2, L_kk / 2)."""
    V = np.array([[2.0, 0.5], [0.5, 1.0]])
    S = draw_covariance(
        np.random.default_rng(16), pr.resolve(pr.InverseWishart(4.5, V), SDS[:2], "Sigma"), 2, SIZE
    )
    for k, lam in enumerate(np.diag(np.linalg.inv(V))):
        assert fits(S[:, k, k], stats.invgamma((4.5 - 1) / 2, scale=lam / 2))
        assert not fits(S[:, k, k], stats.invgamma(4.5 / 2, scale=lam / 2))
    theirs = stats.invwishart(4.5, np.linalg.inv(V)).rvs(SIZE, random_state=17)
    assert stats.ks_2samp(np.linalg.det(S), np.linalg.det(theirs)).pvalue > 0.001
    assert stats.ks_2samp(S[:, 0, 1], theirs[:, 0, 1]).pvalue > 0.001


def test_marginal_inverse_wishart_has_the_same_variances_whatever_the_dimension():
    """S ~ IW(nu + d - 1, v I)  =>  S_kk ~ IW(nu, v) = InvGamma(nu / 2, 1 / (2 v)); not so for S ~ IW(nu, v I)."""
    nu, v = 1.6, 0.5
    for d in (1, 2, 3):
        prior = pr.resolve(pr.InverseWishart(nu, v, marginal=True), SDS[:d], "Psi")
        S = draw_covariance(np.random.default_rng(8), prior, d, SIZE)
        for k in range(d):
            assert fits(S[:, k, k], stats.invgamma(nu / 2, scale=1 / (2 * v)))
    wrong = draw_covariance(
        np.random.default_rng(8), pr.resolve(pr.InverseWishart(nu, v), SDS[:2], "Psi"), 2, SIZE
    )
    assert not fits(wrong[:, 0, 0], stats.invgamma(nu / 2, scale=1 / (2 * v)))
    assert pr.resolve(pr.iw(1.0).Psi, SDS, "Psi").nu == pr.resolve(pr.pan().Psi, SDS, "Psi").nu == 3


def test_inverse_wishart_of_one_dimension():
    S = draw_covariance(
        np.random.default_rng(7), pr.resolve(pr.InverseWishart(3, 0.25), SDS[:1], "Psi"), 1, SIZE
    )
    assert S.shape == (SIZE, 1, 1) and fits(S[:, 0, 0], stats.invgamma(1.5, scale=2))


def test_diagonal():
    prior = pr.resolve(pr.Diagonal(pr.InverseWishart(3.0, 0.25)), SDS, "Psi")
    S = draw_covariance(np.random.default_rng(8), prior, 3, SIZE)
    assert (S[:, ~np.eye(3, dtype=bool)] == 0).all()
    assert fits(S[:, 1, 1], stats.invgamma(1.5, scale=2))
    S = draw_covariance(
        np.random.default_rng(9), pr.resolve(pr.Diagonal(pr.HalfT(nu=4.0)), SDS, "Psi"), 3, SIZE
    )
    assert fits(np.sqrt(S[:, 2, 2]), HalfT(4.0, SDS[2]))


def test_exponential_and_fixed():
    x = draw_sd(np.random.default_rng(10), pr.Exponential(scale=np.array([3.0])), 1, SIZE)
    assert fits(x[:, 0], stats.expon(scale=3))
    value = np.diag([1.0, 2.0])
    S = draw_covariance(np.random.default_rng(0), pr.resolve(pr.Fixed(value), SDS[:2], "Psi"), 2, 5)
    assert (S == value).all() and S.shape == (5, 2, 2)


def test_improper():
    with pytest.raises(SpecificationError, match="improper"):
        draw_covariance(np.random.default_rng(0), pr.resolve(pr.jomo().Sigma, SDS, "Sigma"), 3, 5)

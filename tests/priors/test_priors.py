"""Priors: resolving, rescaling, words."""

import numpy as np
import pytest
from scipy.stats import invwishart

from bayesimp import priors as pr
from bayesimp.priors.describe import describe

SDS = np.array([2.0, 30.0])
COVARIANCE = [
    pr.InverseWishart(), pr.InverseWishart(4.7, [[2.0, 0.3], [0.3, 1.0]]), pr.HuangWand(), pr.HuangWand(scale=3.0),
    pr.LKJ(2, pr.HalfNormal(times_sd=2)), pr.LKJ(1, pr.Exponential(scale=[1.0, 2.0])), pr.Diagonal(),
    pr.Diagonal(pr.InverseWishart(1, [1.0, 2.0])), pr.Fixed([[1.0, 0.2], [0.2, 3.0]]),
]  # fmt: skip


def test_data_scaled_priors_follow_the_data():
    one, other = (pr.resolve(pr.HuangWand(times_sd=1.5), sds, "Psi") for sds in (SDS, 100 * SDS))
    np.testing.assert_allclose(one.scale, 1.5 * SDS)
    np.testing.assert_allclose(other.scale, 100 * one.scale)
    assert one.times_sd is None


def test_minimum_degrees_of_freedom():
    assert pr.resolve(pr.pan().Psi, SDS, "Psi").nu == 2
    assert pr.resolve(pr.jomo().Sigma, SDS, "Sigma").nu == -1  # improper, as measured: tests/reference/joint


@pytest.mark.parametrize("prior", COVARIANCE[:2])
def test_rescaled_inverse_wishart(prior):
    """Density of S under the prior = density of D^-1 S D^-1 under the rescaled one, times the Jacobian."""
    rng = np.random.default_rng(0)
    resolved = pr.resolve(prior, SDS, "Sigma")
    scaled = pr.rescale(resolved, SDS)
    D = np.outer(SDS, SDS)
    S = invwishart(5, np.eye(2)).rvs(random_state=rng)

    def density(p, matrix):
        return invwishart(p.nu, np.linalg.inv(p.V)).logpdf(matrix)

    jacobian = 3 * np.log(SDS).sum()  # d + 1 powers of each entry of D
    assert density(scaled, S / D) == pytest.approx(density(resolved, S) + jacobian)


@pytest.mark.parametrize("prior", COVARIANCE, ids=lambda p: type(p).__name__)
def test_rescaling_goes_back(prior):
    resolved = pr.resolve(prior, SDS, "Psi")
    there_and_back = pr.rescale(pr.rescale(resolved, SDS), 1 / SDS)
    assert describe(there_and_back, ["a", "b"]) == describe(resolved, ["a", "b"])


def test_words():
    assert describe(pr.resolve(pr.pan().Psi, SDS, "Psi"), "ab") == "inverse-Wishart(nu = 2, V = 1 I)"
    assert "half-t(2) of scale 2 (a), 30 (b)" in describe(pr.resolve(pr.HuangWand(), SDS, "Psi"), "ab")

"""Every prior of the library keeps its contract: update, draws, density and PyMC distribution agree."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.priors.base import REGISTRY
from bayesimp.priors.centred import Centred
from bayesimp.priors.gibbs import beta_prior, covariance_update, is_conjugate

SDS = np.array([2.0, 30.0])
PRIORS = [
    pr.InverseWishart(4.7, [[2.0, 0.3], [0.3, 1.0]]), pr.HuangWand(nu=3.0), pr.LKJ(2.0, pr.HalfNormal(times_sd=2)),
    pr.LKJ(1.0, pr.Exponential(scale=[1.0, 2.0])), pr.LKJ(3.0, pr.HalfT(nu=4.0)), pr.Diagonal(pr.HalfT()),
    pr.Diagonal(pr.HalfNormal()), pr.Diagonal(pr.Exponential()), pr.Diagonal(pr.InverseWishart(1.0, [1.0, 2.0])),
    pr.Fixed([[1.0, 0.2], [0.2, 3.0]]),
]  # fmt: skip
IDS = [repr(prior)[:60] for prior in PRIORS]
CONJUGATE = {True: [*PRIORS[:2], PRIORS[5], PRIORS[8], PRIORS[9]], False: PRIORS[2:5] + PRIORS[6:8]}


@pytest.mark.parametrize("prior", PRIORS, ids=IDS)
def test_rescaled_draws_are_those_in_other_units(prior):
    resolved = pr.resolve(prior, SDS, "Psi")
    d = np.array([0.4, 7.0])
    here = resolved.draw(np.random.default_rng(1), 2, 20)
    there = pr.rescale(resolved, d).draw(np.random.default_rng(1), 2, 20)
    assert_allclose(there, here / np.outer(d, d), rtol=1e-9)


@pytest.mark.parametrize("prior", PRIORS, ids=IDS)
def test_rescaled_centred_draws_are_those_in_other_units(prior):
    C, d = np.array([[1.0, -3.0], [0.0, 1.0]]), np.array([0.4, 7.0])
    centred = Centred(pr.resolve(prior, SDS, "Psi"), C)
    here = centred.draw(np.random.default_rng(1), 2, 20)
    assert_allclose(here, C @ centred.prior.draw(np.random.default_rng(1), 2, 20) @ C.T)
    assert centred.moved(C) is centred.prior
    there = centred.rescale(d).draw(np.random.default_rng(1), 2, 20)
    assert_allclose(there, here / np.outer(d, d), rtol=1e-8)


@pytest.mark.parametrize("has", [True, False])
def test_conjugate_priors_have_an_update_and_the_others_none(has):
    for prior in CONJUGATE[has]:
        resolved = pr.resolve(prior, SDS, "Psi")
        assert is_conjugate(prior) is is_conjugate(resolved) is has
        assert (resolved.update(2) is not None) is has
        if not has:
            with pytest.raises(SpecificationError, match=r"no update for .*sampler='nuts'"):
                covariance_update(resolved, 2)


@pytest.mark.parametrize("prior", PRIORS, ids=IDS)
def test_free_parameters_of_the_density_go_there_and_back(prior):
    resolved = pr.resolve(prior, SDS, "Psi")
    density = resolved.density(2, "Psi")
    S = resolved.draw(np.random.default_rng(3), 2, 1)[0]
    back, value, pull = density(density.free(S))
    assert_allclose(back, S, rtol=1e-8)
    assert np.isfinite(value) and pull(np.eye(2)).shape == (density.size,)


def test_what_is_known():
    known = [prior for prior in PRIORS if prior.is_known]
    assert known == [PRIORS[-1]]
    assert_allclose(known[0].known_value, [[1.0, 0.2], [0.2, 3.0]])
    at_origin = [*known, pr.InverseWishart(4.0, 1.0, centred=False)]
    assert all(prior.at_origin for prior in at_origin) and not any(prior.at_origin for prior in PRIORS[:-1])


@pytest.mark.parametrize(
    "prior", [pr.Fixed([[1.0, 0.2], [0.2, 3.0]]), pr.InverseWishart(4.0, 1.0, centred=False)]
)
def test_priors_at_the_origin_are_moved(prior):
    C = np.array([[1.0, -3.0], [0.0, 1.0]])
    resolved = pr.resolve(prior, SDS, "Psi")
    back = np.linalg.inv(C)
    expected = back @ resolved.draw(np.random.default_rng(1), 2, 4000) @ back.T
    moved = resolved.moved(C).draw(np.random.default_rng(2), 2, 4000)
    if prior.is_known:
        assert_allclose(moved, expected)
    else:
        p = [stats.ks_2samp(a, b).pvalue for a, b in zip(features(moved), features(expected), strict=True)]
        assert min(p) > 0.001 / len(p)
        wrong = features(resolved.draw(np.random.default_rng(2), 2, 4000))
        assert stats.ks_2samp(wrong[0], features(expected)[0]).pvalue < 0.001


def features(S):
    return [S[:, 0, 0], S[:, 1, 1], S[:, 0, 1]]


def test_law_of_one_variance():
    prior = pr.resolve(pr.InverseWishart(3.0, 0.25), [1.0], "Psi")
    x = prior.draw(np.random.default_rng(1), 1, 4000)[:, 0, 0]
    assert stats.kstest(x, prior.variance_law().cdf).pvalue > 0.001
    assert pr.resolve(pr.HuangWand(), [1.0], "Psi").variance_law() is None


def test_parts_of_a_set_are_of_their_kind():
    with pytest.raises(
        SpecificationError, match=r"Flat\(\) is not a prior on a covariance matrix \(Psi\); choose Inv"
    ):
        pr.Priors(Psi=pr.Flat())
    with pytest.raises(
        SpecificationError, match=r"LKJ.* is not a prior on fixed effects \(beta\); choose Flat"
    ):
        pr.Priors(beta=pr.LKJ())
    for wrong in (pr.LKJ(sd=pr.InverseWishart()), pr.Diagonal(pr.LKJ())):
        with pytest.raises(
            SpecificationError, match=r"on Psi: sd must be|not a prior on a covariance matrix"
        ):
            pr.resolve(wrong, SDS, "Psi")


def test_a_method_that_is_missing_is_noticed_when_a_prior_is_made():
    class Unfinished(pr.CovariancePrior, registered=False):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()
    assert "Unfinished" not in REGISTRY and "Centred" not in REGISTRY


class Scale:
    """A working scale with diagonal T; column 0 is the intercept."""

    T = np.diag([1.0, 0.5, 20.0])
    s = np.array([2.0, 3.0])
    intercept = 0

    def working_beta(self, beta):
        return np.linalg.solve(self.T, beta) / self.s


@pytest.mark.parametrize(
    "prior", [pr.Normal(0.3, [[1.0], [0.2], [4.0]]), pr.Normal([[1.0, 2.0]], 3.0), pr.Weak(2.0, 7.0)]
)
def test_beta_on_the_working_scale_is_what_gibbs_has(prior):
    Q0, t0 = beta_prior(prior, Scale(), 2)
    on_working = prior.on_working(Scale(), 2)
    mean, sd = on_working.entries((3, 2))
    assert_allclose(Q0, np.diag(1 / sd.T.ravel() ** 2), rtol=1e-12)
    assert_allclose(t0, (mean / sd**2).T.ravel(), rtol=1e-12, atol=1e-12)


def test_weak_priors_are_refused_where_there_is_no_scale():
    for call in (lambda p: p.density(2, 1), lambda p: p.distribution(2, 1, ("a", "b"))):
        with pytest.raises(SpecificationError, match=r"use priors\.Normal\(mean, sd\)"):
            call(pr.Weak())
    assert pr.Weak().draw(np.random.default_rng(0), (2,), 3) is None
    assert pr.Flat().for_generalised() == pr.Weak() and pr.Normal().for_generalised() == pr.Normal()

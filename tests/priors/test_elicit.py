"""Elicited priors have the quantiles that were stated, by SciPy and by draws of the priors themselves."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError


def quantiles(prior, level):
    """Median and upper quantile of a standard deviation under a prior, by SciPy."""
    if isinstance(prior, pr.InverseWishart):
        law = stats.invgamma(prior.nu / 2, scale=1 / (2 * prior.V))
        return np.sqrt(law.ppf([0.5, level]))
    if isinstance(prior, pr.HalfNormal):
        return stats.halfnorm(scale=prior.scale).ppf([0.5, level])
    if isinstance(prior, pr.Exponential):
        return stats.expon(scale=prior.scale).ppf([0.5, level])
    return prior.scale * stats.t(prior.nu).ppf([0.75, 0.5 + level / 2])


@pytest.mark.parametrize("family", ["half-t", "huang-wand", "inverse-gamma"])
@pytest.mark.parametrize(("median", "upper", "level"), [(2, 10, 0.95), (0.5, 1.7, 0.9), (30, 900, 0.99)])
def test_two_statements_are_fulfilled_exactly(family, median, upper, level):
    prior = pr.elicit(family, median=median, upper=upper, level=level)
    np.testing.assert_allclose(quantiles(prior, level), [median, upper], rtol=1e-9)


@pytest.mark.parametrize("family", ["half-t", "huang-wand", "half-normal", "exponential"])
def test_one_statement_is_fulfilled_exactly(family):
    assert quantiles(pr.elicit(family, median=3), 0.95)[0] == pytest.approx(3)
    assert quantiles(pr.elicit(family, upper=3, level=0.8), 0.8)[1] == pytest.approx(3)
    made = pr.elicit("half-t", upper=3, nu=7)
    assert made.nu == 7 and quantiles(made, 0.95)[1] == pytest.approx(3)
    assert pr.elicit("half-t", median=1).nu == 3 and pr.elicit("huang-wand", median=1).nu == 2
    assert quantiles(pr.elicit("inverse-gamma", median=4, nu=3), 0.9)[0] == pytest.approx(4)


@pytest.mark.parametrize("family", ["huang-wand", "inverse-gamma"])
@pytest.mark.parametrize("d", [1, 3])
def test_draws_of_the_prior_of_a_matrix_have_the_quantiles(family, d):
    """Shares below the stated numbers, of 20000 draws: level 0.001 over 2 d shares. The same numbers taken for
    variances, or a matrix without `marginal`, have others."""
    prior = pr.elicit(family, median=2, upper=9)
    S = pr.resolve(prior, np.ones(d), "Psi").draw(np.random.default_rng(1), d, 20_000)
    sd = np.sqrt(np.diagonal(S, axis1=1, axis2=2))
    bound = stats.norm.isf(0.001 / (4 * d))
    for value, share in ((2, 0.5), (9, 0.95)):
        z = ((sd < value).mean(axis=0) - share) / np.sqrt(share * (1 - share) / 20_000)
        assert np.abs(z).max() < bound
        assert np.abs((sd**2 < value).mean(axis=0) - share).min() > 0.02


@pytest.mark.parametrize("d", [2, 4])
def test_correlations_under_lkj(d):
    prior = pr.elicit("lkj", upper=0.6, level=0.9, d=d, sd=pr.HalfNormal(2.0))
    S = pr.resolve(prior, np.ones(d), "Psi").draw(np.random.default_rng(2), d, 20_000)
    r = S[:, 0, 1] / np.sqrt(S[:, 0, 0] * S[:, 1, 1])
    assert abs((np.abs(r) < 0.6).mean() - 0.9) / np.sqrt(0.09 / 20_000) < stats.norm.isf(0.0005)
    assert prior.sd == pr.HalfNormal(2.0) and pr.elicit("lkj", upper=0.95, d=2).eta == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"family": "half-t"}, "state median="),
        (
            {"family": "half-t", "median": 1, "upper": 2.5},
            "at least 2.91 at level 0.95.*use 'inverse-gamma', which takes both",
        ),
        ({"family": "half-t", "median": 2, "upper": 1}, "must exceed"),
        ({"family": "half-t", "median": 1, "upper": 5, "nu": 3}, "takes either median= or upper="),
        ({"family": "half-t", "median": -1}, "above 0"),
        ({"family": "half-t", "median": 1, "upper": 1e60}, "fewer than 0.1"),
        ({"family": "inverse-gamma", "median": 1}, "two parameters"),
        ({"family": "inverse-gamma", "median": 1, "upper": 1.001}, r"priors\.Fixed"),
        ({"family": "exponential", "median": 1, "upper": 3}, "one parameter"),
        ({"family": "lkj", "median": 0.1}, "lkj takes upper="),
        ({"family": "lkj", "upper": 0.99, "level": 0.6, "d": 9}, "larger level"),
        ({"family": "half-normal", "median": 1, "level": 0.4}, "level"),
        ({"family": "half t"}, "half-t"),
    ],
)
def test_statements_that_cannot_be_met_are_refused(call, words):
    with pytest.raises(SpecificationError, match=words):
        pr.elicit(call.pop("family"), **call)


def test_distributions_of_preliz():
    """By name and parameters; PreliZ 0.28.0's maxent(HalfNormal(), lower=0, upper=2, mass=0.95) has sigma 1.0204, ours
    too."""

    def made(kind, **parameters):
        return pr.from_preliz(type(kind, (SimpleNamespace,), {})(params_dict=parameters))

    assert made("HalfStudentT", nu=4, sigma=2) == pr.HalfT(2.0, nu=4.0)
    assert made("HalfCauchy", beta=3) == pr.HalfT(3.0, nu=1.0)
    assert made("Exponential", lam=4) == pr.Exponential(0.25)
    assert made("Normal", mu=1, sigma=2) == pr.Normal(1.0, 2.0)
    variance = made("InverseGamma", alpha=2, beta=3)
    assert (variance.nu, variance.V) == (4, pytest.approx(1 / 6)) and variance.marginal
    assert pr.elicit("half-normal", upper=2).scale == pytest.approx(1.0204, abs=1e-4)
    with pytest.raises(SpecificationError, match="set all its parameters"):
        made("HalfNormal")
    with pytest.raises(SpecificationError, match="takes a PreliZ distribution"):
        pr.from_preliz(3)


def test_real_distributions_of_preliz():
    """Runs where the extra is installed (pip install bayesimp[preliz])."""
    preliz = pytest.importorskip("preliz", exc_type=ImportError)
    one = pr.from_preliz(preliz.HalfStudentT(nu=3, sigma=2))
    assert one == pr.HalfT(2.0, nu=3.0)
    found = preliz.maxent(preliz.HalfNormal(), lower=0, upper=2, mass=0.95, plot=False)
    found = preliz.HalfNormal() if found is None else found
    for law in (
        preliz.HalfCauchy(beta=2.0),
        preliz.Exponential(lam=2.0),
        preliz.InverseGamma(alpha=2.0, beta=3.0),
    ):
        prior = pr.from_preliz(law)
        if isinstance(prior, pr.InverseWishart):
            assert quantiles(prior, 0.9)[0] ** 2 == pytest.approx(law.ppf(0.5), rel=1e-4)
        else:
            assert quantiles(prior, 0.9)[1] == pytest.approx(law.ppf(0.9), rel=1e-4)

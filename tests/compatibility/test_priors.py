"""The prior that a joint prior implies: exact laws where they are known, Kunkel & Kaizar's statements."""

import numpy as np
import pytest
from scipy import stats

from bayesimp import priors as pr
from bayesimp.compatibility.implied import contextual_bound
from bayesimp.compatibility.priors import CONTEXTUAL, EFFECT, RESIDUAL, WITHIN, implied_prior
from bayesimp.errors import SpecificationError

DRAWS = 20_000
CRITICAL = 1.95 / np.sqrt(DRAWS)  # of the Kolmogorov-Smirnov distance, level 0.001


def inverse_wishart(nu, v=1.0):
    return stats.invgamma(nu / 2, scale=1 / (2 * v))


def distance(x, law):
    return stats.kstest(x, law.cdf).statistic


@pytest.fixture(scope="module")
def thirty():
    return implied_prior(n=30, draws=DRAWS, seed=1)


def test_exact_laws_of_inverse_wishart(thirty):
    """Sigma ~ IW(2, I): its Schur complement is IW(2, 1), and the regression slope t with 2 df, over sqrt 2."""
    assert distance(thirty.joint[RESIDUAL], inverse_wishart(2)) < CRITICAL
    assert distance(np.sqrt(2) * thirty.joint[WITHIN], stats.t(2)) < CRITICAL
    assert distance(thirty.fcs[RESIDUAL], inverse_wishart(1)) < CRITICAL
    assert distance(thirty.fcs[EFFECT], inverse_wishart(1)) < CRITICAL
    assert thirty.fcs[WITHIN] is None and thirty.fcs[CONTEXTUAL] is None


def test_large_clusters_exactly_and_wrong_ones_rejected():
    """As n goes to infinity, T is the Schur complement of Psi. At n = 30 it is not, and the test detects that."""
    far = implied_prior(n=10**9, draws=DRAWS, seed=2)
    assert distance(far.joint[EFFECT], inverse_wishart(2)) < CRITICAL
    near = implied_prior(n=30, draws=DRAWS, seed=2)
    assert distance(near.joint[EFFECT], inverse_wishart(2)) > 5 * CRITICAL


def test_kunkel_kaizar_s_iw_1_6(thirty):
    """IW(1.6, 1) is nearest among IW(nu, 1) at 30 rows a cluster, and near; smaller clusters need a smaller nu."""
    grid = np.arange(1.0, 2.05, 0.1)

    def nearest(n):
        x = implied_prior(n=n, draws=DRAWS, seed=3).joint[EFFECT]
        return grid[np.argmin([distance(x, inverse_wishart(nu)) for nu in grid])]

    assert nearest(30) == pytest.approx(1.6)
    assert nearest(10) == pytest.approx(1.4)
    assert distance(thirty.joint[EFFECT], inverse_wishart(1.6)) < 0.03
    assert distance(thirty.joint[EFFECT], inverse_wishart(1)) > 0.15


@pytest.mark.parametrize("prior", [pr.pan(), pr.default(), pr.Priors(Psi=pr.LKJ(2.0), name="lkj")])
def test_every_draw_is_within_the_bound(prior):
    p = implied_prior(prior, n=30, draws=DRAWS, seed=4)
    bound = contextual_bound(p.joint[EFFECT], p.Sigma[:, 0, 0], p.Psi[:, 0, 0], 30)
    assert (np.abs(p.joint[CONTEXTUAL]) <= bound * (1 + 1e-6)).all()
    # a flat prior's slopes would not be: normal ones of sd 1 mostly are beyond
    assert (np.abs(np.random.default_rng(0).normal(size=DRAWS)) > bound).mean() > 0.3


def test_priors_in_multiples_of_the_sd_follow_the_unit():
    one, ten = (implied_prior(pr.default(), pr.default(), n=30, sds=sd, draws=500) for sd in (1.0, 10.0))
    np.testing.assert_allclose(ten.joint[EFFECT], 100 * one.joint[EFFECT])
    np.testing.assert_allclose(ten.fcs[RESIDUAL], 100 * one.fcs[RESIDUAL])
    np.testing.assert_allclose(ten.joint[WITHIN], one.joint[WITHIN])


def test_more_variables_and_normal_slopes():
    fcs = pr.Priors(pr.InverseWishart(), pr.InverseWishart(), pr.Normal(0.0, 2.0))
    p = implied_prior(fcs=fcs, n=10, r=3, k=1, draws=2000)
    assert list(p.joint) == [
        f"{WITHIN} of y1", f"{WITHIN} of y3", f"{CONTEXTUAL} of y1", f"{CONTEXTUAL} of y3", RESIDUAL, EFFECT,
    ]  # fmt: skip
    assert p.fcs[f"{WITHIN} of y3"].std() == pytest.approx(2, rel=0.1)


def test_bad_input():
    with pytest.raises(SpecificationError, match="improper"):
        implied_prior(pr.jomo(), draws=10)
    with pytest.raises(
        SpecificationError, match="k, the position of a variable, must be a whole number from 0 to 1"
    ):
        implied_prior(r=2, k=2, draws=10)

"""The density on which NUTS runs is that of the PyMC model: value and gradient, at random points, for every prior.

All priors in all sizes: `pytest -m slow tests/joint/test_density.py`
Last result, 2026-11-21: 60 passed in 21 s.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.joint.density import JointDensity
from bayesimp.kernels.normal.statistics import collect
from bayesimp.models.joint_normal import joint_normal
from tests.models.test_joint_normal import resolved, table

NORMAL = pr.Normal(0.5, 2.0)
PRIORS = {
    "default": pr.default(),
    "Huang-Wand of other df": pr.Priors(pr.HuangWand(nu=3.5), pr.HuangWand(nu=1.0), NORMAL),
    "pan": pr.pan(),
    "inverse-Wishart, real df": pr.Priors(pr.InverseWishart(7.5, 0.3), pr.InverseWishart(9.5, 2.0), NORMAL),
    "lkj half-t": pr.Priors(pr.LKJ(2.0, pr.HalfT(nu=3.0)), pr.LKJ(1.0, pr.HalfT(nu=1.0))),
    "lkj others": pr.Priors(pr.LKJ(0.7, pr.HalfNormal()), pr.LKJ(3.0, pr.Exponential()), NORMAL),
    "diagonal half-t": pr.Priors(pr.Diagonal(pr.HalfT(nu=2.0)), pr.Diagonal(pr.HalfT()), NORMAL),
    "diagonal others": pr.Priors(pr.Diagonal(pr.HalfNormal()), pr.Diagonal(pr.Exponential())),
    "diagonal inverse-gamma": pr.Priors(
        pr.Diagonal(pr.InverseWishart()), pr.Diagonal(pr.InverseWishart(3.5, 0.2))
    ),
    "mixed": pr.Priors(pr.HuangWand(), pr.Diagonal(pr.InverseWishart()), NORMAL),
}
SIZES = list(itertools.product((1, 2), (1, 2, 3)))  # q, r
QUICK = [(name, *SIZES[k % len(SIZES)]) for k, name in enumerate(PRIORS)]


def both(prior, q, r):
    data = table(2, q, r)
    prior = resolved(prior, data[2], q)
    statistics = collect(*data)
    return JointDensity(statistics, prior), joint_normal(statistics, prior)


def same(prior, q, r):
    ours, model = both(prior, q, r)
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    start = model.initial_point(0)
    assert ours.size == sum(start[v.name].size for v in values)
    density = model.compile_logp(mode="FAST_COMPILE")  # no compilation: the Ops run their kernels
    slopes = model.compile_dlogp(model.free_RVs, mode="FAST_COMPILE")
    rng = np.random.default_rng(1)
    for _ in range(4):
        theta = 0.7 * rng.normal(size=ours.size)
        cuts = np.cumsum([start[v.name].size for v in values])[:-1]
        point = {
            v.name: x.reshape(start[v.name].shape) for v, x in zip(values, np.split(theta, cuts), strict=True)
        }
        value, gradient = ours(theta)
        expected = density(point)
        # PyMC's half-t has log 2 in single precision, off by 1.9e-9 for each of up to 9 standard deviations
        assert_allclose(value, expected, rtol=1e-11, atol=2e-8)
        expected = slopes(point)
        assert_allclose(gradient, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        assert_allclose(ours.flatten(**ours.expand(theta)), theta, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name,q,r", QUICK)
def test_same_as_the_pymc_model(name, q, r):
    same(PRIORS[name], q, r)


def test_fixed_matrices():
    Sigma = np.array([[2.0, 0.5], [0.5, 1.0]])
    same(pr.Priors(pr.Fixed(Sigma), pr.HuangWand()), 1, 2)
    same(pr.Priors(pr.LKJ(), pr.Fixed(Sigma)), 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("q,r", SIZES)
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_in_every_size(name, q, r):
    same(PRIORS[name], q, r)


def test_another_prior_is_told_apart():
    ours, _ = both(pr.default(), 1, 2)
    other, _ = both(pr.Priors(pr.HuangWand(nu=3.0), pr.HuangWand()), 1, 2)
    theta = np.zeros(ours.size)
    assert abs(ours(theta)[0] - other(theta)[0]) > 1e-3


def test_where_exponentials_overflow_the_density_is_not_finite():
    ours, _ = both(pr.default(), 1, 2)
    for x in (-800.0, 800.0):
        value, gradient = ours(np.full(ours.size, x))
        assert not value > -np.inf and gradient.shape == (ours.size,)


def test_improper_prior_is_refused():
    data = table(2, 1, 2)
    with pytest.raises(SpecificationError, match="improper"):
        JointDensity(collect(*data), resolved(pr.jomo(), data[2], 1))

"""The block that samples the normal conditional model in PyMC: against Gibbs, integration, and itself on other data.

Compiles one structure (a quarter of a minute if PyTensor has nothing on disk). Other priors: `-m slow`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from bayesimp import priors as pr
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.fcs.blocks.pymc_normal import NormalConditional
from bayesimp.kernels.chained.gibbs import common_step
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.marginal import log_likelihood, marginal_data
from bayesimp.kernels.normal.statistics import collect
from bayesimp.priors.gibbs import covariance_update
from bayesimp.sampling.hmc_block import HmcState, events
from tests.calibration.montecarlo import batch_means, bonferroni

CLUSTERS = 8
PRIORS = {
    "inverse-Wishart": pr.Priors(
        pr.InverseWishart(4.0, 0.5), pr.InverseWishart(3.0, 1.0), pr.Normal(0.2, 1.0)
    ),
    "half-t": pr.Priors(pr.HuangWand(scale=1.0), pr.HuangWand(scale=1.0)),
    "slopes, Huang-Wand": pr.Priors(pr.HuangWand(scale=1.0), pr.HuangWand(scale=1.0)),
    "slopes, diagonal": pr.Priors(pr.Fixed([[1.1]]), pr.Diagonal(pr.HalfT(scale=0.5)), pr.Normal(0.2, 1.0)),
}


def resolved(name):
    q = 2 if "slopes" in name else 1
    prior = PRIORS[name]
    Sigma, Psi = pr.resolve(prior.Sigma, [1.0], "Sigma"), pr.resolve(prior.Psi, np.ones(q), "Psi")
    return replace(prior, Sigma=Sigma, Psi=Psi), q


def rows(q=1, seed=3, clusters=CLUSTERS, n=9, p=2):
    """The last two clusters have no row."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(clusters - 2), n)
    X = np.column_stack([np.ones(len(codes)), rng.normal(size=(len(codes), p - 1))])
    b = 0.6 * rng.normal(size=clusters)
    y = 0.5 * X.sum(1) + b[codes] + rng.normal(size=len(codes))
    return X, X[:, :q].copy(), y[:, None], codes, clusters


@cache
def block(name, p=2, **options):
    """Adapted on rows that are not those of the tests."""
    prior, q = resolved(name)
    made = NormalConditional(prior, p, q, **options)
    made.adapt(np.random.default_rng(0), moments(collect(*rows(q, seed=33, p=p))))
    return made


def pymc_draws(name, m, count, seed=1):
    made, rng = block(name), np.random.default_rng(seed)
    state = made.start(rng, m)
    draws = [made.step(rng, state, m) for _ in range(count + 50)][50:]
    return [np.array(a) for a in zip(*draws, strict=True)]


def gibbs_draws(name, m, count, seed=2, updates=3):
    prior, q = resolved(name)
    rng, p = np.random.default_rng(seed), m.XX.shape[1]
    normal = isinstance(prior.beta, pr.Normal)
    Q0, t0 = (np.eye(p), np.full(p, 0.2)) if normal else (np.zeros((p, p)), np.zeros(p))
    Sigma = np.array(prior.Sigma.value) if isinstance(prior.Sigma, pr.Fixed) else np.eye(1)
    state = [np.zeros((p, 1)), Sigma, np.eye(q), np.zeros((len(m.first) - 1, q, 1))]
    priors = covariance_update(prior.Sigma, 1), covariance_update(prior.Psi, q)
    out = [np.empty((count, *a.shape)) for a in state]
    for k in range(-50, count):
        beta, Sigma, Psi, B = state
        assert not common_step(rng, m, updates, *priors, Q0, t0, Sigma, Psi, beta, B, np.empty(0, np.int64))
        for store, value in zip(out, state, strict=True):
            store[k] = value
    return out


def quantities(draws):
    """(draws, K): parameters and effects, their squares, and products of effects with what they depend on."""
    beta, Sigma, Psi, B = draws
    q = Psi.shape[1]
    logs = [np.log(Psi[:, k, k]) for k in range(q)]
    if np.ptp(Sigma) > 0:
        logs.append(np.log(Sigma[:, 0, 0]))
    if q > 1 and np.ptp(Psi[:, 1, 0]) > 0:
        logs.append(Psi[:, 1, 0] / np.sqrt(Psi[:, 0, 0] * Psi[:, 1, 1]))
    flat = np.column_stack([*logs, beta[..., 0], B[:, [0, 3, -1], :, 0].reshape(len(B), -1)])
    return np.column_stack([flat, flat**2, beta[:, :1, 0] * B[:, 0, :, 0], beta[:, :1, 0] * B[:, -1, :, 0]])


def compare(a, b):
    """Smallest p-value of all means, Bonferroni, errors from batches of each chain."""
    (x, se_x), (y, se_y) = (batch_means(quantities(d)[None], batches=50) for d in (a, b))
    return bonferroni(2 * stats.t.sf(np.abs(x - y) / np.hypot(se_x, se_y), 98))


ALWAYS = ["half-t"]
CASES = [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.slow) for name in PRIORS]


@pytest.mark.parametrize("name", CASES)
def test_same_draws_as_gibbs(name):
    """The three others: `pytest -m slow tests/fcs/test_pymc_normal.py`."""
    _, q = resolved(name)
    m = moments(collect(*rows(q)))
    assert compare(pymc_draws(name, m, 4000), gibbs_draws(name, m, 10_000)) > 1e-3


def test_wrong_blocks_are_told_apart():
    """Data of the previous cycle; b from the prior in clusters with rows."""
    m, old = (moments(collect(*rows(1, seed=seed))) for seed in (3, 4))
    right = gibbs_draws("half-t", m, 20_000)
    assert compare(pymc_draws("half-t", old, 2000), right) < 1e-6
    beta, Sigma, Psi, B = pymc_draws("half-t", m, 2000)
    prior = np.sqrt(Psi[:, None, :, :]) * np.random.default_rng(0).standard_normal(B.shape)
    assert compare([beta, Sigma, Psi, prior], right) < 1e-6


def test_against_integration():
    """Two log variances on a grid, with beta integrated out: intercept only, half-t priors, flat beta."""
    X, Z, y, codes, clusters = rows(p=1)
    data = marginal_data(collect(X, Z, y, codes, clusters))
    u, v = np.linspace(-1.5, 1.5, 61), np.linspace(-12, 5, 86)  # log Sigma, log Psi
    log_p = np.empty((len(u), len(v)))
    prior = stats.t(2.0)  # of an sd, folded
    for i, j in np.ndindex(log_p.shape):
        S, P = np.exp(u[i]), np.exp(v[j])
        at = [
            log_likelihood(np.array([[b]]), np.array([[S]]), np.array([[P]]), *vars(data).values())
            for b in (0.0, 1.0)
        ]
        slope, curve = at[0][1][0, 0], at[0][1][0, 0] - at[1][1][0, 0]
        log_p[i, j] = at[0][0] + 0.5 * slope**2 / curve - 0.5 * np.log(curve)
        log_p[i, j] += sum(prior.logpdf(np.exp(x / 2)) + x / 2 for x in (u[i], v[j]))
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    m = moments(collect(X, Z, y, codes, clusters))
    made, rng = block("half-t", p=1), np.random.default_rng(5)
    state = made.start(rng, m)
    draws = np.array(
        [
            [np.log(d.Sigma[0, 0]), np.log(d.Psi[0, 0])]
            for d in (made.step(rng, state, m) for _ in range(6000))
        ]
    )
    mean, se = batch_means(np.column_stack([draws, draws**2, draws[:, 1] > 0.1])[None], batches=50)
    exact = [weight.sum(1) @ u, weight.sum(0) @ v, weight.sum(1) @ u**2, weight.sum(0) @ v**2]
    exact = np.array([*exact, weight.sum(0)[v > 0.1].sum()])  # halfway between two points of the grid
    # five comparisons with 49 degrees of freedom: level .001
    assert np.abs((mean - exact) / se).max() < 4, (mean, exact, se)


def test_other_data_need_no_other_function():
    """Other numbers of predictors, rows and clusters, and other prior parameters: as if compiled for them."""
    name = "half-t"
    prior, q = resolved(name)
    one = block(name)
    m = moments(collect(*rows(q, seed=9, clusters=5, n=4, p=3)))
    other_prior = replace(prior, Sigma=replace(prior.Sigma, scale=np.array([3.0])))
    other = NormalConditional(other_prior, 3, q)
    assert other.structure.compiled is one.structure.compiled
    arrays, draw = other._arrays(m)
    draw.beta[:, 0] = 0.1, -0.2, 0.3
    theta = np.array([0.2, -0.4])
    value, gradient = other.structure.compiled.density(theta, *arrays)
    from bayesimp.models.conditional_normal import conditional_normal

    fresh = conditional_normal(
        marginal_data(collect(*rows(q, seed=9, clusters=5, n=4, p=3))), other_prior, 3, q
    )
    point = {"beta": draw.beta, "Sigma_free__": theta[:1], "Psi_free__": theta[1:]}
    assert_allclose(value, fresh.compile_logp(mode="FAST_COMPILE")(point), rtol=1e-10)
    slopes = fresh.compile_dlogp([fresh["Sigma"], fresh["Psi"]], mode="FAST_COMPILE")(point)
    assert_allclose(gradient, slopes, rtol=1e-9)
    assert NormalConditional(
        replace(prior, Psi=pr.HuangWand(nu=2.0, scale=np.ones(1))), 2, 1
    ).structure.compiled is (one.structure.compiled)


def test_draws_depend_on_the_generator_alone():
    m = moments(collect(*rows(1)))
    one, two = (pymc_draws("half-t", m, 5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_draws_do_not_depend_on_threads():
    m = moments(collect(*rows(1)))
    alone = [pymc_draws("half-t", m, 40, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: pymc_draws("half-t", m, 40, seed), range(4)))
    for one, two in zip(alone, together, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_errors_and_events():
    prior, _ = resolved("half-t")
    m = moments(collect(*rows(1)))
    with pytest.raises(SamplingError, match="adapt"):
        NormalConditional(prior, 2, 1, name="bmi").start(np.random.default_rng(0), m)
    X, Z, y, codes, clusters = rows(1)
    twice = moments(collect(np.column_stack([X, X[:, 1]]), Z, y, codes, clusters))
    with pytest.raises(SamplingError, match=r"'bmi'.*fixed effects are not identified"):
        NormalConditional(prior, 3, 1, name="bmi").adapt(np.random.default_rng(0), twice)
    with pytest.raises(SamplingError, match="not positive"):
        block("half-t").step(np.random.default_rng(0), HmcState(np.array([np.nan, 0.0])), m)
    improper = replace(prior, Sigma=pr.InverseWishart(-1.0, np.eye(1), improper=True))
    with pytest.raises(SpecificationError, match="Sigma of 'bmi' is improper"):
        NormalConditional(improper, 2, 1, name="bmi")
    found = events([HmcState(np.zeros(1), 100, 20.0, 3), HmcState(np.zeros(1), 100, 30.0, 0)], "bmi")
    assert [(e.kind, e.where, e.count) for e in found] == [
        ("divergence", "bmi", 3),
        ("low acceptance", "bmi", 200),
    ]
    assert "25%" in found[1].message and not events([HmcState(np.zeros(1), 100, 80.0, 0)], "bmi")

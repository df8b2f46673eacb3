"""The conditional generalised mixed models in PyMC against SciPy's distributions, row by row."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import log_expit

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.families.binary import logit_of_mean
from bayesimp.families.levels import log_cumulative
from bayesimp.models.conditional_glmm import WEAK, conditional_glmm
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.models.ops import effects
from tests.longhand import conditional_glmm as longhand

PLAIN = {"mode": "FAST_COMPILE", "on_unused_input": "ignore"}
MODELS = [
    ("bernoulli", "logit"), ("bernoulli", "probit"), ("binomial", "logit"), ("binomial", "probit"), ("poisson", "log"),
    ("negative_binomial", "log"), ("gamma", "log"), ("inverse_gaussian", "log"), ("beta", "logit"), ("ordinal", "logit"),
    ("categorical", "logit"), ("student", "identity"), ("yeo_johnson", "identity"),
    ("zero_inflated_poisson", "log"), ("zero_inflated_negative_binomial", "log"), ("lognormal", "log"),
    ("hurdle_poisson", "log"), ("hurdle_negative_binomial", "log"),
]  # fmt: skip
BETA = pr.Normal(0.3, 1.7)
PRIORS = {
    "weak": WEAK,
    "inverse-Wishart": pr.Priors(Psi=pr.InverseWishart(None, 0.7), beta=BETA),
    "lkj": pr.Priors(Psi=pr.LKJ(2.0, pr.HalfT(scale=0.8)), beta=pr.Flat()),
    "diagonal": pr.Priors(Psi=pr.Diagonal(pr.HalfNormal(scale=0.6)), beta=BETA),
    "diagonal inverse-gamma": pr.Priors(Psi=pr.Diagonal(pr.InverseWishart(3.0, 0.4)), beta=BETA),
}


def rows(family: str, link: str, q: int = 1, n: int = 12, m: int = 4) -> ConditionalData:
    """Every level and many values; the last cluster has no row."""
    rng = np.random.default_rng(5)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 1))])
    trials, levels = None, 0
    match family:
        case "bernoulli":
            y = np.arange(n) % 2
        case "binomial":
            trials = rng.integers(1, 6, n)
            y = rng.integers(0, trials + 1)
        case "poisson" | "negative_binomial":
            y = rng.poisson(2.0, n)
        case (
            "zero_inflated_poisson"
            | "zero_inflated_negative_binomial"
            | "hurdle_poisson"
            | "hurdle_negative_binomial"
        ):
            y = rng.poisson(2.0, n) * (np.arange(n) % 3 > 0)
        case "ordinal" | "categorical":
            levels = 4 if family == "ordinal" else 3
            y = np.arange(n) % levels
        case "beta":
            y = rng.beta(2.0, 1.0, size=n)
        case "yeo_johnson":
            y = rng.gamma(2.0, size=n) - 1.5
        case _:
            y = rng.gamma(2.0, size=n)
    codes = rng.integers(0, m - 1, n)
    names = ("1", "x")
    return ConditionalData(
        "v", y.astype(float), X, X[:, :q], codes, m, names, names[:q], family, link, levels, trials
    )


def functions(data: ConditionalData, prior):
    """point -> log density without Jacobian, with it, its gradient; point -> variables by name; a point."""
    model = conditional_glmm(data.variables(), prior)
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    names = [
        n
        for n in (
            "beta",
            "b",
            "Psi",
            "variation",
            "increments",
            "spread",
            "excess",
            "zi",
            "hu",
            "half_lambda",
        )
        if n in model.named_vars
    ]
    density, free = model.logp(jacobian=False), model.logp()
    natural = model.replace_rvs_by_values([model[n] for n in names])
    k = 2 + len(values)
    f = pytensor.function(values, [density, free, *pytensor.grad(free, values), *natural], **PLAIN)
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        start = model.initial_point(0)
    rng = np.random.default_rng(1)
    point = [start[v.name] + 0.4 * rng.normal(size=np.shape(start[v.name])) for v in values]
    return lambda p: f(*p)[:k], lambda p: dict(zip(names, f(*p)[k:], strict=True)), point


@pytest.mark.parametrize("family,link,q", [*((*model, 2) for model in MODELS), ("bernoulli", "logit", 1)])
def test_density_is_scipys_and_its_gradient(family, link, q):
    data, prior = rows(family, link, q), PRIORS["inverse-Wishart"]
    density, natural, point = functions(data, prior)
    d = q * (data.levels - 1 if family == "categorical" else 1)
    prior = replace(prior, Psi=pr.resolve(prior.Psi, np.ones(d), "Psi"))
    value, _, *slopes = density(point)
    expected = longhand.log_posterior(data, **natural(point), prior=prior)
    assert_allclose(value, expected, rtol=0, atol=1e-8)
    # the density of another data set, or of a row in another cluster, is another one
    y = np.roll(data.y, 1) if data.trials is None else data.trials - data.y
    for other in (replace(data, y=y), replace(data, cluster=(data.cluster + 1) % 3)):
        assert abs(longhand.log_posterior(other, **natural(point), prior=prior) - value) > 1e-3
    rng, h = np.random.default_rng(2), 1e-5
    for _ in range(3):
        way = [rng.normal(size=np.shape(x)) for x in point]
        ends = [density([x + s * h * w for x, w in zip(point, way, strict=True)])[1] for s in (1, -1)]
        along = sum(float((g * w).sum()) for g, w in zip(slopes, way, strict=True))
        assert_allclose((ends[0] - ends[1]) / (2 * h), along, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_density_for_every_kind_of_prior(name):
    data = rows("poisson", "log", 2)
    density, natural, point = functions(data, PRIORS[name])
    prior = replace(PRIORS[name], Psi=pr.resolve(PRIORS[name].Psi, np.ones(2), "Psi"))
    expected = longhand.log_posterior(data, **natural(point), prior=prior)
    assert_allclose(density(point)[0], expected, rtol=0, atol=1e-8)


def test_effects_and_their_derivatives():
    rng = np.random.default_rng(0)
    u, Psi = pt.dmatrix(), pt.dmatrix()
    weights = rng.normal(size=(5, 3))
    value = (pt.sin(effects(u, Psi)) * weights).sum()
    f = pytensor.function([u, Psi], [effects(u, Psi), value, *pytensor.grad(value, [u, Psi])], **PLAIN)
    A, x = rng.normal(size=(3, 3)), rng.normal(size=(5, 3))
    S = A @ A.T + 0.3 * np.eye(3)
    b, _, by_u, by_S = f(x, S)
    assert_allclose(b, x @ np.linalg.cholesky(S).T, atol=1e-13)
    D = A + A.T
    h = 1e-6
    ends = [float(f(x + s * h * weights, S + s * h * D)[1]) for s in (1, -1)]
    assert_allclose((ends[0] - ends[1]) / (2 * h), (by_u * weights).sum() + (by_S * D).sum(), rtol=1e-7)
    assert np.isnan(f(x, -S)[0]).all()


def test_tails_do_not_underflow():
    eta = np.array([-300.0, -40.0, -9.0, 0.0, 9.0, 40.0, 300.0])
    x = pt.dvector()
    logit = logit_of_mean(x, "probit")
    value, slope = pytensor.function([x], [logit, pytensor.grad(logit.sum(), x)], **PLAIN)(eta)
    assert_allclose(value, stats.norm.logcdf(eta) - stats.norm.logcdf(-eta), rtol=1e-12)
    assert np.isfinite(slope).all() and (slope > 0).all()
    with pm.Model():
        logs = log_cumulative(x, 3)
        (increment,) = pm.modelcontext(None).free_RVs
    middle = pytensor.function([x, increment], logs, **PLAIN)(eta, [0.8])[:, 1]
    assert_allclose(middle, log_expit(0.8 - eta) + log_expit(eta) + np.log1p(-np.exp(-0.8)), rtol=1e-12)


def test_no_random_effects_and_no_priors_given():
    data = replace(rows("poisson", "log"), Z=np.empty((12, 0)), random=())
    model = conditional_glmm(data.variables())
    assert [v.name for v in model.free_RVs] == ["beta"]


@pytest.mark.parametrize("family,link", [("poisson", "logit"), ("normal", "identity")])
def test_what_has_no_model_is_refused(family, link):
    with pytest.raises(SpecificationError, match=f"no model for family '{family}' with link '{link}'"):
        conditional_glmm(replace(rows("poisson", "log"), family=family, link=link).variables(), None)

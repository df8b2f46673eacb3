"""A user's own submodel: refusals (nothing is compiled), and Student-t errors against a sampler of another kind."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest

from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.fcs.blocks.check_model import build, check_draws
from bayesimp.fcs.blocks.pymc_user import UserConditional
from bayesimp.models.conditional_normal import ConditionalData
from tests.calibration.montecarlo import batch_means, bonferroni

NU, CLUSTERS = 4.0, 6


def rows(seed=3, n=8, clusters=CLUSTERS):
    """Observed rows of all clusters but the last; and three to be imputed, two of them in the last."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters - 1), n)
    X = np.column_stack([np.ones(len(cluster)), rng.normal(size=len(cluster))])
    y = X @ [0.3, 0.8] + 0.7 * rng.normal(size=clusters)[cluster] + 0.6 * rng.standard_t(NU, len(cluster))
    observed = ConditionalData("bmi", y, X, X[:, :1], cluster, clusters, ("1", "age"), ("1",))
    missing_X = np.array([[1.0, 0.5], [1.0, -1.0], [1.0, 0.0]])
    codes = np.array([0, clusters - 1, clusters - 1])
    return observed, replace(observed, y=None, X=missing_X, Z=missing_X[:, :1], cluster=codes)


def student_t(data, priors):
    with pm.Model(coords={"fixed": data.fixed, "cluster": range(data.clusters)}) as model:
        beta = pm.Normal("beta", 0, 2, dims="fixed")
        psi = pm.InverseGamma("psi", 2, 1)
        b = pm.Normal("b", 0, pt.sqrt(psi), dims="cluster")
        sigma2 = pm.InverseGamma("sigma2", 2, 1)
        mean = data.X @ beta + b[data.cluster]
        pm.StudentT(data.name, nu=NU, mu=mean, sigma=pt.sqrt(sigma2), observed=data.y)
    return model


def gibbs(observed, missing, count, seed=0):
    """The same posterior with errors as normals of variances sigma2 / w_j, w_j ~ Gamma(nu/2, nu/2)."""
    rng = np.random.default_rng(seed)
    X, y, codes, m = observed.X, observed.y, observed.cluster, observed.clusters
    D = np.column_stack([X, codes[:, None] == np.arange(m)])
    Dm = np.column_stack([missing.X, missing.cluster[:, None] == np.arange(m)])
    psi, sigma2, w, out = 1.0, 1.0, np.ones(len(y)), []
    for _ in range(count):
        precision = (D * (w / sigma2)[:, None]).T @ D + np.diag(np.r_[0.25, 0.25, np.full(m, 1 / psi)])
        L = np.linalg.cholesky(precision)
        t = np.linalg.solve(L, D.T @ (w / sigma2 * y)) + rng.standard_normal(2 + m)
        theta = np.linalg.solve(L.T, t)
        e, b = y - D @ theta, theta[2:]
        psi = (1 + 0.5 * b @ b) / rng.gamma(2 + 0.5 * m)
        sigma2 = (1 + 0.5 * (w * e * e).sum()) / rng.gamma(2 + 0.5 * len(y))
        w = rng.gamma(0.5 * (NU + 1), 1 / (0.5 * (NU + e * e / sigma2)))
        values = Dm @ theta + np.sqrt(sigma2) * rng.standard_t(NU, 3)
        out.append(np.r_[theta[:2], np.log([psi, sigma2]), b[[0, 5]], values])
    return np.array(out)


def block_draws(block, observed, missing, count, seed=1):
    rng, out = np.random.default_rng(seed), []
    state = block.start(rng, observed)
    for _ in range(count):
        values = block.step_rows(rng, state, observed, missing)
        p = block.parameters(state, observed)
        out.append(np.r_[p["beta"], np.log([p["psi"], p["sigma2"]]), p["b"][[0, 5]], values])
    return np.array(out)


def compare(a, b):
    """Means, squares, and shares of values below fixed points (tails and spread of the imputed values)."""
    from scipy.stats import t as student

    def features(d):
        tails = [np.abs(d[:, -3:]) < c for c in (0.5, 1.5, 4.0)]
        return np.column_stack([d[:, :-3], d[:, :-3] ** 2, np.clip(d[:, -3:], -8, 8), *tails])[None]

    (x, sx), (y, sy) = (batch_means(features(d)[:, 100:], batches=50) for d in (a, b))
    return bonferroni(2 * student.sf(np.abs(x - y) / np.hypot(sx, sy), 98))


@pytest.fixture(scope="module")
def block():
    """The one model that is compiled here; adapted on rows that are not those of the tests."""
    other, _ = rows(seed=8, n=11)
    made = UserConditional(student_t, other)
    made.adapt(np.random.default_rng(0), other)
    return made


def test_student_t_errors(block):
    observed, missing = rows()
    right = gibbs(observed, missing, 12_000)
    draws = block_draws(block, observed, missing, 4000)
    assert compare(draws, right) > 1e-3
    stale = block_draws(block, rows(seed=4)[0], missing, 2000)
    assert compare(stale, right) < 1e-6
    # values imputed in a cluster with rows, from the effect of a cluster without
    elsewhere = replace(missing, cluster=np.array([CLUSTERS - 1, 0, 0]))
    assert compare(block_draws(block, observed, elsewhere, 2000), right) < 1e-6


def test_one_function_for_variables_of_one_structure(block):
    observed, missing = rows(seed=5, n=4)
    other = UserConditional(student_t, replace(observed, name="age"))
    assert other.structure.compiled is block.structure.compiled
    other.adaptation = block.adaptation
    one, two = (block_draws(b, observed, missing, 5) for b in (block, other))
    assert np.array_equal(one, two)
    state, nothing = block.start(np.random.default_rng(0), observed), slice(0)
    none = replace(missing, X=missing.X[nothing], Z=missing.Z[nothing], cluster=missing.cluster[nothing])
    assert block.step_rows(np.random.default_rng(0), state, observed, none).shape == (0,)


def test_needs_adapting(block):
    observed, _ = rows()
    fresh = UserConditional(student_t, observed)
    with pytest.raises(SamplingError, match="'bmi' has not been adapted"):
        fresh.start(np.random.default_rng(0), observed)


def variant(
    observed=lambda data: data.y, name=lambda data: data.name, mean=lambda data, beta: data.X @ beta, add=None
):
    """A model with one thing changed."""

    def model_function(data, priors):
        with pm.Model() as model:
            beta = pm.Normal("beta", 0, 2, shape=2)
            shift = add(data) if add else 0
            pm.Normal(name(data), mean(data, beta) + shift, 1, observed=observed(data))
        return model

    return model_function


LONG = np.zeros(40)
BAD = {
    "no node named 'bmi'": variant(name=lambda data: "y"),
    "not observed; write observed=data.y": variant(observed=lambda data: None),
    "are not data.y": variant(observed=lambda data: LONG),
    "discrete: k": variant(add=lambda data: pm.Poisson("k", 1.0)),
    "'w' has a value for each row": variant(add=lambda data: pm.Normal("w", 0, 1, shape=data.y.shape)),
    "must have length data.clusters": variant(add=lambda data: pm.Normal("b", 0, 1, shape=3)[data.cluster]),
    "works only with the rows of the table": variant(add=lambda data: pm.Normal("g", 0, 1) * np.arange(40.0)),
    "not finite, because of 'half'": variant(add=lambda data: 0 * outside()),
    "must return a pymc.Model, not NoneType": lambda data, priors: None,
    "has no free variable": lambda data, priors: no_parameters(data),
}


def outside():
    return pm.HalfNormal("half", 1, default_transform=None, initval=-1.0)


def no_parameters(data):
    with pm.Model() as model:
        pm.Normal(data.name, data.X.sum(1), 1, observed=data.y)
    return model


@pytest.mark.parametrize("message", BAD)
def test_models_that_cannot_be_used_are_refused(message):
    observed, _ = rows()
    with pytest.raises(SpecificationError, match="The model of 'bmi'") as caught:
        build(BAD[message], observed, None)
    assert message in str(caught.value)


def test_clusters_out_of_range_are_refused():
    observed, _ = rows()
    with pytest.raises(SpecificationError, match=r"numbered 0\.\.2"):
        build(student_t, replace(observed, clusters=3), None)


def test_a_good_model_is_let_through():
    model, probe = build(variant(), rows()[0], None)
    assert "bmi" in model.named_vars and len(probe.X) == CLUSTERS


def test_draws_are_checked():
    observed, _ = rows()
    with pytest.raises(SpecificationError, match=r"uses data\.y"):
        check_draws(np.full(len(observed.X), np.nan), observed)
    with pytest.raises(SpecificationError, match="one value per row"):
        check_draws(np.zeros(1), observed)

"""The joint normal model against the same model written out row by row, Jacobians included."""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose

from bayesimp import priors
from bayesimp.kernels.normal.marginal import log_likelihood_by_cluster
from bayesimp.kernels.normal.statistics import collect
from bayesimp.models.joint_normal import joint_normal
from bayesimp.sampling.nuts import sample_nuts
from tests.longhand import joint_normal_rows as longhand

SIZES = [(2, 1, 2), (1, 2, 1), (3, 2, 2), (2, 1, 3)]  # p, q, r
PRIORS = {
    "default": priors.default(),
    "pan": priors.pan(),
    "lkj": priors.Priors(priors.LKJ(2.0, priors.HalfT(nu=3.0)), priors.LKJ(1.0, priors.Exponential())),
    "diagonal": priors.Priors(
        priors.Diagonal(priors.HalfNormal()), priors.Diagonal(), priors.Normal(0.5, 2.0)
    ),
    "diagonal_iw": priors.Priors(priors.Diagonal(priors.InverseWishart()), priors.HuangWand(nu=3.0)),
}


def table(p, q, r, seed=0, clusters=6, rows=40):
    """Rows with nothing observed; the last response missing throughout cluster 0."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(rows), rng.normal(size=(rows, p - 1))])
    Z = np.column_stack([np.ones(rows), rng.normal(size=(rows, q - 1))])
    codes = rng.integers(0, clusters, rows)
    Y = 2 * rng.normal(size=(rows, r)) + rng.normal(size=(clusters, r))[codes]
    Y[rng.random((rows, r)) < 0.2] = np.nan
    Y[:2] = np.nan
    Y[codes == 0, -1] = np.nan
    return X, Z, Y, codes, clusters


def resolved(prior, Y, q):
    sds = np.nanstd(Y, axis=0)
    Sigma = priors.resolve(prior.Sigma, sds, "Sigma")
    return priors.Priors(Sigma, priors.resolve(prior.Psi, np.repeat(sds, q), "Psi"), prior.beta, prior.name)


def numerical_log_jacobian(f, x, e=1e-4):
    columns = []
    for step in e * np.eye(len(x)):
        columns.append((8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * e))
    return np.linalg.slogdet(np.array(columns))[1]


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("p,q,r", SIZES)
def test_log_density_is_that_of_the_rows(name, p, q, r):
    data = table(p, q, r)
    prior = resolved(PRIORS[name], data[2], q)
    model = joint_normal(collect(*data), prior)
    plain = {"mode": "FAST_COMPILE"}  # nothing to compile: the Ops run their kernels
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    density = pm.pytensorf.compile(values, model.logp(), **plain)
    without = pm.pytensorf.compile(values, model.logp(jacobian=False), **plain)
    matrices = model.replace_rvs_by_values([model["beta"], model["Sigma"], model["Psi"]])
    constrain = pm.pytensorf.compile(values, matrices, **plain)
    start = model.initial_point(0)
    rng = np.random.default_rng(1)
    for _ in range(3):
        point = [start[v.name] + 0.5 * rng.normal(size=np.shape(start[v.name])) for v in values]
        expected = longhand.log_posterior(*data[:4], *constrain(*point), prior)
        assert_allclose(without(*point), expected, rtol=0, atol=1e-8)

    # Jacobians of all transformed variables, by differences
    jacobian = 0.0
    for k, (rv, value) in enumerate(zip(model.free_RVs, values, strict=True)):
        if model.rvs_to_transforms[rv] is not None:
            (natural,) = model.replace_rvs_by_values([rv])
            f = pm.pytensorf.compile([value], natural, **plain)
            lower = np.tril_indices(len(f(point[k]))) if rv.ndim == 2 else slice(None)
            jacobian += numerical_log_jacobian(lambda x, f=f, lower=lower: f(x)[lower], point[k])
    assert_allclose(density(*point), expected + jacobian, rtol=0, atol=1e-7)


def test_gradient_names_and_dimensions():
    data = table(2, 1, 2)
    labels = {"fixed": ["1", "x"], "response": ["u", "v"], "effect": ["u:1", "v:1"]}
    model = joint_normal(collect(*data), resolved(priors.default(), data[2], 1), labels)
    assert model.named_vars_to_dims["beta"] == ("fixed", "response")
    assert model.named_vars_to_dims["Sigma"] == ("response", "response_2")
    assert model.named_vars_to_dims["Psi"] == ("effect", "effect_2")
    assert list(model.coords["effect_2"]) == ["u:1", "v:1"]
    point = model.initial_point(0)
    slopes = model.compile_dlogp(mode="FAST_COMPILE")(point)
    assert np.all(np.isfinite(slopes))
    density = model.compile_logp(mode="FAST_COMPILE")
    names = [model.rvs_to_values[v].name for v in model.free_RVs]
    at = 0
    for name in names:
        for index in np.ndindex(point[name].shape):
            moved = [
                density({**point, name: point[name] + h * _unit(point[name], index)}) for h in (-1e-5, 1e-5)
            ]
            assert_allclose(slopes[at], (moved[1] - moved[0]) / 2e-5, rtol=1e-5, atol=1e-4)
            at += 1


def _unit(x, index):
    e = np.zeros_like(x)
    e[index] = 1
    return e


def test_new_data_need_no_new_model():
    first, second = table(2, 1, 2, seed=0), table(2, 1, 2, seed=1, clusters=9, rows=80)
    model, other = (joint_normal(collect(*t), resolved(priors.default(), t[2], 1)) for t in (first, second))
    names = ("observed", "cells", "gram", "total", "Sigma_scale", "Psi_scale")
    density = model.compile_logp(mode="FAST_COMPILE")
    with model:
        pm.set_data({k: other[k].get_value() for k in names})
    point = model.initial_point(0)
    assert_allclose(density(point), other.compile_logp(mode="FAST_COMPILE")(point), rtol=1e-12)


def test_nuts_and_the_fixed_prior():
    data = table(2, 1, 2, clusters=8, rows=200)
    prior = resolved(priors.Priors(priors.InverseWishart(), priors.Fixed(np.eye(2))), data[2], 1)
    statistics = collect(*data)
    out = sample_nuts(joint_normal(statistics, prior), chains=2, tune=500, draws=500, seed=1)
    assert out.draws["beta"].shape == (2, 500, 2, 2)
    assert np.all(out.draws["Psi"] == np.eye(2))
    assert not [e for e in out.events if e["kind"] == "divergence"]
    # given (Sigma, Psi) a flat beta is normal at the generalised least squares estimate
    Sigma = out.draws["Sigma"].mean((0, 1))
    X, Z, Y, codes, _ = data
    A, b = np.zeros((4, 4)), np.zeros(4)
    for i in np.unique(codes):
        y = Y[codes == i].ravel(order="F")
        seen = ~np.isnan(y)
        z = np.kron(np.eye(2), Z[codes == i])
        V = (np.kron(Sigma, np.eye(len(z) // 2)) + z @ z.T)[np.ix_(seen, seen)]
        x = np.kron(np.eye(2), X[codes == i])[seen]
        A += x.T @ np.linalg.solve(V, x)
        b += x.T @ np.linalg.solve(V, y[seen])
    estimate = np.linalg.solve(A, b).reshape(2, 2, order="F")
    error = np.sqrt(np.diag(np.linalg.inv(A))).reshape(2, 2, order="F")
    assert np.all(abs(out.draws["beta"].mean((0, 1)) - estimate) < 0.25 * error)
    clusters = log_likelihood_by_cluster(out.draws["beta"], out.draws["Sigma"], out.draws["Psi"], statistics)
    assert clusters.shape == (2, 500, 8)

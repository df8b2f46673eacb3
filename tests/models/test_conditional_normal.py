"""The conditional normal model against the joint one's longhand with one response; the example in the docs."""

import inspect
import textwrap

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose

from bayesimp import priors as pr
from bayesimp.kernels.normal.marginal import marginal_data
from bayesimp.kernels.normal.statistics import collect
from bayesimp.models.conditional_normal import ConditionalData, conditional_normal
from tests.longhand import joint_normal_rows as longhand
from tests.models.test_joint_normal import resolved, table

NORMAL = pr.Normal(0.5, 2.0)
PRIORS = {
    "default": pr.default(),
    "pan": pr.pan(),
    "inverse-Wishart, normal": pr.Priors(pr.InverseWishart(3.3, 0.5), pr.InverseWishart(4.2, 2.0), NORMAL),
    "lkj": pr.Priors(pr.HuangWand(nu=3.0), pr.LKJ(2.0, pr.HalfT(nu=3.0))),
    "lkj, half-normal": pr.Priors(pr.LKJ(1.0, pr.Exponential()), pr.LKJ(1.5, pr.HalfNormal())),
    "diagonal": pr.Priors(pr.Diagonal(pr.HalfNormal()), pr.Diagonal(), NORMAL),
    "diagonal, exponential": pr.Priors(pr.Diagonal(), pr.Diagonal(pr.Exponential())),
    "diagonal inverse-gamma": pr.Priors(
        pr.Diagonal(pr.InverseWishart(3.0, 0.4)), pr.Diagonal(pr.InverseWishart())
    ),
    "Sigma fixed": pr.Priors(pr.Fixed([[2.0]]), pr.HuangWand()),
}


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("p,q", [(2, 1), (3, 2)])
def test_density_is_that_of_the_rows(name, p, q):
    data = table(p, q, 1)
    prior = resolved(PRIORS[name], data[2], q)
    model = conditional_normal(marginal_data(collect(*data)), prior, p, q)
    values = [model.rvs_to_values[v] for v in model.free_RVs]
    plain = {"mode": "FAST_COMPILE"}
    density = pm.pytensorf.compile(values, model.logp(jacobian=False), **plain)
    matrices = model.replace_rvs_by_values([model["beta"], model["Sigma"], model["Psi"]])
    constrain = pm.pytensorf.compile(values, matrices, on_unused_input="ignore", **plain)
    start = model.initial_point(0)
    rng = np.random.default_rng(1)
    point = [start[v.name] + 0.5 * rng.normal(size=np.shape(start[v.name])) for v in values]
    expected = longhand.log_posterior(*data[:4], *constrain(*point), prior)
    assert_allclose(density(*point), expected, rtol=0, atol=1e-8)


def test_another_prior_is_another_density():
    data = table(2, 1, 1)
    values = []
    for name in ("default", "pan"):
        prior = resolved(PRIORS[name], data[2], 1)
        model = conditional_normal(marginal_data(collect(*data)), prior, 2, 1)
        point = {v.name: np.zeros(s) for v, s in zip(model.value_vars, [(2, 1), 1, 1], strict=True)}
        values.append(model.compile_logp(mode="FAST_COMPILE")(point))
    assert abs(values[0] - values[1]) > 1e-3


def documented_example():
    """`my_model` as the docstring of ConditionalData has it."""
    lines = inspect.getdoc(ConditionalData).splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith("def my_model"))
    last = next(i for i in range(first, len(lines)) if lines[i].strip() == "return model")
    names = {"pm": pm}
    exec(textwrap.dedent("\n".join(lines[first : last + 1])), names)
    return names["my_model"]


def test_the_documented_example_is_the_model_it_says():
    from scipy import stats

    X, Z, Y, codes, clusters = table(2, 1, 1)
    seen = ~np.isnan(Y[:, 0])
    data = ConditionalData("w", Y[seen, 0], X[seen], Z[seen], codes[seen], clusters, ("1", "x"), ("1",))
    model = documented_example()(data.variables(), None)
    rng = np.random.default_rng(2)
    beta, b, tau, sigma, nu = rng.normal(size=2), rng.normal(size=clusters), 0.7, 1.3, 6.0
    point = {
        "beta": beta,
        "b": b,
        "tau_log__": np.log(tau),
        "sigma_log__": np.log(sigma),
        "nu_log__": np.log(nu),
    }
    mean = data.X @ beta + b[data.cluster]
    expected = (
        stats.norm.logpdf(beta, 0, 10).sum()
        + stats.norm.logpdf(b, 0, tau).sum()
        + stats.halfnorm.logpdf([tau, sigma]).sum()
        + stats.gamma.logpdf(nu, 2, scale=10)
        + stats.t.logpdf(data.y, nu, mean, sigma).sum()
    )
    density = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    assert_allclose(density(point), expected, rtol=1e-8)  # PyTensor takes a bare 0.1 for single precision

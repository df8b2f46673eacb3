"""From kernel to completed table: blocks that sample a PyMC model, the library's and a user's own, against quadrature.

Tables, distributions and comparisons are those of test_wiring_families.py. Compilation takes most of the time: of the
generalised models one family always runs and the others run with `-m slow`.
"""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

import bayesimp as bi
from bayesimp.fcs.blocks.check_model import build
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.sampling.compiled_model import _graph
from tests.fcs.test_wiring_families import NORMAL, PLANE, against, share_of_its_own


def successes(data, priors):
    """Binomial, priors as by default: what a user may write."""
    with pm.Model(coords={"fixed": data.fixed, "cluster": range(data.clusters)}) as model:
        beta = pm.Normal("beta", 0, np.array([5.0, 2.5]), dims="fixed")
        sd = pm.HalfStudentT("sd", nu=2.0, sigma=1)
        v = pm.Normal("v", 0, 1, dims="cluster")
        pm.Binomial(data.name, n=data.trials, logit_p=data.X @ beta + sd * v[data.cluster], observed=data.y)
    return model


def test_normal_block():
    """Priors are those of `bayes`, in the units of the data."""
    z, limit = against("normal", bi.methods.PyMC(NORMAL), 400, 15)
    assert z < limit


@pytest.mark.parametrize(
    "family",
    ["bernoulli", *(pytest.param(name, marks=pytest.mark.slow) for name in (
        "binomial", "poisson", "negative_binomial", "ordinal", "categorical", "gamma", "inverse_gaussian", "beta",
        "student", "yeo_johnson", "zero_inflated_poisson", "zero_inflated_negative_binomial", "lognormal",
        "hurdle_poisson", "hurdle_negative_binomial"))],
)  # fmt: skip
def test_generalised_models(family):
    """Increments of cutpoints and everything else have the priors of `bayes`."""
    priors = bi.priors.Priors(beta=bi.priors.Weak())
    options = PLANE if family == "categorical" else {}
    z, limit = against(family, bi.methods.PyMC(priors), 300, 25, **options)
    assert z < limit


def test_a_users_own_model_has_its_trials_and_clusters():
    z, limit = against("binomial", bi.methods.PyMC(model=successes), 300, 25)
    assert z < limit


def test_values_belong_to_the_predictors_of_their_own_table():
    assert share_of_its_own(bi.methods.PyMC(bi.priors.Priors(beta=bi.priors.Weak())), cycles=10) > 0.85


@pytest.mark.parametrize("clusters", [(4, 5), (5, 4)])
def test_tables_with_other_numbers_of_clusters_share_no_compiled_model(clusters):
    """A compiled model splits a point by its own sizes: effects of more clusters were read from beyond its end."""

    def graph(m, rows=12):
        codes = np.arange(rows) % m
        X = np.column_stack([np.ones(rows), np.linspace(-1, 1, rows)])
        data = ConditionalData("y", codes % 2 * 1.0, X, X[:, :1], codes, m, ("1", "x"), ("1",), "binomial", "logit",
                               trials=np.ones(rows))  # fmt: skip
        model, _ = build(successes, data, None)
        return _graph(model, (), (), "y")[0]

    first, second = clusters
    assert not graph(first).equals(graph(second))
    assert graph(first).equals(graph(first, rows=20))

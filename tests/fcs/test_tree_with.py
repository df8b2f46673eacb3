"""What `tree_with` computes for chained equations from the posterior alone, and what the messages name instead."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import bayesimp as bi
from bayesimp.errors import SpecificationError


@pytest.fixture(scope="module")
def imp():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(8), 10), rng.normal(size=80)
    y = x + rng.normal(size=8)[g] + rng.normal(size=80)
    y[::5] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"g": g, "x": x, "y": y}), cluster="g")
    return bi.FCS(data, predictors="y ~ x + (1 + x | g)").impute(m=3, cycles=4, seed=1, progress=False)


def test_standard_deviations_and_correlations_follow_from_the_posterior(imp):
    posterior, made = imp.tree["posterior"], imp.tree_with("standard_deviations", "correlations")["posterior"]
    matrices = [str(name) for name in posterior.data_vars if str(name).startswith("Psi")]
    assert matrices
    for name in matrices:
        v = posterior[name].values
        assert_allclose(made[f"{name}_sd"], np.sqrt(np.einsum("...ii->...i", v)))
        if v.shape[-1] > 1:
            assert_allclose(
                made[f"{name}_correlation"][..., 0], v[..., 0, 1] / np.sqrt(v[..., 0, 0] * v[..., 1, 1])
            )


@pytest.mark.parametrize("what", ["log_likelihood", "posterior_predictive", "cluster_effects"])
def test_what_no_variable_has_is_refused_with_its_reason(imp, what):
    data = imp.data
    matched = bi.FCS(data, methods={"y": "pmm"}).impute(m=2, cycles=2, seed=1, progress=False)
    with pytest.raises(
        SpecificationError, match=f"{what}: no variable has it .*'y': method 'pmm': .*overimpute"
    ):
        matched.tree_with(what)


def test_what_the_refusal_names_instead_works(imp):
    """Every observed value, by the same model, and the share inside a range of 90 %."""
    told = imp.overimpute(m=19, groups=4, seed=2, cycles=4, progress=False)
    assert len(told.cells) == 64 and 0.7 < told.by_variable()["inside"].iloc[0] <= 1.0

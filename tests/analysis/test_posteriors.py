"""Posteriors mixed over imputations: distributions of mixtures, diagnostics within imputations, refusals."""

from __future__ import annotations

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesimp as bi
from bayesimp.analysis.posteriors import Posteriors
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from tests.unfolding import unfolded


def tree(mean=0.0, sd=1.0, seed=0, chains=4, draws=250, levels=("a", "b")) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    x = mean + sd * rng.normal(size=(chains, draws))
    u = rng.normal(size=(chains, draws, len(levels)))
    variables = {"x": (("chain", "draw"), x), "u": (("chain", "draw", "g"), u)}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(variables, coords={"g": list(levels)})})


def test_mixture_has_the_moments_of_its_parts():
    means = [0.0, 1.0, 3.0]
    made = bi.stack_posteriors([tree(mean, seed=k) for k, mean in enumerate(means)])
    table = made.to_frame().set_index("term")
    draws = np.concatenate([made.posterior["x"].sel(imputation=k).to_numpy().ravel() for k in (1, 2, 3)])
    assert len(draws) == 3000
    x = table.loc["x"]
    np.testing.assert_allclose([x["estimate"], x["std.error"]], [draws.mean(), draws.std()])
    np.testing.assert_allclose([x["conf.low"], x["conf.high"]], np.quantile(draws, [0.025, 0.975]))
    # total variance: 1 within, 14/9 between; each within 4 Monte Carlo standard errors of 3000 draws
    assert x["std.error"] ** 2 == pytest.approx(1 + np.var(means), abs=4 * np.sqrt(2 / 3000) * 2)
    assert x["fmi"] == pytest.approx(np.var(means) / (1 + np.var(means)), abs=0.03)
    assert table.loc["u[a]", "fmi"] < 0.01
    assert list(made.tidy())[:5] == ["term", "estimate", "std_error", "conf_low", "conf_high"]


def test_r_hat_is_within_imputations():
    """Posteriors that differ between tables are not a failure to converge, as an R-hat over all chains would suggest."""
    made = bi.stack_posteriors([tree(2.0 * k, seed=k) for k in range(4)])
    rhat = made.diagnostics.set_index("term").loc["x", "rhat"]
    assert rhat < 1.02
    each = [float(az.rhat(tree(2.0 * k, seed=k))["x"]) for k in range(4)]
    assert rhat == pytest.approx(max(each))
    assert made.diagnostics.loc[0, "imputation"] == 1 + int(np.argmax(each))
    assert float(az.rhat(made.tree)["x"]) > 1.5  # over all chains
    np.testing.assert_array_equal(made.tree["posterior"]["imputation"], np.repeat([1, 2, 3, 4], 4))
    assert dict(made.tree["posterior"].sizes) == {"chain": 16, "draw": 250, "g": 2}


def test_a_table_whose_chains_differ_is_named():
    bad = tree(seed=5)
    bad["posterior"]["x"][:] = bad["posterior"]["x"] + np.arange(4)[:, None]
    with pytest.warns(StatisticalWarning, match=r"up to \d\.\d+ \(x, imputation 2\)"):
        bi.stack_posteriors([tree(), bad, tree(seed=1)])


def test_an_analysis_that_returns_trees():
    """Mixed exact posteriors of a normal mean under a flat prior agree closely with Rubin's rules on the same tables."""
    rng = np.random.default_rng(2)
    base = rng.normal(size=100)
    tables = [pd.DataFrame({"y": np.r_[base[:70], rng.normal(size=30)]}) for _ in range(40)]
    calls = []

    def posterior(table):
        calls.append(len(table))
        mean, se = table.y.mean(), table.y.std() / 10
        return tree(mean, se, seed=len(calls))

    made = bi.fit_each(tables, posterior)
    assert isinstance(made, Posteriors) and len(made) == 40 and len(calls) == 40
    pooled = bi.fit_each(tables, "y ~ 1").pool()
    row = made.to_frame().iloc[0]
    assert row["estimate"] == pytest.approx(pooled.estimate[0], abs=4 * pooled.std_error[0] / np.sqrt(40_000))
    assert row["std.error"] == pytest.approx(
        pooled.std_error[0], rel=0.02
    )  # b (M - 1) / M instead of (1 + 1 / M)
    assert row["fmi"] == pytest.approx(pooled.lambda_[0], abs=0.02)
    assert "R-hat within imputations" in unfolded(repr(made))


def test_what_is_refused():
    with pytest.raises(SpecificationError, match=r"at least two completed tables; give a DataTree .* got 1"):
        bi.stack_posteriors([tree()])
    with pytest.raises(SpecificationError, match="got 1"):
        bi.stack_posteriors(tree())
    with pytest.raises(SpecificationError, match="got int"):
        bi.stack_posteriors(3)
    with pytest.raises(DataError, match="the posterior of table 2 has 'u'"):
        bi.stack_posteriors([tree(), tree(levels=("a", "b", "c"))])
    with pytest.raises(DataError, match=r"table 3 has 'x' with .*'draw': 100"):
        bi.stack_posteriors([tree(), tree(seed=1), tree(draws=100)])
    with pytest.raises(SpecificationError, match="level = 95"):
        bi.stack_posteriors([tree(), tree(seed=1)]).to_frame(95)

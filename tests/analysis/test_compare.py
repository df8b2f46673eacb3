"""D1, D2, D3 against mitml::testModels and mice::D1 on frozen completed tables, and their limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bayesimp.analysis.compare import compare, d1, d2, d3
from bayesimp.analysis.fit import fit_each
from bayesimp.errors import SpecificationError, StatisticalWarning

FOLDER = Path(__file__).parents[1] / "reference"
REFERENCE = json.loads((FOLDER / "pooling.json").read_text())


@pytest.fixture(scope="module")
def tables():
    long = pd.read_csv(FOLDER / "pooling_tables.csv")
    return [frame.drop(columns=".imp") for _, frame in long.groupby(".imp")]


MODELS = {
    "mixed": ("y ~ x1 + x2 + (1 | g)", "y ~ 1 + (1 | g)"),
    "linear": ("y ~ x1 + x2", "y ~ 1"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("test", ["D1", "D1_df", "D2", "D2_lrt", "D3"])
def test_as_mitml(tables, kind, test):
    larger, smaller = (fit_each(tables, formula, reml=False) for formula in MODELS[kind])
    if test == "D2_lrt":
        result = d2(2 * (larger.loglik - smaller.loglik), 2)
    else:
        result = compare(larger, smaller, test[:2], df_complete=100 if test == "D1_df" else np.inf)
    frozen = REFERENCE[kind][test]
    assert result.df1 == frozen["df1"]
    ours = [result.statistic, result.df2, result.p_value, result.riv]
    # lme4's estimates are within 1e-4 standard errors of the optimum
    np.testing.assert_allclose(ours, [frozen[k] for k in ("F.value", "df2", "P(>F)", "RIV")], rtol=2e-4)


def test_as_mice_D1(tables):
    larger, smaller = (fit_each(tables, formula) for formula in MODELS["linear"])
    frozen = REFERENCE["mice_D1_lm"]
    # mice takes the residual df of the larger model, 120 - 3
    assert compare(larger, smaller, df_complete=larger.df_complete).df2 == pytest.approx(
        frozen["df2"], rel=1e-9
    )
    assert compare(larger, smaller).statistic == pytest.approx(frozen["F.value"], rel=1e-9)


def test_pooled_tables_as_mice_and_mitml(tables):
    table = fit_each(tables, "y ~ x1 + x2").pool().to_frame()
    frozen = pd.DataFrame(REFERENCE["pooled_lm"])
    for name in ("estimate", "std.error", "df", "p.value", "riv", "lambda", "fmi", "ubar", "b", "t", "dfcom"):
        np.testing.assert_allclose(table[name], frozen[name], rtol=1e-6)
    # fmi and lambda are above 1e-4 here: mice 3.15 still has that floor
    np.testing.assert_allclose(table[["conf.low", "conf.high"]], frozen[["2.5 %", "97.5 %"]], rtol=1e-6)
    mixed = fit_each(tables, "y ~ x1 + x2 + (1 | g)", reml=False).pool(df_complete=np.inf).to_frame()
    lmer = pd.DataFrame(REFERENCE["pooled_lmer"])
    for ours, theirs in (("estimate", "Estimate"), ("std.error", "Std.Error"), ("df", "df"), ("riv", "RIV")):
        np.testing.assert_allclose(mixed[ours], lmer[theirs], rtol=2e-3 if ours in ("df", "riv") else 1e-4)


def test_one_parameter_D1_is_the_squared_t():
    rng = np.random.default_rng(1)
    Q, U = rng.normal(1, 0.1, (10, 1)), np.full((10, 1, 1), 0.02)
    t = Q.mean() / np.sqrt(0.02 + 1.1 * Q.var(ddof=1))
    assert d1(Q, U).statistic == pytest.approx(t**2)


def test_nothing_missing_gives_the_complete_data_tests():
    Q, U = np.tile([1.0, 2.0], (4, 1)), np.tile(np.diag([0.5, 2.0]), (4, 1, 1))
    one, two, three = d1(Q, U), d2(np.full(4, 4.0), 2), d3(np.full(4, 4.0), np.full(4, 4.0), 2)
    for test in (one, two, three):
        assert (
            test.riv == 0
            and test.statistic == pytest.approx(2.0)
            and test.p_value == pytest.approx(stats.chi2.sf(4, 2))
        )


def test_D1_does_not_depend_on_the_basis():
    rng = np.random.default_rng(2)
    Q, W = rng.normal(size=(7, 3)), rng.normal(size=(7, 3, 3))
    U, A = W @ np.swapaxes(W, 1, 2) + np.eye(3), rng.normal(size=(3, 3))
    assert d1(Q @ A.T, A @ U @ A.T, 60).p_value == pytest.approx(d1(Q, U, 60).p_value)
    assert d1(Q + 5, U, null=5 * np.ones(3)).statistic == pytest.approx(d1(Q, U).statistic)


def test_what_cannot_be_tested_is_said(tables):
    restricted, ml = fit_each(tables, "y ~ x1 + (1 | g)"), fit_each(tables, "y ~ x1", reml=False)
    with pytest.raises(SpecificationError, match="reml=False"):
        compare(restricted, ml, "D3")
    with pytest.raises(SpecificationError, match="not nested"):
        compare(ml, fit_each(tables, "y ~ x2"))
    with pytest.raises(SpecificationError, match="Reiter"):
        d1(np.array([[1.0], [2.0], [3.0]]), np.full((3, 1, 1), 0.1), 20)
    with pytest.warns(StatisticalWarning, match="below zero"):
        d3(np.array([3.0, 4.0, 5.0]), np.array([4.0, 5.0, 6.0]), 1)

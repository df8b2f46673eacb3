"""Rubin's rules on given estimates: against R's mice, mice's own test cases by identifier, limits, properties."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from bayesimp.analysis.pool import barnard_rubin, pool, pool_scalars
from bayesimp.analysis.pooled_components import pool_components
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "pooling.json").read_text())
COLUMNS = (
    "term m estimate std.error statistic df p.value conf.low conf.high riv lambda fmi ubar b t dfcom mc.error"
).split()


@pytest.mark.parametrize("case", REFERENCE["scalars"])
def test_as_mice_pool_scalar(case):
    p = pool_scalars(case["Q"], case["U"], float(case["dfcom"]))
    ours = [p.estimate, p.ubar, p.b, p.t, p.df, p.riv, p.fmi, p.lambda_]
    theirs = [case[k] for k in ("qbar", "ubar", "b", "t", "df", "riv", "fmi", "lambda")]
    np.testing.assert_allclose(np.ravel(ours), theirs, rtol=1e-9)


def _floored(lambda_, m, dfcom):
    """Barnard & Rubin as in earlier versions of mice: lambda is at least 1e-4."""
    lambda_ = np.maximum(lambda_, 1e-4)
    old = (m - 1) / lambda_**2
    observed = (dfcom + 1) / (dfcom + 3) * dfcom * (1 - lambda_)
    return old * observed / (old + observed)


def test_BARNARD_RUBIN_001():
    """lambda >= 1e-4, dfcom = 100, m = 10: as with the floor; lambda = 1 gives 0."""
    lambda_ = np.linspace(1, 1e-4, 100)
    np.testing.assert_allclose(barnard_rubin(lambda_, 10, 100), _floored(lambda_, 10, 100))


def test_BARNARD_RUBIN_002():
    """dfcom infinite, m = 10: (m - 1) / lambda^2."""
    lambda_ = np.linspace(1, 1e-4, 100)
    np.testing.assert_allclose(barnard_rubin(lambda_, 10, np.inf), 9 / lambda_**2)


def test_BARNARD_RUBIN_003():
    """lambda < 1e-4: there is no floor, so the number differs from the one with it."""
    lambda_ = np.linspace(1e-4, 0, 100)[1:]
    assert np.all(barnard_rubin(lambda_, 10, 100) != _floored(lambda_, 10, 100))


def test_BARNARD_RUBIN_004():
    """lambda -> 0: dfcom (dfcom + 1) / (dfcom + 3) at 0, never further from it than with the floor."""
    lambda_, limit = np.array([0, 1e-8, 1e-6, 5e-5]), 100 * 101 / 103
    df = barnard_rubin(lambda_, 10, 100)
    assert np.all(np.isfinite(df)) and df[0] == pytest.approx(limit, rel=1e-14)
    assert np.all(np.abs(df - limit) <= np.abs(_floored(lambda_, 10, 100) - limit))


def test_BARNARD_RUBIN_005():
    """dfcom infinite, m = 8, t = 2: (m - 1) / lambda^2, for scalars."""
    for lambda_ in (1e-4, 1e-3, 0.2):
        assert barnard_rubin(lambda_, 8, np.inf) == pytest.approx(7 / lambda_**2)


def test_barnard_rubin_as_mice_computes_it():
    frozen = REFERENCE["barnard_rubin"]
    np.testing.assert_allclose(barnard_rubin(frozen["lambda"], 10, 100), frozen["finite"], rtol=1e-10)
    np.testing.assert_allclose(barnard_rubin(frozen["lambda"], 10), frozen["infinite"], rtol=1e-10)


def test_limits():
    same = pool_scalars([1.0, 1.0, 1.0], [0.2, 0.2, 0.2], 50)  # B = 0: nothing is missing
    assert same.b[0] == 0 and same.lambda_[0] == 0 and same.t[0] == pytest.approx(0.2)
    assert same.df[0] == pytest.approx(50 * 51 / 53)
    assert pool_scalars([1.0, 1.0], [0.2, 0.2]).df[0] == np.inf
    assert pool_scalars([1.0, 1.0], [0.2, 0.2]).fmi[0] == 0
    lost = pool_scalars([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])  # U = 0: everything between
    assert lost.lambda_[0] == 1 and np.isinf(lost.riv[0]) and lost.df[0] == 2 and lost.fmi[0] == 1
    known = pool_scalars([1.0, 1.0], [0.0, 0.0])  # neither: a constant
    assert known.t[0] == 0 and np.isnan(known.lambda_[0])
    with pytest.raises(SpecificationError, match="at least two"):
        pool_scalars([1.0], [0.2])
    with pytest.raises(SpecificationError, match="must be"):
        pool(np.ones((3, 2)), np.ones((3, 3, 3)))
    with pytest.raises(DataError, match="negative"):
        pool_scalars([1.0, 2.0], [-0.1, -0.1])


estimates = arrays(float, (5, 3), elements=st.floats(-10, 10))
roots = arrays(float, (5, 3, 3), elements=st.floats(-2, 2))


@settings(max_examples=60, deadline=None)
@given(estimates, roots, st.floats(0.1, 10), st.floats(-5, 5), st.permutations(range(5)), st.floats(3, 1e4))
def test_properties(Q, W, scale, shift, order, dfcom):
    U = W @ np.swapaxes(W, 1, 2) + 0.05 * np.eye(3)
    p = pool(Q, U, dfcom)
    moved = pool(scale * Q + shift, scale**2 * U, dfcom)
    np.testing.assert_allclose(moved.estimate, scale * p.estimate + shift, atol=1e-9)
    np.testing.assert_allclose(moved.covariance, scale**2 * p.covariance, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(moved.df, p.df, rtol=1e-4)
    mixed = pool(Q[order], U[order], dfcom)
    np.testing.assert_allclose(mixed.covariance, p.covariance, atol=1e-9)
    A = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]])
    linear = pool(Q @ A.T, A @ U @ A.T, dfcom)
    np.testing.assert_allclose(linear.covariance, A @ p.covariance @ A.T, atol=1e-8)
    assert (
        np.all(p.t >= p.ubar)
        and np.all(p.df <= dfcom)
        and np.all(p.df <= 4 / np.maximum(p.lambda_, 1e-150) ** 2)
    )
    for share in (p.lambda_, p.fmi):
        assert np.all((share >= 0) & (share <= 1))


def test_table_has_the_columns_of_mice_and_is_right():
    rng = np.random.default_rng(1)
    table = pool(rng.normal(size=(6, 2)), np.full((6, 2), 0.3), 40, terms=["a", "b"]).to_frame(level=0.9)
    assert list(table.columns) == COLUMNS
    row = table.iloc[1]
    assert row["conf.high"] == pytest.approx(row.estimate + stats.t.ppf(0.95, row.df) * row["std.error"])
    assert row["p.value"] == pytest.approx(2 * stats.t.sf(abs(row.statistic), row.df))


def test_intervals_are_of_95_percent_unless_another_level_is_given():
    rng = np.random.default_rng(6)
    pooled = pool(rng.normal(size=(6, 2)), np.full((6, 2), 0.3), 40, terms=["a", "b"])
    table = pooled.to_frame()
    for level, interval in ((0.95, pooled.interval()), (0.8, pooled.interval(0.8))):
        half = stats.t(pooled.df).ppf(0.5 + level / 2) * pooled.std_error
        np.testing.assert_allclose(
            interval, np.column_stack([pooled.estimate - half, pooled.estimate + half])
        )
    np.testing.assert_array_equal(pooled.interval(), table[["conf.low", "conf.high"]])


def test_components_on_every_scale():
    rng = np.random.default_rng(2)
    phi = np.column_stack([0.1 * rng.normal(size=8), 0.3 + 0.1 * rng.normal(size=8)])
    V = np.tile(np.diag([0.02, 0.04]), (8, 1, 1))
    tables = {
        s: pool_components(phi, V, ["sd", "cor"], [False, True], s).to_frame()
        for s in ("log", "sd", "variance")
    }
    assert tables["log"].scale.tolist() == ["log", "fisher z"]
    assert tables["log"].value[0] == pytest.approx(np.exp(phi[:, 0].mean()))
    assert tables["log"].value[1] == pytest.approx(np.tanh(phi[:, 1].mean()))
    assert tables["sd"].estimate[0] == pytest.approx(np.exp(phi[:, 0]).mean())
    assert tables["variance"].ubar[0] == pytest.approx(np.mean(4 * np.exp(4 * phi[:, 0]) * 0.02))
    assert tables["variance"].value[0] == pytest.approx(np.sqrt(np.exp(2 * phi[:, 0]).mean()))
    median = pool_components(phi, V, ["sd", "cor"], [False, True], "median").to_frame()
    assert (
        median.estimate[0] == pytest.approx(np.median(np.exp(phi[:, 0])))
        and np.isnan(median["std.error"]).all()
    )
    with pytest.raises(SpecificationError, match="scale"):
        pool_components(phi, V, ["sd", "cor"], [False, True], "precision")


def test_a_singular_fit_is_said_not_hidden():
    phi = np.array([[0.0], [-np.inf], [0.2]])
    V = np.array([[[0.1]], [[np.nan]], [[0.1]]])
    with pytest.warns(
        StatisticalWarning, match="sd: a variance of zero in 1 of 3 tables: it has no standard error"
    ):
        p = pool_components(phi, V, ["sd"], [False], "sd")
    assert p.estimate[0] == pytest.approx((1 + 0 + np.exp(0.2)) / 3) and np.isnan(p.t[0])
    assert pool_components(phi, V, ["sd"], [False], "median").estimate[0] == 1


def test_wrong_variants_are_told_apart():
    """Without 1/M, or with variances divided by M: neither agrees with the reference."""
    case = REFERENCE["scalars"][0]
    Q = np.array(case["Q"])
    wrong = [np.mean(case["U"]) + Q.var(ddof=1), np.mean(case["U"]) + (1 + 1 / len(Q)) * Q.var()]
    assert all(abs(w / case["t"] - 1) > 1e-3 for w in wrong)


@pytest.mark.r
def test_mice_live():
    if shutil.which("Rscript") is None:
        pytest.skip("no R")
    call = 'pool.scalar(c(1, 1.5, 2.2), c(.1, .2, .15), n = 31, k = 1)[c("t", "df", "fmi")]'
    code = f"suppressMessages(library(mice)); cat(unlist({call}))"
    done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("R has no mice")
    p = pool_scalars([1, 1.5, 2.2], [0.1, 0.2, 0.15], 30)
    np.testing.assert_allclose(
        [p.t[0], p.df[0], p.fmi[0]], [float(x) for x in done.stdout.split()], rtol=1e-5
    )

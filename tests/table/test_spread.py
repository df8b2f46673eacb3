"""Residual spread that differs between clusters: statistics, events of every engine, the choice of `bi.impute`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.table.spread import DIFFERS, LARGE, LEVEL, residual_spread, spread_statistics
from bayesimp.workflow.automatic import _chosen
from tests.unfolding import unfolded


def table(ratio: float, m: int = 12, n: int = 25, seed: int = 1) -> pd.DataFrame:
    """y given x with residual sd 1 in half of the clusters and `ratio` in the others; x spreads differently as well."""
    rng, c = np.random.default_rng(seed), np.repeat(np.arange(m), n)
    wide = c % 2 == 1
    x = rng.normal(size=m)[c] + np.where(wide, 4.0, 1.0) * rng.normal(size=m * n)
    y = 3 * x + rng.normal(size=m)[c] + np.where(wide, ratio, 1.0) * rng.normal(size=m * n)
    frame = pd.DataFrame({"c": c, "x": x, "y": y})
    frame.loc[rng.random(m * n) < 0.2, "y"] = np.nan
    frame.loc[(rng.random(m * n) < 0.3) & (c < 4), "x"] = np.nan
    return frame


def test_brown_forsythe_is_that_of_scipy():
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(5), [6, 9, 14, 5, 30])
    e = rng.standard_t(4, size=len(codes)) * np.array([1, 1, 2, 1, 3.0])[codes]
    found = spread_statistics(e, codes)
    groups = [e[codes == k] for k in range(5)]
    assert np.isclose(found[0], stats.levene(*groups, center="median").pvalue, rtol=1e-10)
    assert np.allclose(found[3], [np.std(g, ddof=1) for g in groups])


def test_tau_is_the_spread_of_log_standard_deviations():
    """300 clusters of 12 rows; without var l_i, which is 0.19, tau would be 0.45 instead of 0.4."""
    rng, m, n = np.random.default_rng(4), 300, 12
    codes = np.repeat(np.arange(m), n)
    estimates = []
    for _ in range(20):
        e = np.exp(0.4 * rng.normal(size=m))[codes] * rng.normal(size=m * n)
        estimates.append(spread_statistics(e, codes)[1])
    mean, error = np.mean(estimates), np.std(estimates, ddof=1) / 20**0.5
    assert abs(mean - 0.4) < 4 * error and error < 0.01


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_residuals_given_the_others(ratio):
    """The sd of y itself is 3 to 12 in any case; its residual given x, also where x is missing, decides."""
    found = {s.variable: s for s in residual_spread(bi.IncompleteData(table(ratio), "c"), ["x", "y"])}
    assert found["y"].differs == (ratio > 1)
    narrow, wide = (found["y"].sds[k::2].mean() for k in (0, 1))
    assert 0.6 < wide / narrow / ratio < 1.6
    assert found["y"].rows.sum() == table(ratio)["y"].notna().sum()


def test_small_clusters_and_exact_sums_are_no_evidence():
    frame = table(4.0, n=4)
    assert residual_spread(bi.IncompleteData(frame, "c"), ["y"]) == []
    frame = table(1.0)
    frame["half"], frame["rest"] = 0.5 * frame["y"] + frame["x"], 0.5 * frame["y"] - frame["x"]
    found = residual_spread(bi.IncompleteData(frame, "c"), ["y"])
    assert not any(s.differs for s in found)


def engines(data: bi.IncompleteData) -> dict:
    return {
        "joint": lambda: bi.JointNormal(data, "y + x ~ 1 + (1 | c)"),
        "latent": lambda: bi.JointLatent(data, "y + x ~ 1 + (1 | c)"),
        "glmm": lambda: bi.JointGLMM(data, "y ~ x + (1 | c)"),
        "fcs": lambda: bi.FCS(data),
        "own": lambda: bi.JointLatent(data, "y + x ~ 1 + (1 | c)", residual="cluster"),
        "fcs, own": lambda: bi.FCS(data, methods={v: bi.methods.Gibbs(residual="cluster") for v in "xy"}),
        "pmm": lambda: bi.FCS(data, methods="pmm"),
    }


@pytest.mark.parametrize("name", ["joint", "latent", "glmm", "fcs", "own", "fcs, own", "pmm"])
def test_event_of_engines(name):
    """Where one variance is used for clusters that differ, and only there; the message names them and the cure."""
    for ratio in (1.0, 4.0):
        model = engines(bi.IncompleteData(table(ratio), "c"))[name]()
        told = [e for e in model.events if e.kind == DIFFERS and "y" in e.where]
        assert len(told) == (ratio > 1 and name in ("joint", "latent", "glmm", "fcs"))
        for event in told:
            assert "residual='cluster'" in event.message and "rows" in event.message
            assert "{name}" not in event.message


def test_logarithm_is_advised_where_the_spread_grows_with_the_mean():
    rng, c = np.random.default_rng(2), np.repeat(np.arange(20), 15)
    y = np.exp(1.0 * rng.normal(size=20)[c] + 0.2 * rng.normal(size=300))
    y[rng.random(300) < 0.2] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"c": c, "y": y, "x": rng.normal(size=300)}), "c")
    event = next(e for e in bi.FCS(data).events if e.kind == DIFFERS)
    assert "'lognormal'" in event.message
    for origin in (0.0, 1000.0):  # some values are negative; the means say nothing about the spread
        data = bi.IncompleteData(table(4.0).assign(y=table(4.0)["y"] + origin), "c")
        event = next(e for e in bi.FCS(data).events if e.kind == DIFFERS)
        assert "'lognormal'" not in event.message


def test_the_choice_of_impute():
    """A residual covariance for each cluster where spreads differ, but not against the user's word or in few clusters."""
    differ, alike = (bi.IncompleteData(table(ratio), "c") for ratio in (4.0, 1.0))
    few = bi.IncompleteData(table(4.0, m=6, n=40), "c")

    def model(data, engine=None, **own):
        choice, made, _ = _chosen(data, None, engine, own)
        return choice, made

    choice, made = model(differ)
    assert made.residual == "cluster" and "residual='common' has one for all" in choice.reason
    for made in (
        model(alike)[1],
        model(few)[1],
        model(differ, residual="common")[1],
        model(differ, "joint")[1],
    ):
        assert type(made).__name__ == "JointNormal"
    assert model(alike, residual="cluster")[1].residual == "cluster"
    assert any(e.kind == DIFFERS for e in model(few)[1].events)


@pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")  # so short a run need not mix
def test_impute_prints_the_doubt(capsys):
    bi.impute(table(4.0), "c", 2, engine="joint", draws=20, tune=20, seed=1, progress=False)
    said = unfolded(capsys.readouterr().out)
    assert "Imputed with one residual variance, though clusters differ" in said


def test_level_in_small_skewed_tables():
    """At most a binomial(400, 0.003) of alarms, the largest rate in benchmarks/RESIDUAL_SPREAD.md, at level 1e-3."""
    rng, codes = np.random.default_rng(5), np.repeat(np.arange(8), 10)
    found = [spread_statistics(rng.exponential(size=80), codes)[:2] for _ in range(400)]
    assert sum(p < LEVEL and tau > LARGE for p, tau in found) <= stats.binom.isf(1e-3, 400, 0.003)


@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_slopes_that_differ_are_no_difference_in_spread(ratio):
    """They were taken for one: with slopes of sd 6 the deviations from the regression they have in common differ."""
    rng, c = np.random.default_rng(7), np.repeat(np.arange(24), 16)
    x = rng.normal(size=len(c))
    sd = np.exp(np.linspace(-0.5, 0.5, 24) * np.log(ratio))[c]
    y = 6.0 * rng.normal(size=24)[c] * x + sd * rng.normal(size=len(c))
    y[rng.random(len(c)) < 0.2] = np.nan
    data = bi.IncompleteData(pd.DataFrame({"c": c, "x": x, "z": rng.normal(size=len(c)), "y": y}), "c")
    for model in (
        bi.JointNormal(data, "y ~ x + z + (1 + x | c)"),
        bi.JointGLMM(data, "y ~ x + z + (1 + x | c)"),
        bi.FCS(data, predictors=["y ~ x + z + (1 + x | c)"]),
    ):
        assert any(e.kind == DIFFERS for e in model.events) == (ratio > 1)
    common = bi.JointNormal(data, "y ~ x + z + (1 | c)")  # one slope for all: what is left does differ
    assert any(e.kind == DIFFERS for e in common.events)
    found = residual_spread(data, ["y"], ["x", "z"], ["x"])[0]
    assert abs(found.tau - np.std(np.log(sd))) < 0.25


@pytest.mark.parametrize("levels", [["no", "yes"], ["a", "b", "c"]])
def test_slopes_of_columns_with_levels(levels):
    """Text is read as models read it: a yes/no column as 0 and 1, others as indicators of their levels."""
    rng, c = np.random.default_rng(8), np.repeat(np.arange(24), 24)
    k = rng.integers(0, len(levels), len(c))
    y = 4.0 * rng.normal(size=(24, len(levels)))[c, k] + rng.normal(size=len(c))
    y[rng.random(len(c)) < 0.2] = np.nan
    frame = pd.DataFrame({"c": c, "f": np.array(levels, object)[k], "y": y})
    data = bi.IncompleteData(frame, "c")
    model = bi.JointNormal(data, "y ~ f + (1 + f | c)")
    assert not any(e.kind == DIFFERS for e in model.events)
    (found,) = residual_spread(data, ["y"], ["f"], ["f"])
    assert found.tau < 0.25 and abs(np.median(found.sds) - 1.0) < 0.15

"""Merged rows against sums of log densities by SciPy, and a chained run with and without them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.fcs.blocks import glmm as glmm_block
from bayesimp.kernels.families.codes import GAMMA, LOGIT, NEGATIVE_BINOMIAL, POISSON, PROBIT
from bayesimp.kernels.glmm.merge import FEW, merge_rows
from bayesimp.kernels.glmm.rows import GlmmRows

SIZES = [0, 1, 40, 0, 700, 3]
CLUSTER = np.repeat(np.arange(len(SIZES)), SIZES)
FIRST = np.r_[0, np.cumsum(SIZES)].astype(np.int64)
N = len(CLUSTER)


def make(family: int, *, offset: bool = False, seed: int = 0) -> GlmmRows:
    """Three fixed columns of few values; the random column is not one of them."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(N), rng.integers(0, 2, N), rng.integers(0, 4, N) / 3.0])
    trials = rng.integers(0, 4, N).astype(float) if family in (LOGIT, PROBIT) else np.ones(N)
    y = (
        rng.binomial(trials.astype(int), 0.4).astype(float)
        if family != POISSON
        else rng.poisson(1.5, N) * 1.0
    )
    known = 0.5 * rng.integers(0, 2, N) if offset else np.zeros(N)
    return GlmmRows(family, y, trials, np.ones(N), known, X, rng.integers(0, 2, (N, 1)) - 0.5, FIRST)


def log_densities(rows: GlmmRows, beta: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Sum over the rows of each cluster, by SciPy."""
    cluster = np.repeat(np.arange(len(SIZES)), np.diff(rows.first))
    eta = rows.offset + rows.X @ beta + (rows.Z * B[cluster]).sum(axis=1)
    if rows.family == POISSON:
        each = stats.poisson.logpmf(rows.y, np.exp(eta))
    else:
        p = 1 / (1 + np.exp(-eta)) if rows.family == LOGIT else stats.norm.cdf(eta)
        each = stats.binom.logpmf(rows.y, rows.trials, p)
    return np.bincount(cluster, each, len(SIZES))


def differences(rows: GlmmRows, merged: GlmmRows) -> np.ndarray:
    """Log densities of merged rows less those of rows, at four random points: equal up to a constant in each cluster."""
    rng = np.random.default_rng(1)
    points = [(rng.normal(size=3), rng.normal(size=(len(SIZES), 1))) for _ in range(4)]
    return np.array([log_densities(merged, *at) - log_densities(rows, *at) for at in points])


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("family", [LOGIT, PROBIT, POISSON])
def test_the_likelihood_is_that_of_the_rows_up_to_a_constant(family, offset):
    rows = make(family, offset=offset)
    merged = merge_rows(rows)
    assert np.ptp(differences(rows, merged), axis=0).max() < 1e-9


@pytest.mark.parametrize("family", [LOGIT, POISSON])
def test_rows_are_merged_within_clusters_and_in_order_of_appearance(family):
    rows = make(family)
    merged = merge_rows(rows)
    table = pd.DataFrame(np.column_stack([CLUSTER, rows.X, rows.Z]))
    groups = (
        table.assign(y=rows.y, n=rows.trials, k=1).groupby(list(range(5)), sort=False).sum().reset_index()
    )
    np.testing.assert_array_equal(np.column_stack([merged.X, merged.Z]), groups[[1, 2, 3, 4]])
    np.testing.assert_array_equal(merged.y, groups["y"])
    np.testing.assert_array_equal(
        np.diff(merged.first), np.bincount(groups[0].astype(int), minlength=len(SIZES))
    )
    if family == LOGIT:
        np.testing.assert_array_equal(merged.trials, groups["n"])
    else:
        np.testing.assert_allclose(np.exp(merged.offset), groups["k"])
    assert merged.X.flags.c_contiguous and merged.Z.flags.c_contiguous


def wrong(merged: GlmmRows, rows: GlmmRows, how: str) -> GlmmRows:
    if how == "the number of counts is forgotten":
        return merged._replace(offset=np.zeros(len(merged.y)))
    if how == "trials are counted, not added":
        return merged._replace(trials=np.maximum(merged.y, np.bincount(_numbers(rows, merged))))
    moved = merged.first.copy()
    moved[2] += 1
    return merged._replace(first=moved)  # "a row in the next cluster"


def _numbers(rows: GlmmRows, merged: GlmmRows) -> np.ndarray:
    cluster = np.repeat(np.arange(len(SIZES)), np.diff(merged.first))
    of = {tuple(key): i for i, key in enumerate(np.column_stack([cluster, merged.X, merged.Z]))}
    return np.array([of[tuple(key)] for key in np.column_stack([CLUSTER, rows.X, rows.Z])])


@pytest.mark.parametrize(
    ("family", "how"),
    [
        (POISSON, "the number of counts is forgotten"),
        (LOGIT, "trials are counted, not added"),
        (LOGIT, "a row in the next cluster"),
        (POISSON, "a row in the next cluster"),
    ],
)
def test_wrong_sums_are_noticed(family, how):
    rows = make(family)
    assert np.ptp(differences(rows, wrong(merge_rows(rows), rows, how)), axis=0).max() > 0.1


def test_what_has_no_sums_or_gains_nothing_stays():
    for family in (GAMMA, NEGATIVE_BINOMIAL):
        rows = make(POISSON)._replace(family=family)
        assert merge_rows(rows) is rows
    different = make(LOGIT)._replace(X=np.random.default_rng(3).normal(size=(N, 3)))
    assert merge_rows(different) is different
    late = make(LOGIT)
    late.X[FEW - 50 :, 1] = np.arange(N - FEW + 50)  # equal at first, then all different
    assert merge_rows(late) is late
    none = make(LOGIT)
    none = GlmmRows(LOGIT, *(a[:0] for a in none[1:7]), np.zeros(7, np.int64))
    assert merge_rows(none) is none


@pytest.mark.parametrize("method", [bi.methods.Bayes(), bi.methods.MLMI(), bi.methods.MLMI(published=True)])
def test_a_run_is_the_same_with_merged_rows(method, monkeypatch):
    """Wiring: the same random numbers give the same draws, up to rounding, of parameters and imputed values."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(8), 40)
    u = rng.normal(0, 0.7, 8)[g]
    y = rng.binomial(1, 1 / (1 + np.exp(-u)))
    a = rng.binomial(1, 1 / (1 + np.exp(-(0.5 * y + u)))).astype(float)
    b = rng.poisson(np.exp(0.3 * y - 0.5 * u)).astype(float)
    table = pd.DataFrame({"g": g, "y": y, "a": a, "b": b})
    table.loc[rng.random(320) < 0.2, "a"] = np.nan
    table.loc[rng.random(320) < 0.2, "b"] = np.nan
    table.loc[g == 3, "a"] = np.nan
    data = bi.IncompleteData(table, cluster="g", families={"a": "bernoulli", "b": "poisson"})
    sizes = []

    def counted(rows):
        merged = merge_rows(rows)
        sizes.append(len(merged.y) / len(rows.y))
        return merged

    runs = []
    for how in (counted, lambda rows: rows):
        monkeypatch.setattr(glmm_block, "merge_rows", how)
        formulas = ["a ~ y + b + (1 | g)", "b ~ y + a + (1 + y | g)"]
        runs.append(
            bi.FCS(data, method, formulas).impute(2, cycles=4, seed=5, executor="serial", progress=False)
        )
    assert max(sizes) < 0.4
    for mine, plain in zip(*runs, strict=True):
        pd.testing.assert_frame_equal(mine, plain)
    mine, plain = ([node.to_dataset() for node in run.tree.subtree] for run in runs)
    compared = 0
    for one, other in zip(mine, plain, strict=True):
        for name in one.data_vars:
            if np.issubdtype(one[name].dtype, np.floating):
                np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6, err_msg=str(name))
                compared += one[name].size
    assert compared > 500

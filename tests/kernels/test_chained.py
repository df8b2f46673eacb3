"""Cross products and fills of the chained-equations kernels against the columns written out."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bayesimp.fcs.specification.records import ConditionalModel, Conditionals
from bayesimp.fcs.table import chained_table
from bayesimp.formulas.columns import Column, Derived
from bayesimp.kernels.chained import moments as ch
from bayesimp.kernels.chained.fill import fill
from bayesimp.kernels.draws import truncated_normals
from bayesimp.methods import Bayes
from bayesimp.table.clusters import Clusters

ONE = "Intercept"


def table(seed=0, N=120, m=7, **options):
    """Three incomplete variables, two complete ones, a product; a block of each kind of column."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, m, N)
    X = np.column_stack([np.ones(N), rng.normal(3, 2, N), rng.integers(0, 2, N)])
    Y = rng.normal([5, -40, 0.1], [1, 20, 0.01], (N, 3)) + rng.normal(size=m)[codes, None]
    Y[rng.random((N, 3)) < 0.25] = np.nan
    Y[codes == 2, 0] = np.nan
    y3x = Derived("y3:x", ("y3", "x"), lambda c, *_: c["y3"] * c["x"], None)
    fixed = (
        Column(ONE, ONE), Column("x", "x"), Column("y2", "y2"), Column("mean y2", ONE, (ONE, "y2")),
        Column("y3:x", "y3:x"),
        Column("x mean(x y3)", "x", ("x", "y3")), Column("sum y3", ONE, (ONE, "y3"), True),
    )  # fmt: skip
    plain, y1 = (Column(ONE, ONE), Column("x", "x")), Column("within y1", "y1", within=True)
    blocks = (
        ConditionalModel("y1", ("y1",), fixed, (Column(ONE, ONE), Column("y2", "y2")), Bayes()),
        ConditionalModel(
            "y2", ("y2",), (fixed[1], Column("y3", "y3"), y1), plain, Bayes()
        ),  # without an intercept
        ConditionalModel(
            "y2y3", ("y2", "y3"), (*plain, y1, Column("mean y1", ONE, (ONE, "y1"))), (plain[0], y1), Bayes()
        ),
    )
    spec = Conditionals((ONE, "x", "g"), X, ("y1", "y2", "y3"), (y3x,), blocks)
    grouping = Clusters(pd.RangeIndex(m), codes, pd.RangeIndex(N))
    return chained_table(spec, Y, grouping, **options), spec, X, Y, codes


def complete(t, rng, Y):
    """A completed set: V, and the columns (N, d) on the data scale in the order of the table."""
    V = t.start.copy()
    holes = t.cells.missing[t.row_cell]
    V[holes] = rng.normal(size=holes.sum())
    t.derive(V)
    full = t.full.copy()
    full[t.row, t.p :] = t.center[t.p :] + t.scale[t.p :] * V
    return V, full


def written_out(t, block, full, codes, averaged):
    """Columns of a block (fixed, random) on the data scale, row by row."""
    at = {name: k for k, name in enumerate(t.names)}
    out = []
    for column in (*block.fixed, *block.random):
        x = full[:, at[column.base]].copy()
        if column.within:
            for i in np.unique(codes):
                x[codes == i] -= x[(codes == i) & averaged].mean()
        if column.over is not None:
            product = full[:, at[column.over[0]]] * full[:, at[column.over[1]]]
            for i in np.unique(codes):
                rows = (codes == i) & averaged
                x[codes == i] *= product[rows].sum() if column.sum else product[rows].mean()
        out.append(x)
    return np.column_stack(out)


@pytest.mark.parametrize("ignored", [False, True])
def test_moments_and_scale_give_the_regression_of_the_columns_written_out(ignored):
    rng = np.random.default_rng(1)
    ignore = np.zeros(120, dtype=bool)
    if ignored:
        ignore[rng.random(120) < 0.3] = True
        ignore |= table()[4] == 4  # a cluster of ignored rows only
    t, _, _, Y, codes = table(ignore=ignore)
    averaged = ~ignore | ~np.isin(codes, codes[~ignore])
    V, full = complete(t, rng, Y)
    for chained in t.blocks:
        block, p = chained.block, len(chained.block.fixed)
        f = ch.cluster_factors(t.cells, chained.terms, V)
        m = ch.block_moments(t.cells, chained.terms, chained.arrays, f, V)
        columns = written_out(t, block, full, codes, averaged)
        places = list(chained.columns)
        scale = chained.scale
        for a, pattern in enumerate(m.patterns):
            observed = ~np.isnan(t.full[:, places])
            rows = (observed == pattern).all(1) & ~ignore if pattern.any() else np.zeros(len(Y), bool)
            assert m.pattern_rows[a] == rows.sum()
            if not rows.any():
                continue
            # any beta on the working scale gives the same fitted values as its image on the data scale
            beta_w = rng.normal(size=(p, len(places)))
            fitted = columns[rows, :p] @ scale.beta(beta_w)
            R = t.full[rows][:, places] - fitted
            R[:, ~pattern] = 0
            want = (R / scale.s).T @ (R / scale.s)
            XX, XY, YY = m.XX[a], m.XY[a], m.YY[a]
            got = YY - beta_w.T @ XY - XY.T @ beta_w + beta_w.T @ XX @ beta_w
            np.testing.assert_allclose(
                got[np.ix_(pattern, pattern)], want[np.ix_(pattern, pattern)], rtol=1e-7
            )
        # random columns, centred: Z'Z and Z'R by cluster, in units of the effects
        unit = scale.s[0] / scale.e[: len(block.random)]
        for i in range(t.clusters):
            for c in range(m.first[i], m.first[i + 1]):
                pattern = m.patterns[m.cell_pattern[c]]
                rows = (
                    (np.argsort(t.order)[codes] == i)
                    & (~np.isnan(t.full[:, places]) == pattern).all(1)
                    & ~ignore
                )
                Z = columns[rows, p:] @ scale.C / unit
                np.testing.assert_allclose(m.ZZ[c], Z.T @ Z, rtol=1e-9, atol=1e-9)


def test_stale_cluster_means_are_noticed():
    """The wrong variant: factors of the last cycle. They differ, so a test of the means can fail."""
    rng = np.random.default_rng(3)
    t, _, _, Y, codes = table()
    V, _ = complete(t, rng, Y)
    stale = ch.cluster_factors(t.cells, t.blocks[0].terms, V)
    V2, full2 = complete(t, rng, Y)
    fresh = ch.cluster_factors(t.cells, t.blocks[0].terms, V2)
    means = [full2[codes == t.order[i], t.names.index("y2")].mean() for i in range(t.clusters)]
    k = t.names.index("y2")
    np.testing.assert_allclose(t.center[k] + t.scale[k] * fresh[:, 3, 0], means, rtol=1e-12)
    assert np.abs(stale[:, 3, 0] - fresh[:, 3, 0]).max() > 0.01


def test_fill_draws_from_the_conditional_normal():
    rng = np.random.default_rng(4)
    t, _, _, Y, codes = table()
    V, full = complete(t, rng, Y)
    chained = t.blocks[2]  # y2 and y3 jointly
    f = ch.cluster_factors(t.cells, chained.terms, V)
    p, q, r, _ = chained.arrays.sizes
    beta, B = rng.normal(size=(p, r)), rng.normal(size=(t.clusters, q, r))
    Sigma = np.array([[[1.0, 0.6], [0.6, 2.0]]])
    draws = np.empty((4000, *V.shape))
    for k in range(len(draws)):
        draws[k] = V
        assert fill(rng, t.cells, chained.terms, chained.arrays, f, beta, B, Sigma, draws[k])
    columns = written_out(t, chained.block, full, codes, np.ones(len(Y), bool))
    scale, places = chained.scale, [k - t.p for k in chained.columns]
    B_data = scale.C @ (B * scale.e.reshape(r, q).T)
    place = np.argsort(t.order)[codes]
    mu = columns[:, :p] @ scale.beta(beta) + np.einsum("nq,nqr->nr", columns[:, p:], B_data[place])
    mu = ((mu - t.center[list(chained.columns)]) / t.scale[list(chained.columns)])[t.row]
    z, squares = [], []
    for j in range(len(t.row)):
        hole = t.cells.missing[t.row_cell[j], places]
        if not hole.any():
            assert (draws[:, j, places] == V[j, places]).all()
            continue
        O, M = ~hole, hole
        K = np.linalg.solve(Sigma[0][np.ix_(O, O)], Sigma[0][np.ix_(O, M)])
        mean = mu[j, M] + (V[j, places][O] - mu[j, O]) @ K
        cov = Sigma[0][np.ix_(M, M)] - Sigma[0][np.ix_(M, O)] @ K
        x = np.linalg.solve(np.linalg.cholesky(cov), (draws[:, j, places][:, M] - mean).T)
        z += list(x.mean(1) * math.sqrt(len(draws)))
        squares += list((x.var(1) - 1) / math.sqrt(2 / len(draws)))
    assert np.abs(z).max() < stats.norm.isf(1e-4 / len(z))
    assert np.abs(squares).max() < stats.norm.isf(1e-4 / len(squares))
    assert (draws[:, :, 0] == V[:, 0]).all()  # y1 is not in the block


@pytest.mark.parametrize(
    "lower, upper",
    [
        (-1, 1),
        (0.5, 0.8),
        (3, math.inf),
        (-math.inf, -4),
        (-math.inf, 1),
        (2, 9),
        (-5, 6),
        (6, 6.01),
        (-0.3, 4),
    ],
)
def test_truncated_normal_is_exact(lower, upper):
    out, mean, sd = np.empty(20_000), 0.7, 1.5
    each = [np.full(len(out), value) for value in (mean, sd, mean + sd * lower, mean + sd * upper)]
    truncated_normals(np.random.default_rng(5), *each, out)
    law = stats.truncnorm(lower, upper, loc=mean, scale=sd)
    assert stats.kstest(out, law.cdf).pvalue > 1e-4


def test_truncated_normal_far_out():
    """Tens to billions of sds from the mean: inside, finite, at the known distance from the bound; nan if nothing is."""
    far = np.array([10.0, 40.0, 1e4, 1e9, 1e99])
    lower = np.repeat(far, 4000)
    inf, out = np.full(len(lower), math.inf), np.empty(len(lower))
    for sign in (1, -1):
        bounds = (lower, inf) if sign > 0 else (-inf, -lower)
        truncated_normals(np.random.default_rng(1), 0 * lower, 1 + 0 * lower, *bounds, out)
        assert np.isfinite(out).all() and (sign * out >= lower).all()
        for k in range(3):  # about exponential of rate `far`; exactly, 1 / (far + 1 / far) at the first order
            gap = (sign * out - lower)[4000 * k : 4000 * (k + 1)] * far[k]
            law = stats.truncnorm(far[k], math.inf)
            expected = (law.mean() - far[k]) * far[k] if far[k] < 30 else 1 - 2 / far[k] ** 2
            assert abs(gap.mean() - expected) < 4.5 * gap.std() / math.sqrt(4000)
    odd = np.array(
        [
            [math.nan, 1, 0, 1],
            [math.inf, 1, 0, 1],
            [0, math.nan, 0, 1],
            [0, math.inf, 0, 1],
            [0, 1, 1e200, math.inf],
        ]
    )
    out = np.zeros(5)
    truncated_normals(np.random.default_rng(1), *(np.ascontiguousarray(c) for c in odd.T), out)
    assert np.isnan(out).all()


def test_starting_values_come_from_the_own_cluster_where_it_has_any():
    from bayesimp.fcs.loop import start_chain

    t, _, _, Y, codes = table()
    chain = start_chain(t, [], np.random.default_rng(1))
    for k in range(3):
        values = t.center[t.p + k] + t.scale[t.p + k] * chain.V[:, k]
        for j, row in enumerate(t.row):
            same = Y[codes == codes[row], k]
            pool = same[~np.isnan(same)] if (~np.isnan(same)).any() else Y[~np.isnan(Y[:, k]), k]
            assert np.isclose(values[j], pool, rtol=1e-9).any()


def test_normal_prior_of_beta_on_the_working_scale():
    """The prior density of beta on the data scale and of its working image differ by a constant."""
    from bayesimp import priors as pr
    from bayesimp.priors.gibbs import beta_prior

    rng = np.random.default_rng(6)
    t, *_ = table()
    for chained in t.blocks:
        p, r = len(chained.block.fixed), len(chained.columns)
        mean, sd = rng.normal(size=(p, r)), rng.uniform(0.5, 2, (p, r))
        Q0, t0 = beta_prior(pr.Normal(mean, sd), chained.scale, r)
        differences = []
        for _ in range(5):
            beta_w = chained.scale.working_beta(mean) + rng.normal(size=(p, r))
            b = beta_w.ravel(order="F")
            on_data = stats.norm.logpdf(chained.scale.beta(beta_w), mean, sd).sum()
            differences.append(-0.5 * b @ Q0 @ b + b @ t0 - on_data)
        np.testing.assert_allclose(differences, differences[0], rtol=1e-8)

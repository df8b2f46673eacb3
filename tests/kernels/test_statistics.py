"""Sufficient statistics against sums written out; adding the statistics of two tables equals stacking the tables."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesimp.kernels.normal import statistics
from bayesimp.kernels.normal.statistics import collect
from tests.kernels import dense


def same(a, b):
    assert_array_equal(a.patterns, b.patterns)
    for name in ("cell_cluster", "cell_pattern", "cell_rows"):
        assert_array_equal(getattr(a, name), getattr(b, name))
    assert_allclose(a.gram, b.gram, rtol=1e-12, atol=1e-12)
    assert (a.clusters, a.p, a.q, a.r) == (b.clusters, b.p, b.q, b.r)


@pytest.mark.parametrize("r", [1, 2, 4])
def test_cells_hold_their_rows(r):
    X, Z, Y, codes, clusters = data = dense.table(2, 2, r, seed=r)
    s = collect(*data)
    D = np.column_stack([np.ones(len(Y)), X, Z, np.where(np.isnan(Y), 0.0, Y)])
    assert s.cell_rows.sum() == len(Y)
    assert len(np.unique(s.patterns, axis=0)) == len(s.patterns)
    order = s.cell_cluster * len(s.patterns) + s.cell_pattern
    assert (np.diff(order) > 0).all()
    for c in range(len(s.cell_rows)):
        rows = (codes == s.cell_cluster[c]) & (~np.isnan(Y) == s.patterns[s.cell_pattern[c]]).all(1)
        assert rows.sum() == s.cell_rows[c] > 0
        assert_allclose(s.gram[c], D[rows].T @ D[rows], rtol=1e-12, atol=1e-12)
    assert (s.clusters, s.p, s.q, s.r) == (clusters, 2, 2, r)


def test_blocks_of_rows_make_no_difference(monkeypatch):
    data = dense.table(2, 1, 3, seed=1)
    whole = collect(*data)
    monkeypatch.setattr(statistics, "BLOCK", 7)
    same(collect(*data), whole)


@pytest.mark.parametrize("cut", [0, 1, 13, 40])
def test_sum_of_two_tables(cut):
    X, Z, Y, codes, clusters = dense.table(2, 1, 3, seed=2)
    halves = [collect(X[k], Z[k], Y[k], codes[k], clusters) for k in (slice(cut), slice(cut, None))]
    same(halves[0] + halves[1], collect(X, Z, Y, codes, clusters))


def test_tables_with_other_columns_cannot_be_added():
    with pytest.raises(ValueError, match="columns differ"):
        collect(*dense.table(2, 1, 3, seed=2)) + collect(*dense.table(2, 2, 3, seed=2))


def test_sixty_two_responses_fit_in_a_pattern_code():
    rng = np.random.default_rng(0)
    Y = np.where(rng.random((5, 62)) < 0.5, np.nan, 1.0)
    s = collect(np.ones((5, 1)), np.ones((5, 1)), Y, np.zeros(5, int), 1)
    assert {tuple(p) for p in s.patterns} == {tuple(p) for p in ~np.isnan(Y)}

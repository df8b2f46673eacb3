"""Orders of rows and clusters against NumPy's sorts of all keys at once."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bayesimp.scale.order import cluster_order, in_groups, row_order


@pytest.mark.parametrize("groups", [3, 70_000, 2**34])
def test_groups_are_sorted_stably(groups):
    """Beyond 65,536 groups, 16 bits at a time."""
    codes = np.random.default_rng(1).integers(0, groups, 3_000)
    codes[1_000:2_000] = codes[:1_000]
    assert_array_equal(in_groups(codes, groups), np.argsort(codes, kind="stable"))
    assert_array_equal(in_groups(np.sort(codes), groups), np.arange(3_000))


@pytest.mark.parametrize("levels", [2, 5, 100_000])
def test_rows_as_if_all_keys_were_sorted(levels):
    """Keys with many ties, few and none; some of the other keys are missing; rows that agree in all stay in order."""
    rng = np.random.default_rng(levels)
    cell, first, other = rng.integers(0, 7, 900), *rng.integers(0, levels, (2, 900)).astype(float)
    other[rng.random(900) < 0.2] = np.nan
    third = rng.integers(0, 2, 900).astype(float)
    order = row_order(cell, 7, first, lambda rows: [third[rows], other[rows]])
    assert_array_equal(order, np.lexsort([third, other, first, cell]))
    assert row_order(cell[:0], 7, first[:0], lambda rows: [third[rows]]).shape == (0,)


def test_clusters_that_tie_are_ordered_by_all_their_rows():
    """Covariates decide between clusters with the same values of Y, to eight digits."""
    Y = np.tile([[1.0], [np.nan], [2.0]], (3, 1))
    codes = np.repeat([0, 1, 2], 3)
    x = np.array([[3.0], [1], [1], [2], [1], [1], [1], [1], [1]])
    assert_array_equal(cluster_order(Y, [np.ones((9, 1)), x], codes, 3), [2, 1, 0])
    x[0] = 2 + 1e-9  # as large as that of the second cluster
    assert_array_equal(cluster_order(Y, [np.ones((9, 1)), x], codes, 3), [2, 0, 1])
    shuffled = np.random.default_rng(3).permutation(9)
    again = cluster_order(Y[shuffled], [x[shuffled]], codes[shuffled], 3)
    assert_array_equal(again, [2, 0, 1])

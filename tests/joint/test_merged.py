"""The working scale from merged statistics of parts of a table, against the one from its rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesimp.errors import DataError, SpecificationError
from bayesimp.joint.merged import scale_from_statistics
from bayesimp.joint.scale import prepare
from bayesimp.kernels.normal.statistics import collect

NAMES = ["y1", "y2"], ["one", "x", "w"]
RANDOM = ["Intercept", "x", "w", "x:w"]


def rows(seed=0, n=120, clusters=6):
    rng = np.random.default_rng(seed)
    codes = rng.integers(clusters, size=n)
    x, w = rng.normal(3.0, 2.0, n), rng.normal(-1.0, 0.5, n)
    X, Z = np.column_stack([np.ones(n), x, w]), np.column_stack([np.ones(n), x, w, x * w])
    Y = X @ [[1.0, -2.0], [-0.5, -10.0], [0.3, 2.0]] + rng.normal(size=(n, 2)) * [2.0, 30.0]
    Y[rng.random(n) < 0.3, 0] = np.nan
    Y[codes == 2, 1] = np.nan
    return X, Z, Y, codes, clusters


def test_three_parts_give_the_scale_of_all_rows():
    X, Z, Y, codes, clusters = rows()
    part = np.arange(len(Y)) % 3
    statistics = [collect(*(a[part == k] for a in (X, Z, Y, codes)), clusters) for k in range(3)]
    merged = scale_from_statistics(statistics[0] + statistics[1] + statistics[2], NAMES[0], RANDOM)
    whole = prepare(X, Z, Y, codes, clusters, *NAMES, RANDOM).scale
    for name in ("T", "offset", "s", "u", "C"):
        assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-8, atol=1e-9, err_msg=name)
    alone = scale_from_statistics(statistics[0], NAMES[0], RANDOM)
    assert not np.allclose(alone.s, whole.s, rtol=1e-3)


def test_what_cannot_be_scaled_is_refused():
    X, Z, Y, codes, clusters = rows()
    constant = np.column_stack([np.where(np.isnan(Y[:, 0]), np.nan, 2.0), Y[:, 1]])
    with pytest.raises(DataError, match=r"'y1' has \d+ observed values in all tables together"):
        scale_from_statistics(collect(X, Z, constant, codes, clusters), NAMES[0], RANDOM)
    double = np.column_stack([X, X[:, 1] + X[:, 2]])
    with pytest.raises(SpecificationError, match="combinations of each other in all tables"):
        scale_from_statistics(collect(double, Z, Y, codes, clusters), NAMES[0], RANDOM)

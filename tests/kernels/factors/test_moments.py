"""Imputed values kept with their means and standard deviations by cluster, against pandas."""

import numpy as np
import pandas as pd
import pytest

from bayesimp.kernels.factors.moments import keep_cells

CLUSTER = np.array([1, 3, 4])
FIRST = np.array([0, 4, 5, 9])
PLACE = np.repeat(CLUSTER, np.diff(FIRST))


@pytest.mark.parametrize("kept", [0, 9])
def test_means_and_sds_by_cluster(kept):
    rng = np.random.default_rng(1)
    y = rng.normal(size=9)
    v, mean, sd, room = 50 + 2 * y, np.full((6, 3), np.nan), np.full((6, 3), np.nan), np.zeros(kept)
    keep_cells(y, v, CLUSTER, FIRST, np.int64(1), mean, sd, room)
    expected = pd.Series(v).groupby(PLACE).agg(["mean", "std"]).reindex(range(6))
    np.testing.assert_allclose(mean[:, 1], expected["mean"])
    np.testing.assert_allclose(sd[:, 1], expected["std"])  # nan in clusters without values, and with one
    assert np.isnan(mean[:, [0, 2]]).all() and np.isnan(sd[:, [0, 2]]).all()
    np.testing.assert_array_equal(room, y[:kept])

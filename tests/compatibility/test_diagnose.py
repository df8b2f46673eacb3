"""Diagnosis of a fitted joint model: numbers computed by hand, limits without variation, sentences, refusals."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.compatibility import diagnose, simulate_pair
from bayesimp.compatibility.published import kunkel_kaizar
from bayesimp.errors import SpecificationError


def table(sizes, rho=0.0, seed=0, missing=0.1):
    """Clusters of given sizes, y1 incomplete, a covariate x."""
    Sigma, Psi = kunkel_kaizar(rho)
    frame = simulate_pair(len(sizes), max(sizes), Sigma, Psi, seed)
    rng = np.random.default_rng(seed)
    frame = frame[frame.groupby("cluster").cumcount() < np.repeat(sizes, max(sizes))]
    frame = frame.assign(x=rng.normal(size=len(frame)))
    frame.loc[rng.random(len(frame)) < missing, "y1"] = np.nan
    return bi.IncompleteData(frame, "cluster")


def fitted(data, formula="y1 + y2 ~ x + (1 | cluster)", priors=None):
    return bi.JointNormal(data, formula, priors).impute(m=4, seed=1, draws=250, tune=100)


@pytest.fixture(scope="module")
def uneven():
    return fitted(table([2, 5, 5, 20, 60, 60, 8, 12]))


def test_numbers_by_hand(uneven):
    """Eq. 8 by draw and cluster, written out."""
    d = diagnose(uneven)
    Sigma, Psi = (uneven.tree["posterior"][name].values.reshape(-1, 2, 2) for name in ("Sigma", "Psi"))
    (_, s12), (_, s22) = Sigma.transpose(1, 2, 0)
    (p11, p12), (_, p22) = Psi.transpose(1, 2, 0)
    n = uneven.data.sizes[:, None]
    below = s22 * (s22 + n * p22)
    on_mean = n * (s22 * p12 - s12 * p22) / below
    variance = p11 - (n * s22 * p12**2 + 2 * s12 * s22 * p12 - s12**2 * p22) / below
    assert len(d.table) == 2 and set(d.table.response) == {"y1"}  # y2 is complete
    for row, theta in zip(d.table.itertuples(), (on_mean, variance), strict=True):
        low, middle, high = np.quantile(theta.mean(0), [0.1587, 0.5, 0.8413])
        miss = np.median(theta - theta.mean(0), axis=1) / ((high - low) / 2)
        assert row.one_value == pytest.approx(middle) and row.sd == pytest.approx((high - low) / 2)
        assert row.lowest == pytest.approx(np.median(theta, axis=1).min())
        assert row.highest == pytest.approx(np.median(theta, axis=1).max())
        assert row.miss == pytest.approx(np.abs(miss).max()) and row.worst == np.abs(miss).argmax()
        part = d.clusters[d.clusters.parameter == row.parameter]
        np.testing.assert_allclose(part["miss"], miss)
        assert list(part["rows"]) == list(uneven.data.sizes)


def test_equal_sizes_and_a_random_intercept_miss_nothing():
    d = diagnose(fitted(table([12] * 8)))
    assert d.largest_miss == 0 and "small" in str(d)


def test_diagonal_covariances_miss_nothing():
    """Independent variables: no slopes, and variances that do not depend on the cluster."""
    half_t = bi.priors.Diagonal()
    imp = fitted(table([2, 4, 9, 30]), priors=bi.priors.Priors(half_t, half_t))
    d = diagnose(imp)
    assert d.largest_miss < 1e-9 and list(d.table["sd"] > 0) == [False, True]


def test_sentences(uneven):
    d = diagnose(uneven)
    text = str(d)
    assert "8 clusters (cluster) with 2 to 60 rows." in text
    assert "the conditional model of y1 would need" in text and "cluster mean of y2" in text
    assert f"misses by at most {d.table['miss'][0]:.2f} posterior sd" in text
    # many clusters, far from proportional: a homogeneous model is not good enough
    rng = np.random.default_rng(1)
    far = diagnose(fitted(table(rng.integers(2, 60, 120), rho=-0.9)))
    assert far.largest_miss > 1 and "Use the joint model" in str(far)


def test_model_gives_the_same_as_its_imputations(uneven):
    model = uneven._run.model
    d = diagnose(model, seed=3)
    pd.testing.assert_frame_equal(d.table, diagnose(model.impute(m=1, seed=3)).table)


def test_saved_and_loaded(uneven, tmp_path):
    uneven.save(tmp_path / "imp.nc")
    pd.testing.assert_frame_equal(diagnose(bi.load(tmp_path / "imp.nc")).table, diagnose(uneven).table)


def test_random_slopes_and_aggregates():
    """2 x 2 slopes on aggregates and two variances for each response; equal sizes do not make clusters alike."""
    imp = fitted(table([12] * 10), "y1 + y2 ~ x + (1 + x | cluster)")
    d = diagnose(imp, ["y1", "y2"])
    assert len(d.table) == 2 * (4 + 2) and d.largest_miss > 0
    assert "slope on the cluster mean of y2 x x, times x" in set(d.table.parameter)
    assert "variance of the slope on x" in set(d.table.parameter)
    lines = diagnose(imp, "y1", aggregate="line")
    assert "slope on the cluster's own slope of y2 on x" in set(lines.table.parameter)
    sums = diagnose(imp, "y1", aggregate="sum")
    of_variance = [
        t.table.loc[t.table.parameter == "intercept variance", "miss"].iloc[0] for t in (d, lines, sums)
    ]
    assert len(set(of_variance)) == 1  # only slopes depend on the aggregate


def test_bad_input(uneven):
    with pytest.raises(SpecificationError, match="at least two variables"):
        diagnose(fitted(uneven.data, "y1 ~ x + (1 | cluster)"))
    with pytest.raises(SpecificationError, match="not a response"):
        diagnose(uneven, "x")
    fixed = bi.priors.Priors(bi.priors.Fixed(np.eye(2)), bi.priors.Fixed(np.eye(2)))
    with pytest.raises(SpecificationError, match="no posterior"):
        diagnose(fitted(uneven.data, priors=fixed))
    with pytest.raises(SpecificationError, match="aggregate must be"):
        diagnose(uneven, aggregate="median")

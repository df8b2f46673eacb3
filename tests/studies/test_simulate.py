"""Simulated studies have the requested moments and missing values."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError

SIGMA = np.array([[127.0, 100, 75], [100, 691, 65], [75, 65, 120]])  # Kunkel & Kaizar 2017, simulation 5
PSI = np.array([[28.0, 22, 11], [22, 40, 12], [11, 12, 26]])
SIZES = (49, 18, 15, 29, 60)


def test_holes_are_whole_studies_and_change_nothing_else():
    full = bi.simulate_studies(SIZES, SIGMA, PSI, seed=3)
    holed = bi.simulate_studies(SIZES, SIGMA, PSI, missing={"y1": [1], "y2": [4]}, seed=3)
    assert list(full.columns) == ["study", "y1", "y2", "y3"]
    assert tuple(full.groupby("study").size()) == SIZES
    assert set(holed.study[holed.y1.isna()]) == {2} and holed.y1.isna().sum() == 18
    assert set(holed.study[holed.y2.isna()]) == {5} and holed.y2.isna().sum() == 60
    pd.testing.assert_frame_equal(holed.where(holed.notna(), full), full)


@pytest.mark.parametrize("slope", [False, True])
def test_covariances_within_and_between(slope):
    """Within-study and between-study mean squares, in standard errors of their sampling distribution."""
    m, n = 4000, 10
    table = bi.simulate_studies([n] * m, SIGMA, PSI, slope=slope, seed=1)
    y, z = table[["y1", "y2", "y3"]].to_numpy(), (table.z.to_numpy() if slope else np.ones(m * n))
    codes = table.study.to_numpy() - 1
    zz = np.bincount(codes, z * z)
    slopes = np.column_stack([np.bincount(codes, z * y[:, k]) for k in range(3)]) / zz[:, None]
    residual = y - z[:, None] * slopes[codes]
    Sigma = residual.T @ residual / (m * (n - 1))
    Psi = slopes.T @ slopes / m - Sigma * (1 / zz).mean()
    for estimate, truth, df in ((Sigma, SIGMA, m * (n - 1)), (Psi, PSI, m)):
        total = truth if truth is SIGMA else PSI + SIGMA * (1 / zz).mean() * (1.5 if slope else 1)
        error = np.sqrt((np.outer(np.diag(total), np.diag(total)) + total**2) / df)
        assert np.abs((estimate - truth) / error).max() < 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": [3, 0]}, {"sizes": []}, {"Psi": np.eye(2)}, {"Psi": -np.eye(3)},
        {"missing": {"y4": [0]}}, {"missing": {"y1": [5]}},
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(wrong):
    with pytest.raises(SpecificationError, match=r"cluster|Sigma|Psi|positive|size|missing|studies"):
        bi.simulate_studies(**{"sizes": SIZES, "Sigma": SIGMA, "Psi": PSI, "seed": 1, **wrong})


def test_kidney_with_and_without_holes():
    table, full = bi.load_kidney(full=True)
    pd.testing.assert_frame_equal(table, bi.load_kidney())
    assert len(table) == 4774 and not full.isna().any().any()
    there = table.notna()
    pd.testing.assert_frame_equal(table.where(there, 0), full.where(there, 0), check_dtype=False)
    never = table["alcohol"].isna().groupby(table["study"]).all()
    assert never.sum() == 9 and table["comorbidities"].isna().groupby(table["study"]).all().sum() == 1

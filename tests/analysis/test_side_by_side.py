"""Estimates by several methods in one table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError

ANALYSIS = "y ~ x1 + x2 + (1 | study)"


@pytest.fixture(scope="module")
def tables():
    table, full = bi.simulate_ipd(6, 60, heterogeneity="weak", seed=3)
    return table, full, bi.IncompleteData(table, cluster="study", families={"x2": "poisson"})


def test_table(tables):
    table, full, data = tables
    filled = [full, full.assign(x2=full["x2"] + 1)]
    out = bi.side_by_side(ANALYSIS, {"REF": full, "CCA": data, "two": filled})
    assert list(out.columns.get_level_values(0).unique()) == ["REF", "CCA", "two"]
    assert list(out.index) == ["Intercept", "x1", "x2", "sd(Intercept | study)", "sd(residual)"]
    complete = table.dropna()
    assert out.attrs["rows"] == {"REF": 360, "CCA": len(complete), "two": 360}
    alone = bi.fit_each([complete], ANALYSIS)
    np.testing.assert_allclose(out["CCA", "estimate"][:3], alone.estimates[0])
    np.testing.assert_allclose(out["CCA", "std.error"][:3], np.sqrt(np.diag(alone.covariances[0])))
    np.testing.assert_allclose(out["CCA", "estimate"][3:], np.exp(alone.components[0]))
    pooled = bi.fit_each(filled, ANALYSIS).pool().to_frame()
    np.testing.assert_allclose(out["two", "std.error"][:3], pooled["std.error"])
    fits = bi.fit_each(filled, ANALYSIS)
    pd.testing.assert_frame_equal(bi.side_by_side(ANALYSIS, {"two": fits}), out[["two"]])


def test_tables_of_polars(tables):
    polars = pytest.importorskip("polars")
    frame = pd.DataFrame({"y": [0.1, 0.4, 0.2, 0.9, 0.8, 0.3], "x": [1.0, 2.0, 1.5, 3.5, 3.0, None]})
    other = polars.from_pandas(frame)
    pd.testing.assert_frame_equal(
        bi.side_by_side("y ~ x", {"one": other}), bi.side_by_side("y ~ x", {"one": frame})
    )
    listed = bi.fit_each([other.drop_nulls()], "y ~ x")
    np.testing.assert_array_equal(listed.estimates, bi.complete_cases(other, "y ~ x").estimates)


def test_complete_cases_says_what_is_missing(tables):
    table, _, data = tables
    assert len(bi.complete_cases(data, ANALYSIS)) == 1
    with pytest.raises(DataError, match=r"No row is complete in y, x1, x2, study.*'x2' is missing in 100%"):
        bi.complete_cases(table.assign(x2=np.nan), ANALYSIS)
    with pytest.raises(SpecificationError, match="no column 'x9'"):
        bi.complete_cases(data, "y ~ x9 + (1 | study)")


def test_complete_cases_are_those_of_the_analysis_only():
    """An incomplete column that the analysis does not use costs no rows."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"s": np.arange(90) % 9, "x": rng.normal(size=90), "y": rng.normal(size=90), "other": 1.0}
    )
    frame.loc[::3, "other"] = np.nan
    frame.loc[::10, "x"] = np.nan
    table = bi.side_by_side("y ~ x", {"complete cases": frame})
    kept = frame.dropna(subset=["x"])
    slope, intercept = np.polyfit(kept.x, kept.y, 1)
    assert table.attrs["rows"]["complete cases"] == len(kept) == 81
    assert table.loc[["Intercept", "x"], ("complete cases", "estimate")].tolist() == pytest.approx(
        [intercept, slope]
    )

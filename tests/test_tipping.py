"""Tipping points of not-at-random analyses."""

import re

import numpy as np
import pytest

from bayesimp.errors import SpecificationError
from bayesimp.sensitivity_analysis.deltas import AT_RANDOM
from bayesimp.sensitivity_analysis.tipping import Line, crossing
from tests.mnar_runs import names, of_trial, run, trial
from tests.unfolding import unfolded


def a_line(x, start=None):
    x = np.array(x, dtype=float)
    return Line((0,), "y", x, tuple(map(str, x)), int(np.abs(x).argmin()) if start is None else start)


def test_crossings_by_hand():
    x = [-3, -2, -1, 0, 1, 2]
    low, high = np.array([-3.0, -1, 1, 2, 3, 4]), np.array([1.0, 3, 5, 6, 7, 8])
    middle = (low + high) / 2
    found = crossing(a_line(x), low, middle, high, 0.0, "interval", -1)
    assert (found.x, found.inner, found.outer, found.weight) == (-1.5, 2, 1, 0.5)
    assert crossing(a_line(x), low, middle, high, 0.0, "interval", 1) is None
    assert crossing(a_line(x), low, middle, high, 0.0, "estimate", -1).x == -2.5
    # mirrored: the other end of the interval, the other direction
    found = crossing(
        a_line([-v for v in x][::-1]), -high[::-1], -middle[::-1], -low[::-1], 0.0, "interval", 1
    )
    assert found.x == 1.5
    # an interval that covers the threshold first, and leaves it by either end
    covering = crossing(a_line(x), low - 3, middle - 3, high - 3, 0.0, "interval", 1)
    assert covering.x == 1 or covering.x == pytest.approx(1.0)
    assert crossing(a_line(x), low - 3, middle - 3, high - 3, 0.0, "interval", -1).x == -2.0
    # crossings beyond the first are not considered
    wavy = np.array([2.0, -1, 1, 2, 3, 4])
    assert crossing(a_line(x), wavy, middle, high, 0.0, "interval", -1).x == -1.5


def test_the_tipping_point_of_a_treatment_effect_by_the_closed_form():
    """Estimates and standard errors of least squares are known functions of delta: the tipping point solves low = 0.

    Interpolation between grid points 0.5 apart is near it, and after refinement within the tolerance.
    """
    result = of_trial({"y": {"drug": [0, -0.5, -1, -1.5, -2]}}, "y ~ drug", by="arm")
    point = result.tipping_point("drug")
    row = point.table.iloc[0]
    assert row["direction"] == "down" and len(point.table) == 1
    refined = result.refine("drug", tolerance=0.01)
    exact = refined.tipping_point("drug").table.iloc[0]
    assert abs(exact["delta"] - row["delta"]) < 0.1 and len(refined.scenarios) > len(result.scenarios)
    assert result.lines[0].names == tuple(reversed(names(result)))  # the first result is as it was
    # by itself, at that delta: the interval touches 0
    there = of_trial({"y": {"drug": [float(exact["delta"])]}}, "y ~ drug", by="arm")
    low = there.table[(there.table["term"] == "drug")].iloc[-1]
    assert abs(low["conf.low"]) < 0.01 * 2 and low["estimate"] > 0.05
    again = refined.refine("drug", tolerance=0.01)
    assert names(again) == names(refined)
    for name in names(result):
        np.testing.assert_array_equal(
            refined.imputations[name].values("y"), result.imputations[name].values("y")
        )


def test_tipping_points_in_words_and_in_the_unit_of_the_axis():
    result = of_trial({"y": {"drug": [0, -1, -2, 1]}}, by="arm", unit="sd")
    point = result.tipping_point("drug")
    row = point.table.iloc[0]
    sd = trial()["y"].std()
    np.testing.assert_allclose([row["shift"], row["sd"]], [row["delta"] * sd, row["delta"]], rtol=1e-9)
    text = unfolded(str(point))
    assert (
        f"delta = {row['shift']:+.3g} ({abs(row['sd']):.2f} sd of the observed values) would be needed"
        in text
    )
    assert "the interval to reach 0; the imputed values of y then have mean" in text and "excludes 0" in text
    assert "y, arm drug, up: the conclusion holds up to delta = +" in text
    shown = float(re.search(r"then have mean (\S+) ", text)[1])
    of = result.imputed[(result.imputed["variable"] == "y") & (result.imputed["group"] == "drug")]
    at_random = of.set_index("scenario").loc[AT_RANDOM, "imputed"]
    assert shown == pytest.approx(at_random + row["shift"], rel=1e-3)
    estimate = result.tipping_point("drug", criterion="estimate", threshold=0.1).table.iloc[0]
    assert estimate["shift"] < row["shift"] < 0  # the estimate arrives later than the end of its interval
    with pytest.raises(SpecificationError, match=r"no term 'drag'.*'drug'"):
        result.tipping_point("drag")
    with pytest.raises(SpecificationError, match="criterion must be 'interval' or 'estimate'"):
        result.tipping_point("drug", criterion="p")


def test_deltas_that_move_together_have_one_line():
    result = of_trial({"y": {"drug": [0, -1, -2], "placebo": [0, 0.5, 1]}}, by="arm", combine="together")
    assert [line.label for line in result.lines] == ["y, arm drug, y, arm placebo"]
    point = result.tipping_point("drug").table
    alone = of_trial({"y": {"drug": [0, -1, -2]}}, by="arm").tipping_point("drug").table
    assert len(point) == 1 and abs(point["shift"][0]) < abs(alone["shift"][0])


def test_an_analysis_without_shifted_values_is_said_to_stay():
    """Given the observed values of a row, joint normals let no other variable follow; chained equations do."""
    still = run("JointNormal", {"w": [0, -1]})
    assert str(still).startswith(
        "No estimate of 'y ~ x + (1 | g)' changes. The analysis uses no value that is shifted"
    )
    assert "w, down: nothing changes." in unfolded(str(still.tipping_point("x")))
    moving = run("FCS", {"w": [0, -1]})
    assert "moves most" in str(moving) and "nothing changes" not in str(moving.tipping_point("x"))

"""The table of `python -m tests.calibration`: complete, and right about ranks that are known."""

import numpy as np
import pytest

from tests.calibration import (
    conditional,
    conditional_pymc,
    designs,
    families,
    glmm,
    glmm_fcs,
    joint_glmm,
    variants,
)
from tests.calibration.__main__ import Line, Task, coverage, line, table, tasks


@pytest.mark.parametrize("highest", [19, 99])
def test_coverage_of_ranks_that_occur_once_each(highest):
    assert coverage({"a": np.arange(highest + 1)}, highest)[0] == pytest.approx(0.9)
    centre = np.full(10, highest // 2)
    assert coverage({"a": centre, "b": np.zeros(10, int)}, highest) == (0.5, 0.0)
    assert coverage({"a": np.full(10, highest)}, highest)[0] == 0.0


def test_standard_error_is_of_data_sets_not_of_quantities():
    ranks = np.array([0, 50] * 20)
    once, often = coverage({"a": ranks}, 99), coverage({str(k): ranks for k in range(30)}, 99)
    assert once == pytest.approx(often)
    assert once[1] == pytest.approx(0.5 * np.sqrt(40 / 39) / np.sqrt(40))


def test_every_design_and_every_spoiled_sampler_has_a_line():
    lines = list(tasks(pymc=True))
    assert len(set(lines)) == len(lines)
    right = {each.design for each in lines if not each.spoiled}
    for module in (designs, conditional, conditional_pymc, families, glmm, glmm_fcs, joint_glmm):
        assert set(module.DESIGNS) <= right
    spoiled = {each.spoiled for each in lines}
    for module in (variants, conditional, glmm, glmm_fcs):
        assert set(module.VARIANTS) <= spoiled


def test_a_line_is_made():
    made = line(Task("one normal variable", "inverse-Wishart"), 2)
    assert made.datasets == 2 and made.quantities > 10 and 0 <= made.covered <= 1


def test_the_verdicts_follow_from_the_lines():
    good = Line(Task("a", "b"), 10, 3, 0.5, "beta", 0.9, 0.01)
    bad = Line(Task("a", "b", "wrong"), 10, 3, 1e-9, "beta", 0.5, 0.01)
    text = table([good, bad], 0.0, "command")
    assert "/ 1: yes" in text and "All p below 1e-06: yes" in text
    assert "/ 1: NO" in table([good._replace(p=1e-3), bad], 0.0, "command")
    assert "1e-06: NO" in table([good, bad._replace(p=1e-3)], 0.0, "command")

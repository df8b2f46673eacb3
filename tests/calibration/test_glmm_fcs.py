"""Calibration of FCS blocks for discrete variables: short here, in full by `-m slow` (last: GLMM_FCS_RESULTS.md)."""

from dataclasses import replace

import numpy as np
import pytest

from tests.calibration import coverage, glmm_fcs
from tests.calibration.glmm_fcs import DESIGNS, VARIANTS
from tests.calibration.montecarlo import LEVEL


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["binomial", "gamma", "ordinal", "mlmi, bernoulli"])
def test_ranks_are_uniform(name):
    assert glmm_fcs.overall(glmm_fcs.ranks(DESIGNS[name], 6, seed=1)) > LEVEL


@pytest.mark.calibration
def test_a_spoiled_block_is_rejected():
    design, spoil = VARIANTS["levels reversed"]
    assert glmm_fcs.overall(glmm_fcs.ranks(DESIGNS[design], 12, 1, spoil)) < LEVEL


@pytest.mark.parametrize("name, factor", [("inverse Gaussian", 10.0), ("gamma", 1.0)])
def test_shape_has_the_units_of_the_data(name, factor):
    design = replace(DESIGNS[name], method="default", cycles=1)
    y = glmm_fcs.draw_truth(np.random.default_rng(1), design).y
    once, ten = (glmm_fcs.fitted(design, a * y, 1)[1].tree["posterior"]["shape_y"] for a in (1.0, 10.0))
    np.testing.assert_allclose(ten, factor * once, rtol=1e-6)


@pytest.mark.calibration
def test_coverage_study_runs():
    rows = coverage.one_table("continuous", "strong", 0, [coverage.REFERENCE, coverage.COMPLETE, "glm"])
    assert {row["what"] for row in rows} == {"estimate", "sd", "imputed", "seconds"}
    assert all(row["low"] < row["value"] < row["high"] for row in rows if row["what"] == "estimate")


@pytest.mark.slow
@pytest.mark.calibration
def test_every_design_in_full():
    found = glmm_fcs.right(30)
    assert min(found.values()) > glmm_fcs.LEVEL / len(found)


@pytest.mark.slow
@pytest.mark.calibration
def test_every_spoiled_block():
    assert max(glmm_fcs.wrong(60).values()) < 1e-6

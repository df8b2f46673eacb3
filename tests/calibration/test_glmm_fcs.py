"""Calibration of FCS blocks for discrete variables: short here, in full by `-m slow` (last: GLMM_FCS_RESULTS.md)."""

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

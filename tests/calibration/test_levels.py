"""Calibration of several grouping factors, to the completed table: short here, in full by `-m slow`."""

import pytest

from tests.calibration import levels, sbc
from tests.calibration.joint_glmm import ranks
from tests.calibration.levels import DESIGNS, VARIANTS
from tests.calibration.montecarlo import LEVEL, REJECTED


@pytest.mark.calibration
def test_ranks_are_uniform():
    assert sbc.overall(ranks(DESIGNS["nested and crossed"], 25, seed=1, tune=80, thin=3)) > LEVEL


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["parents of other groups", "priors of factors exchanged"])
def test_a_spoiled_model_is_rejected(name):
    design, spoil = VARIANTS[name]
    assert sbc.overall(ranks(DESIGNS[design], 30, 2, tune=60, thin=2, spoil=spoil)) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_in_full():
    for design in DESIGNS.values():
        assert sbc.overall(ranks(design, 300, levels.SEED)) > LEVEL
    for design, spoil in VARIANTS.values():
        assert sbc.overall(ranks(DESIGNS[design], 100, levels.SEED, spoil=spoil)) < REJECTED

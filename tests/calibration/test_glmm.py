"""Calibration of the transition of discrete and positive responses: short here, in full by `-m slow`.

Last results of the full run: GLMM_RESULTS.md.
"""

import pytest

from tests.calibration import glmm, sbc
from tests.calibration.glmm import DESIGNS, VARIANTS
from tests.calibration.montecarlo import LEVEL, REJECTED

QUICK = [
    "logit",
    "negative binomial",
    "Student-t, slopes",
    "zero-inflated negative binomial",
    "ordinal",
    "ordinal, twelve levels",
    "categorical",
]
QUICKLY_CAUGHT = ["Psi from modes", "b zero without rows", "degrees of freedom without their prior",
                  "every zero a count", "precision of a beta without its gamma function"]  # fmt: skip


@pytest.mark.calibration
@pytest.mark.parametrize("name", QUICK)
def test_ranks_are_uniform(name):
    assert sbc.overall(glmm.ranks(DESIGNS[name], 12, 1, glmm.step(tune=100, updates=10))) > LEVEL


@pytest.mark.calibration
@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_spoiled_transitions_are_rejected(name):
    design, spoil, moves = VARIANTS[name]
    assert sbc.overall(glmm.ranks(design, 25, 1, glmm.step(20, 2, moves, spoil))) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_every_design_in_full():
    found = glmm.right(60)
    assert min(found.values()) > glmm.LEVEL / len(found)


@pytest.mark.slow
@pytest.mark.calibration
def test_every_spoiled_transition():
    assert max(glmm.wrong(80).values()) < REJECTED

"""Calibration of the conditional Gibbs steps: short here, in full by `-m slow` (last: CONDITIONAL_RESULTS.md)."""

import pytest

from tests.calibration import conditional, sbc
from tests.calibration.conditional import DESIGNS, VARIANTS
from tests.calibration.montecarlo import LEVEL, REJECTED

QUICK = ["inverse-Wishart", "slopes, Huang-Wand", "cluster variances, slopes"]
QUICKLY_CAUGHT = ["b from the prior", "sigma_i from the population law"]


@pytest.mark.calibration
@pytest.mark.parametrize("name", QUICK)
def test_ranks_are_uniform(name):
    assert sbc.overall(conditional.ranks(DESIGNS[name], 60, seed=1)) > LEVEL


@pytest.mark.calibration
@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_spoiled_steps_are_rejected(name):
    design, spoil = VARIANTS[name]
    found = conditional.ranks(design, 100, 1, conditional.step(spoil=spoil), conditional.imputed_quantities)
    assert sbc.overall(found) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_every_design_in_full():
    found = conditional.right(600)
    assert min(found.values()) > conditional.LEVEL / len(found)


@pytest.mark.slow
@pytest.mark.calibration
def test_every_spoiled_step():
    assert max(conditional.wrong(600).values()) < REJECTED

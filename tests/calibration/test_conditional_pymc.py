"""Calibration of the conditional model in PyMC: one design here, all by `-m slow`.

All designs with 300 data sets have not been run yet. Three with 80 (ranks(name, 80, 2024), 2026-11-21, 151 s of
processor): p = 1 "Huang-Wand", .46 "slopes, inverse-Wishart", 1 "exponential"; b from the prior: 4e-5.
"""

import pytest

from tests.calibration import conditional, conditional_pymc, sbc
from tests.calibration.montecarlo import LEVEL, REJECTED


@pytest.mark.calibration
def test_ranks_are_uniform():
    assert sbc.overall(conditional_pymc.ranks("Huang-Wand", 25, seed=1)) > LEVEL


@pytest.mark.slow
@pytest.mark.calibration
@pytest.mark.parametrize("name", conditional_pymc.DESIGNS)
def test_every_design(name):
    assert sbc.overall(conditional_pymc.ranks(name, 300, seed=2024)) > 0.01 / len(conditional_pymc.DESIGNS)


@pytest.mark.slow
@pytest.mark.calibration
def test_effects_from_their_prior_are_rejected():
    spoil, which = conditional.effects_from_their_prior, conditional.imputed_quantities
    assert sbc.overall(conditional_pymc.ranks("inverse-Wishart", 300, 2024, spoil, which)) < REJECTED

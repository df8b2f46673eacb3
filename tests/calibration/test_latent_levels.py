"""Calibration of latent normals with several grouping factors, to the completed table: in full by `-m slow`."""

import pytest

from tests.calibration import latent_levels, sbc
from tests.calibration.joint_glmm import ranks
from tests.calibration.latent_levels import DESIGNS, spoiled
from tests.calibration.montecarlo import LEVEL, REJECTED


@pytest.mark.calibration
def test_ranks_are_uniform():
    assert sbc.overall(ranks(DESIGNS["crossed"], 6, seed=1, tune=80, thin=3)) > LEVEL


@pytest.mark.slow
@pytest.mark.calibration
def test_in_full():
    for design in DESIGNS.values():
        assert sbc.overall(ranks(design, 120, latent_levels.SEED)) > LEVEL
    for name in ("missing values of groups taken for means", "priors of factors exchanged"):
        assert sbc.overall(spoiled(name, 60, latent_levels.SEED)) < REJECTED

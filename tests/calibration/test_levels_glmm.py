"""Calibration of the joint GLMM with several grouping factors: in full by `-m slow`; cheaper tests are in
tests/joint/glmm/test_levels_posterior.py."""

import pytest

from tests.calibration.levels_glmm import DESIGNS, SEED, VARIANTS, overall, ranks
from tests.calibration.montecarlo import REJECTED
from tests.calibration.run import LEVEL


@pytest.mark.slow
@pytest.mark.calibration
def test_in_full():
    for design in DESIGNS.values():
        assert overall(ranks(design, 40, SEED)) > LEVEL / len(DESIGNS)
    for design, spoil in VARIANTS.values():
        assert overall(ranks(DESIGNS[design], 80, SEED, spoil)) < REJECTED

"""Calibration of the Gibbs sampler: short here, in full by `-m slow` or `python -m tests.calibration.run`.

Level 1e-4 a design after Bonferroni over its quantities; spoiled samplers must fall below 1e-6.
"""

import pytest

from tests.calibration import run, sbc
from tests.calibration.designs import DESIGNS
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.calibration.variants import VARIANTS

QUICK = ["inverse-Wishart", "slopes, Huang-Wand", "diagonal"]
QUICKLY_CAUGHT = ["imputation noise left out", "Sigma completed without the Wishart part"]


@pytest.mark.calibration
@pytest.mark.parametrize("name", QUICK)
def test_ranks_are_uniform(name):
    assert sbc.overall(sbc.simulate(DESIGNS[name], sbc.gibbs(), 60, seed=1)) > LEVEL


@pytest.mark.calibration
@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_spoiled_samplers_are_rejected(name):
    backend, quantities = VARIANTS[name]
    assert sbc.overall(sbc.simulate(DESIGNS["inverse-Wishart"], backend, 60, 1, quantities)) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_every_design_in_full():
    assert min(run.right(600).values()) > run.LEVEL / (len(DESIGNS) + 1)


@pytest.mark.slow
@pytest.mark.calibration
def test_every_spoiled_sampler():
    assert max(run.wrong(200).values()) < REJECTED

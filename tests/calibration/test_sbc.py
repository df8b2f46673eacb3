"""Calibration of the samplers: short here, in full by `-m slow` or `python -m tests.calibration.run`.

Level 1e-4 per design after Bonferroni over its quantities; wrong samplers must fall below 1e-6.
"""

from dataclasses import replace

import pytest

from tests.calibration import run, sbc
from tests.calibration.designs import DESIGNS
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.calibration.variants import VARIANTS

QUICK = ["inverse-Wishart", "slopes, Huang-Wand", "diagonal"]
NUTS = ["inverse-Wishart", "Huang-Wand"]
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
@pytest.mark.parametrize("name", NUTS)
def test_ranks_are_uniform_under_nuts(name):
    """Last result: NUTS_RESULTS.md."""
    assert sbc.overall(sbc.simulate(DESIGNS[name], sbc.nuts(), 100, seed=2024)) > LEVEL


def nuts_with_other_psi(design, Y, seed):
    """The prior of Psi has four degrees of freedom too many."""
    Psi = replace(design.priors.Psi, nu=design.priors.Psi.nu + 4)
    return sbc.nuts()(replace(design, priors=replace(design.priors, Psi=Psi)), Y, seed)


@pytest.mark.slow
@pytest.mark.calibration
def test_spoiled_nuts_is_rejected():
    ranks = sbc.simulate(DESIGNS["inverse-Wishart"], nuts_with_other_psi, 100, seed=2024)
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_every_design_in_full():
    assert min(run.right(600).values()) > run.LEVEL / (len(DESIGNS) + 1)


@pytest.mark.slow
@pytest.mark.calibration
def test_every_spoiled_sampler():
    assert max(run.wrong(200).values()) < REJECTED

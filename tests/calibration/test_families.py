"""Calibration of the joint GLMM with every family in both roles: short here, in full by `-m slow`.

Last results of the full run: FAMILIES_RESULTS.md. Level LEVEL per design after Bonferroni over its quantities; wrong
models must fall below REJECTED.
"""

import numpy as np
import pytest

from bayesimp.families import FAMILIES
from tests.calibration import families, joint_glmm, sbc
from tests.calibration.families import DESIGNS
from tests.calibration.montecarlo import LEVEL, REJECTED
from tests.calibration.test_joint_glmm import without_child
from tests.longhand import yeo_johnson


def test_every_family_has_a_design_of_both_roles():
    assert {name.partition("(")[0] for name in DESIGNS} == {
        f.name for f in FAMILIES.values() if f.is_imputable
    }
    for name, own in DESIGNS.items():
        complete, _ = own.simulate(np.random.default_rng(0))
        frame = joint_glmm.delete(np.random.default_rng(1), own, complete)
        if joint_glmm.usable(own, frame):
            model = own.model(frame)
            assert list(model.responses) == ["v", "y"], name
            columns = [column.name.replace(" ", "") for column in model.factors[1].fixed]
            written = families.TERMS[name][0].replace(" ", "").split("+")
            assert columns == ["Intercept", *written] or name in ("ordinal", "categorical"), (name, columns)


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["lognormal", "hurdle_negative_binomial", "censored"])
def test_ranks_are_uniform(name):
    assert sbc.overall(joint_glmm.ranks(DESIGNS[name], 10, seed=1, tune=80, thin=3)) > LEVEL


@pytest.mark.slow
@pytest.mark.calibration
@pytest.mark.parametrize("name", DESIGNS)
def test_every_design_in_full(name):
    assert sbc.overall(joint_glmm.ranks(DESIGNS[name], 120, joint_glmm.SEED)) > LEVEL / len(DESIGNS)


@pytest.mark.slow
@pytest.mark.calibration
@pytest.mark.parametrize("name", ["lognormal", "hurdle_poisson", "yeo_johnson"])
def test_a_child_left_out_is_rejected(name):
    ranks = joint_glmm.ranks(DESIGNS[name], 60, 2, tune=60, thin=2, spoil=without_child("v", "y"))
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_a_power_from_another_prior_is_rejected(monkeypatch):
    """True lambda / 2 is around .8, not around .5."""

    def other(rng, family, name, eta):
        sigma, power = abs(rng.standard_t(3)), 2.0 * rng.beta(8.0, 2.0)
        y = yeo_johnson.back(eta[:, 0] + sigma * rng.normal(size=len(eta)), power)
        return {f"sigma_{name}": sigma, f"lambda_{name}": power}, y

    monkeypatch.setattr(families, "response", other)
    ranks = joint_glmm.ranks(DESIGNS["yeo_johnson"], 60, 2, tune=60, thin=2)
    assert sbc.overall(ranks) < REJECTED


def without_limits(model):
    """Censored values are treated as missing at random."""
    frame = model.data.frame.copy()
    for name in ("v", "y"):
        frame.loc[model.data.missing(name), name] = np.nan
    return DESIGNS["censored"].model(frame)


@pytest.mark.slow
@pytest.mark.calibration
@pytest.mark.parametrize("spoil", [without_limits, without_child("v", "y")])
def test_limits_and_a_child_left_out_are_rejected(spoil):
    ranks = joint_glmm.ranks(DESIGNS["censored"], 60, 2, tune=60, thin=2, spoil=spoil)
    assert sbc.overall(ranks) < REJECTED


@pytest.mark.slow
@pytest.mark.calibration
def test_counts_that_are_raised_to_one_are_rejected(monkeypatch):
    """Instead of counts given that they are above zero."""
    monkeypatch.setattr(
        families, "above_zero", lambda rng, mu, k=None: np.maximum(families.counts(rng, mu, k), 1.0)
    )
    assert sbc.overall(joint_glmm.ranks(DESIGNS["hurdle_poisson"], 100, 2, tune=60, thin=3)) < REJECTED

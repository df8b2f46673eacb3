"""What `JointNormal` and `JointLatent` share (joint/formula_model.py): nothing is sampled here."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors
from bayesimp.contract import CodeNotInFile, Shift
from bayesimp.errors import SpecificationError

MODELS = (bi.JointNormal, bi.JointLatent)
FORMULA = "y + w ~ x + (1 | g)"


@pytest.fixture(scope="module")
def data() -> bi.IncompleteData:
    rng = np.random.default_rng(12)
    g, x = np.repeat(np.arange(6), 8), rng.normal(size=48)
    y = x + rng.normal(size=6)[g] + rng.normal(size=48)
    frame = pd.DataFrame({"g": g, "x": x, "y": y, "w": y + rng.normal(size=48)})
    frame.loc[::5, "y"], frame.loc[::7, "w"] = np.nan, np.nan
    return bi.IncompleteData(frame, cluster="g")


@pytest.mark.parametrize("model", MODELS)
def test_other_tables_and_formulas_are_refused_by_the_name_of_the_model(model, data):
    with pytest.raises(SpecificationError, match=f"{model.__name__} takes IncompleteData, got DataFrame"):
        model(data.frame, FORMULA)
    with pytest.raises(SpecificationError, match=r"formula of a joint model is text.*got 3"):
        model(data, 3)
    with pytest.raises(SpecificationError, match="has no response"):
        model(data, "~ x + (1 | g)")
    with pytest.raises(SpecificationError, match="the model does not impute 'x'"):
        model(data, FORMULA, shift=Shift({"x": 1.0}))


@pytest.mark.parametrize("model", MODELS)
def test_other_priors_keep_class_formula_and_shift(model, data):
    made = model(data, FORMULA, shift=Shift({"y": 0.5})).with_priors("pan")
    assert type(made) is model and made.priors == priors.pan()
    assert made.formula.text == FORMULA and made.shift == Shift({"y": 0.5})


@pytest.mark.parametrize("model", MODELS)
def test_a_specification_makes_the_same_model_again(model, data):
    made = model(data, FORMULA, "mice", shift=Shift({"w": -1.0}))
    again = model.from_specification(data, made.specification())
    assert type(again) is model and again.specification() == made.specification()
    assert repr(again) == repr(made)
    assert "shift" not in model(data, FORMULA).specification()


@pytest.mark.parametrize("model", MODELS)
def test_a_prior_that_the_session_lacks_is_code_that_the_file_does_not_hold(model, data):
    specification = model(data, FORMULA).specification()
    specification["priors"]["Psi"]["type"] = "Unheard"
    with pytest.raises(CodeNotInFile, match=r"Unheard.*import its module first"):
        model.from_specification(data, specification)

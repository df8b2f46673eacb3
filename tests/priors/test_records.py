"""Priors as dictionaries: there and back, and what is refused."""

import json

import numpy as np
import pytest

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.priors.records import PRESETS, TYPES, prior_from_dict, priors_from_dict, priors_to_dict

MATRIX = [[2.0, 0.5], [0.5, 1.0]]
SETS = [
    *(make() for make in PRESETS.values()),
    pr.Priors(
        Sigma=pr.LKJ(3.0, pr.Exponential(scale=[1.0, 2.0])), Psi=pr.Diagonal(pr.HalfT(nu=4.0)), name="a"
    ),
    pr.Priors(Sigma=pr.Fixed(MATRIX), Psi=pr.Diagonal(pr.InverseWishart(2.0, [1.0, 3.0]))),
    pr.Priors(Psi=pr.InverseWishart(3.0, MATRIX, centred=False), name="at the origin"),
    pr.Priors(Sigma=pr.InverseWishart(-1.0, 1.0, improper=True), beta=pr.Normal([[0.0, 1.0]], 10.0)),
]


@pytest.mark.parametrize("priors", SETS, ids=lambda p: p.name)
def test_there_and_back_through_json(priors):
    record = json.loads(json.dumps(priors_to_dict(priors)))
    back = priors_from_dict(record)
    assert priors_to_dict(back) == priors_to_dict(priors)
    assert [type(getattr(back, part)) for part in ("Sigma", "Psi", "beta")] == [
        type(getattr(priors, part)) for part in ("Sigma", "Psi", "beta")
    ]


def test_arrays_of_numpy_are_written_as_lists():
    record = priors_to_dict(pr.Priors(Psi=pr.InverseWishart(3.0, np.array(MATRIX))))
    assert record["Psi"]["V"] == MATRIX


def test_the_origin_of_a_prior_is_kept():
    record = json.loads(
        json.dumps(priors_to_dict(pr.Priors(Psi=pr.InverseWishart(3.0, MATRIX, centred=False))))
    )
    assert priors_from_dict(record).Psi.centred is False and priors_from_dict("pan").Psi.centred is True


def test_every_type_is_known():
    own = {name for name, cls in TYPES.items() if cls.__module__.startswith("bayesimp.")}
    classes = {name for name in pr.__all__ if isinstance(getattr(pr, name), type)}
    kinds = {"CoefficientPrior", "ComponentPrior", "CovariancePrior", "ScalePrior"}
    assert classes - kinds - {"Priors"} == own


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("pann", r"p: unknown preset 'pann'; did you mean 'pan'"),
        (3, r"p: expected a preset .* got 3"),
        ({"Sgma": {}}, r"p\.Sgma: is not known; did you mean 'Sigma'"),
        ({"name": 1}, r"p\.name: must be text"),
        ({"Psi": "pan"}, r"p\.Psi: expected a table with a type"),
        ({"Psi": {"nu": 1}}, r"p\.Psi: expected a table with a type"),
        ({"Psi": {"type": ["LKJ"]}}, r"p\.Psi\.type: \['LKJ'\] is not known"),
        ({"Psi": {"type": "Wishart"}}, r"'Wishart' is not known; did you mean 'InverseWishart'"),
        ({"Psi": {"type": "HalfT"}}, r"p\.Psi\.type: HalfT cannot be used here; choose InverseWishart"),
        ({"beta": {"type": "LKJ"}}, r"p\.beta\.type: LKJ cannot be used here; choose Flat, Normal"),
        ({"beta": {"type": "Flat", "sd": 1}}, r"p\.beta\.sd: Flat does not have it; it takes no parameters"),
        ({"Psi": {"type": "Fixed"}}, r"p\.Psi\.value: is missing; Fixed needs it"),
        ({"Psi": {"type": "HuangWand", "nuu": 1}}, r"HuangWand does not have it; did you mean 'nu'"),
        ({"Psi": {"type": "HuangWand", "nu": "two"}}, r"p\.Psi\.nu: must be a number, not 'two'"),
        ({"Psi": {"type": "HuangWand", "nu": [1, 2]}}, r"p\.Psi\.nu: must be a number"),
        ({"Psi": {"type": "HuangWand", "nu": True}}, r"p\.Psi\.nu: must be a number, not True"),
        ({"Psi": {"type": "HuangWand", "nu": float("inf")}}, r"p\.Psi\.nu: must be finite"),
        ({"Psi": {"type": "HuangWand", "nu": -1}}, r"p\.Psi: HuangWand: nu must be positive"),
        ({"Psi": {"type": "HuangWand", "scale": 1, "times_sd": 1}}, r"p\.Psi: HuangWand: give scale= .* not both"),
        ({"Psi": {"type": "InverseWishart", "V": [[1, 0], [0]]}}, r"p\.Psi\.V: must be a number, or a list or table"),
        ({"Psi": {"type": "InverseWishart", "V": []}}, r"p\.Psi\.V: must be a number, or a list"),
        ({"Psi": {"type": "InverseWishart", "improper": 1}}, r"p\.Psi\.improper: must be true or false"),
        ({"Psi": {"type": "LKJ", "sd": 1.0}}, r"p\.Psi\.sd: expected a table with a type \(HalfT, .*HalfNormal"),
        ({"Psi": {"type": "LKJ", "sd": {"type": "Flat"}}}, r"p\.Psi\.sd\.type: Flat cannot be used here"),
        ({"Psi": {"type": "Diagonal", "variances": {"type": "LKJ"}}}, r"variances\.type: LKJ cannot be used here"),
        ({"beta": {"type": "Normal", "mean": float("nan")}}, r"p\.beta\.mean: must be finite"),
    ],
)  # fmt: skip
def test_refusals(record, message):
    with pytest.raises(SpecificationError, match=message):
        priors_from_dict(record, "p")


def test_one_prior_on_its_own():
    assert prior_from_dict({"type": "HalfNormal", "times_sd": 2}, "x") == pr.HalfNormal(times_sd=2)

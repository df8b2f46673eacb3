"""A shift between the draw of the parameters and the fill, in every kind of block; the engines: `test_models.py`."""

import numpy as np
import pytest

import bayesimp as bi
from bayesimp import methods
from bayesimp.contract import Shift
from tests.frozen import table

C = 2.5
NORMAL = {
    "bayes": methods.Bayes(),
    "a variance a cluster": methods.Bayes(residual="cluster"),
    "ml": "ml",
    "norm": "norm",
    "glm": "glm",
    "sti": "sti",
    "2lonly": "2lonly",
}


def imputed(method, shift, family="normal", **options):
    """Imputed values of y, which is visited last in one cycle, so that its parameters are those of no shift."""
    level = "cluster" if str(method).startswith("2lonly") else "row"
    data = bi.IncompleteData(table(family, level), cluster="g", families={"y": family})
    options = {"methods": {"y": method}, "order": ["w", "y"]} | options
    model = bi.FCS(data, **options, shift=None if shift is None else Shift({"y": shift}))
    return model.impute(m=5, seed=5, cycles=1, progress=False).values("y")


@pytest.mark.parametrize("method", NORMAL)
def test_a_normal_variable_moves_by_as_much(method):
    as_it_is = imputed(NORMAL[method], None)
    np.testing.assert_array_equal(imputed(NORMAL[method], 0.0), as_it_is)
    np.testing.assert_allclose(imputed(NORMAL[method], C), as_it_is + C, rtol=1e-9, atol=1e-9)


def test_one_of_a_block_moves_and_the_other_stays():
    data = bi.IncompleteData(table(), cluster="g")
    runs = [
        bi.FCS(data, blocks={"yw": ["y", "w"]}, shift=shift).impute(m=2, seed=5, cycles=1, progress=False)
        for shift in (None, Shift({"y": C}))
    ]
    np.testing.assert_allclose(runs[1].values("y"), runs[0].values("y") + C, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(runs[1].values("w"), runs[0].values("w"))
    table_, chains = runs[1].model.table, runs[1].run.chains
    seen = ~np.isnan(table_.start)
    for chain in chains:  # what is observed stays
        np.testing.assert_array_equal(chain.V[seen], table_.start[seen])


def test_bounds_are_kept_to():
    values = imputed("bayes", 50.0, bounds={"y": (-6.0, 6.0)})
    assert values.min() > -6 and values.max() < 6 and values.mean() > 5.5


@pytest.mark.parametrize(
    ("family", "method", "low", "high"),
    [
        ("bernoulli", "bayes", 0, 1),
        ("bernoulli", "mlmi", 0, 1),
        ("bernoulli", "glm", 0, 1),
        ("bernoulli", "2lonly", 0, 1),
        ("ordinal", "bayes", 0, 2),
        ("ordinal", "sti", 0, 2),
    ],
)
def test_the_linear_predictor_of_another_moves(family, method, low, high):
    as_it_is = imputed(method, None, family)
    np.testing.assert_array_equal(imputed(method, 0.0, family), as_it_is)
    assert (imputed(method, -60.0, family) == low).all() and (imputed(method, 60.0, family) == high).all()
    assert len(np.unique(as_it_is)) > 1


def test_log_means_move_by_a_factor():
    """exp(c) on the mean: the values of a gamma variable, given its shape and uniform numbers, are proportional."""
    as_it_is, moved = imputed("bayes", None, "gamma"), imputed("bayes", C, "gamma")
    np.testing.assert_allclose(moved, as_it_is * np.exp(C), rtol=1e-6)


def test_matching_takes_larger_donors():
    low, high = imputed("pmm", -50.0), imputed("pmm", 50.0)
    observed = table()["y"].dropna()
    assert set(np.unique([low, high])) <= set(observed) and high.min() > low.max()


def test_a_shift_is_saved(tmp_path):
    data = bi.IncompleteData(table(), cluster="g")
    for model in (
        bi.FCS(data, shift=Shift({"y": C})),
        bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=Shift({"y": C})),
    ):
        imp = model.impute(m=2, seed=5, progress=False)
        imp.save(tmp_path / "run.nc")
        back = bi.load(tmp_path / "run.nc")
        assert back.model.shift == Shift({"y": C})
        np.testing.assert_allclose(back.extend(1).values("y"), imp.extend(1).values("y"), rtol=1e-9)
        stats = [i.extend(1).tree["imputed_stats"]["mean"].values for i in (back, imp)]
        np.testing.assert_allclose(*stats, rtol=1e-9)
        assert model.with_priors("mice").shift == model.shift


def test_printed_models_show_a_shift():
    """What is drawn depends on it as on a prior."""
    data = bi.IncompleteData(table("bernoulli"), cluster="g", families={"y": "bernoulli"})
    shown = repr(bi.FCS(data, shift=Shift({"y": -0.5, "w": 2})))
    assert (
        "\n  shift of y: -0.5 on its linear predictor\n" in f"{shown}\n"
        and "\n  shift of w: +2\n" in f"{shown}\n"
    )
    for shift in (None, Shift({"w": 0.0})):
        assert "shift" not in repr(bi.FCS(data, shift=shift))
    data = bi.IncompleteData(table(), cluster="g")
    joint = bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=Shift({"w": 2}))
    assert "\n  shift of w: +2\n" in repr(joint) and "shift of y" not in repr(joint)
    assert "shift" not in repr(bi.JointNormal(data, "y + w ~ x + (1 | g)"))


def test_what_cannot_be_shifted_is_refused():
    data = bi.IncompleteData(table(), cluster="g")
    for model in (bi.FCS, lambda data, shift: bi.JointNormal(data, "y + w ~ x + (1 | g)", shift=shift)):
        with pytest.raises(bi.SpecificationError, match="does not impute 'x'; it imputes "):
            model(data, shift=Shift({"x": 1.0}))
        with pytest.raises(bi.SpecificationError, match="shift of 'y': a finite number, not nan"):
            model(data, shift=Shift({"y": np.nan}))
    with pytest.raises(bi.SpecificationError, match="a PyMC model draws the values of a bernoulli variable"):
        imputed("pymc", 1.0, "bernoulli")

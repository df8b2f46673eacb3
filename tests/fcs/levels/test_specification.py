"""How conditional models with several grouping factors are read, printed, refused, stored and chosen by `bi.impute`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import DataError, SpecificationError
from tests.unfolding import unfolded

RUN = {"m": 2, "cycles": 3, "seed": 1, "progress": False}
BOTH = "~ x + (1 | school) + (1 | class)"


def table(**columns) -> pd.DataFrame:
    """8 schools of 3 classes of 5 rows; hood is crossed with both."""
    rng = np.random.default_rng(2)
    n = 120
    school, class_ = np.arange(n) // 15, np.arange(n) // 5
    frame = pd.DataFrame({"school": school, "x": rng.normal(size=n)})
    frame["class"], frame["hood"] = "k" + pd.Series(class_).astype(str), rng.choice(list("abcdef"), n)
    frame["y"] = frame["x"] + rng.normal(size=8)[school] + rng.normal(size=24)[class_] + rng.normal(size=n)
    frame["pass"] = np.where(frame["y"] + rng.logistic(size=n) > 0, "yes", "no")
    frame["visits"] = rng.poisson(np.exp(0.3 * frame["x"] + 0.3 * rng.normal(size=24)[class_]))
    for name in ("y", "pass", "visits"):
        frame[name] = frame[name].where(rng.random(n) > 0.15)
    return frame.assign(**columns)


def data(clusters=("school", "class"), frame=None, **options) -> bi.IncompleteData:
    frame = table() if frame is None else frame
    unused = {"class", "hood", "number"} & set(frame.columns) - set(clusters)
    return bi.IncompleteData(
        frame.drop(columns=list(unused)), list(clusters), {"visits": "poisson"}, **options
    )


def formulas(made: bi.FCS) -> str:
    return "\n".join(made.formulas)


# -- how it is read ------------------------------------------------------------------------------------------


def test_by_default_every_cluster_column_has_effects():
    made = bi.FCS(data(["school", "class", "hood"]))
    assert formulas(made).count("(1 | school) + (1 | class) + (1 | hood)") == 3
    (event,) = [e for e in made.events if e.kind == "crossed"]  # once, not once per variable
    assert event.where == "hood"
    assert bi.FCS(made.data, predictors=made.formulas).formulas == made.formulas
    text = str(made)
    assert "Psi_class Huang-Wand" in text and "Psi_hood Huang-Wand" in text


def test_edits_of_the_default_formula():
    of_all = data(["school", "class", "hood"])
    made = bi.FCS(of_all, predictors="~ . + (1 + x | school) - (1 | hood)")
    assert formulas(made).count("(1 + x | school) + (1 | class)") == 3 and "hood" not in formulas(made)
    with pytest.raises(SpecificationError, match="by default there is no term of q"):
        bi.FCS(of_all, predictors={"y": "~ . - (1 | q)"})


def test_nested_terms_are_those_of_lme4():
    """(1 | school/number) and unique class ids are the same model, to the last bit."""
    frame = table(number=lambda t: "n" + pd.Series(np.arange(len(t)) // 5 % 3).astype(str))
    formula = {
        "y": "~ x + (1 | school/number)",
        "pass": "~ x + (1 | school) + (1 | school:number)",
        "visits": "~ 1 + (1 | school)",
    }
    one = bi.FCS(data(["school", "number"], frame), predictors=formula).impute(**RUN)
    formula = {"y": BOTH, "pass": BOTH, "visits": "~ 1 + (1 | school)"}
    other = bi.FCS(data(frame=frame), predictors=formula).impute(**RUN)
    for name in ("y", "pass"):
        np.testing.assert_array_equal(one.values(name), other.values(name))
    assert "Psi_school:number_y" in one.tree["posterior"] and "Psi_class_y" in other.tree["posterior"]


def test_a_seed_does_not_see_order_or_labels():
    copied = table().iloc[[*range(5), *range(15, 20)]]  # rows that differ only in their classes
    copied["class"] = np.repeat(["k1", "k4"], 5)
    frame = pd.concat([table(), copied], ignore_index=True)
    again = frame.sample(frac=1, random_state=5)
    again["class"] = again["class"].map({name: f"c{k}" for k, name in enumerate(again["class"].unique())})
    one, other = (bi.FCS(data(frame=f)).impute(**RUN).to_frame(1) for f in (frame, again))
    other = other.loc[one.index]
    np.testing.assert_allclose(one["y"], other["y"])
    assert (one[["pass", "visits"]] == other[["pass", "visits"]]).all(axis=None)


def test_priors_of_factors_are_theirs():
    own = pr.Priors(Psi=pr.HuangWand(scale=3.0), Psi_of={"class": pr.HuangWand(scale=0.25)})
    made = bi.FCS(data(), {"y": bi.methods.Bayes(own)})
    assert made.parameter_priors["Psi_class_y"].scale == 0.25 and made.parameter_priors["Psi_y"].scale == 3.0
    with pytest.raises(SpecificationError, match="Psi_of: 'class' is not a grouping factor of this model"):
        bi.FCS(data(), {"y": bi.methods.Bayes(own)}, {"y": "~ x + (1 | school)"})
    changed = made.with_priors(own)
    assert changed.parameter_priors["Psi_class_visits"].scale == 0.25
    with pytest.raises(SpecificationError, match="not conditionally conjugate"):
        made.with_priors(pr.Priors(Psi=pr.LKJ()))


# -- how it runs ---------------------------------------------------------------------------------------------


def test_runs_are_stored_continued_and_extended(tmp_path):
    imp = bi.FCS(data()).impute(**RUN)
    imp.save(tmp_path / "run.nc")
    again = bi.load(tmp_path / "run.nc")
    for longer, other in ((imp.iterate(2), again.iterate(2)), (imp.extend(3), again.extend(3))):
        for name in ("y", "pass", "visits"):
            np.testing.assert_array_equal(longer.values(name), other.values(name))
    assert {"Psi_class_y", "Psi_class_pass", "Psi_class_visits"} <= set(imp.tree["posterior"].data_vars)
    assert imp.tree["posterior"]["Psi_class_y"].dims[2:] == ("effect_class_y", "effect_class_y_2")
    long = bi.FCS(data()).impute(2, cycles=5, seed=1, progress=False)
    np.testing.assert_array_equal(imp.iterate(2).values("y"), long.values("y"))


def test_options_that_other_blocks_have():
    """Bounds, a shift, rows that are imputed but not fitted, a function of the values."""
    low, high = table()["y"].min(), table()["y"].max()
    bounded = (
        bi.FCS(data(), bounds={"y": (low, high)}).impute(20, cycles=2, seed=1, progress=False).values("y")
    )
    free = bi.FCS(data()).impute(20, cycles=2, seed=1, progress=False).values("y")
    assert low <= bounded.min() and bounded.max() <= high and not (low <= free.min() and free.max() <= high)
    plain = bi.FCS(data())
    moved = plain.with_shift(Shift({"y": 100.0})).impute(2, cycles=1, seed=1, progress=False)
    np.testing.assert_allclose(
        moved.values("y"), plain.impute(2, cycles=1, seed=1, progress=False).values("y") + 100.0
    )
    ignored = bi.FCS(data(), ignore=np.arange(120) % 9 == 0).impute(**RUN)
    assert np.isfinite(ignored.values("y")).all()


def test_names_of_variables_and_factors_do_not_collide():
    """The Psi of a variable class_y would have the name of the class effects on y."""
    frame = table().rename(columns={"visits": "class_y"})
    of_two = bi.IncompleteData(frame.drop(columns="hood"), ["school", "class"], {"class_y": "poisson"})
    posterior = bi.FCS(of_two).impute(**RUN).tree["posterior"]
    assert {"Psi_class_y", "Psi_class_y_", "Psi_class_class_y_"} <= set(posterior.data_vars)


# -- what is refused or left out -----------------------------------------------------------------------------


def numbered():
    return table(number=lambda t: np.arange(len(t)) // 5 % 3 + 1)


REFUSED = {
    "slope of another factor": (
        lambda: bi.FCS(data(), predictors={"y": "~ x + (1 | school) + (1 + x | class)"}),
        r"\(1 \+ x \| class\): random slopes are those of 'school' here",
    ),
    "no term of the clusters": (
        lambda: bi.FCS(data(["school", "class", "hood"]), predictors={"y": "~ x + (1 | hood) + (1 | class)"}),
        "0 random terms of 'school', the primary clusters",
    ),
    "two terms of the clusters": (
        lambda: bi.FCS(data(), predictors={"y": "~ x + (1 | school) + (0 + x | school) + (1 | class)"}),
        "2 random terms of 'school'",
    ),
    "another method": (
        lambda: bi.FCS(data(), {"y": "ml"}, {"y": BOTH}), "method 'ml', which has effects of 'school' only.*by 'bayes'",
    ),
    "own residual variances": (
        lambda: bi.FCS(data(), {"y": bi.methods.Gibbs(residual="cluster")}, {"y": BOTH}), "residual='cluster'",
    ),
    "a nominal variable": (
        lambda: bi.FCS(bi.IncompleteData(
            table(k=lambda t: np.where(np.arange(120) % 7 == 0, None, t["hood"])).drop(columns="hood"),
            ["school", "class"]), predictors={"k": BOTH}),
        "'k' is categorical: its levels have effects of 'school' only",
    ),
    "a block": (
        lambda: bi.FCS(
            data(frame=table(z=lambda t: t["y"] + t["x"] ** 2)), blocks={"b": ["y", "z"]}, predictors={"b": BOTH}
        ),
        "'b' is a block of several variables",
    ),
    "an analysis": (
        lambda: bi.FCS(data(), predictors={"y": BOTH}, analysis="visits ~ y + (1 | school)"),
        "drawn as an analysis or by limits",
    ),
    "numbers that begin again": (
        lambda: bi.FCS(data(["school", "number"], numbered())), r"write \(1 \| school/number\), or give every 'number'",
    ),
    "one class a school": (
        lambda: bi.FCS(data(frame=table(**{"class": lambda t: "s" + t["school"].astype(str)}))), "the same 8 groups",
    ),
    "one row a group": (
        lambda: bi.FCS(data(frame=table(**{"class": np.arange(120).astype(str)})), predictors={"y": BOTH}),
        "observed once in each of the",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    make, words = REFUSED[case]
    with pytest.raises((DataError, SpecificationError), match=words):
        make()


def test_crossed_factors_with_one_row_a_cell_are_imputed():
    rng = np.random.default_rng(1)
    a, b = np.divmod(np.arange(120), 10)
    y = rng.normal(size=12)[a] + rng.normal(size=10)[b] + rng.normal(size=120)
    frame = pd.DataFrame(
        {"a": a, "b": "b" + pd.Series(b).astype(str), "y": np.where(rng.random(120) < 0.2, np.nan, y)}
    )
    imp = bi.FCS(bi.IncompleteData(frame, ["a", "b"])).impute(**RUN)
    assert np.isfinite(imp.values("y")).all()


def test_models_that_cannot_have_a_factor_say_so():
    frame = table(k=lambda t: pd.Series(np.where(np.arange(120) % 7 == 0, None, t["hood"])))
    made = bi.FCS(data(frame=frame), {"visits": "mlmi"})
    assert "note (visits): no effects of class: it is imputed by method 'mlmi'" in unfolded(str(made))
    assert "note (k): no effects of class: it is categorical" in unfolded(str(made))
    assert not [event for event in made.events if event.kind == "not used"]
    alone = bi.FCS(data(), {"y": "norm", "pass": "glm", "visits": "glm"})
    assert [event.kind for event in alone.events if event.where == "cluster"] == ["not used"]


# -- in one call ---------------------------------------------------------------------------------------------


def test_one_call_chooses_an_engine(capsys):
    normal = table().drop(columns=["pass", "visits", "hood"])
    imp = bi.impute(normal, ["school", "class"], m=2, seed=1, tune=50, draws=500, progress=False)
    assert imp.attrs["engine"] == "joint" and "y ~ 1 + (1 | school) + (1 | class)" in imp.attrs["formula"]
    imp = bi.impute(table().drop(columns="hood"), ["school", "class"], m=2, seed=1, progress=False, cycles=3)
    assert imp.attrs["engine"] == "fcs"
    assert "cycles= is an option of this engine only" in unfolded(capsys.readouterr().out)
    mixed = table().drop(columns=["visits", "hood"])
    imp = bi.impute(
        mixed, ["school", "class"], engine="latent", m=2, seed=1, tune=5, draws=8, chains=2, progress=False
    )
    assert "~ 1 + (1 | school) + (1 | class)" in imp.attrs["formula"] and "Psi_class" in imp.tree["posterior"]


CALLS = {
    "glmm": ({"engine": "glmm"}, "no analysis is given, which the joint GLMM needs as a factor"),
}


@pytest.mark.parametrize("case", CALLS)
def test_other_engines_are_refused_in_one_call(case):
    options, words = CALLS[case]
    with pytest.raises(SpecificationError, match=words):
        bi.impute(table().drop(columns="hood"), ["school", "class"], m=2, seed=1, show=False, **options)

"""Changes to default formulas: what they add, remove and keep; for one variable or all; refusals."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.fcs.specification.compose import conditionals
from bayesimp.fcs.specification.records import formula_text


def table(m=40, n=8) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(m), n)
    frame = pd.DataFrame(
        {
            "study": g, "age": rng.normal(size=m * n), "sex": rng.choice(["F", "M"], m * n),
            "size": rng.normal(size=m)[g], "y1": rng.normal(size=m * n), "y2": rng.normal(size=m * n),
            "visits": rng.poisson(3, m * n).astype(float),
        }
    )  # fmt: skip
    for name in ("y1", "y2", "visits"):
        frame.loc[rng.random(m * n) < 0.2, name] = np.nan
    return frame


DATA = bi.IncompleteData(table(), "study", families={"visits": "poisson"})
Y1 = ["age", "sex[M]", "size", "y2", "log1p(visits)"]
MEANS = ["cluster_mean(age)", "cluster_mean(sex[M])", "cluster_mean(y2)", "cluster_mean(log1p(visits))"]


def block(name, predictors, **options):
    made = conditionals(DATA, predictors=predictors, **options)
    return next(b for b in made.blocks if b.name == name)


def names(columns):
    return [c.name for c in columns if c.name != "Intercept"]


def test_the_default_that_is_edited():
    assert names(block("y1", None).fixed) == Y1 + MEANS


@pytest.mark.parametrize(
    "change, fixed, random",
    [
        ("~ .", Y1 + MEANS, []),
        ("y1 ~ . + (1 + age | study)",
         [*Y1, "cluster_mean(age)", "cluster_mean(sex[M])", "cluster_mean(y2)", "cluster_mean(log1p(visits))",
          "age:cluster_mean(age)", "age:cluster_mean(sex[M])", "age:cluster_mean(size)", "age:cluster_mean(y2)",
          "age:cluster_mean(log1p(visits))", "age:cluster_mean(age * age)"], ["age"]),
        ("~ . - age", [c for c in Y1 + MEANS if "age" not in c], []),
        ("~ . - sex - size", [c for c in Y1 + MEANS if "s" not in c.replace("cluster", "").replace("visits", "")], []),
        ("~ . - visits", [c for c in Y1 + MEANS if "visits" not in c], []),
        ("~ . - log1p(visits)", [c for c in Y1 + MEANS if "visits" not in c], []),
        ("~ . - cluster_mean(age)", [c for c in Y1 + MEANS if c != "cluster_mean(age)"], []),
        ("~ . + age:y2", [*Y1, "age:y2", *MEANS, "cluster_mean(age:y2)"], []),
        ("~ . + log(cluster_size() + age**2)", None, []),
    ],
)  # fmt: skip
def test_changes(change, fixed, random):
    made = block("y1", {"y1": change})
    if fixed is None:
        assert set(Y1) < set(names(made.fixed))
        return
    if random:  # the products of a slope with means are those of the written formula with compatible=True
        written = block(
            "y1", {"y1": "~ age + sex + size + y2 + log1p(visits) + (1 + age | study)"}, compatible=True
        )
        assert made.fixed[: len(Y1) + 1] == written.fixed[: len(Y1) + 1] and names(made.random) == random
        return
    assert names(made.fixed) == fixed and names(made.random) == random


def test_what_is_not_mentioned_stays():
    changed, default = conditionals(DATA, predictors={"y1": "~ . - age"}), conditionals(DATA)
    text = {b.name: formula_text(b, "study") for b in changed.blocks}
    before = {b.name: formula_text(b, "study") for b in default.blocks}
    assert text["y1"] != before["y1"] and text["y2"] == before["y2"] and text["visits"] == before["visits"]


def test_a_change_of_all_formulas():
    made = conditionals(DATA, predictors="~ . - size + (1 + y1 | study)")
    for b in made.blocks:
        assert "size" not in names(b.fixed)
        assert names(b.random) == ([] if b.name == "y1" else ["y1"])
    y1 = made.blocks[0]
    assert any("without terms that contain it: y1" in note for note in y1.notes)
    one = conditionals(DATA, predictors=["~ . - size", "y1 ~ age + (1 | study)"])
    assert names(one.blocks[0].fixed) == ["age"] and "size" not in names(one.blocks[1].fixed)
    single = conditionals(DATA, {"y2": "norm"}, predictors="~ . + (1 + age | study)")
    assert [names(b.random) for b in single.blocks] == [["age"], [], ["age"]]
    # y1 does not predict itself, and is removed from the others
    off = conditionals(DATA, predictors="~ . - y1")
    assert not any("y1" in names(b.fixed) for b in off.blocks) and len(off.blocks) == 3


def test_columns_derived_from_the_response_are_not_for_it():
    made = conditionals(DATA, derived={"double": "y1 * y2"}, predictors="~ . + age:double")
    assert [("age:double" in " ".join(names(b.fixed))) for b in made.blocks] == [False, False, True]


@pytest.mark.parametrize(
    "predictors, message",
    [
        ({"y1": "~ . - z"}, "no column 'z'|'z' cannot be removed"),
        (
            {"y1": "~ . - y1"},
            "'y1' cannot be removed: the default predictors of 'y1' are age, sex, size, y2, log1p",
        ),
        ({"y1": "~ . - age:y2"}, "'age:y2' cannot be removed"),
        ({"y1": "~ . - cluster_mean(size)"}, r"'cluster_mean\(size\)' cannot be removed .* not added"),
        ("~ . - z", "'z' cannot be removed because no default formula has it"),
        ({"y1": "~ . * age"}, r"must be a term of a sum: ~ \. \+ x"),
        ({"y1": "~ log(.)"}, "must be a term of a sum"),
        ({"y1": "~ . + (1 + . | study)"}, "must be a term of a sum"),
        ({"y1": "~ . - (1 | study)"}, "takes its place"),
        ({"y1": "~ . + (1 | study) + (1 + age | study)"}, "two random terms of study"),
        ({"y1": "~ . + (1 | arm)"}, "'arm' is not a cluster column of the table"),
        ({"y1": "y2 ~ . - age"}, "has y2 on its left side"),
        ({"y1": "~ . + nothing"}, "no column 'nothing'"),
        (["~ . - age", "~ . - size"], "two changes to all formulas"),
        ("~ age + (1 | study)", "must have the variable .* on its left side; '~ . \\+ x' alone"),
    ],
)
def test_refusals(predictors, message):
    with pytest.raises(SpecificationError, match=message):
        conditionals(DATA, predictors=predictors)


def test_a_changed_model_is_imputed_saved_and_printed(tmp_path):
    model = bi.FCS(DATA, predictors="~ . - size + (1 + age | study)")
    assert bi.FCS(DATA, predictors=model.formulas).formulas == model.formulas
    imp = model.impute(2, cycles=2, seed=1, progress=False)
    imp.save(tmp_path / "a.nc")
    again = bi.load(tmp_path / "a.nc")
    assert again.iterate(1).frame(0).equals(imp.iterate(1).frame(0))

"""Names of any kind: what is printed parses to the same model, and gives the same imputations and analyses."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesimp as bi
from bayesimp.analysis.fit import fit_each
from bayesimp.analysis.side_by_side import complete_cases, side_by_side
from bayesimp.formulas.syntax import Level, Name, label, read_sides, write
from bayesimp.layout import wrapped
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
PLAIN = ("study", "age", "arm", "y", "sex", "grade")
ODD = ("the study | %{x} - `a`", "blood pressure (mm)", 'log"', "class", "y-2 ~ é\\", "a.b c[1]")
LEVELS = ("a", "b", "c")
ODD_LEVELS = ("c:d `e` ]", "low [x]", "the \"q\" 'r'")
SIGNS = " .,-+*:|%~`'\"\\[](){}=<>^&\n_1axéß日²"


def table(names=PLAIN, levels=LEVELS, m=14, n=10) -> pd.DataFrame:
    """Complete: age, arm; incomplete: y (normal), sex (text of two levels), grade (categories)."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(m), n)
    u = rng.normal(size=m)[g]
    arm = rng.integers(0, 3, m * n)
    age = rng.normal(size=m * n) + 0.5 * u
    y = age + u + 0.5 * arm + rng.normal(size=m * n)
    sex = np.where(y + rng.normal(size=m * n) > 0, levels[0], levels[1]).astype(object)
    grade = np.array(levels, dtype=object)[
        np.clip(np.round(y + rng.normal(size=m * n)), -1, 1).astype(int) + 1
    ]
    columns = [[f"s{k:02}" for k in g], age, np.array(levels, dtype=object)[arm], y, sex, grade]
    frame = pd.DataFrame(dict(zip(names, columns, strict=True)))
    frame[names[5]] = pd.Categorical(frame[names[5]], list(levels))
    for k in (3, 4, 5):
        frame.loc[rng.random(m * n) < 0.15, names[k]] = None
    return frame


def models(model: bi.FCS):
    return [(b.name, b.responses, b.fixed, b.random, b.method, b.family, b.levels) for b in model.spec.blocks]


def same_again(data: bi.IncompleteData, **options) -> bi.FCS:
    """The model, made again from its printed formulas."""
    model = bi.FCS(data, **options)
    again = bi.FCS(data, **(options | {"predictors": model.formulas}))
    assert again.formulas == model.formulas and models(again) == models(model)
    printed = "".join(repr(model).split())  # long formulas continue in the next line
    for formula in model.formulas:
        assert "".join(formula.split()) in printed
        assert read_sides(wrapped(f"  bayes  {formula}").removeprefix("  bayes  ")) == read_sides(formula)
    return model


@pytest.mark.parametrize("names, levels", [(PLAIN, LEVELS), (ODD, ODD_LEVELS)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compatible": True},
        {"methods": "2stage"},
        {"predictors": "~ . + (1 + {1} | {0})", "compatible": True},
        {"predictors": ["{3} ~ {1}*{2} + {4}:{1} + {5}:{2} + cluster_mean({5l}:{1}) + within({4}) + (1 + {4} | {0})"]},
        {"predictors": ["{3} ~ 0 + {2} + poly({1}, 2)[1]:{2} + I(({1} + 1) * 2) + (0 + {1} | {0})"]},
        {"predictors": ["{3} ~ bs({1}, df=4) + {5} + {5}:{2} + (1 | {0})"]},
        {"predictors": ["{3} ~ C({2}, Sum) + log({1} + cluster_size() + 9) + cluster_mean({2l} * {4}) + (1 | {0})"]},
    ],
)  # fmt: skip
def test_printed_formulas_parse_to_the_same_model(names, levels, options):
    spelled = {str(k): write(Name(name)) for k, name in enumerate(names)}
    spelled |= {f"{k}l": write(Level(Name(names[k]), levels[1])) for k in (2, 5)}

    def filled(text):
        for key, value in spelled.items():
            text = text.replace(f"{{{key}}}", value)
        return text

    given = options.get("predictors")
    given = filled(given) if isinstance(given, str) else given and [filled(text) for text in given]
    rows = 18 if options.get("methods") else 10  # two stages need them
    data = bi.IncompleteData(table(names, levels, n=rows), names[0])
    if options.get("methods"):
        options = {"methods": {names[3]: "2stage"}}
    same_again(data, **(options | {"predictors": given}))


@given(
    st.lists(st.text(st.sampled_from(SIGNS), min_size=1, max_size=5), min_size=6, max_size=6, unique=True),
    st.lists(st.text(st.sampled_from(SIGNS), max_size=5), min_size=3, max_size=3, unique=True),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_names_from_an_adversarial_alphabet(names, levels):
    """The model is that of plain names, and its printed formulas give it again; the same for analyses."""
    levels = sorted(levels)
    odd, plain = table(names, levels), table()
    model = same_again(bi.IncompleteData(odd, names[0]), compatible=True)
    expected = bi.FCS(bi.IncompleteData(plain, "study"), compatible=True)
    for ours, theirs in zip(model.spec.blocks, expected.spec.blocks, strict=True):
        assert len(ours.fixed) == len(theirs.fixed) and len(ours.random) == len(theirs.random)
    np.testing.assert_array_equal(model.table.D, expected.table.D)
    run = dict(m=2, cycles=2, seed=1, progress=False)
    imp = bi.FCS(model.data, predictors=model.formulas).impute(**run)
    theirs = expected.impute(**run)
    np.testing.assert_allclose(imp.frame(1)[names[3]], theirs.frame(1)["y"], rtol=1e-10)
    study, age, _, y = (write(Name(name)) for name in names[:4])
    level = write(Level(Name(names[2]), levels[1]))
    analysis = f"{y} ~ {age} + cluster_mean({age}) + {level} + {level}:{age} + (1 | {study})"
    fits = imp.analyse(analysis)
    same = theirs.analyse("y ~ age + cluster_mean(age) + arm[b] + arm[b]:age + (1 | study)")
    np.testing.assert_allclose(fits.estimates, same.estimates, rtol=1e-6, atol=1e-9)
    assert fits.component_names[0] == f"sd(Intercept | {names[0]})"
    assert set(fits.names[1:4]) == {names[1], f"cluster_mean({names[1]})", f"{names[2]}[{levels[1]}]"}


def test_odd_names_in_every_analysis():
    odd = bi.IncompleteData(table(ODD, ODD_LEVELS), ODD[0])
    plain = bi.IncompleteData(table(), "study")
    study, age, arm, y = (write(Name(name)) for name in ODD[:4])
    level = write(Level(Name(ODD[2]), ODD_LEVELS[1]))
    joint = bi.JointNormal(odd, f"{y} ~ {age} + {level} + cluster_mean({age}) + (1 | {study})")
    assert f"{y} ~ {age}" in unfolded(repr(joint))
    imp = joint.impute(2, seed=1, tune=30, draws=30, progress=False)
    theirs = bi.JointNormal(plain, "y ~ age + arm[b] + cluster_mean(age) + (1 | study)")
    theirs = theirs.impute(2, seed=1, tune=30, draws=30, progress=False)
    np.testing.assert_array_equal(imp.frame(0)[ODD[3]], theirs.frame(0)["y"])
    forms = [
        ("{y} ~ {age} + {level} + (1 + {age} | {study})", {}),
        ("{y} ~ {age} + {level} + (1 | {study}) + (1 | {arm})", {}),
        ("{age} ~ {y} + {arm}", {}),
    ]
    for text, options in forms:
        ours = imp.analyse(text.format(y=y, age=age, arm=arm, study=study, level=level), **options)
        same = theirs.analyse(
            text.format(y="y", age="age", arm="arm", study="study", level="arm[b]"), **options
        )
        np.testing.assert_allclose(ours.estimates, same.estimates, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(ours.components, same.components, rtol=1e-4, atol=1e-6)
    analysis = f"{y} ~ {age} + {level} + (1 | {study})"
    binary = f"{write(Name(ODD[4]))} ~ {age} + (1 | {study})"
    assert len(complete_cases(odd, binary, family="bernoulli")) == 1
    assert "estimate" in str(side_by_side(analysis, {"imputed": imp, "complete": odd}).columns)
    smaller = imp.analyse(f"{y} ~ {age} + (1 | {study})")
    assert bi.compare(imp.analyse(analysis), smaller).terms == (label(Level(Name(ODD[2]), ODD_LEVELS[1])),)
    by_study = bi.pool_by_study(imp, f"{y} ~ {age}", study=ODD[0])
    assert list(by_study.overall["term"]) == ["Intercept", ODD[1]]


def test_imputations_are_those_of_plain_names():
    run = dict(m=2, cycles=3, seed=1, progress=False)
    odd = bi.FCS(bi.IncompleteData(table(ODD, ODD_LEVELS), ODD[0]), compatible=False)
    imp = bi.FCS(odd.data, predictors=odd.formulas, compatible=False).impute(**run)
    theirs = bi.FCS(bi.IncompleteData(table(), "study"), compatible=False).impute(**run)
    levels = dict(zip(LEVELS, ODD_LEVELS, strict=True))
    np.testing.assert_allclose(imp.frame(1)[ODD[3]], theirs.frame(1)["y"], rtol=1e-12)
    assert (imp.frame(1)[ODD[4]] == theirs.frame(1)["sex"].map(levels)).all()
    assert (imp.frame(1)[ODD[5]].astype(str) == theirs.frame(1)["grade"].astype(str).map(levels)).all()


def test_derived_columns_with_odd_names():
    odd = bi.IncompleteData(table(ODD, ODD_LEVELS), ODD[0])
    age, y = write(Name(ODD[1])), write(Name(ODD[3]))
    derived = {"d 1": f"{y} - cluster_mean({y})", "d|2": f"`d 1` * {age} + log(cluster_size())"}
    model = same_again(odd, derived=derived, predictors={ODD[4]: "~ . - `d|2`"})
    assert "= (`d 1` * `blood pressure (mm)`) + log(cluster_size())" in unfolded(repr(model))
    frame = model.impute(2, cycles=2, seed=1, progress=False).frame(1)
    values = frame[ODD[3]] - frame.groupby(ODD[0])[ODD[3]].transform("mean")
    np.testing.assert_allclose(frame["d 1"], values, atol=1e-10)
    np.testing.assert_allclose(frame["d|2"], values * frame[ODD[1]] + np.log(10), atol=1e-10)


def test_plan_with_odd_names(tmp_path, capsys):
    table(ODD, ODD_LEVELS).drop(columns=[ODD[4], ODD[5]]).to_csv(tmp_path / "t.csv", index=False)
    study, age, y = (write(Name(ODD[k])) for k in (0, 1, 3))
    level = write(Level(Name(ODD[2]), ODD_LEVELS[1]))
    plan = f"""
[data]
file = "t.csv"
cluster = {ODD[0]!r}

[model]
formula = '''{y} ~ {age} + {level} + (1 | {study})'''

[[analysis]]
formula = '''{y} ~ {age} + cluster_mean({age}) + (1 | {study})'''
"""
    path = tmp_path / "plan.toml"
    plan += "\n[impute]\nm = 2\nseed = 1\n"
    path.write_text(plan, encoding="utf-8")
    assert main(["check", str(path)]) == 0, capsys.readouterr()


def test_a_column_called_intercept():
    frame = table().rename(columns={"age": "Intercept"})
    data = bi.IncompleteData(frame, "study")
    with pytest.raises(bi.SpecificationError, match=r"'Intercept'.*rename it in the table"):
        bi.JointNormal(data, "y ~ Intercept + (1 | study)")
    with pytest.raises(bi.SpecificationError, match=r"'Intercept'.*rename it in the table"):
        bi.FCS(data)
    for formula in ("y ~ Intercept", "y ~ 0 + Intercept", "y ~ arm + (1 | study) + (0 + Intercept | arm)"):
        with pytest.raises(bi.SpecificationError, match=r"'Intercept'.*rename it in the table"):
            fit_each([frame.dropna()], formula)
    bi.FCS(data, predictors={name: ["arm"] for name in ("y", "sex", "grade")})  # unused, so harmless
    response = table().rename(columns={"y": "Intercept"})
    imp = bi.JointNormal(bi.IncompleteData(response, "study"), "Intercept ~ age + (1 + age | study)")
    imp = imp.impute(2, seed=1, tune=20, draws=20, progress=False)
    import matplotlib

    matplotlib.use("Agg")
    from bayesimp.plots import plot_trace

    plot_trace(imp)


@pytest.mark.parametrize(
    "rename, formula",
    [
        ({"age": "arm[b]"}, "y ~ `arm[b]` + arm + (1 | study)"),
        ({"age": "cluster_mean(size)"}, "y ~ `cluster_mean(size)` + cluster_mean(size) + (1 | study)"),
        ({"age": "log(size)"}, "y ~ `log(size)` + log(size) + (1 | study)"),
    ],
)
def test_a_column_called_like_a_term_beside_it(rename, formula):
    """Two columns of the results would have one name: refused with a message."""
    frame = table().assign(size=np.arange(140.0) + 1).rename(columns=rename)
    data = bi.IncompleteData(frame, "study")
    with pytest.raises(bi.SpecificationError, match=r"(name|term).*rename"):
        bi.JointNormal(data, formula)
    with pytest.raises(bi.SpecificationError, match=r"(name|term).*rename"):
        bi.FCS(data, predictors=[formula])
    with warnings.catch_warnings(), pytest.raises(bi.SpecificationError, match=r"(name|term).*rename"):
        warnings.simplefilter("ignore")
        fit_each([frame.dropna()], formula)


def test_variables_of_clusters_are_printed_as_they_are_read():
    frame = table()
    of_cluster = pd.factorize(frame["study"])[0]
    frame["size"] = np.random.default_rng(1).normal(size=14)[of_cluster]
    frame["kind"] = np.where(of_cluster % 3 == 0, "a", "b")
    frame["kind"] = frame["kind"].where(~np.isin(of_cluster, [2, 9]))
    frame["size"] = frame["size"].where(~np.isin(of_cluster, [4, 5]))
    model = same_again(bi.IncompleteData(frame[["study", "age", "y", "size", "kind"]], "study"))
    assert "size ~ 1 + cluster_mean(age) + cluster_mean(y) + kind[b]" in unfolded(repr(model))


def factors() -> pd.DataFrame:
    """Columns of many kinds of levels, complete and incomplete."""
    rng = np.random.default_rng(4)
    n = 280
    frame = pd.DataFrame({"study": np.arange(n) % 14, "y": rng.normal(size=n), "x": rng.normal(size=n)})
    code = rng.integers(0, 3, (5, n))
    frame["int"] = pd.Categorical(code[0] + 1)
    frame["float"] = pd.Categorical(code[1] / 2)
    frame["cut"] = pd.cut(rng.normal(size=n), [-9, -0.5, 0.5, 9])
    frame["days"] = pd.Categorical(pd.date_range("2020", periods=3)[code[2]])
    frame["ward"] = code[3]
    frame["flag"] = rng.random(n) > 0.4
    frame["grade"] = pd.Categorical(
        np.array(["low", "mid", "high"])[code[4]], ["low", "mid", "high"], ordered=True
    )
    frame["y"] = frame["y"].where(rng.random(n) > 0.2)
    return frame


@pytest.mark.parametrize("holes", [False, True])
def test_levels_of_any_kind(holes):
    frame, rng = factors(), np.random.default_rng(6)
    if holes:
        for name in ("int", "cut", "grade", "ward", "flag"):
            frame[name] = frame[name].where(rng.random(len(frame)) > 0.1)
    data = bi.IncompleteData(frame, "study", families={"ward": "categorical"})
    model = same_again(data, compatible=True)
    text = next(formula for formula in model.formulas if formula.startswith("y ~"))
    assert 'cut["(-0.5, 0.5]"]' in text and "int[2]" in text and "C(ward)[1" in text and "grade[high]" in text
    same_again(
        data,
        predictors={"y": f"{text.partition(' + cluster_mean')[0]} + x:cut + flag:grade + (1 + x | study)"},
    )


@pytest.mark.parametrize(
    "options",
    [
        {"methods": "norm"}, {"methods": "pmm"}, {"methods": "sti"}, {"methods": "2stage"}, {"methods": "ml"},
        {"methods": "2l.norm"}, {"methods": "iw", "compatible": True},
        {"blocks": {"both": ["y", "b 2"]}}, {"blocks": {"one": ["y"]}}, {"order": ["y", "b 2", "z", "y"]},
        {"derived": {"d 1": "y * z"}}, {"predictors": "~ . + (1 + x | study)", "compatible": True},
    ],
)  # fmt: skip
def test_every_method_prints_what_it_reads(options):
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(rng.normal(size=(300, 4)), columns=["x", "y", "b 2", "z"]).assign(
        study=np.arange(300) % 15
    )
    for name in ("y", "b 2", "z"):
        frame[name] = frame[name].where(rng.random(300) > 0.2)
    same_again(bi.IncompleteData(frame, "study"), **options)

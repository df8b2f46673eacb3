"""`model.to_plan`: the plan gives the same model and the same tables again; what a plan cannot contain is refused.

Every argument of every engine is either in a case of HELD or refused by name in REFUSED; a new one fails a test here.
"""

from inspect import signature

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.contract import Shift
from bayesimp.errors import SpecificationError
from bayesimp.workflow import plan_writer
from bayesimp.workflow.cli import main
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.plan_model import MODELS, OF_TYPE
from bayesimp.workflow.prepare import prepare
from tests.test_models import CASES, same

JOINT = "y + z ~ age + (1 | clinic)"
MEAN = "y ~ z * age + (1 | clinic)"
MIXED = pr.Priors(
    pr.HuangWand(nu=3.0), pr.InverseWishart(nu=4.0, V=[[1.0, 0.1], [0.1, 2.0]]), pr.Normal(0.0, 5.0), name="my 'own'"
)  # fmt: skip
BASE = {
    "JointNormal": {"formula": JOINT},
    "JointLatent": {"formula": JOINT},
    "JointGLMM": {"analysis": MEAN},
    "FCS": {},
}

HELD = {
    "JointNormal": [
        {},
        {"priors": MIXED},
        {"priors": pr.Priors(pr.LKJ(2.0), pr.LKJ(1.5, pr.HalfNormal(times_sd=2.0)))},
        {"priors": pr.pan(), "shift": Shift({"y": -1.5})},
        {"shift": Shift({"y": {"drug": -1.0, "pla\"c'ebo é": 0.5}}, group="arm", where="sporadic")},
        {"shift": Shift({"z": {0: -1.0, 1: 2}}, group="sex")},
        {"formula": "y + z ~ arm + (1 | clinic)",
         "reference": bi.ReferenceBased("arm", "drug", ("y", "z"), "copy reference")},
    ],
    "JointLatent": [
        {"formula": "y + ill + grade ~ age + (1 | clinic)", "priors": "jomo", "shift": Shift({"ill": 0.5})},
        {"residual": "cluster"},
        {"formula": "ill + y ~ arm + (1 | clinic)", "residual": "cluster",
         "reference": bi.ReferenceBased("arm", "drug", ("ill", "y"))},
    ],
    "JointGLMM": [
        {"analysis": [MEAN, "ill ~ age + (1 | clinic)"], "links": {"ill": "probit"}, "effects": "separate",
         "shift": Shift({"ill": 0.25})},
        {"factors": {"z": "z ~ age + sex + (1 | clinic)"}, "order": ["z", "y", "ill", "grade"],
         "priors": pr.Priors(pr.HuangWand(nu=3.0), pr.InverseWishart(nu=6.0, V=1.5), pr.Normal(0.0, 5.0), name="own")},
    ],
    "FCS": [
        {"methods": {"y": "2l.norm", "z": me.PMM(donors=3)}, "predictors": "~ . - sex",
         "order": "monotone", "compatible": False},
        {"methods": {"y": me.Bayes(pr.iw(1.6), inner=2), "z": me.IW(nu=2.0, v=1.5), "ill": me.SingleLevel(link="probit"),
                     "grade": None},
         "predictors": {"y": "y ~ z + age + (1 | clinic)", "z": ["y", "age"]}, "order": ["z", "y", "z", "ill"],
         "bounds": {"y": (None, 90), "z": (-20.5, 20)}},
        {"methods": me.PyMC(pr.Priors(pr.LKJ(2.0), pr.LKJ(2.0)), transitions=3)},
        {"bounds": {"y": (0, 90.5)}},
        {"blocks": {"both of them": ["y", "z"]}, "compatible": True, "shift": Shift({"y": -1.0})},
        {"derived": {"age 2": "age**2", "r": "y / (z + 60)"}, "methods": {"y": me.TwoStage(estimator="moments")}},
        {"analysis": MEAN},
        {"analysis": [MEAN, "ill ~ z + (1 | clinic)"]},
        {"predictors": pd.DataFrame({c: 1 for c in ("age", "sex")}, index=["y", "z", "ill", "grade"])},
    ],
}  # fmt: skip


class OwnPrior(pr.HalfT):
    """A prior of the user's own."""


class OwnMethod(me.Norm):
    """A method of the user's own."""


def own_model(block, priors):
    raise AssertionError("never built")


ROWS = 160
REFUSED = {
    "JointNormal": [
        ({"priors": pr.Priors(pr.LKJ(2.0, OwnPrior(3.0)))}, "Sigma.sd: OwnPrior is a user-defined prior"),
    ],
    "JointLatent": [], "JointGLMM": [],
    "FCS": [
        ({"post": {"y": np.abs}}, "post= holds functions"),
        ({"where": {"y": np.arange(ROWS) < 5}}, "where= holds values for each row"),
        ({"ignore": np.arange(ROWS) < 5}, "ignore= holds values for each row"),
        ({"bounds": {"y": (np.full(ROWS, -99.0), None)}}, r"bounds\['y'\] has a number for each row"),
        ({"methods": {"y": me.PyMC(model=own_model)}}, "model.methods.y: a user-defined PyMC model"),
        ({"methods": {"y": OwnMethod()}}, "model.methods.y: OwnMethod is a user-defined method"),
    ],
}  # fmt: skip


def clinics() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n = ROWS
    clinic, age = rng.integers(0, 8, n), rng.normal(50, 9, n).round(1)
    sex, arm = rng.integers(0, 2, n), np.array(["drug", "pla\"c'ebo é"])[rng.integers(0, 2, n)]
    z = 0.1 * (age - 50) + rng.normal(0, 1, n) + rng.normal(0, 0.7, 8)[clinic]
    y = 40 + z + 0.05 * age + rng.normal(0, 1, n) + rng.normal(0, 1, 8)[clinic]
    ill = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(float)
    grade = pd.Categorical(
        np.array(["low", "mid", "high"])[rng.integers(0, 3, n)], ["low", "mid", "high"], ordered=True
    )
    frame = pd.DataFrame({"clinic": [f"c{c}" for c in clinic], "age": age, "sex": sex, "arm": arm, "y": y, "z": z,
                          "ill": ill, "grade": grade})  # fmt: skip
    for name in ("y", "z", "ill", "grade"):
        frame.loc[rng.random(n) < 0.15, name] = None
    return frame


@pytest.fixture(scope="module")
def table():
    return bi.IncompleteData(clinics(), "clinic")


@pytest.fixture
def folder(tmp_path, table):
    table.frame.to_csv(tmp_path / "clinics.csv", index=False)
    return tmp_path


def made(kind, table, options):
    return getattr(bi, kind)(table, **(BASE[kind] | options))


def cases(of):
    return [pytest.param(kind, *(each if of is REFUSED else (each,)), id=f"{kind}-{k}")
            for kind, found in of.items() for k, each in enumerate(found)]  # fmt: skip


def plain(model):
    return plan_writer._declared(model)


@pytest.mark.parametrize(("kind", "options"), cases(HELD))
def test_the_plan_makes_the_same_model(kind, options, table, folder):
    model = made(kind, table, options)
    path = folder / "plan.toml"
    text = model.to_plan(path, data="clinics.csv", m=2, seed=1)
    again = prepare(read_plan(path))
    assert path.read_text(encoding="utf-8") == text == again.plan.text
    assert plain(again.model) == plain(model)
    assert again.data.families == table.families
    pd.testing.assert_frame_equal(again.data.frame, table.frame, check_dtype=False)
    assert repr(again.model) == repr(model)


@pytest.mark.parametrize(("kind", "options", "message"), cases(REFUSED))
def test_what_a_plan_does_not_hold_is_refused_before_it_is_written(kind, options, message, table, folder):
    model = made(kind, table, options)
    with pytest.raises(SpecificationError, match=message):
        model.to_plan(folder / "plan.toml", data="clinics.csv", m=2, seed=1)
    assert not (folder / "plan.toml").exists()


@pytest.mark.parametrize("kind", MODELS)
def test_every_option_of_every_engine_is_written_or_refused(kind):
    arguments = set(signature(getattr(bi, kind).__init__).parameters) - {"self", "data"}
    held = {name for options in HELD[kind] for name in BASE[kind] | options}
    refused = {name for options, _ in REFUSED[kind] for name in options}
    assert arguments <= held | refused
    assert arguments - {"priors"} - {"post", "where", "ignore"} == set(OF_TYPE[kind]) - {"congenial"}
    assert arguments <= set(plan_writer.WRITERS)
    of_run = set(signature(getattr(bi, kind).impute).parameters) - {"self", "m", "seed"}
    kept_in_tree = {"keep_effects", "clusters"}  # more of the posterior, the same tables
    assert of_run == {*plan_writer.RUN[kind], *plan_writer.DROPPED} | (of_run & kept_in_tree)


@pytest.mark.parametrize("kind", MODELS)
def test_the_run_of_the_plan_gives_the_same_tables(kind, table, folder):
    model = made(kind, table, HELD[kind][0] if kind != "FCS" else {})
    run = {"cycles": 3, "tune": 1} if kind == "FCS" else {"chains": 2, "tune": 10, "draws": 10}
    model.to_plan(folder / "plan.toml", data="clinics.csv", m=2, seed=7, title="Clinics", **run)
    text = (folder / "plan.toml").read_text() + "\n[output]\nfigures = false\n"
    (folder / "plan.toml").write_text(text)
    assert main(["run", str(folder / "plan.toml"), "--out", str(folder / "out")]) == 0
    ours, theirs = model.impute(2, seed=7, progress=False, **run), bi.load(folder / "out" / "imputations.nc")
    assert ours.imputed_columns
    for k in range(2):
        pd.testing.assert_frame_equal(
            ours.frame(k), theirs.frame(k), check_dtype=False, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("name", [name for name in CASES if name != "Toy"])
def test_every_kind_of_model_comes_back_from_its_plan(name, tmp_path):
    """With several grouping factors, cluster-level variables, blocks, an analysis: the same tables."""
    case = CASES[name]
    model = case.model()
    model.data.frame.to_parquet(tmp_path / "table.parquet")
    path = tmp_path / "plan.toml"
    model.to_plan(path, data="table.parquet", m=4, seed=7, **case.options)
    again = prepare(read_plan(path))
    assert repr(again.model) == repr(model)
    theirs = again.model.impute(m=4, seed=7, progress=False, **case.options)
    assert same(theirs, case.first()) and read_plan(path).impute.m == 4


def test_wrong_plans_are_noticed(table, folder, monkeypatch):
    """A writer that loses an option is detected by making the model again, and nothing is written."""
    model = made("FCS", table, {"order": "revmonotone", "compatible": True})
    for key in ("order", "compatible"):
        with monkeypatch.context() as patch:
            patch.setitem(plan_writer.WRITERS, key, lambda value, model: None)
            with pytest.raises(SpecificationError, match=f"a plan cannot express '{key}'"):
                model.to_plan(folder / "plan.toml", data="clinics.csv", seed=1)
    with monkeypatch.context() as patch:
        patch.delitem(plan_writer.WRITERS, "order")
        with pytest.raises(SpecificationError, match="plans do not know the option 'order' of FCS"):
            model.to_plan(folder / "plan.toml", data="clinics.csv", seed=1)
    assert not (folder / "plan.toml").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.iloc[:-1], "it has 159 rows, but the model has 160"),
        (lambda f: f.drop(columns="sex"), "no column 'sex'"),
        (lambda f: f.assign(y=f["y"] + 1e-6), "'y' differs in values"),
        (lambda f: f.assign(ill=f["ill"].fillna(1.0)), "'ill' differs in values"),
        (lambda f: f.sample(frac=1.0, random_state=1), "differ"),
        (lambda f: f[list(f)[::-1]], "in a different order"),
    ],
)
def test_another_table_in_the_file_is_refused(change, message, table, folder):
    change(table.frame).to_csv(folder / "clinics.csv", index=False)
    with pytest.raises(SpecificationError, match=message):
        made("JointNormal", table, {}).to_plan(folder / "plan.toml", data="clinics.csv", seed=1)
    assert not (folder / "plan.toml").exists()


def test_a_file_with_further_columns_and_one_that_is_not_there_yet(table, folder):
    frame = table.frame.assign(note="n", when=pd.Timestamp("2024-01-01"))
    frame.to_csv(folder / "clinics.csv", index=False)
    model = made("JointNormal", table, {})
    model.to_plan(folder / "plan.toml", data="clinics.csv", seed=1)
    assert prepare(read_plan(folder / "plan.toml")).data.frame.columns.equals(table.frame.columns)
    text = model.to_plan(folder / "later.toml", data="later.csv", seed=1)
    assert 'file = "later.csv"' in text and 'grade = ["low", "mid", "high"]' in text
    with pytest.raises(SpecificationError, match="there is no file"):
        read_plan(folder / "later.toml")


def test_types_of_columns_come_back_from_csv_and_parquet(folder):
    frame = clinics().assign(
        flag=pd.array([True, False, None, True] * 40, dtype="boolean"),
        code=pd.Categorical([3, 1, 2, 1] * 40, [3, 1, 2]),
        kind=pd.Categorical(["b", "a", "c", "b"] * 40, ["c", "b", "a", "never"]),
        whole=pd.array([1, None, 3, 4] * 40, dtype="Int64"),
        number=[1.0, 2.0, None, 4.0] * 40,
        digits=["01", "02", "03", "04"] * 40,
    )
    data = bi.IncompleteData(frame, "clinic", {"whole": "poisson", "kind": "none"})
    model = bi.JointNormal(data, JOINT)
    frame.to_csv(folder / "t.csv", index=False)
    model.to_plan(folder / "plan.toml", data="t.csv", seed=1)
    again = prepare(read_plan(folder / "plan.toml")).data
    assert again.families == data.families
    for name in ("flag", "code", "kind", "whole", "number", "digits", "grade"):
        pd.testing.assert_series_equal(again.frame[name], frame[name], check_dtype=name != "digits")
    dated = frame.assign(seen=pd.Timestamp("2024-01-01"))
    model = bi.JointNormal(bi.IncompleteData(dated, "clinic"), JOINT)
    with pytest.raises(
        SpecificationError, match=r"'seen' .* would be text in t.csv. Save the table as .parquet"
    ):
        model.to_plan(data="t.csv", seed=1)
    dated.to_parquet(folder / "t.parquet")
    model.to_plan(folder / "plan.toml", data="t.parquet", seed=1)
    pd.testing.assert_frame_equal(prepare(read_plan(folder / "plan.toml")).data.frame, dated)


def test_analyses_of_the_model_and_of_the_user(table, folder):
    glmm = made("JointGLMM", table, HELD["JointGLMM"][0])
    path = folder / "plan.toml"
    glmm.to_plan(path, data="clinics.csv", m=2, seed=1)
    plan = read_plan(path)
    assert [(str(a.formula), a.family, a.link) for a in plan.analyses] == [
        (MEAN, "normal", None), ("ill ~ age + (1 | clinic)", "bernoulli", "probit"),
    ]  # fmt: skip
    given = {
        "main": {"formula": "ill ~ age", "family": "bernoulli", "complete_case": False},
        "other": "y ~ age",
    }
    glmm.to_plan(path, data="clinics.csv", m=2, seed=1, analysis=given)
    main_, other = read_plan(path).analyses
    assert (main_.name, main_.family, main_.complete_case, other.name) == (
        "main",
        "bernoulli",
        False,
        "other",
    )
    assert plain(prepare(read_plan(path)).model) == plain(glmm)
    for wrong, message in (
        ({"a": lambda t: t}, "functions are code"), (print, "Functions are code"),
        ({"a": {"formula": "y ~ age", "famly": "normal"}}, "'famly' is not known; did you mean 'family'"),
    ):  # fmt: skip
        with pytest.raises(SpecificationError, match=message):
            glmm.to_plan(data="clinics.csv", m=2, seed=1, analysis=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2}, "workers= does not change results"),
        ({"keep_effects": True}, "keep_effects= of JointGLMM.impute, which a plan cannot contain"),
        ({"cycles": 2}, "cycles= of JointGLMM.impute, which it does not have"),
        ({"chains": 0}, "impute.chains: must be a whole number of at least 1"),
        ({"data": "clinics.sav"}, "'clinics.sav' is not the name of a file"),
        ({"data": "../clinics.csv"}, "leaves the folder of the plan"),
    ],
)
def test_options_of_a_run_that_plans_do_not_have(options, message, table):
    with pytest.raises(SpecificationError, match=message):
        made("JointGLMM", table, {}).to_plan(**({"data": "clinics.csv", "m": 2, "seed": 1} | options))


def test_what_bi_impute_gave(table, folder):
    imp = bi.impute(table.frame, "clinic", m=2, seed=3, show=False, engine="fcs", cycles=2)
    imp.model.to_plan(folder / "plan.toml", data="clinics.csv", m=2, seed=3, cycles=2)
    ready = prepare(read_plan(folder / "plan.toml"))
    again = ready.model.impute(**ready.plan.impute.arguments("FCS"), progress=False)
    for k in range(2):
        pd.testing.assert_frame_equal(imp.frame(k), again.frame(k), check_dtype=False, rtol=1e-12)


def test_models_that_are_code_are_refused(table):
    class FromElsewhere:
        pass

    with pytest.raises(SpecificationError, match="FromElsewhere is code, which a plan does not hold"):
        bi.JointNormal.to_plan(FromElsewhere(), data="x.csv", seed=1)


@pytest.mark.parametrize("more, there", [("", True), (" + (1 | room)", False)])
def test_ordinal_analyses_of_a_model_are_those_of_the_plan(tmp_path, more, there):
    """With several grouping factors, which ordinal analyses do not have, only the model is written."""
    rng = np.random.default_rng(2)
    n = 240
    frame = pd.DataFrame(
        {"g": np.arange(n) % 12, "room": [f"r{k % 7}" for k in range(n)], "x": rng.normal(size=n)}
    )
    y = np.digitize(frame["x"] + rng.normal(size=12)[frame["g"]] + rng.logistic(size=n), [-1.0, 1.0])
    frame["y"] = np.where(rng.random(n) < 0.2, np.nan, y)
    frame.to_csv(tmp_path / "t.csv", index=False)
    clusters = ["g", "room"] if more else "g"
    data = bi.IncompleteData(pd.read_csv(tmp_path / "t.csv"), cluster=clusters, families={"y": "ordinal"})
    text = bi.JointGLMM(data, f"y ~ x + (1 | g){more}").to_plan(data=tmp_path / "t.csv", seed=1)
    assert ('family = "ordinal"' in text) == ("[[analysis]]" in text) == there

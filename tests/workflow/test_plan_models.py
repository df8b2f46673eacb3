"""Plans of joint GLMMs and of chained equations give what the library gives, and refuse what belongs to another model."""

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.workflow.cli import main
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.prepare import prepare
from bayesimp.workflow.words import in_plan_words
from tests.unfolding import unfolded

DATA = """
[data]
file = "clinics.csv"
cluster = "clinic"
[data.types]
clinic = "string"
"""
ANALYSIS = """
[[analysis]]
name = "main"
formula = "ill ~ dose * age + (1 | clinic)"
family = "bernoulli"
[output]
figures = false
"""
GLMM = f"""{DATA}
[model]
type = "JointGLMM"
order = ["dose", "ill"]
[model.factors]
dose = "dose ~ age + sex + (1 | clinic)"
[impute]
m = 3
seed = 5
chains = 2
draws = 30
tune = 20
{ANALYSIS}"""
LATENT = f"""{DATA}
[model]
type = "JointLatent"
formula = "dose + ill ~ age + (1 | clinic)"
[impute]
m = 3
seed = 5
chains = 2
draws = 30
tune = 20
{ANALYSIS}"""
FCS = f"""{DATA}
[model]
type = "FCS"
predictors = ["dose ~ . + ill:age"]
[model.methods]
dose = "norm"
[impute]
m = 3
seed = 5
cycles = 6
tune = 2
{ANALYSIS}"""


GIVEN = FCS.replace('predictors = ["dose ~ . + ill:age"]', "congenial = true").replace('"norm"', '"bayes"')


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(3)
    n = 150
    clinic, age, sex = rng.integers(1, 11, n), rng.normal(50, 9, n).round(), rng.integers(0, 2, n)
    dose = 0.1 * age + rng.normal(0, 1, n) + rng.normal(0, 0.5, 11)[clinic]
    ill = rng.random(n) < 1 / (1 + np.exp(5 - dose))
    frame = pd.DataFrame({"clinic": [f"c{c}" for c in clinic], "age": age, "sex": sex, "dose": dose.round(3)})
    frame["ill"] = np.where(rng.random(n) < 0.1, np.nan, ill)
    frame.loc[rng.random(n) < 0.25, "dose"] = np.nan
    frame.to_csv(tmp_path / "clinics.csv", index=False)
    return tmp_path


def written(folder, text):
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def problems(folder, text):
    with pytest.raises(SpecificationError) as caught:
        prepare(read_plan(written(folder, text)))
    return str(caught.value)


def table(folder):
    frame = pd.read_csv(folder / "clinics.csv", dtype={"clinic": str})
    return bi.IncompleteData(frame, "clinic", {"ill": "bernoulli"})


@pytest.mark.parametrize(("text", "kind"), [(GLMM, "JointGLMM"), (FCS, "FCS"), (LATENT, "JointLatent")])
def test_a_run_is_what_the_library_gives(folder, text, kind, capsys):
    path = written(folder, text)
    assert main(["check", str(path)]) == 0
    assert f"{kind}: " in unfolded(capsys.readouterr().out)
    assert main(["run", str(path), "--out", str(folder / "out")]) == 0
    saved = bi.load(folder / "out" / "imputations.nc")
    if kind == "FCS":
        model = bi.FCS(table(folder), {"dose": "norm"}, "dose ~ . + ill:age")
        expected = model.impute(3, seed=5, cycles=6, tune=2)
    elif kind == "JointLatent":
        model = bi.JointLatent(table(folder), "dose + ill ~ age + (1 | clinic)")
        expected = model.impute(3, seed=5, chains=2, draws=30, tune=20)
    else:
        factors = {"dose": "dose ~ age + sex + (1 | clinic)"}
        analysis = "ill ~ dose * age + (1 | clinic)"
        model = bi.JointGLMM(table(folder), analysis, factors, order=["dose", "ill"])
        expected = model.impute(3, seed=5, chains=2, draws=30, tune=20)
    for k in range(3):
        a, b = saved.frame(k), expected.frame(k)
        np.testing.assert_allclose(a["dose"].astype(float), b["dose"].astype(float), rtol=1e-12)
        np.testing.assert_array_equal(a["ill"].astype(float), b["ill"].astype(float))
    pooled = pd.read_csv(folder / "out" / "pooled_main.csv")
    tables = [expected.frame(k) for k in range(3)]
    fits = bi.fit_each(tables, "ill ~ dose * age + (1 | clinic)", family="bernoulli")
    np.testing.assert_allclose(pooled["estimate"], fits.pool().estimate, rtol=1e-8)


def test_residual_covariances_of_clusters_in_a_plan(folder):
    text = LATENT.replace("dose + ill ~ age", "dose ~ age").replace(
        "[impute]", 'residual = "cluster"\n[impute]'
    )
    text = text.replace(ANALYSIS, "")
    assert prepare(read_plan(written(folder, text))).model.residual == "cluster"
    assert prepare(read_plan(written(folder, LATENT))).model.residual == "common"


def test_chained_equations_for_the_analyses_of_the_plan(folder):
    own = prepare(read_plan(written(folder, GIVEN))).model
    formula = "ill ~ dose * age + (1 | clinic)"
    made = bi.FCS(table(folder), {"dose": "bayes"}, analysis=formula)
    run = dict(seed=5, cycles=6, tune=2, progress=False)
    for k in range(2):
        pd.testing.assert_frame_equal(
            own.impute(2, **run).frame(k), made.impute(2, **run).frame(k), check_dtype=False
        )
    assert own.data.families["ill"] == "bernoulli" and own.spec.analyses == {"ill": formula}
    assert "model.congenial: such a model imputes for the analyses" in problems(
        folder, GIVEN.replace(ANALYSIS, "")
    )
    probit = GIVEN.replace('family = "bernoulli"', 'family = "bernoulli"\nlink = "probit"')
    assert "analysis[1].link: values drawn given an analysis do not take it" in problems(folder, probit)
    wrong = GIVEN.replace("[data.types]", '[data.families]\nill = "normal"\n[data.types]')
    assert "analysis[1].family" in problems(folder, wrong)
    derived = GIVEN.replace("[model.methods]", '[model.derived]\nz = "dose * age"\n[model.methods]')
    assert "model.derived: not available with congenial = true" in problems(folder, derived)


def test_the_analysis_says_family_and_link_of_its_factor(folder):
    text = GLMM.replace('family = "bernoulli"', 'family = "bernoulli"\nlink = "probit"')
    model = prepare(read_plan(written(folder, text))).model
    assert model.data.families["ill"] == "bernoulli" and model.request.links == {"ill": "probit"}
    assert model.responses == ("dose", "ill")
    separate = GLMM.replace('order = ["dose", "ill"]', 'effects = "separate"')
    assert prepare(read_plan(written(folder, separate))).model.separate


def test_priors_of_chained_equations(folder):
    plain = prepare(read_plan(written(folder, FCS.replace('dose = "norm"', 'dose = "bayes"'))))
    assert plain.plan.model.priors is None
    text = FCS.replace('dose = "norm"', 'dose = "bayes"\n[model.priors.Psi]\ntype = "HuangWand"\nnu = 7')
    model = prepare(read_plan(written(folder, text))).model
    assert all(block.method.priors.Psi == pr.HuangWand(nu=7) for block in model.spec.blocks)


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (GLMM, "[model.factors]", 'formula = "dose ~ age + (1 | clinic)"\n[model.factors]', 'for type = "JointNormal"'),
        (LATENT, "formula = ", "order = ['ill']\nformula = ", 'model.order: is for type = "JointGLMM"'),
        (LATENT, "tune = 20", 'tune = 20\nsampler = "nuts"', "JointLatent is sampled by Gibbs steps only"),
        (FCS, 'type = "FCS"', 'type = "FCS"\neffects = "joint"', 'model.effects: is for type = "JointGLMM"'),
        (FCS, "cycles = 6", "chains = 2", "impute.chains: is not known"),
        (GLMM, "chains = 2", "cycles = 2", "impute.cycles: is not known"),
        (FCS, "tune = 2", "tune = 6", "impute.tune: must be less than the 6 cycles"),
        (FCS, 'dose = "norm"', "dose = 1", "model.methods.dose: must be text"),
        (FCS, 'dose = "norm"', 'dose = "nrom"', "nrom"),
        (GLMM, 'family = "bernoulli"', 'family = "bernoulli"\noffset = "age"', "analysis[1].offset: the factors of a"),
        (GLMM, ANALYSIS, "", "model.type: a JointGLMM imputes for the analyses"),
        (GLMM, 'family = "bernoulli"', "", "analysis[1].family is 'normal', but 'ill' is imputed as bernoulli"),
        (GLMM, 'order = ["dose", "ill"]', 'order = ["ill", "dose"]', "order"),
        (GLMM, "age + sex + (1", "age + sax + (1", "sax"),
    ],
)  # fmt: skip
def test_what_belongs_to_another_model_is_refused(folder, text, old, new, message):
    assert old in text
    assert message in problems(folder, text.replace(old, new))


def test_columns_that_stay_incomplete_cannot_be_analysed(folder):
    text = FCS.replace("[data.types]", '[data.families]\nill = "none"\n[data.types]').replace(
        " + ill:age", ""
    )
    assert "'ill' is missing in" in problems(folder, text) and "is not imputed" in problems(folder, text)


@pytest.mark.parametrize(
    ("python", "plan"),
    [
        ("with it: bi.JointGLMM(data, 'y ~ x + (1 | g)')", 'with it: type = "JointGLMM" under [model]'),
        (
            "with it: bi.FCS(data, methods={'y': 'bayes'})",
            "bi.FCS(data, methods={'y': 'bayes'}) (from Python)",
        ),
        ("Ask for more cycles: `iterate(...)` or cycles=", "Ask for more cycles: cycles under [impute]"),
        ("Go on, `iterate(40)`, or", "Go on, more cycles under [impute], or"),
        ("`iterate(40)` (more cycles) would", "more cycles under [impute] would"),
    ],
)
def test_advice_in_the_words_of_plans(python, plan):
    once = in_plan_words(python)
    assert plan in once and in_plan_words(once) == once

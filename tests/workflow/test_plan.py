"""Plans: what is read, what is refused; a plan is data and never code."""

import numpy as np
import pytest

from bayesimp import priors as pr
from bayesimp.analysis import laplace_check
from bayesimp.errors import SpecificationError
from bayesimp.families import FAMILIES
from bayesimp.workflow import plan as plans
from bayesimp.workflow.plan import read_plan

GOOD = """
[data]
example = "exam"
cluster = "school"

[model]
formula = "written + course ~ gender + (1 | school)"

[impute]
m = 20
seed = 1

[[analysis]]
name = "written"
formula = "written ~ course + (1 | school)"
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "plan.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path) -> list[str]:
    with pytest.raises(SpecificationError) as caught:
        read_plan(path)
    first, *rest = str(caught.value).split("\n")
    assert first.startswith(f"{path}: {len(rest)} problem")
    return [line.strip() for line in rest]


def test_good_plan_and_defaults(write):
    plan = read_plan(write(GOOD))
    assert plan.data == plans.DataPlan("school", example="exam", families={}, types={})
    assert plan.model.priors == pr.default()
    assert plan.impute == plans.ImputePlan(20, 1, chains=4, tune=None, draws=1000, thin=1, sampler="auto")
    (analysis,) = plan.analyses
    assert (analysis.family, analysis.reml, analysis.variance_scale, analysis.complete_case) == (
        "normal",
        True,
        "log",
        True,
    )
    assert plan.output == plans.OutputPlan(figures=True, completed=True, format="csv")
    assert plan.text == GOOD


def test_tables_of_priors(write):
    text = GOOD.replace(
        "[impute]",
        '[model.priors]\nname = "mine"\nPsi = {type = "InverseWishart", nu = 3, V = [[1, 0], [0, 2]]}\n'
        'Sigma = {type = "LKJ", eta = 2, sd = {type = "HalfNormal", times_sd = 2.0}}\n[impute]',
    )
    priors = read_plan(write(text)).model.priors
    assert priors.name == "mine"
    assert priors.Psi.nu == 3
    np.testing.assert_array_equal(priors.Psi.V, [[1, 0], [0, 2]])
    assert priors.Sigma == pr.LKJ(2, pr.HalfNormal(times_sd=2.0))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 1", "", "impute.seed: is missing; a plan must be repeatable"),
        ("seed = 1", "seed = -1", "impute.seed: must be a whole number of at least 0, not -1"),
        ("seed = 1", "seed = true", "impute.seed: must be a whole number, not True"),
        ("m = 20", 'm = "20"', "impute.m: must be a whole number, not '20'"),
        ("m = 20", "m = 1", "impute.m: must be at least 2 for analyses"),
        ("m = 20", "m = 20\ndraws = 4", "impute.draws: must be at least 5 for m = 20 from 4 chains, not 4"),
        ("m = 20", 'm = 20\nsampler = "gibs"', "impute.sampler: 'gibs' is not known; did you mean 'gibbs'?"),
        ("seed = 1", "sed = 1\nseed = 1", "impute.sed: is not known; did you mean 'seed'?"),
        ('"exam"', '"exams"', "data.example: 'exams' is not known; did you mean 'exam'?"),
        ('example = "exam"', "", "data: give file"),
        ('"exam"', '"exam"\nfile = "x.csv"', "data: file and example are both given"),
        ('example = "exam"', 'file = "x.csv"', "data.file: there is no file"),
        ('example = "exam"', 'file = "../x.csv"', "data.file: '../x.csv' leaves the folder of the plan"),
        ('example = "exam"', 'file = "x.pkl"', "data.file: 'x.pkl' has no known format; possible endings: .csv"),
        ('"school"\n\n', '"school"\ntypes = {a = "text"}\n', "data.types.a: 'text' is not a type; possible: 'string'"),
        ('"school"\n\n', '"school"\ntypes = {a = ["x", "x"]}\n', "data.types.a: a list must hold the categories"),
        ('"school"\n\n', '"school"\nfamilies = {a = "poison"}\n', "data.families.a: 'poison' is not a family; did you"),
        ('"school"\n\n', '"school"\nmissing = [-99]\n', "data.missing: must be a list of texts"),
        ('"school"\n\n', '"school"\nseparator = ";;"\n', "data.separator: must be one character"),
        ('"school"\n\n', '"school"\ndecimal = ","\n', "data.decimal: is ',', the same as separator"),
        ('cluster = "school"', "", "data.cluster: is missing; name the column"),
        ('cluster = "school"', 'cluster = "class"', "model.formula: groups by 'school', but data.cluster is 'class'"),
        ("[model]", '[model]\ntype = "FCSS"', "model.type: 'FCSS' is not known; did you mean 'FCS'?"),
        ("[model]", '[model]\npriors = "pam"', "model.priors: 'pam' is not a preset; did you mean 'pan'?"),
        ("[model]", "[model]\npriors = 3", "model.priors: expected a preset"),
        ("[model]", "[model]\npriors = {Phi = 3}", "model.priors.Phi: is not known; did you mean 'Psi'?"),
        ("gender + (1 | school)", "gender", "model.formula: needs one random part on one column: (1 | school)"),
        ('"written + course ~', '"~', "model.formula: has no variable to impute"),
        ("course + (1 |", "course + (1 ", "analysis[1].formula: Formula"),
        ('"written ~', '"written + x ~', "analysis[1].formula: an analysis has one response"),
        ('name = "written"', 'name = "../x"', "analysis[1].name: '../x' becomes part of file names"),
        ('name = "written"', "reml = 1", "analysis[1].reml: must be true or false, not 1"),
        ('name = "written"', 'family = "normale"', "analysis[1].family: 'normale' is not known; did you mean 'normal'?"),
        ("[[analysis]]", "[analysis]", "analysis: write [[analysis]]"),
        ("[impute]", '[output]\nformat = "xlsx"\n[impute]', "output.format: 'xlsx' is not known; possible: 'csv'"),
        ("[impute]", "[outputs]\n[impute]", "outputs: is not known; did you mean 'output'?"),
    ],
)  # fmt: skip
def test_refusals(write, old, new, message):
    assert old in GOOD
    (found,) = problems(write(GOOD.replace(old, new)))
    assert found.startswith(message)


def test_all_problems_at_once(write):
    text = (
        GOOD.replace("seed = 1", "")
        .replace("course + (1 | school)", "course +", 1)
        .replace('"exam"', '"xeam"')
    )
    text += '[[analysis]]\nname = "WRITTEN"\nformula = "course ~ 1"\nreml = 0\n'
    text = text.replace(
        "[model]", "[model]\npriors = {Psi = {type = 'LKJ', eta = -1}, Sigma = {type = 'HalfT'}}"
    )
    found = problems(write(text))
    places = [line.split(": ")[0] for line in found]
    assert places == [
        "data.example", "model.priors.Psi", "model.priors.Sigma.type", "impute.seed", "analysis[1].formula",
        "analysis[2].reml", "analysis[2].name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "term",
    [
        "__import__('os').system('touch {}')", "np.load('{}')", "open('{}', 'w')", "eval('1')",
        "(lambda: 0)()", "{{gender}}", "C(gender, levels=open('{}', 'w'))",
    ],
)  # fmt: skip
def test_a_plan_cannot_run_code(write, tmp_path, term):
    trace = tmp_path / "trace"
    (found,) = problems(write(GOOD.replace("gender", term.format(trace), 1)))
    assert found.startswith("model.formula: ")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["gender.__class__", "np.log.__globals__"])
def test_dots_make_names_of_columns_not_attributes(write, name):
    assert name in read_plan(write(GOOD.replace("gender", f"I({name})", 1))).model.formula.variables


def test_unreadable_files(tmp_path, write):
    with pytest.raises(SpecificationError, match=r"nowhere\.toml: the plan cannot be read"):
        read_plan(tmp_path / "nowhere.toml")
    with pytest.raises(SpecificationError, match="cannot be read"):
        read_plan(tmp_path)
    with pytest.raises(SpecificationError, match=r"not TOML: .*line 2"):
        read_plan(write("[data]\ncluster = school"))
    (tmp_path / "latin.toml").write_bytes("title = 'é'".encode("latin-1"))
    with pytest.raises(SpecificationError, match="UTF-8"):
        read_plan(tmp_path / "latin.toml")


def test_files_beside_the_plan_and_absolute(write, tmp_path):
    (tmp_path / "sub").mkdir()
    for file in (tmp_path / "sub" / "x.csv", tmp_path / "y.parquet"):
        file.touch()
    relative = read_plan(write(GOOD.replace('example = "exam"', 'file = "sub/x.csv"')))
    assert relative.data.file == tmp_path / "sub" / "x.csv"
    absolute = read_plan(write(GOOD.replace('example = "exam"', f"file = '{tmp_path / 'y.parquet'}'")))
    assert absolute.data.file == tmp_path / "y.parquet"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "quadrature = 20",
            "quadrature: is for families bernoulli, binomial, poisson, ordinal; family 'normal'",
        ),
        ("family = 'bernoulli'\nquadrature = 0", "quadrature: must be a whole number of at least 1, not 0"),
        (
            "family = 'bernoulli'\nquadrature = 101",
            "quadrature: must be a whole number of at most 100, not 101",
        ),
        ("family = 'bernoulli'\nquadratur = 9", "quadratur: is not known; did you mean 'quadrature'?"),
        ("link = 'probit'", "link: family 'normal' has no link 'probit'; possible: none to choose"),
        ("family = 'poisson'\nlink = 'logit'", "link: family 'poisson' has no link 'logit'; possible: 'log'"),
        ("family = 'poisson'\ntrials = 'n'", "trials: is for family 'binomial'; the family is 'poisson'"),
        ("family = 'ordinal'\ntrials = 'n'", "trials: is for family 'binomial'; the family is 'ordinal'"),
        ("weights = 3", "weights: must be text, not 3"),
    ],
)
def test_options_of_an_analysis_that_do_not_go_together(write, lines, message):
    (found,) = problems(write(GOOD + lines))
    assert found.startswith(f"analysis[1].{message}")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("written ~ course", "integrates over a random effect, but the formula has none"),
        ("written ~ course + (1 + course | school)", "(Intercept, course)"),
        ("written ~ course + (1 | school) + (1 | gender)", "(Intercept, Intercept)"),
    ],
)
def test_quadrature_integrates_over_one_effect(write, formula, message):
    text = GOOD.replace("written ~ course + (1 | school)", formula) + 'family = "poisson"\nquadrature = 20'
    (found,) = problems(write(text))
    assert found.startswith("analysis[1].quadrature: ") and message in found


def test_ordinal_analyses_have_one_grouping_factor(write):
    text = GOOD.replace("written ~ course + (1 | school)", "written ~ course + (1 | school) + (1 | gender)")
    (found,) = problems(write(text + 'family = "ordinal"\n'))
    assert found == "analysis[1].formula: family 'ordinal' is fitted with at most one grouping factor"


def test_options_of_an_analysis(write):
    options = '"w"\nfamily = "binomial"\nlink = "probit"\ntrials = "n"\nweights = "w"\noffset = "o"\nquadrature = 20'
    text = GOOD.replace('"written"', options).replace("+ (1 | school)", "+ (0 + course | school)")
    # the imputation model has the same random part, and accepts any
    (analysis,) = read_plan(write(text.replace("gender + (0 + course |", "gender + (1 |"))).analyses
    assert (analysis.link, analysis.quadrature) == ("probit", 20)
    assert analysis.columns == {"trials": "n", "weights": "w", "offset": "o"}
    assert analysis.needed == ("written", "course", "school", "n", "w", "o")


def test_options_of_analyses_are_those_of_the_library():
    assert {name: links for name, links in plans.LINKS_OF_FAMILY.items() if links} == {
        "bernoulli": ("logit", "probit"),
        "binomial": ("logit", "probit"),
        "poisson": ("log",),
        "ordinal": ("logit",),
    }
    assert set(plans.ANALYSIS_LINKS) == {"logit", "probit", "log"}
    assert plans.MOST_NODES == laplace_check.MOST


def test_family_names_are_those_of_the_data(write):
    names = [name for f in FAMILIES.values() for name in (f.name, *f.aliases)]
    known = "\n".join(f'x{k} = "{name}"' for k, name in enumerate(names))
    plan = GOOD.replace("[model]", f"[data.families]\n{known}\n\n[model]")
    assert list(read_plan(write(plan)).data.families.values()) == names
    (problem,) = problems(write(plan.replace('"poisson"', '"poison"')))
    assert "'poison' is not a family; did you mean 'poisson'" in problem
    assert plans.ANALYSIS_FAMILIES == ("normal", "gaussian", "bernoulli", "binomial", "poisson", "ordinal")

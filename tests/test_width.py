"""Whatever is printed fits 100 columns, even with names of 40 characters, and has an HTML representation that scrolls.

The classes are found, not listed: every class of the package that prints itself, and every one that a public function
returns. A class that is neither in `shown` nor in `ELSEWHERE` fails the first test.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from dataclasses import is_dataclass
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesimp as bi
from bayesimp import compatibility as co
from bayesimp import federated as fed
from bayesimp import studies
from bayesimp.events import Event, EventTable
from bayesimp.formulas.syntax import read_sides
from bayesimp.layout import WIDTH, as_call, tabulated, wrapped
from bayesimp.priors.base import Prior
from bayesimp.shift import Shift
from bayesimp.studies.calibration import Calibration
from bayesimp.verification.records import Checked, Outcome, Requirement, Verification
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.replay import Comparison, Replay
from tests.workflow.small_plan import PLAN

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")


def long(text: str, length: int = 40) -> str:
    """A name with blanks of exactly so many characters."""
    return f"{text} with a name as long as those of surveys"[:length].ljust(length, "x")


Y, Z, X, G, ARM = map(long, ("blood pressure", "weight in kg", "age in years", "study", "treatment arm"))
LEVELS = [f"level {k:2} of thirty characters"[:30] for k in range(12)]
FORMULA = f"`{Y}` + `{Z}` ~ `{X}` + `{ARM}` + (1 | `{G}`)"
ANALYSIS = f"`{Y}` ~ `{X}` + `{ARM}` + (1 | `{G}`)"
SHORT = {"draws": 20, "tune": 10, "progress": False}


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    g, n = np.repeat(np.arange(8), 24), 192
    x, arm = rng.normal(size=n), np.tile(np.arange(12), 16)
    y = x + rng.normal(size=8)[g] + rng.normal(size=n)
    z = y + rng.normal(size=n)
    y[rng.random(n) < 0.2], z[rng.random(n) < 0.2] = np.nan, np.nan
    studies_ = [long(f"study {k}", 30) for k in g]
    return pd.DataFrame(
        {Y: y, Z: z, X: x, G: studies_, ARM: pd.Categorical([LEVELS[k] for k in arm], LEVELS)}
    )


FRAME = table()


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> dict[str, object]:
    """One object of each class, or several with a comma and a remark, made from `FRAME` by the calls that users make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            **models_and_runs(),
            **analyses(),
            **sites(),
            **of_studies(),
            **records(tmp_path_factory.mktemp("plan")),
            **in_partitions(tmp_path_factory.mktemp("parts")),
        }


HELD: dict[str, object] = {}  # what the builders below share


def models_and_runs() -> dict[str, object]:
    data = bi.IncompleteData(FRAME, G)
    joint = bi.JointNormal(data, FORMULA)
    imp = joint.impute(m=3, seed=1, **SHORT)
    HELD.update(data=data, joint=joint, imp=imp)
    completed = [imp.frame(k) for k in range(3)]
    shift = Shift({Y: dict.fromkeys(sorted(set(FRAME[G])), 1.0)}, group=G)
    fcs = bi.FCS(data, shift=shift)
    note = f"about `{Y}` and `{Z}`, " * 5
    return {
        "IncompleteData": data, "JointNormal": joint, "FCS": fcs, "Imputations": imp, "Summary": imp.summary(),
        "JointGLMM": bi.JointGLMM(data, ANALYSIS), "JointLatent": bi.JointLatent(data, FORMULA),
        "Imputations, FCS": fcs.impute(m=2, cycles=2, seed=1, progress=False), "Shift": shift,
        "EventTable": EventTable([Event(long("kind"), long(Y, 80), note, 1234).as_dict()]),
        "Event": Event("kind", Y, note), "Replicates": imp.replicates(draws=20, seed=1),
        "ImputedNewRows": imp.transform(FRAME.head(30), seed=1),
        "ImportedImputations": bi.read_imputations(completed, G, original=FRAME),
        "Overimputation": imp.overimpute(m=3, groups=2, seed=1, **SHORT), "Diagnosis": co.diagnose(imp),
        "MultilevelImputer": bi.MultilevelImputer(G, FORMULA, families={Y: "normal", Z: "normal"}),
        "ReferenceBased": bi.ReferenceBased(ARM, LEVELS[0], (Y, Z)),
    }  # fmt: skip


def in_partitions(place) -> dict[str, object]:
    FRAME.to_parquet(place / "table.parquet")
    data = bi.IncompleteData.from_parquet(place / "table.parquet", G)
    model = bi.PartitionedNormal(data, FORMULA)
    coded = FRAME.assign(**{name: (FRAME[name] > 0).where(FRAME[name].notna()) for name in (Y, Z)})
    coded.to_parquet(place / "coded.parquet")
    counted = bi.PartitionedFCS(bi.IncompleteData.from_parquet(place / "coded.parquet", G), [Y, Z, ARM])
    return {
        "PartitionedFCS": counted,
        "PartitionedFCSImputations": counted.impute(m=2, cycles=2, seed=1, progress=False),
        "PartitionedData": data, "PartitionedNormal": model,
        "PartitionedImputations": model.impute(m=2, seed=1, **SHORT),
    }  # fmt: skip


def analyses() -> dict[str, object]:
    imp, joint = HELD["imp"], HELD["joint"]
    fits = imp.analyse(ANALYSIS)
    quick = {"analysis": ANALYSIS, "m": 2, "seed": 1, **SHORT}
    sensitivity = bi.sensitivity(
        joint, {long("a wide prior"): bi.priors.default(), long("a prior"): bi.priors.pan()}, **quick
    )
    mnar = bi.mnar(joint, {Y: [0, -1]}, **quick)
    by_level = bi.mnar(joint, {Y: {study: [0, -1] for study in sorted(set(FRAME[G]))[:2]}}, by=G, **quick)
    rng = np.random.default_rng(0)
    by_arm = ("chain", "draw", ARM), rng.normal(size=(2, 20, 12))
    draws = {Y: (("chain", "draw"), rng.normal(size=(2, 20))), Z: by_arm}
    trees = [xr.DataTree.from_dict({"posterior": xr.Dataset(draws, coords={ARM: LEVELS})})] * 2
    two = fits.marginal_means(ARM)
    return {
        "Fits": fits, "Fits, one table": bi.complete_cases(FRAME, ANALYSIS), "Pooled": fits.pool(),
        "Pooled, components": fits.pool_components(), "Estimates": two, "Estimates, contrasts": two.contrasts(),
        "Estimates, effects": fits.marginal_effects(X), "MultiTest": fits.test(f"`{X}`"),
        "StudyPooling": bi.pool_by_study(imp, f"`{Y}` ~ `{X}`", G), "Posteriors": bi.stack_posteriors(trees, ANALYSIS),
        "Sensitivity": sensitivity, "ReadOnly": sensitivity.imputations, "text, report": sensitivity.report(),
        "PowerScaling": bi.power_scaling(imp.extend(5), analysis=ANALYSIS),
        "NotAtRandom": mnar, "NotAtRandom, by study": by_level,
        "TippingPoint": mnar.tipping_point(X),
        "Axis": mnar.axes[0], "DeltaScenario": mnar.scenarios[1],
    }  # fmt: skip


def sites() -> dict[str, object]:
    agreed = fed.Agreement(FORMULA, {ARM: LEVELS})
    rows = pd.concat([FRAME] * 12, ignore_index=True)
    names = [long("clinic"), long("hospital")]
    half = np.isin(rows[G], sorted(set(FRAME[G]))[:4])
    released = [
        fed.export_site(rows[at], agreed, name) for name, at in zip(names, (half, ~half), strict=True)
    ]
    run = fed.combine(released, m=2, seed=1, chains=2, tune=5, draws=10, progress=False)
    return {
        "Agreement": agreed, "SiteRelease": released[0], "FederatedRun": run, "SharedParameters": run.parameters,
        "CompletedSite": fed.complete_site(run.parameters, rows[half], names[0]),
    }  # fmt: skip


def of_studies() -> dict[str, object]:
    Sporadic, Systematic, Design = studies.Sporadic, studies.Systematic, studies.Design
    x, y = X, Y
    variables = (
        studies.SimulatedVariable(x),
        studies.SimulatedVariable(y, coefficients={x: 1.0, "Intercept": 2.0}),
    )
    design = Design(variables, 6, studies.ClusterSizes(5.0, 2), cluster=G)
    _, deleted = studies.delete(design(seed=1), cluster=G, sporadic={y: Sporadic(0.2)},
                                systematic={x: Systematic(count=2)}, seed=1)  # fmt: skip
    analysis = studies.Analysis(f"`{y}` ~ `{x}`")
    delete = partial(studies.delete, cluster=G, sporadic={y: Sporadic(0.2)})
    scenario = studies.Scenario(
        long("scenario"), design, delete, analysis, G, truth={x: 1.0}, labels={"n": 6}
    )
    study = studies.Study([scenario], {long("complete cases"): complete, long("the same"): complete})
    ranks = pd.DataFrame(np.zeros((40, 3), dtype=int), columns=[Y, Z, X])
    uniform = pd.DataFrame({"quantity": [Y, Z, X], "p": 1e-9, "p.adjusted": 1e-8})
    outcome = Outcome(f"the distribution of {Y} and of {Z} in comparison with {X}", 3.0, 2.0)
    requirement = Requirement(
        "V-01", f"A requirement on {Y} and {Z} that is described in words.", "paper", list
    )
    checked = Checked(requirement, (outcome,), "an error " * 20, 1.0)
    return {
        "SimulatedVariable": variables[1], "ClusterSizes": design.sizes, "Design": design, "Deleted": deleted,
        "Sporadic": Sporadic(0.2, {X: 0.5, Y: 0.3, "cluster_mean(`" + Z + "`)": 0.2}), "Analysis": analysis,
        "Systematic": Systematic(clusters=tuple(LEVELS)), "Scenario": scenario, "Study": study,
        "StudyResult": study.run(2), "Calibration": Calibration(ranks, uniform), "Outcome": outcome, "Checked": checked,
        "Calibration, passed": Calibration(ranks, uniform.assign(**{"p.adjusted": 1.0})),
        "Verification": Verification((checked,), {}, "now", False),
        "Replay": Replay((Comparison(f"table 1, {Y}", 3, 4, fault=f"a column {Z} is missing; " * 4),), (f"{Y}, " * 5,)),
    }  # fmt: skip


def complete(data: bi.IncompleteData, seed: int) -> list[pd.DataFrame]:
    """A method for studies: complete cases."""
    return [data.frame.dropna(), data.frame.dropna()]


def records(place) -> dict[str, object]:
    FRAME.to_csv(place / "small.csv", index=False)
    text = PLAN.replace('cluster = "g"', f'cluster = "{G}"').replace('k = ["a", "b"]', f'"{ARM}" = {LEVELS}')
    (place / "plan.toml").write_text(
        text.replace("y ~ x + k + (1 | g)", FORMULA).replace("y ~ x + (1 | g)", ANALYSIS)
    )
    S, priors, methods = np.eye(2), bi.priors, bi.methods
    own = priors.Priors(name=long("priors"), Sigma=priors.InverseWishart(9.0, 1.0))
    mine = priors.Priors(name=long("priors"), Psi_of={ARM: priors.HuangWand(nu=4.0)})
    pair = [co.implied_conditional(S + 0.5, S + 0.5, k, n=5) for k in (0, 1)]
    wrong = co.JointFromConditionals(
        None, None, {"rows disagree": 1.0, "clusters disagree": 1.0, "Lambda": -1.0}
    )
    plain = [priors.Flat(), priors.Normal(sd=3.0), priors.Weak(), priors.Contextual(), priors.HuangWand(), priors.LKJ(),
             priors.InverseWishart(3.0, 1.0), priors.Fixed(np.diag(np.arange(1.0, 13.0))), priors.HalfT(),
             priors.HalfNormal(1.0), priors.Exponential(1.0), priors.Diagonal(), priors.Powered(priors.HuangWand(), 0.5),
             methods.Bayes(own), methods.ML(), methods.MLMI(), methods.Heckman("w"), methods.PyMC(own), methods.Norm(),
             methods.PMM(), methods.SingleLevel(), methods.Stratified(), methods.TwoStage(),
             methods.ClusterLevel()]  # fmt: skip
    plan = read_plan(place / "plan.toml")
    parts = [getattr(plan, name) for name in ("data", "model", "impute", "output")] + list(plan.analyses)
    frame = pd.DataFrame(
        {"cluster": np.repeat(np.arange(6), 5), Y: np.sin(np.arange(30.0)), Z: np.sin(np.arange(30.0) ** 2)}
    )
    drawn = co.predictive_draws(frame, [0, 7], response=Y, given=Z, cluster="cluster", draws=20, seed=1)
    return {
        **{type(each).__name__: each for each in [*plain, *parts]}, "Priors": mine, "Plan": plan, "Conditional": pair[0],
        "JointFromConditionals": co.joint_from_conditionals(pair), "JointFromConditionals, none": wrong,
        "PredictiveDraws": drawn, "ImpliedPrior": co.implied_prior(n=5, r=2, k=1, sds=1.0, seed=1, draws=20),
    }  # fmt: skip


# what is not in `objects`, and why
ELSEWHERE = {
    "abstract": {"ImputationModel", "Method", "IgnoresClusters", "Prior", "CovariancePrior", "CoefficientPrior",
                 "ComponentPrior", "ScalePrior", "Scaled", "Printed", "Record"},
    "never seen by users": {"PartlyFlat", "Centred", "SeveralFactors"},
    "of optional parts of a plan, printed as the others": {"MnarPlan", "SensitivityPlan", "ReportPlan"},
    "text of a formula, for reading": {"Expression", "OverCluster", "Product", "Indicator", "Formula", "RandomTerm",
                                     "Call"},
    "one line of another text": {"Grouping", "Choice", "Comparison", "Spread"},
    "needs PyMC, see tests/joint/test_from_pymc.py": {"FromPyMC"},
    "the arrays of one fit, and of one run": {"Fit", "Completion"},
    "columns and clusters of a table, for engines": {"Variable", "Clusters", "Family", "Auxiliary", "GivenEntries"},
    "an executor or a table of values, not printed": {"Executor", "Tables"},
}  # fmt: skip


def classes() -> dict[str, type]:
    """The package's classes outside kernels and models, by name."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(bi.__path__, "bayesimp."):
        if not re.search(r"__main__|explore_page|\.(kernels|models)\b", module.name):
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    found[value.__name__] = value
    return found


def prints_itself(one: type) -> bool:
    """Whether the class defines its text, and not only by being a dataclass or a named tuple."""
    own = [vars(one)[name] for name in ("__repr__", "__str__", "_said") if name in vars(one)]
    return not issubclass(one, tuple | BaseException) and any(
        not hasattr(each, "__wrapped__") for each in own
    )


def returned(known: dict[str, type]) -> set[str]:
    """Classes that public functions return, or the public methods and properties of what they return."""
    modules = [bi, *(getattr(bi, name) for name in bi._MODULES)]
    todo = [
        value for module in modules for value in (getattr(module, n) for n in getattr(module, "__all__", ()))
    ]
    out: set[str] = set()
    while todo:
        value = todo.pop()
        if inspect.isclass(value):
            if not value.__module__.startswith("bayesimp.") or value.__name__ in out:
                continue
            out.add(value.__name__)
            if value.__name__ in ENGINES or issubclass(value, Prior | bi.methods.Method):
                continue  # whose methods serve the engines
            members = [m for n, m in inspect.getmembers(value) if not n.startswith("_")]
            todo += [getattr(m, "fget", None) or getattr(m, "func", m) for m in members]
        else:
            annotation = str(getattr(value, "__annotations__", {}).get("return"))
            todo += [known[word] for word in re.findall(r"\w+", annotation) if word in known]
    return {name for name in out if is_dataclass(known[name])}


ENGINES = {"FCS", "JointNormal", "JointGLMM", "JointLatent", "FromPyMC", "ImputationModel", "Run", "RowModel"}


def test_every_class_that_prints_is_here(objects):
    known = classes()
    wanted = {name for name, one in known.items() if prints_itself(one)} | returned(known)
    here = {name.partition(",")[0] for name in objects}
    elsewhere = set().union(*ELSEWHERE.values())
    assert len(wanted) > 60
    assert not wanted - here - elsewhere, f"not tested: {sorted(wanted - here - elsewhere)}"
    assert not elsewhere - set(known), "ELSEWHERE names classes that do not exist"
    assert not (here & elsewhere) and here - {"text"} <= set(known)
    for name, value in objects.items():
        assert isinstance(value, str) or type(value).__name__ == name.partition(",")[0]


def too_wide(text: str) -> list[str]:
    return [line for line in text.split("\n") if len(line) > WIDTH]


def test_lines_fit(objects):
    texts = {
        name: value if isinstance(value, str) else f"{value}\n{value!r}" for name, value in objects.items()
    }
    wide = {name: too_wide(text) for name, text in texts.items()}
    assert not {name: lines for name, lines in wide.items() if lines}


def test_html_scrolls_and_is_whole(objects):
    """Each has a representation; its tables scroll, its text wraps; no line break of the printed text cuts its title."""
    for name, value in objects.items():
        if isinstance(value, str) or name == "ReadOnly":
            continue
        html = value._repr_html_()
        assert html.count("<table") == html.count('overflow-x: auto;"><table'), name
        assert html.count("<pre") == html.count('<pre style="white-space: pre-wrap'), name


def test_warnings_are_shown_in_lines_that_fit():
    said = f"Imputed values of '{Y}' lie outside the range of the observed ones: " + f"'{Z}', " * 9
    shown_ = warnings.formatwarning(bi.StatisticalWarning(said), bi.StatisticalWarning, "analysis.py", 3)
    assert not too_wide(shown_) and " ".join(shown_.split()).endswith(" ".join(said.split()))
    assert str(bi.StatisticalWarning(said)) == said  # programs read one line
    assert (
        warnings.formatwarning(bi.StatisticalWarning("short"), bi.StatisticalWarning, "a.py", 3).count("\n")
        == 1
    )


TERMS = [
    f"`{X}`",
    f"`{Y}`:`{X}`:`{Z}`",
    f"I(`{X}` ** 2)",
    f"C(`{ARM}`, Treatment('level with  two blanks'))",
    "x2",
]


@pytest.mark.parametrize("seed", range(4))
def test_a_wrapped_formula_is_read_as_the_same(seed):
    """Whatever is before and after it, and in quotes; wrong: lines broken at any blank, within names or texts."""
    rng = np.random.default_rng(seed)
    terms = [TERMS[k] for k in rng.integers(len(TERMS), size=12)]
    formula = f"`{Y}` + `{Z}` ~ 0 + {' + '.join(terms)} + (1 + `{X}` | `{G}`) - `{Z}`"
    for head, tail in (("JointNormal: ", ""), ("  bayes  ", ""), ("Fits('", "', m=3)")):
        text = wrapped(head + formula + tail)
        assert not too_wide(text) and text.count("\n") > 4
        assert read_sides(text.removeprefix(head).removesuffix(tail)) == read_sides(formula)
        assert "".join(text.split()) == "".join((head + formula + tail).split())
    broken = "\n".join(formula[at : at + 90] for at in range(0, len(formula), 90))
    with pytest.raises((AssertionError, bi.SpecificationError)):
        assert read_sides(broken) == read_sides(formula)


def test_printed_formulas_are_those_of_the_models(objects):
    for name in ("JointNormal", "JointLatent"):
        first = repr(objects[name]).split("\n  1")[0].partition(": ")[2]  # up to the line of the rows
        assert read_sides(first) == read_sides(FORMULA)
    text = repr(objects["FCS"])
    for formula, printed in zip(objects["FCS"].formulas, text.split("\n  bayes  ")[1:], strict=True):
        assert read_sides(printed.split("\n  visited")[0]) == read_sides(formula)


def test_records_are_read_by_python(objects):
    """Printed over several lines, with texts in several parts, they are still the same records."""
    names = {
             **vars(bi.priors), **vars(bi.methods), **vars(studies), "Shift": Shift, "inf": np.inf, "array": np.array,
             "float64": np.float64, "Event": Event, "MultilevelImputer": dict, "ReferenceBased": bi.ReferenceBased,
    }  # fmt: skip
    for name in (
        "Priors",
        "Gibbs",
        "Shift",
        "Event",
        "Sporadic",
        "Systematic",
        "SimulatedVariable",
        "ReferenceBased",
    ):
        assert repr(objects[name]).count("\n") > 2
        assert eval(repr(objects[name]), dict(names)) == objects[name]
    made = eval(repr(objects["MultilevelImputer"]), dict(names))
    assert made == {"cluster": G, "formula": FORMULA, "families": {Y: "normal", Z: "normal"}}
    assert as_call("f", {"a": 1, "b": "x"}) == "f(a=1, b='x')"


def test_a_wide_table_shows_every_cell():
    rng = np.random.default_rng(0)
    columns = [f"{k} {X}" for k in range(9)]
    numbers = pd.DataFrame(rng.normal(size=(5, 9)) * 10.0 ** rng.integers(-3, 4, 9), columns=columns)
    numbers.loc[2, f"3 {X}"] = np.nan
    labels = pd.DataFrame(
        {"term": [f"`{Y}`[{level}]" for level in LEVELS[:5]], "prior": [long(f"prior {k}") for k in range(5)]}
    )
    for frame, index in ((labels.join(numbers), False), (numbers.set_index(pd.Index(labels["term"])), True)):
        text = tabulated(frame, index=index)
        assert not too_wide(text)
        blocks = text.split("\n\n")
        assert len(blocks) > 1
        for block in blocks:  # every row keeps its label in every block
            joined = "".join(line[: 44 if index else 22].strip() for line in block.split("\n"))
            assert all(level.replace(" ", "") in joined.replace(" ", "") for level in LEVELS[:5])
        written = text.replace("NaN", "nan").split()
        for value in numbers.to_numpy().ravel():
            assert f"{value:.4g}" in written
    small = labels[["term"]].assign(x=1.0)
    assert tabulated(small) == small.to_string(
        index=False, float_format="{:.4g}".format
    )  # unchanged where it fits

"""Every method of every model and result, given one argument of every wrong kind after another, works, or says in
our own error what the argument must be.

Objects are made once. Methods are those of the class, derived; what engines are called by the package alone with is in
`PACKAGE`. `GOOD` has the other arguments, by name.
"""

import inspect
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import compatibility as co
from bayesimp import methods as me
from bayesimp import priors as pr
from bayesimp.contract import ImputationModel
from bayesimp.kinds import checks_arguments
from tests.studies.small import scenario, slow

QUESTION = "y ~ x + (1 | g)"
FRAME = pd.DataFrame({"x": np.arange(4.0)})
MORE = pd.DataFrame(
    {"g": np.repeat(np.arange(6), 8), "x": np.arange(48) % 7 * 1.0, "y": np.arange(48) % 5 * 1.0}
)
WRONG = {
    "text": "abc", "whole": 3, "negative": -1, "number": 2.5, "none": None, "object": object(), "list": [1, 2],
    "dict": {"a": 1}, "table": FRAME, "nan": np.nan, "true": True, "array": np.eye(2), "texts": ["abc"], "function": len,
}  # fmt: skip
GOOD = {
    "name": "y", "k": 0, "n": 3, "analysis": QUESTION, "m": 2, "seed": 1, "progress": False, "cycles": 2, "draws": 30,
    "tune": 5, "data": "table.csv", "priors": "default", "names": ["x"], "combinations": "x - Intercept", "term": "x",
    "texts": "x / Intercept", "hypotheses": "x = 0", "line": "y", "size": 50, "variables": ["x"],
    "new": FRAME, "X": MORE, "y": None, "replicates": 1, "method": "A", "other": "B", "beta": np.eye(2), "workers": 1,
}  # fmt: skip
PACKAGE = {name for name, f in vars(ImputationModel).items() if inspect.isfunction(f)}
PACKAGE -= {"impute", "with_priors", "with_shift", "to_plan"}
PACKAGE |= {"filled", "conditionals", "records", "run_type", "shift_of", "dims", "stacked", "decoded", "with_events",
            "part", "to_native", "groups", "level_values", "column_values", "limits", "missing_codes",
            "require_observed", "variable", "numeric", "saved_specification", "from_specification"}  # fmt: skip
# minutes, where the argument happens to be right: tests of their own
LONG = {"overimpute": {"whole", "number"}, "report": set(WRONG) - {"object", "array"},
        "run": {"whole", "number", "negative", "true"},
        "extend_until": {"whole", "number", "none", "nan", "true"}, "refine": {"whole", "number", "none"}}  # fmt: skip


def make():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(8), 12), rng.normal(size=96)
    y = x + np.repeat(rng.normal(size=8), 12) + rng.normal(size=96)
    b = np.where(rng.random(96) < 0.2, None, np.where(rng.random(96) < 0.5, "u", "v"))
    frame = pd.DataFrame(
        {"g": g, "x": x, "y": np.where(rng.random(96) < 0.2, np.nan, y), "b": pd.Categorical(b)}
    )
    data, short = bi.IncompleteData(frame, "g"), {"m": 3, "seed": 1, "progress": False}
    model, few = bi.JointNormal(data, QUESTION), {"draws": 30, "tune": 5}
    imp = model.impute(**short, **few)
    fits, chained = imp.analyse(QUESTION), bi.FCS(data)
    return {
        "IncompleteData": data, "JointNormal": model, "FCS": chained, "JointGLMM": bi.JointGLMM(data, QUESTION),
        "JointLatent": bi.JointLatent(data, "y + b ~ x + (1 | g)"), "Imputations": imp,
        "Imputations of FCS": chained.impute(m=2, cycles=2, seed=1, progress=False), "Fits": fits, "Pooled": fits.pool(),
        "pooled components": fits.pool_components(), "Estimates": fits.contrasts("x - Intercept"),
        "Summary": imp.summary(),
        "StudyPooling": bi.pool_by_study(imp, "y ~ x", "g"),
        "PowerScaling": bi.power_scaling(imp.extend(5), analysis=QUESTION),
        "Sensitivity": bi.sensitivity(model, [pr.default()], analysis=QUESTION, **short, **few),
        "NotAtRandom": bi.mnar(model, {"y": [0, -1]}, analysis=QUESTION, **short, **few), "MultiTest": fits.test("x = 0"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def objects():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def methods_of(thing):
    """(name, bound method, its parameters) of what users call."""
    for name in dir(type(thing)):
        if name.startswith("_") or name in PACKAGE:
            continue
        if inspect.isfunction(inspect.getattr_static(type(thing), name)):
            method = getattr(thing, name)
            yield (
                name,
                method,
                [p for p in inspect.signature(method).parameters.values() if p.kind is not p.VAR_KEYWORD],
            )


def faults(where, call, parameters, wrong):
    """What calls with one wrong argument ended in, other than a result or an error of ours."""
    for p in parameters:
        for kind, value in wrong.items():
            options = {
                q.name: GOOD[q.name]
                for q in parameters
                if q.name in GOOD
                and (q.default is q.empty or q.name in ("m", "seed", "progress", "cycles", "draws", "tune"))
            }
            if (
                any(q.name == "path" for q in parameters)
                and p.name != "path"
                and where.endswith(("export", "report", "save"))
            ):
                options["path"] = {"export": "o.csv", "report": "o.html", "save": "o.nc"}[
                    where.rpartition(".")[2]
                ]
            several = p.kind is p.VAR_POSITIONAL
            options |= {} if several else {p.name: value}
            try:
                call(*(value,) * several, **options)
            except (bi.BayesimpError, OSError) as error:
                assert str(error)
            except IndexError as error:  # the end of a sequence of tables
                if "numbers run from" not in str(error):
                    yield f"{where}({p.name}={kind}): {error!r}"
            except Exception as error:
                yield f"{where}({p.name}={kind}): {error!r}"[:200]


def user_model():
    """A PyMC model of x with missing cells, and its table."""
    import pymc as pm

    x = np.array([0.3, np.nan, 1.9, np.nan, 2.4, 0.8])
    with pm.Model() as model:
        pm.Normal("x", pm.Normal("mu", 0, 10), 1, observed=np.ma.masked_invalid(x))
    return model, bi.IncompleteData(pd.DataFrame({"g": [3, 1, 3, 1, 2, 2], "x": x}), "g")


def make_others():
    """Results other than those of a run: of a user's model, a transformer, hidden cells, compatibility and studies."""
    rng = np.random.default_rng(0)
    frame = MORE + rng.normal(size=(48, 3)) * [0, 1, 1]
    frame.loc[rng.random(48) < 0.2, "x"] = np.nan  # y is complete
    two = bi.JointNormal(bi.IncompleteData(frame, "g"), "x + y ~ 1 + (1 | g)")
    imp = two.impute(2, seed=1, draws=30, tune=5, progress=False)
    Sigma, Psi = co.kunkel_kaizar()
    conditionals = [co.implied_conditional(Sigma, Psi, k, n=8) for k in range(2)]
    study = bi.studies.Study([scenario("few", 1)], {"A": slow, "B": slow})
    imputer = bi.MultilevelImputer("g", "x + y ~ 1 + (1 | g)", m=2, draws=20, random_state=1)
    return {
        "FromPyMC": bi.FromPyMC(*user_model()), "MultilevelImputer": imputer.fit(frame),
        "MultilevelImputer, not fitted": bi.MultilevelImputer("g", m=2, draws=20),
        "Replicates": imp.replicates(seed=1), "Overimputation": bi.studies.overimpute(
            bi.FCS(bi.IncompleteData(frame, "g")), m=3, groups=2, seed=1, cycles=1, progress=False),
        "Diagnosis": co.diagnose(imp), "Conditional": conditionals[0],
        "JointFromConditionals": co.joint_from_conditionals(conditionals), "ImpliedPrior": co.implied_prior(draws=20),
        "StudyResult": study.run(2, progress=False), "Study": study,
        "Calibration": bi.studies.calibrate(two, 3, seed=1, tune=5, draws=19, progress=False),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_methods_of_other_results(tmp_path, monkeypatch):
    from bayesimp.sampling import nuts

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nuts, "evaluation", lambda *_: "python")  # a small model, without compilation
    found, called = [], set()
    for label, thing in make_others().items():
        for name, method, parameters in methods_of(thing):
            if f"{label}.{name}" != "Study.pool":  # the user's function
                wrong = {kind: value for kind, value in WRONG.items() if kind not in LONG.get(name, ())}
                found += faults(f"{label}.{name}", method, parameters, wrong)
                called.add(f"{label}.{name}")
        plt.close("all")
    assert not found, "\n".join(found)
    assert {
        "FromPyMC.impute",
        "MultilevelImputer.transform",
        "Overimputation.by_cluster",
        "Diagnosis.plot",
        "Conditional.fixed_effects",
        "Study.run",
        "StudyResult.compare",
        "Calibration.plot",
    } <= called


@pytest.mark.filterwarnings("ignore")
def test_methods(objects, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, called = [], set()
    for label, thing in objects.items():
        for name, method, parameters in methods_of(thing):
            wrong = {kind: value for kind, value in WRONG.items() if kind not in LONG.get(name, ())}
            found += faults(f"{label}.{name}", method, parameters, wrong)
            called.add(f"{label}.{name}")
        plt.close("all")
    assert not found, "\n".join(found)
    assert {
        "Imputations.frame",
        "Fits.pool",
        "Pooled.interval",
        "JointLatent.impute",
        "NotAtRandom.along",
    } <= called


@pytest.mark.parametrize("module", [pr, me], ids=["priors", "methods"])
def test_priors_and_methods(module):
    given = {"nu": 3.0, "scale": 1.0, "sd": 1.0, "eta": 1.0, "v": 1.0, "prior": pr.HuangWand(), "value": np.eye(1),
             "method": me.Bayes(), "priors": pr.default(), "d": np.ones(1), "name": "x"}  # fmt: skip
    found = []
    for name in module.__all__:
        made = getattr(module, name)
        if not callable(made) or inspect.isabstract(made) or name == "from_mice":
            continue
        parameters = [p for p in inspect.signature(made).parameters.values() if p.kind is not p.VAR_KEYWORD]
        needed = {
            p.name: given.get(p.name, 1.0)
            for p in parameters
            if p.default is p.empty and p.kind is not p.VAR_POSITIONAL
        }
        for p in parameters:
            for kind, value in WRONG.items():
                several = p.kind is p.VAR_POSITIONAL
                try:
                    made(*(value,) * several, **needed if several else needed | {p.name: value})
                except bi.BayesimpError as error:
                    assert str(error)
                except Exception as error:
                    found.append(f"{module.__name__}.{name}({p.name}={kind}): {error!r}"[:200])
    assert not found, "\n".join(found)


@pytest.mark.filterwarnings("ignore")
def test_models_as_they_are_made(objects):
    data, shown = objects["FCS"].data, {**WRONG, "of 3": {"y": 3}, "of texts": {"y": "abc"}}
    formula = "y + b ~ x + (1 | g)"
    needed = {
        bi.FCS: {"data": data}, bi.JointNormal: {"data": data, "formula": QUESTION},
        bi.JointLatent: {"data": data, "formula": formula}, bi.JointGLMM: {"data": data, "analysis": QUESTION},
        bi.IncompleteData: {"frame": MORE, "cluster": "g"},
    }  # fmt: skip
    found = []
    for made, given in needed.items():
        for p in inspect.signature(made).parameters.values():
            for kind, value in shown.items():
                try:
                    made(**given | {p.name: value})
                except bi.BayesimpError as error:
                    assert str(error)
                except Exception as error:
                    found.append(f"{made.__name__}({p.name}={kind}): {error!r}"[:200])
    assert not found, "\n".join(found)
    with pytest.raises(
        bi.SpecificationError,
        match=r"shift must be a bayesimp\.contract\.Shift or None, got \{'y': -5\.0\} \(FCS\)",
    ):
        bi.FCS(data, shift={"y": -5.0})


def test_words_and_whole_numbers(objects):
    pooled, imp = objects["Pooled"], objects["Imputations"]
    with pytest.raises(
        bi.SpecificationError, match=r"level must be a number, got 'abc' \(Pooled\.interval\)"
    ):
        pooled.interval("abc")
    with pytest.raises(bi.SpecificationError, match=r"k must be a whole number, got True"):
        imp.frame(True)
    with pytest.raises(bi.SpecificationError, match=r"what must be a text, got a DataFrame"):
        imp.tree_with(FRAME)
    with pytest.raises(bi.SpecificationError, match="seed must be a whole number of at least 0, got -1"):
        objects["JointNormal"].impute(2, seed=-1)
    with pytest.raises(TypeError, match=r"frame\(\) missing 1 required positional argument: 'k'"):
        imp.frame()
    assert imp.frame(1.0).equals(imp.frame(np.int64(1)))
    assert pooled.interval.__doc__ and "level" in inspect.signature(pooled.interval).parameters


def test_warnings_are_those_of_the_line_of_the_user(objects):
    with pytest.warns(bi.StatisticalWarning) as caught:
        objects["Imputations"].analyse("y ~ x + I(x**2) + (1 | g)")
        objects["Imputations"].extend_until(mc_error=1e-9, analysis=QUESTION, seconds=0.01)
    assert len(caught) > 1 and {w.filename for w in caught} == {__file__}


def test_predictor_matrices(objects):
    for matrix in (*WRONG.values(), {"y": 3}):
        if matrix is not FRAME:
            with pytest.raises(bi.SpecificationError, match="predictor matrix is a table"):
                me.from_mice(matrix, objects["IncompleteData"])


def test_a_class_without_checks_is_noticed(objects):
    class Plain:
        def half(self, of: "int") -> float:
            return of / 2

        def twice(self, *of: "int | None", more: "list[str] | None" = None) -> tuple:
            return of

    assert list(
        faults("Plain.half", Plain().half, list(inspect.signature(Plain().half).parameters.values()), WRONG)
    )
    checked = checks_arguments(Plain)()
    parameters = [
        p for name in ("half", "twice") for p in inspect.signature(getattr(checked, name)).parameters.values()
    ]
    assert len(parameters) == 3
    assert not list(faults("Plain.half", checked.half, parameters[:1], WRONG))
    assert not list(faults("Plain.twice", checked.twice, parameters[1:], WRONG))
    assert checked.twice(1, 2.0, None) == (1, 2, None)

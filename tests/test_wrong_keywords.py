"""A misspelt keyword is refused before anything is computed, with the one that was probably meant.

Functions that pass on their further keywords are derived from the package; `CALLS` has a call of each.
"""

from __future__ import annotations

import inspect
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import UnknownArgument
from bayesimp.kinds import check_keywords
from bayesimp.partitioned.fcs_result import PartitionedFCSImputations
from bayesimp.partitioned.parts import CompletedParts
from bayesimp.sensitivity_analysis.not_at_random import NotAtRandom
from bayesimp.sensitivity_analysis.power_scaling import PowerScaling
from bayesimp.sensitivity_analysis.result import Sensitivity

QUESTION = "y ~ x + (1 | g)"


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(8), 12), rng.normal(size=96)
    y = x + rng.normal(size=8)[g] + rng.normal(size=96)
    frame = pd.DataFrame({"g": g, "x": x, "y": np.where(rng.random(96) < 0.2, np.nan, y)})
    data = bi.IncompleteData(frame, "g")
    model = bi.JointNormal(data, QUESTION)
    imp = model.impute(5, seed=1, draws=30, tune=5, progress=False)
    grid = SimpleNamespace(
        imputations={"default": imp}, fits={"default": imp.analyse(QUESTION)}, reference="default"
    )
    return {"data": data, "model": model, "imp": imp, "grid": grid}


CALLS = {  # of functions that pass on keywords: a call, a misspelt keyword and the one that is meant
    "impute": (lambda o, **k: bi.impute(o["data"].frame, "g", **k), "cycls", "cycles"),
    "complete_cases": (lambda o, **k: bi.complete_cases(o["data"], QUESTION, **k), "famly", "family"),
    "pool_by_study": (lambda o, **k: bi.pool_by_study(o["imp"], "y ~ x", "g", **k), "metod", "method"),
    "side_by_side": (lambda o, **k: bi.side_by_side(QUESTION, {"imputed": o["imp"]}, **k), "famly", "family"),
    "mnar": (lambda o, **k: bi.mnar(o["model"], {"y": [0]}, analysis=QUESTION, **k), "drawss", "draws"),
    "sensitivity": (lambda o, **k: bi.sensitivity(o["model"], analysis=QUESTION, **k), "sead", "seed"),
    "power_scaling": (lambda o, **k: bi.power_scaling(o["imp"], analysis=QUESTION, **k), "power", "powers"),
    "studies.calibrate": (lambda o, **k: bi.studies.calibrate(o["model"], seed=1, **k), "replication", "replications"),
    "studies.overimpute": (lambda o, **k: bi.studies.overimpute(o["model"], seed=1, **k), "tunes", "tune"),
    "studies.method": (lambda o, **k: bi.studies.method("bayes", **k), "cycls", "cycles"),
    "ImputationModel.to_plan": (lambda o, **k: o["model"].to_plan(data="t.csv", seed=1, **k), "drawss", "draws"),
    "Imputations.analyse": (lambda o, **k: o["imp"].analyse(QUESTION, **k), "famly", "family"),
    "Imputations.extend_until": (lambda o, **k: o["imp"].extend_until(analysis=QUESTION, **k), "mcerror", "mc_error"),
    "Imputations.overimpute": (lambda o, **k: o["imp"].overimpute(seed=1, **k), "group", "groups"),
    "Imputations.report": (lambda o, **k: o["imp"].report("no.html", analysis=QUESTION, **k), "titel", "title"),
    "CompletedParts.analyse": (lambda o, **k: CompletedParts.analyse(None, QUESTION, **k), "famly", "family"),
    "CompletedParts.report": (
        lambda o, **k: CompletedParts.report(None, "no.html", analysis=QUESTION, **k), "titel", "title"
    ),
    "PartitionedFCSImputations.analyse": (
        lambda o, **k: PartitionedFCSImputations.analyse(None, QUESTION, **k), "quadrate", "quadrature"
    ),
    "MultilevelImputer.set_params": (lambda o, **k: bi.MultilevelImputer("g").set_params(**k), "famillies", "families"),
    "Sensitivity.plot": (lambda o, **k: Sensitivity.plot(None, **k), "atmost", "at_most"),
    "Sensitivity.plot_components": (lambda o, **k: Sensitivity.plot_components(None, **k), "sead", "seed"),
    "Sensitivity.power_scaling": (lambda o, **k: Sensitivity.power_scaling(o["grid"], **k), "levl", "level"),
    "PowerScaling.plot": (lambda o, **k: PowerScaling.plot(None, **k), "atmost", "at_most"),
    "NotAtRandom.plot": (lambda o, **k: NotAtRandom.plot(None, **k), "treshold", "threshold"),
    "NotAtRandom.plot_map": (lambda o, **k: NotAtRandom.plot_map(None, "x", **k), "axs", "axes"),
}  # fmt: skip


def public():
    """Name, function of what users call: functions, and methods by the class that defines them."""
    for module in ("", *bi._MODULES):
        room = getattr(bi, module) if module else bi
        for name in getattr(room, "__all__", ()) if module else bi._HOME:
            thing = getattr(room, name)
            if inspect.isfunction(thing):
                yield f"{module}.{name}".lstrip("."), thing
            elif inspect.isclass(thing):
                for method, function in inspect.getmembers(thing, inspect.isfunction):
                    if not method.startswith("_"):
                        yield function.__qualname__, function
    for thing in (Sensitivity, PowerScaling, NotAtRandom):
        for method, function in inspect.getmembers(thing, inspect.isfunction):
            if not method.startswith("_"):
                yield function.__qualname__, function


def passes_on(function) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())


def test_every_function_that_passes_on_keywords_is_called():
    found = {name for name, function in public() if passes_on(function) and not name.startswith("object.")}
    found -= {f"{c}.check_options" for c in ("ImputationModel", "JointNormal", "JointGLMM", "JointLatent")}
    assert found == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("unlike", [False, True], ids=["misspelt", "unknown"])
def test_keywords_that_are_passed_on(name, unlike, made, monkeypatch):
    """The message has what was meant, or all that is possible; nothing is imputed or fitted."""

    def never(*_, **__):
        raise AssertionError(f"{name} has begun to impute or to fit")

    call, wrong, meant = CALLS[name]
    wrong = "zzqqx" if unlike else wrong
    monkeypatch.setattr("bayesimp.joint.run.JointRun.start", never, raising=False)
    monkeypatch.setattr("bayesimp.analysis.linear.fit_formula", never, raising=False)
    with pytest.raises(bi.SpecificationError) as caught:
        call(made, **{wrong: 1})
    message = str(caught.value)
    assert wrong in message and f"'{meant}'" in message
    assert ("did you mean" in message.lower()) == (not unlike), message


@pytest.mark.parametrize(
    "name", ["Imputations.extend", "Fits.pool", "JointNormal.impute", "FCS.impute", "Pooled.interval"]
)
def test_methods_of_classes_that_check_their_arguments(name, made):
    things = {"Imputations": made["imp"], "Fits": made["imp"].analyse(QUESTION), "JointNormal": made["model"],
              "FCS": bi.FCS(made["data"])}  # fmt: skip
    things["Pooled"] = things["Fits"].pool()
    kind, _, method = name.partition(".")
    known = list(inspect.signature(getattr(things[kind], method)).parameters)
    with pytest.raises(
        UnknownArgument, match=rf"{method} has no argument '{known[0]}s'.*did you mean '{known[0]}'"
    ) as caught:
        getattr(things[kind], method)(**{f"{known[0]}s": 1})
    assert isinstance(caught.value, TypeError)  # as Python's own


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python suggests names from 3.13 on")
def test_python_suggests_keywords_of_other_functions():
    for name, function in public():
        shape = inspect.signature(function).parameters.values()
        keywords = [p.name for p in shape if p.kind is p.KEYWORD_ONLY and len(p.name) > 4]
        if ("." in name and name.split(".")[0][0].isupper()) or passes_on(function) or not keywords:
            continue
        with pytest.raises(TypeError, match=f"Did you mean '{keywords[0]}'|did you mean '{keywords[0]}'"):
            function(**{keywords[0] + "x": 1})


def test_options_without_an_analysis_are_refused(made, tmp_path):
    imp = made["imp"]
    with pytest.raises(bi.SpecificationError, match="report: 'family' would be ignored: give analysis="):
        imp.report(tmp_path / "a.html", family="bernoulli")
    with pytest.raises(bi.SpecificationError, match="extend_until: 'reml' would be ignored: give analysis="):
        imp.extend_until(reml=False)
    with pytest.raises(
        bi.SpecificationError, match="power_scaling: 'reml' would be ignored, because analysis= is fits"
    ):
        Sensitivity.power_scaling(made["grid"], reml=False)


def test_options_of_one_of_several_analyses(made):
    with pytest.raises(UnknownArgument, match="fit_each has no argument 'famly'; did you mean 'family'"):
        bi.mnar(made["model"], {"y": [0]}, analysis={"main": {"analysis": QUESTION, "famly": "normal"}})


def test_own_keywords_and_open_functions():
    def takes(data, *, seed=0):
        return data

    def function(model, *, draws=1, **options):
        check_keywords(options, function, takes, ("data",))
        return options

    assert function(0, seed=1) == {"seed": 1}
    with pytest.raises(UnknownArgument, match="takes have no argument 'data'"):
        function(0, data=1)
    with pytest.raises(UnknownArgument, match="did you mean 'draws'"):
        function(0, drawes=1)
    check_keywords({"any": 1}, function, lambda **options: options)

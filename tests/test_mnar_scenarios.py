"""Not-at-random analyses: axes, units, scenarios, tables of results, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.sensitivity_analysis.deltas import AT_RANDOM
from bayesimp.shift import Shift
from tests.frozen import table
from tests.mnar_runs import QUESTION, RUN, model, names, of_trial, run, trial
from tests.unfolding import unfolded


def test_scenarios_are_combined_as_asked():
    delta = {"y": [0, -1, -2], "w": [0.5, 1]}
    found = {
        how: names(run(delta=delta, combine=how, m=2)) for how in ("product", "together", "one at a time")
    }
    assert found["product"] == [
        AT_RANDOM, "w +0.5", "w +1", "y -1", "y -1; w +0.5", "y -1; w +1", "y -2", "y -2; w +0.5", "y -2; w +1",
    ]  # fmt: skip
    assert found["together"] == [AT_RANDOM, "y -1; w +0.5", "y -2; w +1"]
    assert found["one at a time"] == [AT_RANDOM, "y -1", "y -2", "w +0.5", "w +1"]
    fixed = run(delta={"y": [0, -1], "w": 3}, m=2)
    assert names(fixed) == [AT_RANDOM, "w +3", "y -1; w +3"]
    assert [line.names for line in fixed.lines] == [("y -1; w +3", "w +3")]  # in order of y, w at 3
    assert list(fixed.table.columns[:4]) == ["analysis", "scenario", "delta y", "delta w"]


def test_a_list_by_group_makes_one_delta_for_each_group_with_missing_values():
    frame = table()
    frame["arm"] = np.where(frame["g"] < 4, "a", "b")
    frame.loc[frame["arm"] == "b", "y"] = frame.loc[frame["arm"] == "b", "y"].fillna(0.0)
    frame["site"] = frame["g"] % 2
    result = run(delta={"y": [-1]}, frame=frame, by="arm", m=2)
    assert names(result) == [AT_RANDOM, "y, arm a -1"]
    result = run(delta={"w": {0: [-1], 1: [2]}}, frame=frame, by="site", m=2)
    assert names(result) == [AT_RANDOM, "w, site 1 +2", "w, site 0 -1", "w, site 0 -1; w, site 1 +2"]
    moved = result.imputed[result.imputed["scenario"] == "w, site 0 -1; w, site 1 +2"].set_index(
        ["variable", "group"]
    )
    np.testing.assert_allclose(moved.loc[("w", 0), "moved"], -1, rtol=1e-9)
    np.testing.assert_allclose(moved.loc[("w", 1), "moved"], 2, rtol=1e-9)
    assert abs(moved.loc[("y", "all"), "moved"]) < 1e-12  # the joint model changes nothing else
    with pytest.raises(SpecificationError, match=r"nothing is imputed where 'arm' is 'b'; possible: 'a'"):
        run(delta={"y": {"b": [-1]}}, frame=frame, by="arm", m=2)


def test_standard_deviations_and_ratios():
    frame = trial()
    sd = frame["y"].std()
    one, other = (of_trial({"y": [0, v]}, unit=unit) for v, unit in ((-0.5, "sd"), (-0.5 * sd, "link")))
    np.testing.assert_allclose(one.table["estimate"], other.table["estimate"], rtol=1e-9)
    assert names(one) == [AT_RANDOM, "y -0.5 sd"] and one.axes[0].words(-sd / 4) == (
        f"{-sd / 4:+.3g} (0.25 sd of the observed values)"
    )
    binary = table("bernoulli")
    data = bi.IncompleteData(binary, cluster="g", families={"y": "bernoulli"})
    odds, logs = (
        bi.mnar(bi.FCS(data), {"y": [v]}, unit={"y": unit}, analysis="w ~ x", **RUN, cycles=2)
        for v, unit in ((0.5, "ratio"), (np.log(0.5), "link"))
    )
    np.testing.assert_array_equal(odds.table["estimate"], logs.table["estimate"])
    assert (
        names(odds) == [AT_RANDOM, "y x 0.5"]
        and "odds x 0.5" in unfolded(str(odds))
        and "odds x 0.5" in unfolded(str(logs))
    )


def test_words_for_every_link():
    frame = table("ordinal")
    data = bi.IncompleteData(frame, cluster="g", families={"y": "ordinal"})
    links = {
        bi.FCS(data): "logit", bi.JointGLMM(data, "w ~ y + x + (1 | g)"): "logit",
        bi.JointLatent(data, "y + w ~ x + (1 | g)"): "probit", bi.FCS(data, methods={"w": "pmm"}): "logit",
    }  # fmt: skip
    assert [model.shift_link("y") for model in links] == list(links.values())
    assert [model.shift_link("w") for model in links] == ["identity"] * 3 + ["matching"]
    levels = bi.IncompleteData(table("categorical"), cluster="g", families={"y": "categorical"})
    assert bi.JointLatent(levels, "y + w ~ x + (1 | g)").shift_link("y") == "utility"
    counts = bi.IncompleteData(table("poisson"), cluster="g", families={"y": "poisson"})
    result = bi.mnar(bi.FCS(counts), {"y": [-0.5]}, analysis="w ~ x", **RUN, cycles=2)
    assert "-0.5 (mean x 0.607)" in unfolded(str(result))


def test_levels_in_scenarios():
    data = bi.IncompleteData(table("categorical"), cluster="g", families={"y": "categorical"})
    second = data.levels("y")[1]
    result = bi.mnar(bi.FCS(data), {"y": {second: [0, 3]}}, analysis="w ~ x", **RUN, cycles=2)
    assert names(result) == [AT_RANDOM, f"y = {second} +3"]
    share = result.imputed[result.imputed["quantity"] == f"share of {second}"].set_index("scenario")
    assert share.loc[f"y = {second} +3", "moved"] > 0.1


NOT_POSSIBLE = {
    "nothing": ({}, {}, "delta must name what to shift"),
    "not imputed": ({"x": [1]}, {}, "does not impute 'x'; it imputes 'y', 'w'"),
    "no number": ({"y": ["much"]}, {}, "delta of 'y'"),
    "empty": ({"y": []}, {}, "the list is empty"),
    "unit": ({"y": [1]}, {"unit": "miles"}, "unit of 'y' must be 'link', 'sd' or 'ratio'"),
    "ratio of a normal": (
        {"y": [2]},
        {"unit": "ratio"},
        "'ratio' needs a logit or log link; here it is 'identity'",
    ),
    "unit of nothing": ({"y": [1]}, {"unit": {"w": "sd"}}, "unit: 'w' is not in delta"),
    "combine": ({"y": [1]}, {"combine": "all"}, "combine must be"),
    "together": ({"y": [1, 2], "w": [1]}, {"combine": "together"}, "'y' has 3, 'w' has 2"),
    "too many": ({"y": list(range(1, 20)), "w": list(range(1, 20))}, {}, "400 combinations, more than 200"),
    "where": ({"y": [1]}, {"where": "here"}, "where must be"),
    "no column": ({"y": [1]}, {"by": "arm"}, "no such column"),
    "analysis": ({"y": [1]}, {"analysis": "y ~ z"}, "the table has no column 'z'"),
    "no analysis": ({"y": [1]}, {"analysis": 3}, "a formula, a function, or several by name"),
    "option": ({"y": [1]}, {"cycle": 3}, "mnar and JointNormal.impute have no argument 'cycle'"),
}


@pytest.mark.parametrize("case", NOT_POSSIBLE)
def test_what_cannot_be_done_is_refused_before_sampling(case, monkeypatch):
    delta, options, words = NOT_POSSIBLE[case]
    monkeypatch.setattr(bi.JointNormal.run_type, "start", lambda *a, **k: pytest.fail("sampled"))
    with pytest.raises(SpecificationError, match=re.escape(words)):
        bi.mnar(model(), delta, **{"analysis": QUESTION} | options)


def test_models_that_cannot_be_shifted_are_refused_before_sampling(monkeypatch):
    monkeypatch.setattr(bi.FCS, "impute", lambda *a, **k: pytest.fail("sampled"))
    data = bi.IncompleteData(table("bernoulli"), cluster="g", families={"y": "bernoulli"})
    with pytest.raises(
        SpecificationError, match="a PyMC model draws the values of a bernoulli variable itself"
    ):
        bi.mnar(bi.FCS(data, methods={"y": "pymc"}), {"y": [1]}, analysis="w ~ x")
    with pytest.raises(
        SpecificationError, match="'sd' needs numbers that vary and an identity link; here it is 'logit'"
    ):
        bi.mnar(bi.FCS(data), {"y": [1]}, unit="sd", analysis="w ~ x")
    with pytest.raises(SpecificationError, match="the model already has a shift"):
        bi.mnar(bi.FCS(data, shift=Shift({"w": 1.0})), {"y": [1]}, analysis="w ~ x")
    with pytest.raises(SpecificationError, match="FromPyMC takes no shift of imputed values"):
        bi.FromPyMC.with_shift(object.__new__(bi.FromPyMC), Shift({"y": 1.0}))


def test_several_analyses_each_with_its_own_options():
    analyses = {
        "main": QUESTION,
        "binary": {"analysis": "high ~ x + (1 | g)", "family": "bernoulli"},
        "function": lambda frame: ([frame["y"].mean()], [[frame["y"].var() / len(frame)]]),
    }
    frame = table()
    frame["high"] = np.arange(len(frame)) % 3 == 0
    result = run(frame=frame, analysis=analyses, m=4)
    assert result.analyses == list(analyses) == list(dict.fromkeys(result.table["analysis"]))
    alone = run(frame=frame, m=4)
    of = result.table[result.table["analysis"] == "main"].reset_index(drop=True)
    pd.testing.assert_frame_equal(of.drop(columns="analysis"), alone.table.drop(columns="analysis"))
    assert str(result).count("moves most") == 2 and "No estimate of 'binary' changes." in str(result)


def test_changes_and_their_monte_carlo_error_written_out():
    result = of_trial({"y": {"drug": [0, -1]}}, by="arm", m=8)
    fits = [result.fits[name]["y ~ drug + (1 | g)"] for name in names(result)]
    k = fits[0].names.index("drug")
    moved = fits[1].estimates[:, k] - fits[0].estimates[:, k]
    error = fits[0].pool().to_frame().set_index("term").loc["drug", "std.error"]
    row = result.table[(result.table["term"] == "drug") & (result.table["scenario"] != AT_RANDOM)].iloc[0]
    np.testing.assert_allclose(row["change"], moved.mean() / error, rtol=1e-9)
    np.testing.assert_allclose(row["mc.change"], moved.std(ddof=1) / np.sqrt(8) / error, rtol=1e-9)
    assert row["mc.change"] < 0.2 * row["mc.error"] / error  # common random numbers


def test_an_interrupted_run_keeps_what_there_is(monkeypatch):
    impute = bi.FCS.impute

    def stop(self, *args, **options):
        imp = impute(self, *args, **options)
        if self.shift:
            imp.log += (Event("interrupted", "sampler", "stopped by the user"),)
        return imp

    monkeypatch.setattr(bi.FCS, "impute", stop)
    result = run("FCS", m=2)
    assert names(result) == [AT_RANDOM, "y -1"] == list(result.imputations)
    left = result.events[result.events["kind"] == "scenario left out"]
    assert list(left["scenario"]) == ["y -2"] and "Left out: 'y -2'" in unfolded(str(result))


def test_the_joint_model_is_sampled_once(monkeypatch):
    """Its parameters do not depend on the shift; `tests/test_mnar.py` compares with a run of each scenario."""
    started = []
    start = bi.JointNormal.run_type.start
    monkeypatch.setattr(bi.JointNormal.run_type, "start", lambda *args: (started.append(1), start(*args)))
    result = run(delta={"y": [-1, -2]}, m=2)
    assert len(started) == 1 and len(result.scenarios) == 3
    point = result.table[result.table["term"] == "x"]["conf.low"]
    result.refine("x", threshold=float(point.mean()), tolerance=0.3)
    assert len(started) == 1

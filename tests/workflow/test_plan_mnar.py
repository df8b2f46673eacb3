"""Plans with values missing not at random give what the library gives, and refuse what it refuses before sampling."""

import re

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.sensitivity_analysis.deltas import COMBINE, UNITS
from bayesimp.shift import WHERE
from bayesimp.workflow import plan_mnar
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded
from tests.workflow.trial_plan import change, written

SECTIONS = """
[mnar]
by = "arm"
delta = { y = { drug = [0, -1, -2] } }
"""


@pytest.fixture
def plan(tmp_path):
    return written(tmp_path, 6, SECTIONS)


def test_the_words_of_plans_are_those_of_the_library():
    assert (plan_mnar.WHERE, plan_mnar.UNITS, plan_mnar.COMBINE) == (WHERE, UNITS, COMBINE)


def test_check_describes_the_scenarios_without_sampling(plan, capsys, monkeypatch):
    monkeypatch.setattr(bi.JointNormal, "impute", lambda *a, **k: pytest.fail("sampled"))
    assert main(["check", str(plan)]) == 0
    assert "missing not at random: 3 scenarios, shifts of y, arm drug (0, -1, -2)" in unfolded(
        capsys.readouterr().out
    )


def test_run_writes_what_the_library_gives(plan, tmp_path, capsys):
    change(plan, "figures = false", "figures = true")
    out = tmp_path / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "trial.csv")
    model = bi.JointNormal(bi.IncompleteData(frame, cluster="g"), "y ~ drug + (1 | g)")
    result = bi.mnar(
        model, {"y": {"drug": [0, -1, -2]}}, by="arm", m=6, seed=3, chains=2, tune=20, draws=30, progress=False,
        analysis={"effect": "y ~ drug + (1 | g)", "crude": "y ~ drug"},
    )  # fmt: skip
    for name, table in (("mnar", result.table), ("mnar_imputed", result.imputed)):
        written = pd.read_csv(out / f"{name}.csv")
        assert list(written) == list(table)
        for column in table.select_dtypes("number"):
            np.testing.assert_allclose(written[column], table[column], rtol=1e-9)
    tipping = pd.read_csv(out / "mnar_tipping.csv")
    assert list(zip(tipping["analysis"], tipping["term"], strict=True)) == [
        ("effect", "drug"),
        ("crude", "drug"),
    ]
    for row in tipping.itertuples():
        np.testing.assert_allclose(
            row.shift, result.tipping_point("drug", analysis=row.analysis).table["shift"][0]
        )
        assert str(result.tipping_point("drug", analysis=row.analysis)) in said
    pooled = pd.read_csv(out / "pooled_effect.csv")  # at random: the run itself
    of = result.table[(result.table["scenario"] == "at random") & (result.table["analysis"] == "effect")]
    np.testing.assert_allclose(
        pooled["estimate"], of.loc[of["part"] == "fixed effect", "estimate"], rtol=1e-12
    )
    assert {"mnar_events.csv", "mnar_effect.png", "mnar_crude.png"} <= {path.name for path in out.iterdir()}


PROBLEMS = {
    "no numbers": ("[0, -1, -2]", '["a"]', r"mnar.delta.y: must be numbers, such as [0, -2, -4], not ['a']"),
    "no delta": ("delta = { y = { drug = [0, -1, -2] } }", "", "mnar.delta: is missing; name what to shift"),
    "empty": ("{ y = { drug = [0, -1, -2] } }", "{}", "mnar.delta: is empty"),
    "where": ('by = "arm"', 'where = "here"', "mnar.where: 'here' is not known; possible: 'missing'"),
    "unknown key": ('by = "arm"', 'arm = "arm"', "mnar.arm: is not known"),
    "unit": ('by = "arm"', 'by = "arm"\nunit = "miles"', "mnar.unit: 'miles' is not known"),
    "threshold": ('by = "arm"', 'by = "arm"\nthreshold = "0"', "mnar.threshold: it must be"),
    "no column": ('by = "arm"', 'by = "group"', "mnar: shift by 'group': the table has no such column"),
    "no such group": ("drug = [0, -1, -2]", "drag = [0, -1]", "nothing is imputed where 'arm' is 'drag'"),
    "not imputed": ("{ y = {", "{ drug = {", "delta: the model does not impute 'drug'"),
    "ratio": ('by = "arm"', 'by = "arm"\nunit = { y = "ratio" }', "'ratio' needs a logit or log link"),
}


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("case", PROBLEMS)
def test_refused_in_words_before_sampling(plan, tmp_path, capsys, monkeypatch, case, command):
    monkeypatch.setattr(bi.JointNormal, "impute", lambda *a, **k: pytest.fail("sampled"))
    old, new, message = PROBLEMS[case]
    change(plan, old, new)
    assert main([command, str(plan), *(["--out", str(tmp_path / "out")] if command == "run" else [])]) == 1
    assert re.search(re.escape(message), unfolded(capsys.readouterr().err))


def test_a_section_without_analyses_is_refused(plan, capsys):
    text = plan.read_text()
    plan.write_text(text[: text.index("[[analysis]]")])
    assert main(["check", str(plan)]) == 1
    assert "mnar: shows how far the answers of analyses move; add an [[analysis]]" in unfolded(
        unfolded(capsys.readouterr().err)
    )


def test_chained_equations_and_factors_in_plans(plan, tmp_path):
    """Every type of model: scenarios are run with the options of [impute]."""
    text = plan.read_text()
    joint = text[text.index("[model]") : text.index("[mnar]")]
    chained = '[model]\ntype = "FCS"\n[impute]\nm = 3\nseed = 3\ncycles = 2\n'
    factors = '[model]\ntype = "JointGLMM"\n[impute]\nm = 3\nseed = 3\nchains = 2\ntune = 5\ndraws = 10\n'
    crude = text[text.index('[[analysis]]\nname = "crude"') : text.index("[output]")]
    for name, model in (("chained", chained), ("factors", factors)):
        plan.write_text(text.replace(joint, model).replace(crude, ""))
        out = tmp_path / name
        assert main(["run", str(plan), "--out", str(out)]) == 0
        table = pd.read_csv(out / "mnar.csv")
        assert list(table["scenario"].drop_duplicates()) == ["at random", "y, arm drug -1", "y, arm drug -2"]

"""[sensitivity] and [report] in plans: what is written is what the library gives; refusals come before sampling."""

import json

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.joint.reference import HOW
from bayesimp.report.facts import STATED
from bayesimp.report.make import ENDINGS
from bayesimp.workflow import plan_options, plan_report
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded
from tests.workflow.trial_plan import change, written

SECTIONS = """
[sensitivity]
priors = ["default", "pan"]
m = 3
[report]
file = ["report.html", "report.md"]
figures = false
[report.stated]
reasons = "Patients moved away."
"""


@pytest.fixture
def plan(tmp_path):
    return written(tmp_path, 4, SECTIONS)


def test_the_words_of_plans_are_those_of_the_library():
    assert (plan_report.ENDINGS, plan_report.STATED) == (ENDINGS, tuple(STATED))
    assert plan_options.HOW == HOW


def test_check_describes_both_without_sampling(plan, capsys, monkeypatch):
    monkeypatch.setattr(bi.JointNormal, "impute", lambda *a, **k: pytest.fail("sampled"))
    assert main(["check", str(plan)]) == 0
    said = unfolded(capsys.readouterr().out)
    assert "sensitivity to the prior: 2 priors (default, pan), m = 3 under each, for effect, crude" in said
    assert "report: report.html, report.md" in said


def test_run_writes_what_the_library_gives(plan, tmp_path, capsys):
    change(plan, "figures = false\n[report.stated]", "[report.stated]")
    change(plan, 'file = ["report.html", "report.md"]', 'file = "report.md"\nfigures = false')
    change(plan, "completed = false\nfigures = false", "completed = false\nfigures = true")
    change(plan, "[report]", 'analyses = ["effect"]\n[report]')
    out = tmp_path / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 0
    said = unfolded(capsys.readouterr().out)
    model = bi.JointNormal(bi.IncompleteData(pd.read_csv(tmp_path / "trial.csv"), "g"), "y ~ drug + (1 | g)")
    result = bi.sensitivity(
        model, ["default", "pan"], analysis="y ~ drug + (1 | g)", m=3, seed=3, chains=2, tune=20, draws=30, progress=False
    )  # fmt: skip
    written = pd.read_csv(out / "sensitivity.csv")
    assert list(written) == ["analysis", *result.table] and set(written["analysis"]) == {"effect"}
    assert list(written["prior"]) == list(result.table["prior"])
    for column in result.table.select_dtypes("number"):
        np.testing.assert_allclose(written[column], result.table[column], rtol=1e-9)
    assert not np.allclose(*(written.loc[written["prior"] == p, "estimate"] for p in ("default", "pan")))
    of_model = pd.read_csv(out / "sensitivity_model.csv")
    np.testing.assert_allclose(of_model["estimate"], result.model["estimate"], rtol=1e-9)
    words = (out / "sensitivity.txt").read_text().splitlines()
    assert words == [line for line in result.words() if "see .events" not in line]
    assert words[0] in said
    files = {path.name for path in out.iterdir()}
    assert {
        "sensitivity_effect.png",
        "sensitivity_components.png",
        "sensitivity_events.csv",
        "report.md",
    } <= files
    assert files == set(json.loads((out / "run.json").read_text())["files"])
    report = (out / "report.md").read_text()
    assert (
        words[0].split(",", 1)[1].split(";")[0].split("(")[0] in report and "Patients moved away." in report
    )
    assert (
        "| effect | pan |" in report and "Not examined in this report; report(..., sensitivity" not in report
    )


def test_both_reports_are_written_and_replaced(plan, tmp_path):
    change(plan, 'priors = ["default", "pan"]\nm = 3', 'priors = ["default"]\nm = 2\nanalyses = ["crude"]')
    out = tmp_path / "out"
    for more in ([], ["--overwrite"]):
        assert main(["run", str(plan), "--out", str(out), *more]) == 0
        assert "Patients moved away." in (out / "report.html").read_text()
        assert (out / "report.md").is_file()
    assert set(json.loads((out / "run.json").read_text())["files"]) == {p.name for p in out.iterdir()}


PROBLEMS = {
    "preset": ('"pan"]', '"pam"]', "sensitivity.priors.pam: unknown preset 'pam'"),
    "twice": ('"pan"]', '"pan", "pan"]', "sensitivity.priors: names one of them twice"),
    "no list": ('["default", "pan"]', "3", "sensitivity.priors: must be a list of presets"),
    "prior": ('["default", "pan"]', '{a = {Psi = {type = "HuangWond"}}}', "sensitivity.priors.a.Psi.type: 'HuangWond'"),
    "name": ('["default", "pan"]', '{"a/b" = "pan"}', "sensitivity.priors.a/b: is not a valid name"),
    "size": ('["default", "pan"]', '{a = {Psi = {type = "InverseWishart", nu = 3, V = [[1, 0], [0, 1]]}}}',
             "sensitivity.priors.a: "),
    "sampler": ("draws = 30", 'draws = 30\nsampler = "gibbs"', "sensitivity.priors.a: The Gibbs sampler needs"),
    "reference": ("m = 3", 'm = 3\nreference = "jomo"', "sensitivity.reference: 'jomo' is not known"),
    "analysis": ("m = 3", 'm = 3\nanalyses = ["efect"]', "sensitivity.analyses: there is no [[analysis]] named 'efect'"),
    "m": ("m = 3", "m = 1", "sensitivity.m: must be a whole number of at least 2"),
    "unknown": ("m = 3", "mm = 3", "sensitivity.mm: is not known"),
    "weights": ('name = "crude"', 'name = "crude"\nweights = "drug"', "'crude' has weights, which an analysis under"),
    "ending": ('"report.md"]', '"report.pdf"]', "report.file: 'report.pdf' must be a name in the folder of the run"),
    "folder": ('"report.md"]', '"../report.md"]', "report.file: '../report.md' must be a name in the folder"),
    "stated": ("reasons =", "reason =", "report.stated.reason: is not known; did you mean 'reasons'"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_refused_in_words_before_sampling(plan, capsys, monkeypatch, case):
    monkeypatch.setattr(bi.JointNormal, "impute", lambda *a, **k: pytest.fail("sampled"))
    old, new, message = PROBLEMS[case]
    if case == "sampler":
        change(plan, '["default", "pan"]', '{a = {Psi = {type = "LKJ", eta = 2}}}')
    assert main(["check", change(plan, old, new)]) == 1
    assert message in unfolded(capsys.readouterr().err)


def test_a_section_without_analyses_is_refused(plan, capsys):
    text = plan.read_text()
    plan.write_text(text[: text.index("[[analysis]]")])
    assert main(["check", str(plan)]) == 1
    assert "sensitivity: shows how far the answers of analyses move" in unfolded(capsys.readouterr().err)


def test_several_grouping_factors(tmp_path, capsys):
    rng = np.random.default_rng(2)
    school, klass = np.repeat(np.arange(12), 10), np.tile(np.repeat(["a", "b"], 5), 12)
    x = rng.normal(size=120)
    y = (
        x
        + rng.normal(size=12)[school]
        + 0.5 * rng.normal(size=24)[school * 2 + (klass == "b")]
        + rng.normal(size=120)
    )
    frame = pd.DataFrame({"school": school, "class": [f"{s}{k}" for s, k in zip(school, klass, strict=True)], "x": x,
                          "y": np.where(rng.random(120) < 0.2, np.nan, y)})  # fmt: skip
    frame.to_csv(tmp_path / "t.csv", index=False)
    formula = "y ~ x + (1 | school) + (1 | class)"
    data = bi.IncompleteData(frame, ["school", "class"])
    model = bi.JointNormal(data, formula)
    path, run = tmp_path / "plan.toml", {"chains": 1, "tune": 10, "draws": 10}
    model.to_plan(path, data="t.csv", m=2, seed=4, analysis="y ~ x + (1 | school)", **run)
    path.write_text(path.read_text() + "\n[output]\nfigures = false\n")
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 0
    ours, theirs = (
        model.impute(2, seed=4, progress=False, **run),
        bi.load(tmp_path / "out" / "imputations.nc"),
    )
    np.testing.assert_allclose(ours.frame(1)["y"], theirs.frame(1)["y"], rtol=1e-12)
    text = path.read_text()
    for old, new, message in (
        ('["school", "class"]', '["school", "x"]', "groups by 'class', but data.cluster has 'school', 'x'"),
        ('["school", "class"]', '"school"', 'data.cluster has the columns of all: cluster = ["school", "class"]'),
        ('["school", "class"]', '["school", "school"]', "data.cluster: must be a column or a list of different"),
    ):  # fmt: skip
        assert old in text
        path.write_text(text.replace(old, new).replace("`class`", "class"))
        capsys.readouterr()
        assert main(["check", str(path)]) == 1
        assert message in unfolded(capsys.readouterr().err)

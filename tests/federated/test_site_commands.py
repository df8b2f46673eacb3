"""The commands of the how-to page, run as written; second releases; plans that sites cannot use."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp import federated as fed
from bayesimp.durable import checksum
from bayesimp.runlog import read_log
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded

PAGE = Path(bi.__file__).parents[1] / "docs" / "howto" / "federated.md"
pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")


def tables():
    """The tables of the page."""
    code = re.search(r"```python\n(.*?)\nagreed = ", PAGE.read_text(), re.DOTALL)[1]
    names = {}
    exec(code, names)
    return names["tables"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which the commands of the page have run, with fewer draws."""
    place = tmp_path_factory.mktemp("sites")
    text = PAGE.read_text()
    plan = re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1].replace(
        "m = 20", "m = 3\ndraws = 40\nchains = 2"
    )
    (place / "plan.toml").write_text(plan)
    for site, table in tables().items():
        (place / site).mkdir()
        table.to_csv(place / site / "table.csv", index=False)
    commands = re.findall(
        r"^\$ bayesimp (.*)$", re.search(r"```console\n(.*?)```", text, re.DOTALL)[1], re.MULTILINE
    )
    assert len(commands) == 8
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in commands:
            assert main(command.split()) == 0, command
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy to be altered, as working directory."""
    shutil.copytree(made, tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    return tmp_path / "a"


def test_the_demonstration_completes_the_rows_of_its_sites(made):
    for site, table in tables().items():
        if site not in ("A", "D"):
            continue
        long = pd.read_csv(made / site / "completed" / "completed.csv")
        assert (
            long.notna().all(axis=None) and len(long) == 3 * 400 and list(long[".imp"].unique()) == [1, 2, 3]
        )
        first = long[long[".imp"] == 1].reset_index(drop=True)
        seen = table["after"].notna()
        np.testing.assert_allclose(first["after"][seen], table["after"][seen], rtol=1e-12)
    assert "before" in long and long.groupby(".imp")["before"].mean().nunique() == 3  # D had none
    pooled = {s: pd.read_csv(made / s / "completed" / "pooled_main.csv") for s in "AD"}
    overall = bi.pool_studies(pooled, terms=["arm[treated]"]).overall
    assert list(overall["term"]) == ["arm[treated]"] and overall["studies"].item() == 2
    assert -10 < overall["estimate"].item() < 2


def test_the_commands_do_what_python_does(made):
    """They give the same release, parameters and completed tables, with the options of the plan."""
    own, release = tables(), fed.read_release(made / "A.json")
    agreed = fed.Agreement(
        "before + after ~ age + arm + (1 | ward)",
        {"arm": ("control", "treated")},
        plan=checksum(made / "plan.toml"),
    )
    texts = {site: pd.read_csv(made / site / "table.csv", dtype={"ward": str}) for site in own}
    again = [fed.export_site(table, agreed, site) for site, table in texts.items()]
    assert again[0].sha256 == release.sha256
    run = fed.combine(again, m=3, seed=1, draws=40, chains=2)
    shared = fed.read_parameters(made / "run" / "parameters.json")
    np.testing.assert_array_equal(run.parameters.beta, shared.beta)
    done = fed.complete_site(shared, texts["D"], "D")
    long = pd.read_csv(made / "D" / "completed" / "completed.csv")
    np.testing.assert_allclose(done.values("before").ravel(), long["before"], rtol=1e-12)


def test_what_the_coordinator_keeps_has_no_rows(made):
    files = {path.name for path in (made / "run").iterdir()}
    assert files == {
        "plan.toml",
        "parameters.json",
        "posterior.nc",
        "summary.csv",
        "events.csv",
        "run.json",
        "log.jsonl",
    }
    log = read_log(made / "run").require()
    assert not log.unfinished and set(log.run[0]["inputs"]) == {"plan", "A", "B", "C", "D"}
    text = "".join(path.read_text() for path in (made / "run").glob("*.json"))
    assert not any(f"{value}" in text for value in tables()["A"]["after"].dropna()[:50])


def test_a_second_release_that_differs_is_refused_and_the_same_one_is_not(place, capsys):
    export = ["site", "export", "plan.toml", "--site", "A", "--data", "A/table.csv", "--out", "again.json"]
    assert main(export) == 0
    assert (place / "again.json").read_bytes() == (place / "A.json").read_bytes()
    table = pd.read_csv(place / "A" / "table.csv")
    table.drop(index=17).to_csv(place / "A" / "table.csv", index=False)
    (place / "again.json").unlink()
    assert main(export) == 1 and not (place / "again.json").exists()
    assert main([*export, "--minimum", "4"]) == 1
    assert "can be subtracted from each other" in unfolded(capsys.readouterr().err)
    assert main([*export, "--again", "row 17 was entered twice"]) == 0
    release = fed.read_release(place / "again.json")
    (event,) = [event for event in release.events if event.kind == "released again"]
    assert "row 17 was entered twice" in event.message
    actions = [line["action"] for line in read_log(place / "A").require().lines]
    assert actions.count("site export") == 3
    (place / "A" / "log.jsonl").write_text("altered\n")
    assert main(export) == 1 and "not JSON" in unfolded(capsys.readouterr().err)


def test_another_plan_is_refused_by_name(place, capsys):
    text = (place / "plan.toml").read_text()
    (place / "other.toml").write_text(text.replace("seed = 1", "seed = 2"))
    assert main(["site", "combine", "other.toml", "A.json", "B.json", "--out", "x"]) == 1
    assert "A.json was not exported with other.toml: SHA-256 of the plan" in unfolded(capsys.readouterr().err)
    assert not (place / "x").exists()
    assert main(["lock", "plan.toml", "--without-table"]) == 0
    (place / "plan.toml").write_text(text.replace("m = 3", "m = 4"))
    assert (
        main(["site", "export", "plan.toml", "--site", "B", "--data", "B/table.csv", "--out", "b.json"]) == 1
    )
    assert "-m = 3" in unfolded(capsys.readouterr().err)
    run = place / "run" / "plan.toml"
    run.write_text(text + "\n")
    assert main(["site", "complete", "run", "--site", "A", "--data", "A/table.csv", "--out", "y"]) == 1
    assert "not as the run left it" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[model]\nformula", '[model]\ntype = "JointLatent"\nformula', "its model is JointLatent"),
        ("seed = 1", 'seed = 1\nsampler = "nuts"', "asks for the sampler nuts"),
        ("[impute]", "[model.shift]\nby = { after = 1.0 }\n\n[impute]", "has a shift"),
        ('arm = ["control", "treated"]', 'arm = "string"', 'Agree on the levels: levels={"arm"'),
        ('cluster = "ward"', 'cluster = ["ward", "bed"]', "several cluster columns"),
        ("before + after ~ age + arm", "before + after ~ age + weight", "Covariate 'weight' is not a column"),
    ],
)
def test_plans_that_are_not_for_sites_are_refused(place, old, new, words, capsys):
    text = (place / "plan.toml").read_text()
    assert old in text
    (place / "plan.toml").write_text(text.replace(old, new))
    assert (
        main(["site", "export", "plan.toml", "--site", "B", "--data", "B/table.csv", "--out", "b.json"]) == 1
    )
    assert words in unfolded(capsys.readouterr().err) and not (place / "b.json").exists()


def test_a_table_that_is_not_there_is_asked_for(place, capsys):
    assert main(["site", "export", "plan.toml", "--site", "B", "--out", "b.json"]) == 1
    assert "--data FILE" in unfolded(capsys.readouterr().err)
    assert main(["site", "show", "plan.toml"]) == 1
    assert json.loads((place / "A.json").read_text())["site"] == "A"

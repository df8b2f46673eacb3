"""What the commands print fits 100 columns, with names of 40 characters, also where they refuse; commands are found."""

import argparse

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.layout import WIDTH
from bayesimp.runlog import LOG
from bayesimp.workflow import terminal
from bayesimp.workflow.cli import _parser, main
from tests.test_width import ANALYSIS, ARM, FORMULA, FRAME, LEVELS, G, X, Y, Z, long, too_wide

pytestmark = pytest.mark.filterwarnings("ignore::bayesimp.errors.StatisticalWarning")
NAME = long("analysis").replace(" ", "-")
PLAN = f"""title = "{long("a title", 110)}"
[data]
file = "table.csv"
cluster = "{G}"
[data.types]
"{ARM}" = {LEVELS}
[model]
formula = "{FORMULA}"
[impute]
m = 2
seed = 1
chains = 2
tune = 5
draws = 10
[[analysis]]
name = "{NAME}"
formula = "{ANALYSIS}"
[mnar.delta]
"{Y}" = [0, -1]
[sensitivity]
priors = ["default", "pan"]
[output]
figures = false
"""
SITES = PLAN.partition("[mnar")[0] + "[output]\nfigures = false\n"
WRONG = (
    PLAN.replace(f'"{Y}" = [0', f'"{Y}s" = [0')
    .replace("draws = 10", 'draws = "ten"')
    .replace("seed = 1", "sed = 1")
)
SITE = "site export sites.toml --site {0} --data {0}.csv --out {0}.json"
# arguments -> exit status; `verify` with one of its requirements
RUNS = {
    "check plan.toml": 0, "lock plan.toml": 0, "run plan.toml --out results": 0, "verify-log results": 0,
    "replay results": 0, "report results --without-figures": 0, SITE.format("A"): 0, SITE.format("B"): 0,
    "site show A.json B.json": 0, "site combine sites.toml A.json B.json --out shared": 0,
    "site complete shared --site A --data A.csv --out done": 0, "verify --only V-11 --out verified": 0,
    "check wrong.toml": 1, "check absent.toml": 1, "run sites.toml --out results": 1, "explore wrong.toml": 1,
    "site complete shared --site C --data A.csv --out again": 1, "report A.csv": 1,
}  # fmt: skip


def commands(parser: argparse.ArgumentParser, before: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command that does something, by its words."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                found |= commands(each, f"{before} {name}") or {f"{before} {name}".strip(): each}
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a table, plans, and the tables of two sites."""
    folder = tmp_path_factory.mktemp("terminal")
    FRAME.to_csv(folder / "table.csv", index=False)
    rows = pd.concat([FRAME] * 12, ignore_index=True)
    half = np.isin(rows[G], sorted(set(FRAME[G]))[:4])
    for name, at in {"A": half, "B": ~half}.items():
        rows[at].to_csv(folder / f"{name}.csv", index=False)
    for name, text in {"plan": PLAN, "sites": SITES, "wrong": WRONG}.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def said(place):
    """Arguments -> (status, output, errors), of all runs in their order."""
    import contextlib
    import io

    out = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for arguments in RUNS:
            with (
                contextlib.redirect_stdout(io.StringIO()) as shown,
                contextlib.redirect_stderr(io.StringIO()) as errors,
            ):
                status = main(arguments.split())
            out[arguments] = status, shown.getvalue(), errors.getvalue()
    return out


def test_every_command_is_here():
    ran = {name for name in commands(_parser()) if any(each.startswith(name) for each in RUNS)}
    assert set(commands(_parser())) - ran == {
        "demo",
        "reproduce",
    }  # the first in tests/test_cli.py, the other below


def test_lines_fit(said):
    assert {name: status for name, (status, _, _) in said.items()} == RUNS, {
        k: v[2] for k, v in said.items() if v[2]
    }
    wide = {name: too_wide(shown) + too_wide(errors) for name, (_, shown, errors) in said.items()}
    assert not {name: lines for name, lines in wide.items() if lines}
    # nothing is lost where lines wrap
    whole = " ".join(said["check plan.toml"][1].split())
    assert f"analysis '{NAME}': {ANALYSIS} (normal" in whole


def test_wrong_output_in_one_line_is_noticed(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("bayesimp.layout.wrapped", lambda text, *_, **__: text)
    assert main(["check", "plan.toml"]) == 0 and main(["check", "wrong.toml"]) == 1
    shown = capsys.readouterr()
    assert too_wide(shown.out) and too_wide(shown.err)


def test_help_and_usage_errors_fit(capsys, monkeypatch):
    """Also on a wide terminal; wrong: the list of commands in one line."""
    monkeypatch.setenv("COLUMNS", "200")
    for name, parser in {"": _parser(), **commands(_parser())}.items():
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        text = capsys.readouterr().out
        assert "usage: bayesimp" in text and not too_wide(text), name
        with pytest.raises(SystemExit) as left:
            main([*name.split(), "--" + long("an option ").replace(" ", "-") * 3])
        errors = capsys.readouterr().err
        assert left.value.code == 2 and "error:" in errors
        assert not [line for line in too_wide(errors) if " " in line.strip()], name
        assert parser.prog.startswith("bayesimp")
    with pytest.raises(SystemExit):
        main(["chek"])
    assert not too_wide(capsys.readouterr().err)
    assert terminal.WIDTH == WIDTH


def test_tables_of_reports_in_markdown_fit():
    cells = lambda k: " | ".join(f"{k}.{j}" for j in range(6))  # noqa: E731
    lines = ["# Title", "", "| term | " + " | ".join(f"{k} {X}" for k in range(6)) + " |", "|" + "---|" * 7]
    lines += [f"| var({term} \\| study) | " + cells(k) + " |" for k, term in enumerate((Y, Z))]
    text = terminal.without_markdown([*lines, "", "- the end"])
    assert max(map(len, lines)) > WIDTH and not too_wide(text)
    assert text.startswith("# Title\n") and text.endswith("\n- the end") and "|  study" not in text
    for k in range(2):
        assert all(f" {k}.{j}" in text for j in range(6))
    assert "| study)" in text and "\\|" not in text
    assert terminal.without_markdown(["| a | b |", "|---|---|"]) == "a  b"


def test_the_log_is_of_the_run(said, place):
    assert (place / "results" / LOG).is_file() and bi.load(place / "results" / "imputations.nc").m == 2

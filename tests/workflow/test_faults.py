"""Whatever ends `bayesimp run` or `report`, files on disk are complete and match their hashes, or are refused.

One process (tests/workflow/killed.py) is forked for every fault: 8 CPU seconds.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesimp as bi
from bayesimp.durable import UNFINISHED, one_writer, replacing
from bayesimp.runlog import LOG, append, read_log
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded
from tests.workflow.small_plan import write_plan

KILLED = [
    "before_sampling", "in_sampling", "imputations", "in_completed_tables", "record", "before_the_last_line",
    "half_a_line", "no_room_for_the_log",
]  # fmt: skip
SAME = (
    "missingness.csv",
    "missing_cells.csv",
    "plan.toml",
    "events.csv",
    "completed.csv",
    "summary.csv",
    "pooled_main.csv",
)
if sys.platform == "win32":
    pytest.skip("fork, signals and limits of POSIX", allow_module_level=True)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    place = tmp_path_factory.mktemp("faults")
    plan = write_plan(place)
    command = [sys.executable, "-W", "ignore", "-m", "tests.workflow.killed", str(plan), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(bi.__file__).parents[1])
    assert done.returncode == 0, done.stderr
    return place, json.loads(done.stdout)


def check_whole(root, whole):
    """Every file with its final name is complete, as from an uninterrupted run."""
    for name in SAME:
        if (root / name).exists():
            assert (root / name).read_bytes() == (whole / name).read_bytes(), name
    if (root / "imputations.nc").exists():
        a, b = (
            bi.load(shutil.copy(place / "imputations.nc", place.parent / "copy.nc"))
            for place in (root, whole)
        )
        for k in range(b.m):
            assert a.frame(k).equals(b.frame(k))


@pytest.mark.parametrize("name", KILLED)
def test_a_run_that_is_ended(faults, name, capsys):
    place, ended = faults
    root = place / name
    assert ended[name]["status"] == (1 if name.startswith("no_room") else -9)
    check_whole(root, place / "whole")
    log = read_log(root)
    assert len(log.lines) == 1 and ("incomplete" in log.fault) == (name == "half_a_line")
    for command in (["report", str(root)], ["replay", str(root)], ["verify-log", str(root)]):
        assert main(command) == 1
    printed, errors = map(unfolded, capsys.readouterr())
    if name == "half_a_line":
        assert "line 2 is incomplete" in printed and "line 2 is incomplete" in errors
        with pytest.raises(bi.DataError, match="line 2 is incomplete"):
            bi.load(root / "imputations.nc")
    else:
        assert "has not ended" in printed and ("has not ended" in errors or "not interrupted" in errors)
    assert not (root / "report.html").exists()


def test_the_folder_of_a_run_that_was_killed_is_used_again(faults, capsys):
    """Nothing from the killed run is left; the log continues, unless it is broken."""
    place, _ = faults
    root = place / "again"
    shutil.copytree(place / "in_completed_tables", root)
    assert any(path.name.startswith(UNFINISHED) for path in root.iterdir())
    (root / "pooled_other.csv").write_text("of the run that was killed")
    record = json.loads((root / "run.json").read_text())
    (root / "run.json").write_text(json.dumps(record | {"files": [*record["files"], "pooled_other.csv"]}))
    plan = str(place / "plan.toml")
    assert main(["run", plan, "--out", str(root)]) == 1
    assert main(["run", plan, "--out", str(root), "--overwrite"]) == 0
    assert {path.name for path in root.iterdir()} == {path.name for path in (place / "whole").iterdir()}
    check_whole(root, place / "whole")
    assert [line["action"] for line in read_log(root).lines] == ["run begun", "run begun", "run ended"]
    assert main(["verify-log", str(root)]) == 0
    capsys.readouterr()
    before = (place / "half_a_line" / LOG).read_bytes()
    assert main(["run", plan, "--out", str(place / "half_a_line"), "--overwrite"]) == 1
    assert "line 2 is incomplete" in unfolded(capsys.readouterr().err)
    assert (place / "half_a_line" / LOG).read_bytes() == before
    assert (place / "half_a_line" / "imputations.nc").exists()


def test_a_full_disk(faults):
    place, ended = faults
    assert "log.jsonl: no room for a line of 1," in unfolded(ended["no_room_for_the_log"]["said"])
    result = ended["no_room_for_imputations"]
    assert result["status"] == 1 and "File too large" in result["said"], result
    root = place / "no_room_for_imputations"
    assert not (root / "imputations.nc").exists() and not list(root.glob(f"{UNFINISHED}*"))
    assert json.loads((root / "run.json").read_text())["status"] == "failed"
    assert read_log(root).lines[-1]["status"] == "failed" and main(["verify-log", str(root)]) == 0
    assert main(["report", str(root)]) == 1


@pytest.mark.parametrize("name", ["report", "before_the_report_is_logged"])
def test_a_report_that_is_ended(faults, name, capsys):
    """The results are unchanged, and the report can be made again."""
    place, ended = faults
    assert ended[name]["status"] == -9
    root = place / name
    assert main(["verify-log", str(root)]) == 0
    check_whole(root, place / "whole")
    assert main(["report", str(root), "--without-figures"]) == 0
    assert read_log(root).lines[-1]["action"] == "report" and not list(root.glob(f"{UNFINISHED}*"))
    if name == "report":
        return
    (root / "report.html").write_text("altered")
    assert main(["verify-log", str(root)]) == 1
    assert "NOT AS IT WAS  report.html" in unfolded(capsys.readouterr().out)
    assert main(["report", str(root), "--without-figures"]) == 0
    assert main(["verify-log", str(root)]) == 0


def test_two_writers(faults, capsys):
    place, _ = faults
    out = place / "two"
    with one_writer(out):
        assert main(["run", str(place / "plan.toml"), "--out", str(out)]) == 1
        assert main(["report", str(place / "whole"), "--without-figures"]) == 0
    assert "Another process is writing into" in unfolded(capsys.readouterr().err) and not list(out.iterdir())
    with one_writer(place / "whole"):
        assert main(["report", str(place / "whole"), "--without-figures"]) == 1
    with one_writer(out):  # free again
        pass


def test_a_folder_that_cannot_be_written(faults, monkeypatch, capsys):
    """Refused before sampling; replay and report say that the log has no line about them. (root may write everywhere)"""
    place, _ = faults
    root = place / "read_only"
    shutil.copytree(place / "whole", root)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", str(root / LOG))

    monkeypatch.setattr("bayesimp.workflow.trail.append", refused)
    assert main(["report", str(root), "--out", str(place / "elsewhere.html"), "--without-figures"]) == 0
    assert "cannot be written (Permission denied), so 'report' is not in its log" in unfolded(
        capsys.readouterr().out
    )
    assert (place / "elsewhere.html").exists()
    monkeypatch.setattr("bayesimp.joint.normal.JointNormal.impute", None)
    assert main(["run", str(place / "plan.toml"), "--out", str(place / "new")]) == 1
    assert f"{root / LOG}: Permission denied" in unfolded(capsys.readouterr().err)


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path) as made:
        made.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_clock_that_is_set_back(tmp_path, monkeypatch, capsys):
    """The order of the lines counts; a remark says so."""
    import datetime as standard

    import bayesimp.runlog as runlog

    class Earlier(standard.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) - standard.timedelta(days=2)

    append(tmp_path, "run begun", {}, {})
    with monkeypatch.context() as patched:
        patched.setattr(runlog, "datetime", Earlier)
        append(tmp_path, "run ended", {}, {}, status="complete")
    assert main(["verify-log", str(tmp_path)]) == 0
    assert "Note: line 2: the clock had been set back" in unfolded(capsys.readouterr().out)

"""Locks, the log of a folder, replay: what is noticed, and what is reported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import bayesimp as bi
from bayesimp.durable import checksum
from bayesimp.errors import DataError, SpecificationError
from bayesimp.runlog import LOG, append, check_file, read_log
from bayesimp.workflow.cli import main
from bayesimp.workflow.lock import check_lock, lock_plan
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.prepare import prepare
from bayesimp.workflow.replay import compare_arrays
from bayesimp.workflow.trail import checked_log
from tests.unfolding import unfolded
from tests.workflow.small_plan import PLAN, table, write_plan


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A plan, locked and carried out: `plan.toml`, `plan.lock`, `out`."""
    place = tmp_path_factory.mktemp("made")
    plan = write_plan(place)
    assert main(["lock", str(plan)]) == 0
    assert main(["run", str(plan), "--out", str(place / "out")]) == 0
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy to be altered, whose record names the copy of the table."""
    shutil.copytree(made, tmp_path / "a")
    return tmp_path / "a"


def verdict(place, reason=None):
    return check_lock(prepare(read_plan(place / "plan.toml")), reason)


def forge(out: Path, name: str, data: bytes) -> None:
    """A changed file with a matching log line, which hashes cannot detect but replay can."""
    (out / name).write_bytes(data)
    append(out, "forged", {}, {name: checksum(out / name)})


# locks ------------------------------------------------------------------------------------------


def test_a_lock_says_what_is_locked(place, capsys):
    lock = json.loads((place / "plan.lock").read_text())
    assert lock["plan"]["sha256"] == checksum(place / "plan.toml") and lock["plan"]["text"] == PLAN
    assert (lock["table"]["sha256"], lock["table"]["rows"]) == (checksum(place / "small.csv"), 60)
    columns = {c["name"]: c for c in lock["table"]["columns"]}
    assert columns["k"] == {"name": "k", "dtype": "category", "categories": ["a", "b"], "ordered": True}
    assert columns["y"]["dtype"] == "float64"
    names = {
        "python",
        "bayesimp",
        "bayesimp sources",
        "numpy",
        "scipy",
        "pandas",
        "numba",
        "pymc",
        "platform",
        "processor",
    }
    assert names <= set(lock["environment"]) and lock["locked"].endswith("+00:00")
    found = verdict(place)
    assert (found.changes, found.environment, found.events()) == ((), (), [])
    assert main(["lock", str(place / "plan.toml")]) == 1
    assert "a lock is not replaced" in unfolded(capsys.readouterr().err)


def test_before_the_data_are_there(tmp_path, capsys):
    """Locked without a table; the run compares the plan, and what the plan says of columns is checked as ever."""
    plan = write_plan(tmp_path)
    (tmp_path / "small.csv").unlink()
    assert main(["lock", str(plan)]) == 0
    assert "table  not read; the plan names 4 columns" in unfolded(capsys.readouterr().out)
    table().to_csv(tmp_path / "small.csv", index=False)
    assert verdict(tmp_path).table == "not read" and verdict(tmp_path).changes == ()
    (tmp_path / "plan.lock").unlink()
    assert (
        lock_plan(plan, with_table=False)[1]["table"]
        == json.loads((tmp_path / "plan.lock").read_text())["table"]
    )
    plan.write_text(PLAN.replace("seed = 1", "seed = 2"))
    with pytest.raises(SpecificationError, match=r"-seed = 1\n.*\+seed = 2"):
        verdict(tmp_path)


def changed(**columns):
    return lambda frame: frame.assign(**columns)


@pytest.mark.parametrize(
    ("plan", "frame", "words"),
    [
        (("seed = 1", "seed = 2"), None, ["plan.toml, -seed = 1", "plan.toml, +seed = 2"]),
        (('title = "Small"', 'title = "Small" '), None, ['+title = "Small" ']),
        (("\n", "\r\n"), None, ["the same lines in different bytes"]),
        (('["a", "b"]', '["a", "b", "c"]'), None, ["column 'k' has categories ['a', 'b', 'c'], was ['a', 'b']"]),
        (None, changed(x=range(60)), ["column 'x' has dtype int64, was float64"]),
        (None, changed(w=1.5), ["column 'w' is new"]),
        (None, lambda f: f[["x", "g", "k", "y"]], ["the columns are in a different order"]),
        (None, lambda f: f.iloc[:-1], ["59 rows, was 60"]),
        (None, lambda f: f.assign(y=f["y"] + 1e-9), ["the contents differ, SHA-256"]),
    ],
)  # fmt: skip
def test_what_differs_is_named(place, plan, frame, words):
    if plan:
        (place / "plan.toml").write_bytes(PLAN.replace(*plan).encode())
    if frame:
        frame(table()).to_csv(place / "small.csv", index=False)
    with pytest.raises(SpecificationError) as refused:
        verdict(place)
    for text in (
        *words,
        'give a reason, which the results will carry: --despite-lock "reason"',
        "was locked at 20",
    ):
        assert text in str(refused.value)
    found = verdict(place, " the typist erred ")
    (event,) = found.events()
    assert event.kind == "changed after lock" and "reason: the typist erred." in event.message
    assert all(word in event.message for word in words)


def test_a_lock_that_was_altered_or_is_none(place):
    path = place / "plan.lock"
    text = path.read_text()
    for other in (
        "",
        "{}",
        "[]",
        "[" * 100_000,
        text.replace("seed = 1", "seed = 2"),
        text.replace('"rows"', '"row"'),
    ):
        path.write_text(other)
        with pytest.raises(DataError, match="was not written by `bayesimp lock`"):
            verdict(place)
    path.unlink()
    assert verdict(place) is None
    with pytest.raises(SpecificationError, match=r"--despite-lock: there is no \S+ to deviate from"):
        verdict(place, "a reason")
    with pytest.raises(SpecificationError, match="needs a reason in words"):
        verdict(place, " ")


def test_a_deviation_is_in_record_log_events_and_report(place, capsys):
    """So is a different environment, which does not lead to a refusal."""
    lock = json.loads((place / "plan.lock").read_text())
    lock["environment"]["numpy"] = "1.0"
    (place / "plan.lock").write_text(json.dumps(lock))
    plan = str(place / "plan.toml")
    (place / "plan.toml").write_text(PLAN.replace("draws = 10", "draws = 12"))
    assert main(["run", plan, "--out", str(place / "new")]) == 1 and not (place / "new").exists()
    assert main(["run", plan, "--out", str(place / "new"), "--despite-lock", "more draws"]) == 0
    out = place / "new"
    record = json.loads((out / "run.json").read_text())["lock"]
    assert record["despite"] == "more draws" and "plan.toml, +draws = 12" in record["changes"]
    assert read_log(out).lines[0]["lock"] == record
    events = bi.load(out / "imputations.nc").events.set_index("kind")["message"]
    assert (
        "more draws" in events["changed after lock"] and "was 1.0" in events["environment differs from lock"]
    )
    capsys.readouterr()
    assert main(["report", str(out), "--without-figures", "--out", str(place / "report.md")]) == 0
    text = (place / "report.md").read_text().replace("\\", "")
    assert "deviating from the lock for the stated reason" in text and "more draws" in text
    (line,) = [line for line in read_log(out).lines if line["action"] == "report"]
    assert line["written"]["sha256"] == checksum(place / "report.md") and line["outputs"] == {}


# the log ----------------------------------------------------------------------------------------


def test_the_log_has_the_hashes_of_everything(place, capsys):
    out = place / "out"
    begun, ended = read_log(out).lines
    assert begun["inputs"] == {name: checksum(place / file) for name, file in
                               (("plan", "plan.toml"), ("table", "small.csv"), ("lock", "plan.lock"))}  # fmt: skip
    files = {path.name for path in out.iterdir()}
    assert set(ended["outputs"]) == files - {LOG} and ended["status"] == "complete"
    assert set(json.loads((out / "run.json").read_text())["files"]) == files
    assert main(["verify-log", str(out)]) == 0
    assert read_log(out).last in unfolded(capsys.readouterr().out)


def test_every_bit_of_the_log_counts(place):
    """One bit of every byte is flipped: the first line that does not fit is the altered one."""
    out = place / "out"
    data = (out / LOG).read_bytes()
    first = data.index(b"\n") + 1
    rng = np.random.default_rng(0)
    for k in range(0, len(data), 7):
        other = bytearray(data)
        other[k] ^= 1 << int(rng.integers(8))
        (out / LOG).write_bytes(other)
        log = read_log(out)
        assert log.fault and len(log.lines) == (k >= first), (k, bytes(other[k - 20 : k + 20]))


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda lines: lines[1:], "line 1 is out of place: it is not the first"),
        (lambda lines: [lines[0], lines[2]], "line 2 is out of place: it does not follow line 1"),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 2 is out of place"),
        (lambda lines: [*lines, lines[2]], "line 4 is out of place"),
        (lambda lines: [*lines[:2], lines[2][:-9]], "line 3 is incomplete"),
        (lambda lines: [lines[0].replace(b"complete", b"complet3").replace(b"run begun", b"run begum"), *lines[1:]],
         "line 1 was altered"),
        (lambda lines: [], "it is empty"),
        (lambda lines: [b"[" * 100_000 + b"\n"], "line 1 is not JSON"),
        (lambda lines: [b'{"line": 1}\n'], "line 1 lacks an entry"),
    ],
)  # fmt: skip
def test_lines_removed_moved_or_altered(place, alter, words, capsys):
    out = place / "out"
    append(out, "report", {}, {})
    lines = (out / LOG).read_bytes().splitlines(keepends=True)
    (out / LOG).write_bytes(b"".join(alter(lines)))
    assert main(["verify-log", str(out)]) == 1
    assert words in unfolded(capsys.readouterr().out)
    for refuses in (
        lambda: checked_log(out),
        lambda: check_file(out / "imputations.nc"),
        lambda: append(out, "x", {}, {}),
    ):
        with pytest.raises(DataError, match="Nothing is read from or added to this folder"):
            refuses()


@pytest.mark.parametrize(
    "name", ["run.json", "plan.toml", "imputations.nc", "completed.csv", "pooled_main.csv"]
)
def test_an_altered_file_is_named(place, name, capsys):
    out = place / "out"
    data = bytearray((out / name).read_bytes())
    data[len(data) // 2] ^= 1
    (out / name).write_bytes(data)
    assert main(["verify-log", str(out)]) == 1
    assert f"NOT AS IT WAS  {name}: SHA-256" in unfolded(capsys.readouterr().out)
    for command in ("report", "replay"):
        assert main([command, str(out)]) == 1
        said = unfolded(capsys.readouterr().err)
        assert "not as the run left it" in said or name == "run.json"
    (out / name).unlink()
    with pytest.raises(DataError, match=f"{name}: is gone"):
        checked_log(out)
    (out / LOG).unlink()
    if name != "run.json":
        with pytest.raises(DataError, match=r"log\.jsonl is gone"):
            checked_log(out)


def test_names_in_a_log_do_not_lead_out_of_the_folder(place):
    secret = place / "secret.txt"
    secret.write_text("x")
    append(place / "out", "forged", {}, {"../secret.txt": checksum(secret)})
    with pytest.raises(DataError, match=r"\.\./secret.txt: leads out of the folder"):
        checked_log(place / "out")
    record = json.loads((place / "out" / "run.json").read_text())
    record["files"] = ["../secret.txt", "..", "", 3, str(secret), *record["files"]]
    (place / "out" / "run.json").write_text(json.dumps(record))
    assert main(["run", str(place / "plan.toml"), "--out", str(place / "out"), "--overwrite"]) == 0
    assert secret.read_text() == "x"


# replay -----------------------------------------------------------------------------------------


def test_replay_is_bit_equal_and_says_what_is_not(made, tmp_path, capsys):
    """From the folder alone; then with one number, and with one seed, that are others: exit status 3."""
    out = shutil.copytree(made / "out", tmp_path / "out")
    assert main(["replay", str(out)]) == 0
    said = unfolded(capsys.readouterr().out)
    for text in ("bit-equal  completed table 2 (", "bit-equal  posterior, Psi (10)", "bit-equal  pooled_main.csv (",
                 "Bit-equal: "):  # fmt: skip
        assert text in said
    assert read_log(out).lines[-1]["result"] == "bit-equal"
    text = (out / "pooled_main.csv").read_text()
    first = text.splitlines()[1].split(",")[2]
    forge(out, "pooled_main.csv", text.replace(first, repr(float(first) * (1 + 1e-9))).encode())
    forge(out, "plan.toml", (out / "plan.toml").read_bytes())
    assert main(["replay", str(out)]) == 3
    said = unfolded(capsys.readouterr().out)
    assert "DIFFERS    pooled_main.csv, estimate: 1 of 2" in said and "relatively 1e-09" in said
    assert "bit-equal  completed table 1 (" in said
    forge(out, "plan.toml", PLAN.replace("seed = 1", "seed = 2").encode())
    assert main(["replay", str(out), "--stored-table"]) == 3
    said = unfolded(capsys.readouterr().out)
    assert (
        "DIFFERS    completed table 1, y: 12 of 60" in said and "bit-equal  completed table 1, x (60)" in said
    )
    assert (
        "DIFFERS    posterior, beta: 30 of 30" in said
        and "comparisons differ" in read_log(out).lines[-1]["result"]
    )


def test_replay_wants_the_table_of_the_run(place, capsys):
    out = place / "out"
    record = json.loads((out / "run.json").read_text())
    record["data"]["file"] = str(place / "small.csv")
    forge(out, "run.json", json.dumps(record).encode())
    table().iloc[::-1].to_csv(place / "small.csv", index=False)
    assert main(["replay", str(out)]) == 1
    assert "is not the table of this run: SHA-256" in unfolded(capsys.readouterr().err)
    (place / "small.csv").unlink()
    assert main(["replay", str(out)]) == 0
    assert "the table is the one stored in imputations.nc" in unfolded(capsys.readouterr().out)
    forge(out, "run.json", json.dumps(record | {"status": "interrupted"}).encode())
    assert main(["replay", str(out)]) == 1
    assert "not interrupted" in unfolded(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("then", "now", "count", "absolute", "relative"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], 0, 0, 0),
        ([0.0], [-0.0], 1, 0, 0),
        ([2.0, 1.0], [2.0, np.nextafter(1.0, 2)], 1, 2.0**-52, 2.0**-52),
        ([-4.0, 8.0], [-5.0, 8.0], 1, 1, 0.25),
        ([1.0], [np.nan], 1, np.inf, np.inf),
        ([0.0], [1.0], 1, 1, np.inf),
        ([3, 4], [3, 6], 1, 2, 0.5),
        (["a", "b"], ["a", "c"], 1, np.inf, np.inf),
    ],
)
def test_bit_by_bit(then, now, count, absolute, relative):
    found = compare_arrays("x", then, now)
    assert (found.count, found.absolute, found.relative) == (count, absolute, relative)
    assert found.equal == (count == 0) and compare_arrays("x", then, then).equal


def test_other_shapes_and_types_are_not_equal():
    assert "shape" in compare_arrays("x", [1.0], [1.0, 2.0]).fault
    assert "type" in compare_arrays("x", np.float64([1]), np.float32([1])).fault

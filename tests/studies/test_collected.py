"""Simulations run in several folders are reported as if they had been run in one."""

from dataclasses import replace

import pandas as pd
import pytest

from bayesimp.errors import DataError, SpecificationError
from bayesimp.studies import method
from bayesimp.studies.collected import collect, read_collected, write_collected
from bayesimp.studies.jolani import scenario
from bayesimp.studies.reproduce import compared
from bayesimp.studies.study import Study
from bayesimp.workflow.cli import main
from tests.unfolding import unfolded


def broken(data, seed):
    if seed % 2:
        raise ValueError("this method gives up")
    return [data.frame.fillna(0)]


METHODS = {"REF": method("REF"), "CCA": method("CCA"), "broken": broken}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """10% systematically missing in one folder, 30% in another, and both in a third."""
    scenarios = [scenario("binary", "weak", 10, share, "MAR", 300) for share in (0.1, 0.3)]
    place, out = tmp_path_factory.mktemp("results"), {}
    for name, chosen in {"first": scenarios[:1], "second": scenarios[1:], "both": scenarios}.items():
        out[name] = place / name
        out[name].mkdir()
        results = {"all": Study(chosen, METHODS, seed=5).run(3)}
        write_collected(collect(results, f"command of {name}"), out[name])
    return out


def test_two_folders_are_as_one(folders):
    apart = read_collected([folders["first"], folders["second"]])
    together = read_collected([folders["both"]])
    pd.testing.assert_frame_equal(apart.summary, together.summary)
    order = ["run", "method", "kind"]
    mine, theirs = (each.events.sort_values(order, ignore_index=True) for each in (apart, together))
    pd.testing.assert_frame_equal(mine, theirs)
    left_out = ["cpu", "made_by"]
    pd.testing.assert_frame_equal(apart.runs.drop(columns=left_out), together.runs.drop(columns=left_out))
    assert apart.runs["made_by"].tolist() == ["command of first; command of second"]
    counts = apart.runs.iloc[0]
    assert (counts["scenarios"], counts["data_sets"], counts["units"]) == (2, 6, 18)
    assert 0 < counts["failed"] < 6 and counts["cpu"] > 0 and counts["complete"]


def test_numbers_and_claims_are_of_all_folders(folders):
    done = compared("jolani2025", read_collected([folders["first"], folders["second"]]))
    assert set(done.table["systematic"]) == {0.1, 0.3}
    alone = compared("jolani2025", read_collected([folders["second"]]))
    mine = done.table[done.table["systematic"] == 0.3].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone.table)
    assert done.claims["scenarios"].sum() > alone.claims["scenarios"].sum() > 0


def test_the_command_puts_folders_together(folders, tmp_path, capsys):
    options = ["--from", str(folders["first"]), str(folders["second"]), "--out", str(tmp_path / "out")]
    assert main(["reproduce", "jolani2025", *options]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Run by `command of first; command of second`." in text
    assert "binary, weak, n = 10, 10% systematically missing" in text and "30% systematically" in text
    again = read_collected([tmp_path / "out"])
    pd.testing.assert_frame_equal(again.summary, read_collected([folders["both"]]).summary)
    capsys.readouterr()
    assert main(["reproduce", "jolani2025", *options, "--replicates", "5", "--workers", "2"]) == 1
    assert "--replicates, --workers would have no effect" in unfolded(capsys.readouterr().err)


def test_what_cannot_be_put_together(folders, tmp_path):
    with pytest.raises(DataError, match=r"Both .*first and .*both have results of REF in 'binary, weak"):
        read_collected([folders["first"], folders["both"]])
    with pytest.raises(DataError, match=r"has no results of .*summary\.parquet, runs\.csv, events\.csv are"):
        read_collected([tmp_path])
    with pytest.raises(SpecificationError, match="not results of the simulations of kunkel2017"):
        compared("kunkel2017", read_collected([folders["first"]]))
    with pytest.raises(SpecificationError, match="paper is one of"):
        compared("jolani", read_collected([folders["first"]]))


def test_incomplete_simulations_are_said_to_be(folders, tmp_path, capsys):
    part = read_collected([folders["first"]])
    (tmp_path / "part").mkdir()
    write_collected(replace(part, runs=part.runs.assign(complete=False)), tmp_path / "part")
    both = [str(folders["second"]), str(tmp_path / "part")]
    assert not read_collected(both).runs["complete"].any()
    assert main(["reproduce", "jolani2025", "--from", *both, "--out", str(tmp_path / "out")]) == 0
    assert "not complete" in unfolded(capsys.readouterr().err)

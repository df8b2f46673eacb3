"""The runner: the same numbers whatever the workers and whenever it is stopped; nothing is lost or run twice."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError
from bayesimp.studies import Study, parts, study
from tests.studies import small as steps
from tests.studies.small import scenario, slow, small

ROOT = Path(__file__).parents[2]


def same(one, other) -> bool:
    """Everything except the seconds, to the last bit."""
    for a, b in (
        (one.units.drop(columns=["seconds", "cpu"]), other.units.drop(columns=["seconds", "cpu"])),
        (one.estimates, other.estimates),
        (one.events, other.events),
    ):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
    return len(one.units) > 0


@pytest.fixture(scope="module")
def uninterrupted():
    return small(slow=slow).run(6)


def test_a_killed_study_goes_on_bit_for_bit(tmp_path, uninterrupted):
    """Killed twice without warning while it writes, then finished: it gives the table of an uninterrupted run."""
    seen = 0
    for _ in range(2):
        run = subprocess.Popen(
            [sys.executable, "-m", "tests.studies.small", str(tmp_path), "6"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        began = time.monotonic()
        while len(list((tmp_path / "parts").glob("*.parquet"))) <= seen + 1 and time.monotonic() - began < 60:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        seen = len(list((tmp_path / "parts").glob("*.parquet")))
    there = len(bi.studies.read(tmp_path).units)
    assert 0 < there < len(uninterrupted.units)
    ended = small(slow=slow).run(6, tmp_path)
    assert ended.complete and same(ended, uninterrupted)
    assert same(bi.studies.read(tmp_path), uninterrupted)


def test_unfinished_parts_are_not_read_and_repeated_ones_count_once(tmp_path, uninterrupted):
    small(slow=slow).run(6, tmp_path)
    (first, *_) = (tmp_path / "parts").glob("*.parquet")
    pq.write_table(pq.read_table(first), tmp_path / "parts" / "again.parquet")
    (tmp_path / "parts" / "x.unfinished").write_bytes(b"half of a part")
    assert same(bi.studies.read(tmp_path), uninterrupted)
    assert same(small(slow=slow).run(6, tmp_path), uninterrupted)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_same_numbers_whatever_the_workers(backend, uninterrupted):
    with joblib.parallel_config(backend, n_jobs=2):
        assert same(small(slow=slow).run(6), uninterrupted)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_backend_that_returns_everything_at_its_end(uninterrupted):
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        assert same(small(slow=slow).run(6), uninterrupted)


def test_numbers_depend_neither_on_other_scenarios_nor_on_other_methods(uninterrupted):
    alone = Study([scenario("many", 3)], {"joint": small().methods["joint"]}, seed=11).run(6)
    both = uninterrupted.estimates.query("scenario == 'many' and method == 'joint'").reset_index(drop=True)
    assert alone.estimates.equals(both)


def test_results_are_in_the_order_of_the_study(uninterrupted):
    units = uninterrupted.units
    assert units["method"].tolist() == ["REF", "joint", "ML", "broken", "slow"] * 12
    assert units["replicate"].tolist() == np.repeat(list(range(6)) * 2, 5).tolist()


def test_more_replicates_and_methods_are_added(tmp_path, uninterrupted):
    small().run(2, tmp_path)
    added = small(slow=slow).run(6, tmp_path)
    assert added.complete and same(added, uninterrupted)
    assert not small(slow=slow).run(7, minutes=0).complete


def test_interrupted_by_hand_keeps_what_there_is(tmp_path, monkeypatch, uninterrupted):
    calls = iter(range(100))

    def third(*args):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return run_replicate(*args)

    run_replicate = study.run_replicate
    monkeypatch.setattr(study, "run_replicate", third)
    first = small(slow=slow).run(6, tmp_path)
    assert not first.complete and len(first.units) == 3 * 5
    monkeypatch.undo()
    assert same(small(slow=slow).run(6, tmp_path), uninterrupted)


def test_failures_and_events_belong_to_the_result(uninterrupted):
    failures = uninterrupted.failures
    assert 0 < len(failures) < 12 and set(failures["method"]) == {"broken"}
    assert failures["error"].unique().tolist() == ["imputing: ValueError: this method gives up"]
    assert "singular estimate" in set(uninterrupted.event_counts()["kind"])
    per_method = uninterrupted.summary().groupby("method")["failed"].max()
    assert per_method["joint"] == 0 and per_method["broken"] > 0


def test_failed_methods_are_tried_again_only_if_asked_to(tmp_path, monkeypatch):
    first = small().run(3, tmp_path)
    assert len(first.failures)
    monkeypatch.setattr(steps, "MENDED", True)
    assert len(small().run(3, tmp_path).failures) == len(first.failures)
    again = small().run(3, tmp_path, retry_failed=True)
    assert again.complete and not len(again.failures) and len(again.units) == len(first.units)


def test_warnings_become_events():
    def doubtful(data, seed):
        import warnings

        warnings.warn("in doubt", bi.StatisticalWarning, stacklevel=1)
        return [data.frame.fillna(0.0)]

    events = Study([scenario("few", 1)], {"doubtful": doubtful}).run(1).events
    assert (events["kind"] + events["where"] + events["message"]).tolist() == [
        "warningStatisticalWarningin doubt"
    ]


def test_data_that_cannot_be_made_are_a_failure_of_every_method():
    bad = scenario("few", 6)  # all six clusters would lack y1
    result = Study([bad], ["REF", "CCA"]).run(2)
    assert len(result.failures) == 4
    assert result.failures["error"].str.startswith("making the data: SpecificationError").all()


def test_another_study_in_the_same_folder_is_refused(tmp_path):
    small().run(1, tmp_path)
    other = Study([scenario("few", 2)], small().methods, seed=12)
    with pytest.raises(SpecificationError, match="seed, scenario 'few' differ"):
        other.run(1, tmp_path)
    with pytest.raises(SpecificationError, match="method 'joint' differ"):
        small(joint=bi.studies.method("joint", formula="y1 ~ y2 + (1 | study)", m=5)).run(1, tmp_path)
    (tmp_path / "study.json").unlink()
    with pytest.raises(DataError, match=r"no study\.json"):
        small().run(1, tmp_path)


def test_seeds_of_steps_and_methods_differ():
    from bayesimp.studies.units import seed_of

    seeds = [
        seed_of(1, s, k, step, m) for s in "ab" for k in range(3) for step in (0, 1, 2) for m in (None, "x")
    ]
    assert len(set(seeds)) == len(seeds) and seed_of(2, "a", 0, 0) not in seeds
    assert all(0 <= s < 2**63 for s in seeds)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Study([], ["REF"]), "at least one"), (lambda: Study([scenario("a", 1)] * 2, ["REF"]), "different names"),
        (lambda: Study([scenario("a", 1)], "REF"), "list of names"), (lambda: bi.studies.method("MLM"), "MLMI"),
        (lambda: bi.studies.method("REF", m=5), "no options"),
        (lambda: bi.studies.method("MLMI", n=5), "no argument 'n'; possible: .*'cycles'"),
        (lambda: small().run(0), "replicates"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_study_is_refused(make, match):
    with pytest.raises(SpecificationError, match=match):
        make()


def test_complete_cases_are_complete_in_the_analysis_only():
    case = bi.studies.records.Case.make(scenario("few", 2), 1, 2)
    (table,) = bi.studies.method("CCA").tables(case)
    assert len(table) == case.holed["y1"].notna().sum() < len(case.complete)
    holed = case.holed.assign(other=np.nan)
    (wider,) = bi.studies.method("CCA").tables(
        bi.studies.records.Case(case.scenario, case.complete, holed, None)
    )
    assert len(wider) == len(table)


def test_parts_have_the_columns_of_an_estimate():
    assert parts.SCHEMA.field("estimates").type.value_type.num_fields == len(bi.studies.Estimate._fields)

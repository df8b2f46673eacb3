"""Distinct rows from every source, completed tables part by part, what is refused, and memory."""

import json
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning
from bayesimp.partitioned import distinct
from tests.partitioned.test_partitioned_fcs import (
    FAMILIES,
    INCOMPLETE,
    SHORT,
    VARIABLES,
    completed,
    partitioned,
    simulated,
    written,
)


@pytest.fixture(scope="module")
def frame():
    return simulated(300, 6)


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    return written(frame, tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def run(folder):
    return partitioned(folder, None).impute(**SHORT)


def imputed(source, **options):
    model = bi.PartitionedFCS(bi.PartitionedData(source, "g"), VARIABLES, **{"families": FAMILIES, **options})
    return model.impute(**SHORT)


def values(run):
    return completed(run)[list(INCOMPLETE)].reset_index(drop=True).astype({"smokes": float})


# sources --------------------------------------------------------------------------------------------


def test_tables_depend_neither_on_partitions_nor_on_what_reads_them(frame, folder, run, tmp_path):
    """The same values from one file, from DuckDB, which counts by itself, and from Dask; not in another order of rows."""
    one = written(frame, tmp_path / "one", 1)
    pd.testing.assert_frame_equal(values(imputed(one)), values(run))
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    nan = "case when visits is null then 'nan'::double else visits end as visits"
    query = f"select * replace ({nan}) from '{one}/*.parquet'"
    by_sql = imputed(duckdb.sql(query))
    np.testing.assert_array_equal(by_sql.model.distinct.frequency, run.model.distinct.frequency)
    pd.testing.assert_frame_equal(values(by_sql), values(run))
    dd = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    import dask

    with dask.config.set(scheduler="synchronous"):
        pd.testing.assert_frame_equal(values(imputed(dd.read_parquet(folder))), values(run))
    other = imputed(written(frame[::-1], tmp_path / "other"))
    back = values(other)[::-1].reset_index(drop=True)
    np.testing.assert_array_equal(other.history.mean, run.history.mean)
    assert not back.equals(values(run))


def test_the_number_of_workers_does_not_matter(run):
    for options in ({"workers": 2}, {"executor": "serial"}, {"executor": "joblib"}):
        with joblib.parallel_config("threading", n_jobs=2):
            again = run.model.impute(**SHORT, **options)
        np.testing.assert_array_equal(again.history.mean, run.history.mean)
        assert all((a.n == b.n).all() for a, b in zip(again.cells, run.cells, strict=True))


def test_the_cost_of_a_cycle_is_that_of_distinct_rows(frame, folder, run, tmp_path):
    """Ten times the rows: as many cells, and sums that are ten times as large."""
    many = written(pd.concat([frame] * 10), tmp_path / "many")
    model = partitioned(many, None)
    np.testing.assert_array_equal(model.distinct.frequency, 10 * run.model.distinct.frequency)
    mine, theirs = (
        block.rows(each.counts, each.counts.cells)
        for each in (model, run.model)
        for block in each.counts.blocks[:1]
    )
    assert len(mine.y) == len(theirs.y) < 0.6 * len(frame)
    np.testing.assert_allclose(mine.trials, 10 * theirs.trials)
    assert "3,000 rows in 3 partitions and 6 clusters, as" in str(model)


def test_types_and_levels(frame, tmp_path):
    """Categories keep their order and become values; whole numbers, truth values and text keep their types."""
    ill = pd.Categorical(frame["ill"], ["yes", "no"])
    table = frame.assign(ill=ill, visits=frame["visits"].astype("Int32"))
    done = imputed(written(table, tmp_path / "t"))
    path = done.export(tmp_path / "out")
    schema = ds.dataset(path / "imp_m=1").schema
    assert schema.field("visits").type == pa.int32() and schema.field("smokes").type == pa.bool_()
    assert done.events[["kind", "where"]].to_numpy().tolist() == [["dtype changed", "ill"]]
    assert done.model.table.levels("ill") == ("yes", "no") and schema.field("ill").type == pa.string()
    assert "smokes ~ 1 + sex[m] + age + ill[no] + visits + (1 | g)" in str(done.model)
    long = pd.read_parquet(path).astype({"imp_m": int})
    for k in (1, 2):
        made, own = long[long["imp_m"] == k].set_index("imp_id"), completed(done, k - 1)
        for name in own:
            np.testing.assert_array_equal(made[name], own[name])
        assert not made[list(INCOMPLETE)].isna().any().any()
    assert (
        long.loc[long["imp_m"] == 0, "visits"].isna().to_numpy() == frame["visits"].isna().to_numpy()
    ).all()


def test_summary_and_tree(run):
    with pytest.warns(StatisticalWarning, match=r"Ask for more cycles \(cycles=\)"):
        made = run.summary()
    assert "mean[visits]" in made.imputed.index and "beta_ill[age]" in made.parameters.index
    beta, names = run.tree["posterior"]["beta_visits"], ["Intercept", "sex[m]", "age", "smokes", "ill[yes]"]
    assert beta.shape == (2, 2, 5) and beta["fixed_visits"].values.tolist() == names
    assert run.tree.attrs["rows"] == 300 and run.tree.attrs["distinct_rows"] == len(
        run.model.distinct.frequency
    )


# refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, message", [
    ({"variables": ["sex", "wrong"]}, "variables: 'wrong' is not a column of the table"),
    ({"variables": ["sex", "g"]}, "variables: 'g' is the cluster column"),
    ({"variables": "sex"}, r"variables is a list of names: variables=\['sex'\]"),
    ({"variables": ["sex", "age"], "families": {}}, "Nothing is missing in 'sex', 'age'"),
    ({"families": {}}, r"'visits' is incomplete and normal.*families=\{'visits': 'poisson'\}.*PartitionedNormal"),
    ({"families": {"visits": "negative_binomial"}}, r"'visits' is incomplete and negative_binomial.*bi.FCS"),
    ({"predictors": {"ill": "~ scale(age) + (1 | g)"}}, "functions of several rows"),
    ({"predictors": {"ill": "~ cluster_mean(visits) + (1 | g)"}}, "functions of several rows"),
])  # fmt: skip
def test_models_that_are_refused(folder, options, message):
    options = {"variables": VARIABLES, "families": FAMILIES} | options
    with pytest.raises(SpecificationError, match=message):
        bi.PartitionedFCS(bi.IncompleteData.from_parquet(folder, "g"), **options)


@pytest.mark.parametrize("change, message", [
    (lambda f: f.assign(g=f["g"].where(f.index != 7)), "cluster id 'g' is missing in 1 of 300 rows"),
    (lambda f: f[:0], "has no rows"),
    (lambda f: f.assign(age=np.arange(300.0)), r"300 or more rows .* at most 250 are kept.*'age' has 300 values"),
    (lambda f: f.assign(visits=-f["visits"]), "'visits'"),
])  # fmt: skip
def test_tables_that_are_refused(frame, tmp_path, monkeypatch, change, message):
    if "at most" in message:
        monkeypatch.setattr(distinct, "MOST", 250)
    change(frame).to_parquet(tmp_path / "t.parquet", index=False)
    with pytest.raises(DataError, match=message):
        partitioned(tmp_path / "t.parquet", None)


def test_more_combinations_than_numbers_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    wide = pd.DataFrame(rng.integers(0, 50, (60, 12)), columns=[f"x{k}" for k in range(12)])
    wide.assign(g=wide.index % 3, y=np.nan).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(
        DataError, match=r"combinations of values, more than can be numbered.*'x\d+' has \d+ values"
    ):
        bi.PartitionedFCS(bi.IncompleteData.from_parquet(tmp_path / "t.parquet", "g"))


def test_other_objects_and_types_are_refused(frame, folder, tmp_path):
    with pytest.raises(SpecificationError, match="PartitionedFCS takes PartitionedData, got DataFrame"):
        bi.PartitionedFCS(frame)
    frame.assign(day=pd.Timestamp("2020-02-01")).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SpecificationError, match=r"'day' is of type timestamp.*Leave it out \(variables=\)"):
        bi.PartitionedFCS(bi.IncompleteData.from_parquet(tmp_path / "t.parquet", "g"))


def test_a_table_that_changes_between_the_passes_is_refused(frame, tmp_path):
    """Nothing is written."""
    for message, change in {
        "row 200 is none of those that were there": lambda f: f.assign(age=7),
        "more rows of some kind": lambda f: f.assign(**f.iloc[int(f["ill"].isna().argmax())].to_dict()),
        "299 rows now, and had 300": lambda f: f.iloc[:-1],
    }.items():
        place = written(frame, tmp_path / message[:5].strip())
        done = partitioned(place, None).impute(**SHORT)
        change(frame.iloc[200:]).to_parquet(place / "part-2.parquet", index=False)
        with pytest.raises(DataError, match=message):
            done.export(tmp_path / "out")
        assert not list(tmp_path.glob("*out*"))


# memory ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_a_table_of_counts_larger_than_the_memory_allowed(tmp_path):
    """600,000 rows with 100 MB of data above a small run, in a process of its own, which the kernel enforces
    (RLIMIT_DATA): a run that ends is the assertion. With 60 it ends too; in memory 100 are not enough."""
    from benchmarks import larger_than_memory as bench

    table, small, out = (tmp_path / name for name in ("table", "small", "out"))
    for each in (table, small, out):
        each.mkdir()
    bench.write_counts(table, 600_000)
    bench.write_counts(small, 5_000)

    def child(what):
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import json\n"
            "from benchmarks import larger_than_memory as bench; bench.ALLOWED = 100\n"
            f"print(json.dumps(bench.{what}(*map(Path, sys.argv[2:]))))"
        )
        root = Path(bi.__file__).parents[1]
        command = [sys.executable, "-c", code, *map(str, (root, table, small, out))]
        done = subprocess.run(command, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": done.stderr}

    made = child("counted")
    assert made.get("rows") == 600_000, made
    assert child("counted_in_memory") != {"enough": True}
    assert ds.dataset(out / "completed", partitioning="hive").count_rows() == 3 * 600_000

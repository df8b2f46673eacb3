"""Where rows come from, cross products in SQL, what is refused, and memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError
from bayesimp.partitioned import passes, sql
from tests.federated.tables import FORMULA, LEVELS, pooled

OPTIONS = {"m": 2, "seed": 3, "draws": 10, "chains": 1, "tune": 5, "progress": False}
PRODUCTS = "y + z ~ x * arm + (1 | g)"


@pytest.fixture(scope="module")
def frame():
    return pooled(rows=60).drop(columns="site").sample(frac=1, random_state=2).reset_index(drop=True)


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    made = tmp_path_factory.mktemp("table")
    for k in range(3):
        frame.iloc[320 * k : 320 * (k + 1)].to_parquet(made / f"part-{k}.parquet", index=False)
    return made


def imputed(source, formula=FORMULA, cluster="g", **options):
    """The largest of the draws' differences is looked for in these, and in the first completed table."""
    done = bi.PartitionedNormal(bi.PartitionedData(source, cluster), formula, **options).impute(**OPTIONS)
    return done, pd.concat(done.frames(0))


def same(source, folder, formula=FORMULA, rtol=1e-9):
    """The run, whose draws and completed table are those of the files."""
    (mine, table), (theirs, other) = imputed(source, formula), imputed(folder, formula)
    np.testing.assert_allclose(mine.draws.beta, theirs.draws.beta, rtol=rtol, atol=rtol)
    pd.testing.assert_frame_equal(table[["y", "z"]], other[["y", "z"]], rtol=rtol)
    return mine


# sources --------------------------------------------------------------------------------------------


def test_paths_and_datasets(folder):
    files = sorted(folder.iterdir())
    for source in (str(folder), files, [str(file) for file in files], ds.dataset(folder)):
        same(source, folder, rtol=1e-15)
    assert bi.PartitionedData(files[:2], "g").parts == 2
    assert "3 partitions, clusters 'g'; columns 'g', 'x'" in str(bi.IncompleteData.from_parquet(folder, "g"))


def test_clusters_may_be_the_names_of_folders(frame, tmp_path, folder):
    """As Hive and Spark write them: study=3/part.parquet."""
    frame.to_parquet(tmp_path / "hive", partition_cols=["g"], index=False)
    done, table = imputed(tmp_path / "hive")
    assert done.model.data.parts == 16 and sorted(done.model.moments.codes) == list(range(16))
    theirs, _ = imputed(folder)
    np.testing.assert_allclose(done.draws.beta, theirs.draws.beta, rtol=1e-9, atol=1e-9)
    assert sorted(table["g"].astype(int).unique()) == list(range(16))
    out = pd.read_parquet(done.export(tmp_path / "out"))
    assert (
        len(out) == 3 * len(frame) and out.loc[out["imp_m"].astype(int) > 0, ["y", "z"]].notna().all().all()
    )


def test_a_dask_table_gives_the_same_bits(folder):
    dd = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    import dask

    with dask.config.set(scheduler="synchronous"):
        run = same(dd.read_parquet(folder), folder, rtol=0)
    assert run.model.data.parts == 3


def test_types_and_categories(frame, tmp_path):
    """Categories keep their order; narrow numbers and a text column that the model does not use."""
    arm = pd.Categorical(frame["arm"], ["low", "never", "control", "high"])
    table = frame.assign(arm=arm, y=frame["y"].astype("float32"), day=pd.Timestamp("2020-02-01"))
    table.to_parquet(tmp_path / "t.parquet", index=False)
    done, made = imputed(tmp_path / "t.parquet")
    whole = bi.JointNormal(bi.IncompleteData(table, "g"), FORMULA).impute(**OPTIONS)
    assert done.names[1] == whole.run.model.design.fixed == ("Intercept", "x", "arm[control]", "arm[high]")
    np.testing.assert_allclose(done.draws.beta, whole.run.draws.beta, rtol=1e-7, atol=1e-7)
    assert made["y"].dtype == np.float32 and made["day"].eq(table["day"]).all()
    levels = {"arm": ["high", "control", "low"]}
    assert imputed(tmp_path / "t.parquet", levels=levels)[0].names[1][2:] == ("arm[control]", "arm[low]")


def test_numbers_as_levels(frame, tmp_path):
    table = frame.assign(grade=frame.index % 3 + 9)
    table.to_parquet(tmp_path / "t.parquet", index=False)
    formula = "y + z ~ C(grade) + (1 | g)"
    done, _ = imputed(tmp_path / "t.parquet", formula)
    whole = bi.JointNormal(bi.IncompleteData(table, "g"), formula).impute(**OPTIONS)
    assert done.names[1] == whole.run.model.design.fixed
    np.testing.assert_allclose(done.draws.beta, whole.run.draws.beta, rtol=1e-8, atol=1e-8)


# SQL ------------------------------------------------------------------------------------------------


@pytest.fixture
def duckdb():
    return pytest.importorskip("duckdb", reason="duckdb is not installed")


@pytest.mark.parametrize("formula", [FORMULA, PRODUCTS, "y + z ~ 0 + x + (0 + x | g)"])
def test_cross_products_in_sql_are_those_of_rows(duckdb, folder, formula, monkeypatch):
    """No row is read but the first batch, and those of the levels."""
    run = same(duckdb.sql(f"from '{folder}/*.parquet'"), folder, formula)
    monkeypatch.setattr(passes, "_passes", None)
    again = bi.PartitionedNormal(bi.PartitionedData(duckdb.sql(f"from '{folder}/*.parquet'"), "g"), formula)
    np.testing.assert_allclose(again.working.statistics.gram, run.working.statistics.gram, atol=1e-9)
    real = sql._statement
    monkeypatch.setattr(sql, "_statement", lambda *given: real(*given).replace("sum(d0) as", "2.5 as"))
    wrong = bi.PartitionedNormal(bi.PartitionedData(duckdb.sql(f"from '{folder}/*.parquet'"), "g"), formula)
    gap = np.abs(wrong.working.statistics.gram - run.working.statistics.gram).max()
    assert gap > 1e-3


def test_what_sql_does_not_do_is_read_row_by_row(duckdb, frame, folder, tmp_path):
    """Functions, names with marks; NaN and NULL; values that cannot be used, with the rows in the message."""
    relation = duckdb.sql(f"from '{folder}/*.parquet'")
    for formula in ("y + z ~ exp(x) + (1 | g)", "y + z ~ C(arm) + (1 | g)"):
        same(relation, folder, formula)
    odd = frame.rename(columns={"x": 'x "of" a:b'})
    odd.to_parquet(tmp_path / "odd.parquet", index=False)
    quoted, _ = imputed(duckdb.sql(f"from '{tmp_path}/odd.parquet'"), 'y + z ~ `x "of" a:b` + (1 | g)')
    plain, _ = imputed(folder, "y + z ~ x + (1 | g)")
    np.testing.assert_allclose(quoted.draws.beta, plain.draws.beta, rtol=1e-9, atol=1e-9)
    same(duckdb.sql(f"select * replace (coalesce(y, 'nan'::double) as y) from '{folder}/*.parquet'"), folder)
    bad = duckdb.sql(
        f"select * replace (case when x > 2 then null else x end as x) from '{folder}/*.parquet'"
    )
    with pytest.raises(
        DataError,
        match=r"rows 0 to 319 of the table, and perhaps later: Covariate 'x' is missing in \d+ of 320 rows",
    ):
        imputed(bad)


def test_an_ibis_table_of_duckdb(folder):
    ibis = pytest.importorskip("ibis", reason="ibis-framework is not installed")
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    table = ibis.duckdb.connect().read_parquet(f"{folder}/*.parquet")
    same(table.filter(table.g >= 0), folder)


# refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula, message", [
    ("y + z ~ scale(x) + (1 | g)", "functions of several rows .* Make these columns in the table first"),
    ("y + z ~ cluster_mean(x) + (1 | g)", "functions of several rows"),
    ("y + z ~ x + (1 | arm)", r"whose group is its cluster column, '\(1 \| g\)'"),
    ("y + z ~ x + (1 | g) + (1 | arm)", "has one random part"),
    ("y + w ~ x + (1 | g)", "the table has no column 'w'"),
    ("y + arm ~ x + (1 | g)", "'arm' is of type .*string.*bi.FCS"),
])  # fmt: skip
def test_formulas_that_are_refused(folder, formula, message):
    with pytest.raises(SpecificationError, match=message):
        bi.PartitionedNormal(bi.IncompleteData.from_parquet(folder, "g"), formula)


@pytest.mark.parametrize("change, kind, message", [
    (lambda f: f.assign(y=(f["y"] > 0) * 1), SpecificationError, "'y' has two values only, 0 and 1, in 960 rows"),
    (lambda f: f.assign(y=f["g"] % 3 + 0.5), DataError, "'y' has a single value in each of the 16 clusters"),
    (lambda f: f.assign(y=np.nan), DataError, "No value of 'y' is observed in any of 960 rows and 16 clusters"),
    (lambda f: f.assign(y=1.5), DataError, "'y' has 960 observed values in all tables together, and they do not vary"),
    (lambda f: f.assign(y=f["y"].where(f["g"] == 2)), DataError, "'y' is observed in only 1 of 16 clusters"),
    (lambda f: f.assign(g=1), DataError, r"'g' has only one cluster, '?1'? \(960 rows\)"),
    (lambda f: f.assign(g=f["g"].where(f.index != 7)), DataError, "cluster id 'g' is missing in 1 of 100 rows"),
    (lambda f: f.assign(x=f["x"].where(f.index != 900)), DataError, "Covariate 'x' is missing in 1 of 60 rows.*900"),
    (lambda f: f.assign(y=f["y"].where(f.index != 900, np.inf)), DataError, "infinite.*900"),
    (lambda f: f.assign(arm="low"), DataError, r"Covariate 'arm' has one level \('low'\) in all rows"),
    (lambda f: f.assign(arm=f.index.astype(str) + "a")[:1_001], DataError, "more than 3 levels"),
    (lambda f: f.assign(x=0.0), SpecificationError, "Columns of X are combinations of each other"),
])  # fmt: skip
def test_tables_that_are_refused(frame, tmp_path, change, kind, message, monkeypatch):
    if "levels" in message:
        monkeypatch.setattr(passes, "MOST_LEVELS", 3)
    monkeypatch.setattr("bayesimp.table.sources.BATCH", 100)
    change(frame).to_parquet(tmp_path / "t.parquet", index=False)
    with pytest.raises(kind, match=message):
        bi.PartitionedNormal(bi.IncompleteData.from_parquet(tmp_path / "t.parquet", "g"), FORMULA)


def test_sources_that_are_refused(frame, tmp_path, folder):
    with pytest.raises(DataError, match=r"DataFrame is not a table in partitions.* bi.IncompleteData"):
        bi.PartitionedData(frame, "g")
    with pytest.raises(SpecificationError, match="There is no file or folder"):
        bi.IncompleteData.from_parquet(tmp_path / "lost", "g")
    with pytest.raises(SpecificationError, match="no column 'h' for the clusters"):
        bi.IncompleteData.from_parquet(folder, "h")
    with pytest.raises(SpecificationError, match="cluster is the name of one column"):
        bi.IncompleteData.from_parquet(folder, ["g", "x"])
    (tmp_path / "text.parquet").write_text("g,y\n1,2\n")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        bi.IncompleteData.from_parquet(tmp_path / "text.parquet", "g")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="has no Parquet files"):
        bi.IncompleteData.from_parquet(tmp_path / "nothing", "g")
    data = bi.IncompleteData.from_parquet(folder, "g")
    with pytest.raises(SpecificationError, match="PartitionedNormal takes PartitionedData, got DataFrame"):
        bi.PartitionedNormal(frame, FORMULA)
    with pytest.raises(SpecificationError, match="JointNormal"):
        bi.JointNormal(data, FORMULA)
    with pytest.raises(
        SpecificationError, match="not conditionally conjugate, but a table in partitions is imputed"
    ):
        bi.PartitionedNormal(data, FORMULA, bi.priors.Priors(Psi=bi.priors.LKJ()))
    with pytest.raises(DataError, match="levels outside the agreement, 'low'"):
        bi.PartitionedNormal(data, FORMULA, levels={"arm": LEVELS["arm"][::2]})


# memory ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_a_table_larger_than_the_memory_allowed(tmp_path):
    """600,000 rows with 100 MB of data above a small run, in a process of its own; in memory the table does not fit.

    The kernel refuses more (RLIMIT_DATA), so a run that ends is the assertion: with 40 it ends too, and the table in
    memory needs more than 150. Resident memory is not asserted: it counts pages that the small run gave back, by
    allocator and number of threads. Five million rows in 400 MB: python -m benchmarks.larger_than_memory.
    """
    from benchmarks import larger_than_memory as bench

    root = Path(bi.__file__).parents[1]
    table, small, out = (tmp_path / name for name in ("table", "small", "out"))
    for each in (table, small, out):
        each.mkdir()
    bench.write(table, 600_000)
    bench.write(small, 5_000)

    def child(what):
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import json\n"
            "from benchmarks import larger_than_memory as bench; bench.ALLOWED = 100\n"
            f"print(json.dumps(bench.{what}(*map(Path, sys.argv[2:]))))"
        )
        command = [sys.executable, "-c", code, *map(str, (root, table, small, out))]
        done = subprocess.run(command, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": done.stderr}

    made = child("partitioned")
    assert made.get("rows") == 600_000, made
    assert child("in_memory") != {"enough": True}
    assert pa.dataset.dataset(out / "completed", partitioning="hive").count_rows() == 3 * 600_000

"""Tables to and from other software: what is exported is read back, against mice's long format and pooled numbers, and
against Stata's and SPSS's formats; what a format cannot represent is refused with advice."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from bayesimp.errors import DataError, SpecificationError
from bayesimp.imputation.imported import ImportedImputations
from tests.unfolding import unfolded

REFERENCE = Path(__file__).parent / "reference" / "exchange"
ROOT = Path(__file__).parents[1]
GRADES = ("low", "mid", "high")
MICE = {"types": {"grade": GRADES, "kind": pd.CategoricalDtype(["c", "a", "b"])}}
# names of columns, what each holds: incomplete and complete ones of every kind
FILLED = ("number", "whole", "flag", "text", "kind", "grade")


def from_mice(**options):
    return bi.read_imputations(REFERENCE / "mice_long.csv", "clinic", **(MICE | options))


def tables(m=2, n=40):
    """(incomplete table, completed tables), made without any model."""
    rng = np.random.default_rng(6)
    pick = lambda *values: np.array(values, dtype=object)[rng.integers(0, len(values), n)]  # noqa: E731
    whole = {
        "clinic": pd.Series([f"Köln {k % 4}" for k in range(n)]),
        "number": pd.Series(rng.normal(size=n)), "whole": pd.Series(rng.integers(-3, 9, n)).astype("Int64"),
        "flag": pd.Series(pick(True, False)).astype("boolean"), "text": pd.Series(pick("ä b", "c'd\"", "e,f")),
        "kind": pd.Series(pd.Categorical(pick("z", "y", "x"), ["z", "x", "y"])),
        "grade": pd.Series(pd.Categorical(pick(*GRADES), GRADES, ordered=True)),
        "when": pd.Series(pd.date_range("2024-02-28", periods=n, freq="D")), "count": pd.Series(np.arange(n) + 2**33),
        "yes": pd.Series(pick(True, False).astype(bool)),
    }  # fmt: skip
    completed = [pd.DataFrame(whole) for _ in range(m)]
    original = pd.DataFrame(whole)
    for name in FILLED:
        missing = rng.permutation(n)[:7]
        original[name] = original[name].mask(np.isin(np.arange(n), missing))
        for table in completed:
            other = table[name].sample(n, replace=True, random_state=int(rng.integers(1e6))).array
            values = table[name].array.copy()
            values[missing] = other[missing]
            table[name] = pd.Series(values, index=table.index)
    return original, completed


@cache
def read_in():
    original, completed = tables()
    return bi.read_imputations(completed, "clinic", {"whole": "normal"}, original=original)


def test_a_list_of_tables_is_read_cell_by_cell():
    original, completed = tables()
    imp = read_in()
    assert imp.m == 2 and set(imp.imputed_columns) == set(FILLED)
    for k, table in enumerate(completed):
        pd.testing.assert_frame_equal(imp.frame(k), table, check_dtype=False)
    np.testing.assert_array_equal(imp.rows("text"), np.flatnonzero(original["text"].isna()))
    assert [dtype.kind for dtype in imp.frame(0).dtypes[["flag", "yes"]]] == ["b", "b"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "dta", "sav"])
def test_what_is_exported_is_read_back(ending, tmp_path):
    if ending == "sav":
        pytest.importorskip("pyreadstat", reason="the extra spss is not installed")
    imp = read_in()
    types = None
    if ending == "csv":
        types = {"grade": GRADES, "kind": pd.CategoricalDtype(["z", "x", "y"]), "flag": "boolean"}
    back = bi.read_imputations(
        imp.export(tmp_path / f"t.{ending}"), "clinic", {"whole": "normal"}, types=types
    )
    for k in range(imp.m):
        ours, theirs = imp.frame(k), back.frame(k)
        assert list(theirs) == list(ours)
        for name in ours:
            a, b = ours[name], theirs[name]
            if name in ("flag", "yes") and ending in ("dta", "sav"):  # labels of numbers in these formats
                a = a.map({True: "true", False: "false"})
            if name == "when" and ending == "csv":
                a = a.dt.strftime("%Y-%m-%d")
            if pd.api.types.is_numeric_dtype(a.dtype) and name not in ("flag", "yes"):
                np.testing.assert_allclose(b.astype(float), a.astype(float), rtol=1e-12)
            else:
                assert list(a.astype(object)) == list(b.astype(object)), name
    missing = {name: int(back.data.frame[name].isna().sum()) for name in FILLED}
    assert missing == dict.fromkeys(FILLED, 7)
    kind, grade = (back.data.frame[name].dtype for name in ("kind", "grade"))
    assert list(kind.categories) == ["z", "x", "y"] and list(grade.categories) == list(GRADES)
    assert not kind.ordered and grade.ordered == (ending != "dta")  # which Stata's labels do not record


def test_parquet_in_parts_by_imputation(tmp_path):
    imp = read_in()
    folder = imp.export(tmp_path / "t.parquet", partitioned=True)
    assert sorted(path.name for path in folder.iterdir()) == ["imp_m=0", "imp_m=1", "imp_m=2"]
    (part,) = (folder / "imp_m=2").iterdir()
    np.testing.assert_array_equal(pd.read_parquet(part)["number"], imp.frame(1)["number"])
    back = bi.read_imputations(folder, "clinic")
    np.testing.assert_array_equal(back.values("grade"), imp.values("grade"))
    with pytest.raises(SpecificationError, match=r"partitioned=True is for .parquet"):
        imp.export(tmp_path / "t.csv", partitioned=True)


def test_the_stata_file_is_what_mi_import_flong_takes(tmp_path):
    """Stata's manual: m() holds 0, 1, .., M, id() identifies rows within m(); imputed variables are numbers."""
    imp = read_in()
    imp.export(tmp_path / "t.dta")
    with pd.io.stata.StataReader(tmp_path / "t.dta", convert_categoricals=False) as reader:
        raw, labels = reader.read(), reader.value_labels()
    n = len(imp.data)
    np.testing.assert_array_equal(raw["imp_m"], np.repeat([0, 1, 2], n))
    np.testing.assert_array_equal(raw["imp_id"], np.tile(np.arange(1, n + 1), 3))
    for name in FILLED:
        assert pd.api.types.is_numeric_dtype(raw[name].dtype)
        assert (
            raw.loc[raw["imp_m"] == 0, name].isna().sum() == 7
            and raw.loc[raw["imp_m"] > 0, name].notna().all()
        )
    assert labels["grade"] == dict(enumerate(GRADES)) and labels["flag"] == {0: "false", 1: "true"}
    assert labels["text"] == dict(enumerate(sorted(["ä b", "c'd\"", "e,f"])))
    # the layout that Stata saves after it
    flong = raw.rename(columns={"imp_m": "_mi_m", "imp_id": "_mi_id"})
    flong["_mi_miss"] = np.where(flong["_mi_m"] > 0, np.nan, raw[list(FILLED)].isna().any(axis=1))
    again = bi.read_imputations(flong, "clinic")
    np.testing.assert_array_equal(again.values("number"), imp.values("number"))
    mlong = flong[(flong["_mi_m"] == 0) | flong["_mi_id"].isin(flong.loc[flong["_mi_miss"] == 1, "_mi_id"])]
    with pytest.raises(DataError, match=r"table 1 does not have the rows .* mi convert flong"):
        bi.read_imputations(mlong, "clinic")


ODD = {
    "blood pressure (mm)": "blood_pressure_mm",
    "int": "int_2",
    "1st": "v_1st",
    "x" * 40: "x" * 28,
    "_mi_m": "mi_m",
}


def test_names_that_stata_does_not_take_are_refused_with_others(tmp_path):
    original, completed = tables()
    renamed = dict(zip(("number", "whole", "count", "yes", "text"), ODD, strict=True))
    imp = bi.read_imputations([t.rename(columns=renamed) for t in completed], "clinic",
                              original=original.rename(columns=renamed))  # fmt: skip
    with pytest.raises(SpecificationError) as caught:
        imp.export(tmp_path / "t.dta")
    assert "Stata does not allow the names" in str(caught.value) and not (tmp_path / "t.dta").exists()
    suggested = eval(str(caught.value).split("names=")[1].rstrip("."))  # the advice as a user would paste it
    assert set(suggested) == set(ODD) and len(set(suggested.values())) == len(ODD)
    imp.export(tmp_path / "t.dta", names=suggested)
    assert set(suggested.values()) <= set(pd.read_stata(tmp_path / "t.dta"))
    for names, message in (
        ({"nmber": "x"}, "no column 'nmber'|no column nmber"), ({"flag": "kind"}, "two columns would be called"),
    ):  # fmt: skip
        with pytest.raises(SpecificationError, match=message):
            imp.export(tmp_path / "t.csv", names=names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.assign(big=2**60), "'big' has whole numbers beyond 2\\^53"),
        (
            lambda c: c.assign(span=pd.Timedelta("1D")),
            "'span' .* is neither numeric, text, category nor date",
        ),
    ],
)
def test_columns_that_stata_does_not_hold(change, message, tmp_path):
    original, completed = tables()
    imp = bi.read_imputations([change(t) for t in completed], "clinic", original=change(original))
    with pytest.raises(DataError, match=message):
        imp.export(tmp_path / "t.dta")


def one_column(values):
    """Imputations of a table with this column, complete."""
    original, completed = tables()
    keep = ["clinic", "number"]
    add = lambda t: t[keep].assign(c=values)  # noqa: E731
    return bi.read_imputations([add(t) for t in completed], "clinic", original=add(original))


N = 40
DAYS = pd.date_range("1850-01-01", periods=N, freq="D")
NOT_STORED = {
    "SPSS cuts labels": (["sav"], pd.Categorical(["x" * 121, "y"] * (N // 2)), "1 of 2 values of more than 120 bytes"),
    "bytes, not characters": (["sav"], pd.Categorical(["ä" * 61, "y"] * (N // 2)), "1 of 2 values of more than 120"),
    "SPSS cuts texts": (["sav"], ["x" * 32_768] * N, "40|1 of 1 values of more than 32,767 bytes"),
    "SPSS drops last blanks": (["sav"], ["a ", "b"] * (N // 2), "1 of 2 values that end in a blank"),
    "labels too long together": (["dta"], pd.Categorical([f"{k:4}" * 300 for k in range(N)]), "longer than Stata's"),
    "microseconds": (["dta"], DAYS + pd.Timedelta("1us"), r"round to milliseconds \(first: 1850-01-01 00:00:00.000001"),
    "nanoseconds": (["sav"], (DAYS.astype("datetime64[ns]") + pd.Timedelta("1ns")), "round to microseconds"),
    "equal labels": (["dta", "sav"], pd.Categorical([1, "1"] * (N // 2), [1, "1"]), "written alike, '1'"),
    "several types": (["parquet"], pd.Categorical([1, "1"] * (N // 2), [1, "1"]), "'c' .category. cannot be written"),
    "intervals": (["parquet"], pd.cut(np.arange(N), 3), "categories that are intervals"),
    "complex": (["dta", "sav", "parquet"], np.arange(N) * 1j, "'c' .*complex"),
    "null characters": (["dta", "sav"], ["a\0b"] * N, "null character"),
    "empty texts": (["csv"], ["", "b"] * (N // 2), "'c' has empty texts, which are missing values in a CSV file"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_STORED)
def test_what_would_be_cut_rounded_or_confused_is_refused(name, tmp_path):
    endings, values, message = NOT_STORED[name]
    imp = one_column(values)
    for ending in endings:
        if ending == "sav":
            pytest.importorskip("pyreadstat", reason="the extra spss is not installed")
        with pytest.raises(DataError, match=message):
            imp.export(tmp_path / f"t.{ending}")
        assert not (tmp_path / f"t.{ending}").exists()


STORED = {
    "own numbers": pd.Categorical([3, 7, 12, 7] * (N // 4), [3, 7, 12], ordered=True),
    "another order": pd.Categorical([3, 7, 12, 7] * (N // 4), [7, 3, 12]),
    "seconds": DAYS.astype("datetime64[s]"),
    "years": pd.Series(pd.date_range("2200-01-01", periods=N)).astype("datetime64[ns]"),
    "umlauts": ["ä" * 60, "ß„“"] * (N // 2),
    "before": pd.Categorical(["ü" * 60, "z"] * (N // 2)),
    "lines": ["a\nb", '"c", d'] * (N // 2),
    "single": (np.arange(N) / 3).astype("float32"),
    "large": np.arange(N) + 2**53 - N,
}


@pytest.mark.parametrize("ending", ["dta", "sav"])
@pytest.mark.parametrize("name", STORED)
def test_an_independent_reader_finds_the_values(name, ending, tmp_path):
    """pyreadstat (ReadStat), for Stata's files too, which pandas has written."""
    pyreadstat = pytest.importorskip("pyreadstat", reason="the extra spss is not installed")
    imp = one_column(STORED[name])
    path = imp.export(tmp_path / f"t.{ending}", names={"c": "größe"})
    read, meta = (pyreadstat.read_dta if ending == "dta" else pyreadstat.read_sav)(str(path))
    assert meta.column_names_to_labels["größe"] == "c"
    ours, theirs = imp.frame(0)["c"], read["größe"].iloc[N : 2 * N].reset_index(drop=True)
    labels = meta.variable_value_labels.get("größe")
    if labels:
        assert list(theirs.map(labels)) == list(ours.astype(str))
        if name == "own numbers":  # wrong: numbers from 0, although a reader sees other numbers as labels
            assert labels == {3: "3", 7: "7", 12: "12"}
    elif pd.api.types.is_numeric_dtype(ours.dtype):
        np.testing.assert_array_equal(theirs, ours)
    else:
        assert list(theirs) == list(ours)


def test_names_of_spss_are_counted_in_bytes(tmp_path):
    pytest.importorskip("pyreadstat", reason="the extra spss is not installed")
    original, completed = tables()
    renamed = {"number": "ä" * 40, "whole": "to", "count": "_x", "kind": "GRADE"}
    imp = bi.read_imputations([t.rename(columns=renamed) for t in completed], "clinic",
                              original=original.rename(columns=renamed))  # fmt: skip
    with pytest.raises(
        SpecificationError, match=r"SPSS does not allow the names .*\(at most 64 bytes"
    ) as caught:
        imp.export(tmp_path / "t.sav")
    suggested = eval(str(caught.value).split("names=")[1].rstrip("."))
    assert set(suggested) == {*renamed.values(), "grade"}
    path = imp.export(tmp_path / "t.sav", names=suggested)
    back = bi.read_imputations(path, "clinic")
    np.testing.assert_array_equal(back.values(suggested["ä" * 40]), imp.values("ä" * 40))


@pytest.mark.parametrize("ending", ["dta", "sav"])
def test_columns_with_labels_of_some_values_stay_numbers(ending, tmp_path):
    """Wrong: values without a label became missing."""
    pyreadstat = pytest.importorskip("pyreadstat", reason="the extra spss is not installed")
    income = np.tile([0.0, 1200.0, 2500.0, 99999.0], 5)
    m, row = np.repeat([0, 1], 20), np.tile(np.arange(20), 2)
    y = np.where((m == 0) & (row == 3), np.nan, row / 3)
    frame = pd.DataFrame(
        {"imp_m": m, "imp_id": row + 1, "clinic": row % 4, "y": y, "income": np.tile(income, 2)}
    )
    write = pyreadstat.write_dta if ending == "dta" else pyreadstat.write_sav
    own = {"income": {0.0: "none", 99999.0: "refused"}, "clinic": {k: f"clinic {k}" for k in range(4)}}
    path = str(tmp_path / f"t.{ending}")
    if ending == "dta":  # whose labels belong to whole numbers
        frame = frame.astype({"income": "int32", "clinic": "int32"})
        own = {name: {int(k): label for k, label in each.items()} for name, each in own.items()}
    write(frame, path, variable_value_labels=own)
    back = bi.read_imputations(path, "clinic")
    np.testing.assert_array_equal(back.frame(0)["income"], income)
    assert list(back.frame(0)["clinic"][:4]) == [f"clinic {k}" for k in range(4)]
    assert list(back.events["where"]) == ["income"] and "read as numbers" in back.events["message"].item()
    write(frame, path, variable_value_labels=own | {"clinic": dict.fromkeys(range(4), "same")})
    with pytest.raises(DataError, match="two values of 'clinic' have the same label"):
        bi.read_imputations(path, "y")


def test_a_long_table_of_mice_pools_as_mice_does():
    imp = from_mice()
    assert isinstance(imp, ImportedImputations) and imp.m == 3
    theirs = json.loads((REFERENCE / "mice_pooled.json").read_text())
    with pytest.warns(bi.StatisticalWarning, match="does not mention 'clinic'"):
        pooled = imp.analyse("y ~ z + sex").pool()
    table = pooled.to_frame()
    for name in ("estimate", "std.error", "df"):
        np.testing.assert_allclose(table[name], theirs[name], rtol=1e-7)
    # wrong wiring that must be seen: without the incomplete table as number 0, tables are mixed up
    long = pd.read_csv(REFERENCE / "mice_long.csv")
    wrong = [long[long[".imp"] == k] for k in (0, 1, 2)]
    assert not np.allclose(
        bi.fit_each([t.dropna() for t in wrong], "y ~ z + sex").pool().estimate, theirs["estimate"]
    )


def test_a_mixed_model_and_a_figure_of_imported_tables():
    imp = from_mice()
    fits = imp.analyse("y ~ z + (1 | clinic)")
    each = bi.fit_each([imp.frame(k) for k in range(3)], "y ~ z + (1 | clinic)")
    np.testing.assert_allclose(fits.pool().estimate, each.pool().estimate, rtol=1e-6)
    import matplotlib

    matplotlib.use("Agg")
    figure = bi.plot_imputed(imp)
    assert {"y", "z"} <= {axis.get_title().split(" ")[0] for axis in figure.axes} or figure.axes
    assert set(imp.tree["imputed"].data_vars) == {"y", "z", "grade", "kind"}
    assert (
        "read from mice_long.csv, without model and chains" in unfolded(repr(imp))
        and "mice_long.csv" in imp._repr_html_()
    )
    for refused in (imp.summary, lambda: imp.save("x.nc"), lambda: imp.extend(2), imp.with_prior_draws):
        with pytest.raises(SpecificationError, match=r"chains|run|model"):
            refused()


def spoiled(change):
    long = pd.read_csv(REFERENCE / "mice_long.csv").reset_index(drop=True)
    return change(long)


def put(long, imp, id_, **values):
    row = (long[".imp"] == imp) & (long[".id"] == id_)
    for name, value in values.items():
        long.loc[row, name] = value
    return long


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f[".imp"] > 0], r"\.imp must be 0, 1, \.\., m"),
        (lambda f: f[f[".imp"] != 2], r"\.imp must be 0, 1, \.\., m"),
        (lambda f: f[f[".imp"] == 0], "no imputations, only the incomplete table"),
        (lambda f: f.drop(columns=".id"), "does not say which table and row"),
        (lambda f: f[~((f[".imp"] == 2) & (f[".id"] == 5))], "table 2 does not have the rows"),
        (lambda f: put(f, 2, 1, z=-0.3441), r"imputation 2: observed cells of 'z' differ .* in 1 of 60 rows .first: 1"),
        (lambda f: put(f, 3, 1, sex="f"), "imputation 3: observed cells of 'sex' differ"),
        (lambda f: put(f, 2, 2, y=np.nan), "imputation 2: 'y' is imputed in other cells than in imputation 1"),
        (lambda f: f.assign(grade=f["grade"].where((f[".imp"] < 2) | (f["grade"] != "mid"), "top")),
         "'grade' differ|'top' is imputed"),
    ],
)  # fmt: skip
def test_tables_that_are_no_imputations_of_one_another(change, message):
    with pytest.raises(DataError, match=message):
        bi.read_imputations(spoiled(change), "clinic")


def test_rows_in_another_order_and_cells_that_stay_missing():
    shuffled = spoiled(lambda f: f.sample(frac=1.0, random_state=3))
    ours = bi.read_imputations(spoiled(lambda f: f), "clinic")
    for k in range(3):
        a, b = (bi.read_imputations(shuffled, "clinic"), ours)
        pd.testing.assert_frame_equal(a.frame(k).sort_index(), b.frame(k).sort_index(), check_dtype=False)
    left = bi.read_imputations(spoiled(lambda f: f.assign(note=None)), "clinic")
    assert list(left.events["where"]) == ["note"] and left.events["count"].item() == 60
    with pytest.raises(DataError, match="give the incomplete table, original=table"):
        bi.read_imputations([ours.frame(0)], "clinic")


def rscript(*arguments, **environment):
    done = subprocess.run(
        ["Rscript", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=300,
    )
    return done


def without(package):
    if shutil.which("Rscript") is None:
        return "Rscript is not installed"
    found = rscript("-e", f"quit(status = !requireNamespace('{package}', quietly = TRUE))").returncode == 0
    return "" if found else f"R has no {package}"


@pytest.mark.r
def test_mice_takes_the_exported_table(tmp_path):
    if reason := without("mice"):
        pytest.skip(reason)
    imp = from_mice()
    long = imp.export(tmp_path / "long.csv")
    done = rscript(REFERENCE / "as_mids.R", long, tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    out = pd.read_csv(tmp_path / "out.csv")
    for k in range(3):
        theirs = out[out[".imp"] == k + 1].reset_index(drop=True)
        for name, column in imp.frame(k).items():
            ours = column.reset_index(drop=True)
            if name in ("z", "y"):
                np.testing.assert_allclose(theirs[name], ours, rtol=1e-12)
            else:
                assert list(theirs[name]) == list(ours.astype(str))


@pytest.mark.r
@pytest.mark.parametrize("ending", ["dta", "sav"])
def test_haven_reads_the_exported_table(ending, tmp_path):
    """Numbers, labels, texts, dates, missing cells of the incomplete table and all completed ones."""
    if reason := without("haven"):
        pytest.skip(reason)
    if ending == "sav":
        pytest.importorskip("pyreadstat", reason="the extra spss is not installed")
    imp = read_in()
    path = imp.export(tmp_path / f"t.{ending}", names={"yes": "größe"})
    done = rscript(REFERENCE / "by_haven.R", path, tmp_path / "out.csv", LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    labelled = ("flag", "größe", "text", "kind", "grade")
    theirs = pd.read_csv(
        tmp_path / "out.csv", dtype=dict.fromkeys((f"{name}..label" for name in labelled), str)
    )
    number = "imp_m" if ending == "dta" else "Imputation_"
    for k, ours in enumerate((imp.data.frame, imp.frame(0), imp.frame(1))):
        own = theirs[theirs[number] == k].reset_index(drop=True)
        for name, column in ours.rename(columns={"yes": "größe"}).items():
            if name in labelled:
                shown = column.astype(object).map(lambda v: str(v).lower() if isinstance(v, bool) else v)
                assert list(own[f"{name}..label"].fillna("")) == list(shown.where(shown.notna(), ""))
            elif name == "when":
                assert list(own[name].str[:10]) == list(column.dt.strftime("%Y-%m-%d"))
            elif name == "clinic":
                assert list(own[name]) == list(column)
            else:
                np.testing.assert_allclose(own[name].astype(float), column.astype(float), rtol=1e-14)


@pytest.mark.r
@pytest.mark.slow
def test_mitml_pools_the_exported_table(tmp_path):
    if reason := without("mitml"):
        pytest.skip(reason)
    imp = from_mice()
    done = rscript(REFERENCE / "mitml.R", imp.export(tmp_path / "long.csv"), tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    theirs = pd.read_csv(tmp_path / "out.csv")
    fits = bi.fit_each([imp.frame(k) for k in range(3)], "y ~ z + sex")
    ours = fits.pool(df_complete=np.inf).to_frame()  # as testEstimates has it by default
    for name, mine in {"Estimate": "estimate", "Std.Error": "std.error", "df": "df", "FMI": "fmi"}.items():
        np.testing.assert_allclose(ours[mine], theirs[name], rtol=1e-6, err_msg=name)


@pytest.mark.r
@pytest.mark.slow
def test_the_example_for_r_runs(tmp_path):
    if reason := without("reticulate") or without("mice"):
        pytest.skip(reason)
    # Debian 12's reticulate (1.28) uses a module that Python 3.12 has removed, to find where others are
    (tmp_path / "imp.py").write_text(
        "from importlib.util import find_spec\n"
        "def find_module(name, path=None):\n"
        "    return None, list(find_spec(name).submodule_search_locations)[0], None\n"
    )
    seen = {"RETICULATE_PYTHON": sys.executable, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    if rscript("-e", "reticulate::py_config()", **seen).returncode:
        pytest.skip("this reticulate is too old for this Python")
    done = rscript(ROOT / "examples" / "from_r.R", **seen)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("done"), done.stderr

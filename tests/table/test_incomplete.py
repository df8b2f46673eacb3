"""IncompleteData: the same result whatever the order, types and kind of table; errors say what, where and what to do."""

import pickle
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesimp.errors import DataError, SpecificationError
from bayesimp.families.columns import infer
from bayesimp.table.incomplete import IncompleteData
from tests.unfolding import unfolded

NAN = np.nan


@pytest.fixture
def frame():
    """Three schools; x complete / sporadic / systematic, y complete."""
    return pd.DataFrame(
        {
            "school": ["b", "a", "c", "b", "a", "c"],
            "x": [1.5, NAN, NAN, 2.5, 3.0, NAN],
            "sex": ["M", "F", None, "F", "M", "M"],
            "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.5],
        },
        index=[10, 20, 30, 40, 50, 60],
    )


def refused(error, words, *args, **kwargs):
    with pytest.raises(error) as caught:
        IncompleteData(*args, **kwargs)
    for word in words:
        assert word in str(caught.value)


def test_parts(frame):
    data = IncompleteData(frame, "school")
    assert list(data.clusters) == ["a", "b", "c"]
    assert data.codes.tolist() == [1, 0, 2, 1, 0, 2] and data.codes.dtype == np.int64
    assert data.variables == ("x", "sex", "y")
    assert data.families == {"x": "normal", "sex": "bernoulli", "y": "normal"}
    assert data.missing("sex").tolist() == [False, False, True, False, False, False]
    np.testing.assert_array_equal(data.numeric("x"), frame["x"])
    np.testing.assert_array_equal(data.numeric("sex"), [1, 0, NAN, 0, 1, 1])
    assert data.levels("sex") == ("F", "M")
    assert data.missingness.loc["x"].to_dict() == {"a": "sporadic", "b": "complete", "c": "systematic"}
    assert data.counts.loc["x"].to_dict() == {"a": 1, "b": 0, "c": 2}
    assert data.sizes.tolist() == [2, 2, 2]


def test_patterns(frame):
    patterns = IncompleteData(frame, "school").patterns(["x", "sex"])
    assert [tuple(row) for row in patterns.to_numpy()] == [
        (False, False, 3),
        (True, False, 2),
        (True, True, 1),
    ]


@given(st.integers(1, 80), st.integers(2, 60), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_patterns_of_many_variables(columns, rows, seed):
    missing = np.random.default_rng(seed).random((rows, columns)) < 0.1
    frame = pd.DataFrame(np.where(missing, NAN, 1.0), columns=[f"x{j}" for j in range(columns)])
    patterns = IncompleteData(frame.assign(g=np.arange(rows)), "g").patterns()
    unique, counts = np.unique(missing, axis=0, return_counts=True)
    found = {tuple(row[:-1]): row[-1] for row in patterns.to_numpy()}
    assert found == {tuple(row): count for row, count in zip(unique, counts, strict=True)}
    assert len(patterns) == len(unique) and patterns["rows"].is_monotonic_decreasing


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_row_order_and_labels_change_nothing_but_the_order(seed):
    rng = np.random.default_rng(seed)
    n = 40
    frame = pd.DataFrame({"g": rng.integers(0, 6, n), "x": np.where(rng.random(n) < 0.4, NAN, 1.0)})
    frame.loc[0, "g"] = 6 + frame["g"].max()
    order = rng.permutation(n)
    data, shuffled = IncompleteData(frame, "g"), IncompleteData(frame.iloc[order], "g")
    assert data.codes[order].tolist() == shuffled.codes.tolist()
    pd.testing.assert_frame_equal(data.missingness, shuffled.missingness)
    for i, label in enumerate(data.clusters):
        rows = frame.loc[frame["g"] == label, "x"].isna()
        word = "systematic" if rows.all() else "sporadic" if rows.any() else "complete"
        assert data.missingness.iloc[0, i] == word
        assert data.counts.iloc[0, i] == rows.sum()


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g, lambda g: g.astype(float), lambda g: g.astype("Int64"), lambda g: g.astype(object),
        lambda g: g.astype(str).str.zfill(3), lambda g: g.astype("category"),
        lambda g: pd.Series(pd.Categorical(g, categories=[99, 1, 5, 12, 77])),
        lambda g: pd.to_datetime("2026-01-01") + pd.to_timedelta(g, "D"),
        lambda g: g.astype("int64[pyarrow]"),
    ],
)  # fmt: skip
def test_cluster_ids_of_any_type(make):
    ids = pd.Series([12, 5, 1, 5, 12])
    data = IncompleteData(pd.DataFrame({"g": make(ids), "x": 1.0}), "g")
    assert data.codes.tolist() == [2, 1, 0, 1, 2]
    assert len(data.clusters) == 3


def test_cluster_labels():
    floats = IncompleteData(pd.DataFrame({"g": [2.0, 1.0]}), "g")
    assert list(floats.clusters) == [1, 2] and floats.clusters.dtype == np.int64
    mixed = IncompleteData(pd.DataFrame({"g": pd.Series(["b", 1, "a", 1], dtype=object)}), "g")
    assert list(mixed.clusters) == [1, "a", "b"] and mixed.codes.tolist() == [2, 0, 1, 0]
    chosen = pd.Categorical(["x", "a"], categories=["x", "never", "a"])
    assert list(IncompleteData(pd.DataFrame({"g": chosen}), "g").clusters) == ["x", "a"]


def test_users_table_is_neither_changed_nor_shared(frame):
    before = frame.copy()
    data = IncompleteData(frame, "school")
    pd.testing.assert_frame_equal(data.frame, before)
    frame.loc[10, "x"] = 99.0
    assert data.numeric("x")[0] == 1.5
    with pytest.raises(ValueError, match="read-only"):
        data.codes[0] = 7


@pytest.mark.parametrize("hole", [None, pd.NA, NAN])
def test_every_kind_of_hole_in_objects(hole):
    frame = pd.DataFrame({"g": [1, 2, 2], "x": pd.Series([1.5, hole, 2], dtype=object)})
    data = IncompleteData(frame, "g")
    assert data.families["x"] == "normal"
    np.testing.assert_array_equal(data.numeric("x"), [1.5, NAN, 2.0])


@pytest.mark.parametrize(
    "kind", [pl.from_pandas, lambda frame: pa.Table.from_pandas(frame, preserve_index=False)]
)
def test_other_kinds_of_table(kind):
    frame = pd.DataFrame(
        {
            "school": ["b", "a", "c", "b"],
            "x": [1.5, NAN, 2.0, 3.0],
            "k": pd.array([1, None, 5, 7], dtype="Int64"),
            "flag": pd.array([True, None, False, True], dtype="boolean"),
            "sex": ["M", None, "F", "M"],
            "grade": pd.Categorical(["lo", "hi", None, "lo"], ["lo", "hi"]),
        }
    )
    native = kind(frame)
    data, reference = IncompleteData(native, "school"), IncompleteData(frame, "school")
    assert data.families == reference.families
    assert list(data.clusters) == list(reference.clusters) and data.codes.tolist() == reference.codes.tolist()
    for name in data.variables:
        np.testing.assert_array_equal(data.numeric(name), reference.numeric(name))
    back = data.to_native(data.frame)
    assert type(back) is type(native)
    if isinstance(back, pl.DataFrame):
        assert back.equals(native.with_columns(pl.col("x").fill_nan(None))) and back.schema == native.schema
    else:
        assert back.to_pydict() == native.to_pydict()
    longer = data.frame.assign(k=[1.0, 2.5, 5.0, 7.0])
    assert type(data.to_native(longer)) is type(native)
    assert reference.to_native(longer) is longer


def test_not_a_table():
    refused(DataError, ["LazyFrame", "collect a lazy one"], pl.LazyFrame({"g": [1, 2]}), "g")
    refused(DataError, ["list is not a table"], [1, 2], "g")


def test_pickle(frame):
    data = pickle.loads(pickle.dumps(IncompleteData(pl.from_pandas(frame), "school")))
    assert isinstance(data.to_native(data.frame), pl.DataFrame)


# Bad input


def test_missing_cluster_ids(frame):
    frame.loc[[20, 60], "school"] = None
    refused(
        DataError,
        ["'school' is missing in 2 of 6 rows (first: 20, 60)", "drop these rows"],
        frame,
        "school",
    )


def test_one_cluster(frame):
    refused(
        DataError, ["only one cluster", "'b'", "2 rows", "right column"], frame[frame.school == "b"], "school"
    )


def test_cluster_ids_with_fractions(frame):
    refused(DataError, ["'y'", "not a whole number", "in 1 of 6 rows (first: 60)", "text"], frame, "y")


def test_unknown_cluster(frame):
    refused(SpecificationError, ["no column 'schol'", "Did you mean 'school'"], frame, "schol")
    refused(SpecificationError, ["in the index", "reset_index"], frame.set_index("school"), "school")


def test_duplicate_and_odd_names(frame):
    double = pd.concat([frame, frame[["x"]]], axis=1)
    refused(DataError, ["more than once: 'x'", "Rename"], double, "school")
    refused(DataError, ["must be text", "3"], frame.rename(columns={"y": 3}), "school")


def test_no_rows(frame):
    refused(DataError, ["no rows"], frame.head(0), "school")


@pytest.mark.parametrize("dtype", [float, "Float64", "float32", "double[pyarrow]"])
def test_infinite_values(frame, dtype):
    frame["y"] = pd.Series([1, 2, np.inf, 4, 5, -np.inf], frame.index).astype(dtype)
    words = ["'y' is infinite in 2 of 6 rows (first: 30, 60) of 1 cluster ('c')", "set them to missing"]
    refused(DataError, words, frame, "school")


def test_infinite_values_in_objects(frame):
    frame["y"] = frame["y"].astype(object)
    frame.loc[40, "y"] = np.inf
    with pytest.raises(DataError, match=r"'y' cannot be normal.*infinite.*in 1 of 6 rows"):
        IncompleteData(frame, "school").numeric("y")


def test_text_in_a_normal_variable(frame):
    words = ["'sex' cannot be normal", "not numbers", "'M', 'F'", "in 5 of 6 rows", "3 clusters"]
    refused(DataError, words, frame, "school", families={"sex": "normal"})
    frame["y"] = ["1", "2", "x?", "4", None, "5"]
    words = [
        "'y' cannot be gaussian".replace("gaussian", "normal"),
        "Found 'x?' in 1 of 6 rows (first: 30)",
        "('c')",
    ]
    refused(DataError, words, frame, "school", families={"y": "gaussian"})
    frame["y"] = ["1", "2", "3", "4", None, "5"]
    refused(DataError, ["stored as text", "pandas.to_numeric"], frame, "school", families={"y": "normal"})


def test_nothing_observed(frame):
    frame["empty"], frame["none"] = NAN, None
    data = IncompleteData(frame, "school")
    with pytest.raises(
        DataError, match="No value of 'empty', 'none' is observed in any of 6 rows and 3 clusters"
    ):
        data.require_observed(["x", "empty", "none"])
    data.require_observed(["x", "y"])
    assert "No observed values, cannot be used in a model: empty, none." in unfolded(repr(data))


def test_unknown_variable(frame):
    data = IncompleteData(frame, "school")
    for ask in (data.numeric, data.missing, data.levels):
        with pytest.raises(SpecificationError, match=r"'sexx' is not a variable\. Did you mean 'sex'"):
            ask("sexx")


# Families


@pytest.mark.parametrize(
    "values, family",
    [
        ([1.5, 2.0, NAN], "normal"), ([0.0, 1.0, NAN], "bernoulli"), ([1.0, 2.0, NAN], "bernoulli"),
        ([3.0, 8.0, NAN], "normal"), ([3, 8, 8], "bernoulli"), ([0, 1, 2], "normal"), ([-5, 0, 7], "normal"),
        ([True, False, True], "bernoulli"), (pd.array([True, None, False], dtype="boolean"), "bernoulli"),
        (["M", "F", None], "bernoulli"), (["a", "b", "c"], "categorical"),
        (pd.Categorical(["a", "b", "c"]), "categorical"), (pd.Categorical(["a", "b", "a"]), "bernoulli"),
        (pd.Categorical(["a", "b", "c"], ordered=True), "ordinal"),
        (pd.Categorical(["a", "b", "a"], ["a", "b", "unused"], ordered=True), "bernoulli"),
        (pd.to_datetime(["2026-01-01"] * 3), "none"), ([None, None, None], "normal"), ([1j, 2, 3], "none"),
        (pd.Series([Decimal("1.5"), None, Decimal(2)], dtype=object), "normal"),
        (pd.Series([1, "a", None], dtype=object), "none"),
        (pd.Series([True, None, False], dtype=object), "bernoulli"),
    ],
)  # fmt: skip
def test_inference(values, family):
    assert infer(pd.Series(values)) == family


def test_third_value_after_the_head():
    assert infer(pd.Series([0, 1] * 2000)) == "bernoulli"
    assert infer(pd.Series([0, 1] * 2000 + [2])) == "normal"


@pytest.mark.parametrize(
    "values, family, numbers, levels",
    [
        ([2, 0, 1], "poisson", [2, 0, 1], ()),
        ([7, 5, 7], "binary", [1, 0, 1], (5, 7)),
        ([True, False, True], "normal", [1, 0, 1], ()),
        ([3, 1, 2], "ordinal", [2, 0, 1], (1, 2, 3)),
        (
            pd.Categorical(["lo", "hi", None], ["lo", "hi"], ordered=True),
            "ordinal",
            [0, 1, NAN],
            ("lo", "hi"),
        ),
        (["b", None, "a"], "nominal", [1, NAN, 0], ("a", "b")),
        (pd.Categorical([1.5, 2.5, None]), "gaussian", [1.5, 2.5, NAN], ()),
        (pd.array([1, None, 3], dtype="Int64"), "count", [1, NAN, 3], ()),
    ],
)
def test_overrides(values, family, numbers, levels):
    data = IncompleteData(pd.DataFrame({"g": [1, 2, 3], "v": values}), "g", families={"v": family})
    np.testing.assert_array_equal(data.numeric("v"), numbers)
    assert data.levels("v") == levels


@pytest.mark.parametrize(
    "values, family, words",
    [
        (
            [0.5, 1, -2],
            "poisson",
            ["'v' cannot be poisson", "0, 1, 2", "in 2 of 3 rows (first: 0, 2)", "clusters (1, 3)"],
        ),
        ([1, 2, 3], "bernoulli", ["'v' cannot be bernoulli", "3 values (1, 2, 3)", "'ordinal'"]),
        (["a", "b", "c"], "ordinal", ["'v' cannot be ordinal", "order of its texts", "ordered=True"]),
        (pd.Categorical(["a", "b", "c"]), "ordinal", ["'v' cannot be ordinal", "ordered=True"]),
    ],
)
def test_overrides_that_do_not_fit(values, family, words):
    refused(DataError, words, pd.DataFrame({"g": [1, 2, 3], "v": values}), "g", families={"v": family})


def test_unknown_families_and_names(frame):
    refused(SpecificationError, ["'poison'", "'y'", "'poisson'"], frame, "school", families={"y": "poison"})
    refused(SpecificationError, ["'yy'", "Did you mean 'y'"], frame, "school", families={"yy": "normal"})
    refused(
        SpecificationError, ["'school' is a cluster column"], frame, "school", families={"school": "normal"}
    )


def test_dates_are_kept_but_have_no_numbers(frame):
    frame["when"] = pd.Timestamp("2026-01-01")
    data = IncompleteData(frame, "school")
    with pytest.raises(DataError, match="'when' cannot be none: it is neither numeric"):
        data.numeric("when")


# Summary


def test_printed_summary(frame):
    frame["visits"] = [0, 3, 1, 2, 2, 9]
    text = repr(IncompleteData(frame, "school"))
    assert "6 rows in 3 clusters of 'school' (rows each: 2 to 2, median 2)" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["x"] == ["normal", "1", "1", "1", "50.0"]
    assert rows["sex"] == ["bernoulli", "2", "1", "0", "16.7"]
    assert rows["y"] == ["normal", "3", "0", "0", "0"]
    assert rows["visits"] == ["normal*", "3", "0", "0", "0"]
    assert "* whole numbers with few values, treated as normal" in text
    html = IncompleteData(frame.rename(columns={"x": "<x>"}), "school")._repr_html_()
    assert "&lt;x&gt;" in html and ">50.0</td>" in html


def test_share_is_not_rounded_to_none_or_all():
    frame = pd.DataFrame({"g": np.arange(10_000) % 7, "x": 1.0, "z": NAN})
    frame.loc[0, ["x", "z"]] = [NAN, 1.0]
    lines = repr(IncompleteData(frame, "g")).splitlines()
    assert [line.split()[-1] for line in lines[4:6]] == ["0.1", "99.9"]


def test_a_million_rows_in_well_under_a_second():
    rng = np.random.default_rng(0)
    n = 1_000_000
    frame = pd.DataFrame(
        {"g": rng.integers(0, 5000, n), "k": rng.integers(0, 99, n), "b": rng.random(n) < 0.5}
    )
    for j in range(8):
        frame[f"x{j}"] = np.where(frame["b"], NAN, 1.5)
    start = time.process_time()
    IncompleteData(frame, "g")
    assert time.process_time() - start < 1.0  # 0.1 s alone on the machine


def test_a_part_keeps_the_levels_of_the_whole_whatever_was_read_before():
    frame = pd.DataFrame({"g": [0, 0, 1, 1], "s": ["a", "b", "c", "b"]})
    whole = IncompleteData(frame, cluster="g", families={"s": "categorical"})
    part = whole.part(frame.assign(s=["a", None, "c", None]))
    assert part.levels("s") == ("a", "b", "c")
    np.testing.assert_array_equal(part.numeric("s"), [0, np.nan, 2, np.nan])


def test_a_column_is_read_once_and_cannot_be_written_to():
    frame = pd.DataFrame({"g": [0, 0, 1, 1], "x": [1.0, 2.0, np.nan, 4.0]})
    data = IncompleteData(frame, cluster="g")
    assert data.numeric("x") is data.numeric("x")
    with pytest.raises(ValueError, match="read-only"):
        data.numeric("x")[0] = 7.0
    assert pickle.loads(pickle.dumps(data)).numeric("x")[0] == 1.0


def test_spaces_around_trials_are_part_of_a_name_that_has_them():
    f = pd.DataFrame({"g": [1, 1, 2, 2], "y": [1.0, 2.0, np.nan, 0.0], "n": [3, 3, 3, 3], " n": [5, 5, 5, 5]})
    families = {"y": "binomial( n)"}
    assert IncompleteData(f, "g", families).families["y"] == "binomial( n)"
    assert IncompleteData(f.drop(columns=" n"), "g", families).families["y"] == "binomial(n)"
    assert IncompleteData(f, "g", {"y": "binomial(n )"}).families["y"] == "binomial(n)"
    with pytest.raises(DataError, match="'y' exceeds ' n', its number of trials"):
        IncompleteData(f.assign(**{" n": 1}), "g", families)


@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_missing_intervals_of_whole_numbers_stay_missing(kind):
    """pandas makes an interval of them whose ends are the smallest integers."""
    intervals = pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3])
    typed = pa.array(intervals.take([0, 0, 2, 1]))
    storage = pa.StructArray.from_arrays(
        [typed.storage.field("left"), typed.storage.field("right")], ["left", "right"],
        mask=pa.array([False, True, False, False]),
    )  # fmt: skip
    column = pa.ExtensionArray.from_storage(typed.type, storage)
    table = pa.table({"g": [1, 1, 2, 2], "x": column})
    data = IncompleteData(table if kind == "arrow" else pl.from_arrow(table), "g")
    assert data.frame["x"].isna().tolist() == [False, True, False, False]
    assert data.frame["x"].iloc[3] == pd.Interval(1.0, 2.0)


def test_categories_of_structures_are_refused():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, None]), pa.array([{"a": 1}, {"a": 2}]))
    with pytest.raises(DataError, match="cannot be converted to pandas"):
        IncompleteData(pa.table({"g": [1, 1, 2, 2], "x": column}), "g")


def test_categories_of_whole_numbers_with_holes_are_numbers():
    f = pd.DataFrame({"g": [1, 1, 2, 2], "x": pd.Categorical([3, None, 5, 3])})
    data = IncompleteData(f, "g", {"x": "poisson"})
    assert data.numeric("x")[[0, 2, 3]].tolist() == [3.0, 5.0, 3.0] and data.missing("x").tolist() == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "values, kind", [([[1], [2]], "list"), ([{1}, {2}], "set"), ([{"a": 1}, {}], "dict")]
)
def test_ids_and_levels_that_may_change_are_refused_in_words(values, kind):
    frame = pd.DataFrame({"g": np.arange(12) // 4, "v": values * 6, "y": np.arange(12.0)})
    for cluster, families in (("v", None), (["g", "v"], None), ("g", {"v": "categorical"})):
        with pytest.raises(DataError, match=rf"'v' \('{kind}'\) are mutable.* table\['v'\].astype\(str\)"):
            IncompleteData(frame, cluster, families)
    with pytest.raises(DataError, match="'v' cannot be normal: it has values that are not numbers"):
        IncompleteData(frame, "g", {"v": "normal"})


def test_ids_too_large_for_integers_stay_apart():
    """Floats of 1e30 have no integer of 64 bits: all would be the same one."""
    frame = pd.DataFrame({"g": np.repeat([1e30, 2e30, -3e30], 4), "y": np.arange(12.0)})
    data = IncompleteData(frame, "g")
    assert list(data.clusters) == [-3e30, 1e30, 2e30] and data.sizes.tolist() == [4, 4, 4]

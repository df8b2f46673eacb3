"""Tables as JSON and bytes: every pandas dtype and index comes back exactly, or is refused."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bayesimp as bi
from bayesimp.table.exact import check_exact, from_exact, to_exact

N = 6
BERLIN = ZoneInfo("Europe/Berlin")


def objects(*values) -> pd.Series:
    out = np.empty(N, dtype=object)
    out[:] = np.resize(np.arange(len(values)), N)
    return pd.Series([values[k] for k in out], dtype=object)


def columns() -> dict:
    """A column of each dtype, with missing values where it can have them."""
    numbers = [1, None, 3, 4, 5, 6]
    made = {
        "int8": np.arange(N, dtype="i1"),
        "uint64": np.array([0, 1, 2, 3, 4, 2**64 - 1], dtype="u8"),
        "float16": np.arange(N, dtype="f2"),
        "float32": np.array(numbers, dtype="f4"),
        "big-endian": np.arange(N, dtype=">f8"),
        "longdouble": np.arange(N, dtype=np.longdouble) / 3,
        "complex": np.arange(N) * 1j,
        "bool": np.arange(N) > 2,
        "Int8": pd.array(numbers, dtype="Int8"),
        "UInt64": pd.array([2**64 - 1, None] * 3, dtype="UInt64"),
        "Float32": pd.array(numbers, dtype="Float32"),
        "boolean": pd.array([True, None, False] * 2, dtype="boolean"),
        "string[python]": pd.array(["a", None, "", "é", "\ud800", "\0"], dtype="string[python]"),
        "string[pyarrow]": pd.array(["a", None, "", "é", "e\u0301", "\0"], dtype="string[pyarrow]"),
        "str": pd.array(["a", None, "", "é", " ", "\n"], dtype=pd.StringDtype(na_value=np.nan)),
        "interval category": pd.cut(pd.Series(numbers, dtype=float), [0, 2, 4, 6]),
        "tuple category": pd.Categorical([(1, "a"), (1, "b"), None] * 2),
        "mixed category": pd.Categorical([1, "a", None] * 2),
        "ordered": pd.Categorical(list("abcabc"), list("cbadz"), ordered=True),
        "bool category": pd.Categorical([True, False, None] * 2),
        "float category": pd.Categorical([0.5, 1.5, None] * 2),
        "int category": pd.Categorical([3, 1, None] * 2, [3, 1, 2]),
        "date category": pd.Categorical(pd.date_range("2020", periods=N)),
        "empty category": pd.Categorical([None] * N),
        "period category": pd.Categorical(pd.period_range("2020", periods=N, freq="M")),
        "dates": pd.date_range("2020", periods=N),
        "seconds": pd.date_range("2020", periods=N, unit="s"),
        "zoned": pd.date_range("2020-10-25", periods=N, freq="h", tz="Europe/Berlin"),  # one hour comes twice
        "offset": pd.date_range("2020", periods=N, tz=dt.timezone(dt.timedelta(hours=2))),
        "utc": pd.date_range("2020", periods=N, tz="UTC"),
        "timedelta": pd.to_timedelta(numbers, unit="h"),
        "period": pd.period_range("2020", periods=N, freq="Q-NOV"),
        "interval": pd.interval_range(0, N, closed="both"),
        "date interval": pd.interval_range(pd.Timestamp("2020"), periods=N),
        "sparse": pd.arrays.SparseArray([0, 0, np.nan, 1.0, 0, 3], fill_value=0.0),
        "sparse nan": pd.arrays.SparseArray([np.nan, 1, np.nan, 1, 0, 3]),
        "sparse int": pd.arrays.SparseArray([0, 0, 2, 1, 0, 3]),
        "sparse bool": pd.arrays.SparseArray([True, False] * 3),
        "arrow int": pd.array(numbers, dtype="int32[pyarrow]"),
        "arrow text": pd.array(["a", None] * 3, dtype=pd.ArrowDtype(pa.string())),
        "arrow decimal": pd.array([Decimal("1.10"), None] * 3, dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        "arrow list": pd.array([[1], None] * 3, dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
        "arrow dictionary": pd.array(
            ["a", None] * 3, dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
        ),
        "arrow time": pd.array(
            [dt.datetime(2020, 1, 1), None] * 3, dtype=pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin"))
        ),
        "texts": objects("a", "", None, "\0"),
        "holes": objects(None, np.nan, pd.NA, pd.NaT, 1, "a"),
        "equal": objects(1, True, 1.0, np.int64(1), Fraction(1), Decimal("1.0")),
        "zeros": objects(0.0, -0.0, np.inf, np.float32(0), 1e-320),
        "large": objects(2**80, -(2**80), 3j, b"\0x", UUID(int=5)),
        "times": objects(
            pd.Timestamp("2020-10-25 01:30", tz="UTC").tz_convert("Europe/Berlin"),
            pd.Timestamp("2020").as_unit("s"),
            pd.Timedelta("1D"),
            dt.datetime(2020, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
            dt.time(3, tzinfo=dt.UTC),
            dt.date(2020, 1, 1),
        ),
        "spans": objects(
            pd.Period("2020-01", "M"), pd.Interval(0, 1, "left"), dt.timedelta(days=-1, microseconds=3)
        ),
        "containers": objects((1, (2, None)), [1, 1.0], {"a": (1,)}, {1, 2}, frozenset("ab"), ()),
        "arrays": objects(
            np.arange(4.0).reshape(2, 2),
            np.array(["a", None], dtype=object),
            np.str_("x"),
            np.datetime64("2020-01", "M"),
        ),
    }
    return {name: pd.Series(values) for name, values in made.items()}


INDICES = {
    "range": pd.RangeIndex(3, 9, 1, name="q"),
    "text": pd.Index(list("aabbcc"), name=("t", 1)),
    "month starts": pd.date_range("2020", periods=N, freq="MS"),
    "two months": pd.date_range("2020", periods=N, freq=pd.DateOffset(months=2)),
    "weeks": pd.date_range("2020", periods=N, freq="W-TUE", tz="Asia/Tokyo", name="w"),
    "hours": pd.timedelta_range("1h", periods=N, freq="2h"),
    "no frequency": pd.DatetimeIndex(["2020"] * N),
    "product": pd.MultiIndex.from_product(
        [
            [
                "a",
                "b",
            ],
            [1, 2, 3],
        ],
        names=["x", None],
    ),
    "dates and categories": pd.MultiIndex.from_arrays(
        [pd.date_range("2020", periods=N), pd.Categorical(list("abcabc"))]
    ),
    "periods": pd.period_range("2020", periods=N, freq="M"),
    "intervals": pd.IntervalIndex.from_breaks(range(7)),
    "categories": pd.CategoricalIndex(list("abcabc")),
    "objects": pd.Index([1, "a", None, 2.5, (1, 2), True], dtype=object),
    "holes": pd.Index(pd.array([1, 2, 3, 4, 5, None], dtype="Int64")),
    "int8": pd.Index(np.arange(N, dtype="i1")),
}


def same_value(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and all(map(same_value, a.ravel(), b.ravel()))
    kinds = getattr(a, "unit", None) == getattr(b, "unit", None) and getattr(a, "tzinfo", None) == getattr(
        b, "tzinfo", None
    )
    return type(a) is type(b) and repr(a) == repr(b) and kinds


@pytest.mark.parametrize("name", columns())
def test_columns_come_back(name):
    frame = columns()[name].to_frame(name)
    check_exact(frame)
    back = from_exact(*to_exact(frame))
    pd.testing.assert_frame_equal(frame, back, check_exact=True)
    assert frame[name].dtype == back[name].dtype
    if isinstance(frame[name].dtype, pd.CategoricalDtype):
        assert all(map(same_value, frame[name].cat.categories, back[name].cat.categories))
    assert all(map(same_value, frame[name], back[name]))


@pytest.mark.parametrize("name", INDICES)
def test_indices_come_back(name):
    frame = pd.DataFrame({"x": range(N)}, index=INDICES[name])
    check_exact(frame)
    back = from_exact(*to_exact(frame)).index
    pd.testing.assert_index_equal(back, frame.index, exact=True)
    assert getattr(back, "freq", None) == getattr(frame.index, "freq", None)
    assert back.names == frame.index.names


def test_names_and_attributes_come_back():
    frame = pd.DataFrame({"a b": [1], "": [2], "é": [3], "e\u0301": [4]})
    frame.columns.name = "variable"
    frame.attrs = {"source": ("x", 1), 3: object()}
    back = from_exact(*to_exact(frame))
    pd.testing.assert_frame_equal(back, frame, check_names=True)
    assert back.attrs == {"source": ("x", 1)}  # what a file cannot store is left out


class Own:
    """An unknown type."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(x=[Own()] * len(t)), r"column 'x' .*Own.*drop them"),
        (lambda t: t.assign(x=[(1, Own())] * len(t)), r"column 'x' .*Own"),
        (lambda t: t.assign(x=pd.Categorical([Own()] * len(t))), r"column 'x' .*Own"),
        (
            lambda t: t.set_axis(
                pd.date_range(
                    "2020", periods=len(t), freq=pd.offsets.CustomBusinessDay(holidays=["2020-01-03"])
                )
            ),
            r"the index .*index\.freq = None",
        ),
        (
            lambda t: t.assign(x=pd.date_range("2020", periods=len(t), tz="dateutil/Europe/Berlin")),
            r"column 'x' .*time zone",
        ),
        (
            lambda t: t.assign(x=np.arange(4.0).astype(">f8")),
            r"'x' are stored in another byte order.*newbyteorder",
        ),
        (lambda t: t.rename(columns={"y": "y\0"}), r"names contain invalid characters.*y\\\\0"),
    ],
)
def test_what_files_cannot_keep_is_refused_with_the_table(change, message):
    table = pd.DataFrame({"g": [1, 1, 2, 2], "y": [1.0, 2.0, np.nan, 3.0]})
    bi.IncompleteData(table, "g")
    with pytest.raises(bi.DataError, match=message):
        bi.IncompleteData(change(table), "g")

"""Exact conversion of a table to JSON text and bytes and back, with dtypes, categories, index and objects.

Neither Arrow nor netCDF can represent everything in pandas (categories that are intervals or tuples, integers of any
size, columns of objects, frequencies of dates). Each array is therefore written in parts: numbers as their bytes, a
category as its codes and its categories, a column of objects as codes and the distinct values, each with its type.
Reading never executes code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.errors import DataError
from bayesimp.table.exact_values import Unknown, read_value, read_zone, value_record, zone_record

__all__ = ["check_exact", "from_exact", "to_exact"]

MASKED = pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray
# types of objects that need no closer look
PLAIN = {str, bool, int, float, type(None), type(pd.NA), type(pd.NaT)}


def to_exact(frame: pd.DataFrame) -> tuple[str, bytes]:
    """The table as JSON text and the bytes it refers to, with the part of ``frame.attrs`` that a file can hold.

    Raises
    ------
    DataError
        A column or the index holds something that cannot be written; see `check_exact`.
    """
    out = _Writer()
    columns = [
        _about(f"column '{name}'", lambda column=column: out.array(_array_of(column)))
        for name, column in frame.items()
    ]
    record = {
        "columns": out.index(frame.columns),
        "index": _about("the index", lambda: out.index(frame.index)),
        "data": columns,
        "attrs": _attrs(frame.attrs),
    }
    return json.dumps(record), b"".join(out.blobs)


def from_exact(text: str, blob: bytes) -> pd.DataFrame:
    """The table that `to_exact` wrote."""
    record, read = json.loads(text), _Reader(blob)
    index = read.index(record["index"])
    arrays = [read.array(a) for a in record["data"]]
    # with explicit dtypes, because pandas >= 3 turns text in object columns into its own string type
    frame = pd.DataFrame(
        {k: pd.Series(a, index=index, dtype=a.dtype) for k, a in enumerate(arrays)}, index=index
    )
    frame.columns = read.index(record["columns"])
    frame.attrs = read_value(record["attrs"])
    return frame


def check_exact(frame: pd.DataFrame) -> None:
    """Refuse a table that could not be read back unchanged from a file.

    Raises
    ------
    DataError
        The message names the column, the type and the remedy.
    """
    for name, column in frame.items():
        whole = column.dtype == object and not set(map(type, column.to_numpy())) <= PLAIN
        _about(f"column '{name}'", lambda part=column if whole else column.iloc[:0]: _try(part))
    levels = frame.index.levels if isinstance(frame.index, pd.MultiIndex) else [frame.index]
    for level in (*levels, frame.columns):
        _about(
            "the index", lambda level=level: _same(level, lambda w: w.index(level), lambda r, a: r.index(a))
        )
    _about("the index", lambda: [value_record(name) for name in frame.index.names])


def _try(column: pd.Series) -> None:
    array = _array_of(column)
    _same(array, lambda writer: writer.array(array), lambda reader, record: reader.array(record))


def _same(what: Any, write: Callable, read: Callable) -> None:
    """Write an array, read it back, and check that its type (and frequency) is unchanged."""
    writer = _Writer()
    record = json.loads(json.dumps(write(writer)))
    back = read(_Reader(b"".join(writer.blobs)), record)
    if back.dtype != what.dtype or getattr(back, "freq", None) != getattr(what, "freq", None):
        raise Unknown(f"{what.dtype}")


def _about(what: str, write: Callable) -> Any:
    try:
        return write()
    except Unknown as unknown:
        raise DataError(
            f"In the table, {what} holds values of a type that cannot be saved in files: {unknown}. Convert them to "
            "text, numbers or a category, or drop them from the table."
        ) from None


def _attrs(attrs: dict) -> Any:
    kept = []
    for name, value in attrs.items():
        with suppress(Unknown):
            kept.append([value_record(name), value_record(value)])
    return ["dict", kept]


def _array_of(column: pd.Series) -> Any:
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


class _Writer:
    """Writes records of arrays and collects their bytes in `blobs`."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.at = 0

    def blob(self, data: bytes) -> list[int]:
        self.blobs.append(data)
        self.at += len(data)
        return [self.at - len(data), self.at]

    def array(self, a: Any) -> dict[str, Any]:
        dtype = a.dtype
        if isinstance(dtype, pd.StringDtype):
            record = {"kind": "string", "storage": dtype.storage, "na": value_record(dtype.na_value)}
            return record | self.distinct(a.to_numpy(object, na_value=None))
        match a:
            case pd.arrays.NumpyExtensionArray():
                return self.array(a.to_numpy())
            case np.ndarray() if dtype.kind in "biufcmM":
                return {
                    "kind": "numpy",
                    "dtype": dtype.str,
                    "at": self.blob(np.ascontiguousarray(a).tobytes()),
                }
            case np.ndarray() if dtype.kind == "O":
                return {"kind": "object"} | self.distinct(a)
            case pd.Categorical():
                codes, categories = self.array(np.asarray(a.codes)), self.index(dtype.categories)
                return {
                    "kind": "category",
                    "codes": codes,
                    "categories": categories,
                    "ordered": bool(dtype.ordered),
                }
            case pd.arrays.DatetimeArray() if a.tz is not None:
                utc = np.asarray(a.tz_convert("UTC").tz_localize(None))
                return {"kind": "zoned", "tz": zone_record(a.tz), "utc": self.array(utc)}
            case pd.arrays.DatetimeArray() | pd.arrays.TimedeltaArray():
                return self.array(np.asarray(a))
            case pd.arrays.PeriodArray():
                return {"kind": "period", "dtype": str(dtype), "ordinals": self.array(a.asi8)}
            case pd.arrays.IntervalArray():
                ends = {side: self.index(getattr(a, side)) for side in ("left", "right")}
                return {"kind": "interval", "closed": a.closed} | ends
            case pd.arrays.SparseArray():
                record = {
                    "kind": "sparse",
                    "dense": self.array(np.asarray(a)),
                    "fill": value_record(a.fill_value),
                }
                return record | {"subtype": np.dtype(dtype.subtype).str, "index": a.kind}
        if isinstance(a, MASKED):
            mask, zero = np.asarray(a.isna()), dtype.numpy_dtype.type(0)
            values = a.to_numpy(dtype.numpy_dtype, na_value=zero)
            return {
                "kind": "masked",
                "type": type(a).__name__,
                "values": self.array(values),
                "mask": self.array(mask),
            }
        if isinstance(dtype, pd.ArrowDtype):
            return {"kind": "arrow", "at": self.blob(_arrow_bytes(a))}
        raise Unknown(str(dtype))

    def distinct(self, values: np.ndarray) -> dict[str, Any]:
        """Codes of the values, and the distinct values as JSON."""
        place: dict[Any, int] = {}
        records: list = []
        codes = np.empty(len(values), dtype=np.int32)
        for k, value in enumerate(values):
            if type(value) in (str, int, bool, type(None)):
                key: Any = (type(value), value)  # 1, True and 1.0 are equal
                record = None
            else:
                record = value_record(value)
                key = json.dumps(record)
            if key not in place:
                place[key] = len(records)
                records.append(value_record(value) if record is None else record)
            codes[k] = place[key]
        return {"codes": self.array(codes), "values": records}

    def index(self, index: pd.Index) -> dict[str, Any]:
        if isinstance(index, pd.MultiIndex):
            levels = [self.index(level) for level in index.levels]
            codes = [self.array(np.asarray(code)) for code in index.codes]
            return {
                "kind": "multi",
                "levels": levels,
                "codes": codes,
                "names": [value_record(n) for n in index.names],
            }
        name = value_record(index.name)
        if isinstance(index, pd.RangeIndex):
            return {"kind": "range", "range": [index.start, index.stop, index.step], "name": name}
        freq = index.freq if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) else None
        array = index.to_numpy() if isinstance(index.dtype, np.dtype) else index.array
        return {"kind": "flat", "array": self.array(array), "name": name, "freq": _offset(freq)}


class _Reader:
    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def array(self, record: dict[str, Any]) -> Any:
        match record["kind"]:
            case "numpy":
                first, last = record["at"]
                return np.frombuffer(self.blob[first:last], dtype=record["dtype"]).copy()
            case "object":
                return self.distinct(record)
            case "category":
                dtype = pd.CategoricalDtype(self.index(record["categories"]), record["ordered"])
                return pd.Categorical.from_codes(self.array(record["codes"]), dtype=dtype)
            case "zoned":
                utc = pd.DatetimeIndex(self.array(record["utc"])).tz_localize("UTC")
                return utc.tz_convert(read_zone(record["tz"])).array
            case "period":
                dtype = pd.PeriodDtype(record["dtype"].removeprefix("period[").removesuffix("]"))
                return pd.arrays.PeriodArray(self.array(record["ordinals"]), dtype=dtype)
            case "interval":
                left, right = (self.index(record[side]) for side in ("left", "right"))
                return pd.arrays.IntervalArray.from_arrays(left, right, closed=record["closed"])
            case "sparse":
                dtype = pd.SparseDtype(np.dtype(record["subtype"]), read_value(record["fill"]))
                dense = self.array(record["dense"])
                return pd.arrays.SparseArray(
                    dense, fill_value=dtype.fill_value, kind=record["index"], dtype=dtype
                )
            case "masked":
                made = {kind.__name__: kind for kind in MASKED}[record["type"]]
                return made(self.array(record["values"]), self.array(record["mask"]))
            case "string":
                dtype = pd.StringDtype(record["storage"], na_value=read_value(record["na"]))
                return pd.array(self.distinct(record), dtype=dtype)
        first, last = record["at"]
        return _arrow_array(self.blob[first:last])

    def distinct(self, record: dict[str, Any]) -> np.ndarray:
        values = np.empty(len(record["values"]), dtype=object)
        for k, value in enumerate(record["values"]):  # one by one: a list is a value, not a row of values
            values[k] = read_value(value)
        return values[self.array(record["codes"])]

    def index(self, record: dict[str, Any]) -> pd.Index:
        match record["kind"]:
            case "multi":
                levels, codes = (
                    [self.index(a) for a in record["levels"]],
                    [self.array(a) for a in record["codes"]],
                )
                names = [read_value(name) for name in record["names"]]
                return pd.MultiIndex(levels, codes, names=names, verify_integrity=False)
            case "range":
                return pd.RangeIndex(*record["range"], name=read_value(record["name"]))
        array, name = self.array(record["array"]), read_value(record["name"])
        index = pd.Index(array, dtype=array.dtype, name=name)
        if record["freq"] is not None:
            index = type(index)(array, freq=_offset_of(record["freq"]), name=name)
        return index


def _arrow_bytes(a: Any) -> bytes:
    import pyarrow as pa

    table = pa.table({"": pa.chunked_array(a.__arrow_array__()) if len(a) else a.__arrow_array__()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _arrow_array(blob: bytes) -> Any:
    import pyarrow as pa

    return pd.arrays.ArrowExtensionArray(pa.ipc.open_file(pa.py_buffer(blob)).read_all().column(0))


def _offset(freq: Any) -> Any:
    """The frequency of an index of dates."""
    if freq is None:
        return None
    if pd.tseries.frequencies.to_offset(freq.freqstr) == freq if "<" not in freq.freqstr else False:
        return freq.freqstr
    if type(freq) is pd.DateOffset:
        return {"n": freq.n, "normalize": freq.normalize, "kwds": value_record(freq.kwds)}
    raise Unknown(f"frequency {freq!r}; remove it with index.freq = None")


def _offset_of(record: Any) -> Any:
    if isinstance(record, str):
        return record
    return pd.DateOffset(record["n"], record["normalize"], **read_value(record["kwds"]))

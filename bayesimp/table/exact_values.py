"""Exact conversion of single values to JSON and back, each with the name of its type. Reading never executes code."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

__all__ = ["Unknown", "read_value", "read_zone", "value_record", "zone_record"]


class Unknown(Exception):
    """A description of what cannot be written."""


# Values in columns of objects: the name of each type, and the function that makes a value of it.
WRITE: dict[type, Callable[[Any], Any]] = {
    complex: lambda v: [v.real.hex(), v.imag.hex()],
    bytes: lambda v: v.hex(),
    Decimal: str,
    Fraction: str,
    UUID: str,
    dt.date: lambda v: v.isoformat(),
    dt.timedelta: lambda v: [v.days, v.seconds, v.microseconds],
    dt.datetime: lambda v: [v.replace(tzinfo=None, fold=0).isoformat(), v.fold, zone_record(v.tzinfo)],
    dt.time: lambda v: [v.replace(tzinfo=None, fold=0).isoformat(), v.fold, zone_record(v.tzinfo)],
    pd.Timestamp: lambda v: [int(v.asm8.astype(np.int64)), v.unit, zone_record(v.tzinfo)],
    pd.Timedelta: lambda v: [int(v.asm8.astype(np.int64)), v.unit],
    pd.Period: lambda v: [v.ordinal, v.freqstr],
    pd.Interval: lambda v: [value_record(v.left), value_record(v.right), v.closed],
    tuple: lambda v: [value_record(x) for x in v],
    list: lambda v: [value_record(x) for x in v],
    set: lambda v: sorted((value_record(x) for x in v), key=json.dumps),
    frozenset: lambda v: sorted((value_record(x) for x in v), key=json.dumps),
    dict: lambda v: [[value_record(key), value_record(x)] for key, x in v.items()],
}
READ: dict[str, Callable[[Any], Any]] = {
    "int": int,  # as text: JSON readers differ on large ones
    "float": float.fromhex,
    "complex": lambda r: complex(float.fromhex(r[0]), float.fromhex(r[1])),
    "bytes": bytes.fromhex,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "UUID": UUID,
    "date": dt.date.fromisoformat,
    "timedelta": lambda r: dt.timedelta(*r),
    "datetime": lambda r: dt.datetime.fromisoformat(r[0]).replace(fold=r[1], tzinfo=read_zone(r[2])),
    "time": lambda r: dt.time.fromisoformat(r[0]).replace(fold=r[1], tzinfo=read_zone(r[2])),
    "Timestamp": lambda r: _timestamp(*r),
    "Timedelta": lambda r: pd.Timedelta(np.timedelta64(r[0], r[1])),
    "Period": lambda r: pd.Period(ordinal=r[0], freq=r[1]),
    "Interval": lambda r: pd.Interval(read_value(r[0]), read_value(r[1]), r[2]),
    "tuple": lambda r: tuple(read_value(x) for x in r),
    "list": lambda r: [read_value(x) for x in r],
    "set": lambda r: {read_value(x) for x in r},
    "frozenset": lambda r: frozenset(read_value(x) for x in r),
    "dict": lambda r: {read_value(key): read_value(x) for key, x in r},
    "numpy": lambda r: np.frombuffer(bytes.fromhex(r[1]), dtype=r[0])[0],
    "array": lambda r: np.frombuffer(bytes.fromhex(r[1]), dtype=r[0]).reshape(r[2]).copy(),
    "array of objects": lambda r: _objects(r),
    "NA": lambda r: pd.NA,
    "NaT": lambda r: pd.NaT,
}


def value_record(value: Any) -> Any:
    """A value as JSON: text, True, False and None directly, others as the name of their type and its parts."""
    kind = type(value)
    if kind in (str, bool, type(None)):
        return value
    if kind is int:
        return ["int", str(value)]
    if kind is float:
        return ["float", value.hex()]
    if value is pd.NA:
        return ["NA", 0]
    if value is pd.NaT:
        return ["NaT", 0]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return ["array of objects", [list(value.shape), [value_record(x) for x in value.ravel()]]]
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufcmMUS":
        name, shape = ("array", [list(value.shape)]) if isinstance(value, np.ndarray) else ("numpy", [])
        return [name, [value.dtype.str, value.tobytes().hex(), *shape]]
    if kind in WRITE:
        return [kind.__name__, WRITE[kind](value)]
    raise Unknown(f"{kind.__module__}.{kind.__qualname__}")


def read_value(record: Any) -> Any:
    """The value that a record of `exact_values` describes."""
    return READ[record[0]](record[1]) if isinstance(record, list) else record


def _timestamp(value: int, unit: str, zone: Any) -> pd.Timestamp:
    made = pd.Timestamp(np.array(value, dtype=np.int64).view(f"M8[{unit}]")[()])
    return made if zone is None else made.tz_localize("UTC").tz_convert(read_zone(zone))


def _objects(record: list) -> np.ndarray:
    shape, values = record
    out = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        out[k] = read_value(value)
    return out.reshape(shape)


def zone_record(tz: Any) -> list | None:
    """A time zone as its name, or as its offset from UTC; None stays None."""
    if tz is None:
        return None
    module = type(tz).__module__.partition(".")[0]
    if isinstance(tz, ZoneInfo) and tz.key:
        return ["zoneinfo", tz.key]
    if type(tz) is dt.timezone:
        return ["offset", tz.utcoffset(None).total_seconds()]
    if module == "pytz":
        return ["pytz", tz.zone] if tz.zone else ["pytz", tz.utcoffset(None).total_seconds() / 60]
    raise Unknown(f"time zone {tz!r}; use .dt.tz_convert with a name of zoneinfo")


def read_zone(record: list | None) -> dt.tzinfo | None:
    """The time zone that a record names, or None."""
    if record is None:
        return None
    kind, what = record
    match kind:
        case "zoneinfo":
            return ZoneInfo(what)
        case "offset":
            return dt.timezone(dt.timedelta(seconds=what)) if what else dt.UTC
    import pytz

    return pytz.timezone(what) if isinstance(what, str) else pytz.FixedOffset(int(what))

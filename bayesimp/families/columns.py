"""Families of variables: inferred from a column's content, or checked against it.

Inference uses the first rule that fits:

    nothing observed                                        normal (nothing else is known; see the summary)
    bool; two values of text, category or whole numbers     bernoulli: -1/1, 0/100, 1.0/3.0, ...
    ordered category                                        ordinal
    text or category                                        categorical
    number                                                  normal
    anything else (dates, mixed content)                    none: kept in the table, not imputed

Whole numbers with more than two values are normal, never poisson: in tables of patients and pupils they are scores,
ages and years far more often than counts, and a score taken for a count would silently get the wrong variance. Counts
and short scales must be declared: ``families={"visits": "poisson"}``. Two whole numbers that occur once each are taken
as measurements, not as a coding, and are normal unless they are 0 and 1 or 1 and 2. Two values that are not whole
numbers (doses of 0.5 and 1.5) are also normal; if they are imputed, an event says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.messages import listing, where

__all__ = [
    "as_continuous",
    "encode",
    "infer",
    "positions",
    "stored_as_text",
]


def infer(column: pd.Series) -> str:
    """The family of a column by the rules of the module docstring."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        two = len(_few_values(column)) == 2
        return "bernoulli" if two else "ordinal" if dtype.ordered else "categorical"
    kind = _kind(column)
    if kind == "empty":
        return "normal"
    if kind == "boolean":
        return "bernoulli"
    if kind == "text":
        return "bernoulli" if len(_few_values(column)) == 2 else "categorical"
    if kind == "number":
        values = _few_values(column)
        whole = len(values) == 2 and all(float(value).is_integer() for value in values)
        coded = set(values) in ({0, 1}, {1, 2}) or int(column.notna().sum()) > 2
        return "bernoulli" if whole and coded else "normal"
    return "none"


def encode(
    column: pd.Series,
    family: str,
    words: Callable[[NDArray[np.bool_]], str] | None = None,
    levels: tuple | None = None,
) -> tuple[NDArray[np.float64], tuple]:
    """A column as numbers.

    Parameters
    ----------
    column
        (n,), with missing cells.
    family
        Its name, as in `bayesimp.families.registry.family_of`.
    words
        Describes rows in words, as `bayesimp.table.clusters.Clusters.where`; None: without clusters.
    levels
        Known levels, if the column is part of another; None: those of the column.

    Returns
    -------
    values
        (n,) float64, NaN where missing: for bernoulli, ordinal and categorical the position of the value in ``levels``,
        otherwise the number itself.
    levels
        Observed values coded as 0, 1, ...: sorted, or in the order of a category. Empty for numbers.

    Raises
    ------
    DataError
        A value is outside the family's support; the message says which and where.
    """
    place = _Place(column, family, words or partial(where, index=column.index))
    record = family_of(family)
    if not record.is_imputable:
        raise place.error(
            "it is neither numeric, text nor category",
            column.notna().to_numpy(),
            "Convert it to one of these",
        )
    if not record.is_coded:
        values = _numbers(column, place)
        if np.isinf(values).any():
            raise place.error(
                "it is infinite", np.isinf(values), "Correct these values or set them to missing"
            )
        _check_numbers(values, record, place)
        return values, ()
    if record.is_ordered and _kind(column) == "text" and not getattr(column.dtype, "ordered", False):
        raise place.error(
            "the order of its texts is unknown", column.notna().to_numpy(),
            "Make it an ordered category, pandas.Categorical(..., categories=[...], ordered=True)",
        )  # fmt: skip
    codes_of_values, values = positions(column)
    if levels is not None:
        place_of = np.array([levels.index(value) for value in values.tolist()] + [-1])
        return np.where(codes_of_values < 0, np.nan, place_of[codes_of_values]), levels
    levels = tuple(values.tolist())
    if 0 < record.most_levels < len(levels):
        most = "two" if record.most_levels == 2 else str(record.most_levels)
        raise place.error(
            f"it has {len(levels)} values ({listing(levels)}), but {record.name} allows {most}", codes_of_values >= 0,
            "Declare 'categorical' or 'ordinal', or merge values",
        )  # fmt: skip
    return np.where(codes_of_values < 0, np.nan, codes_of_values), levels


def _check_numbers(values: NDArray[np.float64], family: Family, place: _Place) -> None:
    """Refuse numbers outside the support of their family."""
    bad = family.outside(values)
    if bad.any():
        raise place.error(family.support.rule, bad, family.support.cure)


@dataclass(frozen=True)
class _Place:
    """The place in the table that a message refers to."""

    column: pd.Series
    family: str
    words: Callable[[NDArray[np.bool_]], str]

    def error(self, problem: str, rows: NDArray[np.bool_], advice: str) -> DataError:
        found = self.column[rows]
        try:
            values = listing(pd.unique(found)[:6], most=3)
        except TypeError:  # unhashable values, such as lists
            values = listing(pd.unique(found.map(repr))[:6], most=3)
        return DataError(
            f"Variable '{self.column.name}' cannot be {self.family}: {problem}. Found {values} "
            f"{self.words(rows)}. {advice}."
        )


def _kind(column: pd.Series) -> str:
    """``boolean``, ``number``, ``text``, ``empty`` or ``other``, from the content and not only the type."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _kind(pd.Series(dtype.categories))
    if pd.api.types.is_object_dtype(dtype):
        content = pd.api.types.infer_dtype(column, skipna=True)
        numbers = ("integer", "floating", "mixed-integer-float", "decimal")
        return {"boolean": "boolean", "string": "text", "empty": "empty"}.get(
            content, "number" if content in numbers else "other"
        )
    if column.isna().all():
        return "empty"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "number"
    return "text" if pd.api.types.is_string_dtype(dtype) else "other"


def as_continuous(column: pd.Series) -> str:
    """Advice on how to treat a column as continuous, depending on its content."""
    if _kind(column) == "text" and stored_as_text(column):
        return (
            f"If it holds numbers, pandas.to_numeric(table[{str(column.name)!r}], errors='coerce') makes it numbers, "
            "and anything else missing."
        )
    if _kind(column) not in ("number", "boolean", "empty"):
        values = listing(_few_values(column))
        return (
            f"It holds {values}. If it may be treated as continuous, replace them by numbers in the table, then use "
            f"IncompleteData(..., families={{{str(column.name)!r}: 'normal'}})."
        )
    declared = f"IncompleteData(..., families={{{str(column.name)!r}: 'normal'}})"
    return f"If it may be treated as continuous, declare it: {declared}."


def stored_as_text(column: pd.Series) -> str:
    """``its numbers are stored as text (all but 'n/a')``; "" if fewer than half of the distinct texts are numbers."""
    if isinstance(column.dtype, pd.CategoricalDtype) or _kind(column) != "text":
        return ""
    texts = pd.Series(column.dropna().unique(), dtype=object)
    number = pd.to_numeric(texts, errors="coerce").notna()
    if 2 * int(number.sum()) < len(texts):
        return ""
    but = f" (all but {listing(texts[~number], most=3)})" if not number.all() else ""
    return f"its numbers are stored as text{but}"


def _few_values(column: pd.Series) -> list:
    """At most three distinct observed values in order of appearance; the first rows often suffice."""
    for part in (column.iloc[:1000], column):
        values = part.dropna().unique()
        if len(values) > 2:
            break
    return list(values[:3])


def _numbers(column: pd.Series, place: _Place) -> NDArray[np.float64]:
    """The numbers of a column as float64 with NaN."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        numbers = _kind(column) == "number"  # whole numbers with missing values have no NaN
        column = column.astype(object).astype("Float64") if numbers else column
    kind = _kind(column)
    if kind == "empty":
        return np.full(len(column), np.nan)
    if kind not in ("number", "boolean"):
        known = pd.to_numeric(column.astype(object), errors="coerce").notna() & (kind == "text")
        text = (column.notna() & ~known).to_numpy()
        if kind == "text" and not text.all():
            raise place.error(
                stored_as_text(column) or "it has values that are not numbers",
                text if text.any() else column.notna().to_numpy(),
                f"pandas.to_numeric(table[{str(column.name)!r}], errors='coerce') makes it numbers, and "
                "anything else missing",
            )
        raise place.error(
            "it has values that are not numbers", text,
            "Give it a family with levels ('bernoulli', 'categorical'; 'ordinal' for an ordered category), or make it "
            "numeric in the table",
        )  # fmt: skip
    return column.astype("Float64" if column.dtype == object else column.dtype).to_numpy(
        np.float64, na_value=np.nan
    )


def positions(column: pd.Series) -> tuple[NDArray[np.int64], pd.Index]:
    """The position of each value among the distinct values, -1 if missing, and the distinct values.

    These are sorted, or in the order of a category (without levels that have no rows), or in order of appearance if
    values cannot be compared.

    Raises
    ------
    DataError
        Values are mutable, such as lists, so they cannot be levels.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return column.cat.codes.to_numpy(np.int64), pd.Index(column.cat.categories)
    try:
        codes, values = pd.factorize(column, sort=True)
    except TypeError:
        codes, values = _in_order_of_appearance(column)
    return codes.astype(np.int64), pd.Index(values)


def _in_order_of_appearance(column: pd.Series) -> tuple[NDArray[np.int64], pd.Index]:
    try:
        return pd.factorize(column)
    except TypeError as error:
        kinds = listing(sorted({type(value).__name__ for value in column.dropna()}))
        raise DataError(
            f"The values of '{column.name}' ({kinds}) are mutable, so they cannot be ids or levels. Convert them to "
            f"text in the table: table[{str(column.name)!r}].astype(str)."
        ) from error

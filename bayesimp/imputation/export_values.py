"""Columns of completed tables as numbers with labels, complete text and dates: what Stata and SPSS can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.errors import DataError
from bayesimp.messages import listing

__all__ = ["labelled"]

STATA_INTEGER = 2**31 - 101  # whole numbers below are stored as such
LARGEST = 2**53  # larger whole numbers are not exact as doubles, the only large numbers in SPSS and Stata


def labelled(
    long: pd.DataFrame, incomplete: set[str]
) -> tuple[pd.DataFrame, dict[str, dict[int | float, str]]]:
    """The table as numbers and complete text, and column -> labels of its numbers.

    Raises
    ------
    DataError
        A column holds something else, or whole numbers beyond 2^53.
    """
    made, labels = {}, {}
    for name in long:
        column = long[name]
        codes = _codes(column, name in incomplete)
        if codes is not None:
            made[name], labels[str(name)] = codes
        elif pd.api.types.is_numeric_dtype(column.dtype):
            made[name] = _number(column)
        else:
            made[name] = _text_or_date(column)
    return pd.DataFrame(made), labels


def _codes(column: pd.Series, incomplete: bool) -> tuple[pd.Series, dict[int | float, str]] | None:
    """Numbers from 0 and their labels for categories, true and false, and incomplete text; None for other columns."""
    values, at = column.dropna(), None
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [str(value) for value in column.dtype.categories]
        codes, at = column.cat.codes.to_numpy(), _own_numbers(column.dtype.categories)
    elif pd.api.types.is_bool_dtype(column.dtype) or (
        len(values) and values.map(type).isin([bool, np.bool_]).all()
    ):
        levels, codes = ["false", "true"], column.astype("boolean").astype("Int8").fillna(-1).to_numpy()
    elif incomplete and len(values) and values.map(type).eq(str).all():
        levels = sorted(values.unique())
        codes = pd.Categorical(column, levels).codes
    else:
        return None
    at = np.arange(len(levels)) if at is None else at
    numbers = pd.Series(np.where(codes < 0, np.nan, at[codes] if len(at) else np.nan), index=column.index)
    if not numbers.isna().any():
        numbers = numbers.astype(np.int32)
    if any(not level for level in levels):
        raise DataError(
            f"export: '{column.name}' has an empty text among its values, which cannot be a label."
        )
    if same := [level for level in dict.fromkeys(levels) if levels.count(level) > 1]:
        raise DataError(
            f"export: '{column.name}' has different categories that are written alike, {listing(same)}, "
            "and would get the same label. Rename the categories."
        )
    _check_nul(column.name, levels)
    return numbers, dict(zip(at.tolist(), levels, strict=True))


def _own_numbers(categories: pd.Index) -> np.ndarray | None:
    """Whole numbers in increasing order, which stay the numbers of their categories."""
    if not pd.api.types.is_integer_dtype(categories.dtype) or not categories.is_monotonic_increasing:
        return None
    numbers = categories.to_numpy()
    return (
        numbers if len(numbers) and max(abs(int(numbers[0])), abs(int(numbers[-1]))) < STATA_INTEGER else None
    )


def _check_nul(name: Any, texts: Sequence[str]) -> None:
    if any("\0" in text for text in texts):
        raise DataError(
            f"export: '{name}' has texts with a null character, where Stata and SPSS end a text. Remove it."
        )


def _number(column: pd.Series) -> pd.Series:
    dtype = getattr(column.dtype, "numpy_dtype", column.dtype)
    if pd.api.types.is_integer_dtype(dtype):
        values = column.dropna()
        if len(values) and values.abs().max() >= LARGEST:
            raise DataError(
                f"export: '{column.name}' has whole numbers beyond 2^53, which would be rounded. Convert it to text."
            )
        return (
            column.astype(float)
            if column.isna().any() or values.abs().max() >= STATA_INTEGER
            else column.astype(np.int32)
        )
    if pd.api.types.is_complex_dtype(dtype):
        raise DataError(
            f"export: '{column.name}' has complex numbers. Split it into real and imaginary parts."
        )
    return column.astype(float)


def _text_or_date(column: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(column.dtype) and getattr(column.dtype, "tz", None) is None:
        return column
    values = column.dropna()
    if not values.map(type).eq(str).all():
        raise DataError(
            f"export: '{column.name}' ({column.dtype}) is neither numeric, text, category nor date. Leave it out of "
            "the table, or convert it to text."
        )
    if (values == "").any() and column.isna().any():
        raise DataError(
            f"export: '{column.name}' has empty and missing texts, which would become the same. Replace the empty "
            "ones by a word."
        )
    _check_nul(column.name, values.unique())
    return column.astype(object).where(column.notna(), None)

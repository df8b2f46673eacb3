"""Reading tables from files with declared types; messages name the column, value and rows that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bayesimp.errors import DataError
from bayesimp.messages import listing, suggestion, where

__all__ = ["read_table", "with_types"]

type Type = str | tuple[str, ...] | pd.CategoricalDtype


def read_table(
    path: Path,
    types: Mapping[str, Type] | None = None,
    *,
    missing: Sequence[str] = (),
    separator: str = ",",
    decimal: str = ".",
) -> pd.DataFrame:
    """A CSV, parquet or feather file as a table.

    Whole numbers remain integers even if some are missing. CSV: UTF-8, with a header; empty cells, NA, NaN, null and the
    like count as missing, as do the texts in `missing`.

    Parameters
    ----------
    types
        Type by column: "string" ("007" keeps its zeros), "integer", "number", "boolean", "category"; a list of categories
        in order, which makes an ordered categorical; or a pandas categorical dtype, whose categories are matched as text.

    Raises
    ------
    DataError
        The file cannot be read, or a column is not of its declared type.
    """
    types = dict(types or {})
    try:
        if path.suffix.lower() == ".csv":
            frame = _read_csv(path, types, missing, separator, decimal)
        elif path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_feather(path)
    except DataError:
        raise
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8; save it in that encoding.") from None
    except (OSError, ValueError, NotImplementedError) as error:  # parser and Arrow errors too
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return with_types(frame, types, path.name)


def with_types(frame: pd.DataFrame, types: Mapping[str, Type], where: str) -> pd.DataFrame:
    """The table with its columns converted to their declared types; `where` names the table in messages."""
    for name in types:
        if name not in frame.columns:
            raise DataError(f"types: {where} has no column '{name}'. {suggestion(name, frame.columns)}")
    return frame.assign(**{name: _typed(frame[name], kind) for name, kind in types.items()})


def _read_csv(
    path: Path, types: Mapping[str, Type], missing: Sequence[str], separator: str, decimal: str
) -> pd.DataFrame:
    header = pd.read_csv(
        path, sep=separator, header=None, nrows=1, dtype=str, encoding="utf-8-sig", skipinitialspace=True
    )
    twice = header.iloc[0][header.iloc[0].duplicated() & header.iloc[0].notna()]
    if len(twice):  # pandas would silently rename the second
        raise DataError(
            f"{path}: these column names occur more than once: {listing(twice.unique())}. Rename them."
        )
    frame = pd.read_csv(
        path, sep=separator, decimal=decimal, na_values=list(missing), encoding="utf-8-sig", low_memory=False,
        skipinitialspace=True, dtype={name: str for name, kind in types.items() if kind != "number"},
    )  # fmt: skip
    for name in frame.select_dtypes("float64").columns[frame.select_dtypes("float64").isna().any()]:
        column = frame[name]
        if column.notna().any() and (column.dropna() % 1 == 0).all() and column.abs().max() < 2**53:
            frame[name] = column.astype("Int64")
    return frame


def _typed(column: pd.Series, kind: Type) -> pd.Series:
    if isinstance(kind, tuple):
        kind = pd.CategoricalDtype(list(kind), ordered=True)
    if isinstance(kind, pd.CategoricalDtype):
        return _category(column, kind)
    match kind:
        case "string":
            return column if _is_text(column) else column.astype("string").astype(object)
        case "category":
            return column.astype("category")
        case "boolean":
            return _boolean(column)
    numbers = pd.to_numeric(column, errors="coerce")
    _refuse(column, column.notna() & numbers.isna(), "a number")
    if kind == "number":
        return numbers.astype(float)
    _refuse(column, numbers.notna() & (numbers % 1 != 0), "a whole number")
    return numbers.astype("Int64") if numbers.isna().any() else numbers.astype("int64")


def _category(column: pd.Series, kind: pd.CategoricalDtype) -> pd.Series:
    """A column with these categories, matched as text."""
    known = {str(value): value for value in kind.categories}
    text = column.astype("string")
    _refuse(column, text.notna() & ~text.isin(list(known)), f"one of its categories ({listing(known)})")
    return text.astype(object).map(known).astype(kind)


def _boolean(column: pd.Series) -> pd.Series:
    """A column of "true" and "false", in upper or lower case, as booleans."""
    known = {"true": True, "false": False}
    text = column.astype("string").str.lower()
    _refuse(column, text.notna() & ~text.isin(list(known)), "true or false")
    return text.astype(object).map(known).astype("boolean" if text.isna().any() else "bool")


def _is_text(column: pd.Series) -> bool:
    return column.dtype == object or isinstance(column.dtype, pd.StringDtype)


def _refuse(column: pd.Series, bad: pd.Series, wanted: str) -> None:
    bad = bad.fillna(False).to_numpy(bool)
    if bad.any():
        values = listing(pd.unique(column[bad]), most=3)
        raise DataError(
            f"Column '{column.name}': {values} is not {wanted}, {where(bad, index=column.index)}. Correct it, "
            "or change its type in the plan; list texts that mean missing in missing = [...]."
        )

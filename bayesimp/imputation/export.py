"""Write completed tables for other software; the suffix chooses the format: ``imp.export("pupils.dta")``.

    .csv        mice's long format: `.imp` (0: the incomplete table), `.id`, the columns; ``mice::as.mids`` reads it
    .parquet    the same with types; ``partitioned=True``: a folder with a part for each table, `imp_m` and `imp_id`
    .dta        Stata: the long format of ``mi import flong, m(imp_m) id(imp_id) imputed(...)``
    .sav        SPSS: `Imputation_` (0: the incomplete table), by which SPSS pools; extra ``spss``

Stata and SPSS represent categories by numbers with labels, and have no missing text, so categories, true and false, and
incomplete text become numbers from 0 with value labels. Names that they do not allow are refused, with suggestions.
Stata creates `_mi_m`, `_mi_id` and `_mi_miss` itself on import (Stata Multiple-Imputation Reference Manual, mi import
flong).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.errors import DataError, SpecificationError
from bayesimp.messages import listing

if TYPE_CHECKING:
    from bayesimp.imputation.completed import CompletedTables

__all__ = ["ENDINGS", "SPSS", "STATA", "export", "labelled"]

ENDINGS = (".csv", ".parquet", ".dta", ".sav")
STATA, SPSS = ("imp_m", "imp_id"), ("Imputation_", "Row_")  # columns that number tables and rows
LARGEST = 2**53  # larger whole numbers are not exact as doubles, the only large numbers in SPSS and Stata
# reserved words of both
STATA_WORDS = frozenset(
    "_all _b byte _coef _cons double float if in int long _n _N _pi _pred _rc _skip strL using with".split()
)
SPSS_WORDS = frozenset("ALL AND BY EQ GE GT LE LT NE NOT OR TO WITH".split())


def export(
    tables: CompletedTables,
    path: str | os.PathLike[str],
    names: Mapping[str, str] | None = None,
    partitioned: bool = False,
) -> Path:
    """Write all tables, the incomplete one first; see `bayesimp.imputation.completed.CompletedTables.export`."""
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise SpecificationError(
            f"export: {path.name!r} must end in one of {', '.join(ENDINGS)}, which determines the format."
        )
    if partitioned and ending != ".parquet":
        raise SpecificationError(
            "export: partitioned=True is for .parquet, a folder with a part for each table."
        )
    long = tables.to_long(include_original=True)
    own = dict(names or {})
    if unknown := [name for name in own if name not in long.columns]:
        raise SpecificationError(f"export: names: the table has no column {listing(unknown)}.")
    long = long.rename(columns=own)
    if twice := sorted({str(name) for name in long.columns if list(long.columns).count(name) > 1}):
        raise SpecificationError(f"export: names: two columns would be called {listing(twice)}.")
    if ending == ".csv":
        long.to_csv(path, index=False)
    elif partitioned:
        # readers skip folders whose names begin with a dot
        own_names = {".imp": STATA[0], ".id": STATA[1]}
        long.rename(columns=own_names).to_parquet(path, index=False, partition_cols=[STATA[0]])
    elif ending == ".parquet":
        long.to_parquet(path, index=False)
    elif ending == ".dta":
        _to_stata(long, path, tables, own)
    else:
        _to_spss(long, path, tables, own)
    return path


def _to_stata(long: pd.DataFrame, path: Path, tables: CompletedTables, names: Mapping[str, str]) -> None:
    _check_names(long, "Stata", r"[^\W\d]\w{0,31}", STATA_WORDS | frozenset(STATA), "32")
    made, labels = labelled(long, _incomplete(tables, names))
    made = _numbered(made, tables, STATA)
    text = {column: made[column].fillna("") for column in made if made[column].dtype == object}
    # version 118 has texts in UTF-8
    made.assign(**text).to_stata(path, write_index=False, version=118, value_labels=labels)


def _to_spss(long: pd.DataFrame, path: Path, tables: CompletedTables, names: Mapping[str, str]) -> None:
    try:
        import pyreadstat
    except ModuleNotFoundError:
        raise SpecificationError(
            "export: .sav files need pyreadstat, which is not installed: pip install 'bayesimp[spss]'."
        ) from None
    _check_names(long, "SPSS", r"[^\W\d_][\w.$#@]{0,63}(?<![.])", SPSS_WORDS | frozenset(SPSS), "64")
    made, labels = labelled(long, _incomplete(tables, names))
    made = _numbered(made, tables, SPSS)
    shown: dict[str, Any] = {name: dict(each) for name, each in labels.items()}
    ordered = [name for name in labels if getattr(long[name].dtype, "ordered", False)]
    measures = {name: "ordinal" if name in ordered else "nominal" for name in labels}
    pyreadstat.write_sav(made, str(path), variable_value_labels=shown, variable_measure=measures)


def _incomplete(tables: CompletedTables, names: Mapping[str, str]) -> set[str]:
    frame = tables.data.frame
    return {names.get(name, name) for name in tables.columns if name not in frame or frame[name].isna().any()}


def _numbered(long: pd.DataFrame, tables: CompletedTables, names: tuple[str, str]) -> pd.DataFrame:
    """The table with numbers of tables, and of rows from 1 in the order of the table, under names that are allowed."""
    n = len(tables.data)
    rows = np.tile(np.arange(1, n + 1), len(long) // n)
    own = {names[0]: long[".imp"].to_numpy(np.int32), names[1]: rows.astype(np.int32)}
    return pd.DataFrame({**own, **{name: long[name] for name in long if name not in (".imp", ".id")}})


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
    values = column.dropna()
    if isinstance(column.dtype, pd.CategoricalDtype):
        levels = [str(value) for value in column.dtype.categories]
        codes = column.cat.codes.to_numpy()
    elif pd.api.types.is_bool_dtype(column.dtype) or (
        len(values) and values.map(type).isin([bool, np.bool_]).all()
    ):
        levels, codes = ["false", "true"], column.astype("boolean").astype("Int8").fillna(-1).to_numpy()
    elif incomplete and len(values) and values.map(type).eq(str).all():
        levels = sorted(values.unique())
        codes = pd.Categorical(column, levels).codes
    else:
        return None
    numbers = pd.Series(np.where(codes < 0, np.nan, codes), index=column.index)
    if not numbers.isna().any():
        numbers = numbers.astype(np.int32)
    if any(not level for level in levels):
        raise DataError(
            f"export: '{column.name}' has an empty text among its values, which cannot be a label."
        )
    return numbers, dict(enumerate(levels))


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
            if column.isna().any() or values.abs().max() >= 2**31 - 101
            else column.astype(np.int32)
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
    return column.astype(object).where(column.notna(), None)


def _check_names(
    long: pd.DataFrame, software: str, pattern: str, reserved: frozenset[str], most: str
) -> None:
    """Refuse names that the software does not allow; for SPSS, also names that differ only in case."""
    names = [str(name) for name in long if name not in (".imp", ".id")]
    taken = frozenset(map(str.lower, reserved)) if software == "SPSS" else reserved
    bad = [
        name for name in names
        if not re.fullmatch(pattern, name) or (name.lower() if software == "SPSS" else name) in taken
        or (software == "Stata" and re.fullmatch(r"str\d+|_mi_.*", name))
    ]  # fmt: skip
    if software == "SPSS":
        folded = [name.lower() for name in names]
        bad += [name for name in names if folded.count(name.lower()) > 1 and name not in bad]
    if bad:
        suggested = ", ".join(
            f"{name!r}: {new!r}" for name, new in zip(bad, _suggested(bad, names), strict=True)
        )
        raise SpecificationError(
            f"export: {software} does not allow the name{'s' if len(bad) > 1 else ''} {listing(list(map(repr, bad)))} "
            f"(at most {most} letters, digits and _, and no reserved word). Give others: names={{{suggested}}}."
        )


def _suggested(bad: Sequence[str], names: Sequence[str]) -> list[str]:
    out: list[str] = []
    for name in bad:
        new = base = ("v_" if not name[:1].isalpha() else "") + re.sub(r"\W+", "_", name).strip("_")[
            :28
        ] or "v"
        k = 1
        while new.lower() in {each.lower() for each in (*names, *out)} or new in STATA_WORDS:
            k += 1
            new = f"{base}_{k}"
        out.append(new)
    return out

"""Write completed tables for other software; the suffix chooses the format: ``imp.export("pupils.dta")``.

    .csv        mice's long format: `.imp` (0: the incomplete table), `.id`, the columns; ``mice::as.mids`` reads it
    .parquet    the same with types; ``partitioned=True``: a folder with a part for each table, `imp_m` and `imp_id`
    .dta        Stata: the long format of ``mi import flong, m(imp_m) id(imp_id) imputed(...)``
    .sav        SPSS: `Imputation_` (0: the incomplete table), by which SPSS pools; extra ``spss``

Stata and SPSS represent categories by numbers with labels, and have no missing text, so categories, true and false, and
incomplete text become numbers from 0 with value labels; categories that are whole numbers in increasing order keep
them. What a format would cut, round or confuse is refused. Names that they do not allow are refused, with suggestions.
Stata creates `_mi_m`, `_mi_id` and `_mi_miss` itself on import (Stata Multiple-Imputation Reference Manual, mi import
flong).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.errors import DataError, SpecificationError
from bayesimp.imputation.export_checks import (
    SPSS,
    STATA,
    check_dates,
    check_empty_texts,
    check_spss_names,
    check_spss_texts,
    check_stata_labels,
    check_stata_names,
)
from bayesimp.imputation.export_values import labelled
from bayesimp.messages import listing

if TYPE_CHECKING:
    from bayesimp.imputation.completed import CompletedTables

__all__ = ["ENDINGS", "export"]

ENDINGS = (".csv", ".parquet", ".dta", ".sav")


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
        check_empty_texts(long)
        long.to_csv(path, index=False)
    elif ending == ".parquet":
        _to_parquet(long, path, partitioned)
    elif ending == ".dta":
        _to_stata(long, path, tables, own)
    else:
        _to_spss(long, path, tables, own)
    return path


def _to_parquet(long: pd.DataFrame, path: Path, partitioned: bool) -> None:
    import pyarrow as pa

    for name in long:
        if isinstance(getattr(long[name].dtype, "categories", None), pd.IntervalIndex):
            _refuse_parquet(long[name], "Arrow cannot read categories that are intervals")
    # readers skip folders whose names begin with a dot
    made = long.rename(columns={".imp": STATA[0], ".id": STATA[1]}) if partitioned else long
    try:
        made.to_parquet(path, index=False, partition_cols=[STATA[0]] if partitioned else None)
    except (pa.ArrowException, TypeError, ValueError):
        for name in long:
            try:
                pa.Table.from_pandas(long[[name]], preserve_index=False)
            except (pa.ArrowException, TypeError, ValueError) as error:
                _refuse_parquet(long[name], str(error.args[0] if error.args else error))
        raise


def _refuse_parquet(column: pd.Series, reason: str) -> None:
    raise DataError(
        f"export: '{column.name}' ({column.dtype}) cannot be written to Parquet: {reason.splitlines()[0].rstrip('.')}. "
        "Convert it to text or numbers, or leave it out of the table."
    )


def _to_stata(long: pd.DataFrame, path: Path, tables: CompletedTables, names: Mapping[str, str]) -> None:
    check_stata_names(long)
    made, labels = labelled(long, _incomplete(tables, names))
    for name in made:
        check_stata_labels(name, labels.get(name, {}))
        if pd.api.types.is_datetime64_any_dtype(made[name].dtype):
            check_dates(made[name], "ms", "Stata")
    made = _numbered(made, tables, STATA)
    text = {column: made[column].fillna("") for column in made if made[column].dtype == object}
    # version 118 has texts in UTF-8
    made.assign(**text).to_stata(
        path, write_index=False, version=118, value_labels=labels, variable_labels=_original(names, 80)
    )


def _to_spss(long: pd.DataFrame, path: Path, tables: CompletedTables, names: Mapping[str, str]) -> None:
    try:
        import pyreadstat
    except ModuleNotFoundError:
        raise SpecificationError(
            "export: .sav files need pyreadstat, which is not installed: pip install 'bayesimp[spss]'."
        ) from None
    check_spss_names(long)
    made, labels = labelled(long, _incomplete(tables, names))
    for name in made:
        if pd.api.types.is_datetime64_any_dtype(made[name].dtype):
            check_dates(made[name], "us", "SPSS")
            made[name] = made[name].astype("datetime64[us]")  # pyreadstat misreads other units
        elif name in labels or made[name].dtype == object:
            check_spss_texts(made[name], labels.get(name, {}))
    made = _numbered(made, tables, SPSS)
    shown: dict[str, Any] = {name: dict(each) for name, each in labels.items()}
    ordered = [name for name in labels if getattr(long[name].dtype, "ordered", False)]
    measures = {name: "ordinal" if name in ordered else "nominal" for name in labels}
    pyreadstat.write_sav(
        made,
        str(path),
        column_labels=_original(names, 256),
        variable_value_labels=shown,
        variable_measure=measures,
    )


def _original(names: Mapping[str, str], most: int) -> dict[str, str]:
    """New name -> the name in the table, which becomes the label of the variable where it is short enough."""
    return {new: old for old, new in names.items() if len(old.encode()) <= most}


def _incomplete(tables: CompletedTables, names: Mapping[str, str]) -> set[str]:
    frame = tables.data.frame
    return {names.get(name, name) for name in tables.columns if name not in frame or frame[name].isna().any()}


def _numbered(long: pd.DataFrame, tables: CompletedTables, names: tuple[str, str]) -> pd.DataFrame:
    """The table with numbers of tables, and of rows from 1 in the order of the table, under names that are allowed."""
    n = len(tables.data)
    rows = np.tile(np.arange(1, n + 1), len(long) // n)
    own = {names[0]: long[".imp"].to_numpy(np.int32), names[1]: rows.astype(np.int32)}
    return pd.DataFrame({**own, **{name: long[name] for name in long if name not in (".imp", ".id")}})

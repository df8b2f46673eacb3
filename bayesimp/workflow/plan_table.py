"""The table of a model as `[data]` of a plan: file, columns, types and families."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.errors import SpecificationError
from bayesimp.families.columns import infer
from bayesimp.messages import listing, suggestion
from bayesimp.table.incomplete import IncompleteData
from bayesimp.workflow.plan import EXAMPLES, FORMATS
from bayesimp.workflow.plan_records import Plan

__all__ = ["check_table", "data_section"]


def data_section(data: IncompleteData, file: str | os.PathLike[str], plan: Path) -> dict[str, Any]:
    """The section [data].

    Parameters
    ----------
    file
        The file of the table, as seen from the folder of the plan; or the name of an example.
    plan
        The actual or intended location of the plan.

    Raises
    ------
    SpecificationError
        The file cannot store the type of a column.
    """
    name = os.fspath(file)
    clusters: Any = data.cluster_columns[0] if len(data.cluster_columns) == 1 else list(data.cluster_columns)
    if name in EXAMPLES:
        source = {"example": name}
    elif Path(name).suffix.lower() in FORMATS:
        source = {"file": Path(name).as_posix()}
    else:
        raise SpecificationError(
            f"to_plan: data = {name!r} is not the name of a file with one of the formats {', '.join(FORMATS)}. "
            f"{suggestion(name, EXAMPLES)}"
        )
    out: dict[str, Any] = {**source, "cluster": clusters}
    text = name in EXAMPLES or Path(name).suffix.lower() == ".csv"
    columns = list(data.frame.columns)
    typed = columns if text else [column for column in columns if _numbered(data.frame[column])]
    there = _columns_of(name, plan)
    if there is not None and set(columns) < set(there):
        out["columns"] = columns
    types = {column: _type(data.frame[column], name) for column in typed}
    if types := {column: kind for column, kind in types.items() if kind is not None}:
        out["types"] = types
    inferred = {column: infer(data.frame[column]) for column in data.variables}
    families = {c: family for c, family in data.families.items() if family != inferred[c]}
    # columns of censoring flags have no family to declare
    if families := {c: family for c, family in families.items() if family != "none" or _declared(data, c)}:
        out["families"] = families
    return out


def _declared(data: IncompleteData, column: str) -> bool:
    """Whether the family "none" was declared, rather than implied by a censored variable."""
    return f"censored({column})" not in data.families.values()


def _columns_of(name: str, plan: Path) -> list[str] | None:
    """The columns of the file, or of the example; None if it is not there."""
    if name in EXAMPLES:
        from bayesimp.datasets import examples

        return list(getattr(examples, f"load_{name}")().columns)
    path = plan.parent / name
    if not path.is_file():
        return None
    match path.suffix.lower():
        case ".csv":
            return list(pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns)
        case ".parquet":
            import pyarrow.parquet as pq

            return [c for c in pq.read_schema(path).names if not c.startswith("__index_level_")]
    return list(pd.read_feather(path).columns)


def _numbered(column: pd.Series) -> bool:
    """Whether a column has categories other than text, of which Parquet stores only the values."""
    categories = getattr(column.dtype, "categories", ())
    return not all(isinstance(value, str) for value in categories)


def _type(column: pd.Series, file: str) -> Any:
    """The type of a column if a CSV file does not imply it; otherwise None."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = [getattr(value, "item", lambda value=value: value)() for value in dtype.categories]
        if not all(isinstance(value, str | int | float) for value in categories):
            raise _lost(column, file)
        if dtype.ordered and len(categories) > 1 and all(isinstance(value, str) for value in categories):
            return categories
        return {"categories": categories, "ordered": bool(dtype.ordered)}
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"  # a CSV file has no missing ones otherwise
    if pd.api.types.is_integer_dtype(dtype):
        return None if column.isna().any() or dtype == np.int64 else "integer"
    if pd.api.types.is_float_dtype(dtype):
        whole = column.dropna()
        return "number" if len(whole) and (whole % 1 == 0).all() else None
    values = column.dropna()
    if all(isinstance(value, str) for value in values):
        return "string"
    if all(isinstance(value, bool | np.bool_) for value in values):
        return "boolean"
    raise _lost(column, file)


def _lost(column: pd.Series, file: str) -> SpecificationError:
    return SpecificationError(
        f"to_plan: column '{column.name}' ({column.dtype}) would be text in {file}. Save the table as .parquet, which "
        "keeps types, and name that file."
    )


def check_table(data: IncompleteData, found: pd.DataFrame, plan: Plan) -> None:
    """Refuse a file whose table is not that of the model: the same columns, rows and values, in the same order.

    Raises
    ------
    SpecificationError
        The tables differ; the message names columns or numbers of rows.
    """
    frame, name = data.frame, plan.data.file or f"the example '{plan.data.example}'"
    what = f"to_plan: {name} does not hold the table of this model"
    if list(found.columns) != list(frame.columns):
        lacks = [column for column in frame.columns if column not in found.columns]
        how = f"it has no column {listing(lacks)}" if lacks else "its columns are in a different order"
        raise SpecificationError(f"{what}: {how}. Save the table (data.frame) there first.")
    if len(found) != len(frame):
        raise SpecificationError(
            f"{what}: it has {len(found):,} rows, but the model has {len(frame):,}. Save the table (data.frame) there "
            "first."
        )
    other = [column for column in frame.columns if not _equal(frame[column], found[column])]
    if other:
        raise SpecificationError(
            f"{what}: {listing(other)} differ{'s' if len(other) == 1 else ''} in values or type. Save the table "
            "(data.frame) there first; .parquet keeps all types."
        )


def _equal(ours: pd.Series, theirs: pd.Series) -> bool:
    """Whether two columns have the same cells, including missing ones: numbers up to the last digits, everything else
    exactly."""
    if not np.array_equal(ours.isna().to_numpy(), theirs.isna().to_numpy()):
        return False
    if isinstance(ours.dtype, pd.CategoricalDtype):
        if not isinstance(theirs.dtype, pd.CategoricalDtype) or ours.dtype.ordered != theirs.dtype.ordered:
            return False
        if list(ours.dtype.categories) != list(theirs.dtype.categories):
            return False
    a, b = ours.dropna().to_numpy(dtype=object), theirs.dropna().to_numpy(dtype=object)
    numbers = all(pd.api.types.is_numeric_dtype(each.dtype) for each in (ours, theirs))
    if numbers:
        return bool(np.allclose(a.astype(float), b.astype(float), rtol=1e-13, atol=0))
    return bool((a == b).all())

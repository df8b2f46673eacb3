"""Conversion of the user's table to pandas and back; tables that cannot be used are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesimp import notation as nt
from bayesimp.errors import DataError, SpecificationError, instead_of
from bayesimp.messages import listing, suggestion

__all__ = ["as_native", "as_pandas", "check_columns", "cluster_columns"]


def as_pandas(frame: Any) -> tuple[pd.DataFrame, Any]:
    """The table as pandas, and narwhals' name of its original library (None: pandas)."""
    if isinstance(frame, pd.DataFrame):
        # pandas >= 3 copies on write; with earlier versions only a copy protects the user's table
        return frame.copy(deep=int(pd.__version__.split(".")[0]) < 3), None
    import narwhals as nw

    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise DataError(
            f"{type(frame).__name__} is not a table. Pass a pandas, polars or pyarrow table (collect a lazy one, "
            f"read a file first).{instead_of(frame)}"
        ) from None
    import pyarrow as pa

    try:
        with np.errstate(invalid="ignore"):  # pandas casts the ends of missing intervals of whole numbers
            arrow = table.to_arrow()
            made = arrow.to_pandas(types_mapper=_nullable().get)
            return _with_missing_intervals(made, arrow), table.implementation
    except (pa.ArrowException, ValueError, TypeError) as error:  # types that only polars has
        raise DataError(
            f"The table cannot be converted to pandas: {' '.join(str(error).split())}. Change the types of its columns, "
            "or drop the columns."
        ) from None


def as_native(frame: pd.DataFrame, kind: Any) -> Any:
    """A pandas table converted to the library that `as_pandas` named (polars and pyarrow have no index)."""
    if kind is None:
        return frame
    import narwhals as nw
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    made = nw.from_arrow(table, backend=kind)
    if kind is nw.Implementation.POLARS:  # in which ordered categories are Enum
        kinds = {name: dtype for name, dtype in frame.dtypes.items() if getattr(dtype, "ordered", False)}
        made = made.with_columns(
            nw.col(name).cast(nw.Enum(list(dtype.categories))) for name, dtype in kinds.items()
        )
    return made.to_native()


def _nullable() -> dict:
    """pandas types by Arrow type, so that integers and booleans with missing values keep their type."""
    import pyarrow as pa

    integers = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    names = {name: name.replace("u", "U").replace("i", "I") for name in integers} | {"bool_": "boolean"}
    return {getattr(pa, arrow)(): pd.api.types.pandas_dtype(pandas) for arrow, pandas in names.items()}


def _with_missing_intervals(frame: pd.DataFrame, table: Any) -> pd.DataFrame:
    """The table with missing intervals where Arrow has them; pandas gives those of whole numbers arbitrary ends."""
    for name in [n for n, dtype in frame.dtypes.items() if isinstance(dtype, pd.IntervalDtype)]:
        holes = table[name].is_null().to_numpy()
        if holes.any():
            frame[name] = (
                frame[name].astype(pd.IntervalDtype("float64", frame[name].dtype.closed)).mask(holes)
            )
    return frame


def check_columns(frame: pd.DataFrame, clusters: Sequence[str]) -> None:
    """Refuse tables without rows or with ambiguous column names, and cluster names that are not columns."""
    if len(frame) == 0:
        raise DataError("The table has no rows.")
    repeated = frame.columns[frame.columns.duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"Column names occur more than once: {listing(repeated)}. Rename or drop columns so that each "
            "name is unique."
        )
    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise DataError(f"Column names must be text; rename {listing(odd)}, with frame.columns = [...].")
    broken = [name for name in frame.columns if nt.shown(name) != name]
    if broken:
        raise DataError(f"Column names contain invalid characters: rename {listing(map(nt.shown, broken))}.")
    swapped = [
        name for name, dtype in frame.dtypes.items() if isinstance(dtype, np.dtype) and not dtype.isnative
    ]
    if swapped:
        raise DataError(
            f"The numbers of {listing(swapped)} are stored in another byte order than this machine's, which pandas "
            "cannot compute with. Convert them: frame[name].astype(frame[name].dtype.newbyteorder('='))."
        )
    for name in clusters:
        if name not in frame.columns:
            index = "It is in the index: call reset_index() first. " if name in frame.index.names else ""
            hint = index + suggestion(name, frame.columns)
            raise SpecificationError(f"The table has no column '{name}' for the clusters. {hint}")


def cluster_columns(cluster: Any) -> tuple[str, ...]:
    """The names of the cluster columns that a user gives: one, or several with the primary one first.

    Raises
    ------
    SpecificationError
        It is neither a name nor a list of different names.
    """
    if isinstance(cluster, str):
        return (cluster,)
    names = list(cluster) if isinstance(cluster, list | tuple | pd.Index) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise SpecificationError(
            "cluster is the name of a column, as text, or a list of names, the primary clusters first: "
            f"cluster=['school', 'class']; got {cluster!r}."
        )
    if len(set(names)) < len(names):
        raise SpecificationError(f"cluster names a column twice: {cluster!r}.")
    return tuple(names)

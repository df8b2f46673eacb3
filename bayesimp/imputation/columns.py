"""Fill imputed values into columns of a completed table, keeping the dtype if it can hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["filled_column", "floats"]


def filled_column(column: pd.Series, rows: np.ndarray, values: np.ndarray, whole: bool = False) -> pd.Series:
    """The column with `values` at `rows`; a dtype that cannot hold them becomes floating point (`_holding`)."""
    dtype = column.dtype
    if isinstance(dtype, pd.SparseDtype):
        dense = filled_column(column.sparse.to_dense(), rows, values, whole)
        return dense.astype(pd.SparseDtype(dense.dtype, dtype.fill_value))
    target = _holding(dtype, whole)
    values = values if pd.api.types.is_float_dtype(target) else values.astype(np.int64)
    if isinstance(target, np.dtype):
        filled = (column.to_numpy() if dtype == target else floats(column)).astype(target)
        filled[rows] = values
    else:
        filled = column.astype(target).array.copy()
        filled[rows] = pd.Series(values).astype(target).array
    # give the dtype explicitly: pandas >= 3 would infer its own text type from objects
    return pd.Series(filled, index=column.index, name=column.name, dtype=filled.dtype)


def _holding(dtype: Any, whole: bool) -> Any:
    """The dtype of a numeric column with imputed values: its own if it can hold them, otherwise floating point."""
    types = pd.api.types
    if types.is_float_dtype(dtype) or (
        whole and (types.is_integer_dtype(dtype) or types.is_object_dtype(dtype))
    ):
        return dtype
    if isinstance(dtype, pd.ArrowDtype):
        return pd.api.types.pandas_dtype("double[pyarrow]")
    masked = types.is_integer_dtype(dtype) or types.is_bool_dtype(dtype)
    return pd.Float64Dtype() if masked and not isinstance(dtype, np.dtype) else np.dtype(float)


def floats(column: pd.Series) -> np.ndarray:
    """Numbers as float64 with NaN, (n,), however they are stored."""
    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        return column.to_numpy(float)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    return column.astype("Float64" if column.dtype == object else column.dtype).to_numpy(
        float, na_value=np.nan
    )

"""Columns of a completed table: imputed values are put in, and the dtype is kept where it holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["filled_column", "floats"]


def filled_column(column: pd.Series, rows: np.ndarray, values: np.ndarray, whole: bool = False) -> pd.Series:
    """The column with `values` put in at `rows`; what cannot hold them becomes floating point (`_holding`)."""
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
    # the dtype is given because pandas >= 3 reads text in objects as its own type
    return pd.Series(filled, index=column.index, name=column.name, dtype=filled.dtype)


def _holding(dtype: Any, whole: bool) -> Any:
    """The dtype of a column of numbers once values are imputed: its own if it can hold them, else floating point."""
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
    """(n,) float64 with NaN, of numbers however they are stored."""
    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        return column.to_numpy(float)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    return column.astype("Float64" if column.dtype == object else column.dtype).to_numpy(
        float, na_value=np.nan
    )

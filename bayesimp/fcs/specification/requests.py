"""Read and check the options of FCS other than its models: cells to fill, rows to ignore, functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.errors import DataError, SpecificationError
from bayesimp.fcs.specification.records import Conditionals
from bayesimp.messages import listing, suggestion
from bayesimp.table.incomplete import IncompleteData, check_index

__all__ = ["check_ignore", "checked_post", "fitted_rows", "requested_cells"]


def requested_cells(
    data: IncompleteData, where: Any, ignore: Any
) -> tuple[dict[str, np.ndarray], IncompleteData, np.ndarray]:
    """The cells to impute, the table without those that are observed, and the rows left out of all fits.

    Returns
    -------
    Variable named by the user -> (n,) bool; the table; (n,) bool.

    Raises
    ------
    SpecificationError, DataError
        A mask does not match the table, or nothing is left to which models could be fitted.
    """
    masks = _masks(data, where)
    return masks, _held_out(data, masks), _ignored_rows(data, ignore)


def _masks(data: IncompleteData, where: Any) -> dict[str, np.ndarray]:
    """Variable -> (n,) bool; variables that are not named have the default."""
    if where is None:
        return {}
    names = getattr(where, "columns", where)
    if not (isinstance(where, Mapping) or hasattr(where, "columns")):
        raise SpecificationError(
            "where takes a table of True and False with columns named as in the data, or {variable: (n,) bool}; got "
            f"{type(where).__name__}."
        )
    found = {}
    for name in names:
        if name == data.cluster:
            continue
        data.missing(name)  # an unknown name is refused here
        found[name] = _bool(where[name], data, f"where['{name}']")
    return found


def _bool(mask: Any, data: IncompleteData, what: str) -> np.ndarray:
    """A mask (n,) bool, with rows as in the table."""
    n = len(data.frame)
    check_index(data, mask, what)
    array = np.asarray(mask)
    if array.shape != (n,) or array.dtype.kind != "b":
        raise SpecificationError(
            f"{what} must have {n:,} values True or False, one per row; got {array.dtype} {array.shape}."
        )
    return array.copy()


def _ignored_rows(data: IncompleteData, ignore: Any) -> np.ndarray:
    """The rows to which no model is fitted, (N,) bool; at least two clusters must be left."""
    if ignore is None:
        return np.zeros(len(data.frame), dtype=bool)
    rows = _bool(ignore, data, "ignore")
    if rows.all():
        raise DataError("ignore leaves no rows to which a model could be fitted.")
    left = len(np.unique(data.codes[~rows]))
    if left < 2:
        raise DataError(
            f"ignore leaves {int((~rows).sum()):,} rows of only 1 cluster; keep rows of several clusters."
        )
    return rows


def _held_out(data: IncompleteData, where: Mapping[str, np.ndarray]) -> IncompleteData:
    """The table without the observed cells that are to be imputed."""
    out = {name: mask & ~data.missing(name) for name, mask in where.items()}
    out = {name: mask for name, mask in out.items() if mask.any()}
    if not out:
        return data
    frame = data.frame.copy(deep=False)
    for name, mask in out.items():
        column = frame[name]
        if isinstance(column.dtype, pd.SparseDtype):
            column = column.sparse.to_dense()
        if pd.api.types.is_integer_dtype(column.dtype) and isinstance(column.dtype, np.dtype):
            column = column.astype(float)
        frame[name] = column.mask(mask)
    return data.part(frame)


def fitted_rows(
    spec: Conditionals, data: IncompleteData, ignore: np.ndarray
) -> tuple[Conditionals, IncompleteData]:
    """The rows to which models are fitted."""
    if not ignore.any():
        return spec, data
    rest = data.part(data.frame[~ignore])
    unseen = [name for name in spec.incomplete if rest.missing(name).all()]
    if unseen:
        raise DataError(
            f"ignore leaves no observed value of {listing(unseen)} in {len(rest):,} rows, so its model cannot be "
            "fitted."
        )
    return replace(spec, X=spec.X[~ignore]), rest


def check_ignore(spec: Conditionals, ignore: np.ndarray) -> None:
    """Refuse ignored rows if a method cannot leave them out of its fit."""
    if not ignore.any():
        return
    for block in spec.blocks:
        if "ignore" not in block.method.options:
            raise SpecificationError(f"ignore: {block.method.refusal('ignore', block.name)}")


def _incomplete(name: str, spec: Conditionals, what: str) -> None:
    if name not in spec.incomplete:
        raise SpecificationError(f"{what}: '{name}' is not imputed. {suggestion(name, spec.incomplete)}")


def checked_post(post: Any, spec: Conditionals) -> dict[str, Callable]:
    """Variable -> function that post-processes its imputed values; checked against the methods."""
    if not isinstance(post, Mapping | None):
        raise SpecificationError(f"post takes {{variable: function}}, got {type(post).__name__}.")
    for name, function in (post or {}).items():
        _incomplete(name, spec, "post")
        method = next(block.method for block in spec.blocks if name in block.responses)
        if "post" not in method.options:
            raise SpecificationError(f"post['{name}']: {method.refusal('post', name)}")
        if not callable(function):
            raise SpecificationError(
                f"post['{name}'] must be a function of the drawn values; got {function!r}."
            )
    return dict(post or {})

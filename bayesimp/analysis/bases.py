"""Splines, polynomials and scaled variables in an analysis of completed tables: the same columns in every table.

Knots, means and standard deviations of an imputed variable would differ between completed tables, and coefficients of
different columns cannot be pooled. They are those of its observed values, as in the imputation model
(`bayesimp.formulas.fixed_basis`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.arithmetic import expression
from bayesimp.formulas.fixed_basis import fixed_basis
from bayesimp.formulas.formula import Formula
from bayesimp.formulas.syntax import Call, Level, walk, write
from bayesimp.formulas.terms import CLUSTER
from bayesimp.table.incomplete import IncompleteData

__all__ = ["SomeRows", "with_bases"]


class SomeRows(list):
    """A list of one table, some of the rows of the table ``whole``, such as the complete ones."""

    def __init__(self, rows: pd.DataFrame, whole: pd.DataFrame) -> None:
        super().__init__([rows])
        self.whole = whole


def with_bases(formula: Formula, imputed: Any) -> tuple[Formula, tuple[Event, ...]]:
    """The formula with fixed columns for terms of incomplete variables that need all rows, and an event about each.

    Parameters
    ----------
    imputed
        What is analysed: an object with ``data``, the `IncompleteData` that was imputed, or `SomeRows`; of other tables
        it is not known what was observed, and the formula is returned as it is.
    """
    data = getattr(imputed, "data", None)
    frame = data.frame if isinstance(data, IncompleteData) else getattr(imputed, "whole", None)
    if frame is None:
        return formula, ()
    bases, events = [], []
    for call in formula.over_rows:
        try:
            x = _observed(call, frame, formula.text)
            if x is None:
                continue
            bases.append((call, tuple(fixed_basis(call, x, formula.text))))
            same = "is the same in all completed tables: it is determined by the"
            text = f"{write(call)} {same} {len(x):,} observed values"
            events.append(Event("basis of observed values", write(call), text, len(x)))
        except SpecificationError as error:
            text = f"the columns of {write(call)} differ between completed tables, so its coefficients do, too: {error}"
            events.append(Event("basis of each table", write(call), text))
    return replace(formula, bases=tuple(bases)), tuple(events)


def _observed(call: Call, frame: pd.DataFrame, text: str) -> np.ndarray | None:
    """Observed values of the argument; None if it has no incomplete variable, or is not made from numbers of a row."""
    inside = list(walk(call.arguments[0]))
    if any(
        isinstance(node, Level) or (isinstance(node, Call) and node.function in CLUSTER) for node in inside
    ):
        return None
    argument = expression(call.arguments[0], text)
    if not set(argument.names) <= set(frame.columns):
        return None
    columns = [frame[name] for name in argument.names]
    if not any(column.isna().any() for column in columns):
        return None
    if not all(is_numeric_dtype(column) and not is_bool_dtype(column) for column in columns):
        return None
    x = argument({name: frame[name].to_numpy(np.float64, na_value=np.nan) for name in argument.names})
    return x[np.isfinite(x)]

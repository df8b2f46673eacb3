"""Rows for which an analysis predicts, and the weights with which predictions are averaged.

A quantity in table l is W mu(rows): r weighted means (or differences of means) of the rows' predictions.

    reference grid    all combinations of levels of factors, numbers at their mean over rows and imputations; W averages
                      over the factors that are not targets, with equal weights or by their frequencies (Searle, Speed &
                      Milliken 1980; emmeans)
    counterfactual    the rows of the table, once for each requested level; W averages over rows

The grid is the same in all tables, so that Rubin's rules pool estimates of one quantity; emmeans applied to R's mids
objects recomputes the means of numeric columns in each table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayesimp.analysis.row_model import RowModel
from bayesimp.errors import DataError, SpecificationError
from bayesimp.messages import listing, suggestion
from bayesimp.notation import Matrix, Vector

__all__ = ["Grid", "counterfactual", "groups_of", "levels_of", "reference_grid"]

WEIGHTS = ("equal", "proportional", "observed")


class Grid(NamedTuple):
    """Rows, and the weights W (r, rows) of their predictions."""

    rows: pd.DataFrame
    W: Matrix


def levels_of(rows: RowModel, name: str) -> list | None:
    """The levels of a factor in the first table, or the values of a two-valued number; None for other numbers."""
    column = rows.tables.frame(0)[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = set(column)
        return [level for level in column.cat.categories if level in present]
    values = sorted(column.unique().tolist())
    return values if rows.is_factor(name, column) or len(values) == 2 else None


def reference_grid(
    rows: RowModel, targets: Sequence[str], at: Mapping[str, Any], weights: str
) -> tuple[Grid, pd.DataFrame]:
    """The grid, and the levels of the targets to which its means belong.

    Raises
    ------
    SpecificationError
        The analysis has no such name, a numeric target has no values, or a column that is not a target has several.
    """
    values = {name: _values(rows, name, name in targets, at) for name in rows.variables}
    over = [name for name in rows.variables if name not in targets and len(values[name]) > 1]
    combos = pd.DataFrame(list(product(*values.values())), columns=list(values))
    asked = pd.DataFrame(list(product(*(values[name] for name in targets))), columns=list(targets))
    share = np.ones(len(combos))
    if weights == "proportional" and over:
        share = _frequencies(rows, over, combos)
    W = np.ones((max(len(asked), 1), len(combos)))
    for name in targets:
        W *= np.array([[value == level for value in combos[name]] for level in asked[name]])
    W *= share
    return Grid(combos, W / W.sum(axis=1, keepdims=True)), asked


def _values(rows: RowModel, name: str, asked: bool, at: Mapping[str, Any]) -> list:
    """The values of a column in the grid."""
    if name in at:
        given = at[name]
        values = (
            list(given)
            if isinstance(given, Sequence | np.ndarray) and not isinstance(given, str)
            else [given]
        )
        if len(values) > 1 and not asked:
            raise SpecificationError(
                f"at = {{{name!r}: {values}}} gives several values of a column that is not a target. Add it to the "
                f"targets, marginal_means([..., {name!r}], at=...), or give one value."
            )
        return values
    levels = levels_of(rows, name)
    if levels is not None:
        return levels
    if asked:
        raise SpecificationError(f"{name!r} is a number; say at which values: at={{{name!r}: [low, high]}}.")
    tables = (rows.tables.frame(k) for k in range(rows.tables.m))
    return [
        float(
            np.mean([np.average(table[name].astype(float), weights=_counts(rows, table)) for table in tables])
        )
    ]


def _counts(rows: RowModel, table: pd.DataFrame) -> Vector | None:
    """How many rows each row of a completed table stands for; None: one."""
    return None if rows.counts is None else table[rows.counts].to_numpy(dtype=float)


def _frequencies(rows: RowModel, over: list[str], combos: pd.DataFrame) -> Vector:
    """Number of rows, over all tables, at the levels of `over` in each combination."""
    total: dict[tuple, float] = {}
    for k in range(rows.tables.m):
        table = rows.tables.frame(k)
        groups = table.groupby(over, sort=False, observed=True)
        found = groups.size() if rows.counts is None else groups[rows.counts].sum()
        for key, count in found.items():
            key = key if isinstance(key, tuple) else (key,)
            total[key] = total.get(key, 0.0) + count  # type: ignore[arg-type, call-overload]
    return np.array([total.get(key, 0.0) for key in combos[over].itertuples(index=False, name=None)])


def counterfactual(
    table: pd.DataFrame, settings: Sequence[Mapping[str, Any]], groups: Sequence[np.ndarray]
) -> Grid:
    """The rows of a table repeated for every setting of its columns, and weights for means by group and setting.

    settings: columns to replace with one value or (n,) values; groups: (n,) bool, the rows to average over, or the
    number of rows for which each stands. The means are ordered by group, then setting.
    """
    n = len(table)
    parts = []
    for setting in settings:
        part = table.copy()
        for name, value in setting.items():
            part[name] = value if isinstance(value, np.ndarray) else [value] * n
        parts.append(part)
    W = np.zeros((len(groups) * len(settings), len(settings) * n))
    for g, rows in enumerate(groups):
        for s in range(len(settings)):
            W[g * len(settings) + s, s * n : (s + 1) * n] = rows / rows.sum()
    return Grid(pd.concat(parts, ignore_index=True), W)


def groups_of(
    table: pd.DataFrame, by: Sequence[str], known: list[tuple] | None, counts: Vector | None = None
) -> tuple[list[tuple], list[np.ndarray]]:
    """Sorted labels of the groups that columns define, and the rows of each, (n,) bool; without columns, all rows.

    counts: (n,) how many rows each stands for; the rows of groups are then these numbers, 0 outside the group.

    Raises
    ------
    SpecificationError
        There is no such column.
    DataError
        The groups differ from the known ones.
    """
    if not by:
        return [()], [np.ones(len(table), dtype=bool) if counts is None else counts]
    for name in by:
        if name not in table:
            raise SpecificationError(
                f"by = {name!r} is not a column of the tables. {suggestion(name, table.columns)}"
            )
    keys = list(table[list(by)].itertuples(index=False, name=None))
    labels = sorted(set(keys), key=lambda key: tuple(map(_order, key)))
    if known is not None and labels != known:
        raise DataError(
            f"by = {list(by)}: the groups {listing(labels)} of one table differ from those of the first "
            f"({listing(known)}): the grouping column was imputed."
        )
    groups = [np.array([key == label for key in keys]) for label in labels]
    return labels, groups if counts is None else [group * counts for group in groups]


def _order(value: Any) -> tuple:
    return (
        (0, float(value), "")
        if isinstance(value, int | float | np.number | np.bool_)
        else (1, 0.0, str(value))
    )

"""Columns of latent variables, and missing cells, as kernels read them; for rows and for clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.kernels.latent.records import NUMBER, UTILITY, LatentColumns, MissingCells

__all__ = ["latent_columns", "missing_cells", "values_of"]

Array = NDArray[np.float64]


def values_of(variable: LatentVariable, y: Array) -> Array:
    """(n, w) numbers, positions of levels, and for utilities indicators of their level; used to order rows."""
    if variable.kind != UTILITY:
        return y[:, None]
    levels = range(1, len(variable.levels))
    return np.column_stack([np.where(np.isnan(y), np.nan, y == level) for level in levels])


def latent_columns(variables: Sequence[LatentVariable], before: int = 0) -> LatentColumns:
    """Columns of these variables, after `before` other columns, which are numbers."""
    each = [variable for variable in variables for _ in variable.labels]
    others = np.arange(before)
    cut = np.concatenate([np.zeros(before), np.cumsum([0, *(variable.cutpoints for variable in each)])])
    return LatentColumns(
        np.concatenate([np.full(before, NUMBER), [v.kind for v in each]]).astype(np.int64),
        np.concatenate([others, [before + v.first for v in each]]).astype(np.int64),
        np.concatenate([np.ones(before), [len(v.labels) for v in each]]).astype(np.int64), cut.astype(np.int64),
    )  # fmt: skip


def missing_cells(
    row: NDArray[np.int64], cluster: NDArray[np.int64], fixed: Array, s: Array,
    incomplete: Sequence[tuple[LatentVariable, NDArray[np.int64]]], shifts: Mapping[str, Array], before: int = 0,
) -> MissingCells:  # fmt: skip
    """Missing cells in the order of the table, variable by variable.

    Parameters
    ----------
    row, cluster
        (n,) position in the table of each of the sampler's rows, and the cluster for which its cells are summarised.
    fixed, s
        (n, w) what was subtracted from numbers, and (w,) their units.
    incomplete
        Incomplete variables, with the rows of the table in which they are missing.
    shifts
        Variable -> (n, its columns) numbers added to its latent values in the rows of the table.
    before
        Number of columns before those of the variables.
    """
    place = np.full((len(row), len(incomplete)), -1, dtype=np.int64)
    at = np.empty(len(row), dtype=np.int64)
    at[row] = np.arange(len(row))
    begin = 0
    for v, (_, lacking) in enumerate(incomplete):
        place[at[lacking], v] = begin + np.arange(len(lacking))
        begin += len(lacking)
    some = np.flatnonzero((place >= 0).any(1)).astype(np.int64)
    first = np.array([variable.first for variable, _ in incomplete], dtype=np.int64)
    values = [variable.values for variable, _ in incomplete]
    moved = np.zeros((len(some), before + len(s)))
    for variable, _ in incomplete:
        moved[:, before + variable.first : before + variable.first + len(variable.labels)] = (
            shifts[variable.name][row[some]] / s[variable.columns]
        )
    return MissingCells(
        some, np.ascontiguousarray(place[some]), first + before, s[first],
        np.ascontiguousarray(fixed[np.ix_(some, first)]),
        np.concatenate([np.empty(0), *values]), np.cumsum([0, *map(len, values)]).astype(np.int64),
        moved, cluster[some],
    )  # fmt: skip

"""A table as the sampler of the joint model on latent normals reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import Shift
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.scale import IncompleteRows, Working, prepare
from bayesimp.kernels.latent.records import NUMBER, UTILITY, LatentColumns, LatentRows, MissingCells
from bayesimp.kernels.normal.effects import Moments, moments
from bayesimp.table.incomplete import IncompleteData

__all__ = ["LatentTable", "latent_table"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LatentTable:
    """All that is shared between chains.

    Attributes
    ----------
    variables
        In the order of the formula.
    working
        Scale and order of the table; its rows are those of the whole table.
    rows, columns, cells
        As kernels read them; the cells of `incomplete`, one variable after the other.
    moments
        Moments of numbers; those of latent values are those of a chain.
    Y
        (N, r) observed numbers, and zeros.
    incomplete
        Variables with missing cells, each with the rows of the table that lack it.
    """

    variables: tuple[LatentVariable, ...]
    working: Working
    rows: LatentRows
    columns: LatentColumns
    cells: MissingCells
    moments: Moments
    Y: Array
    incomplete: tuple[tuple[LatentVariable, NDArray[np.int64]], ...]

    @property
    def clusters(self) -> int:
        """The number of clusters, m."""
        return self.working.statistics.clusters

    @property
    def labels(self) -> list[str]:
        """(r,) names of the latent variables."""
        return [label for variable in self.variables for label in variable.labels]

    @property
    def counted(self) -> int:
        """The number of missing cells."""
        return sum(len(rows) for _, rows in self.incomplete)


def latent_table(
    data: IncompleteData,
    design: DesignMatrices,
    variables: tuple[LatentVariable, ...],
    shift: Shift,
    *,
    flat: bool,
) -> LatentTable:
    """Put a table on the working scale; flat: whether the coefficients of numbers have a flat prior."""
    level = np.column_stack([_levels(data, variable) for variable in variables for _ in variable.labels])
    latent = np.array([variable.kind != NUMBER for variable in variables for _ in variable.labels])
    labels = [label for variable in variables for label in variable.labels]
    working = prepare(
        design.X, design.Z, _columns(data, variables), data.codes, len(data.clusters), labels, design.fixed,
        design.random_terms, flat=flat, latent=latent,
    )  # fmt: skip
    rows = working.rows
    incomplete = tuple(
        (variable, np.flatnonzero(data.missing(variable.name)))
        for variable in variables
        if data.missing(variable.name).any()
    )
    return LatentTable(
        variables, working, _rows(working, level[rows.row]), _latent_columns(variables),
        _cells(rows, working.scale.s, incomplete, shift, data), moments(working.statistics),
        np.where(np.isnan(rows.Y) | latent, 0.0, rows.Y), incomplete,
    )  # fmt: skip


def _levels(data: IncompleteData, variable: LatentVariable) -> NDArray[np.int64]:
    """(N,) observed levels, -1 where there is none."""
    if variable.kind == NUMBER:
        return np.full(len(data.codes), -1, dtype=np.int64)
    return np.nan_to_num(data.numeric(variable.name), nan=-1.0).astype(np.int64)


def _columns(data: IncompleteData, variables: Sequence[LatentVariable]) -> Array:
    """(N, r) numbers, positions of levels, and for utilities whether it is their level; they order the rows."""
    out = []
    for variable in variables:
        y = data.numeric(variable.name)
        if variable.kind != UTILITY:
            out.append(y)
        else:
            out += [np.where(np.isnan(y), np.nan, y == level) for level in range(1, len(variable.levels))]
    return np.column_stack(out)


def _latent_columns(variables: Sequence[LatentVariable]) -> LatentColumns:
    each = [variable for variable in variables for _ in variable.labels]
    cut = np.cumsum([0, *(variable.cutpoints for variable in each)])
    return LatentColumns(
        np.array([v.kind for v in each], dtype=np.int64), np.array([v.first for v in each], dtype=np.int64),
        np.array([len(v.labels) for v in each], dtype=np.int64), cut.astype(np.int64),
    )  # fmt: skip


def _rows(working: Working, level: NDArray[np.int64]) -> LatentRows:
    rows, patterns = working.rows, working.statistics.patterns
    seen = patterns.any(1)[rows.pattern]
    cell = np.full(len(rows.row), -1, dtype=np.int64)
    cell[seen] = np.unique(rows.cluster[seen] * len(patterns) + rows.pattern[seen], return_inverse=True)[1]
    return LatentRows(
        rows.cluster, rows.pattern, cell, np.ascontiguousarray(rows.X), np.ascontiguousarray(rows.Z),
        np.ascontiguousarray(level),
    )  # fmt: skip


def _cells(
    rows: IncompleteRows,
    s: Array,
    incomplete: Sequence[tuple[LatentVariable, NDArray[np.int64]]],
    shift: Shift,
    data: IncompleteData,
) -> MissingCells:
    """Missing cells in the order of the table's rows, variable by variable."""
    place = np.full((len(rows.row), len(incomplete)), -1, dtype=np.int64)
    at = np.empty(len(rows.row), dtype=np.int64)
    at[rows.row] = np.arange(len(rows.row))
    begin = 0
    for v, (_, lacking) in enumerate(incomplete):
        place[at[lacking], v] = begin + np.arange(len(lacking))
        begin += len(lacking)
    some = np.flatnonzero((place >= 0).any(1)).astype(np.int64)
    first = np.array([variable.first for variable, _ in incomplete], dtype=np.int64)
    values = [variable.values for variable, _ in incomplete]
    return MissingCells(
        some, np.ascontiguousarray(place[some]), first, s[first], np.ascontiguousarray(rows.fixed[np.ix_(some, first)]),
        np.concatenate([np.empty(0), *values]), np.cumsum([0, *map(len, values)]).astype(np.int64),
        _shifts(rows.row[some], s, incomplete, shift, data),
    )  # fmt: skip


def _shifts(
    rows: NDArray[np.int64],
    s: Array,
    incomplete: Sequence[tuple[LatentVariable, NDArray[np.int64]]],
    shift: Shift,
    data: IncompleteData,
) -> Array:
    """(R, r) what is added to y* in these rows of the table, on the working scale."""
    out = np.zeros((len(rows), len(s)))
    for variable, _ in incomplete:
        columns = slice(variable.first, variable.first + len(variable.labels))
        out[:, columns] = shift.rows(variable.name, data)[rows] / s[columns]
    return out

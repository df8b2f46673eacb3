"""A table with several grouping factors as the sampler of the joint model on latent normals reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import Shift
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.cells import latent_columns, missing_cells, values_of
from bayesimp.joint.latent.clusters import cluster_values
from bayesimp.joint.latent.levels.groups import Groups, group_tables, stacked
from bayesimp.joint.latent.table import levels_of_rows
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.levels.factors import GroupingFactor, chains_of
from bayesimp.joint.levels.table import (
    GroupingScale,
    canonical_places,
    factor_record,
    nested_chains,
    row_order,
    working_designs,
)
from bayesimp.joint.scale import Working, prepare
from bayesimp.kernels.latent.records import NUMBER, LatentColumns, LatentLevel, LatentRows, MissingCells
from bayesimp.kernels.levels.records import Factors, NestedChains
from bayesimp.kernels.normal.effects import Moments, moments
from bayesimp.kernels.normal.statistics import collect
from bayesimp.scale.order import KEY_DIGITS
from bayesimp.table.incomplete import IncompleteData

__all__ = ["LatentLevelsTable", "latent_levels_table"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LatentLevelsTable:
    """Everything that chains share.

    Attributes
    ----------
    variables
        Variables of rows, in the order of the formula.
    working
        The table with its first factor only: scale of variables and fixed effects, order of clusters.
    scales
        Scales of the effects of each factor.
    rows, columns, cells
        As read by kernels (`bayesimp.kernels.latent.records`); the `cluster` of a row is its combination of groups.
    moments
        Moments of numbers by combination, with the columns of Z of all factors; those of latent values belong to the
        chains.
    factors, chains
        See `bayesimp.kernels.levels.records`.
    Y
        (N, r) observed numbers, zeros elsewhere.
    incomplete
        Incomplete variables, each with the rows of the table in which it is missing.
    groups
        The groups of all factors, with their variables.
    places
        (N, S) the group of each row of the table in each factor, in the sampler's order of groups.
    """

    variables: tuple[LatentVariable, ...]
    working: Working
    scales: tuple[GroupingScale, ...]
    rows: LatentRows
    columns: LatentColumns
    cells: MissingCells
    moments: Moments
    factors: Factors
    chains: NestedChains
    Y: Array
    incomplete: tuple[tuple[LatentVariable, Ints], ...]
    groups: Groups
    places: Ints

    @property
    def level(self) -> LatentLevel:
        """The rows as kernels read them."""
        m = self.moments
        return LatentLevel(self.rows, self.columns, self.cells, m.patterns, m.pattern_rows)

    @property
    def labels(self) -> list[str]:
        """(r,) names of the latent variables of rows."""
        return [label for variable in self.variables for label in variable.labels]

    @property
    def counted(self) -> int:
        """The number of missing cells, counting a variable of groups once per group."""
        return sum(len(rows) for _, rows in self.incomplete) + self.groups.counted


def latent_levels_table(
    data: IncompleteData, designs: Sequence[DesignMatrices], grouping: Sequence[GroupingFactor],
    variables: Sequence[LatentVariable], shift: Shift, *, flat: bool,
) -> LatentLevelsTable:  # fmt: skip
    """Put a table on the working scale.

    designs: one for each factor, with the same X; grouping: the factors, that of the primary clusters first; flat:
    whether the coefficients of numbers have a flat prior.
    """
    of_rows = tuple(v for v in variables if not v.of_clusters)
    codes = np.column_stack([factor.groups.codes for factor in grouping])
    also = _values_of_groups(data, grouping, variables)
    working, Y = _prepared(data, designs[0], of_rows, codes[:, 0], len(grouping[0].groups), also, flat=flat)
    scale, r = working.scale, Y.shape[1]
    X = designs[0].X @ scale.T
    Z, scales = working_designs(designs, scale.s)
    places = canonical_places(
        working.order, codes, np.round(np.hstack([X, Z]), KEY_DIGITS), np.hstack([Y, also])
    )
    combinations, combination = np.unique(places, axis=0, return_inverse=True)
    combination = combination.ravel().astype(np.int64)
    m = moments(collect(X, Z, Y / scale.s - X @ scale.offset, combination, len(combinations)))
    column = np.cumsum([0, *(made.Z.shape[1] for made in designs)])
    tables = group_tables(
        data, designs[0], grouping, variables, [int(n) for n in r * np.diff(column)], places, shift, flat=flat
    )
    factors = factor_record(
        designs, [len(factor.groups) for factor in grouping], combinations, r, [len(t.labels) for t in tables]
    )
    order = row_order(working.rows, places)
    row, cluster = working.rows.row[order], working.rows.cluster[order]
    level = np.column_stack([levels_of_rows(data, v) for v in of_rows for _ in v.labels])
    latent = np.array([v.kind != NUMBER for v in of_rows for _ in v.labels])
    incomplete = tuple(
        (v, np.flatnonzero(data.missing(v.name))) for v in of_rows if data.missing(v.name).any()
    )
    shifts = {v.name: shift.rows(v.name, data) for v in of_rows}
    numbers = working.rows.Y[order]
    return LatentLevelsTable(
        of_rows, working, scales, _rows(m, working, order, combination, Z, level), latent_columns(of_rows),
        missing_cells(row, cluster, working.rows.fixed[order], scale.s, incomplete, shifts), m, factors,
        nested_chains(m, factors, chains_of(grouping)), np.where(np.isnan(numbers) | latent, 0.0, numbers), incomplete,
        stacked(tables, factors.column, r, places), places,
    )  # fmt: skip


def _values_of_groups(
    data: IncompleteData, grouping: Sequence[GroupingFactor], variables: Sequence[LatentVariable]
) -> Array:
    """(N, v) the values of all variables of groups, row by row."""
    groups = {factor.label: factor.groups for factor in grouping}
    each = [
        cluster_values(data, v.name, groups[v.group])[groups[v.group].codes]
        for v in variables
        if v.of_clusters
    ]
    return np.column_stack(each) if each else np.empty((len(data.codes), 0))


def _prepared(
    data: IncompleteData, design: DesignMatrices, variables: Sequence[LatentVariable], codes: Ints, clusters: int,
    also: Array, *, flat: bool,
) -> tuple[Working, Array]:  # fmt: skip
    """The table with its first factor on the working scale, and Y (N, r) of numbers and positions of levels."""
    labels = [label for v in variables for label in v.labels]
    latent = np.array([v.kind != NUMBER for v in variables for _ in v.labels])
    Y = np.column_stack([values_of(v, data.numeric(v.name)) for v in variables])
    working = prepare(
        design.X, design.Z, Y, codes, clusters, labels, design.fixed, design.random_terms, flat=flat, latent=latent,
        also=also if also.shape[1] else None,
    )  # fmt: skip
    return working, Y


def _rows(m: Moments, working: Working, order: Ints, combination: Ints, Z: Array, level: Ints) -> LatentRows:
    rows = working.rows
    row, pattern = rows.row[order], rows.pattern[order]
    number = combination[row] * len(m.patterns) + pattern
    seen = m.patterns.any(1)[pattern]
    cell = np.full(len(row), -1, dtype=np.int64)
    cell[seen] = np.unique(number[seen], return_inverse=True)[1]
    return LatentRows(
        combination[row], pattern, cell, np.ascontiguousarray(rows.X[order]), np.ascontiguousarray(Z[row]),
        np.ascontiguousarray(level[row]),
    )  # fmt: skip

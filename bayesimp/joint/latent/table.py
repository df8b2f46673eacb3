"""A table as the sampler of the joint model on latent normals reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import Shift
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.cells import latent_columns, missing_cells, values_of
from bayesimp.joint.latent.clusters import ClusterTable, cluster_table, cluster_values
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.scale import Working, prepare
from bayesimp.kernels.latent.records import NUMBER, LatentColumns, LatentLevel, LatentRows, MissingCells
from bayesimp.kernels.normal.effects import Moments, moments
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.table.incomplete import IncompleteData

__all__ = ["LatentTable", "assembled", "latent_table", "levels_of_rows"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LatentTable:
    """Everything that chains share.

    Attributes
    ----------
    variables
        Variables of rows, in the order of the formula.
    working
        Scale and order of the table; its rows are those of the whole table.
    rows, columns, cells
        As read by kernels; cells are those of `incomplete`, one variable after the other.
    moments
        Moments of numbers; those of latent values belong to the chains.
    Y
        (N, r) observed numbers, zeros elsewhere.
    incomplete
        Incomplete variables, each with the rows of the table in which it is missing.
    of_clusters
        The cluster level, if there are cluster-level variables.
    group
        (A,) the residual covariance of each pattern: 0, or its cluster.
    """

    variables: tuple[LatentVariable, ...]
    working: Working
    rows: LatentRows
    columns: LatentColumns
    cells: MissingCells
    moments: Moments
    Y: Array
    incomplete: tuple[tuple[LatentVariable, NDArray[np.int64]], ...]
    of_clusters: ClusterTable
    group: NDArray[np.int64]

    @property
    def level(self) -> LatentLevel:
        """The rows as kernels read them."""
        m = self.moments
        return LatentLevel(self.rows, self.columns, self.cells, m.patterns, m.pattern_rows)

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
        """The number of missing cells, counting a cluster-level variable once per cluster."""
        return sum(len(rows) for _, rows in self.incomplete) + self.of_clusters.counted


def latent_table(
    data: IncompleteData,
    design: DesignMatrices,
    variables: tuple[LatentVariable, ...],
    shift: Shift,
    *,
    flat: bool,
    by_cluster: bool = False,
) -> LatentTable:
    """Put a table on the working scale.

    flat: whether the coefficients of numbers have a flat prior; by_cluster: whether every cluster has its own residual
    covariance.
    """
    of_rows = tuple(variable for variable in variables if not variable.of_clusters)
    of_clusters = tuple(variable for variable in variables if variable.of_clusters)
    level = np.column_stack([levels_of_rows(data, variable) for variable in of_rows for _ in variable.labels])
    latent = np.array([variable.kind != NUMBER for variable in of_rows for _ in variable.labels])
    labels = [label for variable in of_rows for label in variable.labels]
    numbers = {v.name: data.numeric(v.name) for v in of_rows}
    of_each = [cluster_values(data, v.name)[data.codes] for v in of_clusters]
    working = prepare(
        design.X, design.Z, np.column_stack([values_of(v, numbers[v.name]) for v in of_rows]), data.codes,
        len(data.clusters), labels, design.fixed, design.random_terms, flat=flat, latent=latent,
        also=np.column_stack(of_each) if of_clusters else None,
    )  # fmt: skip
    incomplete = tuple(
        (v, np.flatnonzero(data.missing(v.name))) for v in of_rows if data.missing(v.name).any()
    )
    st = working.statistics
    clusters = cluster_table(data, design, of_clusters, st.r * st.q, working.order, shift, flat=flat)
    shifts = {variable.name: shift.rows(variable.name, data) for variable in of_rows}
    return assembled(working, of_rows, level, incomplete, clusters, shifts, by_cluster=by_cluster)


def assembled(
    working: Working,
    variables: tuple[LatentVariable, ...],
    level: NDArray[np.int64],
    incomplete: tuple[tuple[LatentVariable, NDArray[np.int64]], ...],
    clusters: ClusterTable,
    shifts: Mapping[str, Array],
    *,
    by_cluster: bool,
) -> LatentTable:
    """Rows on the working scale, with their clusters, as the sampler reads them.

    level (N, r): observed levels, rows in the order of the table; incomplete: variables with the rows to be imputed;
    shifts: variable -> (N, its columns) numbers added to its latent values.
    """
    rows, st = working.rows, working.statistics
    latent = np.array([variable.kind != NUMBER for variable in variables for _ in variable.labels])
    return LatentTable(
        variables, working, _rows(working, level[rows.row], by_cell=by_cluster), latent_columns(variables),
        missing_cells(rows.row, rows.cluster, rows.fixed, working.scale.s, incomplete, shifts),
        moments(_by_cell(st) if by_cluster else st), np.where(np.isnan(rows.Y) | latent, 0.0, rows.Y), incomplete,
        clusters, st.cell_cluster.astype(np.int64) if by_cluster else np.zeros(len(st.patterns), dtype=np.int64),
    )  # fmt: skip


def levels_of_rows(data: IncompleteData, variable: LatentVariable) -> NDArray[np.int64]:
    """(N,) observed levels, -1 where there is none."""
    if variable.kind == NUMBER:
        return np.full(len(data.codes), -1, dtype=np.int64)
    return np.nan_to_num(data.numeric(variable.name), nan=-1.0).astype(np.int64)


def _rows(working: Working, level: NDArray[np.int64], *, by_cell: bool) -> LatentRows:
    """The rows; by_cell: every cell (cluster, pattern) counts as a separate pattern."""
    rows, st = working.rows, working.statistics
    A = len(st.patterns)
    number = rows.cluster * A + rows.pattern
    seen = st.patterns.any(1)[rows.pattern]
    cell = np.full(len(rows.row), -1, dtype=np.int64)
    cell[seen] = np.unique(number[seen], return_inverse=True)[1]
    pattern = np.searchsorted(st.cell_cluster * A + st.cell_pattern, number) if by_cell else rows.pattern
    return LatentRows(
        rows.cluster, pattern.astype(np.int64), cell, np.ascontiguousarray(rows.X), np.ascontiguousarray(rows.Z),
        np.ascontiguousarray(level),
    )  # fmt: skip


def _by_cell(st: SufficientStatistics) -> SufficientStatistics:
    """Statistics in which every cell is a separate pattern, so that each cluster can have its own weights."""
    return replace(st, patterns=st.patterns[st.cell_pattern], cell_pattern=np.arange(len(st.cell_pattern)))

"""The rows of a block of several normal variables, whose responses have one density in each row."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.joint.pointwise import row_patterns
from bayesimp.kernels.chained.rows import linear_predictors
from bayesimp.notation import Array

__all__ = ["JointRows"]


class JointRows:
    """The rows in which a response is observed and fitted.

    Attributes
    ----------
    y
        (n, r) observed responses on the working scale, NaN where missing.
    row
        (n,) position of each row in the table.
    """

    def __init__(self, table: ChainedTable, number: int) -> None:
        self._rows, self._chained = BlockRows(table, number), table.blocks[number]
        columns = np.array(self._chained.columns)
        holes = np.column_stack([table.holes(k) for k in columns])
        seen = np.flatnonzero(~holes.all(axis=1) & table.cell_fitted[table.row_cell])
        self._source = np.concatenate([table.D_order, -1 - seen])
        of_rows = table.cells.cluster[table.row_cell[seen]]
        self._cluster = np.concatenate([table.D_cluster[table.D_order], of_rows]).astype(np.int64)
        incomplete = np.where(holes[seen], np.nan, table.start[np.ix_(seen, columns - table.p)])
        self.y = np.vstack([table.D[np.ix_(table.D_order, columns)], incomplete])
        self.row = np.concatenate([table.D_row[table.D_order], table.row[seen]])

    @cached_property
    def patterns(self) -> list[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
        """Missingness patterns with their rows (`row_patterns`)."""
        return row_patterns(~np.isnan(self.y))

    def means(self, V: Array, beta: Array, B: Array) -> Array:
        """(n, r) x*'beta + z*'B_i - o on the working scale of the responses' columns, in the completed table V."""
        X, Z = self._rows.design(V, self._rows.factors(V), self._source, self._cluster)
        return (
            linear_predictors(X, Z, self._cluster, beta, B) - self._chained.terms.offset[-self.y.shape[1] :]
        )

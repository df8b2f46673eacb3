"""Rows and columns of a factor on the scale of its sampler, recomputed only if they contain imputed values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.factors.arrays import State
from bayesimp.kernels.glmm.merge import SUMMED, Alike, rows_alike, summed_rows
from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["WorkingRows"]

Array = NDArray[np.float64]


class WorkingRows:
    """Working rows of the factors of a table, while its state changes."""

    def __init__(self, table: FactorTable, state: State) -> None:
        self.table, self.state = table, state
        active = table.cells.active
        self.moving = active.any(axis=0) if len(active) else np.zeros(table.arrays.column[-1], bool)
        self.still: dict[int, tuple[Array, Array]] = {}  # columns without imputed values, by factor
        self.alike: dict[int, Alike | None] = {}  # rows with these columns equal
        self.known: dict[int, tuple[Array, Array]] = {}  # trials and offset

    def moves(self, k: int) -> bool:
        """Whether the columns of factor k contain imputed values."""
        a = self.table.arrays
        return bool(self.moving[a.column[k] : a.column[k + 1]].any())

    def design(self, k: int, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Working columns X_w (n, p), Z_w (n, q) of rows of factor k; the rows must not change where nothing moves."""
        if k not in self.still:
            made = self.columns(k, rows)
            if self.moves(k):
                return made
            self.still[k] = made
        return self.still[k]

    def of(self, array: Array, k: int) -> Array:
        """(rows,) the entries of factor k, contiguous; array (n, K)."""
        rows = self.table.rows[k]
        return np.ascontiguousarray(array[:, k] if len(rows) == len(array) else array[rows, k])

    def response(self, k: int) -> tuple[Array, Array, Array]:
        """(rows,) responses, trials and known part of the linear predictors of factor k."""
        if k not in self.known:
            self.known[k] = self.of(self.table.arrays.trials, k), self.of(self.table.arrays.offset, k)
        return self.of(self.state.Y, k), *self.known[k]

    def columns(self, k: int, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Working columns of any rows."""
        (fixed, random), scale, X = self.table.columns_of(k), self.table.scales[k], self.state.X
        every = len(rows) == len(X)
        X_k, Z_k = (X[:, fixed], X[:, random]) if every else (X[rows, fixed], X[rows, random])
        return np.ascontiguousarray(X_k @ scale.T), np.ascontiguousarray(Z_k @ scale.random)

    def merged(self, k: int) -> GlmmRows:
        """Rows of a factor that is not normal; equal rows of a cluster are merged, where that leaves fewer."""
        rows, code = self.table.rows[k], self.table.factors[k].code
        y, trials, offset = self.response(k)
        alike = self._alike(k, rows, offset)
        if alike is not None:
            X, Z = self.design(k, rows[alike.one])
            return summed_rows(code, alike, y, trials, offset, X, Z)
        X, Z = self.design(k, rows)
        return GlmmRows(code, y, trials, np.ones(len(rows)), offset, X, Z, self.table.starts[k])

    def _alike(self, k: int, rows: NDArray[np.int64], offset: Array) -> Alike | None:
        """Rows of factor k with equal columns, for families that can be summed; found once where nothing moves."""
        if k in self.alike:
            return self.alike[k]
        found = None
        if self.table.factors[k].code in SUMMED:
            a = self.table.arrays
            X, own = self.state.X, slice(a.column[k], a.column[k + 1])
            columns = X[:, own] if len(rows) == len(X) else X[rows, own]
            columns = np.column_stack([columns, offset]) if offset.any() else columns
            found = rows_alike(columns, self.table.starts[k])
        if not self.moves(k):
            self.alike[k] = found
        return found

"""Rows and columns of a factor on the scale of its sampler, recomputed only if they contain imputed values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.levels import LevelRows, entries
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
        # columns without imputed values, by factor and level; rows with these columns equal; columns of ones by length
        self.still: dict[tuple[int, int], tuple[Array, Array]] = {}
        self.alike: dict[tuple[int, int], Alike | None] = {}
        self.ones: dict[int, Array] = {}
        # trials, and what else keeps rows apart
        self.trials: dict[tuple[int, int], Array] = {}
        self.apart: dict[tuple[int, int], list[Array]] = {}

    def moves(self, k: int) -> bool:
        """Whether the columns of factor k contain imputed values."""
        a = self.table.arrays
        return bool(self.moving[a.column[k] : a.column[k + 1]].any())

    def design(self, k: int, rows: NDArray[np.int64], level: int = 0) -> tuple[Array, Array]:
        """Working columns X_w (n, p), Z_w (n, q) of rows of factor k, Z_w being those with effects of a level; the rows
        must not change where nothing moves."""
        if (k, level) not in self.still:
            made = self.columns(k, rows, level)
            if self.moves(k):
                return made
            self.still[k, level] = made
        return self.still[k, level]

    def columns(self, k: int, rows: NDArray[np.int64], level: int = 0) -> tuple[Array, Array]:
        """Working columns of any rows, which are sorted as in the table at level 0."""
        scale, X, (fixed, _) = self.table.scales[k], self.state.X, self.table.columns_of(k)
        X_k = X[:, fixed] if level == 0 and len(rows) == len(X) else X[rows, fixed]
        X_w = np.ascontiguousarray(X_k @ scale.T)
        own = scale.levels[level]
        if len(own.a) == 1 and own.intercept == 0:
            if len(rows) not in self.ones:
                self.ones[len(rows)] = np.ones((len(rows), 1))
            return X_w, self.ones[len(rows)]
        Z_k = (
            X[:, self.table.columns_at(k, level)]
            if X_k.base is X
            else X[np.ix_(rows, self.table.columns_at(k, level))]
        )
        return X_w, np.ascontiguousarray(Z_k @ own.random)

    def response(self, k: int, rows: NDArray[np.int64], level: int = 0) -> tuple[Array, Array]:
        """(rows,) responses, a copy, and trials of all rows of factor k, in the order of a level."""
        if (k, level) not in self.trials:
            self.trials[k, level] = entries(self.table.arrays.trials, k, rows, level == 0)
        return entries(self.state.Y, k, rows, level == 0), self.trials[k, level]

    def remainder(self, k: int, own: LevelRows, level: int = 0) -> Array:
        """(rows,) responses of factor k minus the known part of their predictors, in the order of a level."""
        Y, rows = self.state.Y, own.rows
        return (Y[:, k] if level == 0 and len(rows) == len(Y) else Y[rows, k]) - own.offset

    def merged(self, k: int, own: LevelRows, level: int) -> GlmmRows:
        """Rows of a factor that is not normal; equal rows of a group are merged, where that leaves fewer."""
        rows, code = own.rows, self.table.factors[k].code
        y, trials = self.response(k, rows, level)
        alike = self._alike(k, own, level)
        if alike is not None:
            X, Z = self.design(k, rows[alike.one], level)
            return summed_rows(code, alike, y, trials, own.offset, X, Z)
        X, Z = self.design(k, rows, level)
        return GlmmRows(code, y, trials, np.ones(len(rows)), own.offset, X, Z, own.first)

    def _alike(self, k: int, own: LevelRows, level: int) -> Alike | None:
        """Rows of factor k with equal columns and groups, for families that can be summed; found once where nothing
        moves."""
        if (k, level) in self.alike:
            return self.alike[k, level]
        found, rows, X = None, own.rows, self.state.X
        if self.table.factors[k].code in SUMMED:
            if (k, level) not in self.apart:
                self.apart[k, level] = self._apart(k, rows, level)
            columns = slice(self.table.arrays.column[k], self.table.arrays.column[k + 1])
            present = X[:, columns] if level == 0 and len(rows) == len(X) else X[rows, columns]
            apart = self.apart[k, level]
            found = rows_alike(np.column_stack([present, *apart]) if apart else present, own.first)
        if not self.moves(k):
            self.alike[k, level] = found
        return found

    def _apart(self, k: int, rows: NDArray[np.int64], level: int) -> list[Array]:
        """What keeps rows with equal columns apart, whatever the effects are: groups of other levels, known offsets."""
        a, factor, known = self.table.arrays, self.table.factors[k], self.table.arrays.offset[rows, k]
        codes = [a.cluster, *(f.codes for f in self.table.further)] if self.table.further else []
        groups = [c[rows].astype(float) for s, c in enumerate(codes) if s != level and factor.has_level(s)]
        return [*groups, *([known] if known.any() else [])]

"""The table as the chained-equations loop reads it: working scale, canonical order, cells.

Every base column is brought to mean 0 and standard deviation 1 of its observed values, w = (D - c) / s; the first is the
constant 1. A conditional model y = X* beta + Z* b + e then has, on the scale of the data,

    t = a_t t_w + h_t    for each of its columns,    y = s_y y_w + c_y
    beta_t = s_y beta_tw / a_t,        beta_0 = s_y beta_0w + c_y - sum_t beta_t h_t
    sigma^2 = s_y^2 sigma^2_w,         Psi = diag(e) Psi_w diag(e),  e_l = s_y / a_l

where h_t is not zero only beside an intercept, which takes it up. Clusters and rows are put in an order that depends on
values alone (data/working.py), so that a seed gives the same imputations however the table is arranged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.data.order import KEY_DIGITS, cluster_order
from bayesimp.errors import DataError
from bayesimp.kernels.chained import BlockArrays, Cells, Terms
from bayesimp.spec.conditional import Block, Column, Conditionals, Derived

__all__ = ["BlockScale", "ChainedBlock", "ChainedTable", "chained_table"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BlockScale:
    """Between the working scale and the data's, for one block; see the module.

    s, c (r,): of the responses; a, h (p*,): of the fixed columns; e (r q,): units of the effects; intercept: place
    of the intercept among the fixed columns, or -1.
    """

    s: Array
    c: Array
    a: Array
    h: Array
    e: Array
    intercept: int

    @property
    def T(self) -> Array:
        """T (p*, p*) with beta = T beta_w diag(s) + (c in the intercept's row)."""
        T = np.diag(1.0 / self.a)
        if self.intercept >= 0:
            T[self.intercept] -= self.h / self.a
        return T

    def beta(self, beta_w: Array) -> Array:
        """(..., p*, r) on the scale of the data."""
        beta = self.T @ beta_w * self.s
        if self.intercept >= 0:
            beta[..., self.intercept, :] += self.c
        return beta

    def working_beta(self, beta: Array) -> Array:
        beta = np.array(beta, dtype=float)
        if self.intercept >= 0:
            beta[..., self.intercept, :] -= self.c
        return np.linalg.solve(self.T, beta / self.s)

    def Sigma(self, Sigma_w: Array) -> Array:
        return Sigma_w * np.outer(self.s, self.s)

    def Psi(self, Psi_w: Array) -> Array:
        return Psi_w * np.outer(self.e, self.e)


@dataclass(frozen=True)
class ChainedBlock:
    """One conditional model as the kernels read it; columns: places of its responses among the base columns."""

    block: Block
    terms: Terms
    arrays: BlockArrays
    scale: BlockScale
    columns: tuple[int, ...]


@dataclass(frozen=True)
class ChainedTable:
    """All that is shared between imputations.

    names (d,): base columns, `p` complete ones first; center, scale (d,). order (m,): the cluster of the table at each
    canonical place. D (n, d), D_cluster (n,): complete rows that are fitted. row (R,): place in the table of the
    incomplete rows, row_cell (R,): their cells; start (R, d - p): their working values, nan where to be imputed.
    cell_fitted (C,): whether models are fitted to the rows of a cell.
    full (N, d): base columns as they are in the table, data scale.
    """

    names: tuple[str, ...]
    p: int
    center: Array
    scale: Array
    order: NDArray[np.int64]
    cells: Cells
    D: Array
    D_cluster: NDArray[np.int64]
    row: NDArray[np.int64]
    row_cell: NDArray[np.int64]
    start: Array
    cell_fitted: NDArray[np.bool_]
    full: Array
    derived: tuple[Derived, ...]
    blocks: tuple[ChainedBlock, ...]

    @property
    def clusters(self) -> int:
        return len(self.order)

    def holes(self, k: int) -> NDArray[np.bool_]:
        """(R,) which of the incomplete rows lack base column k."""
        return self.cells.missing[self.row_cell, k - self.p]

    def derive(self, V: Array, names: tuple[str, ...] | None = None) -> list[int]:
        """Compute derived columns of the incomplete rows anew, into V; returns their places among the base columns."""
        if not self.derived:
            return []
        changed = []
        at = {name: k for k, name in enumerate(self.names)}
        for derived in self.derived:
            if names is not None and derived.name not in names:
                continue
            k = at[derived.name]
            values = derived.evaluate({i: self._data(at[i], V) for i in derived.ingredients})
            holes = self.holes(k)
            V[holes, k - self.p] = (values[holes] - self.center[k]) / self.scale[k]
            changed.append(k)
        return changed

    def _data(self, k: int, V: Array) -> Array:
        """A base column of the incomplete rows on the scale of the data."""
        return self.center[k] + self.scale[k] * (self.cells.X[:, k] if k < self.p else V[:, k - self.p])


def chained_table(
    spec: Conditionals,
    Y: Array,
    codes,
    clusters: int,
    *,
    filled: Mapping[str, Array] | None = None,
    ignore=None,
    bounds: Mapping[str, tuple[float | None, float | None]] | None = None,
) -> ChainedTable:
    """Put a table into the form in which the loop reads it.

    Parameters
    ----------
    spec
        What is imputed, and how.
    Y
        (N, r) values of `spec.incomplete`, nan where to be imputed.
    codes, clusters
        (N,) cluster of each row, and their number.
    filled
        Derived columns that the table itself holds (N,), nan where they are to be computed.
    ignore
        (N,) bool: rows that are imputed, but that no model is fitted to.
    bounds
        (lower, upper) by incomplete variable, on the scale of the data.
    """
    names = (*spec.complete, *spec.incomplete, *(d.name for d in spec.derived))
    p = len(spec.complete)
    ignore = np.zeros(len(Y), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool)
    full = _with_derived(spec, np.hstack([spec.X, Y]), names, filled or {})
    center, scale = _scales(full)
    W = (full - center) / scale
    order = cluster_order(Y, np.round(W[:, :p], KEY_DIGITS), codes, clusters)
    place = np.empty(clusters, dtype=np.int64)
    place[order] = np.arange(clusters)
    codes = place[codes]
    alone = (
        np.bincount(codes[~ignore], minlength=clusters) == 0
    )  # clusters of ignored rows only: means over these
    rows = _Rows(W, codes, ~ignore, ~ignore | alone[codes], clusters)
    cells, row, row_cell, cell_fitted = _cells(rows, p)
    whole = ~np.isnan(W).any(1) & ~ignore
    table = ChainedTable(
        names, p, center, scale, order, cells, W[whole], codes[whole], row, row_cell, W[row][:, p:], cell_fitted,
        full, spec.derived, (),
    )  # fmt: skip
    blocks = tuple(_block(table, block, rows, bounds or {}) for block in spec.blocks)
    return replace(table, blocks=blocks)


@dataclass(frozen=True)
class _Rows:
    """The table on the working scale: W (N, d) with nan in the holes, canonical codes, which rows enter what."""

    W: Array
    codes: NDArray[np.int64]
    fitted: NDArray[np.bool_]
    averaged: NDArray[np.bool_]
    clusters: int


def _with_derived(spec: Conditionals, base: Array, names, filled) -> Array:
    """Base columns (N, d) on the scale of the data; derived ones as far as their ingredients are observed."""
    columns = {name: base[:, k] for k, name in enumerate(names[: base.shape[1]])}
    for derived in spec.derived:
        with np.errstate(all="ignore"):
            values = np.array(derived.evaluate({i: columns[i] for i in derived.ingredients}), dtype=float)
        known = ~np.any([np.isnan(columns[i]) for i in derived.ingredients], axis=0)
        if derived.column in filled:
            own = filled[derived.column]
            values = np.where(np.isnan(own), values, own)
            known &= np.isnan(own)
        bad = known & ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"'{derived.name}' has no finite value in {bad.sum():,} of {len(values):,} rows where "
                f"{', '.join(derived.ingredients)} is observed (a logarithm of 0, a division by 0?). Correct these "
                "values, or use another expression."
            )
        columns[derived.name] = values
    return np.column_stack([columns[name] for name in names])


def _scales(full: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the observed values of each base column; 0 and 1 for the constant."""
    d = full.shape[1]
    center, scale = np.zeros(d), np.ones(d)
    for k in range(1, d):
        y = full[:, k][~np.isnan(full[:, k])]
        if len(y) < 2:
            continue
        mean = y.mean()
        sd = np.sqrt(((y - mean) ** 2).sum() / (len(y) - 1))
        if sd > 1e-14 * abs(mean) and sd > 0:
            center[k], scale[k] = mean, sd
    return center, scale


def _cells(rows: _Rows, p: int) -> tuple[Cells, NDArray, NDArray, NDArray]:
    """Cells of the incomplete rows in canonical order; the rows' places in the table, their cells; fitted (C,)."""
    W, codes, d = rows.W, rows.codes, rows.W.shape[1]
    holes = np.isnan(W[:, p:])
    bits = holes @ (1 << np.arange(d - p, dtype=np.int64))
    row = np.flatnonzero(bits)
    keys = [np.round(W[row][:, k], KEY_DIGITS) for k in range(1, p)] + list(W[row][:, p:].T)
    row = row[np.lexsort([*keys, ~rows.fitted[row], bits[row], codes[row]])]
    key = np.column_stack([codes[row], bits[row], rows.fitted[row]])
    new = np.ones(len(row), dtype=bool)
    new[1:] = (key[1:] != key[:-1]).any(1)
    first = row[new]
    start = np.append(np.flatnonzero(new), len(row)).astype(np.int64)
    cells = Cells(np.ascontiguousarray(W[row][:, :p]), start, codes[first].astype(np.int64), holes[first])
    return cells, row, np.cumsum(new) - 1, rows.fitted[first]


def _grams(W: Array, index: NDArray[np.int64], count: int) -> Array:
    """(count, d, d) D'D of the rows with each index, holes as zeros; rows of index -1 are left out."""
    D = np.nan_to_num(W)
    gram = np.zeros((count, W.shape[1], W.shape[1]))
    order = np.argsort(index, kind="stable")
    ends = np.searchsorted(index[order], np.arange(count + 1))
    for c in range(count):
        part = D[order[ends[c] : ends[c + 1]]]
        gram[c] = part.T @ part
    return gram


def _block(table: ChainedTable, block: Block, rows: _Rows, bounds) -> ChainedBlock:
    at = {name: k for k, name in enumerate(table.names)}
    columns = tuple(at[name] for name in block.responses)
    r, clusters = len(columns), rows.clusters
    powers = 1 << np.arange(r)
    row_bits = ~np.isnan(rows.W[:, columns]) @ powers
    kinds = sorted(
        {*np.unique(row_bits).tolist(), int(powers.sum())}, reverse=True
    )  # all observed comes first
    patterns = np.array([[bool(b & k) for k in powers] for b in kinds])
    row_pattern = np.searchsorted(-np.array(kinds), -row_bits)
    # the block's own cells: fitted rows with something observed, by cluster and pattern
    used = rows.fitted & (row_bits > 0)
    key = rows.codes * len(kinds) + row_pattern
    own, row_cell = np.unique(key[used], return_inverse=True)
    index = np.full(len(rows.W), -1)
    index[used] = row_cell
    own_cluster, own_pattern = own // len(kinds), own % len(kinds)
    pattern_rows = np.bincount(row_pattern[used], minlength=len(kinds)).astype(np.int64)
    cluster_rows = np.bincount(rows.codes[used], minlength=clusters).astype(np.int64)
    fitted_patterns = patterns
    if getattr(block.method, "residual", "common") == "cluster":  # every cluster is a pattern of its own
        fitted_patterns, pattern_rows = np.ones((clusters, 1), dtype=bool), cluster_rows
        own_pattern = own_cluster
    first = table.row[table.cells.start[:-1]]  # a row of each cell of the table
    cell_pattern = row_pattern[first]
    order = np.argsort(index[first], kind="stable")
    ends = np.searchsorted(index[first][order], np.arange(len(own) + 1))
    missing_cell = np.flatnonzero(cell_pattern > 0)
    arrays = BlockArrays(
        np.array([len(block.fixed), len(block.random), r, clusters], dtype=np.int64), fitted_patterns, pattern_rows,
        np.searchsorted(own_cluster, np.arange(clusters + 1)).astype(np.int64), own_pattern.astype(np.int64),
        _grams(rows.W, index, len(own)), (ends - ends[0]).astype(np.int64), order[ends[0] :].astype(np.int64),
        patterns, missing_cell.astype(np.int64), cell_pattern[missing_cell].astype(np.int64),
        *_bounds(table, block, columns, bounds),
    )  # fmt: skip
    terms, scale = _terms(table, block, at, rows)
    return ChainedBlock(block, terms, arrays, scale, columns)


def _bounds(table: ChainedTable, block: Block, columns, bounds) -> tuple[Array, Array]:
    """Lower and upper bounds of the responses on the working scale."""
    low, high = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    for k, (name, at) in enumerate(zip(block.responses, columns, strict=True)):
        pair = bounds.get(name, (None, None))
        for side, value in zip((low, high), pair, strict=True):
            if value is not None:
                side[k] = (value - table.center[at]) / table.scale[at]
    return low, high


def _terms(table: ChainedTable, block: Block, at, rows: _Rows) -> tuple[Terms, BlockScale]:
    """Fixed, random and response columns of a block on the working scale, and the way back."""
    c, s = table.center, table.scale
    has_intercept = any(_is_constant(t) for t in block.fixed)
    columns = [*block.fixed, *block.random]
    T, p = len(columns) + len(block.responses), len(block.fixed)
    size = np.bincount(rows.codes[rows.averaged], minlength=rows.clusters)
    base, u, v = np.zeros(T, dtype=np.int64), np.full(T, -1, dtype=np.int64), np.full(T, -1, dtype=np.int64)
    offset, ou, ov, divisor = np.zeros(T), np.zeros(T), np.zeros(T), np.ones((T, rows.clusters))
    a, h = np.ones(len(columns)), np.zeros(len(columns))
    for k, column in enumerate(columns):
        b = base[k] = at[column.base]
        absorbed = k < p and has_intercept  # a constant added to the column is taken up by the intercept
        if column.over is None:
            a[k] = s[b]
            h[k], offset[k] = (c[b], 0.0) if absorbed else (0.0, c[b] / s[b])
            continue
        u[k], v[k] = sorted(at[name] for name in column.over)
        divisor[k] = size.mean() if column.sum else size
        a[k] = s[b] * s[u[k]] * s[v[k]] * (size.mean() if column.sum else 1.0)
        if b == 0 and u[k] == 0 and not column.sum and absorbed:
            h[k] = c[v[k]]
        else:
            offset[k], ou[k], ov[k] = c[b] / s[b], c[u[k]] / s[u[k]], c[v[k]] / s[v[k]]
    places = [at[name] for name in block.responses]
    s_y, c_y = s[places].copy(), c[places].copy()
    base[len(columns) :] = places
    if not has_intercept:
        offset[len(columns) :], c_y = c_y / s_y, np.zeros(len(places))
    e = (s_y[:, None] / a[None, p:]).ravel()
    intercept = next((k for k, t in enumerate(block.fixed) if _is_constant(t)), -1)
    terms = Terms(base, offset, u, v, ou, ov, divisor, *_totals(table, rows, u, v, ou, ov))
    return terms, BlockScale(s_y, c_y, a[:p], h[:p], e, intercept)


def _totals(table: ChainedTable, rows: _Rows, u, v, ou, ov) -> tuple[Array, NDArray, NDArray]:
    """For columns averaged over: totals by cluster of rows without a hole, and the cells of averaged rows with one."""
    known, lists = np.zeros((len(u), rows.clusters)), []
    first = table.row[table.cells.start[:-1]]
    for t in range(len(u)):
        if u[t] < 0:
            lists.append(np.empty(0, dtype=np.int64))
            continue
        product = (rows.W[:, u[t]] + ou[t]) * (rows.W[:, v[t]] + ov[t])
        hole = np.isnan(product)
        there = rows.averaged & ~hole
        known[t] = np.bincount(rows.codes[there], weights=product[there], minlength=rows.clusters)
        lists.append(np.flatnonzero((rows.averaged & hole)[first]))
    ends = np.concatenate([[0], np.cumsum([len(cells) for cells in lists])]).astype(np.int64)
    return known, ends, np.concatenate(lists).astype(np.int64)


def _is_constant(column: Column) -> bool:
    return column.base == "Intercept" and column.over is None

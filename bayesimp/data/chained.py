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
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.data.order import KEY_DIGITS, cluster_order
from bayesimp.errors import DataError
from bayesimp.kernels.chained import BlockArrays, Cells, Terms, refresh
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
    def matrix(self) -> Array:
        """T (p*, p*) with beta = T beta_w diag(s) + (c in the intercept's row)."""
        T = np.diag(1.0 / self.a)
        if self.intercept >= 0:
            T[self.intercept] -= self.h / self.a
        return T

    def beta(self, beta_w: Array) -> Array:
        """(..., p*, r) on the scale of the data."""
        beta = self.matrix @ beta_w * self.s
        if self.intercept >= 0:
            beta[..., self.intercept, :] += self.c
        return beta

    def working_beta(self, beta: Array) -> Array:
        beta = np.array(beta, dtype=float)
        if self.intercept >= 0:
            beta[..., self.intercept, :] -= self.c
        return np.linalg.solve(self.matrix, beta / self.s)

    def Sigma(self, Sigma_w: Array) -> Array:
        return Sigma_w * np.outer(self.s, self.s)

    def Psi(self, Psi_w: Array) -> Array:
        return Psi_w * np.outer(self.e, self.e)


@dataclass(frozen=True)
class ChainedBlock:
    """One conditional model as the kernels read it. rows (m,): fitted rows of each cluster where all is observed."""

    block: Block
    terms: Terms
    arrays: BlockArrays
    scale: BlockScale
    columns: tuple[int, ...]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class ChainedTable:
    """All that is shared between imputations.

    names (d,): base columns, `p` complete ones first; center, scale (d,). order (m,): the cluster of the table at each
    canonical place. D (n, d), D_cluster (n,): complete rows that are fitted. row (R,): place in the table of the
    incomplete rows; start (R, d - p): their working values, nan where to be imputed. missing (C, d - p): by cell.
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
    missing: NDArray[np.bool_]
    full: Array
    derived: tuple[Derived, ...]
    blocks: tuple[ChainedBlock, ...]

    @property
    def clusters(self) -> int:
        return len(self.order)

    @cached_property
    def _base_grams(self) -> Array:
        """Grams (C, d, d) of the incomplete rows with zeros where something is imputed."""
        D = np.hstack([self.cells.X, np.nan_to_num(self.start)])
        ends = zip(self.cells.start[:-1], self.cells.start[1:], strict=True)
        return np.array([D[a:b].T @ D[a:b] for a, b in ends]).reshape(-1, D.shape[1], D.shape[1])

    def grams(self, V: Array) -> Array:
        """G (C, d, d) of completed incomplete rows V (R, d - p): to the last bit what the loop keeps up to date."""
        G = self._base_grams.copy()
        for k in range(self.p, len(self.names)):
            refresh(self.cells, k, V, G)
        return G

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
            holes = self.missing[self.row_cell, k - self.p]
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
    holes = np.isnan(W)
    incomplete = holes.any(1)
    alone = (
        np.bincount(codes[~ignore], minlength=clusters) == 0
    )  # clusters of ignored rows only: means over these
    averaged = ~ignore | alone[codes]
    cells, row, row_cell, missing = _cells(W, holes, incomplete, codes, ignore, averaged, clusters, p)
    fitted = ~incomplete & ~ignore
    table = ChainedTable(
        names, p, center, scale, order, cells, W[fitted], codes[fitted], row, row_cell, W[row][:, p:], missing,
        full, spec.derived, (),
    )  # fmt: skip
    sizes = np.bincount(codes[averaged], minlength=clusters)
    whole = np.bincount(codes[fitted], minlength=clusters)
    bounds = bounds or {}
    blocks = tuple(_block(table, b, sizes.mean(), whole, bounds) for b in spec.blocks)
    return ChainedTable(**{**{f: getattr(table, f) for f in table.__dataclass_fields__}, "blocks": blocks})


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


def _cells(W, holes, incomplete, codes, ignore, averaged, clusters: int, p: int):
    """Cells of the incomplete rows, in canonical order."""
    d = W.shape[1]
    bits = holes[:, p:] @ (1 << np.arange(d - p, dtype=np.int64))
    row = np.flatnonzero(incomplete)
    keys = [np.round(W[row][:, k], KEY_DIGITS) for k in range(1, p)] + list(W[row][:, p:].T)
    order = np.lexsort([*keys, ignore[row], bits[row], codes[row]])
    row = row[order]
    key = np.column_stack([codes[row], bits[row], ignore[row]])
    new = np.ones(len(row), dtype=bool)
    new[1:] = (key[1:] != key[:-1]).any(1)
    first = np.flatnonzero(new)
    start = np.append(first, len(row)).astype(np.int64)
    row_cell = np.cumsum(new) - 1
    missing = holes[row[first]][:, p:] if len(row) else np.zeros((0, d - p), dtype=bool)
    lists = [np.flatnonzero(missing[:, k]) for k in range(d - p)]
    column_first = np.concatenate([np.zeros(p + 1), np.cumsum([len(x) for x in lists])]).astype(np.int64)
    column_cells = np.concatenate([*lists, np.empty(0, dtype=np.int64)]).astype(np.int64)
    gram = _grams(W[~incomplete & ~ignore], codes[~incomplete & ~ignore], clusters)
    same = (averaged == ~ignore)[~incomplete].all()
    gram_averaged = (
        gram if same else _grams(W[~incomplete & averaged], codes[~incomplete & averaged], clusters)
    )
    cells = Cells(
        np.ascontiguousarray(W[row][:, :p]), start, codes[row[first]].astype(np.int64), ~ignore[row[first]],
        averaged[row[first]], gram, gram_averaged, column_first, column_cells,
    )  # fmt: skip
    return cells, row, row_cell, missing


def _grams(W, codes, clusters: int) -> Array:
    gram = np.zeros((clusters, W.shape[1], W.shape[1]))
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(clusters + 1))
    for i in range(clusters):
        D = W[order[ends[i] : ends[i + 1]]]
        gram[i] = D.T @ D
    return gram


def _block(table: ChainedTable, block: Block, mean_size: float, whole_rows, bounds) -> ChainedBlock:
    at = {name: k for k, name in enumerate(table.names)}
    columns = tuple(at[name] for name in block.responses)
    terms, scale = _terms(table, block, at, mean_size)
    cells, clusters = table.cells, table.clusters
    observed = ~table.missing[:, [k - table.p for k in columns]]  # (C, r)
    r = len(columns)
    bits = observed @ (1 << np.arange(r))
    all_bits = (1 << r) - 1
    kinds = sorted({int(b) for b in bits} | {all_bits}, reverse=True)  # all observed comes first
    patterns = np.array([[bool(b >> k & 1) for k in range(r)] for b in kinds])
    pattern_of = {b: a for a, b in enumerate(kinds)}
    cell_pattern = np.array([pattern_of[int(b)] for b in bits], dtype=np.int64)
    by_cluster = getattr(block.method, "residual", "common") == "cluster"
    own: list[tuple[int, int, bool, list[int]]] = []
    first = [0]
    ends = np.searchsorted(cells.cluster, np.arange(clusters + 1))
    for i in range(clusters):
        members: dict[int, list[int]] = {}
        for c in range(ends[i], ends[i + 1]):
            if cells.fitted[c] and bits[c]:
                members.setdefault(int(cell_pattern[c]), []).append(c)
        for a in sorted(set(members) | ({0} if whole_rows[i] else set())):
            own.append((i, a, a == 0 and bool(whole_rows[i]), members.get(a, [])))
        first.append(len(own))
    size = np.diff(cells.start)
    rows = np.zeros(len(patterns), dtype=np.int64)
    cluster_rows = np.zeros(clusters, dtype=np.int64)
    for i, a, complete, members in own:
        n = (int(whole_rows[i]) if complete else 0) + int(size[members].sum())
        rows[a] += n
        cluster_rows[i] += n if a == 0 else 0
    own_pattern = np.array([i if by_cluster else a for i, a, _, _ in own], dtype=np.int64)
    fitted_patterns = patterns
    if by_cluster:  # every cluster is a pattern of its own: kernels/conditional_gibbs.py
        fitted_patterns, rows = np.ones((clusters, 1), dtype=bool), cluster_rows
    to_fill = np.flatnonzero(bits != all_bits)
    lower, upper = _bounds(table, block, columns, bounds)
    member = np.array([c for *_, members in own for c in members], dtype=np.int64)
    member_first = np.concatenate([[0], np.cumsum([len(members) for *_, members in own])]).astype(np.int64)
    arrays = BlockArrays(
        np.array([len(block.fixed), len(block.random), r], dtype=np.int64), fitted_patterns, rows,
        np.array(first, dtype=np.int64), own_pattern, np.array([w for _, _, w, _ in own], dtype=bool),
        member_first, member, patterns, to_fill.astype(np.int64), cell_pattern[to_fill], lower, upper,
    )  # fmt: skip
    return ChainedBlock(block, terms, arrays, scale, columns, cluster_rows)


def _bounds(table: ChainedTable, block: Block, columns, bounds) -> tuple[Array, Array]:
    """Lower and upper bounds of the responses on the working scale."""
    low, high = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    for k, (name, at) in enumerate(zip(block.responses, columns, strict=True)):
        pair = bounds.get(name, (None, None))
        for side, value in zip((low, high), pair, strict=True):
            if value is not None:
                side[k] = (value - table.center[at]) / table.scale[at]
    return low, high


def _terms(table: ChainedTable, block: Block, at, mean_size: float) -> tuple[Terms, BlockScale]:
    """Fixed, random and response columns of a block on the working scale, and the way back."""
    c, s = table.center, table.scale
    has_intercept = any(_is_constant(t) for t in block.fixed)
    columns = [*block.fixed, *block.random]
    T = len(columns) + len(block.responses)
    base, u, v = np.zeros(T, dtype=np.int64), np.full(T, -1, dtype=np.int64), np.full(T, -1, dtype=np.int64)
    offset, ou, ov, summed = np.zeros(T), np.zeros(T), np.zeros(T), np.zeros(T)
    a, h = np.ones(len(columns)), np.zeros(len(columns))
    for k, column in enumerate(columns):
        b = at[column.base]
        base[k] = b
        fixed = k < len(block.fixed)
        if column.over is None:
            a[k] = s[b]
            if fixed and has_intercept:
                h[k] = c[b]
            else:
                offset[k] = c[b] / s[b]
            continue
        u[k], v[k] = (at[name] for name in column.over)
        if b == 0 and u[k] == 0 and not column.sum and fixed and has_intercept:
            a[k], h[k] = s[v[k]], c[v[k]]
            continue
        offset[k], ou[k], ov[k] = c[b] / s[b], c[u[k]] / s[u[k]], c[v[k]] / s[v[k]]
        a[k] = s[b] * s[u[k]] * s[v[k]]
        if column.sum:
            summed[k] = 1.0 / mean_size
            a[k] *= mean_size
    places = [at[name] for name in block.responses]
    s_y, c_y = s[places].copy(), c[places].copy()
    base[len(columns) :] = places
    if not has_intercept:
        offset[len(columns) :], c_y = c_y / s_y, np.zeros(len(places))
    p = len(block.fixed)
    e = (s_y[:, None] / a[None, p:]).ravel()
    intercept = next((k for k, t in enumerate(block.fixed) if _is_constant(t)), -1)
    terms = Terms(base, offset, u, v, ou, ov, summed)
    return terms, BlockScale(s_y, c_y, a[:p], h[:p], e, intercept)


def _is_constant(column: Column) -> bool:
    return column.base == "Intercept" and column.over is None

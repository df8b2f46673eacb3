"""The table in the form that the chained-equations loop uses: working scale, canonical order, cells.

Each base column is scaled so that its observed values, in the rows to which models are fitted, have mean 0 and standard
deviation 1, w = (D - c) / s; the first is the constant 1. fcs/scale.py derives the conditional models on this scale.

The order of clusters and rows depends on values only (joint/scale.py), so a seed gives the same imputations however the
table is arranged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.fcs.margins import Residual, beside_margins
from bayesimp.fcs.scale import ChainedBlock, Rows, chained_block
from bayesimp.fcs.specification.bounds import Bound
from bayesimp.fcs.specification.records import Conditionals
from bayesimp.formulas.arithmetic import OverCluster, over_clusters
from bayesimp.formulas.columns import Derived
from bayesimp.kernels.chained.moments import RowCells
from bayesimp.scale.order import KEY_DIGITS, cluster_order
from bayesimp.table.clusters import Clusters

__all__ = ["ChainedTable", "chained_table"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ChainedTable:
    """Everything that the imputations share.

    names (d,): base columns, `p` complete ones first; center, scale (d,). order (m,): the cluster of the table at each
    canonical place. D (n, d), D_cluster (n,): complete rows that are fitted. row (R,): place in the table of the
    incomplete rows, row_cell (R,): their cells; start (R, d - p): their working values, nan where to be imputed.
    cell_fitted (C,): whether models are fitted to the rows of a cell.
    full (N, d): base columns on the scale of the data. residuals: definitions of the columns made for slopes on products
    and powers. exact: by base column, the sorted values that it can have (empty: whole numbers). grouping: the
    clusters, in the table's order. D_row (n,): place in the table of the complete rows. groups: by label of a further
    grouping factor, (N,) canonical group of each row of the table.
    """

    names: tuple[str, ...]
    p: int
    center: Array
    scale: Array
    order: NDArray[np.int64]
    cells: RowCells
    D: Array
    D_cluster: NDArray[np.int64]
    row: NDArray[np.int64]
    row_cell: NDArray[np.int64]
    start: Array
    cell_fitted: NDArray[np.bool_]
    full: Array
    derived: tuple[Derived, ...]
    blocks: tuple[ChainedBlock, ...]
    exact: Mapping[int, Array]
    grouping: Clusters
    residuals: Mapping[str, Residual]
    D_row: NDArray[np.int64]
    groups: Mapping[str, NDArray[np.int64]]

    @property
    def clusters(self) -> int:
        """The number of clusters, m."""
        return len(self.order)

    def holes(self, k: int) -> NDArray[np.bool_]:
        """Which incomplete rows lack base column k, (R,)."""
        return self.cells.missing[self.row_cell, k - self.p]

    def derive(self, V: Array, names: tuple[str, ...] | None = None) -> list[int]:
        """Recompute derived columns of the incomplete rows in V; returns their positions among the base columns."""
        if not self.derived:
            return []
        changed = []
        at = {name: k for k, name in enumerate(self.names)}
        for derived in self.derived:
            if names is not None and derived.name not in names:
                continue
            k = at[derived.name]
            ingredients = {i: self._data(at[i], V) for i in derived.ingredients}
            # a cluster mean that changes is missing in all rows of its cluster, so all of them are incomplete rows
            codes, counted = self.cells.cluster[self.row_cell], self.cell_fitted[self.row_cell]
            values = np.broadcast_to(derived.evaluate(ingredients, codes, counted), codes.shape)
            holes = self.holes(k)
            V[holes, k - self.p] = (values[holes] - self.center[k]) / self.scale[k]
            changed.append(k)
        return changed

    @cached_property
    def D_order(self) -> NDArray[np.int64]:
        """(n,) complete rows by cluster, values and further groups; the same however the table is arranged."""
        keys = [group[self.D_row] for group in self.groups.values()]
        keys += [np.round(column, KEY_DIGITS) for column in self.D.T[1:]]
        return np.lexsort([*keys, self.D_cluster])

    def _data(self, k: int, V: Array) -> Array:
        """A base column in the incomplete rows, on the scale of the data."""
        return self.on_data_scale(k, self.cells.X[:, k] if k < self.p else V[:, k - self.p])

    def on_data_scale(self, k: int, working: Array) -> Array:
        """Convert values of base column k from the working scale; levels and counts without round-off."""
        values = self.center[k] + self.scale[k] * working
        return self.nearest(k, values) if k in self.exact else values

    def nearest(self, k: int, values: Array) -> Array:
        """The nearest possible values of base column k, which must be in `exact`."""
        known = self.exact[k]
        if not len(known):
            return np.rint(values)
        return known[np.searchsorted(0.5 * (known[1:] + known[:-1]), values)]


def chained_table(
    spec: Conditionals,
    Y: Array,
    grouping: Clusters,
    *,
    filled: Mapping[str, Array] | None = None,
    ignore: NDArray[np.bool_] | None = None,
    bounds: Mapping[str, tuple[Bound, Bound]] | None = None,
    frequency: NDArray[np.int64] | None = None,
) -> ChainedTable:
    """Convert a table to the form that the loop uses.

    Parameters
    ----------
    spec
        The conditional models.
    Y
        (N, r) values of `spec.incomplete`, nan where to be imputed.
    grouping
        The clusters of the rows.
    filled
        Derived columns that are in the table (N,), nan where they are to be computed.
    ignore
        (N,) bool: rows that are imputed but to which no model is fitted.
    bounds
        Incomplete variable -> (lower, upper), on the scale of the data (fcs/specification/bounds.py).
    frequency
        (N,) how many rows each row counts for, in centres and units only; None: one.
    """
    codes, clusters = grouping.codes, len(grouping)
    names = (*spec.complete, *spec.incomplete, *(d.name for d in spec.derived))
    ignore = np.zeros(len(Y), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool)
    full = _with_derived(spec, np.hstack([spec.X, Y]), names, filled or {}, codes, ~ignore)
    times = None if frequency is None else frequency[~ignore]
    spec, residuals = beside_margins(spec, names, full, ~ignore, times)
    if residuals:
        names = (*spec.complete, *spec.incomplete, *(d.name for d in spec.derived))
        full = _with_derived(spec, np.hstack([spec.X, Y]), names, filled or {}, codes, ~ignore)
    p = len(spec.complete)
    center, scale = _scales(full[~ignore], times)  # the units of priors
    W = (full - center) / scale
    order = cluster_order(Y, [W[:, :p]], codes, clusters)
    place = np.empty(clusters, dtype=np.int64)
    place[order] = np.arange(clusters)
    codes = place[codes]
    # in clusters with ignored rows only, means are over these
    alone = np.bincount(codes[~ignore], minlength=clusters) == 0
    rows = Rows(W, codes, ~ignore, ~ignore | alone[codes], clusters)
    groups = _groups(spec, Y, np.round(W[:, :p], KEY_DIGITS), codes)
    cells, row, row_cell, cell_fitted = _cells(rows, p, list(groups.values()))
    whole = ~np.isnan(W).any(1) & ~ignore
    table = ChainedTable(
        names, p, center, scale, order, cells, W[whole], codes[whole], row, row_cell, W[row][:, p:], cell_fitted,
        full, spec.derived, (), {names.index(name): np.sort(values) for name, values in spec.exact.items()},
        grouping, residuals, np.flatnonzero(whole), groups,
    )  # fmt: skip
    blocks = tuple(chained_block(table, block, rows, bounds or {}) for block in spec.blocks)
    return replace(table, blocks=blocks)


def _with_derived(
    spec: Conditionals,
    base: Array,
    names: Sequence[str],
    filled: Mapping[str, Array],
    codes: NDArray[np.integer],
    counted: NDArray[np.bool_],
) -> Array:
    """Base columns (N, d) on the scale of the data; derived ones have values where their ingredients are observed."""
    columns = {name: base[:, k] for k, name in enumerate(names[: base.shape[1]])}
    for derived in spec.derived:
        with np.errstate(all="ignore"):
            made = derived.evaluate({i: columns[i] for i in derived.ingredients}, codes, counted)
            values = np.array(np.broadcast_to(made, len(base)), dtype=float)
        known = np.ones(len(base), dtype=bool)
        for i in derived.ingredients:
            known &= ~np.isnan(columns[i])
        if isinstance(derived.evaluate, OverCluster):  # a cluster mean is known if all its values are
            known = over_clusters(known.astype(float), codes, counted) == 1
        if derived.column is not None and derived.column in filled:
            own = filled[derived.column]
            values = np.where(np.isnan(own), values, own)
            known &= np.isnan(own)
        bad = known & ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"'{derived.name}' has no finite value in {bad.sum():,} of {len(values):,} rows where "
                f"{', '.join(derived.ingredients)} is observed (a logarithm of 0, or a division by 0?). Correct these "
                "values, or use another expression."
            )
        columns[derived.name] = values
    return np.column_stack([columns[name] for name in names])


def _scales(full: Array, times: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation of the observed values of each base column; 0 and 1 for constants.

    times (N,): how often each row counts; None: once.
    """
    d = full.shape[1]
    center, scale = np.zeros(d), np.ones(d)
    for k in range(1, d):
        seen = ~np.isnan(full[:, k])
        y = full[:, k][seen]
        if len(y) < 2:
            continue
        if times is None:
            mean = y.mean()
            sd = np.sqrt(((y - mean) ** 2).sum() / (len(y) - 1))
        else:
            n = times[seen]
            mean = np.average(y, weights=n)
            sd = np.sqrt((n * (y - mean) ** 2).sum() / (n.sum() - 1))
        if sd > 1e-14 * abs(mean) and sd > 0:
            center[k], scale[k] = mean, sd
    return center, scale


def _groups(
    spec: Conditionals, Y: Array, complete: Array, codes: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """`ChainedTable.groups`; codes (N,): canonical clusters. Groups alike are in the order of factors before."""
    found: dict[str, NDArray[np.int64]] = {}
    labelled = {f.label: f.groups for block in spec.blocks for f in block.further}
    labelled |= {block.method.group: block.groups for block in spec.blocks if block.groups is not None}
    for label, groups in labelled.items():
        known = np.column_stack([complete, codes, *found.values()])
        found[label] = np.argsort(cluster_order(Y, [known], groups.codes, len(groups)))[groups.codes]
    return found


def _cells(
    rows: Rows, p: int, groups: Sequence[NDArray[np.int64]]
) -> tuple[RowCells, NDArray, NDArray, NDArray]:
    """Cells of the incomplete rows in canonical order; the rows' places in the table, their cells; fitted (C,).

    groups: (N,) further groups of all rows, by which rows that are alike otherwise are put in order.
    """
    W, codes = rows.W, rows.codes
    holes = np.isnan(W[:, p:])
    # patterns as numbers in the order of their bits, the last column first; packed, as there may be more than 64 columns
    pattern = np.unique(np.packbits(holes[:, ::-1], axis=1), axis=0, return_inverse=True)[1].ravel()
    row = np.flatnonzero(holes.any(1))
    keys = [group[row] for group in groups]
    keys += [np.round(W[row][:, k], KEY_DIGITS) for k in range(1, p)] + list(W[row][:, p:].T)
    row = row[np.lexsort([*keys, ~rows.fitted[row], pattern[row], codes[row]])]
    key = np.column_stack([codes[row], pattern[row], rows.fitted[row]])
    new = np.ones(len(row), dtype=bool)
    new[1:] = (key[1:] != key[:-1]).any(1)
    first = row[new]
    start = np.append(np.flatnonzero(new), len(row)).astype(np.int64)
    cells = RowCells(np.ascontiguousarray(W[row][:, :p]), start, codes[first].astype(np.int64), holes[first])
    return cells, row, np.cumsum(new) - 1, rows.fitted[first]

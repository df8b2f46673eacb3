"""The rows of one conditional model in the loop, which non-normal models need one by one."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.fcs.specification.values import TOLERANCE, dependent
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.moments import Terms, cluster_factors
from bayesimp.kernels.chained.rows import design_rows

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Chain

__all__ = ["BlockRows", "indistinct"]

NEARLY = 1e-4  # if a block fails, columns are named of whose length less than this share is independent of the others

Array = NDArray[np.float64]


class BlockRows:
    """The rows where the response is observed and fitted, by cluster, and those where it is to be imputed.

    Attributes
    ----------
    y, trials
        (n,) the observed response: level codes from 0, counts, positive numbers divided by their mean (`unit`), or,
        with an identity link, numbers on the working scale; and binomial trials, or 1.
    first
        (m + 1,) rows of cluster i are first[i] .. first[i+1] - 1.
    holes, hole_cluster, hole_trials
        (R,) bool, the incomplete rows to be imputed; their clusters and trials.
    are_groups
        Whether its rows are groups, in each of which the variable has one value (`GroupRows`).
    drawn
        (R,) bool, incomplete rows whose value is drawn, if that of others is known from their group; None: all of them.
    events
        Values that were known without being observed.
    """

    are_groups: ClassVar[bool] = False

    @property
    def drawn(self) -> NDArray[np.bool_] | None:
        """None: all incomplete rows are drawn."""
        return None

    @property
    def events(self) -> list[Event]:
        """None."""
        return []

    def __init__(self, table: ChainedTable, number: int) -> None:
        self.table, self.chained = table, table.blocks[number]
        block = self.chained.block
        k = self.chained.columns[0]
        self.k, self.column = k, k - table.p
        row_cluster = table.cells.cluster[table.row_cell]
        self.holes = table.holes(k)
        seen = np.flatnonzero(~self.holes & table.cell_fitted[table.row_cell])
        source = np.concatenate([table.D_order, -1 - seen])
        cluster = np.concatenate([table.D_cluster[table.D_order], row_cluster[seen]])
        order = np.argsort(cluster, kind="stable")
        self.source, self.cluster = source[order], cluster[order].astype(np.int64)
        self.first = np.searchsorted(self.cluster, np.arange(table.clusters + 1)).astype(np.int64)
        self.levels = np.array(block.levels)
        standardised, normal = block.distribution.is_standardised, block.distribution.is_normal
        self.unit = float(self.chained.scale.s[0] if standardised else np.exp(self.chained.scale.c[0]))
        # without an intercept the response includes the origin of the data; normal blocks add it themselves
        self.origin = float(self.chained.terms.offset[-1]) if standardised and not normal else 0.0
        working = np.concatenate([table.D[table.D_order, k], table.start[seen, self.column]])[order]
        self.y = self.read(working)
        self.hole_cluster = row_cluster[self.holes].astype(np.int64)
        self._hole_rows = np.flatnonzero(self.holes)
        self.hole_source = -1 - self._hole_rows
        terms = self.chained.terms
        self._fixed = None  # factors, if no column contains cluster means
        if not (terms.u >= 0).any():
            f = np.column_stack([np.ones(len(terms.offset)), terms.offset])
            self._fixed = np.ascontiguousarray(np.broadcast_to(f, (table.clusters, *f.shape)))
        self.trials, self.hole_trials = np.ones(len(self.y)), np.ones(len(self.hole_cluster))
        if block.trials:
            t = table.names.index(block.trials)
            every = table.center[t] + table.scale[t] * np.concatenate(
                [table.D[table.D_order, t], table.cells.X[seen, t]]
            )
            self.trials = np.rint(every[order])
            self.hole_trials = np.rint(table.center[t] + table.scale[t] * table.cells.X[self.holes, t])

    def restricted(self, at: NDArray[np.int64]) -> BlockRows:
        """The same with only these of the rows where the response is observed, sorted by cluster."""
        rows = copy(self)
        rows.source, rows.cluster = self.source[at], self.cluster[at]
        rows.y, rows.trials = self.y[at], self.trials[at]
        rows.first = np.searchsorted(rows.cluster, np.arange(self.table.clusters + 1)).astype(np.int64)
        return rows

    def places(self) -> NDArray[np.int64]:
        """(n + R,) rows of the table: those where the response is observed, then those where it is missing."""
        source = np.concatenate([self.source, self.hole_source])
        complete = source >= 0
        out = np.empty(len(source), dtype=np.int64)
        out[complete], out[~complete] = (
            self.table.D_row[source[complete]],
            self.table.row[-1 - source[~complete]],
        )
        return out

    def read(self, working: Array) -> Array:
        """Convert responses from the working scale to the units of the model."""
        if self.chained.block.distribution.is_standardised:
            return working + self.origin
        values = self.table.on_data_scale(self.k, working)
        if len(self.levels):
            return np.abs(values[:, None] - self.levels).argmin(axis=1).astype(float)
        return values / self.unit

    def to_impute(self, values: Array) -> Array:
        """Values of the incomplete rows (R, ..), for the rows of the model that are imputed: the same."""
        return values

    def start(self, chain: Chain) -> None:
        """Change the values with which a chain starts: not of rows."""

    def put(self, V: Array, drawn: Array, there: NDArray[np.bool_] | None = None) -> None:
        """Write imputed responses, in the units of the model, into the rows of a chain; ``there``: a subset of them."""
        if there is None:
            V[self._hole_rows, self.column] = self.working(drawn)
        else:
            V[self._hole_rows[there], self.column] = self.working(drawn[there])

    def imputed(self, t: int, j: int) -> bool:
        """Whether column t of the model is, or contains, an imputed value in row j of those to be imputed."""
        column, table = self.chained.block.fixed[t], self.table
        at = {name: k for k, name in enumerate(table.names)}
        derived = {record.name: record for record in table.derived}

        def holed(name: str) -> bool:
            if name in derived:
                return any(holed(inner) for inner in derived[name].ingredients)
            k = at[name]
            return k >= table.p and bool(table.holes(k)[self._hole_rows[j]])

        over = column.over or (column.base,) * bool(
            column.within
        )  # the mean of a cluster with imputed values
        return holed(column.base) or any(at.get(name, 0) >= table.p for name in over)

    def working(self, drawn: Array) -> Array:
        """Convert responses from the units of the model to the working scale."""
        if self.chained.block.distribution.is_standardised:
            return drawn - self.origin
        values = self.levels[drawn.astype(np.int64)] if len(self.levels) else drawn * self.unit
        working = (values - self.table.center[self.k]) / self.table.scale[self.k]
        support = self.chained.block.distribution.support
        if support.is_positive:
            working = np.maximum(working, self.least)
        return np.minimum(working, self.most) if support.is_below_one else working

    @cached_property
    def least(self) -> float:
        """The smallest working value that is positive on the scale of the data.

        Smaller ones are round-off relative to the centre of the column and might become 0 (`imputed_events` reports
        it).
        """
        working = -self.table.center[self.k] / self.table.scale[self.k]
        while not self.table.on_data_scale(self.k, np.array(working)) > 0.0:
            working = np.nextafter(working, np.inf)
        return float(working)

    @cached_property
    def most(self) -> float:
        """The largest working value that is below 1 on the scale of the data, like `least` for 0."""
        working = (1.0 - self.table.center[self.k]) / self.table.scale[self.k]
        while not self.table.on_data_scale(self.k, np.array(working)) < 1.0:
            working = np.nextafter(working, -np.inf)
        return float(working)

    def factors(self, V: Array) -> Array:
        """f (m, T, 2) of kernels/chained/moments.py; do not write to it."""
        return (
            cluster_factors(self.table.cells, self.chained.terms, V) if self._fixed is None else self._fixed
        )

    def columns(
        self, V: Array, f: Array, terms: Terms, source: NDArray[np.int64], cluster: NDArray[np.int64]
    ) -> Array:
        """The columns (n, c) of some terms in some rows, given their factors f (m, c, 2)."""
        X = np.empty((len(source), len(terms.base)))
        design_rows(self.table.cells, terms, f, self.table.D, V, source, cluster, X, np.empty((len(X), 0)))
        return X

    def observed(self, V: Array, f: Array) -> tuple[Array, Array]:
        """X (n, p) and Z (n, q) for the rows where the response is observed."""
        return self.design(V, f, self.source, self.cluster)

    def missing(self, V: Array, f: Array) -> tuple[Array, Array]:
        """X and Z for the rows to be imputed."""
        return self.design(V, f, self.hole_source, self.hole_cluster)

    def design(
        self, V: Array, f: Array, source: NDArray[np.int64], cluster: NDArray[np.int64]
    ) -> tuple[Array, Array]:
        """X and Z for rows of these clusters; source: a complete row of the table's D, or -1 - r for incomplete row r."""
        p, q = (int(n) for n in self.chained.arrays.sizes[:2])
        X, Z = np.empty((len(source), p)), np.empty((len(source), q))
        design_rows(self.table.cells, self.chained.terms, f, self.table.D, V, source, cluster, X, Z)
        return X, Z


def indistinct(table: ChainedTable, V: Array, b: int) -> str:
    """A sentence naming columns of a block that are combinations of others in the completed table, or ""."""
    block, rows = table.blocks[b].block, BlockRows(table, b)
    if not block.fixed or not np.isfinite(V).all():
        return ""
    X, _ = rows.observed(V, rows.factors(V))
    out = next((found for t in (TOLERANCE, NEARLY) if (found := dependent(X, t)).any()), None)
    if out is None:
        return ""
    names = [repr(column.name) for column, is_out in zip(block.fixed, out, strict=True) if is_out]
    verb = "is a combination" if len(names) == 1 else "are combinations"
    return (
        f"In the completed data, {', '.join(names[:5])} {verb} of its other predictors in the {len(X):,} rows where "
        f"'{block.responses[0]}' is observed. "
    )

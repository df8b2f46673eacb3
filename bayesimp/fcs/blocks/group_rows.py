"""Groups as the rows of a conditional model: a variable with one value in each class, classes nested in schools.

    g(E y_c) = mean over the rows of class c of (x*, z*)' (beta, b_i),    class c in cluster i

All rows of a class count in these means, as completed. A class of which some rows have the value gives it to the others;
in the rest it is imputed once, in all of its rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.fcs.blocks.base import Chain
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable

__all__ = ["GroupRows", "rows_of"]

Array = NDArray[np.float64]


def rows_of(table: ChainedTable, number: int) -> BlockRows:
    """The rows of a block: groups, if its variable has one value in each."""
    return BlockRows(table, number) if table.blocks[number].block.groups is None else GroupRows(table, number)


class GroupRows(BlockRows):
    """`BlockRows` whose rows are the groups of `ConditionalModel.groups`.

    Attributes
    ----------
    known
        (G,) the value of each group in the units of its model, nan where it is to be imputed.
    filled
        Rows without the value whose group has it.
    """

    are_groups = True

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        group = table.groups[self.chained.block.method.group]
        own, seen = group[self.places()], len(self.source)
        self._hole_group = own[seen:]
        # a class lies in one cluster, and each table row is here: its value is observed or to be imputed
        self._order = np.argsort(own, kind="stable")
        self._starts = np.searchsorted(own[self._order], np.arange(own.max() + 1))
        self._rows = np.bincount(own).astype(float)[:, None]
        self._row_clusters = np.concatenate([self.cluster, self.hole_cluster])
        cluster = self._row_clusters[self._order][self._starts]
        self.known = np.full(len(cluster), np.nan)
        self.known[own[:seen]] = self.y
        there = ~np.isnan(self.known)
        self.filled = int(there[self._hole_group].sum())
        observed, empty = np.flatnonzero(there), np.flatnonzero(~there)
        self._observed, self._empty = (at[np.argsort(cluster[at], kind="stable")] for at in (observed, empty))
        self.y, self.cluster = self.known[self._observed], cluster[self._observed]
        self.hole_cluster = cluster[self._empty]
        self.first = np.searchsorted(self.cluster, np.arange(table.clusters + 1)).astype(np.int64)
        self.trials, self.hole_trials = np.ones(len(self.y)), np.ones(len(self._empty))

    def _means(self, V: Array, f: Array) -> tuple[Array, Array]:
        """Means of the columns of X and Z by group."""
        source = np.concatenate([self.source, self.hole_source])
        X, Z = self.design(V, f, source, self._row_clusters)
        X, Z = (np.add.reduceat(D[self._order], self._starts) / self._rows for D in (X, Z))
        return X, Z

    def observed(self, V: Array, f: Array) -> tuple[Array, Array]:
        """X and Z of the groups whose value is known."""
        X, Z = self._means(V, f)
        return X[self._observed], Z[self._observed]

    def missing(self, V: Array, f: Array) -> tuple[Array, Array]:
        """X and Z of the groups to be imputed."""
        X, Z = self._means(V, f)
        return X[self._empty], Z[self._empty]

    def put(self, V: Array, drawn: Array, there: NDArray[np.bool_] | None = None) -> None:
        """Put imputed values of groups, as the model drew them, into all of their rows; ``there``: which of them."""
        every = self.known.copy()
        every[self._empty] = drawn
        rows = np.ones(len(self._hole_group), dtype=bool)
        if there is not None:
            kept = np.zeros(len(every), dtype=bool)
            kept[self._empty[~there]] = True
            rows = ~kept[self._hole_group]
        super().put(V, every[self._hole_group], None if rows.all() else rows)

    def to_impute(self, values: Array) -> Array:
        """(groups to be imputed, ..) from values of the rows without the variable, which are one in a group."""
        every = np.zeros((len(self.known), *values.shape[1:]))
        every[self._hole_group] = values
        return every[self._empty]

    def start(self, chain: Chain) -> None:
        """Values of random other groups, one in each."""
        self.put(chain.V, chain.rng.choice(self.y, len(self._empty)))

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """(R,) incomplete rows whose value is drawn; that of others is known from their group."""
        out = np.zeros(len(self.holes), dtype=bool)
        out[np.flatnonzero(self.holes)[np.isnan(self.known)[self._hole_group]]] = True
        return out

    @property
    def events(self) -> list[Event]:
        """Rows whose value was known from their group."""
        if not self.filled:
            return []
        block = self.chained.block
        text = f"rows filled in with the value of other rows in their group of '{block.method.group}'"
        return [Event("known in the group", block.name, text, self.filled)]

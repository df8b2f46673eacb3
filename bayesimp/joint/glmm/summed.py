"""Where effects of a later factor are drawn with missing values summed out, and the rows that this takes.

The move itself is kernels/factors/summed.py. It is made where a cluster lacks at least half of the values of a discrete
variable that has a random slope in the later factor, and where each of them has a conditional distribution of its own:
not where it enters a factor through a cluster mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.factors.arrays import ENUMERATE, State
from bayesimp.kernels.factors.summed import Mixture
from bayesimp.kernels.glmm.merge import rows_alike

__all__ = ["MOSTLY", "Summed", "merged", "summed_out"]

Array = NDArray[np.float64]
MOSTLY = 0.5  # share of missing values in a cluster


@dataclass(frozen=True)
class Summed:
    """A cluster and a later factor.

    Attributes
    ----------
    child, of
        Its number among the children of the factor of the missing variable, and among all factors.
    cluster
        Its place.
    rows
        Those of the cluster in which the later factor is used.
    first
        (rows + 1,) where the values of each row begin: one value if it is observed.
    missing
        (n,) whether the variable is to be imputed.
    """

    child: np.int64
    of: int
    cluster: np.int64
    rows: NDArray[np.int64]
    first: NDArray[np.int64]
    missing: NDArray[np.bool_]

    def mixture(self, table: FactorTable, state: State, mean: Array, L: Array) -> Mixture:
        """The later factor in these rows, without the values that are summed over."""
        a, l = table.arrays, self.of
        factor, entries, rows = table.factors[l], self.first[-1], self.rows
        r, q, d = factor.predictors, len(factor.random), factor.effects
        return Mixture(
            state.Y[rows, l], a.trials[rows, l], np.ones(len(rows)), self.first, np.empty(entries),
            np.empty((entries, r)), np.empty((entries, q)), a.family[l], state.shape[l], state.cuts, np.int64(l),
            a.level[l + 1] - a.level[l] - 1, mean, L, np.empty(r), np.empty((4, d)), np.empty((d, d)),
        )  # fmt: skip


def summed_out(table: FactorTable, k: int) -> list[Summed]:
    """Clusters and later factors whose effects are drawn with the missing values of factor k summed out."""
    cells, a = table.cells, table.arrays
    missing = np.zeros(len(a.cluster), dtype=bool)
    missing[cells.row[cells.start[k] : cells.start[k + 1]]] = True
    children = np.arange(cells.child[k], cells.child[k + 1])
    if not missing.any() or cells.kind[k] != ENUMERATE or a.at_cluster[k] or cells.wide[children].any():
        return []
    levels = a.level[k + 1] - a.level[k]
    values = np.where(missing, levels if levels else a.trials[:, k].astype(np.int64) + 1, 1)
    share = np.bincount(a.cluster, missing) / np.diff(a.first)
    out = []
    for i in np.flatnonzero(share >= MOSTLY):
        for child in children:
            l = int(cells.of[child])
            rows = np.arange(a.first[i], a.first[i + 1])
            rows = rows[a.used[rows, l]]
            if cells.active[child, table.columns_of(l)[1]].any() and len(rows):
                first = np.concatenate([[0], np.cumsum(values[rows])]).astype(np.int64)
                out.append(Summed(np.int64(child - cells.child[k]), l, np.int64(i), rows, first, missing))
    return out


def merged(m: Mixture) -> Mixture:
    """Rows that are alike in everything as one, where each has as many values as the others."""
    n = len(m.y)
    values = len(m.weight) // n
    if not (np.diff(m.first) == values).all():
        return m
    parts = [
        m.y[:, None],
        m.trials[:, None],
        m.weight.reshape(n, -1),
        m.base.reshape(n, -1),
        m.Z.reshape(n, -1),
    ]
    alike = rows_alike(np.hstack(parts), np.array([0, n]))
    if alike is None:
        return m
    one = alike.one
    entries = (m.first[one][:, None] + np.arange(values)).ravel()
    return m._replace(
        y=m.y[one], trials=m.trials[one], times=np.bincount(alike.number).astype(float),
        first=values * np.arange(len(one) + 1), weight=m.weight[entries], base=m.base[entries], Z=m.Z[entries],
    )  # fmt: skip

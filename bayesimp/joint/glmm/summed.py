"""Where effects are drawn with missing values summed out, and the rows needed for this.

The moves themselves are in kernels/factors/summed.py. Those of a later factor are drawn where a cluster lacks at least
half of the values of a discrete variable that has a random slope in it, those of the variable's own factor where it lacks
all of them, provided that each missing value has its own conditional distribution, that is, the variable enters no factor
through a cluster mean.

The move costs some twenty evaluations of every row, so it is made only in clusters of at least `FEWEST` rows. The more
rows, the more precisely imputed values determine an effect, and the longer both keep their values without the move; with
few, the other clusters determine the effect, through Psi, and the move gains nothing (``python -m benchmarks
joint_glmm_summed``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.factors.arrays import ENUMERATE, State
from bayesimp.kernels.factors.cells import NONE
from bayesimp.kernels.factors.summed import Mixture
from bayesimp.kernels.glmm.merge import rows_alike

__all__ = ["FEWEST", "MOSTLY", "Summed", "summed_out"]

Array = NDArray[np.float64]
MOSTLY = 0.5  # share of missing values in a cluster
FEWEST = 40  # rows of a cluster in which the factor is used


@dataclass(frozen=True)
class Summed:
    """A cluster and the factor whose effects are drawn: a later one, or that of the missing variable.

    Attributes
    ----------
    child, of
        Number of the later factor among the children of the factor of the missing variable (`NONE` for this factor
        itself), and among all factors.
    cluster
        Position of the cluster.
    rows
        The rows of the cluster in which the factor is used.
    values
        (n,) number of values that the variable may have in a row: one if it is observed.
    missing
        (n,) whether the variable is to be imputed.
    fixed
        (rows,) equal numbers where all that never changes is equal, or None if few rows are alike.
    """

    child: np.int64
    of: int
    cluster: np.int64
    rows: NDArray[np.int64]
    values: NDArray[np.int64]
    missing: NDArray[np.bool_]
    fixed: Array | None

    def alike(self, table: FactorTable, state: State, k: int) -> tuple[NDArray[np.int64], Array]:
        """Rows that differ in what the move reads, and the number of rows equal to each."""
        a, rows, V = table.arrays, self.rows, state.V
        found = None
        if self.fixed is not None:
            missing = self.missing[rows]
            parts = [self.fixed, missing, np.where(missing, 0.0, V[rows, a.variable[k]])]
            parts += [V[rows, v] for v in _changing(table, k)]
            found = rows_alike(np.column_stack(parts), np.array([0, len(rows)]))
        if found is None:
            return rows, np.ones(len(rows))
        return rows[found.one], np.bincount(found.number).astype(float)

    def mixture(
        self, table: FactorTable, state: State, rows: NDArray[np.int64], times: Array, mean: Array, L: Array
    ) -> Mixture:
        """The later factor in some rows; the values that are summed over are to be filled in."""
        a, l = table.arrays, self.of
        factor, first = table.factors[l], np.concatenate([[0], np.cumsum(self.values[rows])]).astype(np.int64)
        r, q, d, entries = factor.predictors, len(factor.random), factor.effects, first[-1]
        return Mixture(
            a.trials[rows, l], times, first, np.empty(entries), np.empty(entries), np.empty((entries, r)),
            np.empty((entries, q)), a.family[l], state.shape[l], state.cuts, np.int64(l),
            a.level[l + 1] - a.level[l] - 1, self.child == NONE, mean, L, np.empty(r), np.empty((4, d)),
            np.empty((d, d)),
        )  # fmt: skip


def _changing(table: FactorTable, k: int) -> list[int]:
    """Variables of factors other than k that are imputed in the chain."""
    cells, variable = table.cells, table.arrays.variable
    drawn = np.flatnonzero(np.diff(cells.start))
    return [int(variable[l]) for l in drawn if l != k]


def _never_changes(table: FactorTable, k: int, rows: NDArray[np.int64]) -> Array | None:
    """See `Summed.fixed`: complete variables, responses that are not imputed, trials, known parts of predictors, groups.

    Effects of further grouping factors will have changed when this is read: rows of different groups whose effects are
    equal now are not alike.
    """
    a, cells = table.arrays, table.cells
    of = np.append(cells.of[cells.child[k] : cells.child[k + 1]], k)
    changing = [*_changing(table, k), int(a.variable[k])]
    others = np.setdiff1d(np.arange(table.V.shape[1]), changing)
    parts = [table.V[np.ix_(rows, others)], *(x[np.ix_(rows, of)] for x in (a.trials, a.offset, a.used))]
    further = [f for s, f in enumerate(table.further, 1) if any(table.factors[l].has_level(s) for l in of)]
    parts += [f.codes[rows, None] for f in further]
    found = rows_alike(np.hstack(parts), np.array([0, len(rows)]))
    return None if found is None else found.number.astype(float)


def summed_out(table: FactorTable, k: int) -> list[Summed]:
    """The clusters and factors whose effects are drawn with the missing values of factor k summed out."""
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

    def add(child: int, l: int, i: int) -> None:
        rows = np.arange(a.first[i], a.first[i + 1])
        rows = rows[a.used[rows, l]]
        if len(rows) >= max(FEWEST, 1):
            fixed = _never_changes(table, k, rows)
            out.append(Summed(np.int64(child), l, np.int64(i), rows, values, missing, fixed))

    for i in np.flatnonzero(share >= MOSTLY).tolist():
        for child in children.tolist():
            l = int(cells.of[child])
            if cells.active[child, table.columns_at(l, 0)].any():
                add(child - cells.child[k], l, i)
        if i in table.bare[k]:
            add(int(NONE), k, i)
    return out

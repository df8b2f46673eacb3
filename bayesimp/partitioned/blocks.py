"""Conditional models of binary and count variables on cells: what `bayesimp.fcs.blocks.glmm` does row by row.

    g(E y) = X beta + Z b_i,    columns t = w_t + o_t,   w = (value - c) / s                 (fcs/table.py)

Columns of complete variables depend on the kind of row, others on the values of the cell; so rows of one cluster with
the same predictors are summed (kernels/glmm/merge.py) without ever being made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.fcs.blocks.glmm import family_code, glmm_prior
from bayesimp.fcs.scale import ChainedBlock
from bayesimp.fcs.table import ChainedTable
from bayesimp.formulas.columns import Derived
from bayesimp.kernels.families.codes import POISSON
from bayesimp.kernels.families.scalar import LARGEST_LOG_MEAN
from bayesimp.kernels.glmm.gibbs import GlmmPrior
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.methods import Gibbs
from bayesimp.notation import Array
from bayesimp.partitioned.cells import CountCells, alike, merged, split
from bayesimp.priors import CovariancePrior

__all__ = ["CountBlock", "CountTable", "count_table"]


@dataclass(frozen=True)
class CountTable:
    """What all chains share.

    Attributes
    ----------
    table
        The distinct rows on the working scale of the whole table.
    cluster
        (D,) canonical cluster of each kind of row.
    cells
        The kinds of rows as cells, with 0 where a variable is missing.
    missing
        (D, K) whether the incomplete variables are missing.
    levels
        Numbers that stand for the levels of each incomplete variable; empty for counts.
    blocks
        The conditional models, in the order of visits.
    """

    table: ChainedTable
    cluster: NDArray[np.int64]
    cells: CountCells
    missing: NDArray[np.bool_]
    levels: tuple[Array, ...]
    blocks: tuple[CountBlock, ...]

    def values(self, k: int, y: NDArray[np.int64]) -> Array:
        """Values of incomplete variable k on the scale of the data, from positions of levels or counts."""
        levels = self.levels[k]
        return levels[y] if len(levels) else y.astype(float)

    def base(self, k: int, cells: CountCells) -> Array:
        """(C,) base column k on the scale of the data; those of a table's incomplete rows are in its cells."""
        table = self.table
        incomplete = k - table.p
        if incomplete < 0:
            return table.full[cells.kind, k]
        if incomplete < len(self.levels):
            return self.values(incomplete, cells.y[:, incomplete])
        derived = table.derived[incomplete - len(self.levels)]
        inner = {name: self.base(table.names.index(name), cells) for name in derived.ingredients}
        counted = np.ones(len(cells.n), dtype=bool)
        return np.broadcast_to(derived.evaluate(inner, self.cluster[cells.kind], counted), len(cells.n))


@dataclass(frozen=True)
class CountBlock:
    """One conditional model.

    Attributes
    ----------
    chained
        The model on the working scale.
    k
        Number of its response among the incomplete variables.
    code
        Family and link (kernels/families/codes.py).
    own
        (D,) kinds that agree in cluster and in complete predictors, numbered by cluster.
    used
        Incomplete variables among its predictors.
    prior, Psi, updates
        As in `bayesimp.fcs.blocks.glmm.BayesGlmm`.
    """

    chained: ChainedBlock
    k: int
    code: int
    own: NDArray[np.int64]
    used: tuple[int, ...]
    prior: GlmmPrior
    Psi: CovariancePrior
    updates: int

    @property
    def name(self) -> str:
        """The variable."""
        return self.chained.block.name

    def design(self, counts: CountTable, cells: CountCells) -> tuple[Array, Array]:
        """X (C, p) and Z (C, q) of cells."""
        terms, table, p = self.chained.terms, counts.table, len(self.chained.block.fixed)
        columns = np.empty((len(cells.n), p + len(self.chained.block.random)))
        for t in range(columns.shape[1]):
            b = terms.base[t]
            columns[:, t] = (counts.base(b, cells) - table.center[b]) / table.scale[b] + terms.offset[t]
        return np.ascontiguousarray(columns[:, :p]), np.ascontiguousarray(columns[:, p:])

    def rows(self, counts: CountTable, cells: CountCells) -> GlmmRows:
        """Rows where the response is observed, summed."""
        seen = cells.some(~counts.missing[cells.kind, self.k])
        first, group = alike(self.own[seen.kind], *(seen.y[:, j] for j in self.used))
        size = len(first)
        n = np.bincount(group, seen.n, size)
        sums = np.bincount(group, seen.n * seen.y[:, self.k], size)
        X, Z = self.design(counts, CountCells(seen.kind[first], seen.y[first], seen.n[first]))
        starts = np.searchsorted(counts.cluster[seen.kind[first]], np.arange(counts.table.clusters + 1))
        poisson = self.code == POISSON
        trials, offset = (np.ones(size), np.log(n)) if poisson else (n, np.zeros(size))
        return GlmmRows(self.code, sums, trials, np.ones(size), offset, X, Z, starts.astype(np.int64))

    def fill(
        self, counts: CountTable, rng: np.random.Generator, cells: CountCells, beta: Array, B: Array
    ) -> CountCells:
        """The cells with the missing values of the response drawn given beta (p, 1) and B (m, q, 1).

        Raises
        ------
        SamplingError
            A log mean is out of range.
        """
        holes = counts.missing[cells.kind, self.k]
        if not holes.any():
            return cells
        open_ = merged(cells.some(holes), self.k)
        X, Z = self.design(counts, open_)
        eta = X @ beta[:, 0] + (Z * B[counts.cluster[open_.kind], :, 0]).sum(axis=1)
        if self.code == POISSON and not (eta < LARGEST_LOG_MEAN).all():
            rows = int(open_.n[~(eta < LARGEST_LOG_MEAN)].sum())
            raise SamplingError(
                f"'{self.name}' (poisson): the log mean is {eta.max():.3g} in {rows:,} rows, so no count can be drawn. "
                "Take the logarithm of a predictor with a wide range, leave it out of the formula, or use a tighter "
                "prior."
            )
        return cells.some(~holes).joined(split(rng, open_, self.k, self.code, eta))


def count_table(table: ChainedTable, y: NDArray[np.int64], frequency: NDArray[np.int64]) -> CountTable:
    """The table of counts.

    Parameters
    ----------
    table
        The distinct rows (fcs/table.py), made with their frequencies.
    y
        (D, K) positions of levels, or counts, -1 where missing.
    frequency
        (D,) how often each occurs.
    """
    place = np.empty(table.clusters, dtype=np.int64)
    place[table.order] = np.arange(table.clusters)
    cluster, missing = place[table.grouping.codes], y < 0
    cells = CountCells(np.arange(len(y)), np.where(missing, 0, y), frequency)
    at = {name: k - table.p for k, name in enumerate(table.names)}
    levels: list[Array] = [np.empty(0)] * y.shape[1]
    for chained in table.blocks:
        levels[at[chained.block.name]] = np.array(chained.block.levels, dtype=float)
    blocks = tuple(
        _block(table, chained, at[chained.block.name], cluster, y, frequency) for chained in table.blocks
    )
    return CountTable(table, cluster, cells, missing, tuple(levels), blocks)


def _block(
    table: ChainedTable,
    chained: ChainedBlock,
    k: int,
    cluster: NDArray[np.int64],
    y: NDArray[np.int64],
    frequency: NDArray[np.int64],
) -> CountBlock:
    block, method = chained.block, chained.block.method
    assert isinstance(method, Gibbs)
    derived = {each.name: each for each in table.derived}
    needed = set().union(*(_ingredients(column.base, derived) for column in (*block.fixed, *block.random)))
    bases = sorted(table.names.index(name) for name in needed)
    complete = [np.unique(table.full[:, b], return_inverse=True)[1] for b in bases if b < table.p]
    own = alike(cluster, *complete)[1]
    seen = y[:, k] >= 0
    mean = np.array([np.average(y[seen, k], weights=frequency[seen])])
    prior, Psi = glmm_prior(chained, mean, len(np.unique(cluster[seen])))
    used = tuple(b - table.p for b in bases if b >= table.p)
    return CountBlock(chained, k, family_code(block), own, used, prior, Psi, method.updates)


def _ingredients(name: str, derived: dict[str, Derived]) -> set[str]:
    """The base columns of which a column is computed, in the end."""
    if name not in derived:
        return {name}
    return set().union(*(_ingredients(inner, derived) for inner in derived[name].ingredients))

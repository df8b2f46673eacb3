"""Effects of several grouping factors in a chain of the joint GLMM, one grouping factor after the other.

    eta_kij = x_kij' beta_k + z_kij' b_ki + sum_s c_skg

With all effects but those of one level given, their contribution is part of the offset, and the rows sorted by the
groups of that level are those of a model with one grouping factor: the kernels of that model update the effects, beta and
dispersion (kernels/factors/). In a chain, the offset of a row contains the intercepts of all further grouping factors;
they depend on no cell, so the kernels of missing cells need nothing else. Intercepts of nested levels also move against
each other (kernels/levels/nested.py).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.prior import FactorPriors
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.joint.levels.new_table import connected_parts
from bayesimp.kernels.factors.arrays import State
from bayesimp.kernels.levels.nested import shift_between, shift_connected

__all__ = ["FurtherEffects", "LevelRows", "entries"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class LevelRows(NamedTuple):
    """The rows in which a factor is used, sorted by the groups of one level.

    rows (n,): positions in the table; first (G + 1,): those of group g begin at first[g]; offset (n,): known part of the
    predictors, with the effects of all other levels; block, at: where the effects of this level are.
    """

    rows: Ints
    first: Ints
    offset: Array
    block: int
    at: np.int64


def entries(array: Array, k: int, rows: Ints, in_order: bool) -> Array:
    """(rows,) the entries of factor k, a copy; array (n, K). in_order: whether rows are sorted as in the table."""
    return array[:, k].copy() if in_order and len(rows) == len(array) else array[rows, k]


class FurtherEffects:
    """The intercepts of further grouping factors in a chain.

    Parameters
    ----------
    table, priors, chain
        As for `bayesimp.joint.glmm.sampler.Sampler`; without further grouping factors nothing is done.

    Attributes
    ----------
    table
        The table, in which the offset belongs to this chain and contains the intercepts.
    """

    def __init__(self, table: FactorTable, priors: FactorPriors, chain: ChainState) -> None:
        self.known, self.priors, self.chain = table.arrays.offset, priors, chain
        self.table = table
        if table.further:
            self.table = replace(table, arrays=table.arrays._replace(offset=self.known.copy()))
        self._still: dict[int, LevelRows] = {}  # of factors whose offset never changes
        self._parts: dict[tuple[int, int], tuple[Ints, Ints]] = {}

    def levels(self, k: int) -> list[int]:
        """The levels at which factor k is updated: that of the clusters, and those where it has intercepts."""
        factor = self.table.factors[k]
        return [0, *(s for s in range(1, len(self.table.further) + 1) if factor.has_level(s))]

    def refresh(self, k: int) -> None:
        """Update the offset of factor k after its intercepts have changed."""
        if self.table.further:
            self.table.arrays.offset[:, k] = self.known[:, k] + sum(
                (self._added(k, s) for s in self.levels(k)[1:]), np.zeros(len(self.known))
            )

    def _added(self, k: int, level: int) -> Array:
        """(n,) the intercepts of factor k at a level."""
        block, at = self.priors.places[level][k]
        return self.chain.B[block][self.table.further[level - 1].codes, at]

    def rows(self, k: int, level: int, state: State) -> LevelRows:
        """The rows of factor k at a level."""
        if k in self._still:
            return self._still[k]
        table, rows, (block, at) = self.table, self.table.rows[k], self.priors.places[level][k]
        offset = entries(table.arrays.offset, k, rows, True)
        if level == 0:
            own = LevelRows(rows, table.starts[k], offset, block, np.int64(at))
            if self.levels(k) == [0]:
                self._still[k] = own
            return own
        offset = offset - self._added(k, level)[rows] + self._of_clusters(k, rows, state)
        further = table.further[level - 1]
        order = further.sorted[k]
        return LevelRows(rows[order], further.starts[k], offset[order], block, np.int64(at))

    def _of_clusters(self, k: int, rows: Ints, state: State) -> Array:
        """(rows,) z_kij' b_ki of a factor with one linear predictor."""
        a, (_, random) = self.table.arrays, self.table.columns_of(k)
        own = slice(a.effect[k], a.effect[k + 1])
        return (state.X[rows, random] * state.B[a.cluster[rows], own]).sum(axis=1)

    def shift_between(self, k: int) -> None:
        """Move the intercepts of factor k at nested levels against each other."""
        chain, places = self.chain, self.priors.places
        levels, intercept = self.levels(k), self.table.scales[k].random_intercept
        for s, t, parent in self.table.nested:
            if s not in levels or t not in levels or (0 in (s, t) and intercept < 0):
                continue
            (b, first), (c, second) = places[s][k], places[t][k]
            at = first + (intercept if s == 0 else 0), second + (intercept if t == 0 else 0)
            shift_between(chain.rng, (chain.Psi[b], chain.Psi[c]), (chain.B[b], chain.B[c]), at, parent)

    def shift_connected(self, k: int) -> None:
        """Move the intercepts of factor k at crossed levels against each other: with beta given, what they have in common
        is shared between the means of their effects, which mix slowly one after the other."""
        chain, places = self.chain, self.priors.places
        levels, intercept = self.levels(k), self.table.scales[k].random_intercept
        nested = {frozenset((s, t)) for s, t, _ in self.table.nested}
        for s, t in combinations(levels, 2):
            if frozenset((s, t)) in nested or (s == 0 and intercept < 0):
                continue
            (b, first), (c, second) = places[s][k], places[t][k]
            at = first + (intercept if s == 0 else 0), second
            both = chain.Psi[b], chain.Psi[c]
            shift_connected(chain.rng, both, (chain.B[b], chain.B[c]), at, self._connected(s, t))

    def _connected(self, s: int, t: int) -> tuple[Ints, Ints]:
        """The parts of the table to which the groups of two levels belong."""
        if (s, t) not in self._parts:
            cluster, further = self.table.arrays.cluster, self.table.further
            codes = np.column_stack([further[l - 1].codes if l else cluster for l in (s, t)])
            part, out = connected_parts(codes), []
            for l, own in zip((s, t), codes.T, strict=True):
                of_groups = np.empty(self.table.number(l), dtype=np.int64)
                of_groups[own] = part
                out.append(of_groups)
            self._parts[s, t] = out[0], out[1]
        return self._parts[s, t]

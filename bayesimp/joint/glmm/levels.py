"""Effects of several grouping factors in a chain of the joint GLMM, one grouping factor after the other.

    eta_kij = x_kij' beta_k + z_kij' b_ki + sum_s w_skij' c_skg

With all effects but those of one level given, their contribution is an offset, and the rows sorted by the groups of that
level are those of a model with one grouping factor: the kernels of that model update the effects, beta and dispersion
(kernels/factors/). The kernels of missing cells read the sum of the effects of all levels, column by column, for every
combination of groups: z and w contain cells. Effects of nested levels on the same column also move against each other
(kernels/levels/nested.py).
"""

from __future__ import annotations

from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.prior import FactorPriors
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.joint.levels.new_table import connected_parts
from bayesimp.kernels.factors.arrays import State
from bayesimp.kernels.levels.nested import shift_between, shift_connected

__all__ = ["FurtherEffects", "LevelRows", "entries", "on_columns"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class LevelRows(NamedTuple):
    """The rows in which a factor is used, sorted by the groups of one level.

    rows (n,): positions in the table; first (G + 1,): those of group g begin at first[g]; offset: known part of the
    predictors, with the effects of all other levels, as in `GlmmRows`; block, at: where the effects of this level are.
    """

    rows: Ints
    first: Ints
    offset: Array
    block: int
    at: np.int64


def entries(array: Array, k: int, rows: Ints, in_order: bool) -> Array:
    """(rows,) the entries of factor k, a copy; array (n, K). in_order: whether rows are sorted as in the table."""
    return array[:, k].copy() if in_order and len(rows) == len(array) else array[rows, k]


def on_columns(b: Array, C: Array) -> Array:
    """(.., q) effects of the table's columns, C b, from working effects b (.., q).

    Summed term by term: a row has the same bits alone and among others, so a chain does not depend on when it is resumed.
    """
    if C.shape == (1, 1) and C[0, 0] == 1.0:
        return b
    out = np.zeros(b.shape)
    for l in range(b.shape[-1]):
        out += b[..., l : l + 1] * C[:, l]
    return out


class FurtherEffects:
    """The effects of all grouping factors in a chain.

    Parameters
    ----------
    table, priors, chain
        As for `bayesimp.joint.glmm.sampler.Sampler`.
    """

    def __init__(self, table: FactorTable, priors: FactorPriors, chain: ChainState) -> None:
        self.table, self.priors, self.chain = table, priors, chain
        levels = range(1, len(table.further) + 1)
        self._levels = [[0, *(s for s in levels if factor.has_level(s))] for factor in table.factors]
        self._still: dict[int, LevelRows] = {}  # of factors whose offset never changes
        self._parts: dict[tuple[int, int], tuple[Ints, Ints]] = {}
        self._shared: dict[tuple[int, int, int], list[tuple[int, int]]] = {}

    def levels(self, k: int) -> list[int]:
        """The levels at which factor k is updated: that of the clusters, and those where it has effects."""
        return self._levels[k]

    def effects(self, k: int, level: int) -> Array:
        """(groups, r, q) effects of factor k on the table's columns at a level."""
        factor, (block, at) = self.table.factors[k], self.priors.places[level][k]
        r, q = factor.predictors, len(factor.by_level[level])
        own = self.chain.B[block][:, at : at + r * q].reshape(-1 if r * q else self.table.number(level), r, q)
        return on_columns(own, self.table.scales[k].levels[level].random)

    def combined(self, k: int, cluster: int | None = None) -> Array:
        """(c, r q) the effects of factor k of all levels together, on its columns, by combination of groups; cluster: of
        one cluster."""
        table, factor = self.table, self.table.factors[k]
        if cluster is None and not table.further:
            return self.effects(k, 0).reshape(table.clusters, -1)
        groups = table.combinations if cluster is None else table.combinations[self.places(cluster)]
        out = np.zeros((len(groups), factor.predictors, len(factor.grouped)))
        for level in self.levels(k):
            out[:, :, factor.places[level]] += self.effects(k, level)[groups[:, level]]
        return out.reshape(len(groups), -1)

    def places(self, cluster: int) -> slice:
        """The combinations of a cluster."""
        first, last = np.searchsorted(self.table.combinations[:, 0], [cluster, cluster + 1])
        return slice(first, last)

    def _added(self, k: int, level: int, rows: Ints, state: State) -> Array:
        """(rows, r) what the effects of a level add to the predictors of factor k."""
        codes = self.table.further[level - 1].codes if level else self.table.arrays.cluster
        own, columns = self.effects(k, level)[codes[rows]], self.table.columns_at(k, level)
        scale = self.table.scales[k].levels[level]
        if len(columns) == 1 and scale.intercept == 0:
            return own[:, :, 0]
        return np.einsum("jcq,jq->jc", own, state.X[np.ix_(rows, columns)])

    def rows(self, k: int, level: int, state: State) -> LevelRows:
        """The rows of factor k at a level."""
        if k in self._still:
            return self._still[k]
        table, rows, (block, at) = self.table, self.table.rows[k], self.priors.places[level][k]
        offset = entries(table.arrays.offset, k, rows, True)
        others = [s for s in self.levels(k) if s != level]
        if others:
            offset = offset[:, None] + sum(self._added(k, s, rows, state) for s in others)
        first = table.starts[k]
        if level:
            further = table.further[level - 1]
            order, first = further.sorted[k], further.starts[k]
            rows, offset = rows[order], offset[order]
        own = LevelRows(rows, first, np.ascontiguousarray(offset).ravel(), block, np.int64(at))
        if not others:
            self._still[k] = own
        return own

    def shared(self, k: int, s: int, t: int) -> list[tuple[int, int]]:
        """Pairs of effects of factor k at levels s and t on the same working column, as positions in their blocks."""
        if (k, s, t) not in self._shared:
            factor, scale = self.table.factors[k], self.table.scales[k]
            size, columns = len(factor.grouped), []
            for level in (s, t):
                own = np.zeros((size, len(factor.by_level[level])))
                own[factor.places[level]] = scale.levels[level].random
                columns.append(own.T)
            same = [
                (l, h)
                for (l, one), (h, other) in product(enumerate(columns[0]), enumerate(columns[1]))
                if np.array_equal(one, other)
            ]
            (_, first), (_, second) = (self.priors.places[level][k] for level in (s, t))
            q, w = len(columns[0]), len(columns[1])
            self._shared[k, s, t] = [
                (first + c * q + l, second + c * w + h) for c in range(factor.predictors) for l, h in same
            ]
        return self._shared[k, s, t]

    def shift_between(self, k: int) -> None:
        """Move the effects of factor k at nested levels, on columns that both have, against each other."""
        chain, places, levels = self.chain, self.priors.places, self.levels(k)
        for s, t, parent in self.table.nested:
            if s in levels and t in levels:
                b, c = places[s][k][0], places[t][k][0]
                for at in self.shared(k, s, t):
                    shift_between(
                        chain.rng, (chain.Psi[b], chain.Psi[c]), (chain.B[b], chain.B[c]), at, parent
                    )

    def shift_connected(self, k: int) -> None:
        """Move the effects of factor k at crossed levels, on columns that both have, against each other: with beta given,
        what they have in common is shared between the means of their effects, which mix slowly one after the other."""
        chain, places = self.chain, self.priors.places
        nested = {frozenset((s, t)) for s, t, _ in self.table.nested}
        for s, t in combinations(self.levels(k), 2):
            if frozenset((s, t)) not in nested:
                b, c = places[s][k][0], places[t][k][0]
                both, effects = (chain.Psi[b], chain.Psi[c]), (chain.B[b], chain.B[c])
                for at in self.shared(k, s, t):
                    shift_connected(chain.rng, both, effects, at, self._connected(s, t))

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

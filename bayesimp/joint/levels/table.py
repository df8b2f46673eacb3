"""A table with several grouping factors as the sampler reads it: working scale, combinations, chains, rows.

Every factor has its own columns of Z, centred and scaled like those of a single factor (joint/scale.py). Groups,
combinations and rows are put into an order that depends on values alone, so that the same seed gives the same
imputations whatever the order of the table and the labels of groups are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.levels.factors import GroupingFactor, chains_of
from bayesimp.joint.scale import IncompleteRows, Working, prepare, working_columns
from bayesimp.kernels.levels.records import Factors, NestedChains, RowsToFill
from bayesimp.kernels.normal.effects import Moments, moments
from bayesimp.kernels.normal.statistics import collect
from bayesimp.scale.effects import EffectScale
from bayesimp.scale.order import KEY_DIGITS, cluster_order

__all__ = [
    "GroupingScale",
    "LevelsTable",
    "canonical_places",
    "factor_record",
    "levels_table",
    "nested_chains",
    "row_order",
    "working_designs",
]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GroupingScale(EffectScale):
    """The units of the effects of one factor, (r q,), and C (q, q); see `bayesimp.scale.effects`."""

    effects: Array
    C: Array


@dataclass(frozen=True)
class LevelsTable:
    """Everything that chains share, on the working scale.

    Attributes
    ----------
    working
        The table with its first factor only: scale of responses and fixed effects, order of clusters.
    scales
        Scales of the effects of each factor.
    moments
        Moments of the combinations, with the columns of Z of all factors.
    factors, chains, rows
        See `bayesimp.kernels.levels.records`.
    row
        (R,) position in the table of each of `rows`.
    places
        (N, S) canonical group of each row of the table in every factor.
    """

    working: Working
    scales: tuple[GroupingScale, ...]
    moments: Moments
    factors: Factors
    chains: NestedChains
    rows: RowsToFill
    row: Ints
    places: Ints

    @property
    def counted(self) -> int:
        """The number of missing cells."""
        return int(self.missing.sum())

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(R, r) which cells of `rows` are missing; draws have their values row by row."""
        return ~self.moments.patterns[self.rows.pattern]


def levels_table(
    designs: Sequence[DesignMatrices],
    grouping: Sequence[GroupingFactor],
    Y: Array,
    responses: Sequence[str],
    *,
    flat: bool,
) -> LevelsTable:
    """Put a table on the working scale.

    Parameters
    ----------
    designs
        One for each factor, with the same X.
    grouping
        The factors, that of the primary clusters first.
    Y
        (N, r), NaN where missing.
    responses
        Names of the columns of Y.
    flat
        Whether beta has a flat prior.
    """
    first, r = designs[0], Y.shape[1]
    codes = np.column_stack([factor.groups.codes for factor in grouping])
    working = prepare(
        first.X, first.Z, Y, codes[:, 0], len(grouping[0].groups), responses, first.fixed, first.random_terms, flat=flat
    )  # fmt: skip
    scale = working.scale
    X = first.X @ scale.T
    Z, scales = working_designs(designs, scale.s)
    places = canonical_places(working.order, codes, np.round(np.hstack([X, Z]), KEY_DIGITS), Y)
    groups, combination = np.unique(places, axis=0, return_inverse=True)
    combination = combination.ravel().astype(np.int64)
    Y_w = Y / scale.s - X @ scale.offset
    m = moments(collect(X, Z, Y_w, combination, len(groups)))
    factors = factor_record(designs, [len(factor.groups) for factor in grouping], groups, r)
    rows, row = _rows(working.rows, Z, combination, places)
    chains = nested_chains(m, factors, chains_of(grouping))
    return LevelsTable(working, scales, m, factors, chains, rows, row, places)


def working_designs(designs: Sequence[DesignMatrices], s: Array) -> tuple[Array, tuple[GroupingScale, ...]]:
    """(N, q) columns of Z of all factors on the working scale, and the units of their effects on responses in units s."""
    Z, scales = [], []
    for made in designs:
        Z_w, u, C = working_columns(made.Z, made.random_terms)
        Z.append(Z_w)
        scales.append(GroupingScale((s[:, None] / u[None, :]).ravel(), C))
    return np.ascontiguousarray(np.hstack(Z)), tuple(scales)


def factor_record(
    designs: Sequence[DesignMatrices],
    number: Sequence[int],
    combinations: Ints,
    r: int,
    further: Sequence[int] = (),
) -> Factors:
    """Positions of columns, effects and covariances.

    combinations (K, S): their groups; further: rows of each Psi_s after those of the effects.
    """
    column = np.cumsum([0, *(made.Z.shape[1] for made in designs)]).astype(np.int64)
    count, sizes = np.array(number, dtype=np.int64), r * np.diff(column)
    whole = sizes + np.array(further or [0] * len(sizes), dtype=np.int64)
    return Factors(
        combinations.astype(np.int64), column, count, np.cumsum([0, *(count * sizes)]).astype(np.int64),
        np.cumsum([0, *whole**2]).astype(np.int64),
    )  # fmt: skip


def canonical_places(order: Ints, codes: Ints, covariates: Array, Y: Array) -> Ints:
    """(N, S) canonical group of each row in each factor; ties are ordered by the factors before.

    order: of the groups of the first factor; codes (N, S): groups of the rows.
    """
    out = np.empty_like(codes)
    out[:, 0] = np.argsort(order)[codes[:, 0]]
    for s in range(1, codes.shape[1]):
        known = np.hstack([covariates, out[:, :s]])
        own = cluster_order(Y, [known], codes[:, s], int(codes[:, s].max()) + 1)
        out[:, s] = np.argsort(own)[codes[:, s]]
    return out


def row_order(rows: IncompleteRows, places: Ints) -> Ints:
    """An order of canonical rows in which ties are ordered by their groups, places (N, S)."""
    keys = [rows.cluster, rows.pattern, np.round(rows.X, KEY_DIGITS), np.round(rows.Z, KEY_DIGITS), rows.Y]
    same = np.ones(max(len(rows.row) - 1, 0), dtype=bool)
    for key in keys:
        key = np.nan_to_num(key.reshape(len(key), -1), nan=0.0)  # the pattern says which are missing
        same &= (key[1:] == key[:-1]).all(axis=1)
    block = np.concatenate([[0], np.cumsum(~same)])[: len(rows.row)]
    return np.lexsort([*places[rows.row].T, block])


def _rows(rows: IncompleteRows, Z: Array, combination: Ints, places: Ints) -> tuple[RowsToFill, Ints]:
    """Incomplete rows and their positions in the table."""
    order = row_order(rows, places)
    row = rows.row[order]
    made = RowsToFill(
        np.ascontiguousarray(rows.X[order]), np.ascontiguousarray(Z[row]), np.ascontiguousarray(rows.Y[order]),
        combination[row], rows.cluster[order], rows.pattern[order], np.ascontiguousarray(rows.fixed[order]),
    )  # fmt: skip
    return made, row


def nested_chains(m: Moments, factors: Factors, chains: Sequence[Sequence[int]]) -> NestedChains:
    """Leaves of every chain with their sums of Z'Z and Z'X, and the parents of groups."""
    cells = np.repeat(np.arange(len(factors.group)), np.diff(m.first))  # combination of each
    patterns = len(m.patterns)
    parent = np.zeros(int(factors.number.sum()), dtype=np.int64)
    parent_at = np.concatenate([[0], np.cumsum(factors.number)]).astype(np.int64)
    leaf, group, pattern, ZZ, ZX = [], [], [], [], []
    for chain in chains:
        for s, coarser in pairwise(chain):
            parent[parent_at[s] + factors.group[:, s]] = factors.group[:, coarser]
        key = factors.group[cells, chain[0]] * patterns + m.cell_pattern
        found, of_cell = np.unique(key, return_inverse=True)
        of_cell = of_cell.ravel().astype(np.int64)
        columns = np.concatenate([np.arange(factors.column[s], factors.column[s + 1]) for s in chain])
        zz = np.zeros((len(found), len(columns), len(columns)))
        zx = np.zeros((len(found), len(columns), m.ZX.shape[2]))
        np.add.at(zz, of_cell, m.ZZ[:, columns[:, None], columns])
        np.add.at(zx, of_cell, m.ZX[:, columns])
        leaf.append(of_cell)
        group.append(found // patterns)
        pattern.append(found % patterns)
        ZZ.append(zz.ravel())
        ZX.append(zx.ravel())

    def starts(parts: Sequence[Sequence | NDArray]) -> Ints:
        return np.cumsum([0, *map(len, parts)]).astype(np.int64)

    return NestedChains(
        starts(chains), np.concatenate([np.asarray(chain, dtype=np.int64) for chain in chains]), parent_at[:-1], parent,
        np.array(leaf, dtype=np.int64), starts(group), np.concatenate(group).astype(np.int64),
        np.concatenate(pattern).astype(np.int64), starts(ZZ), np.concatenate(ZZ), starts(ZX), np.concatenate(ZX),
    )  # fmt: skip

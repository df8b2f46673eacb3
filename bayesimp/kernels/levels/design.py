"""Moments of one response by combinations of groups, recomputed at every visit of chained equations.

Between visits the columns of X and Z change, but not which rows share their groups. So `levels_design` sorts the rows
into combinations and leaves once (kernels/levels/records.py), and `design_moments` sums products in one pass over rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from bayesimp.kernels.levels.records import Factors, NestedChains
from bayesimp.kernels.normal.effects import Moments
from bayesimp.kernels.normal.statistics import add_outer

__all__ = ["LevelsDesign", "design_moments", "levels_design"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LevelsDesign:
    """Rows of one response in combinations and leaves.

    Attributes
    ----------
    combination
        (n,) the combination of each row.
    factors, chains
        As read by the sampler; the chains' sums are empty.
    columns
        By chain: its columns of Z, starting with those of the finest factor.
    """

    combination: Ints
    factors: Factors
    chains: NestedChains
    columns: tuple[Ints, ...]


def levels_design(
    codes: Ints, numbers: Sequence[int], widths: Sequence[int], chains: Sequence[Sequence[int]]
) -> LevelsDesign:
    """Sort n rows into combinations of groups.

    Parameters
    ----------
    codes
        (n, S) group of each row in every factor; every group must occur.
    numbers, widths
        (S,): number of groups, and of columns of Z, of each factor.
    chains
        Chains of nested factors, finest first, that contain every factor.
    """
    group, combination = np.unique(codes, axis=0, return_inverse=True)
    column = np.cumsum([0, *widths]).astype(np.int64)
    number, width = np.array(numbers, dtype=np.int64), np.array(widths, dtype=np.int64)
    factors = Factors(
        group.astype(np.int64), column, number, np.cumsum([0, *(number * width)]).astype(np.int64),
        np.cumsum([0, *width**2]).astype(np.int64),
    )  # fmt: skip
    parent_at = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
    parent = np.zeros(int(number.sum()), dtype=np.int64)
    leaf, first, columns = [], [0], []
    for chain in chains:
        for s, coarser in pairwise(chain):
            parent[parent_at[s] + group[:, s]] = group[:, coarser]
        finest = group[:, chain[0]].astype(np.int64)
        leaf.append(finest)  # with one pattern the leaves are the groups of the finest factor
        first.append(first[-1] + numbers[chain[0]])
        columns.append(np.concatenate([np.arange(column[s], column[s + 1]) for s in chain]))
    leaf_group = np.concatenate([np.arange(numbers[chain[0]]) for chain in chains]).astype(np.int64)
    nested = NestedChains(
        np.cumsum([0, *map(len, chains)]).astype(np.int64),
        np.concatenate([np.asarray(chain, dtype=np.int64) for chain in chains]), parent_at[:-1], parent,
        np.array(leaf, dtype=np.int64), np.array(first, dtype=np.int64), leaf_group, np.zeros(len(leaf_group), np.int64),
        np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0),
    )  # fmt: skip
    return LevelsDesign(combination.ravel().astype(np.int64), factors, nested, tuple(columns))


def _by_leaf(M: Array, rows: Ints, columns: Ints, leaf: Ints, number: int) -> Array:
    """Sums over the combinations of each leaf of the elements `rows` by `columns` of M (K, .., ..), flat; leaf (K,)."""
    out = np.empty((number, len(rows), len(columns)))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            out[:, i, j] = np.bincount(leaf, M[:, a, b], number)
    return out.ravel()


def design_moments(d: LevelsDesign, X: Array, Z: Array, y: Array) -> tuple[Moments, NestedChains]:
    """Sums of products of X (n, p), Z (n, q), columns of all factors, and y (n,), by combination and by leaf.

    With crossed factors there are nearly as many combinations as rows, and arrays by combination are larger than the
    cache of a processor: each is read and written as rarely as possible.
    """
    p, q, K = X.shape[1], Z.shape[1], len(d.factors.group)
    gram = np.zeros((K, p + q + 1, p + q + 1))
    add_outer(np.column_stack([X, Z, y]), d.combination, gram)
    total = gram.sum(axis=0, keepdims=True)
    total = total + np.triu(total, 1).transpose(0, 2, 1)
    x, z, of_y = slice(p), slice(p, p + q), slice(p + q, None)
    XX, XY, YY = (np.ascontiguousarray(total[:, a, b]) for a, b in [(x, x), (x, of_y), (of_y, of_y)])
    ZZ, ZX, ZY = gram[:, z, z].copy(), gram[:, x, z].transpose(0, 2, 1).copy(), gram[:, z, of_y].copy()
    for a, b in combinations(range(q), 2):
        ZZ[:, b, a] = ZZ[:, a, b]
    m = Moments(
        np.ones((1, 1), dtype=bool), np.array([len(y)], dtype=np.int64), XX, XY, YY, np.arange(K + 1, dtype=np.int64),
        np.zeros(K, np.int64), ZZ, ZX, ZY,
    )  # fmt: skip
    numbers = np.diff(d.chains.leaf_first)
    of_chains = list(zip(d.columns, d.chains.leaf, numbers, strict=True))
    zz = [_by_leaf(ZZ, columns, columns, leaf, number) for columns, leaf, number in of_chains]
    zx = [_by_leaf(ZX, columns, np.arange(p), leaf, number) for columns, leaf, number in of_chains]
    zz_at, zx_at = (np.cumsum([0, *map(len, sums)]).astype(np.int64) for sums in (zz, zx))
    return m, d.chains._replace(zz_at=zz_at, ZZ=np.concatenate(zz), zx_at=zx_at, ZX=np.concatenate(zx))

"""Which effects of several grouping factors occur together: pattern and storage of the penalised normal equations.

Effect a of level i of term t has a row and a column of

    K = [ Lambda'Z'Z Lambda + I   .        .   ]        Z = [Z_1, ..., Z_F]
        [ X'Z Lambda              X'X      .   ]        Lambda = blockdiag(I_m1 x Lambda_1, ..., I_mF x Lambda_F)
        [ y'Z Lambda              y'X      y'y ]

Levels i of t and j of s share an element if a row has both. The term with the most effects comes first and has no
elements outside its own blocks, so eliminating it is cheap; eliminating classes before the schools in which they are
nested leaves only the schools' own blocks. The remaining effects form the corner of `bayesimp.kernels.crossed.sparse` as
soon as at least half of their part of L is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from bayesimp.errors import SpecificationError
from bayesimp.kernels.crossed.sparse import pattern
from bayesimp.notation import IntArray, IntVector

__all__ = ["Pair", "EffectPattern", "structure_of"]

FULL = 0.5  # LAPACK is faster if L has at least this share of the elements of a corner
SMALL = 48  # this many effects form a corner in any case
LARGEST = 12_000  # effects in the corner: matrices of that size take 1.2 GB each


class Pair(NamedTuple):
    """Blocks of two terms, t eliminated before s, or of one with itself; k numbers the cells (levels found together).

    first, second (cells,): levels of t and of s; cell (n,): the cell of every row; place (cells, q_t, q_s): where the
    element of row (j, b) of s and column (i, a) of t is stored.
    """

    t: int
    s: int
    first: IntVector
    second: IntVector
    cell: IntVector
    place: IntArray


@dataclass(frozen=True)
class EffectPattern:
    """The pattern of K, and the storage of its elements: [diagonal (d,) | below (..,) | corner (size, size)].

    Attributes
    ----------
    codes
        (n,) level of every row, by term.
    levels, widths, offsets
        (F,) number of levels, effects per level, and the column of K in which the effects of a term begin.
    effects, fixed
        Number of columns of K that are effects, N, and that belong to X, p, which follow. Row N + p is that of y.
    pairs
        All pairs of terms, each term with itself and with every other.
    outer
        (m_t, q_t, p + 1), by term: where the elements of X and y are stored.
    starts, rows
        The columns of L_11 and L_21; see `bayesimp.kernels.crossed.sparse`.
    d, size
        Number of columns with their own lists; number of rows of the corner, N - d + p + 1.
    """

    codes: tuple[IntVector, ...]
    levels: tuple[int, ...]
    widths: tuple[int, ...]
    offsets: tuple[int, ...]
    effects: int
    fixed: int
    pairs: tuple[Pair, ...]
    outer: tuple[IntArray, ...]
    starts: IntVector
    rows: IntVector
    d: int
    size: int

    @property
    def stored(self) -> int:
        """How many numbers are stored."""
        return self.d + len(self.rows) + self.size**2

    def columns(self, t: int) -> IntArray:
        """(m_t, q_t) columns of the effects of a term."""
        return _columns(self.offsets[t], self.levels[t], self.widths[t])

    def same(self, codes: Sequence[IntVector]) -> bool:
        """Whether the rows of another table have the same levels."""
        return all(np.array_equal(a, b) for a, b in zip(self.codes, codes, strict=True))


def structure_of(
    codes: Sequence[IntVector], levels: Sequence[int], widths: Sequence[int], p: int
) -> EffectPattern:
    """The structure for p fixed effects and terms with these codes (n,), numbers of levels and effects per level.

    Raises
    ------
    SpecificationError
        So many effects depend on each other that no matrix can hold them.
    """
    order = sorted(range(len(codes)), key=lambda t: -levels[t] * widths[t])
    offsets, N = [0] * len(codes), 0
    for t in order:
        offsets[t], N = N, N + levels[t] * widths[t]
    met = []
    for k, t in enumerate(order):
        for s in order[k:]:
            met.append((t, s, *_cells(codes[t], codes[s], levels[t], levels[s], t == s)))
    ends = [
        (
            _columns(offsets[t], levels[t], widths[t])[first],
            _columns(offsets[s], levels[s], widths[s])[second],
        )
        for t, s, first, second, _ in met
    ]
    starts, rows, d = _filled(ends, N, p)
    size = N - d + p + 1
    keys = np.repeat(np.arange(d), np.diff(starts)) * (N + p + 1) + rows

    def places(a: IntArray, b: IntArray) -> IntArray:
        row, column = np.maximum(a, b), np.minimum(a, b)
        in_corner = d + len(rows) + (row - d) * size + column - d
        below = d + np.searchsorted(keys, column * (N + p + 1) + row)
        return np.where(column >= d, in_corner, np.where(row == column, column, below))

    pairs = tuple(
        Pair(*here, places(left[:, :, None], right[:, None, :]))
        for here, (left, right) in zip(met, ends, strict=True)
    )
    outer = tuple(
        places(_columns(offsets[t], levels[t], widths[t])[:, :, None], N + np.arange(p + 1))
        for t in range(len(codes))
    )
    return EffectPattern(
        tuple(codes), tuple(levels), tuple(widths), tuple(offsets), N, p, pairs, outer, starts, rows, d, size
    )


def _columns(offset: int, levels: int, width: int) -> IntArray:
    return offset + np.arange(levels * width).reshape(levels, width)


def _cells(
    one: IntVector, other: IntVector, levels: int, others: int, same: bool
) -> tuple[IntVector, IntVector, IntVector]:
    """Levels that occur together in a row, (cells,) each, and the cell of every row."""
    if same:
        every = np.arange(levels)
        return every, every, one
    keys, cell = np.unique(one * others + other, return_inverse=True)
    return keys // others, keys % others, cell


def _filled(ends: list[tuple[IntArray, IntArray]], N: int, p: int) -> tuple[IntVector, IntVector, int]:
    """starts (d + 1,), rows and d, for the columns of L outside the corner."""
    left = [np.repeat(a, b.shape[1], axis=1).ravel() for a, b in ends]
    right = [np.tile(b, (1, a.shape[1])).ravel() for a, b in ends]
    column, row = np.concatenate(left), np.concatenate(right)
    lower = row > column
    K = coo_array((np.ones(lower.sum(), np.int8), (row[lower], column[lower])), shape=(N, N)).tocsr()
    indptr, columns = K.indptr.astype(np.int64), K.indices.astype(np.int64)
    counts, nothing = np.zeros(N, np.int64), np.empty(0, np.int64)
    pattern(indptr, columns, np.zeros(1, np.int64), nothing, counts)
    left_over = np.arange(N, 0, -1)
    share = np.cumsum((counts + 1)[::-1])[::-1] / (left_over * (left_over + 1) / 2)
    d = int(np.argmax(np.append((share >= FULL) | (left_over <= SMALL), True)))
    if N - d > LARGEST:
        raise SpecificationError(
            f"the random effects of {N:,} levels depend on each other so closely that a matrix of {N - d:,} rows is "
            f"needed (at most {LARGEST:,}): the grouping factors are crossed, and each has many levels. Leave out the "
            "random "
            "term of one of them, or merge its levels."
        )
    starts = np.concatenate([[0], np.cumsum(counts[:d] + p + 1)]).astype(np.int64)
    rows = np.empty(starts[-1], np.int64)
    if d > 0:
        pattern(indptr, columns, starts, rows, counts)
        for b in range(p + 1):
            rows[starts[1:] - 1 - b] = N + p - b
    return starts, rows, d

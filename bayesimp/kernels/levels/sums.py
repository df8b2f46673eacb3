"""Moments of a chain of factors after subtracting the effects of all others, in one pass over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import copy_to
from bayesimp.notation import BoolVector, Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.levels.records import Factors, NestedChains
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["gather", "own_columns", "pack", "scatter", "subtract_others", "unpack"]


@inner
def gather(factors: Factors, s: Integer, b: Vector, B: Stack) -> None:
    """B (K, q, r) <- the effects of factor s for every combination, from the flat vector b."""
    K, _, r = B.shape
    first = factors.column[s]
    width = factors.column[s + 1] - first
    for c in range(K):
        at = factors.effect_at[s] + factors.group[c, s] * width * r
        for k in range(r):
            for l in range(width):
                B[c, first + l, k] = b[at + k * width + l]


@inner
def scatter(factors: Factors, s: Integer, B: Stack, b: Vector) -> None:
    """The effects of factor s in the flat vector b <- those of the combinations, B (K, q, r)."""
    K, _, r = B.shape
    first = factors.column[s]
    width = factors.column[s + 1] - first
    for c in range(K):
        at = factors.effect_at[s] + factors.group[c, s] * width * r
        for k in range(r):
            for l in range(width):
                b[at + k * width + l] = B[c, first + l, k]


@inner
def unpack(flat: Vector, at: Integer, out: Matrix) -> None:
    """out (n, n) <- the matrix that begins at flat[at]. A loop, because numba takes seconds to compile reshaped views."""
    n = out.shape[0]
    for e in range(n):
        for f in range(n):
            out[e, f] = flat[at + e * n + f]


@inner
def pack(matrix: Matrix, flat: Vector, at: Integer) -> None:
    """flat[at], .. <- matrix (n, n)."""
    n = matrix.shape[0]
    for e in range(n):
        for f in range(n):
            flat[at + e * n + f] = matrix[e, f]


@inner
def own_columns(
    factors: Factors, chains: NestedChains, t: Integer, own: BoolVector, order: IntVector
) -> Integer:
    """own (q,) <- whether a column of Z is in chain t; order (q,) <- their indices, finest first; returns how many."""
    for l in range(own.size):
        own[l] = False
    n: Integer = np.int64(0)
    for at in range(chains.first[t], chains.first[t + 1]):
        s = chains.factor[at]
        for l in range(factors.column[s], factors.column[s + 1]):
            own[l] = True
            order[n] = l
            n += 1
    return n


@inner
def subtract_others(
    m: Moments,
    chains: NestedChains,
    t: Integer,
    own: BoolVector,
    order: IntVector,
    columns: Integer,
    B: Stack,
    XY: Stack,
    ZY: Vector,
) -> None:
    """XY (A, p, r) and ZY, flat (leaves, q_t, r), <- those of Y - sum of Z_s B_s over factors s outside chain t.

    own, order, columns: from `own_columns`; B (K, q, r): the current effects of all factors, by combination.
    """
    A, p, r = XY.shape
    q = own.size
    for a in range(A):
        copy_to(XY[a], m.XY[a])
    for at in range(ZY.size):
        ZY[at] = 0.0
    for c in range(B.shape[0]):
        for cell in range(m.first[c], m.first[c + 1]):
            a = m.cell_pattern[cell]
            for h in range(q):
                if not own[h]:
                    for k in range(r):
                        effect = B[c, h, k]
                        for x in range(p):
                            XY[a, x, k] -= m.ZX[cell, h, x] * effect
            at = chains.leaf[t, cell] * columns * r
            for e in range(columns):
                l = order[e]
                for k in range(r):
                    s = m.ZY[cell, l, k]
                    for h in range(q):
                        if not own[h]:
                            s -= m.ZZ[cell, l, h] * B[c, h, k]
                    ZY[at + e * r + k] += s

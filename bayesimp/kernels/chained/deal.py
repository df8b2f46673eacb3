"""Completed cells dealt to the rows of a table, one row after the other, without replacement.

Rows with the same observed values are alike, so given how many of them have each completion, every assignment of
completions to rows has the same probability. With u_j ~ U(0, 1), the next row of kind d gets completion c with

    P(c) = left_c / sum_{c' of d} left_c',     after which left_c falls by one
"""

from __future__ import annotations

from bayesimp.kernels.compiled import kernel
from bayesimp.notation import IntVector, Vector

__all__ = ["deal_cells"]


@kernel(nogil=True)
def deal_cells(
    u: Vector, kind: IntVector, first: IntVector, left: IntVector, rest: IntVector, out: IntVector
) -> int:
    """out (R,) <- the cell of each row; left (C,), rest (D,): rows that still need each cell, and each kind; lowered.

    u (R,): uniform numbers; kind (R,): kinds of the rows; cells of kind d are first[d]..first[d+1]-1.
    Returns -1, or the first row for which no cell is left.
    """
    for j in range(kind.size):
        d = kind[j]
        if rest[d] == 0:
            return j
        at, cell = min(int(u[j] * rest[d]), rest[d] - 1), first[d]
        while at >= left[cell]:
            at -= left[cell]
            cell += 1
        left[cell] -= 1
        rest[d] -= 1
        out[j] = cell
    return -1

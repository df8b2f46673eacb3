"""Cholesky factor of a sparse symmetric matrix with a dense corner, and the elements of its inverse on the pattern.

    K = [ K_11  K_21' ]        L = [ L_11       ]        Sigma = K^-1
        [ K_21  K_22  ]            [ L_21  L_22 ]

K_11 (d, d) has sparse columns, as do L_11 and L_21; what remains of K_22 after their elimination is nearly full:

    L_22 L_22' = C = K_22 - L_21 L_21'                                by LAPACK, outside this file

The rows below the diagonal of column j of L_11, R_j, are in ``rows[starts[j]:starts[j + 1]]``, in ascending order. The
elements of the inverse on the pattern of L follow from those in later columns (Takahashi, Fagan & Chin 1973):

    Sigma[R_j, j] = -Sigma[R_j, R_j] L[R_j, j] / L_jj,       Sigma_jj = 1 / L_jj^2 - L[R_j, j]' Sigma[R_j, j] / L_jj

where each element of Sigma[R_j, R_j] is on the pattern of L. No library computes these elements from a factor: CHOLMOD,
which scikit-sparse wraps, gives only L.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.notation import IntVector, Matrix, Vector

__all__ = ["eliminate", "inverse_elements", "pattern", "solve_transposed"]


@kernel(nogil=True)
def pattern(
    indptr: IntVector, columns: IntVector, starts: IntVector, rows: IntVector, counts: IntVector
) -> None:
    """counts (n,) <- number of elements of L below the diagonal in each column; rows <- their rows, unless it is empty.

    indptr (n + 1,), columns: the elements of K left of the diagonal, row by row. ``rows`` is empty when they are only
    counted; in the second call, starts (d + 1,) says where the first d columns begin in it. Davis (2005), Algorithm
    849, ldl_symbolic: row k of L is what the elimination tree leads to from the elements of row k of K.
    """
    n, d = len(counts), len(starts) - 1
    parent, seen = np.empty(n, np.int64), np.empty(n, np.int64)
    for k in range(n):
        parent[k], seen[k], counts[k] = -1, k, 0
        for place in range(indptr[k], indptr[k + 1]):
            j = columns[place]
            while seen[j] != k:
                if parent[j] < 0:
                    parent[j] = k
                if len(rows) > 0 and j < d:
                    rows[starts[j] + counts[j]] = k
                counts[j] += 1
                seen[j] = k
                j = parent[j]


@kernel(nogil=True)
def eliminate(
    starts: IntVector, rows: IntVector, diagonal: Vector, below: Vector, corner: Matrix, middle: IntVector
) -> bool:
    """diagonal (d,), below <- elements of L_11 and L_21, from those of K; corner <- C, lower triangle.

    middle (d,) <- position of the first row in the corner, for every column. Returns False if K_11 is not
    positive definite.
    """
    d, size = len(diagonal), len(corner)
    work = np.zeros(d + size)
    first, following = np.full(d, -1, np.int64), np.empty(d, np.int64)
    for k in range(d):
        for place in range(starts[k], starts[k + 1]):
            work[rows[place]] = below[place]
        pivot = diagonal[k]
        j = first[k]
        while j >= 0:  # the columns to the left with an element in row k
            after, place = following[j], middle[j]
            l = below[place]
            pivot -= l * l
            for further in range(place + 1, starts[j + 1]):
                work[rows[further]] -= l * below[further]
            middle[j] = place + 1
            if place + 1 < starts[j + 1] and rows[place + 1] < d:
                following[j], first[rows[place + 1]] = first[rows[place + 1]], j
            j = after
        if not pivot > 0.0:
            return False
        diagonal[k] = math.sqrt(pivot)
        for place in range(starts[k], starts[k + 1]):
            below[place] = work[rows[place]] / diagonal[k]
        middle[k] = starts[k]
        if starts[k] < starts[k + 1] and rows[starts[k]] < d:
            following[k], first[rows[starts[k]]] = first[rows[starts[k]]], k
    for j in range(d):
        for a in range(middle[j], starts[j + 1]):
            l, row = below[a], rows[a] - d
            for b in range(middle[j], a + 1):
                corner[row, rows[b] - d] -= l * below[b]
    return True


@kernel(nogil=True)
def solve_transposed(starts: IntVector, rows: IntVector, diagonal: Vector, below: Vector, w: Vector) -> None:
    """The first d elements of w (d + size,) <- those of L^-T w; its other elements are given."""
    for j in range(len(diagonal) - 1, -1, -1):
        s = w[j]
        for place in range(starts[j], starts[j + 1]):
            s -= below[place] * w[rows[place]]
        w[j] = s / diagonal[j]


@kernel(nogil=True)
def inverse_elements(
    starts: IntVector, rows: IntVector, diagonal: Vector, below: Vector, middle: IntVector, corner: Matrix,
    own: Vector, others: Vector,
) -> None:  # fmt: skip
    """own (d,), others <- the elements of Sigma on the diagonal, and on the pattern of L_11 and L_21.

    corner: Sigma_22, the full symmetric matrix; rows and columns of zeros leave their rows of L out of the inverse.
    """
    d = len(diagonal)
    sums, at = np.zeros(d + len(corner)), np.zeros(d + len(corner))
    for j in range(d - 1, -1, -1):
        begin, stop = starts[j], starts[j + 1]
        for a in range(begin, stop):
            sums[rows[a]] = 0.0
        for a in range(middle[j], stop):
            l, row, s = below[a], rows[a] - d, 0.0
            for b in range(middle[j], a):
                element = corner[row, rows[b] - d]
                s += element * below[b]
                sums[rows[b]] += element * l
            sums[rows[a]] += s + corner[row, row] * l
        for a in range(begin, middle[j]):  # row k of Sigma[R_j, R_j], from column k
            k = rows[a]
            for place in range(starts[k], starts[k + 1]):
                at[rows[place]] = others[place]
            sums[k] += own[k] * below[a]
            for b in range(a + 1, stop):
                sums[k] += at[rows[b]] * below[b]
                sums[rows[b]] += at[rows[b]] * below[a]
        s = 1.0 / diagonal[j]
        for a in range(begin, stop):
            others[a] = -sums[rows[a]] / diagonal[j]
            s -= below[a] * others[a]
        own[j] = s / diagonal[j]

"""Merging of a cluster's rows with equal columns: a binomial or Poisson likelihood needs only their sums.

For k rows with the same linear predictor eta,

    binomial     sum_j y_j log p + (n_j - y_j) log(1 - p)           = that of one row, sum y_j successes of sum n_j
    Poisson      sum_j y_j eta - e^eta = y. eta - k e^eta           = that of one row, y. = sum y_j, offset log k added

up to terms without eta. With discrete predictors a cluster of thousands of rows has only dozens of distinct ones, and the
cost of an update is proportional to their number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.families.codes import LOGIT, POISSON, PROBIT
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import IntMatrix, IntVector, Matrix, Vector

__all__ = ["SUMMED", "Alike", "merge_rows", "rows_alike", "summed_rows"]

SUMMED = LOGIT, PROBIT, POISSON  # families that merge

FEW = 256  # rows after which the search is given up if most are distinct
MOST = 0.75  # share of distinct rows above which nothing is merged
FREE = -1
MIX = -7046029254386353131  # odd, about 2^64 / golden ratio as a signed integer: spreads bits (Knuth's hash)


@kernel(nogil=True)
def _number_rows(bits: IntMatrix, first: IntVector, number: IntVector, starts: IntVector) -> int:
    """number (n,) <- each row's merged row, numbered by appearance; starts (m + 1,) <- `first` of the merged rows.

    bits (n, c): columns of the rows, with the bits of each number read as an integer. Returns the number of merged rows,
    or -1 if there are too many. The slots of a hash table, at most half full, hold the first row of each kind.
    """
    m, columns, count, largest = first.size - 1, bits.shape[1], 0, 0
    for i in range(m):
        largest = max(largest, first[i + 1] - first[i])
    places = np.empty(4 * largest + 2, np.int64)
    for i in range(m):
        starts[i], size = count, 2
        while size < 2 * (first[i + 1] - first[i]):
            size *= 2
        for at in range(size):
            places[at] = FREE
        for j in range(first[i], first[i + 1]):
            code = 0
            for c in range(columns):
                code = (code ^ bits[j, c]) * MIX
                code ^= code >> 32
            at = code & (size - 1)
            while places[at] != FREE:
                same = True
                for c in range(columns):
                    same &= bits[places[at], c] == bits[j, c]
                if same:
                    break
                at = (at + 1) & (size - 1)
            if places[at] == FREE:
                places[at] = j
                number[j] = count
                count += 1
            else:
                number[j] = number[places[at]]
            if j >= FEW and count > MOST * (j + 1):
                return -1
    starts[m] = count
    return count if count <= MOST * first[m] else -1


class Alike(NamedTuple):
    """Which rows are alike: number (n,), the merged row of each; one (k,), a row of each merged one; first (m + 1,), as
    in `GlmmRows` for the merged rows."""

    number: np.ndarray
    one: np.ndarray
    first: np.ndarray


def rows_alike(columns: Matrix, first: IntVector) -> Alike | None:
    """Rows of the same cluster with equal columns (n, c), or None if more than `MOST` of the rows are distinct."""
    if not len(columns):
        return None
    number, starts = np.empty(len(columns), np.int64), np.empty_like(first)
    count = _number_rows(np.ascontiguousarray(columns).view(np.int64), first, number, starts)
    if count < 0:
        return None
    one = np.empty(count, np.int64)
    one[number[::-1]] = np.arange(len(number) - 1, -1, -1)
    return Alike(number, one, starts)


def summed_rows(
    family: int, alike: Alike, y: Vector, trials: Vector, offset: Vector, X: Matrix, Z: Matrix
) -> GlmmRows:
    """The merged rows. y, trials, offset (n,) belong to all rows; X (k, p), Z (k, q) to the rows `alike.one`."""
    count = len(alike.one)
    sums, offset = np.bincount(alike.number, y, count), offset[alike.one]
    if family == POISSON:
        offset = offset + np.log(np.bincount(alike.number, minlength=count))
        summed = np.ones(count)
    else:
        summed = np.bincount(alike.number, trials, count)
    return GlmmRows(family, sums, summed, np.ones(count), offset, X, Z, alike.first)


def merge_rows(rows: GlmmRows) -> GlmmRows:
    """Merge rows of the same cluster with equal columns, for families that allow it.

    Parameters
    ----------
    rows
        n rows of weight one.

    Returns
    -------
    Rows with the same likelihood in beta and b_i, up to a constant; `rows` itself if the family does not allow sums or if
    more than `MOST` of the rows are distinct.
    """
    if rows.family not in SUMMED:
        return rows
    columns = np.column_stack([rows.X, rows.Z, *([rows.offset] if rows.offset.any() else [])])
    alike = rows_alike(columns, rows.first)
    if alike is None:
        return rows
    X, Z = rows.X[alike.one], rows.Z[alike.one]
    return summed_rows(rows.family, alike, rows.y, rows.trials, rows.offset, X, Z)

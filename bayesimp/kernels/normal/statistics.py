"""Sufficient statistics of the joint normal model, the only step whose cost grows with the number of rows.

Rows are grouped into cells (cluster i, missingness pattern a). With D = [1, X, Z, Y], Y zero where missing,
a cell keeps its number of rows n and its Gram matrix

    G_ia = D_ia' D_ia,    (d, d),  d = 1 + p + q + r

in terms of which the likelihood, every Gibbs draw, and means and variances of imputed values are expressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.kernels.compiled import kernel
from bayesimp.notation import BoolMatrix, IntVector, Matrix, Stack

__all__ = ["SufficientStatistics", "add_outer", "collect", "pattern_codes"]

BLOCK = 65_536  # rows per dense block


@dataclass(frozen=True)
class SufficientStatistics:
    """Gram matrices of a table's cells.

    Attributes
    ----------
    patterns
        (A, r) bool: which responses are observed in each pattern.
    cell_cluster, cell_pattern
        (C,) int64, cells sorted by cluster, then pattern.
    cell_rows
        (C,) int64, number of rows in the cell.
    gram
        (C, d, d) float64, D'D with columns [1 | X (p) | Z (q) | Y (r)].
    clusters, p, q, r
        Sizes.
    """

    patterns: NDArray[np.bool_]
    cell_cluster: NDArray[np.int64]
    cell_pattern: NDArray[np.int64]
    cell_rows: NDArray[np.int64]
    gram: NDArray[np.float64]
    clusters: int
    p: int
    q: int
    r: int

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        """Statistics of two stacked tables (cluster codes must mean the same in both)."""
        if (self.p, self.q, self.r) != (other.p, other.q, other.r):
            raise ValueError(
                f"numbers of columns differ: (p, q, r) = {self.p, self.q, self.r} and {other.p, other.q, other.r}"
            )
        patterns, index = np.unique(np.vstack([self.patterns, other.patterns]), axis=0, return_inverse=True)
        patterns, index = patterns[::-1], len(patterns) - 1 - index.ravel()
        A = len(self.patterns)
        pattern = np.concatenate([index[:A][self.cell_pattern], index[A:][other.cell_pattern]])
        key = np.concatenate([self.cell_cluster, other.cell_cluster]) * len(patterns) + pattern
        cells, place = np.unique(key, return_inverse=True)
        rows = np.zeros(len(cells), dtype=np.int64)
        gram = np.zeros((len(cells), *self.gram.shape[1:]))
        np.add.at(rows, place, np.concatenate([self.cell_rows, other.cell_rows]))
        np.add.at(gram, place, np.concatenate([self.gram, other.gram]))
        return SufficientStatistics(
            patterns, cells // len(patterns), cells % len(patterns), rows, gram,
            max(self.clusters, other.clusters), self.p, self.q, self.r,
        )  # fmt: skip


def collect(X: Matrix, Z: Matrix, Y: Matrix, codes: IntVector, clusters: int) -> SufficientStatistics:
    """Group rows into cells and sum their Gram matrices.

    Parameters
    ----------
    X, Z, Y
        (N, p), (N, q), (N, r); Y has NaN where missing.
    codes
        (N,) cluster of each row, 0..clusters-1.
    """
    N, r = Y.shape
    p, q = X.shape[1], Z.shape[1]
    observed = ~np.isnan(Y)
    # one integer per pattern, most observed first; r <= 62 columns fit in 64 bits
    found, row_pattern = _distinct(pattern_codes(~observed), 1 << r)
    patterns = (~found[:, None] >> np.arange(r - 1, -1, -1) & 1).astype(bool)
    cells, row_cell = _distinct(codes * len(patterns) + row_pattern, clusters * len(patterns))
    gram = np.zeros((len(cells), 1 + p + q + r, 1 + p + q + r))
    for start in range(0, N, BLOCK):
        stop = min(start + BLOCK, N)
        D = np.empty((stop - start, 1 + p + q + r))
        D[:, 0] = 1.0
        D[:, 1 : 1 + p] = X[start:stop]
        D[:, 1 + p : 1 + p + q] = Z[start:stop]
        D[:, 1 + p + q :] = np.where(observed[start:stop], Y[start:stop], 0.0)
        add_outer(D, row_cell[start:stop], gram)
    upper = np.triu_indices(gram.shape[1], 1)
    gram[:, upper[1], upper[0]] = gram[:, upper[0], upper[1]]
    return SufficientStatistics(
        patterns, cells // len(patterns), cells % len(patterns), np.bincount(row_cell, minlength=len(cells)),
        gram, clusters, p, q, r,
    )  # fmt: skip


def pattern_codes(missing: BoolMatrix) -> IntVector:
    """One integer for each row of missing (n, r): its bits, those of the first column most significant."""
    codes = np.zeros(len(missing), dtype=np.int64)
    for column in missing.T:
        codes <<= 1
        codes |= column
    return codes


def _distinct(key: IntVector, size: int) -> tuple[IntVector, IntVector]:
    """The distinct keys among 0..size-1, sorted, and the number of each row's key; by counting, unless there are many."""
    if size > len(key) + BLOCK:
        found, number = np.unique(key, return_inverse=True)
        return found, number
    there = np.bincount(key, minlength=size) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[key]


@kernel
def add_outer(D: Matrix, cell: IntVector, gram: Stack) -> None:
    """gram[cell[j]] += D[j] D[j]' (upper triangle), row by row."""
    for j in range(D.shape[0]):
        G = gram[cell[j]]
        for a in range(D.shape[1]):
            x = D[j, a]
            for b in range(a, D.shape[1]):
                G[a, b] += x * D[j, b]

"""Columns of a conditional model, row by row, for models whose likelihood is not a function of cross products.

t_j = f_it (D_jb + o_it),    j a row of cluster i,  t on base column b        (kernels/chained/moments.py)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.notation import IntVector, Matrix, Stack

if TYPE_CHECKING:
    from bayesimp.kernels.chained.moments import RowCells, Terms

__all__ = ["cluster_values", "design_rows", "linear_predictors"]


@kernel(nogil=True)
def design_rows(
    cells: RowCells,
    terms: Terms,
    f: Stack,
    D: Matrix,
    V: Matrix,
    source: IntVector,
    cluster: IntVector,
    X: Matrix,
    Z: Matrix,
) -> None:
    """X (n, p), Z (n, q) <- fixed and random columns of n rows.

    source (n,): a complete row of D (n0, d), or -1 - r for incomplete row r. cluster (n,).
    """
    p, q, complete = X.shape[1], Z.shape[1], cells.X.shape[1]
    for j in range(source.size):
        at, i = source[j], cluster[j]
        for t in range(p + q):
            b = terms.base[t]
            if at >= 0:
                x = D[at, b]
            elif b < complete:
                x = cells.X[-1 - at, b]
            else:
                x = V[-1 - at, b - complete]
            x = f[i, t, 0] * (x + f[i, t, 1])
            if t < p:
                X[j, t] = x
            else:
                Z[j, t - p] = x


@kernel(nogil=True)
def cluster_values(f: Stack, X: Matrix) -> None:
    """X (m, p) <- the columns of a cluster-level model, all of them constants or cluster means."""
    for i in range(X.shape[0]):
        for t in range(X.shape[1]):
            X[i, t] = f[i, t, 0] * (1.0 + f[i, t, 1])


@kernel(nogil=True)
def linear_predictors(X: Matrix, Z: Matrix, cluster: IntVector, beta: Matrix, B: Stack) -> Matrix:
    """eta (n, r) = X beta + Z B_i; beta (p, r), B (m, q, r)."""
    n, p, q, r = X.shape[0], X.shape[1], Z.shape[1], beta.shape[1]
    eta = np.empty((n, r))
    for j in range(n):
        for k in range(r):
            s = 0.0
            for t in range(p):
                s += X[j, t] * beta[t, k]
            for t in range(q):
                s += Z[j, t] * B[cluster[j], t, k]
            eta[j, k] = s
    return eta

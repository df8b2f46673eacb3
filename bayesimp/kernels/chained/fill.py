"""Missing values of a conditional model: drawn given its parameters, predicted, and summarised by cluster.

The columns are those of kernels/chained/moments.py; V holds the completed values of the incomplete rows.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.chained.moments import BlockArrays, RowCells, Terms
from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import truncated_normal
from bayesimp.kernels.normal.complete import conditional
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

__all__ = ["fill", "imputed_moments", "predict"]


@inner
def _coefficients(
    terms: Terms, block: BlockArrays, f: Stack, i: int, beta: Matrix, B: Stack, g: Matrix
) -> None:
    """g (d, r) <- coefficients on D of x*'beta + z*'b_i - o, the mean of the column of D that holds each response."""
    p, q, r = block.sizes[0], block.sizes[1], block.sizes[2]
    for b in range(g.shape[0]):
        for j in range(r):
            g[b, j] = 0.0
    for t in range(p + q):
        for j in range(r):
            w = f[i, t, 0] * (beta[t, j] if t < p else B[i, t - p, j])
            g[terms.base[t], j] += w
            g[0, j] += w * f[i, t, 1]
    for j in range(r):
        g[0, j] -= f[i, p + q + j, 1]


@kernel(nogil=True)
def fill(
    rng: np.random.Generator,
    cells: RowCells,
    terms: Terms,
    block: BlockArrays,
    f: Stack,
    beta: Matrix,
    B: Stack,
    Sigma: Stack,
    V: Matrix,
) -> bool:
    """Draw the missing responses of a block into V, given its parameters and the observed responses of the same row.

        y_M | y_O ~ N( mu_M + (y_O - mu_O) K,  Sigma_MM - Sigma_MO K ),   K = Sigma_OO^-1 Sigma_OM

    beta (p*, r), B (m, q, r); Sigma (1, r, r), or (m, 1, 1) for a residual variance in each cluster. With bounds, the
    normal is truncated (blocks of one response). Returns False if Sigma is not positive definite.
    """
    p, r, d = cells.X.shape[1], block.sizes[2], block.known.shape[1]
    n_fixed = block.sizes[0] + block.sizes[1]
    g = np.empty((d, r))
    mean, z = np.empty(r), np.empty(r)
    K, A = np.zeros((r, r)), np.empty((r, r))
    W, ok = pattern_weights(Sigma[0], block.missing_patterns)
    if not ok:
        return False
    by_cluster = Sigma.shape[0] > 1
    bounded = block.lower.size > 0
    last, last_pattern = np.int64(-1), np.int64(-1)
    u: Integer = np.int64(0)
    for at in range(block.missing_cell.size):
        c, a = block.missing_cell[at], block.missing_pattern[at]
        i = cells.cluster[c]
        if i != last:
            _coefficients(terms, block, f, i, beta, B, g)
            last = i
        if a != last_pattern or by_cluster:
            u = conditional(W[a], Sigma[i if by_cluster else 0], block.missing_patterns[a], K, A)
            if u <= 0:
                return False
            last_pattern = a
        for row in range(cells.start[c], cells.start[c + 1]):
            for j in range(r):
                s = 0.0
                for b in range(p):
                    s += g[b, j] * cells.X[row, b]
                for b in range(p, d):
                    if g[b, j] != 0.0:
                        s += g[b, j] * V[row, b - p]
                mean[j] = s
            if bounded:
                k = terms.base[n_fixed] - p
                V[row, k] = truncated_normal(rng, mean[0], A[0, 0], block.lower[row], block.upper[row])
                continue
            for h in range(u):
                z[h] = rng.standard_normal()
            h = 0
            for j in range(r):
                if block.missing_patterns[a, j]:
                    continue
                s = mean[j]
                for l in range(r):
                    if block.missing_patterns[a, l]:
                        s += (V[row, terms.base[n_fixed + l] - p] - mean[l]) * K[l, j]
                for l in range(h + 1):
                    s += A[h, l] * z[l]
                h += 1
                V[row, terms.base[n_fixed + j] - p] = s
    return True


@kernel(nogil=True)
def predict(
    cells: RowCells,
    terms: Terms,
    block: BlockArrays,
    f: Stack,
    beta: Matrix,
    B: Stack,
    D: Matrix,
    cluster: IntVector,
    V: Matrix,
    complete: Vector,
    incomplete: Vector,
) -> None:
    """Means of the response of a one-response block, in complete rows D (n, d) and in incomplete rows.

    complete (n,), incomplete (R,): receive the means, on the working scale of the response's column.
    """
    p, d, m = cells.X.shape[1], block.known.shape[1], block.sizes[3]
    G = np.empty((m, d))
    g = np.empty((d, 1))
    for i in range(m):
        _coefficients(terms, block, f, i, beta, B, g)
        for b in range(d):
            G[i, b] = g[b, 0]
    for j in range(D.shape[0]):
        s = 0.0
        for b in range(d):
            s += G[cluster[j], b] * D[j, b]
        complete[j] = s
    for c in range(cells.cluster.size):
        i = cells.cluster[c]
        for j in range(cells.start[c], cells.start[c + 1]):
            s = 0.0
            for b in range(p):
                s += G[i, b] * cells.X[j, b]
            for b in range(p, d):
                s += G[i, b] * V[j, b - p]
            incomplete[j] = s


@kernel(nogil=True)
def imputed_moments(cells: RowCells, V: Matrix, mean: Matrix, sd: Matrix) -> None:
    """mean, sd (m, k) <- those of imputed values in each cluster, first k columns of Y; nan where nothing is missing."""
    m = mean.shape[0]
    for k in range(mean.shape[1]):
        c = 0
        for i in range(m):
            n, s, first = 0, 0.0, c
            while c < cells.cluster.size and cells.cluster[c] == i:
                if cells.missing[c, k]:
                    n += cells.start[c + 1] - cells.start[c]
                    for j in range(cells.start[c], cells.start[c + 1]):
                        s += V[j, k]
                c += 1
            mean[i, k] = s / n if n else math.nan
            ss = 0.0
            for e in range(first, c):
                if cells.missing[e, k]:
                    for j in range(cells.start[e], cells.start[e + 1]):
                        ss += (V[j, k] - mean[i, k]) ** 2
            sd[i, k] = math.sqrt(ss / (n - 1)) if n > 1 else math.nan

"""Draws of the mean and standard deviation of a cell's missing values, without touching its rows.

In a cell with n rows, response v missing and responses O observed, given beta, B_i and Sigma,

    y_v = D c + e,   D = [X, Z, Y_O],   c = (beta_v - beta_O K_v, B_iv - B_iO K_v, K_v),   e ~ N(0, s I),
    K_v = Sigma_OO^-1 Sigma_Ov,   s = Sigma_vv - Sigma_vO K_v

With G the Gram matrix of D about its means d, w = c'G c, and independent z_1, z_2 ~ N(0, 1), C ~ chi2(n - 2),

    mean(y_v) = d'c + sqrt(s/n) z_1
    sum (y_v - mean)^2 = (sqrt(w) + sqrt(s) z_2)^2 + s C          (zero for n = 1)

because e splits into its mean, its projection on the centred D c, and n - 2 further directions.
The cells of a cluster are combined by the usual formula for pooled sums of squares.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import fill
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.notation import Integer, Matrix, Stack

__all__ = ["IncompleteCells", "draw_imputed_statistics", "incomplete_cells"]


class IncompleteCells(NamedTuple):
    """Cells with missing responses.

    cluster (K,), pattern (K,), rows (K,), root_n_inverse (K,) = 1/sqrt(rows); observed (K, r) bool;
    means (K, p+q+r) of [X, Z, Y]; gram (K, p+q+r, p+q+r) about those means.
    """

    cluster: np.ndarray
    pattern: np.ndarray
    rows: np.ndarray
    root_n_inverse: np.ndarray
    observed: np.ndarray
    means: np.ndarray
    gram: np.ndarray


def incomplete_cells(statistics: SufficientStatistics) -> IncompleteCells:
    """The cells with missing responses, with means and centred cross products of the observed columns."""
    s = statistics
    keep = ~s.patterns[s.cell_pattern].all(1)
    rows, gram = s.cell_rows[keep], s.gram[keep]
    total = gram[:, 0, 1:]
    centred = gram[:, 1:, 1:] - total[:, :, None] * total[:, None, :] / rows[:, None, None]
    return IncompleteCells(
        s.cell_cluster[keep], s.cell_pattern[keep], rows, 1.0 / np.sqrt(rows), s.patterns[s.cell_pattern[keep]],
        total / rows[:, None], centred,
    )  # fmt: skip


@inner
def _coefficients(
    W: Stack, Sigma: Matrix, beta: Matrix, offset: Matrix, q: int, c: Stack, root_s: Matrix
) -> None:
    """c (A, r, p+q+r), sqrt(s) (A, r) <- the parts that do not depend on the cluster: all except Z's part of c."""
    A, r, _ = W.shape
    p = beta.shape[0]
    for a in range(A):
        for v in range(r):
            s = Sigma[v, v]
            for k in range(r):
                K = 0.0  # stays zero if k is not observed, because W then has a row of zeros
                for j in range(r):
                    K += W[a, k, j] * Sigma[j, v]
                c[a, v, p + q + k] = K
                s -= Sigma[v, k] * K
            root_s[a, v] = math.sqrt(max(s, 0.0))  # exactly 0, up to round-off, where v is observed: not used
            for x in range(p):
                c[a, v, x] = beta[x, v] + offset[x, v]
                for k in range(r):
                    c[a, v, x] -= beta[x, k] * c[a, v, p + q + k]


@inner
def _join(
    n: int, new_mean: float, new_squares: float, i: Integer, v: Integer, count: Matrix, mean: Matrix,
    squares: Matrix,
) -> None:  # fmt: skip
    """Update count, mean and sum of squares about it of variable v in cluster i with those of n more values."""
    before, total = count[i, v], count[i, v] + n
    if before == 0.0:
        mean[i, v] = new_mean
        squares[i, v] = new_squares
    else:
        gap = new_mean - mean[i, v]
        squares[i, v] += new_squares + gap * gap * before * n / total
        mean[i, v] += gap * n / total
    count[i, v] = total


@inner
def draw_imputed_statistics(
    rng: np.random.Generator,
    cells: IncompleteCells,
    offset: Matrix,
    W: Stack,
    Sigma: Matrix,
    beta: Matrix,
    B: Stack,
    mean: Matrix,
    sd: Matrix,
) -> None:
    """mean, sd (m, r) <- a draw of the missing values' mean and sd (denominator n - 1); nan where there are none.

    offset (p, r): coefficients on X of the fixed part that was subtracted from the values and is added back here.
    """
    clusters, q, r = B.shape
    p = beta.shape[0]
    d = p + q + r
    c = np.empty((W.shape[0], r, d))
    root_s = np.empty((W.shape[0], r))
    _coefficients(W, Sigma, beta, offset, q, c, root_s)
    fill(mean, math.nan)
    fill(sd, math.nan)
    count = np.zeros((clusters, r))
    squares = np.zeros((clusters, r))
    for cell in range(cells.rows.size):
        i, a, n = cells.cluster[cell], cells.pattern[cell], cells.rows[cell]
        for v in range(r):
            if cells.observed[cell, v]:
                continue
            for l in range(q):
                c[a, v, p + l] = B[i, l, v]
                for k in range(r):
                    c[a, v, p + l] -= B[i, l, k] * c[a, v, p + q + k]
            new_mean = root_s[a, v] * cells.root_n_inverse[cell] * rng.standard_normal()
            for x in range(d):
                new_mean += cells.means[cell, x] * c[a, v, x]
            new_squares = 0.0
            if n > 1:
                w = 0.0  # c'G c
                for x in range(d):
                    half = 0.5 * cells.gram[cell, x, x] * c[a, v, x]
                    for h in range(x):
                        half += cells.gram[cell, x, h] * c[a, v, h]
                    w += 2.0 * c[a, v, x] * half
                # w is a sum of squares; round-off may leave it slightly negative
                root = math.sqrt(max(w, 0.0)) + root_s[a, v] * rng.standard_normal()
                new_squares = root * root
                if n > 2:
                    new_squares += 2.0 * root_s[a, v] ** 2 * rng.standard_gamma(0.5 * (n - 2))
            _join(n, new_mean, new_squares, i, v, count, mean, squares)
    for i in range(clusters):
        for v in range(r):
            if count[i, v] > 1.0:
                sd[i, v] = math.sqrt(squares[i, v] / (count[i, v] - 1.0))

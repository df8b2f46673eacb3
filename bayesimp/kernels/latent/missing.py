"""Draws of the missing cells of all variables, given the parameters and their rows' other values, in data units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.latent.records import NUMBER, THRESHOLD
from bayesimp.kernels.linalg import fill, row_mean
from bayesimp.kernels.normal.complete import conditional
from bayesimp.notation import BoolMatrix, Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentColumns, LatentLevel, LatentRows

__all__ = ["draw_missing_cells"]


@inner
def _level(columns: LatentColumns, k: Integer, cutpoints: Vector, y: Vector) -> Integer:
    """Level of the variable whose first column is k, from its latent values in y (r,)."""
    level: Integer = np.int64(0)
    if columns.kind[k] == THRESHOLD:
        for h in range(columns.cut[k], columns.cut[k + 1]):
            level += y[k] > cutpoints[h]
        return level
    largest = 0.0
    for u in range(columns.width[k]):
        if y[k + u] > largest:
            largest = y[k + u]
            level = np.int64(u + 1)
    return level


@inner
def _complete_row(
    rng: np.random.Generator, rows: LatentRows, observed: BoolMatrix, K: Stack, A: Stack, beta: Matrix, B: Stack,
    Y: Matrix, j: Integer, y: Vector, z: Vector,
) -> None:  # fmt: skip
    """y (r,) <- row j of Y (N, r) with its missing values drawn; K, A (patterns, r, r): kernels/normal/complete.py.

    z (r,) is overwritten.
    """
    a, r = rows.pattern[j], beta.shape[1]
    for k in range(r):  # z holds the mean, then, where y is observed, the residual
        mean = row_mean(rows.X, rows.Z, j, rows.cluster[j], k, beta, B)
        z[k] = Y[j, k] - mean if observed[a, k] else mean
    for k in range(r):
        y[k] = Y[j, k] if observed[a, k] else z[k]
        if not observed[a, k]:
            for l in range(r):
                if observed[a, l]:
                    y[k] += z[l] * K[a, l, k]
    u = 0
    for k in range(r):  # from here on, z holds standard normals
        if not observed[a, k]:
            z[u] = rng.standard_normal()
            for h in range(u + 1):
                y[k] += A[a, u, h] * z[h]
            u += 1


@inner
def draw_missing_cells(
    rng: np.random.Generator, level: LatentLevel, group: IntVector, W: Stack, Sigma: Stack, beta: Matrix, B: Stack,
    cutpoints: Vector, Y: Matrix, out: Vector, mean: Matrix, sd: Matrix,
) -> bool:  # fmt: skip
    """out (c,) <- the imputed cells: numbers in data units, or positions of levels.

    Sigma (G, w, w), group (A,): the covariance of each pattern.

    mean, sd (m, V) <- mean and standard deviation (denominator n - 1) of the imputed cells by cluster and variable, with
    levels replaced by the numbers that represent them; nan where there are none, and sd also where there is only one.
    Returns False if a conditional covariance is not positive definite.
    """
    rows, columns, cells, patterns = level.rows, level.columns, level.cells, level.patterns
    r, V = Sigma.shape[1], cells.column.size
    K, A = np.zeros((patterns.shape[0], r, r)), np.zeros((patterns.shape[0], r, r))
    for a in range(patterns.shape[0]):
        if conditional(W[a], Sigma[group[a]], patterns[a], K[a], A[a]) < 0:
            return False
    fill(mean, math.nan)
    fill(sd, math.nan)
    count = np.zeros((mean.shape[0], V))
    y, z = np.empty(r), np.empty(r)
    for h in range(cells.row.size):
        j, i = cells.row[h], cells.cluster[h]
        _complete_row(rng, rows, patterns, K, A, beta, B, Y, j, y, z)
        for v in range(V):
            if cells.place[h, v] < 0:
                continue
            k = cells.column[v]
            for u in range(columns.width[k]):
                y[k + u] += cells.shift[h, k + u]
            if columns.kind[k] == NUMBER:
                drawn = cells.unit[v] * (y[k] + cells.fixed[h, v])
                number = drawn
            else:
                position = _level(columns, k, cutpoints, y)
                drawn = float(position)
                number = cells.value[cells.start[v] + position]
            out[cells.place[h, v]] = drawn
            _add(number, count, mean, sd, i, v)
    for i in range(mean.shape[0]):
        for v in range(V):
            if count[i, v] > 0.0:
                sd[i, v] = math.sqrt(sd[i, v] / (count[i, v] - 1.0)) if count[i, v] > 1.0 else math.nan
    return True


@inner
def _add(number: float, count: Matrix, mean: Matrix, squares: Matrix, i: Integer, v: Integer) -> None:
    """Update mean and sum of squares about it with one more number (Welford)."""
    if count[i, v] == 0.0:
        mean[i, v], squares[i, v] = 0.0, 0.0
    count[i, v] += 1.0
    before = number - mean[i, v]
    mean[i, v] += before / count[i, v]
    squares[i, v] += before * (number - mean[i, v])

"""Latent variables and rows of the joint model on latent normals, as its kernels read them.

NUMBER      y = y*                                                                 a normal variable
THRESHOLD   y = l  where  c_l-1 < y* <= c_l,  c_-1 = -inf, c_0 = 0, c_K-1 = inf    binary (K = 2) and ordinal
UTILITY     y = the largest of 0, y*_1, .., y*_K-1; 0 the reference level          one column for each further level
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["NUMBER", "THRESHOLD", "UTILITY", "LatentColumns", "LatentRows", "MissingCells"]

NUMBER, THRESHOLD, UTILITY = range(3)


class LatentColumns(NamedTuple):
    """The r latent variables, those of one variable side by side.

    kind (r,): one of the codes; first (r,), width (r,): the columns of the same variable; cut (r + 1,): the cutpoints of
    column k are cutpoints[cut[k] : cut[k + 1]], the first of them 0.
    """

    kind: np.ndarray
    first: np.ndarray
    width: np.ndarray
    cut: np.ndarray


class LatentRows(NamedTuple):
    """The rows of the table, in the sampler's order.

    cluster (N,), pattern (N,); cell (N,): cell of the moments, -1 where nothing is observed; X (N, p), Z (N, q);
    level (N, r): observed level of the variable of a column, -1 where it is missing or a number.
    """

    cluster: np.ndarray
    pattern: np.ndarray
    cell: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    level: np.ndarray


class MissingCells(NamedTuple):
    """What is imputed, by variable v = 1..V, and how it is reported.

    row (R,): rows with something missing; place (R, V): place of the cell among all imputed ones, -1 where it is
    observed; column (V,): first column of each variable; unit (V,), fixed (R, V): a number is unit (y* + fixed);
    value: numbers that stand for levels, of variable v value[start[v] : start[v + 1]]; shift (R, r): added to y*.
    """

    row: np.ndarray
    place: np.ndarray
    column: np.ndarray
    unit: np.ndarray
    fixed: np.ndarray
    value: np.ndarray
    start: np.ndarray
    shift: np.ndarray

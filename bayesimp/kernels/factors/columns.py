"""Columns of design matrices computed row by row from variables that change while a chain runs.

A column is a small program in reverse Polish notation, run on a stack of numbers:

    VARIABLE v     push V_jv, the value of variable v in row j          CONSTANT c     push c
    MEAN e         push M_ie, the mean (or sum) e of the row's cluster
    OPERATORS      replace the top two                                   FUNCTIONS      replace the top one

Comparisons give 1 or 0. A mean over a cluster is itself a program, averaged over the cluster's rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.notation import Integer, IntVector, Matrix, Vector

__all__ = [
    "CONSTANT", "FUNCTIONS", "MEAN", "OPERATORS", "VARIABLE", "Programs", "all_columns", "all_means", "cluster_mean",
    "column",
]  # fmt: skip

VARIABLE, CONSTANT, MEAN = 0, 1, 2
OPERATORS = {
    name: 3 + k for k, name in enumerate(("+", "-", "*", "/", "**", "==", "!=", "<", "<=", ">", ">="))
}
FUNCTIONS = {name: 14 + k for k, name in enumerate(
    ("minus", "log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "abs"))}  # fmt: skip
DEEPEST = 64  # depth of the stack


class Programs(NamedTuple):
    """Programs, concatenated.

    Attributes
    ----------
    code
        (L,) int64: operations.
    argument
        (L,): number of the variable or mean, or the constant; else 0.
    start
        (T + 1,) int64: program t is start[t] .. start[t + 1] - 1.
    """

    code: np.ndarray
    argument: np.ndarray
    start: np.ndarray


@inner
def _function(code: int, x: float) -> float:
    """Apply one of FUNCTIONS."""
    if code == 14:
        return -x
    if code == 15:
        return math.log(x) if x > 0.0 else (-math.inf if x == 0.0 else math.nan)
    if code == 16:
        return math.log1p(x) if x > -1.0 else (-math.inf if x == -1.0 else math.nan)
    if code == 17 or code == 18:
        if not x > 0.0:
            return -math.inf if x == 0.0 else math.nan
        return math.log2(x) if code == 17 else math.log10(x)
    if code == 19:
        return math.exp(x)
    if code == 20:
        return math.expm1(x)
    if code == 21:
        return math.sqrt(x) if x >= 0.0 else math.nan
    return abs(x)


@inner
def _operator(code: int, a: float, b: float) -> float:
    """Apply one of OPERATORS."""
    if code == 3:
        return a + b
    if code == 4:
        return a - b
    if code == 5:
        return a * b
    if code == 6:
        return a / b
    if code == 7:
        if b == 2.0 or b == 3.0:
            return a * a if b == 2.0 else a * a * a
        return a**b
    if code == 8:
        return 1.0 if a == b else 0.0
    if code == 9:
        return 1.0 if a != b else 0.0
    if code == 10:
        return 1.0 if a < b else 0.0
    if code == 11:
        return 1.0 if a <= b else 0.0
    if code == 12:
        return 1.0 if a > b else 0.0
    return 1.0 if a >= b else 0.0


@inner
def column(programs: Programs, t: int, V: Matrix, M: Matrix, j: Integer, i: Integer, stack: Vector) -> float:
    """Column t in row j of cluster i. V (n, v), M (m, e); stack (DEEPEST,): work space."""
    top = -1
    for k in range(programs.start[t], programs.start[t + 1]):
        code = programs.code[k]
        if code <= 2:
            top += 1
            if code == 0:
                stack[top] = V[j, int(programs.argument[k])]
            elif code == 1:
                stack[top] = programs.argument[k]
            else:
                stack[top] = M[i, int(programs.argument[k])]
        elif code < 14:
            top -= 1
            stack[top] = _operator(code, stack[top], stack[top + 1])
        else:
            stack[top] = _function(code, stack[top])
    return stack[0]


@inner
def cluster_mean(
    means: Programs,
    divisor: Matrix,
    e: int,
    V: Matrix,
    M: Matrix,
    start: Integer,
    stop: Integer,
    i: Integer,
    stack: Vector,
) -> float:
    """Mean e of cluster i, whose rows are start .. stop - 1."""
    total = 0.0
    for j in range(start, stop):
        total += column(means, e, V, M, j, i, stack)
    return total / divisor[i, e]


@kernel(nogil=True)
def all_means(means: Programs, divisor: Matrix, V: Matrix, first: IntVector, M: Matrix) -> None:
    """M (m, e) <- all means. divisor (m, e): number of rows, or 1 for a sum; first (m + 1,): where clusters begin."""
    stack = np.empty(DEEPEST)
    for i in range(M.shape[0]):
        for e in range(M.shape[1]):
            M[i, e] = cluster_mean(means, divisor, e, V, M, first[i], first[i + 1], i, stack)


@kernel(nogil=True)
def all_columns(
    programs: Programs, V: Matrix, M: Matrix, cluster: IntVector, rows: IntVector, X: Matrix
) -> None:
    """X (n, T) <- all columns in some rows."""
    stack = np.empty(DEEPEST)
    for j in rows:
        for t in range(X.shape[1]):
            X[j, t] = column(programs, t, V, M, j, cluster[j], stack)

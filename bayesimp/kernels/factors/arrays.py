"""The factors of a joint GLMM, their missing cells and the state of a chain, as the kernels read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.factors.columns import DEEPEST
from bayesimp.kernels.slices import ENTRIES
from bayesimp.notation import Integer

__all__ = ["COUNT", "ENUMERATE", "GAUSSIAN", "SLICE", "Cells", "FactorArrays", "State", "Work", "workspace"]

ENUMERATE, GAUSSIAN, SLICE, COUNT = range(4)  # how a missing cell is drawn (kernels/factors/cells.py)


class FactorArrays(NamedTuple):
    """The K factors, as the kernels read them; T columns, n rows sorted by cluster, m clusters.

    Attributes
    ----------
    family, predictors, fixed
        (K,) code of the family, number r of linear predictors, number p of fixed columns.
    column, coefficient, effect
        (K + 1,) where the columns of a factor begin (fixed ones, then random ones), where its coefficients begin (entry
        c p + t for predictor c), and where its effects begin (entry c q + l).
    variable
        (K,) the variable that is its response.
    center, unit
        (K,) y = (v - center) / unit for numeric variables v.
    level, value
        (K + 1,) where the levels of a factor begin; the numbers that stand for the levels.
    at_cluster
        (K,) whether the response has one value per cluster; then only the first row of each cluster is used.
    trials, offset, used
        (n, K) trials of binomials, else 1; known part of the linear predictors; whether the factor uses the row.
    cluster, first
        (n,) cluster of each row; (m + 1,): the rows of cluster i are first[i] .. first[i + 1] - 1.
    combination
        (n,) row of the effects B in which those of a row of the table are: its cluster, or its combination of groups if
        there are several grouping factors.
    """

    family: np.ndarray
    predictors: np.ndarray
    fixed: np.ndarray
    column: np.ndarray
    coefficient: np.ndarray
    effect: np.ndarray
    variable: np.ndarray
    center: np.ndarray
    unit: np.ndarray
    level: np.ndarray
    value: np.ndarray
    at_cluster: np.ndarray
    trials: np.ndarray
    offset: np.ndarray
    used: np.ndarray
    cluster: np.ndarray
    first: np.ndarray
    combination: np.ndarray


class Cells(NamedTuple):
    """Missing cells, and where their variables appear.

    Attributes
    ----------
    start, row
        (K + 1,), (C,) the rows of the missing cells of factor k are row[start[k]] .. ; for a variable with one value per
        cluster, the first row of the cluster.
    lower, upper
        (C,) limits of censored values, in units of the data; infinite if there is no limit.
    kind
        (K,) how the cells are drawn.
    child, of, wide, linear
        (K + 1,), (A,), (A,), (A,) children of factor k: of[child[k]] ..; whether y_k enters through a mean over the
        cluster; whether all columns are linear in y_k.
    active
        (A, T) whether a column depends on y_k.
    mean, mean_of
        (K + 1,), (.,) means over clusters that depend on y_k.
    """

    start: np.ndarray
    row: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    kind: np.ndarray
    child: np.ndarray
    of: np.ndarray
    wide: np.ndarray
    linear: np.ndarray
    active: np.ndarray
    mean: np.ndarray
    mean_of: np.ndarray


class State(NamedTuple):
    """The state of a chain.

    Attributes
    ----------
    V, Y
        (n, v) variables in the form that formulas use; (n, K) responses in the form that their models use.
    M, X
        (m, e) means over clusters; (n, T) columns.
    beta, B
        Coefficients, and effects (m, d), on the scale of the columns X and the responses Y: by cluster, or the sums of
        those of all grouping factors by combination of groups.
    shape
        (K,) residual standard deviation of normal responses, or the shape of families with one.
    cuts
        (K, c) cutpoints of ordinal responses.
    """

    V: np.ndarray
    Y: np.ndarray
    M: np.ndarray
    X: np.ndarray
    beta: np.ndarray
    B: np.ndarray
    shape: np.ndarray
    cuts: np.ndarray


class Work(NamedTuple):
    """Work space of `draw_cells`; a = 0, 1, .. counts the children of one factor.

    rest (a, rows of a cluster, r): linear predictors without the columns that depend on the cell; center (a, rows): with
    these columns, at one value of the cell (in kernels/factors/linear.py, [a, 0] is 1 / sd^2 of the child).
    column (a, t): these columns, of which there are active (a,). eta, own (r,): predictors of a child, and of the cell's
    own factor.
    search (ENTRIES + 1,), weight (levels,): see `next_place`. proposal (missing cells of the factor,): see
    `propose_counts`.
    """

    rest: np.ndarray
    center: np.ndarray
    column: np.ndarray
    active: np.ndarray
    eta: np.ndarray
    own: np.ndarray
    stack: np.ndarray
    search: np.ndarray
    weight: np.ndarray
    proposal: np.ndarray


def workspace(arrays: FactorArrays, cells: Cells, k: Integer) -> Work:
    """Work space for the missing cells of factor k."""
    rows, most, active = 1, 1, 1
    for i in range(arrays.first.size - 1):
        rows = max(rows, arrays.first[i + 1] - arrays.first[i])
    for l in range(arrays.family.size):
        most = max(most, arrays.predictors[l])
        active = max(active, arrays.column[l + 1] - arrays.column[l])
    levels = max(1, arrays.level[k + 1] - arrays.level[k])
    for c in range(cells.start[k], cells.start[k + 1]):
        levels = max(levels, int(arrays.trials[cells.row[c], k]) + 1)
    children = cells.child[k + 1] - cells.child[k]
    return Work(
        np.empty((children, rows, most)), np.empty((children, rows)),
        np.empty((children, active), dtype=np.int64), np.empty(children, dtype=np.int64), np.empty(most),
        np.empty(most), np.empty(DEEPEST), np.empty(ENTRIES + 1), np.empty(levels),
        np.empty(cells.start[k + 1] - cells.start[k]),
    )  # fmt: skip

"""Missing values of a normal variable whose children are normal and linear in it, each in its own row only.

With y the present value of the cell in row j, every child l has a linear predictor eta_l + s_l (y' - y) at another value
y', so the conditional distribution in kernels/factors/cells.py is normal with

    precision   1 / sd_k^2 + sum_l s_l^2 / sd_l^2
    mean        eta_k + sum_l s_l (y_l - eta_l - s_l (eta_k - y)) / sd_l^2  / precision

truncated at the limits of a censored value. The columns are evaluated twice: at y + 1, which gives s_l, and at the drawn
value. Cells whose variable enters a cluster mean, or has one value per cluster, are drawn by `draw_each_cell`.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import kernel, merged
from bayesimp.kernels.draws import truncated_normal
from bayesimp.kernels.factors.arrays import Cells, FactorArrays, State, Work
from bayesimp.kernels.factors.columns import OPERATORS, VARIABLE, Programs, column
from bayesimp.notation import Integer

__all__ = ["draw_linear_cells"]

PRODUCT = OPERATORS["*"]


@merged
def _column(programs: Programs, state: State, t: int, j: Integer, i: Integer, work: Work) -> float:
    """Column t in row j of cluster i; most columns are a variable or a product of two, which need no stack."""
    first = programs.start[t]
    length = programs.start[t + 1] - first
    if length == 1 and programs.code[first] == VARIABLE:
        return state.V[j, int(programs.argument[first])]
    if (
        length == 3
        and programs.code[first] == VARIABLE
        and programs.code[first + 1] == VARIABLE
        and programs.code[first + 2] == PRODUCT
    ):
        return state.V[j, int(programs.argument[first])] * state.V[j, int(programs.argument[first + 1])]
    return column(programs, t, state.V, state.M, j, i, work.stack)


@merged
def _predictor(arrays: FactorArrays, state: State, l: Integer, j: Integer) -> float:
    """Linear predictor of factor l, which has one, in row j."""
    first, random, stop = arrays.column[l], arrays.column[l] + arrays.fixed[l], arrays.column[l + 1]
    beta, effect, eta = arrays.coefficient[l] - first, arrays.effect[l] - random, arrays.offset[j, l]
    i = arrays.combination[j]
    for t in range(first, random):
        eta += state.X[j, t] * state.beta[beta + t]
    for t in range(random, stop):
        eta += state.X[j, t] * state.B[i, effect + t]
    return eta


@merged
def _slope(
    arrays: FactorArrays,
    state: State,
    programs: Programs,
    work: Work,
    a: Integer,
    l: Integer,
    j: Integer,
    i: Integer,
) -> float:
    """Change of the linear predictor of child a, factor l, from the columns in X to those at the values in V."""
    first, random, combination = arrays.column[l], arrays.column[l] + arrays.fixed[l], arrays.combination[j]
    beta, effect, slope = arrays.coefficient[l] - first, arrays.effect[l] - random, 0.0
    for e in range(work.active[a]):
        t = work.column[a, e]
        change = _column(programs, state, t, j, i, work) - state.X[j, t]
        slope += change * (state.beta[beta + t] if t < random else state.B[combination, effect + t])
    return slope


@kernel(nogil=True, _nrt=False)
def draw_linear_cells(
    rng: np.random.Generator,
    k: Integer,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    state: State,
    work: Work,
) -> int:
    """Draw all missing cells of the variable of factor k, and update V, Y and X of `state`.

    Returns the number of cells for which no finite value can be drawn; these keep their values.
    """
    children, variable, failed = cells.child[k + 1] - cells.child[k], arrays.variable[k], 0
    center, unit, own = arrays.center[k], arrays.unit[k], 1.0 / state.shape[k] ** 2
    for a in range(children):
        child = cells.child[k] + a
        l, count = cells.of[child], 0
        for t in range(arrays.column[l], arrays.column[l + 1]):
            if cells.active[child, t]:
                work.column[a, count] = t
                count += 1
        work.active[a], work.center[a, 0] = count, 1.0 / (state.shape[l] * state.shape[l])  # 1 / sd_l^2
    for c in range(cells.start[k], cells.start[k + 1]):
        j = cells.row[c]
        i = arrays.cluster[j]
        y, eta = state.Y[j, k], _predictor(arrays, state, k, j)
        precision, pull = own, 0.0
        state.V[j, variable] = center + unit * (y + 1.0)
        for a in range(children):
            l = cells.of[cells.child[k] + a]
            if arrays.used[j, l]:
                slope = _slope(arrays, state, programs, work, a, l, j, i)
                rest = state.Y[j, l] - _predictor(arrays, state, l, j) - slope * (eta - y)
                weight = work.center[a, 0]
                precision += slope * slope * weight
                pull += slope * rest * weight
        mean, lower, upper = eta + pull / precision, cells.lower[c], cells.upper[c]
        if lower == -math.inf and upper == math.inf:
            drawn = mean + rng.standard_normal() / math.sqrt(precision)
        else:
            drawn = truncated_normal(
                rng, mean, 1.0 / math.sqrt(precision), (lower - center) / unit, (upper - center) / unit
            )
        if not abs(drawn) < math.inf:
            failed += 1
            drawn = y
        state.Y[j, k] = drawn
        state.V[j, variable] = center + unit * drawn
        for a in range(children):
            for e in range(work.active[a]):
                t = work.column[a, e]
                state.X[j, t] = _column(programs, state, t, j, i, work)
    return failed

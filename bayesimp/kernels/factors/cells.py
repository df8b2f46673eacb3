"""Missing values of one variable of a joint GLMM, each from its conditional distribution given everything else.

Each factor k = 1..K is a multilevel GLMM of variable y_k given the variables before it (models/joint_glmm.py). Let l run
over the children of k, the factors in whose columns y_k appears; then for a missing cell in row j of cluster i

    p(y_kj | .)  ~  p_k(y_kj | eta_kj)  prod_l prod_{j' in S_l} p_l(y_lj' | eta_lj'(y_kj))

S_l is row j alone, or all rows of the cluster if y_k enters factor l through a cluster mean or has one value per
cluster. How the cell is drawn depends on the family:

    ENUMERATE   levels, and successes out of trials: every value is weighted by its probability
    GAUSSIAN    normal, with every child normal and linear in y_k: exactly normal, with
                    precision  1 / sd_k^2 + sum (d eta_l / d y)^2 / sd_l^2
                    mean       eta_kj + sum (d eta_l / d y) (y_l - eta_l(eta_kj)) / sd_l^2  / precision
                truncated at the limits of a censored value
    SLICE       other numbers: slice sampling (Neal 2003), on the log scale if they are positive, on the logit scale if
                they are proportions
    COUNT       unbounded counts: slice sampling on whole numbers; those with extra zeros, which may have a mode at zero
                and one far away, are first proposed from p_k(y | eta_k) and accepted by the likelihood of the children

A censored value has this conditional distribution between its limits, and no density beyond them. All these draws
leave the distribution invariant; nothing is approximated or tuned.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import kernel, merged
from bayesimp.kernels.draws import truncated_normal
from bayesimp.kernels.factors.arrays import COUNT, GAUSSIAN, SLICE, Cells, FactorArrays, State, Work
from bayesimp.kernels.factors.columns import Programs, cluster_mean, column
from bayesimp.kernels.factors.density import log_density
from bayesimp.kernels.factors.linear import draw_linear_cells
from bayesimp.kernels.factors.search import (
    DONE,
    PHASE,
    first_place,
    log_jacobian,
    next_place,
    response_at,
    search_scale,
    slice_width,
)
from bayesimp.kernels.families.mixtures import has_extra_zeros, propose_count
from bayesimp.notation import Integer, Matrix, Vector

__all__ = ["NONE", "child_density", "coefficient", "draw_cells", "draw_each_cell", "formula_value", "linear_predictors",
           "propose_counts", "set_columns", "set_rest"]  # fmt: skip

NONE = np.int64(-1)  # no child


@merged
def coefficient(arrays: FactorArrays, state: State, l: Integer, c: int, t: int, j: Integer) -> float:
    """Coefficient of column t, counted within factor l, in predictor c of row j."""
    p = arrays.fixed[l]
    if t < p:
        return state.beta[arrays.coefficient[l] + c * p + t]
    q = arrays.column[l + 1] - arrays.column[l] - p
    return state.B[arrays.combination[j], arrays.effect[l] + c * q + t - p]


@merged
def linear_predictors(arrays: FactorArrays, state: State, l: Integer, j: Integer, eta: Vector) -> None:
    """eta (r,) <- linear predictors of factor l in row j."""
    first = arrays.column[l]
    for c in range(arrays.predictors[l]):
        s = arrays.offset[j, l]
        for t in range(arrays.column[l + 1] - first):
            s += state.X[j, first + t] * coefficient(arrays, state, l, c, t, j)
        eta[c] = s


@merged
def _scope(
    arrays: FactorArrays, cells: Cells, child: int, k: Integer, j: Integer, i: Integer, whole: bool
) -> tuple[Integer, Integer]:
    """The first row in which a child is evaluated, and the row after the last: row j alone, or the whole cluster."""
    if whole or cells.wide[child] or arrays.at_cluster[k]:
        return arrays.first[i], arrays.first[i + 1]
    return j, j + 1


@merged
def set_rest(
    arrays: FactorArrays,
    cells: Cells,
    state: State,
    k: Integer,
    j: Integer,
    i: Integer,
    whole: bool,
    work: Work,
) -> None:
    """Fill the work space: columns of the children that depend on the cell, and predictors without them.

    `whole`: include all rows of the cluster, whatever the children need.
    """
    for a in range(cells.child[k + 1] - cells.child[k]):
        child = cells.child[k] + a
        l = cells.of[child]
        first, r = arrays.column[l], arrays.predictors[l]
        count = 0
        for t in range(arrays.column[l + 1] - first):
            if cells.active[child, first + t]:
                work.column[a, count] = first + t
                count += 1
        work.active[a] = count
        start, stop = _scope(arrays, cells, child, k, j, i, whole)
        for at in range(start, stop):
            linear_predictors(arrays, state, l, at, work.eta)
            for c in range(r):
                s = work.eta[c]
                for t in range(count):
                    own = work.column[a, t] - first
                    s -= state.X[at, first + own] * coefficient(arrays, state, l, c, own, at)
                work.rest[a, at - start, c] = s


@merged
def formula_value(arrays: FactorArrays, k: Integer, y: float) -> float:
    """The number that formulas use where the model of factor k has y: that of the level, or c + s y."""
    if arrays.level[k + 1] > arrays.level[k]:
        return arrays.value[arrays.level[k] + int(y)]
    return arrays.center[k] + arrays.unit[k] * y


@merged
def _put(
    arrays: FactorArrays,
    cells: Cells,
    state: State,
    means: Programs,
    divisor: Matrix,
    k: Integer,
    j: Integer,
    i: Integer,
    y: float,
    stack: Vector,
) -> None:
    """Set the cell to y, and update the means over its cluster."""
    v = formula_value(arrays, k, y)
    variable = arrays.variable[k]
    if arrays.at_cluster[k]:
        for at in range(arrays.first[i], arrays.first[i + 1]):
            state.V[at, variable] = v
    else:
        state.V[j, variable] = v
    for e in range(cells.mean[k], cells.mean[k + 1]):
        mean = cells.mean_of[e]
        state.M[i, mean] = cluster_mean(
            means, divisor, mean, state.V, state.M, arrays.first[i], arrays.first[i + 1], i, stack
        )


@merged
def child_density(
    arrays: FactorArrays,
    cells: Cells,
    state: State,
    programs: Programs,
    k: Integer,
    j: Integer,
    i: Integer,
    whole: bool,
    work: Work,
    without: Integer,
) -> float:
    """sum_l sum_j' log p_l(y_lj' | eta_lj') at the cell's present value; `without`: a child to leave out, or NONE."""
    total = 0.0
    for a in range(cells.child[k + 1] - cells.child[k]):
        if a == without:
            continue
        child = cells.child[k] + a
        l = cells.of[child]
        family, r, shape = arrays.family[l], arrays.predictors[l], state.shape[l]
        first, last = arrays.column[l], arrays.level[l + 1] - arrays.level[l] - 1
        start, stop = _scope(arrays, cells, child, k, j, i, whole)
        for at in range(start, stop):
            if not arrays.used[at, l]:
                continue
            for c in range(r):
                work.eta[c] = work.rest[a, at - start, c]
            for t in range(work.active[a]):
                x = column(programs, work.column[a, t], state.V, state.M, at, i, work.stack)
                for c in range(r):
                    work.eta[c] += x * coefficient(arrays, state, l, c, work.column[a, t] - first, at)
            total += log_density(
                family, state.Y[at, l], arrays.trials[at, l], work.eta, r, shape, state.cuts, l, last, False
            )
    return total


@merged
def set_columns(
    arrays: FactorArrays,
    cells: Cells,
    state: State,
    programs: Programs,
    k: Integer,
    j: Integer,
    i: Integer,
    whole: bool,
    work: Work,
) -> None:
    """Update the columns that depend on the cell."""
    for a in range(cells.child[k + 1] - cells.child[k]):
        start, stop = _scope(arrays, cells, cells.child[k] + a, k, j, i, whole)
        for t in range(work.active[a]):
            for at in range(start, stop):
                state.X[at, work.column[a, t]] = column(
                    programs, work.column[a, t], state.V, state.M, at, i, work.stack
                )


@merged
def _draw_normal(
    rng: np.random.Generator,
    arrays: FactorArrays,
    cells: Cells,
    state: State,
    programs: Programs,
    means: Programs,
    divisor: Matrix,
    k: Integer,
    j: Integer,
    i: Integer,
    lower: float,
    upper: float,
    work: Work,
) -> float:
    """GAUSSIAN: the children's predictors at y = eta_kj and one unit above give their slopes."""
    precision, pull = 1.0 / state.shape[k] ** 2, 0.0
    for side in range(2):
        _put(arrays, cells, state, means, divisor, k, j, i, work.own[0] + side, work.stack)
        for a in range(cells.child[k + 1] - cells.child[k]):
            child = cells.child[k] + a
            l = cells.of[child]
            first = arrays.column[l]
            start, stop = _scope(arrays, cells, child, k, j, i, False)
            for at in range(start, stop):
                if not arrays.used[at, l]:
                    continue
                eta = work.rest[a, at - start, 0]
                for t in range(work.active[a]):
                    x = column(programs, work.column[a, t], state.V, state.M, at, i, work.stack)
                    eta += x * coefficient(arrays, state, l, 0, work.column[a, t] - first, at)
                if side == 0:
                    work.center[a, at - start] = eta
                    continue
                slope = (eta - work.center[a, at - start]) / state.shape[l]
                precision += slope * slope
                pull += slope * (state.Y[at, l] - work.center[a, at - start]) / state.shape[l]
    mean = work.own[0] + pull / precision
    if lower == -math.inf and upper == math.inf:
        return mean + rng.standard_normal() / math.sqrt(precision)
    return truncated_normal(rng, mean, 1.0 / math.sqrt(precision), lower, upper)


@kernel(nogil=True)
def propose_counts(
    rng: np.random.Generator, k: Integer, arrays: FactorArrays, cells: Cells, state: State, work: Work
) -> None:
    """work.proposal <- a draw of p_k(y | eta_k) for each missing cell of a factor with extra zeros, before `draw_cells`.

    No cell of a variable changes its own predictors. Drawn here because Poisson draws make numba count references, which
    `draw_each_cell` must not.
    """
    for c in range(cells.start[k], cells.start[k + 1]):
        j = cells.row[c]
        linear_predictors(arrays, state, k, j, work.own)
        work.proposal[c - cells.start[k]] = propose_count(
            rng, arrays.family[k], work.own[0], state.shape[k], state.cuts[k, 0]
        )


def draw_cells(
    rng: np.random.Generator,
    k: Integer,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    means: Programs,
    divisor: Matrix,
    state: State,
    work: Work,
) -> int:
    """Draw all missing cells of the variable of factor k: see `draw_each_cell`.

    Where they are normal, and each concerns its own row alone, by the faster kernel of kernels/factors/linear.py.
    """
    wide = arrays.at_cluster[k] or cells.wide[cells.child[k] : cells.child[k + 1]].any()
    if cells.kind[k] == GAUSSIAN and not wide and cells.mean[k] == cells.mean[k + 1]:
        return draw_linear_cells(rng, k, arrays, cells, programs, state, work)
    return draw_each_cell(rng, k, arrays, cells, programs, means, divisor, state, work)


@kernel(nogil=True, _nrt=False)
def draw_each_cell(
    rng: np.random.Generator,
    k: Integer,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    means: Programs,
    divisor: Matrix,
    state: State,
    work: Work,
) -> int:
    """Draw all missing cells of the variable of factor k, one after the other, and update V, Y, M and X of `state`.

    divisor (m, e): see kernels/factors/columns.py. Returns the number of cells for which no finite value can be drawn;
    these keep their values.

    Nothing is allocated here, so that numba need not count references (``_nrt``), which would take nine tenths of the
    time in these loops over single rows.
    """
    kind, family, shape, r = cells.kind[k], arrays.family[k], state.shape[k], arrays.predictors[k]
    scale = search_scale(family) if kind == SLICE else 0
    last = arrays.level[k + 1] - arrays.level[k] - 1
    failed, inflated = 0, has_extra_zeros(family)
    for c in range(cells.start[k], cells.start[k + 1]):
        j = cells.row[c]
        i = arrays.cluster[j]
        linear_predictors(arrays, state, k, j, work.own)
        set_rest(arrays, cells, state, k, j, i, False, work)
        count = last + 1 if last >= 0 else int(arrays.trials[j, k]) + 1
        width = slice_width(family, shape, work.own[0])
        at = first_place(rng, kind, state.Y[j, k], width, scale, count, work.search)
        before, jump, likelihood = state.Y[j, k], 1 if inflated else 0, 0.0
        lower = (cells.lower[c] - arrays.center[k]) / arrays.unit[k]
        upper = (cells.upper[c] - arrays.center[k]) / arrays.unit[k]
        if kind == GAUSSIAN:
            at = _draw_normal(
                rng, arrays, cells, state, programs, means, divisor, k, j, i, lower, upper, work
            )
            work.search[PHASE] = DONE
        while True:
            y = math.floor(at) if kind == COUNT else response_at(scale, at)
            if work.search[PHASE] == DONE and not abs(y) < math.inf:
                failed += 1
                y = before
            value = -math.inf
            possible = (y >= 0.0 or kind != COUNT) and lower <= y and y <= upper
            if possible or work.search[PHASE] == DONE:
                _put(arrays, cells, state, means, divisor, k, j, i, y, work.stack)
                if work.search[PHASE] == DONE:
                    break
                of_children = child_density(arrays, cells, state, programs, k, j, i, False, work, NONE)
                value = of_children + log_density(
                    family, y, arrays.trials[j, k], work.own, r, shape, state.cuts, k, last, True
                )
                value += log_jacobian(scale, at)
                if not value == value:
                    value = -math.inf
                if jump == 1:
                    likelihood, jump = of_children, 2
                    proposed = work.proposal[c - cells.start[k]]
                    if proposed >= 0.0:
                        at = proposed + rng.random()
                        continue
                elif jump == 2:
                    jump = 3
                    y = y if math.log(rng.random()) < of_children - likelihood else before
                    at = first_place(rng, kind, y, width, scale, count, work.search)
                    continue
            at = next_place(rng, kind, at, value, work.search, work.weight)
        if arrays.at_cluster[k]:
            for row in range(arrays.first[i], arrays.first[i + 1]):
                state.Y[row, k] = y
        else:
            state.Y[j, k] = y
        set_columns(arrays, cells, state, programs, k, j, i, False, work)
    return failed

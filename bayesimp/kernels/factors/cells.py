"""Missing values of one variable of a joint GLMM, each from its conditional distribution given everything else.

Factors k = 1..K, each a multilevel GLMM of variable y_k given variables before it (models/joint_glmm.py). Let l run over
the children of k, the factors in whose columns y_k appears; then for a missing cell of row j, cluster i

    p(y_kj | .)  ~  p_k(y_kj | eta_kj)  prod_l prod_{j' in S_l} p_l(y_lj' | eta_lj'(y_kj))

S_l is the row j alone, or all rows of the cluster where y_k enters factor l through a cluster mean, or where y_k has one
value in a cluster. How it is drawn depends on the family:

    ENUMERATE   levels, and successes out of trials: all values are weighed
    GAUSSIAN    normal, every child normal and linear in y_k: exactly normal, so that three values of its log density,
                at eta_kj and one sd_k below and above, give mean and variance
    SLICE       other numbers, on the log scale if they are positive: slice sampling (Neal 2003)
    COUNT       unbounded counts: slice sampling on whole numbers

All leave the conditional distribution invariant; nothing is approximated or tuned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel, merged
from bayesimp.kernels.factors.columns import DEEPEST, Programs, cluster_mean, column
from bayesimp.kernels.factors.density import log_density
from bayesimp.kernels.families.codes import GAMMA, INVERSE_GAUSSIAN, NEGATIVE_BINOMIAL

__all__ = [
    "COUNT",
    "ENUMERATE",
    "GAUSSIAN",
    "SLICE",
    "Cells",
    "FactorArrays",
    "State",
    "Work",
    "draw_cells",
    "workspace",
]

ENUMERATE, GAUSSIAN, SLICE, COUNT = range(4)
STEPS = 50  # of a slice outwards, at most


class FactorArrays(NamedTuple):
    """What K factors are, as the kernels read them; T columns, n rows sorted by cluster, m clusters.

    Attributes
    ----------
    family, predictors, fixed
        (K,) code, number r of linear predictors, number p of fixed columns.
    column, coefficient, effect
        (K + 1,) where the columns of a factor begin (fixed ones, then random ones), its coefficients (entry c p + t of
        predictor c), and its effects (entry c q + l).
    variable
        (K,) the variable that is its response.
    center, unit
        (K,) y = (v - center) / unit for numbers v.
    level, value
        (K + 1,) where its levels begin, and the numbers that stand for them.
    at_cluster
        (K,) whether the response has one value in a cluster; then only the first row of each cluster is used.
    trials, offset, used
        (n, K) trials of binomials, else 1; known part of the linear predictors; whether the row counts in the factor.
    cluster, first
        (n,) cluster of each row; (m + 1,) rows of cluster i are first[i] .. first[i + 1] - 1.
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


class Cells(NamedTuple):
    """Missing cells, and where their variables appear.

    Attributes
    ----------
    start, row
        (K + 1,), (C,) the rows of the missing cells of factor k are row[start[k]] .. ; of a variable with one value in a
        cluster the first row of the cluster.
    kind
        (K,) how they are drawn.
    child, of, wide
        (K + 1,), (A,), (A,) children of factor k: of[child[k]] ..; whether y_k enters through a mean over the cluster.
    active
        (A, T) whether a column depends on y_k.
    mean, mean_of
        (K + 1,), (.,) means over clusters that depend on y_k.
    """

    start: np.ndarray
    row: np.ndarray
    kind: np.ndarray
    child: np.ndarray
    of: np.ndarray
    wide: np.ndarray
    active: np.ndarray
    mean: np.ndarray
    mean_of: np.ndarray


class State(NamedTuple):
    """What a chain has.

    Attributes
    ----------
    V, Y
        (n, v) variables as formulas compute with them; (n, K) responses as their models see them.
    M, X
        (m, e) means over clusters; (n, T) columns.
    beta, B
        Coefficients, and effects (m, d), of the columns X and of responses Y.
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
    """Work space of `draw_cells`, a = 0, 1, .. counting the children of one factor.

    rest (a, rows of a cluster, r): linear predictors without the columns that depend on the cell; coefficient (a, t, r)
    and column (a, t): of those that do, count (a,) of them. eta, own (r,): of a child, and of the cell's own factor.
    search (8,), weight (levels,): see `_next`.
    """

    rest: np.ndarray
    coefficient: np.ndarray
    column: np.ndarray
    count: np.ndarray
    eta: np.ndarray
    own: np.ndarray
    stack: np.ndarray
    search: np.ndarray
    weight: np.ndarray


@merged
def _coefficient(arrays, state, l, c, t, i):
    """Coefficient of column t, counted within factor l, in predictor c."""
    p = arrays.fixed[l]
    if t < p:
        return state.beta[arrays.coefficient[l] + c * p + t]
    q = arrays.column[l + 1] - arrays.column[l] - p
    return state.B[i, arrays.effect[l] + c * q + t - p]


@merged
def linear_predictors(arrays, state, l, j, i, eta):
    """eta (r,) <- linear predictors of factor l in row j."""
    first = arrays.column[l]
    for c in range(arrays.predictors[l]):
        s = arrays.offset[j, l]
        for t in range(arrays.column[l + 1] - first):
            s += state.X[j, first + t] * _coefficient(arrays, state, l, c, t, i)
        eta[c] = s


@merged
def _scope(arrays, cells, child, k, j, i, whole):
    """The first row in which a child is evaluated, and the one after the last: the row j, or all rows of the cluster."""
    if whole or cells.wide[child] or arrays.at_cluster[k]:
        return arrays.first[i], arrays.first[i + 1]
    return j, j + 1


@merged
def set_rest(arrays, cells, state, k, j, i, whole, work):
    """The work space: columns of the children that depend on the cell, and predictors without them.

    `whole`: for all rows of the cluster, whatever the children.
    """
    for a in range(cells.child[k + 1] - cells.child[k]):
        child = cells.child[k] + a
        l = cells.of[child]
        first, r = arrays.column[l], arrays.predictors[l]
        count = 0
        for t in range(arrays.column[l + 1] - first):
            if cells.active[child, first + t]:
                work.column[a, count] = first + t
                for c in range(r):
                    work.coefficient[a, count, c] = _coefficient(arrays, state, l, c, t, i)
                count += 1
        work.count[a] = count
        start, stop = _scope(arrays, cells, child, k, j, i, whole)
        for at in range(start, stop):
            linear_predictors(arrays, state, l, at, i, work.eta)
            for c in range(r):
                s = work.eta[c]
                for t in range(count):
                    s -= state.X[at, work.column[a, t]] * work.coefficient[a, t, c]
                work.rest[a, at - start, c] = s


@merged
def _put(arrays, cells, state, means, divisor, k, j, i, y, stack):
    """The cell gets the value y, and means over its cluster follow."""
    v = arrays.center[k] + arrays.unit[k] * y
    if arrays.level[k + 1] > arrays.level[k]:
        v = arrays.value[arrays.level[k] + int(y)]
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
def child_density(arrays, cells, state, programs, k, j, i, whole, work):
    """sum_l sum_j' log p_l(y_lj' | eta_lj') at the present value of the cell."""
    total = 0.0
    for a in range(cells.child[k + 1] - cells.child[k]):
        child = cells.child[k] + a
        l = cells.of[child]
        family, r, shape = arrays.family[l], arrays.predictors[l], state.shape[l]
        last = arrays.level[l + 1] - arrays.level[l] - 1
        start, stop = _scope(arrays, cells, child, k, j, i, whole)
        for at in range(start, stop):
            if not arrays.used[at, l]:
                continue
            for c in range(r):
                work.eta[c] = work.rest[a, at - start, c]
            for t in range(work.count[a]):
                x = column(programs, work.column[a, t], state.V, state.M, at, i, work.stack)
                for c in range(r):
                    work.eta[c] += x * work.coefficient[a, t, c]
            total += log_density(
                family, state.Y[at, l], arrays.trials[at, l], work.eta, r, shape, state.cuts, l, last, False
            )
    return total


@merged
def set_columns(arrays, cells, state, programs, k, j, i, whole, work):
    """Columns that depend on the cell follow it."""
    for a in range(cells.child[k + 1] - cells.child[k]):
        start, stop = _scope(arrays, cells, cells.child[k] + a, k, j, i, whole)
        for t in range(work.count[a]):
            for at in range(start, stop):
                state.X[at, work.column[a, t]] = column(
                    programs, work.column[a, t], state.V, state.M, at, i, work.stack
                )


@inner
def _width(family, shape, eta):
    """About two standard deviations of a cell given its own factor alone."""
    if family < 0:
        return 2.0 * shape
    if family == GAMMA or family == INVERSE_GAUSSIAN:
        return 2.0 / math.sqrt(shape) if shape > 0.25 else 4.0
    mean = math.exp(min(eta, 30.0))
    return 2.0 + 2.0 * math.sqrt(mean + (mean * mean / shape if family == NEGATIVE_BINOMIAL else 0.0))


# `search`: phase, and numbers of it. The target is evaluated at one place in the code, whatever is drawn: `_first` says
# where to begin, and `_next` takes the value found and says where to evaluate it next, or that the draw is done.
DONE, FIRST, DOWN, UP, SHRINK = -1.0, 0.0, 1.0, 2.0, 3.0
PHASE, HEIGHT, LOW, HIGH, LEFT, RIGHT, NOW, COUNT_OF = range(8)


@inner
def _first(rng, kind, y, center, width, positive, count, search):
    """Where the target is evaluated first: on the scale of the search, logarithms of positive numbers."""
    search[PHASE] = FIRST
    search[COUNT_OF] = count
    if kind == ENUMERATE:
        search[NOW] = 0.0
    elif kind == GAUSSIAN:
        search[NOW] = center
        search[LOW] = width
    else:
        search[NOW] = y + rng.random() if kind == COUNT else (math.log(y) if positive else y)
        search[LOW] = search[NOW] - width * rng.random()
        search[HIGH] = search[LOW] + width
        search[LEFT] = math.floor(STEPS * rng.random())
        search[RIGHT] = STEPS - 1.0 - search[LEFT]
    return search[NOW]


@inner
def _next(rng, kind, at, value, width, search, weight):
    """The next place, after the target had `value` at the place `at`; the draw itself once search[PHASE] is DONE."""
    if kind == ENUMERATE:
        return _next_level(rng, at, value, search, weight)
    if kind == GAUSSIAN:
        return _next_of_three(rng, value, search, weight)
    phase = search[PHASE]
    if phase == FIRST:
        search[HEIGHT] = value - rng.standard_exponential()
        search[PHASE] = DOWN
        return search[LOW]
    outside = value > search[HEIGHT]
    if phase == DOWN:
        if outside and search[LEFT] > 0.0:
            search[LOW] -= width
            search[LEFT] -= 1.0
            return search[LOW]
        search[PHASE] = UP
        return search[HIGH]
    if phase == UP:
        if outside and search[RIGHT] > 0.0:
            search[HIGH] += width
            search[RIGHT] -= 1.0
            return search[HIGH]
        search[PHASE] = SHRINK
    elif value >= search[HEIGHT]:
        search[PHASE] = DONE
        return at
    elif search[HIGH] - search[LOW] < 1e-12 * (1.0 + abs(search[NOW])):
        search[PHASE] = DONE
        return search[NOW]
    else:
        search[LOW if at < search[NOW] else HIGH] = at
    return search[LOW] + (search[HIGH] - search[LOW]) * rng.random()


@inner
def _next_level(rng, at, value, search, weight):
    """Levels 0, 1, .. one after the other, and then one of them with its probability; nan where none has any."""
    count = int(search[COUNT_OF])
    level = int(at)
    weight[level] = value
    if level + 1 < count:
        return at + 1.0
    search[PHASE] = DONE
    highest, total = -math.inf, 0.0
    for y in range(count):
        highest = max(highest, weight[y])
    if not abs(highest) < math.inf:
        return math.nan
    for y in range(count):
        weight[y] = math.exp(weight[y] - highest)
        total += weight[y]
    u = rng.random() * total
    for y in range(count):
        u -= weight[y]
        if u < 0.0:
            return float(y)
    return at


@inner
def _next_of_three(rng, value, search, weight):
    """A normal draw from values f0, f-, f+ of a quadratic log density: precision -(f+ - 2 f0 + f-) / h^2."""
    phase, h = int(search[PHASE]), search[LOW]
    weight[phase] = value
    search[PHASE] = phase + 1.0
    if phase < 2:
        return search[NOW] + (h if phase == 1 else -h)
    search[PHASE] = DONE
    precision = (2.0 * weight[0] - weight[1] - weight[2]) / (h * h)
    slope = (weight[2] - weight[1]) / (2.0 * h)
    return search[NOW] + slope / precision + rng.standard_normal() / math.sqrt(precision)


def workspace(arrays, cells, k):
    rows, most, active = 1, 1, 1
    for i in range(arrays.first.size - 1):
        rows = max(rows, arrays.first[i + 1] - arrays.first[i])
    for l in range(arrays.family.size):
        most = max(most, arrays.predictors[l])
        active = max(active, arrays.column[l + 1] - arrays.column[l])
    levels = max(3, arrays.level[k + 1] - arrays.level[k])
    for c in range(cells.start[k], cells.start[k + 1]):
        levels = max(levels, int(arrays.trials[cells.row[c], k]) + 1)
    children = cells.child[k + 1] - cells.child[k]
    return Work(
        np.empty((children, rows, most)), np.empty((children, active, most)),
        np.empty((children, active), dtype=np.int64), np.empty(children, dtype=np.int64), np.empty(most),
        np.empty(most), np.empty(DEEPEST), np.empty(8), np.empty(levels),
    )  # fmt: skip


@kernel(nogil=True, _nrt=False)
def draw_cells(
    rng,
    k,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    means: Programs,
    divisor,
    state: State,
    work: Work,
):
    """All missing cells of the variable of factor k, one after the other; V, Y, M and X of `state` follow.

    divisor (m, e): see kernels/factors/columns.py. Returns the number of cells whose conditional has no finite value,
    which keep their own.

    Nothing is allocated here, so that numba need not count references (``_nrt``): in these loops over single rows that
    takes nine tenths of the time.
    """
    kind, family, shape, r = cells.kind[k], arrays.family[k], state.shape[k], arrays.predictors[k]
    positive = family == GAMMA or family == INVERSE_GAUSSIAN
    last = arrays.level[k + 1] - arrays.level[k] - 1
    failed = 0
    for c in range(cells.start[k], cells.start[k + 1]):
        j = cells.row[c]
        i = arrays.cluster[j]
        linear_predictors(arrays, state, k, j, i, work.own)
        set_rest(arrays, cells, state, k, j, i, False, work)
        count = last + 1 if last >= 0 else int(arrays.trials[j, k]) + 1
        width = shape if kind == GAUSSIAN else _width(family, shape, work.own[0])
        at = _first(rng, kind, state.Y[j, k], work.own[0], width, positive, count, work.search)
        before = state.Y[j, k]
        while True:
            y = math.floor(at) if kind == COUNT else (math.exp(at) if kind == SLICE and positive else at)
            if work.search[PHASE] == DONE:
                if not abs(y) < math.inf:
                    failed += 1
                    y = before
            value = -math.inf
            if y >= 0.0 or kind != COUNT:
                _put(arrays, cells, state, means, divisor, k, j, i, y, work.stack)
                if work.search[PHASE] == DONE:
                    break
                value = log_density(
                    family, y, arrays.trials[j, k], work.own, r, shape, state.cuts, k, last, True
                ) + child_density(arrays, cells, state, programs, k, j, i, False, work)
                if kind == SLICE and positive:
                    value += at  # the Jacobian of the logarithm
                if not value == value:
                    value = -math.inf
            at = _next(rng, kind, at, value, width, work.search, work.weight)
        if arrays.at_cluster[k]:
            for row in range(arrays.first[i], arrays.first[i + 1]):
                state.Y[row, k] = y
        else:
            state.Y[j, k] = y
        set_columns(arrays, cells, state, programs, k, j, i, False, work)
    return failed

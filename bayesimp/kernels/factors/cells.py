"""Missing values of one variable of a joint GLMM, each from its conditional distribution given everything else.

Factors k = 1..K, each a multilevel GLMM of variable y_k given variables before it (models/joint_glmm.py). Let l run over
the children of k, the factors in whose columns y_k appears; then for a missing cell of row j, cluster i

    p(y_kj | .)  ~  p_k(y_kj | eta_kj)  prod_l prod_{j' in S_l} p_l(y_lj' | eta_lj'(y_kj))

S_l is the row j alone, or all rows of the cluster where y_k enters factor l through a cluster mean, or where y_k has one
value in a cluster. How it is drawn depends on the family:

    ENUMERATE   levels, and successes out of trials: all values are weighed
    GAUSSIAN    normal, every child normal and linear in y_k: exactly normal,
                    precision  1 / sd_k^2 + sum (d eta_l / d y)^2 / sd_l^2
    SLICE       other numbers, on the log scale if they are positive: slice sampling (Neal 2003)
    COUNT       unbounded counts: slice sampling on whole numbers

All leave the conditional distribution invariant; nothing is approximated or tuned.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.factors.columns import DEEPEST, Programs, cluster_mean, column
from bayesimp.kernels.factors.density import log_density
from bayesimp.kernels.families.codes import GAMMA, INVERSE_GAUSSIAN

__all__ = [
    "COUNT",
    "ENUMERATE",
    "GAUSSIAN",
    "SLICE",
    "Cells",
    "FactorArrays",
    "State",
    "draw_cells",
    "eta_of",
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


class _Place(NamedTuple):
    """The cell at work: factor, row, cluster, and rows that its children are evaluated in."""

    k: int
    j: int
    i: int
    start: int
    stop: int
    rest: np.ndarray  # (A, rows of the cluster, r) predictors without the columns that depend on the cell
    eta: np.ndarray  # (r,)
    stack: np.ndarray


@inner
def _coefficient(arrays, state, l, c, t, i):
    """Coefficient of column t, counted within factor l, in predictor c."""
    p = arrays.fixed[l]
    if t < p:
        return state.beta[arrays.coefficient[l] + c * p + t]
    q = arrays.column[l + 1] - arrays.column[l] - p
    return state.B[i, arrays.effect[l] + c * q + t - p]


@inner
def eta_of(arrays, state, l, j, i, eta):
    """eta (r,) <- linear predictors of factor l in row j."""
    first = arrays.column[l]
    for c in range(arrays.predictors[l]):
        s = arrays.offset[j, l]
        for t in range(arrays.column[l + 1] - first):
            s += state.X[j, first + t] * _coefficient(arrays, state, l, c, t, i)
        eta[c] = s


@inner
def _rows_of(arrays, cells, place, a):
    """First row and one after the last in which child a is evaluated."""
    if cells.wide[a] or arrays.at_cluster[place.k]:
        return place.start, place.stop
    return place.j, place.j + 1


@inner
def _set_rest(arrays, cells, state, place):
    for a in range(cells.child[place.k], cells.child[place.k + 1]):
        l = cells.of[a]
        first = arrays.column[l]
        start, stop = _rows_of(arrays, cells, place, a)
        for j in range(start, stop):
            for c in range(arrays.predictors[l]):
                s = arrays.offset[j, l]
                for t in range(arrays.column[l + 1] - first):
                    if not cells.active[a, first + t]:
                        s += state.X[j, first + t] * _coefficient(arrays, state, l, c, t, place.i)
                place.rest[a, j - start, c] = s


@inner
def _put(arrays, cells, state, means, divisor, place, v):
    """The cell gets the value v, and means over its cluster follow."""
    variable = arrays.variable[place.k]
    if arrays.at_cluster[place.k]:
        for j in range(place.start, place.stop):
            state.V[j, variable] = v
    else:
        state.V[place.j, variable] = v
    for e in range(cells.mean[place.k], cells.mean[place.k + 1]):
        at = cells.mean_of[e]
        state.M[place.i, at] = cluster_mean(
            means, divisor, at, state.V, state.M, place.start, place.stop, place.i, place.stack
        )


@inner
def _set_eta(arrays, cells, state, programs, place, a, j, at):
    """place.eta <- linear predictors of child a in row j at the present value of the cell."""
    l = cells.of[a]
    first = arrays.column[l]
    for c in range(arrays.predictors[l]):
        place.eta[c] = place.rest[a, at, c]
    for t in range(arrays.column[l + 1] - first):
        if cells.active[a, first + t]:
            x = column(programs, first + t, state.V, state.M, j, place.i, place.stack)
            for c in range(arrays.predictors[l]):
                place.eta[c] += x * _coefficient(arrays, state, l, c, t, place.i)


@inner
def _children(arrays, cells, state, programs, place):
    """sum_l sum_j' log p_l(y_lj' | eta_lj') at the present value of the cell; -inf where it is not a number."""
    total = 0.0
    for a in range(cells.child[place.k], cells.child[place.k + 1]):
        l = cells.of[a]
        start, stop = _rows_of(arrays, cells, place, a)
        last = arrays.level[l + 1] - arrays.level[l] - 1
        for j in range(start, stop):
            if arrays.used[j, l]:
                _set_eta(arrays, cells, state, programs, place, a, j, j - start)
                total += log_density(
                    arrays.family[l], state.Y[j, l], arrays.trials[j, l], place.eta, arrays.predictors[l],
                    state.shape[l], state.cuts[l], last, False,
                )  # fmt: skip
    return total if total == total else -math.inf


@inner
def _value(arrays, k, y):
    """The number that formulas compute with where the model sees y."""
    if arrays.level[k + 1] > arrays.level[k]:
        return arrays.value[arrays.level[k] + int(y)]
    return arrays.center[k] + arrays.unit[k] * y


@inner
def _log_target(arrays, cells, state, programs, means, divisor, place, own, y):
    """log p(y | .) of the module but for a constant; own (r,): linear predictors of the cell's own factor."""
    k = place.k
    last = arrays.level[k + 1] - arrays.level[k] - 1
    _put(arrays, cells, state, means, divisor, place, _value(arrays, k, y))
    value = log_density(
        arrays.family[k], y, arrays.trials[place.j, k], own, arrays.predictors[k], state.shape[k], state.cuts[k],
        last, True,
    )  # fmt: skip
    return value + _children(arrays, cells, state, programs, place)


@inner
def _enumerate(rng, arrays, cells, state, programs, means, divisor, place, own, weight):
    """A level, or a number of successes, drawn with its probability."""
    k = place.k
    count = arrays.level[k + 1] - arrays.level[k]
    if count == 0:
        count = int(arrays.trials[place.j, k]) + 1
    highest = -math.inf
    for y in range(count):
        weight[y] = _log_target(arrays, cells, state, programs, means, divisor, place, own, float(y))
        highest = max(highest, weight[y])
    if not abs(highest) < math.inf:
        return math.nan
    total = 0.0
    for y in range(count):
        weight[y] = math.exp(weight[y] - highest)
        total += weight[y]
    u = rng.random() * total
    for y in range(count):
        u -= weight[y]
        if u < 0.0:
            return float(y)
    return float(count - 1)


@inner
def _gaussian(rng, arrays, cells, state, programs, means, divisor, place, own):
    """A normal draw: children are linear in y, so two values of it give intercept and slope of every predictor."""
    k = place.k
    precision = 1.0 / state.shape[k] ** 2
    pull = own[0] * precision
    for side in range(2):
        _put(arrays, cells, state, means, divisor, place, _value(arrays, k, float(side)))
        for a in range(cells.child[k], cells.child[k + 1]):
            l = cells.of[a]
            start, stop = _rows_of(arrays, cells, place, a)
            for j in range(start, stop):
                if not arrays.used[j, l]:
                    continue
                _set_eta(arrays, cells, state, programs, place, a, j, j - start)
                if side == 0:
                    place.rest[a, j - start, 1] = place.eta[0]
                    continue
                zero = place.rest[a, j - start, 1]
                slope = (place.eta[0] - zero) / state.shape[l]
                precision += slope * slope
                pull += slope * (state.Y[j, l] - zero) / state.shape[l]
    return pull / precision + rng.standard_normal() / math.sqrt(precision)


@inner
def _slice(rng, arrays, cells, state, programs, means, divisor, place, own, width, whole):
    """One update of a number: stepping out and shrinking, on the log scale for positive families.

    `whole`: on whole numbers y >= 0, as the slice of the step function x -> log p(floor(x)).
    """
    k, j = place.k, place.j
    log_scale = arrays.family[k] == GAMMA or arrays.family[k] == INVERSE_GAUSSIAN
    y = state.Y[j, k]
    now = y + rng.random() if whole else (math.log(y) if log_scale else y)
    at = now
    height, low, high = 0.0, 0.0, 0.0
    steps_low, steps_high = 0, 0
    phase = 0  # 0 the present point, 1 stepping down, 2 stepping up, 3 shrinking: one place where the target is evaluated
    while True:
        candidate = math.floor(at) if whole else (math.exp(at) if log_scale else at)
        if whole and candidate < 0.0:
            value = -math.inf
        else:
            value = _log_target(arrays, cells, state, programs, means, divisor, place, own, candidate)
            if log_scale:
                value += at  # the Jacobian of the logarithm
        if phase == 0:
            height = value - rng.standard_exponential()
            low = now - width * rng.random()
            high = low + width
            steps_low = int(STEPS * rng.random())
            steps_high = STEPS - 1 - steps_low
            phase, at = 1, low
        elif phase == 1:
            if value > height and steps_low > 0:
                low -= width
                steps_low -= 1
                at = low
            else:
                phase, at = 2, high
        elif phase == 2:
            if value > height and steps_high > 0:
                high += width
                steps_high -= 1
                at = high
            else:
                phase = 3
                at = low + (high - low) * rng.random()
        else:
            if value >= height:
                return candidate
            if high - low < 1e-12 * (1.0 + abs(now)):
                return y
            if at < now:
                low = at
            else:
                high = at
            at = low + (high - low) * rng.random()


@inner
def _width(arrays, state, k, eta):
    """About the standard deviation of the cell given its own factor alone."""
    family = arrays.family[k]
    if family < 0:
        return 2.0 * state.shape[k]
    if family == GAMMA or family == INVERSE_GAUSSIAN:
        return 2.0 / math.sqrt(state.shape[k]) if state.shape[k] > 0.25 else 4.0
    mean = math.exp(min(eta, 30.0))
    return 2.0 + 2.0 * math.sqrt(mean + (mean * mean / state.shape[k] if state.shape[k] > 0.0 else 0.0))


@kernel(nogil=True)
def draw_cells(
    rng, k, arrays: FactorArrays, cells: Cells, programs: Programs, means: Programs, divisor, state: State
):
    """All missing cells of the variable of factor k, one after the other; V, Y, M and X of `state` follow.

    divisor (m, e): see kernels/factors/columns.py. Returns the number of cells whose conditional has no finite value.
    """
    rows, most = 1, 1
    for i in range(arrays.first.size - 1):
        rows = max(rows, arrays.first[i + 1] - arrays.first[i])
    for l in range(arrays.family.size):
        most = max(most, arrays.predictors[l])
    levels = arrays.level[k + 1] - arrays.level[k]
    for c in range(cells.start[k], cells.start[k + 1]):
        levels = max(levels, int(arrays.trials[cells.row[c], k]) + 1)
    rest = np.empty((cells.of.size, rows, max(most, 2)))
    eta, own, stack, weight = np.empty(most), np.empty(most), np.empty(DEEPEST), np.empty(levels)
    failed = 0
    for c in range(cells.start[k], cells.start[k + 1]):
        j = cells.row[c]
        i = arrays.cluster[j]
        place = _Place(k, j, i, arrays.first[i], arrays.first[i + 1], rest, eta, stack)
        eta_of(arrays, state, k, j, i, own)
        _set_rest(arrays, cells, state, place)
        kind = cells.kind[k]
        if kind == ENUMERATE:
            y = _enumerate(rng, arrays, cells, state, programs, means, divisor, place, own, weight)
        elif kind == GAUSSIAN:
            y = _gaussian(rng, arrays, cells, state, programs, means, divisor, place, own)
        else:
            width = _width(arrays, state, k, own[0])
            y = _slice(rng, arrays, cells, state, programs, means, divisor, place, own, width, kind == COUNT)
        if not abs(y) < math.inf:
            failed += 1
            y = state.Y[j, k]
        _commit(arrays, cells, state, programs, means, divisor, place, y)
    return failed


@inner
def _commit(arrays, cells, state, programs, means, divisor, place, y):
    """The cell becomes y; columns that depend on it follow."""
    k = place.k
    _put(arrays, cells, state, means, divisor, place, _value(arrays, k, y))
    if arrays.at_cluster[k]:
        for j in range(place.start, place.stop):
            state.Y[j, k] = y
    else:
        state.Y[place.j, k] = y
    for a in range(cells.child[k], cells.child[k + 1]):
        l = cells.of[a]
        start, stop = _rows_of(arrays, cells, place, a)
        for t in range(arrays.column[l], arrays.column[l + 1]):
            if cells.active[a, t]:
                for j in range(start, stop):
                    state.X[j, t] = column(programs, t, state.V, state.M, j, place.i, place.stack)

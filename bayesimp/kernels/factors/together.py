"""Values of one variable that move with the effects of its factor, in clusters without observed values.

If a cluster lacks a variable altogether, its effects follow the imputed values, and these follow the effects, so each
step of one given the other is small if the cluster is large. joint/glmm/together.py moves both along the ridge between
them: effects b -> b', and values y -> y' such that p_k(y | eta_k(b)) stays invariant:

    normal, Student-t           y' = y + z'(b' - b): the residual is kept
    Yeo-Johnson                 psi(y') = psi(y) + z'(b' - b): the residual of the transformed value is kept
    gamma, lognormal            y' = y exp(z'(b' - b)): the ratio to the mean is kept
    binary, binomial            if the probability rises from p to p', each of the n - y failures becomes a success with
                                probability (p' - p) / (1 - p); if it falls, successes become failures likewise
    Poisson                     y' ~ Binomial(y, mu' / mu) if the mean falls, y' = y + Poisson(mu' - mu) if it rises
    ordinal, nominal            the quantile u of y in the order of the levels is kept: y' is the quantile u at b'

so factor k itself cancels in the ratio of the move, which has the likelihoods of the later factors, the prior of effects
and the density of their proposal. The effects of later factors take up what the predictors of these change by, which
`predictor_changes` returns.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel, merged
from bayesimp.kernels.factors.arrays import Cells, FactorArrays, State, Work
from bayesimp.kernels.factors.cells import (
    NONE,
    child_density,
    coefficient,
    formula_value,
    set_columns,
    set_rest,
)
from bayesimp.kernels.factors.columns import Programs, cluster_mean, column
from bayesimp.kernels.families.codes import (
    BETA,
    GAMMA,
    INVERSE_GAUSSIAN,
    LOGIT,
    LOGNORMAL,
    NEGATIVE_BINOMIAL,
    NORMAL,
    ORDINAL,
    POISSON,
    PROBIT,
    STUDENT,
    YEO_JOHNSON,
)
from bayesimp.kernels.families.responses import EXTRA_ZEROS
from bayesimp.kernels.families.scalar import inverse_link
from bayesimp.kernels.families.yeo_johnson import transformed, untransformed
from bayesimp.notation import Integer, Matrix, Stack, Vector

__all__ = ["can_move_together", "coupled_responses", "follow_columns", "later_factors", "predictor_changes"]


NO_MOVE = NEGATIVE_BINOMIAL, INVERSE_GAUSSIAN, BETA, *EXTRA_ZEROS


def can_move_together(family: int) -> bool:
    """Whether the family has one of the moves of this module."""
    return family not in NO_MOVE


@inner
def _flipped(rng: np.random.Generator, y: float, trials: float, p: float, q: float) -> float:
    """Number of successes in `trials` with probability q, coupled with y, which has probability p."""
    out = y
    if q > p:
        for _ in range(int(trials - y)):
            if rng.random() * (1.0 - p) < q - p:
                out += 1.0
    else:
        for _ in range(int(y)):
            if rng.random() * p < p - q:
                out -= 1.0
    return out


@inner
def _thinned(rng: np.random.Generator, y: float, mu: float, nu: float) -> float:
    """A Poisson count with mean nu, coupled with y, which has mean mu."""
    if nu > mu:
        return y + float(rng.poisson(nu - mu))
    out = 0.0
    for _ in range(int(y)):
        if rng.random() * mu < nu:
            out += 1.0
    return out


@inner
def _below(family: int, level: int, eta: Vector, cuts: Matrix, k: Integer, last: Integer) -> float:
    """P(y < level): 1 / (1 + e^(eta - c)) for ORDINAL, a sum for CATEGORICAL."""
    if level == 0:
        return 0.0
    if level > last:
        return 1.0
    if family == ORDINAL:
        x = cuts[k, level - 1] - eta[0]
        return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))
    highest = 0.0
    for c in range(last):
        highest = max(highest, eta[c])
    total, below = math.exp(-highest), math.exp(-highest)
    for c in range(last):
        weight = math.exp(eta[c] - highest)
        total += weight
        if c + 1 < level:
            below += weight
    return below / total


@inner
def _coupled(
    rng: np.random.Generator,
    family: int,
    y: float,
    trials: float,
    before: Vector,
    after: Vector,
    shape: float,
    cuts: Matrix,
    k: Integer,
    last: Integer,
) -> float:
    """The response at linear predictors `after`, coupled with y at `before`."""
    if family == NORMAL or family == STUDENT:
        return y + after[0] - before[0]
    if family == YEO_JOHNSON:
        return untransformed(transformed(y, cuts[k, 0]) + after[0] - before[0], cuts[k, 0])
    if family == GAMMA or family == LOGNORMAL:
        return y * math.exp(after[0] - before[0])
    if family == LOGIT or family == PROBIT:
        return _flipped(rng, y, trials, inverse_link(family, before[0]), inverse_link(family, after[0]))
    if family == POISSON:
        return _thinned(rng, y, math.exp(before[0]), math.exp(after[0]))
    level = int(y)
    low = _below(family, level, before, cuts, k, last)
    u = low + rng.random() * (_below(family, level + 1, before, cuts, k, last) - low)
    out = 0
    while out < last and _below(family, out + 1, after, cuts, k, last) <= u:
        out += 1
    return float(out)


@kernel(nogil=True)
def coupled_responses(
    rng: np.random.Generator,
    family: int,
    y: Vector,
    trials: Vector,
    before: Matrix,
    after: Matrix,
    shape: float,
    cuts: Matrix,
    k: Integer,
    last: Integer,
    out: Vector,
) -> None:
    """out (n,) <- responses at linear predictors `after` (n, r), coupled with y (n,) at `before` as described above."""
    for j in range(y.size):
        out[j] = _coupled(rng, family, y[j], trials[j], before[j], after[j], shape, cuts, k, last)


@merged
def _set_values(
    k: Integer,
    i: Integer,
    arrays: FactorArrays,
    cells: Cells,
    means: Programs,
    divisor: Matrix,
    state: State,
    work: Work,
) -> None:
    """Update V and the means over cluster i from the responses Y of factor k."""
    start, stop = arrays.first[i], arrays.first[i + 1]
    for j in range(start, stop):
        state.V[j, arrays.variable[k]] = formula_value(arrays, k, state.Y[j, k])
    for e in range(cells.mean[k], cells.mean[k + 1]):
        mean = cells.mean_of[e]
        state.M[i, mean] = cluster_mean(means, divisor, mean, state.V, state.M, start, stop, i, work.stack)


@kernel(nogil=True, _nrt=False)
def predictor_changes(
    k: Integer,
    i: Integer,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    means: Programs,
    divisor: Matrix,
    state: State,
    work: Work,
    out: Stack,
) -> None:
    """out (children, rows of cluster i, r) <- how the children's predictors change from the columns in X to those at the
    responses Y of factor k; updates V and means over the cluster."""
    start, stop = arrays.first[i], arrays.first[i + 1]
    _set_values(k, i, arrays, cells, means, divisor, state, work)
    for a in range(cells.child[k + 1] - cells.child[k]):
        child = cells.child[k] + a
        l = cells.of[child]
        first = arrays.column[l]
        for j in range(start, stop):
            for c in range(arrays.predictors[l]):
                out[a, j - start, c] = 0.0
        for t in range(first, arrays.column[l + 1]):
            if not cells.active[child, t]:
                continue
            for j in range(start, stop):
                change = column(programs, t, state.V, state.M, j, i, work.stack) - state.X[j, t]
                for c in range(arrays.predictors[l]):
                    out[a, j - start, c] += change * coefficient(arrays, state, l, c, t - first, j)


@kernel(nogil=True, _nrt=False)
def later_factors(
    k: Integer,
    i: Integer,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    means: Programs,
    divisor: Matrix,
    state: State,
    work: Work,
) -> float:
    """Log-likelihood of factor k's children in cluster i; updates V and means over the cluster from its responses Y."""
    start = arrays.first[i]
    set_rest(arrays, cells, state, k, start, i, True, work)
    _set_values(k, i, arrays, cells, means, divisor, state, work)
    return child_density(arrays, cells, state, programs, k, start, i, True, work, NONE)


@kernel(nogil=True, _nrt=False)
def follow_columns(
    k: Integer, i: Integer, arrays: FactorArrays, cells: Cells, programs: Programs, state: State, work: Work
) -> None:
    """Update the children's columns in cluster i from V, after `later_factors` for the same cluster."""
    set_columns(arrays, cells, state, programs, k, arrays.first[i], i, True, work)

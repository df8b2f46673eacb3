"""Draws of effects in clusters that mostly lack a discrete variable, its missing values summed out.

Where a cluster lacks y_k, its imputed values follow the effects b_li of a factor l in which y_k is a predictor, and the
effects follow the imputed values: a random slope of y_k, about which such a cluster says little, is tied to them. Given
everything except b_li and the missing cells of y_k in cluster i, and with these cells summed out,

    p(b_li | .)  ~  N(b_li; mu, Q^-1)  prod_j sum_v w_jv p_l(y_lj | e_jv + z_jv' b_li)
    w_jv  =  p_k(v | eta_kj)  prod_{l' != l} p_l'(y_l'j | eta_l'j(v))

where v runs over the possible values of the cell (a single one if it is observed), e_jv + z_jv' b is the linear predictor
at v, and mu and Q come from the other effects (kernels/factors/effects.py). Likewise the effects b_ki of the variable's
own factor, which follow its imputed values where it is never observed, have

    p(b_ki | .)  ~  N(b_ki; mu, Q^-1)  prod_j sum_v w_jv p_k(v | e_j + z_j' b_ki),     w_jv = prod_l p_l(y_lj | eta_lj(v))

which has the same form, with v in place of y_lj. The effects are drawn by slice sampling (Neal 2003), then the cells from
their full conditionals (kernels/factors/cells.py); together this is a draw from their joint distribution.

The slices lie along the columns of L^-T, where L L' = Q + sum_j g_j g_j' and g_j is the gradient of row j at a point that
does not depend on the effects drawn: one scoring step from mu (Berndt, Hall, Hall & Hausman 1974). Poor directions slow
the chain but leave its distribution invariant.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import kernel, lean
from bayesimp.kernels.factors.arrays import SLICE, Cells, FactorArrays, State, Work
from bayesimp.kernels.factors.cells import (
    NONE,
    child_density,
    coefficient,
    formula_value,
    linear_predictors,
    set_rest,
)
from bayesimp.kernels.factors.columns import Programs, column
from bayesimp.kernels.factors.density import log_density
from bayesimp.kernels.factors.search import DONE, PHASE, first_place, next_place
from bayesimp.kernels.linalg import cholesky, solve_lower, solve_lower_t
from bayesimp.notation import BoolVector, Integer, IntVector, Matrix, Vector

__all__ = ["Mixture", "draw_effects_summed", "read_values"]

WIDTH, LONGEST, SMALL = 3.0, 3.0, 1e-4  # slices and step, in standard deviations; differences
ROUNDS = 3  # slices along each direction


class Mixture(NamedTuple):
    """The factor l in cluster i: value s of row j is entry first[j] + s.

    trials, times (rows,): times is the number of rows like this one; first (rows + 1,); y (s,): the response of factor l;
    weight (s,): log w; base (s, r) and Z (s, q): e and z. family, shape, cuts, l, last, full: those of factor l, as in
    `log_density`. mean (d,), L (d, d): mu and the Cholesky factor of Q. Work space: eta (r,), vectors (4, d), H (d, d).
    """

    trials: np.ndarray
    times: np.ndarray
    first: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    base: np.ndarray
    Z: np.ndarray
    family: int
    shape: float
    cuts: np.ndarray
    l: Integer
    last: Integer
    full: bool
    mean: np.ndarray
    L: np.ndarray
    eta: np.ndarray
    vectors: np.ndarray
    H: np.ndarray


@lean
def _read_row(
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    state: State,
    work: Work,
    k: Integer,
    a: Integer,
    j: Integer,
    i: Integer,
    missing: bool,
    C: Matrix,
    b: Vector,
    at: Integer,
    m: Mixture,
) -> None:
    """Entries starting at `at` <- those of row j, child a of factor k (NONE: factor k itself)."""
    variable = arrays.variable[k]
    l = k if a == NONE else cells.of[cells.child[k] + a]
    r, q, before = arrays.predictors[l], C.shape[0], state.V[j, variable]
    random = arrays.column[l] + arrays.fixed[l]
    last = arrays.level[k + 1] - arrays.level[k] - 1
    count = last + 1 if last >= 0 else int(arrays.trials[j, k]) + 1
    linear_predictors(arrays, state, k, j, work.own)
    set_rest(arrays, cells, state, k, j, i, False, work)
    for level in range(count):
        v = float(level) if missing else state.Y[j, k]
        state.V[j, variable] = formula_value(arrays, k, v)
        m.weight[at] = child_density(arrays, cells, state, programs, k, j, i, False, work, a)
        m.y[at] = v if a == NONE else state.Y[j, l]
        if a == NONE:
            for c in range(r):
                m.base[at, c] = work.own[c]
        else:
            m.weight[at] += log_density(
                arrays.family[k], v, arrays.trials[j, k], work.own, arrays.predictors[k], state.shape[k],
                state.cuts, k, last, True,
            )  # fmt: skip
            for c in range(r):
                m.base[at, c] = work.rest[a, 0, c]
            for t in range(work.active[a]):
                x = column(programs, work.column[a, t], state.V, state.M, j, i, work.stack)
                for c in range(r):
                    own = work.column[a, t] - arrays.column[l]
                    m.base[at, c] += x * coefficient(arrays, state, l, c, own, j)
        for h in range(q):
            m.Z[at, h] = 0.0
        for t in range(q):
            x = column(programs, random + t, state.V, state.M, j, i, work.stack)
            for h in range(q):
                m.Z[at, h] += x * C[t, h]
        for c in range(r):
            for h in range(q):
                m.base[at, c] -= m.Z[at, h] * b[c * q + h]
        at += 1
        if not missing:
            break
    state.V[j, variable] = before


@lean
def _row_density(m: Mixture, j: Integer, b: Vector) -> float:
    """log sum_v w_jv p_l(y_lj | e_jv + z_jv' b)."""
    r, q = m.base.shape[1], m.Z.shape[1]
    highest, total = -math.inf, 0.0
    for s in range(m.first[j], m.first[j + 1]):
        for c in range(r):
            m.eta[c] = m.base[s, c]
            for h in range(q):
                m.eta[c] += m.Z[s, h] * b[c * q + h]
        value = m.weight[s] + log_density(
            m.family, m.y[s], m.trials[j], m.eta, r, m.shape, m.cuts, m.l, m.last, m.full
        )
        if value > highest:
            total = total * math.exp(highest - value) + 1.0 if total > 0.0 else 1.0
            highest = value
        elif value > -math.inf:
            total += math.exp(value - highest)
    return highest + math.log(total) if total > 0.0 else -math.inf


@lean
def _density(m: Mixture, b: Vector) -> float:
    """log p(b | .) up to a constant."""
    total = 0.0
    for e in range(b.size):
        s = 0.0
        for f in range(e, b.size):
            s += m.L[f, e] * (b[f] - m.mean[f])
        total -= 0.5 * s * s
    for j in range(m.times.size):
        total += m.times[j] * _row_density(m, j, b)
    return total if total == total else -math.inf


@lean
def _directions(m: Mixture) -> bool:
    """m.H (lower triangle) <- Cholesky factor of Q + sum_j g_j g_j' (module docstring); returns whether it is finite."""
    d, rows = m.mean.size, m.times.size
    H, point, trial, step, g = m.H, m.vectors[0], m.vectors[1], m.vectors[2], m.vectors[3]
    for e in range(d):
        point[e] = m.mean[e]
    for turn in range(2):
        for e in range(d):
            step[e] = 0.0
            for f in range(e + 1):
                H[e, f] = 0.0
                for h in range(f + 1):
                    H[e, f] += m.L[e, h] * m.L[f, h]
        for j in range(rows):
            now = _row_density(m, j, point)
            for e in range(d):
                for f in range(d):
                    trial[f] = point[f]
                trial[e] += SMALL / m.L[e, e]
                g[e] = (_row_density(m, j, trial) - now) * m.L[e, e] / SMALL
                step[e] += m.times[j] * g[e]
                for f in range(e + 1):
                    H[e, f] += m.times[j] * g[e] * g[f]
        if not cholesky(H, d):
            return False
        if turn == 1:
            return True
        solve_lower(H, step, d)
        size = 0.0
        for e in range(d):
            size += step[e] * step[e]
        if not size < math.inf:
            return False
        shrink = min(1.0, LONGEST / math.sqrt(size)) if size > 0.0 else 0.0
        solve_lower_t(H, step, d)
        for e in range(d):
            point[e] += shrink * step[e]
    return True


@kernel(nogil=True, _nrt=False)
def read_values(
    k: Integer,
    a: Integer,
    i: Integer,
    arrays: FactorArrays,
    cells: Cells,
    programs: Programs,
    state: State,
    work: Work,
    missing: BoolVector,
    rows: IntVector,
    C: Matrix,
    b: Vector,
    m: Mixture,
) -> None:
    """m.y, m.weight, m.base and m.Z <- the terms of the sums over v, for child a of factor k in some rows of cluster i.

    missing (n,): whether y_k is to be imputed; C (q, q): maps working effects of the cluster to those of the table's
    columns, which are the factor's first q random ones; b (d,): the working effects in the state.
    """
    for row in range(rows.size):
        j = rows[row]
        _read_row(arrays, cells, programs, state, work, k, a, j, i, missing[j], C, b, m.first[row], m)


@kernel(nogil=True, _nrt=False)
def draw_effects_summed(
    rng: np.random.Generator, m: Mixture, search: Vector, weight: Vector, b: Vector
) -> bool:
    """Slice-sample b (d,) in place along each direction of the module docstring.

    search, weight: as in `Work`. Returns whether the density was finite; if not, nothing is done.
    """
    d, u, trial = b.size, m.vectors[0], m.vectors[1]
    if not abs(_density(m, b)) < math.inf or not _directions(m):
        return False
    for turn in range(ROUNDS * d):
        for f in range(d):
            u[f] = 1.0 if f == turn % d else 0.0
        solve_lower_t(m.H, u, d)
        at = first_place(rng, SLICE, 0.0, WIDTH, 0, 0, search)
        while True:
            for f in range(d):
                trial[f] = b[f] + at * u[f]
            if search[PHASE] == DONE:
                break
            at = next_place(rng, SLICE, at, _density(m, trial), search, weight)
        for f in range(d):
            b[f] = trial[f]
    return True

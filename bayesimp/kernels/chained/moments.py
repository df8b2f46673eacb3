"""The moments of one conditional model of chained equations, computed from cross products.

A table in m clusters has d base columns D = [X, Y]: X (p columns, the first is 1) complete, Y incomplete or computed
from incomplete ones. Incomplete rows lie in cells (cluster i, missingness pattern); an imputation is their V, the
completed values of Y. Everything else is shared: cross products of the observed values, with zeros for missing ones, are
computed once, and those of a completed table follow from the incomplete rows alone,

    (D'D)_jb = (D'D with zeros)_jb + sum of D_j D_b over rows with j or b missing

A conditional model y_k = X* beta + Z* b_i + e has columns (terms)

    t = f_i (D_b + o_i),    f_i = 1,  or the mean over the cluster's rows of (D_u + o_u)(D_v + o_v), or the sum
                            o_i = o,  or minus the mean of D_b over the cluster's rows (within clusters)

so that its cross products over any set of rows of one cluster follow from those of D: with S = D'D over these rows,

    <s, t> = f_si f_ti ( S_bc + o_ti S_b0 + o_si S_0c + o_si o_ti S_00 ),     s on column b, t on column c

Only V is carried from visit to visit, so that cluster means of imputed predictors cannot be stale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.normal.effects import Moments
from bayesimp.notation import Matrix, Stack

__all__ = [
    "BlockArrays",
    "RowCells",
    "Terms",
    "block_moments",
    "cluster_factors",
]


class RowCells(NamedTuple):
    """The incomplete rows, shared by all imputations.

    X (R, p): their complete columns; rows are sorted by cell, and cell c has rows start[c]..start[c+1]-1;
    cluster (C,): sorted. missing (C, d - p): which columns of Y are missing.
    """

    X: np.ndarray
    start: np.ndarray
    cluster: np.ndarray
    missing: np.ndarray


class Terms(NamedTuple):
    """Columns of a conditional model: fixed (p*), random (q), then responses (r).

    base, offset (T,): b and o. u, v (T,): columns whose product is averaged, -1 if f_i = 1; offset_u, offset_v (T,).
    divisor (T, m): f_i is the total over the cluster divided by this, the number of rows (mean) or a constant (sum).
    within (T,): whether the mean (of u = 0 and v = b) is subtracted instead, f_i = 1.
    known (T, m): the total over rows with u and v observed; open_first (T + 1,), open_cells: cells where one is missing.
    """

    base: np.ndarray
    offset: np.ndarray
    u: np.ndarray
    v: np.ndarray
    offset_u: np.ndarray
    offset_v: np.ndarray
    divisor: np.ndarray
    within: np.ndarray
    known: np.ndarray
    open_first: np.ndarray
    open_cells: np.ndarray


class BlockArrays(NamedTuple):
    """A conditional model's view of the table.

    sizes (4,): p*, q, r, m. patterns (A, r): which of its responses are observed; pattern_rows (A,): number of rows
    fitted. first (m + 1,), cell_pattern (Cb,): its own cells (cluster x pattern, something observed), with known
    (Cb, d, d), D'D with zeros for missing values, and the table's cells with missing values,
    member[member_first[c]..]. missing_cell, missing_pattern (K,): cells of the table with rows to impute, and their
    index in missing_patterns (A', r). lower, upper: bounds of the one response (R,), by incomplete row; (0,) if none.
    """

    sizes: np.ndarray
    patterns: np.ndarray
    pattern_rows: np.ndarray
    first: np.ndarray
    cell_pattern: np.ndarray
    known: np.ndarray
    member_first: np.ndarray
    member: np.ndarray
    missing_patterns: np.ndarray
    missing_cell: np.ndarray
    missing_pattern: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@inner
def _value(cells: RowCells, V: Matrix, row: int, b: int) -> float:
    """D_b of an incomplete row."""
    p = cells.X.shape[1]
    return cells.X[row, b] if b < p else V[row, b - p]


@kernel(nogil=True)
def cluster_factors(cells: RowCells, terms: Terms, V: Matrix) -> Stack:
    """f (m, T, 2): f_i and o_i of the columns in each cluster."""
    T, m = terms.divisor.shape
    p = cells.X.shape[1]
    f = np.empty((m, T, 2))
    for t in range(T):
        u, v = terms.u[t], terms.v[t]
        for i in range(m):
            f[i, t, 0], f[i, t, 1] = 1.0 if u < 0 else terms.known[t, i], terms.offset[t]
        if u < 0:
            continue
        ou, ov = terms.offset_u[t], terms.offset_v[t]
        for at in range(terms.open_first[t], terms.open_first[t + 1]):
            c = terms.open_cells[at]
            start, stop = cells.start[c], cells.start[c + 1]
            s = 0.0
            if u == 0:  # a mean of v, which is missing
                for row in range(start, stop):
                    s += V[row, v - p]
                s += (stop - start) * ov
            else:
                for row in range(start, stop):
                    s += (_value(cells, V, row, u) + ou) * (_value(cells, V, row, v) + ov)
            f[cells.cluster[c], t, 0] += s
        for i in range(m):
            f[i, t, 0] /= terms.divisor[t, i]
            if terms.within[t]:
                f[i, t, 0], f[i, t, 1] = 1.0, terms.offset[t] - f[i, t, 0]
    return f


@inner
def _add_open(cells: RowCells, c: int, V: Matrix, S: Matrix) -> None:
    """S (d, d), lower triangle <- S + the products of cell c that involve missing values."""
    p, d = cells.X.shape[1], S.shape[0]
    for j in range(p, d):
        if not cells.missing[c, j - p]:
            continue
        for row in range(cells.start[c], cells.start[c + 1]):
            y = V[row, j - p]
            for b in range(p):
                S[j, b] += y * cells.X[row, b]
            for b in range(p, d):
                if b <= j:
                    S[j, b] += y * V[row, b - p]
                elif not cells.missing[c, b - p]:
                    S[b, j] += y * V[row, b - p]


@kernel(nogil=True)
def block_moments(cells: RowCells, terms: Terms, block: BlockArrays, f: Stack, V: Matrix) -> Moments:
    """`Moments` (kernels/normal/effects.py) of a conditional model over the rows where any response is observed."""
    p, q, r, m = block.sizes[0], block.sizes[1], block.sizes[2], block.sizes[3]
    T = terms.base.size
    d = block.known.shape[1]
    A, Cb = block.patterns.shape[0], block.cell_pattern.size
    XX, XY, YY = np.zeros((A, p, p)), np.zeros((A, p, r)), np.zeros((A, r, r))
    ZZ, ZX, ZY = np.zeros((Cb, q, q)), np.zeros((Cb, q, p)), np.zeros((Cb, q, r))
    S = np.empty((d, d))
    for i in range(m):
        for c in range(block.first[i], block.first[i + 1]):
            a = block.cell_pattern[c]
            for b in range(d):  # lower triangle
                for h in range(b + 1):
                    S[b, h] = block.known[c, b, h]
            for at in range(block.member_first[c], block.member_first[c + 1]):
                _add_open(cells, block.member[at], V, S)
            for t in range(T):
                if t >= p + q and not block.patterns[a, t - p - q]:
                    continue
                bt, ft, ot = terms.base[t], f[i, t, 0], f[i, t, 1]
                for s in range(t + 1):
                    if s >= p + q and not block.patterns[a, s - p - q]:
                        continue
                    bs, fs, os = terms.base[s], f[i, s, 0], f[i, s, 1]
                    x = S[bs, bt] if bs > bt else S[bt, bs]
                    if ot != 0.0:
                        x += ot * S[bs, 0]
                    if os != 0.0:
                        x += os * (S[bt, 0] + ot * S[0, 0])
                    x *= ft * fs
                    if t < p:
                        XX[a, s, t] += x
                    elif t < p + q:
                        if s < p:
                            ZX[c, t - p, s] = x
                        else:
                            ZZ[c, s - p, t - p] = x
                            ZZ[c, t - p, s - p] = x
                    elif s < p:
                        XY[a, s, t - p - q] += x
                    elif s < p + q:
                        ZY[c, s - p, t - p - q] = x
                    else:
                        YY[a, s - p - q, t - p - q] += x
    for a in range(A):
        for t in range(p):
            for s in range(t):
                XX[a, t, s] = XX[a, s, t]
        for t in range(r):
            for s in range(t):
                YY[a, t, s] = YY[a, s, t]
    return Moments(
        block.patterns, block.pattern_rows, XX, XY, YY, block.first, block.cell_pattern, ZZ, ZX, ZY
    )

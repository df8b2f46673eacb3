"""Chained equations on cross products: what one conditional model needs, and the missing values that it draws.

A table in m clusters has d base columns D = [X, Y]: X (p columns, the first is 1) complete, Y incomplete or computed
from incomplete ones. Rows with all of Y observed are present as Gram matrices D'D by cluster, made once. The other rows
lie in cells (cluster i, missingness pattern), with values V of Y by imputation and a Gram G_c = D'D each. When column j
is imputed anew, only row and column j of the Grams of cells in which it is missing change (`refresh`).

A conditional model y_k = X* beta + Z* b_i + e has columns (terms)

    t = f_i (D_b + o),    f_i = 1,  or the mean over the cluster's rows of (D_u + o_u)(D_v + o_v), or the sum

so that its cross products over any set of rows of one cluster follow from those of D: with S = sum of Grams,

    <s, t> = f_si f_ti ( S_bc + o_t S_b0 + o_s S_0c + o_s o_t S_00 ),     s on column b, t on column c

Rows are therefore touched only where something is missing, and cluster means of imputed predictors are never stale.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.complete import conditional
from bayesimp.kernels.effects import Moments, pattern_weights

__all__ = ["BlockArrays", "Cells", "Terms", "block_moments", "cluster_factors", "fill", "imputed_moments", "predict",
           "refresh", "truncated_normal"]  # fmt: skip


class Cells(NamedTuple):
    """The table, shared by all imputations.

    X (R, p): complete columns of the incomplete rows, which are sorted by cell; start (C + 1,): rows of cell c are
    start[c]..start[c+1]-1; cluster (C,), sorted; fitted (C,): whether its rows enter fits (rows to be ignored do not);
    averaged (C,): whether they enter cluster means. gram, gram_averaged (m, d, d): the complete rows that enter fits,
    and means. column_first (d + 1,), column_cells: cells in which a column differs between imputations.
    """

    X: np.ndarray
    start: np.ndarray
    cluster: np.ndarray
    fitted: np.ndarray
    averaged: np.ndarray
    gram: np.ndarray
    gram_averaged: np.ndarray
    column_first: np.ndarray
    column_cells: np.ndarray


class Terms(NamedTuple):
    """Columns of a conditional model: fixed (p*), random (q), then responses (r).

    base, offset (T,): b and o. u, v (T,): columns averaged over, -1 if f_i = 1; offset_u, offset_v (T,);
    summed (T,): 0 for the mean, else what the sum over rows is multiplied by.
    """

    base: np.ndarray
    offset: np.ndarray
    u: np.ndarray
    v: np.ndarray
    offset_u: np.ndarray
    offset_v: np.ndarray
    summed: np.ndarray


class BlockArrays(NamedTuple):
    """A conditional model's view of the table.

    sizes (3,): p*, q, r. patterns (A, r): which of its responses are observed; pattern_rows (A,): rows that are
    fitted. first (m + 1,), cell_pattern (Cb,): its own cells (cluster x pattern, something observed), made of
    the Grams of cells member[member_first[c]..] and, where whole[c], of the complete rows of the cluster.
    missing_cell, missing_pattern (K,): cells of the table with rows to impute, and their place in missing_patterns
    (A', r). lower, upper (r,): bounds.
    """

    sizes: np.ndarray
    patterns: np.ndarray
    pattern_rows: np.ndarray
    first: np.ndarray
    cell_pattern: np.ndarray
    whole: np.ndarray
    member_first: np.ndarray
    member: np.ndarray
    missing_patterns: np.ndarray
    missing_cell: np.ndarray
    missing_pattern: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@kernel(nogil=True)
def refresh(cells, column, V, G):
    """Row and column `column` (>= p) of the Grams G (C, d, d) in the cells where it differs, from V (R, d - p)."""
    p = cells.X.shape[1]
    d = G.shape[1]
    k = column - p
    for at in range(cells.column_first[column], cells.column_first[column + 1]):
        c = cells.column_cells[at]
        for b in range(d):
            G[c, column, b] = 0.0
        for j in range(cells.start[c], cells.start[c + 1]):
            y = V[j, k]
            for b in range(p):
                G[c, column, b] += y * cells.X[j, b]
            for b in range(p, d):
                G[c, column, b] += y * V[j, b - p]
        for b in range(d):
            G[c, b, column] = G[c, column, b]


@kernel(nogil=True)
def cluster_factors(cells, terms, G):
    """f (m, T): what the columns of each cluster are multiplied by."""
    m, T = cells.gram.shape[0], terms.base.size
    f = np.ones((m, T))
    for t in range(T):
        u, v = terms.u[t], terms.v[t]
        if u < 0:
            continue
        ou, ov = terms.offset_u[t], terms.offset_v[t]
        c = 0
        for i in range(m):
            A = cells.gram_averaged[i]
            uv, u0, v0, n = A[u, v], A[u, 0], A[v, 0], A[0, 0]
            while c < cells.cluster.size and cells.cluster[c] == i:
                if cells.averaged[c]:
                    uv += G[c, u, v]
                    u0 += G[c, u, 0]
                    v0 += G[c, v, 0]
                    n += G[c, 0, 0]
                c += 1
            total = uv + ov * u0 + ou * v0 + ou * ov * n
            f[i, t] = total * terms.summed[t] if terms.summed[t] != 0.0 else total / n
    return f


@kernel(nogil=True)
def block_moments(cells, terms, block, f, G):
    """`Moments` (kernels/effects.py) of a conditional model over the rows where something of it is observed."""
    p, q, r = block.sizes[0], block.sizes[1], block.sizes[2]
    T = terms.base.size
    d = G.shape[1]
    A, Cb, m = block.patterns.shape[0], block.cell_pattern.size, block.first.size - 1
    XX, XY, YY = np.zeros((A, p, p)), np.zeros((A, p, r)), np.zeros((A, r, r))
    ZZ, ZX, ZY = np.zeros((Cb, q, q)), np.zeros((Cb, q, p)), np.zeros((Cb, q, r))
    S = np.empty((d, d))
    for i in range(m):
        for c in range(block.first[i], block.first[i + 1]):
            a = block.cell_pattern[c]
            for b in range(d):  # lower triangle
                for h in range(b + 1):
                    S[b, h] = cells.gram[i, b, h] if block.whole[c] else 0.0
            for at in range(block.member_first[c], block.member_first[c + 1]):
                e = block.member[at]
                for b in range(d):
                    for h in range(b + 1):
                        S[b, h] += G[e, b, h]
            for t in range(T):
                if t >= p + q and not block.patterns[a, t - p - q]:
                    continue
                bt, ot, ft = terms.base[t], terms.offset[t], f[i, t]
                for s in range(t + 1):
                    if s >= p + q and not block.patterns[a, s - p - q]:
                        continue
                    bs, os = terms.base[s], terms.offset[s]
                    x = S[bs, bt] if bs > bt else S[bt, bs]
                    if ot != 0.0:
                        x += ot * S[bs, 0]
                    if os != 0.0:
                        x += os * (S[bt, 0] + ot * S[0, 0])
                    x *= ft * f[i, s]
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


@inner
def _coefficients(terms, block, f, i, beta, B, g):
    """g (d, r) <- coefficients on D of x*'beta + z*'b_i - o, the mean of each response's own column of D."""
    p, q, r = block.sizes[0], block.sizes[1], block.sizes[2]
    for b in range(g.shape[0]):
        for j in range(r):
            g[b, j] = 0.0
    for t in range(p + q):
        for j in range(r):
            w = f[i, t] * (beta[t, j] if t < p else B[i, t - p, j])
            g[terms.base[t], j] += w
            g[0, j] += w * terms.offset[t]
    for j in range(r):
        g[0, j] -= terms.offset[p + q + j]


@kernel(nogil=True)
def fill(rng, cells, terms, block, f, beta, B, Sigma, V):
    """Draw the missing responses of a block into V, given its parameters and what is observed in the same row.

        y_M | y_O ~ N( mu_M + (y_O - mu_O) K,  Sigma_MM - Sigma_MO K ),   K = Sigma_OO^-1 Sigma_OM

    beta (p*, r), B (m, q, r); Sigma (1, r, r), or (m, 1, 1): one residual variance a cluster. Between bounds: the normal
    truncated to them (blocks of one response). Returns False if Sigma is not positive definite.
    """
    p, r, d = cells.X.shape[1], block.sizes[2], cells.gram.shape[1]
    n_fixed = block.sizes[0] + block.sizes[1]
    g = np.empty((d, r))
    mean, z = np.empty(r), np.empty(r)
    K, A = np.zeros((r, r)), np.empty((r, r))
    W, ok = pattern_weights(Sigma[0], block.missing_patterns)
    if not ok:
        return False
    by_cluster = Sigma.shape[0] > 1
    bounded = block.lower[0] > -math.inf or block.upper[0] < math.inf
    last, last_pattern = np.int64(-1), np.int64(-1)
    u = np.int64(0)
    for at in range(block.missing_cell.size):
        c, a = block.missing_cell[at], block.missing_pattern[at]
        i = cells.cluster[c]
        if i != last:
            _coefficients(terms, block, f, i, beta, B, g)
            last = i
        if a != last_pattern or by_cluster:
            u = conditional(W[a], Sigma[i if by_cluster else 0], block.missing_patterns[a], K, A)
            if u <= 0:
                return False
            last_pattern = a
        for row in range(cells.start[c], cells.start[c + 1]):
            for j in range(r):
                s = 0.0
                for b in range(p):
                    s += g[b, j] * cells.X[row, b]
                for b in range(p, d):
                    if g[b, j] != 0.0:
                        s += g[b, j] * V[row, b - p]
                mean[j] = s
            if bounded:
                k = terms.base[n_fixed] - p
                V[row, k] = truncated_normal(rng, mean[0], A[0, 0], block.lower[0], block.upper[0])
                continue
            for h in range(u):
                z[h] = rng.standard_normal()
            h = 0
            for j in range(r):
                if block.missing_patterns[a, j]:
                    continue
                s = mean[j]
                for l in range(r):
                    if block.missing_patterns[a, l]:
                        s += (V[row, terms.base[n_fixed + l] - p] - mean[l]) * K[l, j]
                for l in range(h + 1):
                    s += A[h, l] * z[l]
                h += 1
                V[row, terms.base[n_fixed + j] - p] = s
    return True


@kernel(nogil=True)
def predict(cells, terms, block, f, beta, B, D, cluster, V, complete, incomplete):
    """Means of the response of a block of one: of complete rows D (n, d) in their clusters, and of incomplete ones.

    complete (n,), incomplete (R,): where the means go, on the working scale of the response's column.
    """
    p, d = cells.X.shape[1], cells.gram.shape[1]
    m = cells.gram.shape[0]
    G = np.empty((m, d))
    g = np.empty((d, 1))
    for i in range(m):
        _coefficients(terms, block, f, i, beta, B, g)
        for b in range(d):
            G[i, b] = g[b, 0]
    for j in range(D.shape[0]):
        s = 0.0
        for b in range(d):
            s += G[cluster[j], b] * D[j, b]
        complete[j] = s
    for c in range(cells.cluster.size):
        i = cells.cluster[c]
        for j in range(cells.start[c], cells.start[c + 1]):
            s = 0.0
            for b in range(p):
                s += G[i, b] * cells.X[j, b]
            for b in range(p, d):
                s += G[i, b] * V[j, b - p]
            incomplete[j] = s


@kernel(nogil=True)
def imputed_moments(cells, column, missing, V, mean, sd):
    """mean, sd (m,) <- of the imputed values of a column by cluster, nan where nothing is missing.

    missing (C,) bool: cells in which the column is missing.
    """
    k = column - cells.X.shape[1]
    m = mean.size
    c = 0
    for i in range(m):
        n, s, c0 = 0, 0.0, c
        while c < cells.cluster.size and cells.cluster[c] == i:
            if missing[c]:
                n += cells.start[c + 1] - cells.start[c]
                for j in range(cells.start[c], cells.start[c + 1]):
                    s += V[j, k]
            c += 1
        mean[i] = s / n if n else math.nan
        ss = 0.0
        for e in range(c0, c):
            if missing[e]:
                for j in range(cells.start[e], cells.start[e + 1]):
                    ss += (V[j, k] - mean[i]) ** 2
        sd[i] = math.sqrt(ss / (n - 1)) if n > 1 else math.nan


@inner
def truncated_normal(rng, mean, sd, lower, upper):
    """A normal draw between two bounds, exactly (Robert 1995): by rejection from what envelops it best.

    The normal itself where the interval holds the mean; else the exponential from the nearer bound, or the
    uniform where the interval is short.
    """
    a, b = (lower - mean) / sd, (upper - mean) / sd
    flip = b < 0.0
    if flip:
        a, b = -b, -a
    x = 0.0
    if a <= 0.0 and b - a > 2.0:
        x = rng.standard_normal()
        while x < a or x > b:
            x = rng.standard_normal()
    elif a > 0.0 and (b - a) * (a + math.sqrt(a * a + 4.0)) > 4.0:
        rate = 0.5 * (a + math.sqrt(a * a + 4.0))
        while True:
            x = a + rng.standard_exponential() / rate
            if x <= b and rng.random() <= math.exp(-0.5 * (x - rate) ** 2):
                break
    else:
        nearest = a if a > 0.0 else 0.0
        while True:
            x = a + (b - a) * rng.random()
            if rng.random() <= math.exp(0.5 * (nearest * nearest - x * x)):
                break
    return mean - sd * x if flip else mean + sd * x

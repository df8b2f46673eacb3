"""A joint draw of beta and the effects of a chain of nested factors, missing values and finer effects integrated out.

Let u = (b_1, .., b_L, vec(beta)) hold the effects of factors 1 (finest) .. L (coarsest) of a chain, y the responses minus
the effects of all other factors, and W_a the weights of pattern a (kernels/normal/effects.py). Then

    p(u | Sigma, Psi_1 .. Psi_L, y_obs) ~ exp( -u'M u / 2 + h'u )
    M = blocks Psi_s^-1 and Q_0 + sum over cells of W_a kron (Z, X)'(Z, X),     h = t_0 + vec( sum of (Z, X)'Y W_a )

Given variables of a group (kernels/latent/levels.py) its effects are N(P^-1 l, P^-1) before its rows are seen: then P
takes the place of Psi_s^-1, and l is added to h.

A group of factor 1 has cross terms only with its own groups of factors 2, .., L and with beta. So the groups of factor 1
are eliminated one by one (M_g = R'R by Cholesky, U = R^-T C, and C'M_g^-1 C = U'U is subtracted from the rows of its
ancestors and of beta, a Schur complement), then those of factor 2, and so on: through the tree of groups, from the leaves
to its root, beta. Then, from the root to the leaves, with v = R^-T h of the eliminated rows,

    vec(beta) = R^-1 (v + z),      b_g = R^-1 (v + z - U (effects of its ancestors, beta)),     z standard normal

The cost is linear in the number of groups, and u is drawn from its distribution given the other factors, not coordinate
by coordinate: effects of schools and classes, whose sum is nearly all that the data inform, do not slow each other down.

For crossed factors the chains are drawn in turn, each with beta integrated out. This is the collapsed Gibbs sampler of
Papaspiliopoulos, Roberts & Zanella (2020, Biometrika 107), who integrate out the intercept, extended to all of beta and
to several responses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.notation import Integer, IntMatrix, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.levels.records import EffectNormals, Factors, NestedChains
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["PLACES", "draw_chain", "room"]

# Columns of the table of levels, which has one row per level of the tree, beta last. SIZE: n_s; OFFSET: where the level
# begins in u; WIDTH: number of columns from there on, including h; ROWS: where its rows begin in the work array.
FACTOR, SIZE, OFFSET, WIDTH, ROWS = range(5)
PLACES = 5


@inner
def _places(factors: Factors, chains: NestedChains, t: Integer, r: Integer, P: Integer) -> IntMatrix:
    """(L + 1, 5) int64: the levels of the tree of chain t, finest first, beta last (see the constants)."""
    L = chains.first[t + 1] - chains.first[t]
    levels = np.zeros((L + 1, PLACES), np.int64)
    offset = np.int64(0)
    for h in range(L + 1):
        levels[h, FACTOR] = chains.factor[chains.first[t] + h] if h < L else -1
        s = levels[h, FACTOR]
        levels[h, SIZE] = r * (factors.column[s + 1] - factors.column[s]) if h < L else P
        levels[h, OFFSET] = offset
        offset += levels[h, SIZE]
    rows = np.int64(0)
    for h in range(L + 1):
        levels[h, WIDTH] = offset + 1 - levels[h, OFFSET]
        levels[h, ROWS] = rows
        groups = factors.number[levels[h, FACTOR]] if h < L else np.int64(1)
        rows += groups * levels[h, SIZE] * levels[h, WIDTH]
    return levels


@inner
def room(factors: Factors, chains: NestedChains, r: Integer, P: Integer) -> Integer:
    """Length of the work array needed by the largest chain."""
    most = np.int64(0)
    for t in range(chains.first.size - 1):
        levels = _places(factors, chains, t, r, P)
        most = max(most, levels[-1, ROWS] + P * (P + 1))
    return most


@inner
def _ancestors(chains: NestedChains, levels: IntMatrix, h: Integer, g: Integer, groups: IntVector) -> None:
    """groups[h], .. <- group g of level h and the groups in which it is nested; 0 for beta."""
    groups[h] = g
    for k in range(h, levels.shape[0] - 2):
        groups[k + 1] = chains.parent[chains.parent_at[levels[k, FACTOR]] + groups[k]]
    groups[levels.shape[0] - 1] = 0


@inner
def _start(
    levels: IntMatrix, factors: Factors, chains: NestedChains, given: EffectNormals, work: Vector
) -> None:
    """Rows of all groups <- P in their own columns, l in h, 0 elsewhere; the rows of beta are filled by `_add_fixed`."""
    last = levels.shape[0] - 1
    for at in range(levels[last, ROWS]):
        work[at] = 0.0
    for h in range(last):
        s, n, w = levels[h, FACTOR], levels[h, SIZE], levels[h, WIDTH]
        for g in range(factors.number[s]):
            block = given.at[chains.parent_at[s] + g]
            for e in range(n):
                at = levels[h, ROWS] + (g * n + e) * w
                for f in range(n):
                    work[at + f] = given.precision[block + e * n + f]
                work[at + w - 1] = given.linear[factors.effect_at[s] + g * n + e]


@inner
def _add_fixed(
    levels: IntMatrix, W: Stack, m: Moments, XY: Stack, Q0: Matrix, t0: Vector, work: Vector
) -> None:
    """Rows of beta <- Q_0 + sum_a W_a kron (X'X)_a and t_0 + vec(sum_a (X'Y)_a W_a)."""
    A, p, r = XY.shape
    P, first = r * p, levels[levels.shape[0] - 1, ROWS]
    for x in range(P):
        for y in range(P):
            work[first + x * (P + 1) + y] = Q0[x, y]
        work[first + x * (P + 1) + P] = t0[x]
    for a in range(A):
        if m.pattern_rows[a] == 0:
            continue
        for k in range(r):
            for j in range(r):
                w = W[a, k, j]
                for x in range(p):
                    at = first + (k * p + x) * (P + 1)
                    work[at + P] += XY[a, x, j] * w
                    for y in range(p):
                        work[at + j * p + y] += w * m.XX[a, x, y]


@inner
def _add_leaves(
    levels: IntMatrix,
    factors: Factors,
    chains: NestedChains,
    t: Integer,
    W: Stack,
    p: Integer,
    ZY: Vector,
    work: Vector,
) -> None:
    """Rows of all groups += the terms of their leaves: W_a kron Z'Z, W_a kron Z'X, vec(Z'Y W_a)."""
    last, r = levels.shape[0] - 1, W.shape[1]
    columns = levels[last, OFFSET] // r
    level, local = np.empty(columns, np.int64), np.empty(columns, np.int64)
    for h in range(last):
        for l in range(levels[h, SIZE] // r):
            level[levels[h, OFFSET] // r + l], local[levels[h, OFFSET] // r + l] = h, l
    groups = np.empty(last + 1, np.int64)
    for leaf in range(chains.leaf_first[t + 1] - chains.leaf_first[t]):
        a = chains.leaf_pattern[chains.leaf_first[t] + leaf]
        _ancestors(chains, levels, 0, chains.leaf_group[chains.leaf_first[t] + leaf], groups)
        zz, zx, zy = (
            chains.zz_at[t] + leaf * columns**2,
            chains.zx_at[t] + leaf * columns * p,
            leaf * columns * r,
        )
        for l in range(columns):
            h = level[l]
            q, n, w = levels[h, SIZE] // r, levels[h, SIZE], levels[h, WIDTH]
            for k in range(r):
                at = levels[h, ROWS] + (groups[h] * n + k * q + local[l]) * w
                for j in range(r):
                    weight = W[a, k, j]
                    if weight == 0.0:
                        continue
                    for i in range(columns):
                        u = level[i]
                        if u >= h:
                            column = levels[u, OFFSET] + j * (levels[u, SIZE] // r) + local[i]
                            work[at + column - levels[h, OFFSET]] += weight * chains.ZZ[zz + l * columns + i]
                    beta = at + levels[last, OFFSET] - levels[h, OFFSET] + j * p
                    for x in range(p):
                        work[beta + x] += weight * chains.ZX[zx + l * p + x]
                    work[at + w - 1] += weight * ZY[zy + l * r + j]


@inner
def _factor(work: Vector, first: Integer, n: Integer, w: Integer) -> bool:
    """In the n rows (n, w) from `first`, M, C, h <- R, R^-T C, R^-T h, M = R'R; nothing changes below R's diagonal."""
    for e in range(n):
        at = first + e * w
        for k in range(e):
            f = work[first + k * w + e]
            for j in range(e, w):
                work[at + j] -= f * work[first + k * w + j]
        if not work[at + e] > 0.0:
            return False
        scale = 1.0 / math.sqrt(work[at + e])
        for j in range(e, w):
            work[at + j] *= scale
    return True


@inner
def _eliminate(levels: IntMatrix, factors: Factors, chains: NestedChains, work: Vector) -> Integer:
    """Factor all levels, from the leaves to beta; returns 0, or 1 if a group, 2 if beta has no positive precision."""
    last = levels.shape[0] - 1
    groups = np.empty(last + 1, np.int64)
    for h in range(last):
        n, w, offset = levels[h, SIZE], levels[h, WIDTH], levels[h, OFFSET]
        for g in range(factors.number[levels[h, FACTOR]]):
            first = levels[h, ROWS] + g * n * w
            if not _factor(work, first, n, w):
                return np.int64(1)
            _ancestors(chains, levels, h, g, groups)
            for u in range(h + 1, last + 1):
                shift = levels[u, OFFSET] - offset  # of u's columns in the rows of h
                for x in range(levels[u, SIZE]):
                    row = levels[u, ROWS] + (groups[u] * levels[u, SIZE] + x) * levels[u, WIDTH]
                    for e in range(n):
                        f = work[first + e * w + shift + x]
                        for j in range(x, levels[u, WIDTH]):
                            work[row + j] -= f * work[first + e * w + shift + j]
    if not _factor(work, levels[last, ROWS], levels[last, SIZE], levels[last, WIDTH]):
        return np.int64(2)
    return np.int64(0)


@inner
def _solve_back(
    rng: np.random.Generator, work: Vector, first: Integer, n: Integer, w: Integer, u: Vector, at: Integer
) -> None:
    """u[at] .. u[at + n - 1] <- R^-1 (v + z - U (u[at + n], ..)), z standard normal, from factored rows."""
    for e in range(n - 1, -1, -1):
        row = first + e * w
        s = work[row + w - 1] + rng.standard_normal()
        for j in range(e + 1, w - 1):
            s -= work[row + j] * u[at + j]
        u[at + e] = s / work[row + e]


@inner
def draw_chain(
    rng: np.random.Generator, W: Stack, m: Moments, factors: Factors, chains: NestedChains, t: Integer,
    given: EffectNormals, Q0: Matrix, t0: Vector, XY: Stack, ZY: Vector, beta: Matrix, b: Vector, work: Vector,
) -> Integer:  # fmt: skip
    """beta (p, r) and the effects b of chain t <- a draw given the other factors; see the module docstring.

    W (A, r, r): weights of the patterns; given: normals of the effects before the rows; Q0, t0: normal prior of
    vec(beta); XY, ZY: from `kernels.levels.sums.subtract_others`; work: array of length `room`.
    Returns 0, or what lacks a positive definite precision: 1 the effects of a group, 2 beta.
    """
    p, r = beta.shape
    P = r * p
    levels = _places(factors, chains, t, r, P)
    last = levels.shape[0] - 1
    _start(levels, factors, chains, given, work)
    _add_fixed(levels, W, m, XY, Q0, t0, work)
    _add_leaves(levels, factors, chains, t, W, p, ZY, work)
    failed = _eliminate(levels, factors, chains, work)
    if failed:
        return failed
    u = np.empty(levels[last, OFFSET] + P)
    _solve_back(rng, work, levels[last, ROWS], P, levels[last, WIDTH], u, levels[last, OFFSET])
    for x in range(P):
        beta[x % p, x // p] = u[levels[last, OFFSET] + x]
    groups = np.empty(last + 1, np.int64)
    for h in range(last - 1, -1, -1):
        s, n = levels[h, FACTOR], levels[h, SIZE]
        for g in range(factors.number[s]):
            _ancestors(chains, levels, h, g, groups)
            for k in range(h + 1, last):
                at = factors.effect_at[levels[k, FACTOR]] + groups[k] * levels[k, SIZE]
                for e in range(levels[k, SIZE]):
                    u[levels[k, OFFSET] + e] = b[at + e]
            first = levels[h, ROWS] + g * n * levels[h, WIDTH]
            _solve_back(rng, work, first, n, levels[h, WIDTH], u, levels[h, OFFSET])
            for e in range(n):
                b[factors.effect_at[s] + g * n + e] = u[levels[h, OFFSET] + e]
    return np.int64(0)

"""Profiled (RE)ML deviance of a linear mixed model with several grouping factors, and its exact gradient.

    y = X beta + sum_t Z_t b_t + e,   e ~ N(0, sigma^2 I),   b_ti = Lambda_t u_ti ~ N(0, sigma^2 Lambda_t Lambda_t')

With K of `bayesimp.kernels.crossed.structure`, its factor L by blocks (effects, X, y) and Sigma the inverse of K
without y,

    L L'      = K                                          Bates, Maechler, Bolker & Walker (2015), sec. 3
    rss       = L_yy^2                                     penalised residual sum of squares; y'y minus what is explained
    (u, beta) = solution of L_(u,X)' w = L_y,(u,X)'
    df        = n (ML),  n - p (REML)
    deviance  = log|L_uu|^2 + df (1 + log(2 pi rss / df)) [+ log|L_XX|^2 under REML]

    d deviance / d Lambda_t = 2 sum_i { sum_s,j A_ti,sj Lambda_s Sigma_sj,ti [+ B_ti Sigma_X,ti] - f_ti u_ti' / sigma^2 }
        A = Z'Z,  B = Z'X,  c = Z'y,  f = c - B beta - A Lambda u,  sigma^2 = rss / df

(rss by the envelope theorem; d log|K| = tr(Sigma dK)). Sigma is the inverse of the rows of (u, X) under REML, of u alone
under ML, and only its elements on the pattern of K are needed. As with one factor, the deviance is even in every
column of Lambda_t, so the search needs no bounds, and X, Z_t and y arrive orthonormal, residual and scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack, solve_triangular
from scipy.sparse import csr_array

from bayesimp.kernels.crossed.sparse import eliminate, inverse_elements, solve_transposed
from bayesimp.kernels.crossed.structure import EffectPattern
from bayesimp.notation import Array, IntVector, Matrix, Stack, Vector

__all__ = ["DevianceAt", "Products", "deviance", "products_of"]


@dataclass(frozen=True)
class Products:
    """Cross products of a table: all that the deviance needs to know about its rows.

    Attributes
    ----------
    A
        Z_ti'Z_sj (cells, q_t, q_s), for each pair of terms.
    B
        Z_ti'X, with Z_ti'y as the last column, (m_t, q_t, p + 1), for each term.
    whole
        Z'Z (N, N).
    n
        Number of rows.
    """

    structure: EffectPattern
    A: tuple[Stack, ...]
    B: tuple[Stack, ...]
    whole: csr_array
    n: int


class DevianceAt(NamedTuple):
    """The deviance at a point, its gradient with respect to Lambda (Q, Q), beta (p,), R (p, p) = L_XX, (rss, sigma^2)."""

    value: float
    gradient: Matrix
    beta: Vector
    R: Matrix
    scalars: tuple[float, float]


def products_of(structure: EffectPattern, Z: Sequence[Matrix], X: Matrix, y: Vector) -> Products:
    """Cross products of a table, with one pass over the rows per element; Z (n, q_t) by term."""
    A = tuple(
        _sums(pair.cell, Z[pair.t], Z[pair.s], len(pair.first), pair.t == pair.s) for pair in structure.pairs
    )
    Xy = np.column_stack([X, y])
    B = tuple(
        _sums(codes, Z_t, Xy, m) for codes, Z_t, m in zip(structure.codes, Z, structure.levels, strict=True)
    )
    return Products(structure, A, B, _whole(structure, A), len(y))


def _sums(codes: IntVector, left: Matrix, right: Matrix, levels: int, symmetric: bool = False) -> Stack:
    """(levels, q, r) sums of left'right over the rows of each level."""
    q, r = left.shape[1], right.shape[1]
    out = np.empty((levels, q, r))
    for a in range(q):
        for b in range(a if symmetric else 0, r):
            out[:, a, b] = np.bincount(codes, left[:, a] * right[:, b], minlength=levels)
            if symmetric:
                out[:, b, a] = out[:, a, b]
    return out


def _whole(structure: EffectPattern, A: Sequence[Stack]) -> csr_array:
    """Z'Z from its blocks."""
    rows: list[IntVector] = []
    columns: list[IntVector] = []
    values: list[Vector] = []
    for pair, blocks in zip(structure.pairs, A, strict=True):
        left = np.broadcast_to(structure.columns(pair.t)[pair.first][:, :, None], blocks.shape).ravel()
        right = np.broadcast_to(structure.columns(pair.s)[pair.second][:, None, :], blocks.shape).ravel()
        rows, columns, values = [*rows, left], [*columns, right], [*values, blocks.ravel()]
        if pair.t != pair.s:
            rows, columns, values = [*rows, right], [*columns, left], [*values, blocks.ravel()]
    where = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.concatenate(values), where), shape=(structure.effects,) * 2)


def deviance(products: Products, Lambda: Sequence[Matrix], reml: bool, held: float = 0.0) -> DevianceAt:
    """The deviance at Lambda_t (q_t, q_t), by term; held: sigma^2, or 0 to profile it out.

    Infinite, with a gradient of nan, if a Cholesky factor does not exist.
    """
    structure, n = products.structure, products.n
    p, d, size = structure.fixed, structure.d, structure.size
    c = size - p - 1  # effects in the corner
    stored = _assembled(products, Lambda)
    diagonal, below, corner = _parts(structure, stored)
    middle = np.empty(d, np.int64)
    exists = eliminate(structure.starts, structure.rows, diagonal, below, corner, middle)
    upper, failed = lapack.dpotrf(corner.T, lower=0, clean=1, overwrite_a=1)
    L = upper.T
    rss = float(L[-1, -1] ** 2)
    if not exists or failed or not rss > 0.0:
        nothing = np.full((sum(structure.widths),) * 2, np.nan)
        return DevianceAt(np.inf, nothing, np.full(p, np.nan), np.full((p, p), np.nan), (np.nan, np.nan))
    w = np.zeros(d + size)
    w[:d] = below[structure.starts[1:] - 1]
    w[d:-1] = solve_triangular(L[:-1, :-1], L[-1, :-1], trans=1, lower=True, check_finite=False)
    solve_transposed(structure.starts, structure.rows, diagonal, below, w)
    logs = np.log(np.diag(L))
    logdet = 2.0 * (np.log(diagonal).sum() + logs[: c + p if reml else c].sum())
    df = n - p if reml else n
    sigma2 = rss / df if held == 0.0 else held
    value = logdet + df * np.log(2.0 * np.pi * sigma2) + rss / sigma2
    Sigma = _inverse(structure, L, diagonal, below, middle, c + p if reml else c)
    gradient = _gradient(products, Lambda, Sigma, w[:-1], sigma2, reml)
    return DevianceAt(float(value), gradient, w[d + c : -1], L[c:-1, c:-1], (rss, sigma2))


def _parts(structure: EffectPattern, stored: Vector) -> tuple[Vector, Vector, Matrix]:
    """Views of the storage: diagonal (d,), below, corner (size, size)."""
    d, end = structure.d, structure.d + len(structure.rows)
    return stored[:d], stored[d:end], stored[end:].reshape(structure.size, structure.size)


def _assembled(products: Products, Lambda: Sequence[Matrix]) -> Vector:
    """The elements of K, as stored; X is orthonormal, y is a residual from X with y'y = n."""
    structure = products.structure
    stored = np.zeros(structure.stored)
    for pair, A in zip(structure.pairs, products.A, strict=True):
        stored[pair.place] = Lambda[pair.t].T @ A @ Lambda[pair.s]
        if pair.t == pair.s:
            stored[np.einsum("iaa->ia", pair.place)] += 1.0
    for place, Lambda_t, B in zip(structure.outer, Lambda, products.B, strict=True):
        stored[place] = Lambda_t.T @ B
    corner = _parts(structure, stored)[2]
    own = np.arange(structure.size - structure.fixed - 1, structure.size - 1)
    corner[own, own] = 1.0
    corner[-1, -1] = products.n
    return stored


def _inverse(
    structure: EffectPattern, L: Matrix, diagonal: Vector, below: Vector, middle: IntVector, kept: int
) -> Vector:
    """The elements of Sigma, stored as those of K are; kept: rows of the corner that belong to Sigma."""
    Sigma = np.zeros(structure.stored)
    own, others, corner = _parts(structure, Sigma)
    if kept > 0:
        upper, _ = lapack.dpotri(np.asfortranarray(L[:kept, :kept].T), lower=0, overwrite_c=1)
        upper = np.triu(upper)
        corner[:kept, :kept] = upper + np.triu(upper, 1).T
    inverse_elements(structure.starts, structure.rows, diagonal, below, middle, corner, own, others)
    return Sigma


def _gradient(
    products: Products, Lambda: Sequence[Matrix], Sigma: Vector, w: Vector, sigma2: float, reml: bool
) -> Matrix:
    """(Q, Q) derivatives with respect to the elements of Lambda, with terms as diagonal blocks; w: (u, beta)."""
    structure = products.structure
    N, ends = structure.effects, np.concatenate([[0], np.cumsum(structure.widths)])
    half = [np.zeros((q, q)) for q in structure.widths]
    for pair, A in zip(structure.pairs, products.A, strict=True):
        S = Sigma[pair.place]
        half[pair.t] += np.tensordot(A @ Lambda[pair.s], S, axes=([0, 2], [0, 2]))
        if pair.t != pair.s:
            half[pair.s] += np.tensordot(np.swapaxes(A, 1, 2) @ Lambda[pair.t], S, axes=([0, 2], [0, 1]))
    u = [w[structure.columns(t)] for t in range(len(Lambda))]
    b = np.empty(N)
    for t, Lambda_t in enumerate(Lambda):
        b[structure.columns(t)] = u[t] @ Lambda_t.T
    explained = products.whole @ b
    out: Array = np.zeros((ends[-1], ends[-1]))
    for t, B in enumerate(products.B):
        if reml:
            half[t] += np.tensordot(B[:, :, :-1], Sigma[structure.outer[t][:, :, :-1]], axes=([0, 2], [0, 2]))
        f = B[:, :, -1] - B[:, :, :-1] @ w[N:] - explained[structure.columns(t)]
        half[t] -= f.T @ u[t] / sigma2
        out[ends[t] : ends[t + 1], ends[t] : ends[t + 1]] = 2.0 * half[t]
    return out

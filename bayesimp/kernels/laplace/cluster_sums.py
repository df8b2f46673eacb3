"""Sums over a cluster's rows, on which the Laplace log-likelihood and its derivatives depend.

With w_j = (x_j, z_j), where s, C and D are a row's score, its curvature and the derivative of the curvature in eta, and
E_j = dD_j / d eta, weights included:

    S = sum_j s_j w_j,   C = sum_j C_j w_j w_j',   D_ab = sum_j D_j z_ja z_jb w_j,
    E = sum_j (E_j v_j - D_j z_j't) w_j w_j',      v_j = z_j'V z_j
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, merged, reduction
from bayesimp.kernels.linalg import fill
from bayesimp.notation import Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["ClusterSums", "fourth_moments", "moments", "sum_moments"]

BLOCK = 512  # rows at a time, stored column by column, to fit in the nearest cache


class ClusterSums(NamedTuple):
    """Sums over a cluster's rows, with s = p + q: S (s,), C (s, s), D (s, q, q), E (s, s). Work space: W (s, BLOCK) and
    the next two (BLOCK,)."""

    S: np.ndarray
    C: np.ndarray
    D: np.ndarray
    E: np.ndarray
    W: np.ndarray
    weight: np.ndarray
    product: np.ndarray


@inner
def moments(p: int, q: int) -> ClusterSums:
    """Work space for `sum_moments`."""
    s = p + q
    return ClusterSums(
        np.empty(s), np.empty((s, s)), np.empty((s, q, q)), np.empty((s, s)),
        np.empty((s, BLOCK)), np.empty(BLOCK), np.empty(BLOCK),
    )  # fmt: skip


@inner
def _load(rows: GlmmRows, start: int, n: int, m: ClusterSums) -> None:
    p = rows.X.shape[1]
    for j in range(n):
        for a in range(p):
            m.W[a, j] = rows.X[start + j, a]
        for a in range(rows.Z.shape[1]):
            m.W[p + a, j] = rows.Z[start + j, a]


@inner
def _take(column: Vector, start: int, n: int, out: Vector) -> None:
    for j in range(n):
        out[j] = column[start + j]


@reduction
def _add_sums(n: int, m: ClusterSums) -> None:
    """m.S += W weight."""
    for a in range(m.S.shape[0]):
        s = 0.0
        for j in range(n):
            s += m.W[a, j] * m.weight[j]
        m.S[a] += s


@reduction
def _add_gram(n: int, m: ClusterSums, out: Matrix) -> None:
    """out += W diag(weight) W', lower triangle."""
    for a in range(m.S.shape[0]):
        for j in range(n):
            m.product[j] = m.W[a, j] * m.weight[j]
        for b in range(a + 1):
            s = 0.0
            for j in range(n):
                s += m.product[j] * m.W[b, j]
            out[a, b] += s


@reduction
def _add_third(n: int, m: ClusterSums) -> None:
    """m.D[:, a, b] += W diag(weight) (z_a z_b), a >= b."""
    q = m.D.shape[1]
    p = m.S.shape[0] - q
    for a in range(q):
        for b in range(a + 1):
            for j in range(n):
                m.product[j] = m.W[p + a, j] * m.W[p + b, j] * m.weight[j]
            for c in range(m.S.shape[0]):
                s = 0.0
                for j in range(n):
                    s += m.product[j] * m.W[c, j]
                m.D[c, a, b] += s


@reduction
def _fourth_weight(
    n: int, start: int, slope: Vector, fourth: Vector, V: Matrix, t: Vector, m: ClusterSums
) -> None:
    """m.weight <- E_j z_j'V z_j - D_j z_j't."""
    q = t.shape[0]
    p = m.S.shape[0] - q
    for j in range(n):
        m.weight[j] = 0.0
    for a in range(q):
        for b in range(q):
            for j in range(n):
                m.weight[j] += V[a, b] * m.W[p + a, j] * m.W[p + b, j]
    for j in range(n):
        m.weight[j] *= fourth[start + j]
    for a in range(q):
        for j in range(n):
            m.weight[j] -= slope[start + j] * t[a] * m.W[p + a, j]


@inner
def _mirror(A: Matrix) -> None:
    for a in range(A.shape[0]):
        for b in range(a):
            A[b, a] = A[a, b]


@merged
def sum_moments(
    rows: GlmmRows, i: int, score: Vector, curvature: Vector, slope: Vector, m: ClusterSums
) -> None:
    """m.S, m.C, m.D <- the sums of cluster i; score, curvature, slope (n,): s, C, D of the rows."""
    first, stop = rows.first[i], rows.first[i + 1]
    fill(m.C, 0.0)
    for a in range(m.S.shape[0]):
        m.S[a] = 0.0
        fill(m.D[a], 0.0)
    for start in range(first, stop, BLOCK):
        n = min(stop - start, BLOCK)
        _load(rows, start, n, m)
        _take(score, start, n, m.weight)
        _add_sums(n, m)
        _take(curvature, start, n, m.weight)
        _add_gram(n, m, m.C)
        _take(slope, start, n, m.weight)
        _add_third(n, m)
    _mirror(m.C)
    for a in range(m.S.shape[0]):
        _mirror(m.D[a])


@merged
def fourth_moments(
    rows: GlmmRows, i: int, slope: Vector, fourth: Vector, V: Matrix, t: Vector, m: ClusterSums
) -> None:
    """m.E <- the sum of cluster i, after `sum_moments`; slope, fourth (n,): D, E of the rows."""
    first, stop = rows.first[i], rows.first[i + 1]
    fill(m.E, 0.0)
    for start in range(first, stop, BLOCK):
        n = min(stop - start, BLOCK)
        if stop - first > BLOCK:
            _load(rows, start, n, m)
        _fourth_weight(n, start, slope, fourth, V, t, m)
        _add_gram(n, m, m.E)
    _mirror(m.E)

"""The exact Hessian of the Laplace log-likelihood of a generalised linear mixed model, one cluster at a time.

In the notation of kernels/laplace/criterion.py, with w_j = (x_j, z_j) and E_j = dD_j / d eta (weights included), all
that depends on the rows of a cluster are the sums

    S = sum_j s_j w_j,   C = sum_j C_j w_j w_j',   D_ab = sum_j D_j z_ja z_jb w_j,
    E = sum_j (E_j v_j - D_j z_j't) w_j w_j'

Along a direction e, an element of beta or of L, u moves at the rate du_e, and eta_j at the rate w_j'c_e, c_e = c0_e +
(0, L du_e), where c0_e is the unit vector for beta_a, and u_b times that of z_a for L_ab. With A the block of C for z,

    H du_e = -L'C_z. c0_e + [L_ab] g_a e_b,     dg_e = -C_z. c_e,     dA_e = D c_e
    dH_e = L'dA_e L + [L_ab] (e_b (A L)_a. + (A L)_a.' e_b')

The mode is stationary, so that the density of u at its mode gives du_e'H du_f - c0_e'C c0_f. With d^2 log|H| =
tr(Q d^2 H) - tr(Q dH_e Q dH_f), and the second derivatives of u from those of its equation, altogether

    d^2 l / de df = sum_i { du_e'H du_f - c0_e'C c0_f - c_e'E c_f / 2 + tr(Q dH_e Q dH_f) / 2 - T_e(f) - T_f(e) }
                    - sum_i [e = L_ab, f = L_cd] A_ac Q_bd
    T_e(f) = [e = L_ab] { (dA_f L Q)_ab + ((r - A t)_a du_f,b + k_b dg_f,a) / 2 }

C is the observed information of the rows: with the expected one of the inverse Gaussian, gradient and Hessian are
approximate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, merged, reduction
from bayesimp.kernels.linalg import fill
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = [
    "Directions",
    "ClusterSums",
    "add_hessian",
    "directions",
    "fourth_moments",
    "moments",
    "sum_moments",
]

BLOCK = 512  # rows at a time, columns one after the other, in the nearest cache


class ClusterSums(NamedTuple):
    """Sums over the rows of a cluster, s = p + q: S (s,), C (s, s), D (s, q, q), E (s, s); W (s, BLOCK) and the next two
    (BLOCK,) are work."""

    S: np.ndarray
    C: np.ndarray
    D: np.ndarray
    E: np.ndarray
    W: np.ndarray
    weight: np.ndarray
    product: np.ndarray


class Directions(NamedTuple):
    """By direction: du, rhs = H du, dg (k, q); c, E c (k, s); Q dH, and T less its parts of e (k, q, q). dA, AL, QL, dAL
    (q, q)."""

    du: np.ndarray
    rhs: np.ndarray
    dg: np.ndarray
    c: np.ndarray
    Ec: np.ndarray
    QdH: np.ndarray
    T: np.ndarray
    dA: np.ndarray
    AL: np.ndarray
    dH: np.ndarray


@inner
def moments(p: int, q: int) -> ClusterSums:
    """Work space for `sum_moments`."""
    s = p + q
    return ClusterSums(
        np.empty(s), np.empty((s, s)), np.empty((s, q, q)), np.empty((s, s)),
        np.empty((s, BLOCK)), np.empty(BLOCK), np.empty(BLOCK),
    )  # fmt: skip


@inner
def directions(p: int, q: int, k: int) -> Directions:
    """Work space for `add_hessian`."""
    s = p + q
    return Directions(
        np.empty((k, q)), np.empty((k, q)), np.empty((k, q)), np.empty((k, s)), np.empty((k, s)),
        np.empty((k, q, q)), np.empty((k, q, q)), np.empty((q, q)), np.empty((q, q)), np.empty((q, q)),
    )  # fmt: skip


# -- sums over rows ------------------------------------------------------------------------------------------------


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
    """m.S, m.C, m.D <- of cluster i; score, curvature, slope (n,): s, C, D of the rows."""
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
    """m.E <- of cluster i, after `sum_moments`; slope, fourth (n,): D, E of the rows."""
    first, stop = rows.first[i], rows.first[i + 1]
    fill(m.E, 0.0)
    for start in range(first, stop, BLOCK):
        n = min(stop - start, BLOCK)
        if stop - first > BLOCK:
            _load(rows, start, n, m)
        _fourth_weight(n, start, slope, fourth, V, t, m)
        _add_gram(n, m, m.E)
    _mirror(m.E)


# -- directions ----------------------------------------------------------------------------------------------------


@merged
def _move(free: IntMatrix, L: Matrix, u: Vector, Q: Matrix, m: ClusterSums, d: Directions) -> None:
    """d.rhs, d.du, d.c, d.dg <- along every direction."""
    q = u.shape[0]
    p = m.S.shape[0] - q
    for e in range(d.du.shape[0]):
        at = e if e < p else p + free[e - p, 0]
        scale = 1.0 if e < p else u[free[e - p, 1]]
        for c in range(p + q):
            d.c[e, c] = 0.0
        d.c[e, at] = scale
        for c in range(q):
            d.rhs[e, c] = 0.0
            for h in range(c, q):
                d.rhs[e, c] -= L[h, c] * m.C[p + h, at] * scale
        if e >= p:
            d.rhs[e, free[e - p, 1]] += m.S[at]
        for c in range(q):
            d.du[e, c] = 0.0
            for h in range(q):
                d.du[e, c] += Q[c, h] * d.rhs[e, h]
        for a in range(q):
            for c in range(a + 1):
                d.c[e, p + a] += L[a, c] * d.du[e, c]
        for a in range(q):
            s = 0.0
            for c in range(p + q):
                s -= m.C[p + a, c] * d.c[e, c]
            d.dg[e, a] = s


@merged
def _turn(
    free: IntMatrix, L: Matrix, Q: Matrix, M: Matrix, k: Matrix, rest: Vector, m: ClusterSums, d: Directions
) -> None:
    """d.Ec, d.QdH, d.T <- along every direction, after `_move`; M = L Q, rest = r - A t."""
    q, s = Q.shape[0], m.S.shape[0]
    p = s - q
    for a in range(q):
        for b in range(q):
            d.AL[a, b] = 0.0
            for c in range(b, q):
                d.AL[a, b] += m.C[p + a, p + c] * L[c, b]
    for e in range(d.du.shape[0]):
        for a in range(s):
            value = 0.0
            for c in range(s):
                value += m.E[a, c] * d.c[e, c]
            d.Ec[e, a] = value
        for a in range(q):
            for b in range(q):
                d.dA[a, b] = 0.0
        for c in range(s):
            for a in range(q):
                for b in range(q):
                    d.dA[a, b] += m.D[c, a, b] * d.c[e, c]
        for a in range(q):
            for b in range(q):
                value = 0.5 * (rest[a] * d.du[e, b] + k[b] * d.dg[e, a])
                for c in range(q):
                    value += d.dA[a, c] * M[c, b]
                d.T[e, a, b] = value
        for a in range(q):  # dH = L'dA L ..
            for b in range(q):
                d.dH[a, b] = 0.0
                for c in range(a, q):
                    for h in range(b, q):
                        d.dH[a, b] += L[c, a] * d.dA[c, h] * L[h, b]
        if e >= p:
            a, b = free[e - p, 0], free[e - p, 1]
            for c in range(q):
                d.dH[b, c] += d.AL[a, c]
                d.dH[c, b] += d.AL[a, c]
        for a in range(q):
            for b in range(q):
                d.QdH[e, a, b] = 0.0
                for c in range(q):
                    d.QdH[e, a, b] += Q[a, c] * d.dH[c, b]


@merged
def add_hessian(
    free: IntMatrix,
    L: Matrix,
    u: Vector,
    Q: Matrix,
    M: Matrix,
    k: Matrix,
    rest: Vector,
    m: ClusterSums,
    d: Directions,
    out: Matrix,
    information: Matrix,
) -> None:
    """out (p + d, p + d) += the Hessian of a cluster, lower triangle.

    free (d, 2), L: parameters; u, Q, M = L Q, k, rest = r - A t: of the cluster, as in kernels/laplace/criterion.py; m:
    its moments, complete; d: work. d.du (p + d, q) <- the rates at which the mode moves. information (p, p), lower
    triangle, += of beta given Psi, as if C were constant: positive definite.
    """
    q, s = u.shape[0], m.S.shape[0]
    p = s - q
    _move(free, L, u, Q, m, d)
    _turn(free, L, Q, M, k, rest, m, d)
    for e in range(out.shape[0]):
        at = e if e < p else p + free[e - p, 0]
        scale = 1.0 if e < p else u[free[e - p, 1]]
        for f in range(e + 1):
            value, inside = 0.0, m.C[at, f if f < p else p + free[f - p, 0]] * scale
            for c in range(s):
                value -= d.Ec[e, c] * d.c[f, c]
            moved = 0.0
            for a in range(q):
                moved += d.rhs[e, a] * d.du[f, a]
                for b in range(q):
                    value += d.QdH[e, a, b] * d.QdH[f, b, a]
            value *= 0.5
            if e >= p:
                a, b = free[e - p, 0], free[e - p, 1]
                value -= d.T[f, a, b]
                if f >= p:
                    c, h = free[f - p, 0], free[f - p, 1]
                    inside *= u[h]
                    value -= d.T[e, c, h] + m.C[p + a, p + c] * Q[b, h]
            out[e, f] += value + moved - inside
            if e < p:
                information[e, f] += inside - moved

"""The exact Hessian of the Laplace log-likelihood of a generalised linear mixed model, one cluster at a time.

In the notation of kernels/laplace/criterion.py, with w_j = (x_j, z_j) and E_j = dD_j / d eta (weights included), the rows
of a cluster enter only through the sums

    S = sum_j s_j w_j,   C = sum_j C_j w_j w_j',   D_ab = sum_j D_j z_ja z_jb w_j,
    E = sum_j (E_j v_j - D_j z_j't) w_j w_j'

Along a direction e, an element of beta or of L, u moves at the rate du_e and eta_j at the rate w_j'c_e, c_e = c0_e +
(0, L du_e), where c0_e is the unit vector for beta_a, and u_b times the unit vector of z_a for L_ab. With A the block of
C for z,

    H du_e = -L'C_z. c0_e + [L_ab] g_a e_b,     dg_e = -C_z. c_e,     dA_e = D c_e
    dH_e = L'dA_e L + [L_ab] (e_b (A L)_a. + (A L)_a.' e_b')

The mode is stationary, so the density of u at its mode contributes du_e'H du_f - c0_e'C c0_f. With d^2 log|H| =
tr(Q d^2 H) - tr(Q dH_e Q dH_f), and the second derivatives of u from differentiating its equation twice, altogether

    d^2 l / de df = sum_i { du_e'H du_f - c0_e'C c0_f - c_e'E c_f / 2 + tr(Q dH_e Q dH_f) / 2 - T_e(f) - T_f(e) }
                    - sum_i [e = L_ab, f = L_cd] A_ac Q_bd
    T_e(f) = [e = L_ab] { (dA_f L Q)_ab + ((r - A t)_a du_f,b + k_b dg_f,a) / 2 }

C is the observed information of the rows: with the expected one of the inverse Gaussian, gradient and Hessian are
approximate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, merged
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.laplace.cluster_sums import ClusterSums

__all__ = ["Directions", "add_hessian", "directions"]


class Directions(NamedTuple):
    """Per direction: du, rhs = H du, dg (k, q); c, E c (k, s); Q dH, and T without its parts in e (k, q, q). Work: dA,
    AL, QL, dAL (q, q)."""

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
def directions(p: int, q: int, k: int) -> Directions:
    """Work space for `add_hessian`."""
    s = p + q
    return Directions(
        np.empty((k, q)), np.empty((k, q)), np.empty((k, q)), np.empty((k, s)), np.empty((k, s)),
        np.empty((k, q, q)), np.empty((k, q, q)), np.empty((q, q)), np.empty((q, q)), np.empty((q, q)),
    )  # fmt: skip


@merged
def _move(free: IntMatrix, L: Matrix, u: Vector, Q: Matrix, m: ClusterSums, d: Directions) -> None:
    """d.rhs, d.du, d.c, d.dg <- their values for every direction."""
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
    """d.Ec, d.QdH, d.T <- their values for every direction, after `_move`; M = L Q, rest = r - A t."""
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

    free (d, 2), L: parameters; u, Q, M = L Q, k, rest = r - A t: the cluster's, as in kernels/laplace/criterion.py; m:
    all its moments; d: work space. d.du (p + d, q) <- the rates at which the mode moves. information (p, p), lower
    triangle, += that on beta given Psi, as if C were constant, which makes it positive definite.
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

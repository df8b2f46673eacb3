"""Proposal coordinates, in which the parameters of a generalised linear mixed model are roughly standard normal.

At the mode (beta^, theta^) of a penalised Laplace log-likelihood with covariance Sigma (kernels/laplace/fit.py):

    phi_aa = log L_aa,   phi_ab = L_ab / L_aa, b < a;     Sigma_phi by the delta method, Sigma_phi = R R'
    F(L) = Q0 + sum_i { X_i'C_i X_i - X_i'C_i Z_i L (I + L'A_i L)^-1 L'Z_i'C_i X_i },  C_i at the mode, F(L) = K K'

    v_phi = R^-1 (phi - phi^),     v_beta = K'(beta - beta^ - G (phi - phi^)),     G = Sigma_beta,phi Sigma_phi^-1

So fixed effects vary as much as cluster effects with covariance Psi allow: with few clusters their distribution given Psi
is nearly normal, whereas the joint one is a funnel.
The row factors C_i are computed once per visit; F(L) needs no pass over rows.

    log |dv / d(beta, theta)| = sum_x log K_xx - sum_a (a + 1) log L_aa + constant,   a = 0..
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.glmm.modes import at_effects, factor, fixed_part
from bayesimp.kernels.laplace.criterion import put_theta
from bayesimp.kernels.linalg import cholesky, copy_to, fill, solve_lower, solve_lower_t
from bayesimp.notation import IntMatrix, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.modes import ModeWork
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["Coordinates", "from_coordinates", "make_coordinates", "to_coordinates"]


class Coordinates(NamedTuple):
    """beta^ and phi^ (p + d,), G (p, d), R (d, d); Z_i'C_i Z_i (m, q, q), Z_i'C_i X_i (m, q, p), Q0 + sum X_i'C_i X_i;
    K (p, p): work."""

    centre: np.ndarray
    slope: np.ndarray
    root: np.ndarray
    ZZ: np.ndarray
    ZX: np.ndarray
    XX: np.ndarray
    K: np.ndarray


@inner
def make_coordinates(
    rows: GlmmRows,
    shape: float,
    Q0: Matrix,
    free: IntMatrix,
    fit: Vector,
    covariance: Matrix,
    u: Matrix,
    L: Matrix,
    w: ModeWork,
) -> tuple[Coordinates, bool]:
    """`Coordinates` at the mode, where effects have modes u (m, q), and whether they are defined; L, w are work space."""
    (m, q), p, d = u.shape, Q0.shape[0], free.shape[0]
    c = Coordinates(
        np.empty(p + d), np.empty((p, d)), np.empty((d, d)), np.zeros((m, q, q)), np.zeros((m, q, p)),
        Q0.copy(), np.empty((p, p)),
    )  # fmt: skip
    put_theta(fit, p, free, L)
    for a in range(q):
        if not L[a, a] > 0.0:
            return c, False
    fixed_part(rows, fit, w.eta0)
    _add_crosses(rows, shape, u, L, w, c)
    phi_of(fit, p, free, L, c.centre)
    J, half = np.zeros((d, d)), np.empty((p + d, d))
    _phi_by_theta(free, L, J)
    for x in range(p + d):
        for l in range(d):
            half[x, l] = 0.0
            for h in range(d):
                half[x, l] += covariance[x, p + h] * J[l, h]
    for l in range(d):
        for h in range(d):
            c.root[l, h] = 0.0
            for e in range(d):
                c.root[l, h] += J[l, e] * half[p + e, h]
    if not cholesky(c.root, d):
        return c, False
    for x in range(p):
        for l in range(d):
            c.slope[x, l] = half[x, l]
        solve_lower(c.root, c.slope[x], d)
        solve_lower_t(c.root, c.slope[x], d)
    return c, True


@inner
def _add_crosses(rows: GlmmRows, shape: float, u: Matrix, L: Matrix, w: ModeWork, c: Coordinates) -> None:
    """c.ZZ, c.ZX, c.XX <- cross products of every cluster with rows, weighted by C_i, the curvature at the modes u."""
    (m, q), p = u.shape, rows.X.shape[1]
    for i in range(m):
        if rows.first[i] == rows.first[i + 1]:
            continue
        at_effects(rows, shape, i, L, u[i], w)
        copy_to(c.ZZ[i], w.A)
        for x in range(p):
            for a in range(q):
                s = 0.0
                for j in range(rows.first[i], rows.first[i + 1]):
                    s += w.curvature[j] * rows.Z[j, a] * rows.X[j, x]
                c.ZX[i, a, x] = s
            for y in range(x + 1):
                s = 0.0
                for j in range(rows.first[i], rows.first[i + 1]):
                    s += w.curvature[j] * rows.X[j, x] * rows.X[j, y]
                c.XX[x, y] += s


@inner
def _phi_by_theta(free: IntMatrix, L: Matrix, J: Matrix) -> None:
    """J (d, d), zero on entry, <- d phi / d theta."""
    for l in range(free.shape[0]):
        a, b = free[l, 0], free[l, 1]
        J[l, l] = 1.0 / L[a, a]
        for h in range(free.shape[0]):
            if a != b and free[h, 0] == a and free[h, 1] == a:
                J[l, h] = -L[a, b] / L[a, a] ** 2


@inner
def phi_of(x: Vector, p: int, free: IntMatrix, L: Matrix, out: Vector) -> None:
    """out <- beta and phi; L is that of theta in x."""
    for a in range(p):
        out[a] = x[a]
    for l in range(free.shape[0]):
        a, b = free[l, 0], free[l, 1]
        out[p + l] = math.log(L[a, a]) if a == b else L[a, b] / L[a, a]


@inner
def fixed_root(c: Coordinates, L: Matrix, w: ModeWork) -> float:
    """c.K <- Cholesky factor of F(L); returns the log Jacobian (module docstring), -inf where F is not definite."""
    p, q, m = c.K.shape[0], L.shape[0], c.ZZ.shape[0]
    half = np.empty((q, p))
    copy_to(c.K, c.XX)
    for i in range(m):
        copy_to(w.A, c.ZZ[i])
        if not factor(L, w):
            return -math.inf
        for x in range(p):
            for a in range(q):
                w.trial[a] = 0.0
                for b in range(a, q):
                    w.trial[a] += L[b, a] * c.ZX[i, b, x]
            solve_lower(w.H, w.trial, q)
            for a in range(q):
                half[a, x] = w.trial[a]
            for y in range(x + 1):
                for a in range(q):
                    c.K[x, y] -= half[a, x] * half[a, y]
    if not cholesky(c.K, p):
        return -math.inf
    value = 0.0
    for x in range(p):
        value += math.log(c.K[x, x])
    for a in range(q):
        value -= (a + 1.0) * math.log(L[a, a])
    return value


@inner
def to_coordinates(c: Coordinates, x: Vector, free: IntMatrix, L: Matrix, w: ModeWork, v: Vector) -> float:
    """v <- coordinates of x = (beta, theta), L that of theta; returns the log Jacobian."""
    p, d = c.slope.shape
    phi_of(x, p, free, L, v)
    jacobian = fixed_root(c, L, w)
    z = np.empty(d)
    for l in range(d):
        z[l] = v[p + l] - c.centre[p + l]
    for a in range(p):
        v[a] -= c.centre[a]
        for l in range(d):
            v[a] -= c.slope[a, l] * z[l]
    for a in range(p):  # K'(..)
        s = 0.0
        for b in range(a, p):
            s += c.K[b, a] * v[b]
        v[a] = s
    solve_lower(c.root, z, d)
    for l in range(d):
        v[p + l] = z[l]
    return jacobian


@inner
def from_coordinates(c: Coordinates, v: Vector, free: IntMatrix, L: Matrix, w: ModeWork, x: Vector) -> float:
    """x <- (beta, theta) at coordinates v, L <- that of theta; returns the log Jacobian."""
    p, d = c.slope.shape
    phi = np.empty(d)
    for l in range(d):
        phi[l] = 0.0
        for h in range(l + 1):
            phi[l] += c.root[l, h] * v[p + h]
    fill(L, 0.0)
    for l in range(d):
        a = free[l, 0]
        if a == free[l, 1]:
            L[a, a] = math.exp(phi[l] + c.centre[p + l])
    for l in range(d):
        a, b = free[l, 0], free[l, 1]
        if a != b:
            L[a, b] = (phi[l] + c.centre[p + l]) * L[a, a]
        x[p + l] = L[a, b]
    jacobian = fixed_root(c, L, w)
    for a in range(p):
        x[a] = v[a]
    beta = x[:p]
    solve_lower_t(c.K, beta, p)
    for a in range(p):
        x[a] += c.centre[a]
        for l in range(d):
            x[a] += c.slope[a, l] * phi[l]
    return jacobian

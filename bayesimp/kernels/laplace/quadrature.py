"""Log-likelihood of a generalised linear mixed model with one effect per cluster, by adaptive Gauss-Hermite quadrature.

    L_i = int exp f_i(u) du / sqrt(2 pi),    f_i(u) = sum_j w_ij log p(y_ij | eta_ij) - u^2 / 2
    eta_ij = o_ij + x_ij'beta + l z_ij u

With the mode u^_i, H_i = -f_i''(u^_i), s_i = H_i^-1/2, K nodes z_k with weights w_k for int exp(-z^2 / 2) g(z) dz
(Liu & Pierce 1994; Pinheiro & Bates 1995), and u_ik = u^_i + s_i z_k,

    log L_i ~ log s_i + log sum_k exp F_ik,    F_ik = log(w_k / sqrt(2 pi)) + z_k^2 / 2 + f_i(u_ik)

K = 1 is Laplace's approximation. Gradient and Hessian in x = (beta, l) are those of this criterion, whose nodes move with
x. With partial derivatives f_a, f_u.., h = log H_i, pi_k = exp F_k / sum exp F, and i dropped,

    u^_a = f_ua / H                        u^_ab = (f_uuu u^_a u^_b + f_uua u^_b + f_uub u^_a + f_uab) / H
    h_a = (H_a + H_u u^_a) / H,        h_ab = (H_ab + H_au u^_b + H_bu u^_a + H_uu u^_a u^_b + H_u u^_ab) / H - h_a h_b
    U_ka = u^_a - s z_k h_a / 2            U_kab = u^_ab + s z_k (h_a h_b / 4 - h_ab / 2)
    F_ka = f_a + f_u U_ka                  F_kab = f_ab + f_ua U_kb + f_ub U_ka + f_uu U_ka U_kb + f_u U_kab
    C_a = sum pi F_ka - h_a / 2            C_ab = sum pi (F_kab + F_ka F_kb) - (sum pi F_ka)(sum pi F_kb) - h_ab / 2

H_a, H_u.. are the derivatives of -f_uu at the mode. All come from sums over a cluster's rows of w log p and its first
four derivatives in eta, s, -C, -D, -E (kernels/families/scalar.py); second derivatives of the mode and of h, which need
matrices, enter only once, with the weights of the cluster.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.families.scalar import all_terms, log_normaliser
from bayesimp.kernels.glmm.modes import conditional_modes
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import Array, IntVector, Matrix, Stack, Vector

__all__ = ["Quadrature", "quadrature"]


class Quadrature(NamedTuple):
    """Complete log-likelihood; gradient (p + 1,), hessian (p + 1, p + 1) in (beta, l); modes u (m,). nan: none found."""

    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    u: np.ndarray


@kernel(nogil=True)
def terms_of_rows(
    rows: GlmmRows,
    cluster: IntVector,
    eta: Matrix,
    value: Matrix,
    score: Matrix,
    minus: Matrix,
    slope: Matrix,
    bend: Matrix,
) -> None:
    """value (m, K) += w log p by cluster and node; the derivatives (N, K) <- weighted s, C, D, E."""
    n, K = eta.shape
    for j in range(n):
        weight, trials = rows.weight[j], rows.trials[j]
        constant = log_normaliser(rows.family, rows.y[j], trials, 1.0)
        for k in range(K):
            l, rest, s, c, d, e = all_terms(rows.family, rows.y[j], trials, eta[j, k], 1.0)
            value[cluster[j], k] += weight * (l + constant - trials * np.log(rest))
            score[j, k], minus[j, k] = weight * s, weight * c
            slope[j, k], bend[j, k] = weight * d, weight * e


def quadrature(rows: GlmmRows, nodes: int, x: Vector, u: Vector) -> Quadrature:
    """The criterion at x = (beta, l); the searches for modes start at u (m,).

    Parameters
    ----------
    rows
        `GlmmRows`, one column in Z, a family without a shape.
    nodes
        K; 1: Laplace.
    x (p + 1,), u (m,)
        Parameters; modes at similar parameters, or zeros.
    """
    p, l, m = rows.X.shape[1], float(x[-1]), len(rows.first) - 1
    root, spread = np.empty((m, 1, 1)), np.empty((m, 1, 1))
    modes, start = np.array(u, dtype=float)[:, None], np.empty((m, 1))
    nowhere = Quadrature(np.nan, np.full(p + 1, np.nan), np.full((p + 1, p + 1), np.nan), np.zeros(m))
    if not np.isfinite(x).all():
        return nowhere
    if conditional_modes(rows, 1.0, np.asarray(x[:p], float), np.array([[l]]), modes, start, spread, root):
        return nowhere
    seen = np.flatnonzero(np.diff(rows.first))  # clusters without rows contribute log 1, whatever x
    first, cluster = rows.first[seen], np.repeat(np.arange(len(seen)), np.diff(rows.first)[seen])
    at = _Sums(rows, first, cluster, rows.Z[:, 0], rows.offset + np.einsum("ja,a->j", rows.X, x[:p]), l)
    value, gradient, hessian = _criterion(at, nodes, modes[seen, 0])
    return Quadrature(value, gradient, hessian, modes[:, 0])


class _Sums(NamedTuple):
    """Rows, the first row of each cluster that has any, the cluster of each row, z, eta without effects, and l."""

    rows: GlmmRows
    first: np.ndarray
    cluster: np.ndarray
    z: np.ndarray
    fixed: np.ndarray
    l: float

    def terms(self, u: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix, Matrix]:
        """f + u^2 / 2 (m, K) and s, C, D, E (N, K) at effects u (m, K)."""
        eta = self.fixed[:, None] + self.l * self.z[:, None] * u[self.cluster]
        value = np.zeros(u.shape)
        s, C, D, E = (np.empty(eta.shape) for _ in range(4))
        terms_of_rows(self.rows, self.cluster, eta, value, s, C, D, E)
        return value, s, C, D, E

    def over(self, terms: Matrix, power: int) -> Matrix:
        """sum_j z_j^power terms_j (m, K)."""
        return np.add.reduceat(self.z[:, None] ** power * terms, self.first, axis=0)

    def with_x(self, terms: Matrix, power: int) -> Stack:
        """sum_j z_j^power terms_j x_j (m, K, p)."""
        terms = self.z[:, None] ** power * terms
        return np.stack(
            [np.add.reduceat(terms * x[:, None], self.first, axis=0) for x in self.rows.X.T], axis=2
        )

    def squares(self, terms: Vector) -> Matrix:
        """sum_j terms_j x_j x_j' over all rows (p, p); terms (N,)."""
        return np.einsum("ja,j,jb->ab", self.rows.X, terms, self.rows.X)


def _join(of_beta: Array, of_l: Array) -> Array:
    """(.., p) and (..) joined to (.., p + 1)."""
    return np.concatenate([of_beta, of_l[..., None]], axis=-1)


def _criterion(at: _Sums, nodes: int, mode: Vector) -> tuple[float, Vector, Matrix]:
    """Value, gradient and Hessian (module docstring); mode (m,)."""
    l, p = at.l, at.rows.X.shape[1]
    z, w = np.polynomial.hermite_e.hermegauss(nodes)

    # the mode and the curvature there, moving with x
    _, *at_mode = at.terms(mode[:, None])
    s, C, D, E = at_mode
    S1, C1, C2, D2, D3, E3, E4 = (
        at.over(s, 1)[:, 0], at.with_x(C, 1)[:, 0], at.over(C, 2)[:, 0], at.with_x(D, 2)[:, 0], at.over(D, 3)[:, 0],
        at.with_x(E, 3)[:, 0], at.over(E, 4)[:, 0],
    )  # fmt: skip
    H = 1.0 + l**2 * C2
    H_a, H_u = _join(l**2 * D2, 2 * l * C2 + l**2 * mode * D3), l**3 * D3
    H_au, H_uu = _join(l**3 * E3, 3 * l**2 * D3 + l**3 * mode * E4), l**4 * E4
    u_a = _join(-l * C1, S1 - l * mode * C2) / H[:, None]
    h_a = (H_a + H_u[:, None] * u_a) / H[:, None]
    spread = H**-0.5

    # nodes
    u = mode[:, None] + spread[:, None] * z
    value, s, C, _, _ = at.terms(u)
    F = np.log(w / np.sqrt(2 * np.pi)) + 0.5 * z**2 + value - 0.5 * u**2
    total = logsumexp(F, axis=1)
    pi = np.exp(F - total[:, None])
    s1, c2 = at.over(s, 1), at.over(C, 2)
    f_u, f_uu = l * s1 - u, -(1.0 + l**2 * c2)
    f_a = _join(at.with_x(s, 0), u * s1)
    f_ua = _join(-l * at.with_x(C, 1), s1 - l * u * c2)
    U_a = u_a[:, None] - 0.5 * spread[:, None, None] * z[:, None] * h_a[:, None]
    F_a = f_a + f_u[:, :, None] * U_a
    mean = np.einsum("ik,ika->ia", pi, F_a)

    gradient = (mean - 0.5 * h_a).sum(axis=0)
    hessian = np.einsum("ik,ika,ikb->ab", pi, F_a, F_a) - np.einsum("ia,ib->ab", mean, mean)
    cross = np.einsum("ik,ika,ikb->ab", pi, f_ua, U_a)
    hessian += cross + cross.T + np.einsum("ik,ika,ikb->ab", pi * f_uu, U_a, U_a)
    # sum pi f_ab
    pi_C = pi[at.cluster] * C
    hessian[:p, :p] -= at.squares(pi_C.sum(axis=1))
    hessian[:p, p] -= np.einsum("j,ja->a", at.z * (pi_C * u[at.cluster]).sum(axis=1), at.rows.X)
    hessian[p, p] -= (pi * u**2 * c2).sum()
    # sum pi f_u U_ab - h_ab / 2 = A u^_ab + B (h_a h_b / 4 - h_ab / 2) - h_ab / 2, h_ab with its own u^_ab
    A, B = (pi * f_u).sum(axis=1), spread * (pi * f_u * z).sum(axis=1)
    of_h = -0.5 * (1.0 + B) / H
    of_u = (A + of_h * H_u) / H
    hessian += np.einsum("i,ia,ib->ab", 0.25 * B - of_h * H, h_a, h_a)
    cross = np.einsum("ia,ib->ab", of_h[:, None] * H_au - of_u[:, None] * H_a, u_a)
    hessian += cross + cross.T + np.einsum("i,ia,ib->ab", of_h * H_uu - of_u * H_u, u_a, u_a)
    C, D, E = (terms[:, 0] for terms in at_mode[1:])
    weight_h, weight_u, u_j, l_z = of_h[at.cluster], of_u[at.cluster], mode[at.cluster], l * at.z
    hessian[:p, :p] += at.squares(weight_h * l_z**2 * E - weight_u * l_z * D)
    mixed = weight_h * l_z * (2 * D + l_z * u_j * E) - weight_u * (C + l_z * u_j * D)
    hessian[:p, p] += np.einsum("j,ja->a", at.z * mixed, at.rows.X)
    hessian[p, p] += (of_h * (2 * C2 + 4 * l * mode * D3 + (l * mode) ** 2 * E4)).sum()
    hessian[p, p] -= (of_u * (2 * mode * C2 + l * mode**2 * D3)).sum()
    hessian[p, :p] = hessian[:p, p]
    return float(np.sum(total - 0.5 * np.log(H))), gradient, hessian

"""Moves of a generalised linear mixed model along which the likelihood is constant, or one number a scale; parts.

Centring. Let column c of X be, in every cluster with rows, a combination of those of Z: x_jc = z_j' a_ic (the
intercept, a random slope, a variable of clusters times a random column). For such columns C, A_i = (a_ic), any delta,

    beta_C -> beta_C + delta,     b_i -> b_i - A_i delta                       (for each of the r predictors)

leaves X beta + Z b as it is. So delta is normal given everything (Yu & Meng 2011, interweaving; Liu & Sabatti 2000):

    precision   Q0_CC + sum_i A_i' Psi^-1 A_i,       precision x mean   t0_C - (Q0 beta)_C + sum_i A_i' Psi^-1 b_i

The sums are over clusters with rows; the others are drawn anew when all is done. Without it the intercept creeps where
clusters are large: given the b_i it is known as well as all rows tell, given the rows only as well as m clusters do.

Scales. As kernels/rescale.py, all effects at once: b_ie -> alpha_e b_ie, Psi -> A Psi A, A = diag(alpha). With
R = Psi^-1 and half-t standard deviations (Huang-Wand: d = r q; independent: d = 1),

    p(alpha) ~ L(alpha) pi(A Psi A) prod_e |alpha_e|^d  ~  L(alpha) prod_e (nu R_ee s_e^2 + alpha_e^2)^-(nu + d)/2

so given the likelihood the scales have t priors, smooth at zero: no sticking there. eta is linear in alpha, with design
z_jl b_ie, and alpha is drawn by kernels/glmm_blocks.py. It starts from 1, its present value.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.glmm_rows import GlmmRows
from bayesimp.kernels.joint_gibbs import _draw_covariance, _invert
from bayesimp.kernels.linalg import cholesky, fill, solve_lower, solve_lower_t

__all__ = ["Centring", "centre", "centring", "draw_Psi", "draw_without_rows", "predictor", "read_effects",
           "read_fixed", "rescale", "scale_design", "write_effects", "write_fixed"]  # fmt: skip

RANK, EXACT = 1e-9, 1e-7  # pivots and residuals, relative


class Centring(NamedTuple):
    """columns (c,): those of X to centre; A (m, q, c): what they are of Z, by cluster, zero in clusters without rows."""

    columns: np.ndarray
    A: np.ndarray


def centring(rows: GlmmRows) -> Centring:
    """The columns of X that are, within every cluster with rows, combinations of those of Z (`EXACT`, relative).

    A_i has least squares: where the columns of Z are dependent in a cluster, as in one of fewer than q rows, any A_i will
    do that gives x, and the shortest is taken.
    """
    (n, p), q, m = rows.X.shape, rows.Z.shape[1], len(rows.first) - 1
    A = np.zeros((m, q, p))
    seen = np.flatnonzero(np.diff(rows.first))
    if n == 0:
        return Centring(np.zeros(0, dtype=np.int64), A)
    start = rows.first[seen]
    ZZ, ZX = (
        np.stack([np.add.reduceat(rows.Z[:, [l]] * V, start) for l in range(q)], axis=1)
        for V in (rows.Z, rows.X)
    )
    A[seen] = np.linalg.pinv(ZZ, rcond=RANK, hermitian=True) @ ZX
    cluster = np.repeat(np.arange(m), np.diff(rows.first))
    error = rows.X - sum(rows.Z[:, [l]] * A[cluster, l] for l in range(q))
    largest = np.maximum.reduceat(np.abs(rows.X), start)
    columns = np.flatnonzero((np.maximum.reduceat(np.abs(error), start) <= EXACT * largest).all(0))
    return Centring(columns, np.ascontiguousarray(A[..., columns]))


@inner
def predictor(rows, beta, B, fixed, random, out):
    """out (n, r) <- offset, + X beta if `fixed`, + Z b if `random`."""
    q, r = B.shape[1], B.shape[2]
    for i in range(B.shape[0]):
        for j in range(rows.first[i], rows.first[i + 1]):
            for k in range(r):
                s = rows.offset[j]
                if fixed:
                    for x in range(beta.shape[0]):
                        s += rows.X[j, x] * beta[x, k]
                if random:
                    for l in range(q):
                        s += rows.Z[j, l] * B[i, l, k]
                out[j, k] = s


@inner
def scale_design(rows, B, out):
    """out (n, r q) <- z_jl b_ikl, entry k q + l."""
    q, r = B.shape[1], B.shape[2]
    for i in range(B.shape[0]):
        for j in range(rows.first[i], rows.first[i + 1]):
            for k in range(r):
                for l in range(q):
                    out[j, k * q + l] = rows.Z[j, l] * B[i, l, k]


@inner
def _centring_precision(rows, centring, Q0, t0, Psi_inverse, beta, B, H, t):
    """H (lower triangle), t: precision, precision x mean of vec(delta), entry k c + column."""
    p, r = beta.shape
    q, chosen = B.shape[1], centring.columns.size
    A = centring.A
    v = np.empty(q)
    for k in range(r):
        for c in range(chosen):
            at = k * chosen + c
            row = k * p + centring.columns[c]
            t[at] = t0[row]
            for j in range(r):
                for x in range(p):
                    t[at] -= Q0[row, j * p + x] * beta[x, j]
                for e in range(chosen):
                    H[at, j * chosen + e] = Q0[row, j * p + centring.columns[e]]
    for i in range(B.shape[0]):
        if rows.first[i] == rows.first[i + 1]:
            continue
        for k in range(r):
            for c in range(chosen):
                for j in range(r):
                    for h in range(q):  # v' = a_ic' (block k, j of Psi^-1)
                        s = 0.0
                        for l in range(q):
                            s += A[i, l, c] * Psi_inverse[k * q + l, j * q + h]
                        v[h] = s
                        t[k * chosen + c] += s * B[i, h, j]
                    for e in range(chosen):
                        s = 0.0
                        for h in range(q):
                            s += v[h] * A[i, h, e]
                        H[k * chosen + c, j * chosen + e] += s


@inner
def centre(rng, rows, centring, Q0, t0, Psi_inverse, beta, B):
    """beta and B moved by a draw of delta. False if delta has no proper law."""
    r, q, chosen = beta.shape[1], B.shape[1], centring.columns.size
    d = r * chosen
    H, t = np.empty((d, d)), np.empty(d)
    _centring_precision(rows, centring, Q0, t0, Psi_inverse, beta, B, H, t)
    if not cholesky(H, d):
        return False
    solve_lower(H, t, d)
    for a in range(d):
        t[a] += rng.standard_normal()
    solve_lower_t(H, t, d)
    for k in range(r):
        for c in range(chosen):
            delta = t[k * chosen + c]
            beta[centring.columns[c], k] += delta
            for i in range(B.shape[0]):
                for l in range(q):
                    B[i, l, k] -= centring.A[i, l, c] * delta
    return True


def draw_without_rows(rng, rows: GlmmRows, Psi, B) -> None:
    """b_i ~ N(0, Psi) in clusters without rows, in place."""
    empty = np.flatnonzero(np.diff(rows.first) == 0)
    if not len(empty):
        return
    _, q, r = B.shape
    vec = rng.standard_normal((len(empty), r * q)) @ np.linalg.cholesky(Psi).T
    B[empty] = vec.reshape(-1, r, q).transpose(0, 2, 1)


@inner
def read_effects(b, theta):
    """theta <- vec(b_i)."""
    q, r = b.shape
    for k in range(r):
        for l in range(q):
            theta[k * q + l] = b[l, k]


@inner
def write_effects(theta, b):
    q, r = b.shape
    for k in range(r):
        for l in range(q):
            b[l, k] = theta[k * q + l]


@inner
def read_fixed(beta, aux, theta):
    """theta <- vec(beta), log increments if it has room."""
    p, r = beta.shape
    for k in range(r):
        for x in range(p):
            theta[k * p + x] = beta[x, k]
    for a in range(theta.size - p * r):
        theta[p * r + a] = math.log(aux[a])


@inner
def write_fixed(theta, beta, aux):
    p, r = beta.shape
    for k in range(r):
        for x in range(p):
            beta[x, k] = theta[k * p + x]
    for a in range(theta.size - p * r):
        aux[a] = math.exp(theta[p * r + a])


@inner
def draw_Psi(rng, rows, prior, B, Psi, Psi_inverse, S):
    """COVARIANCE; Psi_inverse follows. S (rq, rq): work space."""
    m, q, r = B.shape
    fill(S, 0.0)
    seen = np.int64(0)
    for i in range(m):
        if rows.first[i] < rows.first[i + 1]:
            seen += 1
            for k in range(r):
                for l in range(q):
                    for j in range(r):
                        for h in range(q):
                            S[k * q + l, j * q + h] += B[i, l, k] * B[i, h, j]
    return _draw_covariance(rng, prior, S, seen, Psi_inverse, Psi) and _invert(Psi, Psi_inverse)


@inner
def rescale(alpha, B, Psi):
    """SCALE once alpha is drawn."""
    q = B.shape[1]
    for e in range(alpha.size):
        for f in range(alpha.size):
            Psi[e, f] *= alpha[e] * alpha[f]
        for i in range(B.shape[0]):
            B[i, e % q, e // q] *= alpha[e]

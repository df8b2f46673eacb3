"""Moves of a generalised linear mixed model along which the likelihood is constant, or one number a scale.

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

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import cholesky, fill, semidefinite_cholesky, solve_lower, solve_lower_t

__all__ = ["Centring", "centre", "centring", "draw_without_rows", "fixed_part", "random_part", "scale_design"]

RANK, EXACT = 1e-9, 1e-7  # pivots and residuals, relative


class Centring(NamedTuple):
    """columns (c,): those of X to centre; A (m, q, c): what they are of Z, by cluster."""

    columns: np.ndarray
    A: np.ndarray


@inner
def fixed_part(rows, beta, out):
    """out (n, r) <- offset + X beta."""
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            s = rows.offset[j]
            for x in range(beta.shape[0]):
                s += rows.X[j, x] * beta[x, k]
            out[j, k] = s


@inner
def random_part(rows, B, out):
    """out (n, r) <- offset + Z b."""
    for i in range(B.shape[0]):
        for j in range(rows.first[i], rows.first[i + 1]):
            for k in range(out.shape[1]):
                s = rows.offset[j]
                for l in range(B.shape[1]):
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
def _solve_singular(L, b, q):
    """b <- (L L')^- b: entries of zero pivots are zero."""
    for i in range(q):
        s = b[i]
        for k in range(i):
            s -= L[i, k] * b[k]
        b[i] = s / L[i, i] if L[i, i] > 0.0 else 0.0
    for i in range(q - 1, -1, -1):
        s = b[i]
        for k in range(i + 1, q):
            s -= L[k, i] * b[k]
        b[i] = s / L[i, i] if L[i, i] > 0.0 else 0.0


@inner
def _column_of_Z(rows, start, stop, c, L, a):
    """a <- coefficients of column c of X on Z in rows start..stop-1; whether it is their combination."""
    q = rows.Z.shape[1]
    largest = 0.0
    for l in range(q):
        a[l] = 0.0
    for j in range(start, stop):
        largest = max(largest, abs(rows.X[j, c]))
        for l in range(q):
            a[l] += rows.Z[j, l] * rows.X[j, c]
    _solve_singular(L, a, q)
    for j in range(start, stop):
        s = rows.X[j, c]
        for l in range(q):
            s -= rows.Z[j, l] * a[l]
        if abs(s) > EXACT * largest:
            return False
    return True


@inner
def centring(rows):
    """The columns of X that are, within every cluster with rows, combinations of those of Z."""
    m, p, q = rows.first.size - 1, rows.X.shape[1], rows.Z.shape[1]
    A = np.zeros((m, q, p))
    inside = np.ones(p, dtype=np.bool_)
    L, a = np.empty((q, q)), np.empty(q)
    for i in range(m):
        start, stop = rows.first[i], rows.first[i + 1]
        if start == stop:
            continue
        fill(L, 0.0)
        for j in range(start, stop):
            for l in range(q):
                for h in range(l + 1):
                    L[l, h] += rows.Z[j, l] * rows.Z[j, h]
        semidefinite_cholesky(L, q, RANK, stop - start)
        for c in range(p):
            inside[c] = inside[c] and _column_of_Z(rows, start, stop, c, L, a)
            for l in range(q):
                A[i, l, c] = a[l]
    chosen = np.int64(0)
    columns = np.empty(p, dtype=np.int64)
    for c in range(p):
        if inside[c] and rows.y.size > 0:
            columns[chosen] = c
            for i in range(m):
                for l in range(q):
                    A[i, l, chosen] = A[i, l, c]
            chosen += 1
    return Centring(columns[:chosen], A)


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


@inner
def draw_without_rows(rng, rows, Psi, B):
    """b_i ~ N(0, Psi) in clusters without rows. False if Psi is not positive definite."""
    q, d = B.shape[1], Psi.shape[0]
    L, z = np.empty((d, d)), np.empty(d)
    for e in range(d):
        for f in range(d):
            L[e, f] = Psi[e, f]
    if not cholesky(L, d):
        return False
    for i in range(B.shape[0]):
        if rows.first[i] == rows.first[i + 1]:
            for e in range(d):
                z[e] = rng.standard_normal()
            for e in range(d):
                s = 0.0
                for f in range(e + 1):
                    s += L[e, f] * z[f]
                B[i, e % q, e // q] = s
    return True

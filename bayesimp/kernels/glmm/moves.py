"""Moves in a generalised linear mixed model along which the likelihood is constant or depends on one number per scale.

Centring. Let column c of X be, in every cluster with rows, a linear combination of the columns of Z: x_jc = z_j' a_ic
(the intercept, a random slope, a cluster-level variable times a random column). For the set C of such columns, with
A_i = (a_ic), and any delta,

    beta_C -> beta_C + delta,     b_i -> b_i - A_i delta                       (for each of the r predictors)

leaves X beta + Z b unchanged. So delta is normal given everything (Yu & Meng 2011, interweaving; Liu & Sabatti 2000):

    precision   Q0_CC + sum_i A_i' Psi^-1 A_i,       precision x mean   t0_C - (Q0 beta)_C + sum_i A_i' Psi^-1 b_i

The sums are over clusters with rows; the effects of the others are redrawn at the end. Without this move the intercept
mixes slowly if clusters are large: given the b_i its precision comes from all rows, but given the rows only from m
clusters.

Scales. As in kernels/normal/rescale.py, all effects at once: b_ie -> alpha_e b_ie, Psi -> A Psi A, A = diag(alpha). With
R = Psi^-1 and half-t standard deviations (Huang-Wand: d = r q; independent: d = 1),

    p(alpha) ~ L(alpha) pi(A Psi A) prod_e |alpha_e|^d  ~  L(alpha) prod_e (nu R_ee s_e^2 + alpha_e^2)^-(nu + d)/2

So, apart from the likelihood, the scales have t priors, which are smooth at zero: the chain does not stick there.
eta is linear in alpha, with design z_jl b_ie. Where the prior's own scale is far from that of the data, likelihood times
t prior may have two modes, at zero and at the scale of the data. But a t is a normal with random precision,

    (c + alpha^2)^-k  ~  integral of  lambda^(k - 1) exp(-lambda (c + alpha^2) / 2) d lambda,    k = (nu + d) / 2

so lambda_e ~ Gamma(k, rate (nu R_ee s_e^2 + 1) / 2) at the present alpha = 1 (Geweke 1993), and given lambda the target
is log-concave where the likelihood is: kernels/glmm/blocks.py draws alpha.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import (
    invert,
    update_covariance,
)
from bayesimp.kernels.draws import draw_by_precision
from bayesimp.kernels.linalg import add_square, cholesky, copy_to, fill, semidefinite_cholesky
from bayesimp.notation import BoolVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = ["Centring", "centre", "centring", "columns", "draw_Psi", "draw_without_rows", "predictor", "read_effects",
           "read_fixed", "rescale", "scale_design", "write_effects", "write_fixed"]  # fmt: skip

RANK, EXACT = 1e-9, 1e-7  # pivots and residuals, relative


class Centring(NamedTuple):
    """columns (c,): the columns of X to centre; A (m, q, c): their coefficients on Z by cluster, zero without rows."""

    columns: np.ndarray
    A: np.ndarray


@inner
def _combinations(Z: Matrix, X: Matrix, start: int, stop: int, A: Matrix, candidate: BoolVector) -> None:
    """A (q, p) <- least-squares coefficients of the columns of X on those of Z in rows start..stop-1; candidate[x] <-
    False where residuals remain (`EXACT`, relative)."""
    q, p = Z.shape[1], X.shape[1]
    L, t = np.empty((q, q)), np.empty(q)
    for k in range(q):
        for l in range(k + 1):
            s = 0.0
            for j in range(start, stop):
                s += Z[j, k] * Z[j, l]
            L[k, l] = s
    semidefinite_cholesky(L, q, RANK, q)
    for x in range(p):
        if not candidate[x]:
            continue
        for l in range(q):
            t[l] = 0.0
            for j in range(start, stop):
                t[l] += Z[j, l] * X[j, x]
        _solve_semidefinite(L, t)
        largest, error = 0.0, 0.0
        for j in range(start, stop):
            rest = X[j, x]
            largest = max(largest, abs(rest))
            for l in range(q):
                rest -= Z[j, l] * t[l]
            error = max(error, abs(rest))
        candidate[x] = error <= EXACT * largest
        for l in range(q):
            A[l, x] = t[l]


@inner
def _solve_semidefinite(L: Matrix, t: Vector) -> None:
    """t <- a solution x of L L'x = t, zero where a column of L is zero."""
    q = t.size
    for a in range(q):
        s = t[a]
        for k in range(a):
            s -= L[a, k] * t[k]
        t[a] = s / L[a, a] if L[a, a] > 0.0 else 0.0
    for a in range(q - 1, -1, -1):
        s = t[a]
        for k in range(a + 1, q):
            s -= L[k, a] * t[k]
        t[a] = s / L[a, a] if L[a, a] > 0.0 else 0.0


@kernel(nogil=True)
def centring(rows: GlmmRows) -> Centring:
    """The columns of X that are combinations of the columns of Z within every cluster with rows (`EXACT`, relative).

    A_i comes from least squares: where the columns of Z are dependent in a cluster, as with fewer than q rows, any A_i
    that reproduces x will do; columns of Z that are combinations of earlier ones are not used.
    """
    p, q, m = rows.X.shape[1], rows.Z.shape[1], rows.first.size - 1
    every, candidate = np.zeros((m, q, p)), np.ones(p, np.bool_)
    for i in range(m):
        if rows.first[i] < rows.first[i + 1]:
            _combinations(rows.Z, rows.X, rows.first[i], rows.first[i + 1], every[i], candidate)
    columns = np.flatnonzero(candidate)
    A = np.empty((m, q, columns.size))
    for i in range(m):
        for l in range(q):
            for c in range(columns.size):
                A[i, l, c] = every[i, l, columns[c]]
    return Centring(columns, A)


@inner
def columns(D: Matrix) -> Matrix:
    """A copy of D' (w, n), so that each column of D (n, w) is contiguous."""
    n, w = D.shape
    out = np.empty((w, n))
    for j in range(n):
        for l in range(w):
            out[l, j] = D[j, l]
    return out


@inner
def predictor(rows: GlmmRows, beta: Matrix, B: Stack, fixed: bool, random: bool, out: Matrix) -> None:
    """out (n, r) <- offset, + X beta if `fixed`, + Z b if `random`."""
    q, r = B.shape[1], B.shape[2]
    own = r if rows.offset.size > rows.y.size else 1
    for i in range(B.shape[0]):
        for j in range(rows.first[i], rows.first[i + 1]):
            for k in range(r):
                s = rows.offset[own * j + (k if own > 1 else 0)]
                if fixed:
                    for x in range(beta.shape[0]):
                        s += rows.X[j, x] * beta[x, k]
                if random:
                    for l in range(q):
                        s += rows.Z[j, l] * B[i, l, k]
                out[j, k] = s


@inner
def scale_design(rows: GlmmRows, B: Stack, out: Matrix) -> None:
    """out (r q, n) <- z_jl b_ikl, row k q + l."""
    q, r = B.shape[1], B.shape[2]
    for i in range(B.shape[0]):
        for j in range(rows.first[i], rows.first[i + 1]):
            for k in range(r):
                for l in range(q):
                    out[k * q + l, j] = rows.Z[j, l] * B[i, l, k]


@inner
def _centring_precision(
    rows: GlmmRows,
    centring: Centring,
    Q0: Matrix,
    t0: Vector,
    Psi_inverse: Matrix,
    beta: Matrix,
    B: Stack,
    H: Matrix,
    t: Vector,
) -> None:
    """H (lower triangle) and t <- precision and precision x mean of vec(delta), entry k c + column."""
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
def centre(
    rng: np.random.Generator,
    rows: GlmmRows,
    centring: Centring,
    Q0: Matrix,
    t0: Vector,
    Psi_inverse: Matrix,
    beta: Matrix,
    B: Stack,
) -> bool:
    """Move beta and B by a draw of delta; returns False if delta has no proper distribution."""
    r, q, chosen = beta.shape[1], B.shape[1], centring.columns.size
    d = r * chosen
    H, t = np.empty((d, d)), np.empty(d)
    _centring_precision(rows, centring, Q0, t0, Psi_inverse, beta, B, H, t)
    if not draw_by_precision(rng, H, t, d):
        return False
    for k in range(r):
        for c in range(chosen):
            delta = t[k * chosen + c]
            beta[centring.columns[c], k] += delta
            for i in range(B.shape[0]):
                for l in range(q):
                    B[i, l, k] -= centring.A[i, l, c] * delta
    return True


@inner
def draw_without_rows(rng: np.random.Generator, rows: GlmmRows, Psi: Matrix, B: Stack, L: Matrix) -> bool:
    """Draw b_i ~ N(0, Psi) in clusters without rows, in place; False if Psi is not positive definite. L: work space."""
    m, q, r = B.shape
    d = r * q
    copy_to(L, Psi)
    if not cholesky(L, d):
        return False
    z = np.empty(d)
    for i in range(m):
        if rows.first[i] < rows.first[i + 1]:
            continue
        for e in range(d):
            z[e] = rng.standard_normal()
        for e in range(d):
            s = 0.0
            for f in range(e + 1):
                s += L[e, f] * z[f]
            B[i, e % q, e // q] = s
    return True


@inner
def read_effects(b: Matrix, theta: Vector) -> None:
    """theta <- vec(b_i)."""
    q, r = b.shape
    for k in range(r):
        for l in range(q):
            theta[k * q + l] = b[l, k]


@inner
def write_effects(theta: Vector, b: Matrix) -> None:
    """b (q, r) <- theta, response by response."""
    q, r = b.shape
    for k in range(r):
        for l in range(q):
            b[l, k] = theta[k * q + l]


@inner
def read_fixed(beta: Matrix, aux: Vector, theta: Vector) -> None:
    """theta <- vec(beta), followed by the log increments if theta has room for them."""
    p, r = beta.shape
    for k in range(r):
        for x in range(p):
            theta[k * p + x] = beta[x, k]
    for a in range(theta.size - p * r):
        theta[p * r + a] = math.log(aux[a])


@inner
def write_fixed(theta: Vector, beta: Matrix, aux: Vector) -> None:
    """beta (p, r) and aux <- theta; the last elements of theta are logarithms of aux."""
    p, r = beta.shape
    for k in range(r):
        for x in range(p):
            beta[x, k] = theta[k * p + x]
    for a in range(theta.size - p * r):
        aux[a] = math.exp(theta[p * r + a])


@inner
def draw_Psi(
    rng: np.random.Generator,
    rows: GlmmRows,
    prior: CovarianceUpdate,
    B: Stack,
    Psi: Matrix,
    Psi_inverse: Matrix,
    S: Matrix,
) -> bool:
    """The move COVARIANCE; Psi_inverse is updated too. S (rq, rq): work space."""
    fill(S, 0.0)
    seen = np.int64(0)
    for i in range(B.shape[0]):
        if rows.first[i] < rows.first[i + 1]:
            seen += 1
            add_square(B, i, S)
    return update_covariance(rng, prior, S, seen, Psi_inverse, Psi) and invert(Psi, Psi_inverse)


@inner
def rescale(alpha: Vector, B: Stack, Psi: Matrix) -> None:
    """Apply the move SCALE, given alpha."""
    q = B.shape[1]
    for e in range(alpha.size):
        for f in range(alpha.size):
            Psi[e, f] *= alpha[e] * alpha[f]
        for i in range(B.shape[0]):
            B[i, e % q, e // q] *= alpha[e]

"""Profiled (RE)ML deviance of a linear mixed model with one grouping factor, and its exact gradient.

    y_i = X_i beta + Z_i b_i + e_i,   e_i ~ N(0, sigma^2 I),   b_i ~ N(0, Psi),   Psi = sigma^2 Lambda Lambda'

With A_i = Z_i'Z_i (q, q), B_i = Z_i'X_i (q, p), c_i = Z_i'y_i (q,) and sums over clusters i,

    L_i L_i'  = I + Lambda' A_i Lambda = H_i                  Bates, Maechler, Bolker & Walker 2015, sec. 3
    U_i, v_i  = L_i^-1 Lambda' B_i,  L_i^-1 Lambda' c_i
    R R'      = X'X - sum U_i'U_i                             ibid. (R here is the transpose of R_X there)
    beta      = (R R')^-1 (X'y - sum U_i'v_i)
    rss       = y'y - sum v_i'v_i - |R'beta|^2                penalised residual sum of squares
    df        = n (ML),  n - p (REML)
    deviance  = sum log|H_i| + df (1 + log(2 pi rss / df)) [+ log|R R'| under REML]

    d deviance / d Lambda = 2 sum { A_i Lambda H_i^-1 - f_i u_i' / sigma^2 [- F_i (R R')^-1 G_i'] },
        u_i = H_i^-1 Lambda'(c_i - B_i beta),  f_i = c_i - B_i beta - A_i Lambda u_i,
        G_i = H_i^-1 Lambda' B_i,              F_i = B_i - A_i Lambda G_i,     sigma^2 = rss / df

(by the envelope theorem: beta, u and sigma^2 are at their optimum). The deviance is even in every column of
Lambda, so variances of zero need no constraint: the search is unconstrained, and signs are corrected afterwards.
X and Z arrive orthonormal, and y as a scaled residual (`orthonormalise`, `project_out`): X'X = I, X'y = 0,
y'y = n. So condition numbers are not squared, and thresholds do not depend on units.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, merged
from bayesimp.kernels.linalg import cholesky_log_det, solve_lower, solve_lower_t
from bayesimp.notation import IntMatrix, IntVector, Matrix, Stack, Vector

__all__ = ["cluster_products", "deviance", "orthonormalise", "project_out", "workspace"]

# a column is refused if the part of it outside the span of the others is smaller than this share
DEPENDENT = 1e-10


@inner
def orthonormalise(W: Matrix, block: IntVector, T: Matrix) -> int:
    """Rows w_c of W (k, n) <- q_c, w_c = sum_{d >= c, same block} T[d, c] q_d; T (k, k) lower triangular.

    Gram-Schmidt from the last row up, twice per row. Returns the first dependent row found, or -1.
    """
    k, n = W.shape
    for c in range(k - 1, -1, -1):
        before = sum_of_squares(W[c])
        for _ in range(2):
            for d in range(c + 1, k):
                if block[d] == block[c]:
                    T[d, c] += project_out(W[d], W[c])
        after = sum_of_squares(W[c])
        if not after > DEPENDENT**2 * before:
            return c
        T[c, c] = math.sqrt(after)
        for i in range(n):
            W[c, i] /= T[c, c]
    return -1


@inner
def sum_of_squares(w: Vector) -> float:
    """w'w."""
    s = 0.0
    for i in range(w.shape[0]):
        s += w[i] * w[i]
    return s


@inner
def copy_vector(out: Vector, v: Vector) -> None:
    """out <- v."""
    for i in range(v.shape[0]):
        out[i] = v[i]


@inner
def project_out(unit: Vector, w: Vector) -> float:
    """w <- w - (unit'w) unit; returns unit'w."""
    s = 0.0
    for i in range(w.shape[0]):
        s += unit[i] * w[i]
    for i in range(w.shape[0]):
        w[i] -= s * unit[i]
    return s


@inner
def cluster_products(
    X: Matrix, Z: Matrix, y: Vector, codes: IntVector, A: Stack, B: Stack, c: Matrix
) -> None:
    """A_i, B_i, c_i (zero on entry) <- their sums, in one pass over rows in any order; X (p, n), Z (q, n)."""
    for j in range(y.shape[0]):
        i = codes[j]
        for a in range(Z.shape[0]):
            z = Z[a, j]
            c[i, a] += z * y[j]
            for b in range(Z.shape[0]):
                A[i, a, b] += z * Z[b, j]
            for b in range(X.shape[0]):
                B[i, a, b] += z * X[b, j]


@inner
def workspace(m: int, q: int, p: int) -> tuple[Matrix, Stack, Stack, Matrix, Matrix, Vector, Vector]:
    """Arrays that the deviance fills for its gradient: Lambda, L_i, U_i' (m, p, q), v_i, R, beta, (rss, sigma^2)."""
    return (
        np.zeros((q, q)), np.empty((m, q, q)), np.empty((m, p, q)), np.empty((m, q)),
        np.empty((p, p)), np.empty(p), np.empty(2),
    )  # fmt: skip


@inner
def deviance(
    theta: Vector,
    free: IntMatrix,
    A: Stack,
    B: Stack,
    c: Matrix,
    n: int,
    reml: bool,
    sigma2: float,
    work: tuple[Matrix, Stack, Stack, Matrix, Matrix, Vector, Vector],
    g: Vector,
) -> float:
    """The deviance at theta, the entries ``free`` (d, 2) of the lower triangular Lambda; g <- its gradient.

    ``sigma2`` = 0 profiles sigma^2 out; any other value is held fixed. Infinite where a factor does not exist.
    """
    value = _deviance(theta, free, A, B, c, n, reml, sigma2, work)
    if value < np.inf:
        _gradient(free, A, B, c, reml, work, g)
    return value


@merged
def _deviance(
    theta: Vector,
    free: IntMatrix,
    A: Stack,
    B: Stack,
    c: Matrix,
    n: int,
    reml: bool,
    sigma2: float,
    work: tuple[Matrix, Stack, Stack, Matrix, Matrix, Vector, Vector],
) -> float:
    """Evaluate the first five equations above, in order; ``work`` is filled."""
    Lambda, L, U, v, R, beta, scalars = work
    m, p, q = U.shape
    for k in range(theta.shape[0]):
        Lambda[free[k, 0], free[k, 1]] = theta[k]
    for a in range(p):
        beta[a] = 0.0
        for b in range(p):
            R[a, b] = 1.0 if a == b else 0.0
    logdet, rss = 0.0, float(n)
    for i in range(m):
        for a in range(q):
            for b in range(a + 1):
                h = 1.0 if a == b else 0.0
                for k in range(a, q):
                    for l in range(b, q):
                        h += Lambda[k, a] * A[i, k, l] * Lambda[l, b]
                L[i, a, b] = h
            v[i, a] = 0.0
            for k in range(a, q):
                v[i, a] += Lambda[k, a] * c[i, k]
            for b in range(p):
                U[i, b, a] = 0.0
                for k in range(a, q):
                    U[i, b, a] += Lambda[k, a] * B[i, k, b]
        logdet += cholesky_log_det(L[i], q)
        solve_lower(L[i], v[i], q)
        rss -= sum_of_squares(v[i])
        for b in range(p):
            solve_lower(L[i], U[i, b], q)
            for a in range(q):
                beta[b] -= U[i, b, a] * v[i, a]
                for e in range(b + 1):
                    R[b, e] -= U[i, b, a] * U[i, e, a]
    logdet_R = cholesky_log_det(R, p)
    solve_lower(R, beta, p)
    rss -= sum_of_squares(beta)
    solve_lower_t(R, beta, p)
    if not rss > 0.0 or math.isnan(logdet):  # nan from a failed factor has spread to rss
        return np.inf
    df = n - p if reml else n
    scalars[0] = rss
    scalars[1] = rss / df if sigma2 == 0.0 else sigma2
    value = logdet + df * math.log(2.0 * math.pi * scalars[1]) + rss / scalars[1]
    return value + logdet_R if reml else value


@merged
def _gradient(
    free: IntMatrix,
    A: Stack,
    B: Stack,
    c: Matrix,
    reml: bool,
    work: tuple[Matrix, Stack, Stack, Matrix, Matrix, Vector, Vector],
    g: Vector,
) -> None:
    """g <- d deviance / d theta at the point where ``work`` was filled; the same for sigma^2 profiled or held."""
    Lambda, L, U, v, R, beta, scalars = work
    m, p, q = U.shape
    half = np.zeros((q, q))
    S, Hinv = np.empty((q, q)), np.empty((q, q))  # A_i Lambda; H_i^-1
    u, f, G_b = np.empty(q), np.empty(q), np.empty(q)
    F, G = np.empty((q, p)), np.empty((q, p))
    for i in range(m):
        copy_vector(u, v[i])
        for a in range(q):
            f[a] = c[i, a]
            for b in range(p):
                u[a] -= U[i, b, a] * beta[b]
                f[a] -= B[i, a, b] * beta[b]
            for b in range(q):
                Hinv[a, b] = 1.0 if a == b else 0.0
                S[a, b] = 0.0
                for k in range(b, q):
                    S[a, b] += A[i, a, k] * Lambda[k, b]
            solve_lower(L[i], Hinv[a], q)
            solve_lower_t(L[i], Hinv[a], q)
        solve_lower_t(L[i], u, q)
        for a in range(q):
            for k in range(q):
                f[a] -= S[a, k] * u[k]
        if reml:
            for b in range(p):
                copy_vector(G_b, U[i, b])
                solve_lower_t(L[i], G_b, q)
                for a in range(q):
                    G[a, b], F[a, b] = G_b[a], B[i, a, b]
                    for k in range(q):
                        F[a, b] -= S[a, k] * G_b[k]
            for a in range(q):
                solve_lower(R, F[a], p)
                solve_lower(R, G[a], p)
        for a in range(q):
            for b in range(a + 1):
                half[a, b] -= f[a] * u[b] / scalars[1]
                for k in range(q):
                    half[a, b] += S[a, k] * Hinv[k, b]
                if reml:
                    for k in range(p):
                        half[a, b] -= F[a, k] * G[b, k]
    for k in range(g.shape[0]):
        g[k] = 2.0 * half[free[k, 0], free[k, 1]]

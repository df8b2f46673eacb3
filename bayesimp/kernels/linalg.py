"""Dense linear algebra for numba loops, for matrices of a few rows, where calling BLAS costs more than the arithmetic.

Only lower triangles of symmetric inputs are read. All functions work in place on the leading n rows.
"""

from __future__ import annotations

import math

from bayesimp.kernels.compiled import inner
from bayesimp.notation import Integer, Matrix, Stack, Vector

__all__ = [
    "add_square",
    "cholesky",
    "cholesky_log_det",
    "copy_to",
    "fill",
    "inverse_from_cholesky",
    "lower_product",
    "row_mean",
    "semidefinite_cholesky",
    "solve_lower",
    "solve_lower_t",
]


@inner
def copy_to(out: Matrix, A: Matrix) -> None:
    """out <- A, both 2-d. A loop, because numba's slice assignment (broadcasting, errors) takes seconds to compile."""
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            out[i, j] = A[i, j]


@inner
def fill(out: Matrix, value: float) -> None:
    """out <- value, 2-d."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = value


@inner
def lower_product(L: Matrix, out: Matrix) -> None:
    """out <- L L', the full symmetric matrix, for lower triangular L, whose upper triangle is not read."""
    for i in range(L.shape[0]):
        for j in range(L.shape[0]):
            s = 0.0
            for k in range(min(i, j) + 1):
                s += L[i, k] * L[j, k]
            out[i, j] = s


@inner
def add_square(B: Stack, i: Integer, out: Matrix) -> None:
    """out (rq, rq) += vec(B_i) vec(B_i)' for B_i = B[i] (q, r)."""
    q, r = B.shape[1], B.shape[2]
    for k in range(r):
        for l in range(q):
            for j in range(r):
                for h in range(q):
                    out[k * q + l, j * q + h] += B[i, l, k] * B[i, h, j]


@inner
def row_mean(X: Matrix, Z: Matrix, j: Integer, i: Integer, k: Integer, beta: Matrix, B: Stack) -> float:
    """x_j'beta_k + z_j'B_ik: the mean of response k in row j of cluster i."""
    s = 0.0
    for x in range(beta.shape[0]):
        s += X[j, x] * beta[x, k]
    for l in range(B.shape[1]):
        s += Z[j, l] * B[i, l, k]
    return s


@inner
def cholesky(A: Matrix, n: Integer) -> bool:
    """A <- L with A = L L'; the upper triangle is left untouched. Returns False if A is not positive definite."""
    for i in range(n):
        for j in range(i):
            s = A[i, j]
            for k in range(j):
                s -= A[i, k] * A[j, k]
            A[i, j] = s / A[j, j]
        s = A[i, i]
        for k in range(i):
            s -= A[i, k] * A[i, k]
        if not s > 0.0:
            return False
        A[i, i] = math.sqrt(s)
    return True


@inner
def cholesky_log_det(A: Matrix, n: int) -> float:
    """Factor A as `cholesky` does; returns log det A, or nan if A is not positive definite."""
    if not cholesky(A, n):
        return math.nan
    half = 0.0
    for i in range(n):
        half += math.log(A[i, i])
    return 2.0 * half


@inner
def semidefinite_cholesky(A: Matrix, n: Integer, tolerance: float, limit: Integer) -> int:
    """A <- L with A = L L' for positive semidefinite A; columns whose pivots are <= tolerance * A_jj become zero.

    limit: an upper bound on the rank; pivots after that many are round-off. Returns the rank. The upper
    triangle is left untouched.
    """
    rank = 0
    for j in range(n):
        pivot = A[j, j]
        for k in range(j):
            pivot -= A[j, k] * A[j, k]
        if rank == limit or pivot <= tolerance * A[j, j]:
            for i in range(j, n):
                A[i, j] = 0.0
            continue
        rank += 1
        root = math.sqrt(pivot)
        for i in range(j + 1, n):
            s = A[i, j]
            for k in range(j):
                s -= A[i, k] * A[j, k]
            A[i, j] = s / root
        A[j, j] = root
    return rank


@inner
def solve_lower(L: Matrix, b: Vector, n: int) -> None:
    """b <- L^-1 b."""
    for i in range(n):
        s = b[i]
        for k in range(i):
            s -= L[i, k] * b[k]
        b[i] = s / L[i, i]


@inner
def solve_lower_t(L: Matrix, b: Vector, n: int) -> None:
    """b <- L^-T b."""
    for i in range(n - 1, -1, -1):
        s = b[i]
        for k in range(i + 1, n):
            s -= L[k, i] * b[k]
        b[i] = s / L[i, i]


@inner
def inverse_from_cholesky(L: Matrix, out: Matrix, n: Integer) -> None:
    """out <- (L L')^-1, the full symmetric matrix; L is not changed."""
    for c in range(n):
        # column c of L^-1, kept in the lower triangle of out
        for i in range(c, n):
            s = 1.0 if i == c else 0.0
            for k in range(c, i):
                s -= L[i, k] * out[k, c]
            out[i, c] = s / L[i, i]
    for i in range(n):
        for j in range(i + 1):
            s = 0.0
            for k in range(i, n):
                s += out[k, i] * out[k, j]
            out[i, j] = s
            out[j, i] = s

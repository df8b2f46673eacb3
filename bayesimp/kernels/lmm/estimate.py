"""ML estimate of a linear mixed model from a table's moments: orthonormalisation of columns, then the search.

With X'X = F F' and Z'Z = n K'K, F and K lower triangular, G = F^-1 and T = K^-1,

    X_u = X G',   Z_u = Z T,   alpha = X_u'y,   y_u = (y - X_u alpha) / scale,   scale^2 = |y - X_u alpha|^2 / n

so that X_u'X_u = I, Z_u'Z_u = n I, X_u'y_u = 0, y_u'y_u = n, as kernels/lmm/deviance.py requires. Transformed back,

    beta = G'(alpha + scale beta_u),   b = scale T b_u,   Psi = scale^2 T Psi_u T',   sigma = scale^2 sigma_u

The search always starts from the same point, so the estimate depends only on the data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.linalg import copy_to, semidefinite_cholesky
from bayesimp.kernels.lmm.search import AWAY, BOUNDARY, EVALUATIONS, START, descend
from bayesimp.notation import Array, IntMatrix, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["maximise", "standardise"]

DEPENDENT = 1e-10  # share of a column's squares outside the span of the others that counts as zero
EXACT = 1e-12  # share of y'y outside the span of X that counts as zero
NO_GAIN = 1e-8  # decrease of the deviance that counts as none


@inner
def inverse_root(S: Matrix, out: Matrix) -> bool:
    """out <- T^-1, T lower triangular with T'T = S; returns False if S is singular up to rounding."""
    q = S.shape[0]
    T = np.zeros((q, q))
    for i in range(q - 1, -1, -1):
        for j in range(i, -1, -1):
            s = S[i, j]
            for k in range(i + 1, q):
                s -= T[k, i] * T[k, j]
            if j == i and not s > DEPENDENT * S[i, i]:
                return False
            T[i, j] = math.sqrt(s) if j == i else s / T[i, i]
    lower_inverse(T, out)
    return True


@inner
def lower_inverse(L: Matrix, out: Matrix) -> None:
    """out <- L^-1, lower triangular, zero above."""
    for j in range(L.shape[0]):
        for i in range(L.shape[0]):
            s = 1.0 if i == j else 0.0
            for k in range(j, i):
                s -= L[i, k] * out[k, j]
            out[i, j] = s / L[i, i] if i >= j else 0.0


@inner
def standardise(
    m: Moments, alpha: Vector, G: Matrix, T: Matrix, A: Array, B: Array, c: Stack
) -> tuple[int, float]:
    """Products of Xu = X G', Zu = Z T, yu = (y - Xu alpha) / scale: Xu'Xu = I, Zu'Zu = n I, Xu'yu = 0, yu'yu = n.

    alpha (p,), G (p, p), T (q, q) lower triangular; A (1, C, q, q), B (1, C, q, p), c (1, C, q) of cells. Returns 0 or
    what failed (`FAILURES`), and the scale.
    """
    p, q, n, cells = G.shape[0], T.shape[0], m.pattern_rows[0], m.ZZ.shape[0]
    root, S = np.zeros((p, p)), np.zeros((q, q))
    copy_to(root, m.XX[0])
    if n <= p or semidefinite_cholesky(root, p, DEPENDENT, p) < p:
        return -1, 0.0
    lower_inverse(root, G)
    for i in range(cells):
        for a in range(q):
            for b in range(q):
                S[a, b] += m.ZZ[i, a, b] / n
    if not inverse_root(S, T):
        return -2, 0.0
    rest = m.YY[0, 0, 0]
    for x in range(p):
        alpha[x] = 0.0
        for h in range(x + 1):
            alpha[x] += G[x, h] * m.XY[0, h, 0]
        rest -= alpha[x] * alpha[x]
    if not rest > EXACT * m.YY[0, 0, 0]:
        return -3, 0.0
    scale = math.sqrt(rest / n)
    half = np.empty((q, max(p, q)))  # products of A_i and B_i with G' or T, before those with T'
    effects = 0  # sum over clusters of the rank of Z_i
    for i in range(cells):
        for a in range(q):
            for b in range(q):
                half[a, b] = 0.0
                for k in range(b, q):
                    half[a, b] += m.ZZ[i, a, k] * T[k, b]
        for a in range(q):
            for b in range(q):
                for k in range(a, q):
                    A[0, i, a, b] += T[k, a] * half[k, b]
                S[a, b] = A[0, i, a, b]
        effects += semidefinite_cholesky(S, q, DEPENDENT, q)
        for a in range(q):
            for x in range(p):
                half[a, x] = 0.0
                for h in range(x + 1):
                    half[a, x] += m.ZX[i, a, h] * G[x, h]
        for a in range(q):
            for k in range(a, q):
                c[0, i, a] += T[k, a] * m.ZY[i, k, 0] / scale
            for x in range(p):
                for k in range(a, q):
                    B[0, i, a, x] += T[k, a] * half[k, x]
                c[0, i, a] -= B[0, i, a, x] * alpha[x] / scale
    return (0 if effects < n else -4), scale


@inner
def maximise(
    free: IntMatrix,
    A: Array,
    B: Array,
    c: Stack,
    n: int,
    theta: Matrix,
    beta: Matrix,
    R: Stack,
    scalars: Matrix,
) -> tuple[bool, bool]:
    """theta (1, d), beta (1, p), R (1, p, p), scalars (1, 2) <- at the minimum of the ML deviance; see `descend`.

    Returns whether the search converged and whether the minimum is singular. A search that ends at a standard deviation
    of zero, which is stationary whether or not it is a minimum, is repeated from near zero.
    """
    d = theta.shape[1]
    value, g, converged, profiled = np.empty(1), np.empty((1, d)), np.zeros(1, np.bool_), np.zeros(1)
    rows, reml = np.full(1, n), n < 0
    full, one = np.int64(EVALUATIONS), np.int64(1)
    for l in range(d):
        theta[0, l] = START if free[l, 0] == free[l, 1] else 0.0
    descend(theta, profiled, full, free, A, B, c, rows, reml, value, g, converged, beta, R, scalars)
    best, found = value[0], converged[0]
    trial = np.empty((1, d))
    for away in (AWAY, 0.0):
        at_zero = False
        for l in range(d):
            small = free[l, 0] == free[l, 1] and abs(theta[0, l]) < BOUNDARY
            trial[0, l] = away if small else theta[0, l]
            at_zero = at_zero or small
        if at_zero:
            again = away > 0.0
            steps, gain = (full, NO_GAIN) if again else (one, -NO_GAIN)
            descend(trial, profiled, steps, free, A, B, c, rows, reml, value, g, converged, beta, R, scalars)
            if value[0] < best - gain:
                best, found = value[0], converged[0] if again else found
                copy_to(theta, trial)
    singular = False
    for l in range(d):
        singular = singular or (free[l, 0] == free[l, 1] and abs(theta[0, l]) < BOUNDARY)
    descend(theta, profiled, one, free, A, B, c, rows, reml, value, g, converged, beta, R, scalars)
    return found, singular

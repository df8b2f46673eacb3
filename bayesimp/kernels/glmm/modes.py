"""Conditional modes of cluster effects in generalised linear mixed models, at given parameters.

    eta_ij = offset_ij + x_ij' beta + z_ij' b_i,     b_i = L u_i,     u_i ~ N(0, I),     Psi = L L'

The log density of u_i given y_i is, up to a constant,

    h_i(u) = sum_j w_ij log p(y_ij | eta_ij) - u'u / 2

with prior weights w. With s_ij = w_ij d log p / d eta, C_ij = -w_ij d^2 log p / d eta^2, g_i = Z_i's_i and
A_i = Z_i'C_i Z_i, Newton's steps are

    gradient  L'g_i - u,     H_i = I + L'A_i L,     step  H_i^-1 (L'g_i - u)         Bates et al. 2015 (PIRLS)

H_i >= I, so L may be singular. A step is halved until the slope along it is no steeper in the opposite direction than it
was before: for a log-concave family (all in kernels/families/scalar.py except the inverse Gaussian) this cannot fail.
Weights are the observed information; lme4 uses the expected one, which differs for non-canonical links (probit).
At the mode u_i is about N(mode, H_i^-1), and b_i has covariance L H_i^-1 L'.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.families.scalar import derivatives, split_log_likelihood, sum_of_logs
from bayesimp.kernels.linalg import cholesky, solve_lower
from bayesimp.kernels.newton import newton_step
from bayesimp.notation import Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = [
    "ModeWork", "at_effects", "cluster_log_likelihood", "conditional_modes", "dot", "effects_of", "factor", "find_mode",
    "fixed_part", "sum_rows", "workspace",
]  # fmt: skip

SMALL = 1e-14  # the search ends at this Newton decrement, twice the gain in h still expected
ROUNDING = 1e-9  # a search that gets stuck below this decrement has reached rounding error
EVALUATIONS = 200


class ModeWork(NamedTuple):
    """Work arrays. eta0, score, curvature (n,) of rows; g, b, step, trial (q,), A, H (q, q) of the current cluster.

    After `find_mode`: g = Z's, A = Z'CZ (lower triangle), H <- its Cholesky factor, all at the mode; b = L u.
    """

    eta0: np.ndarray
    score: np.ndarray
    curvature: np.ndarray
    g: np.ndarray
    b: np.ndarray
    step: np.ndarray
    trial: np.ndarray
    A: np.ndarray
    H: np.ndarray


@inner
def workspace(n: int, q: int) -> ModeWork:
    """Work arrays for n rows and q effects."""
    return ModeWork(
        np.empty(n), np.empty(n), np.empty(n), np.empty(q), np.empty(q), np.empty(q), np.empty(q),
        np.empty((q, q)), np.empty((q, q)),
    )  # fmt: skip


@inner
def fixed_part(rows: GlmmRows, beta: Vector, eta0: Vector) -> None:
    """eta0 <- offset + X beta; beta may be longer than X is wide."""
    for j in range(eta0.shape[0]):
        eta = rows.offset[j]
        for x in range(rows.X.shape[1]):
            eta += rows.X[j, x] * beta[x]
        eta0[j] = eta


@inner
def dot(Z: Matrix, j: int, b: Vector) -> float:
    """z_j'b; the usual case, two columns, is computed without a loop."""
    if Z.shape[1] == 2:
        return Z[j, 0] * b[0] + Z[j, 1] * b[1]
    s = 0.0
    for a in range(Z.shape[1]):
        s += Z[j, a] * b[a]
    return s


@inner
def effects_of(L: Matrix, u: Vector, b: Vector) -> None:
    """b <- L u."""
    for a in range(u.shape[0]):
        b[a] = 0.0
        for c in range(a + 1):
            b[a] += L[a, c] * u[c]


@inner
def sum_rows(rows: GlmmRows, i: int, w: ModeWork) -> None:
    """w.g <- Z's, w.A <- Z'CZ (lower triangle) of cluster i; the usual case, two columns, is summed in one loop."""
    if rows.Z.shape[1] == 2:
        g0, g1, A00, A10, A11 = 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(rows.first[i], rows.first[i + 1]):
            z0, z1, s, c = rows.Z[j, 0], rows.Z[j, 1], w.score[j], w.curvature[j]
            g0, g1 = g0 + s * z0, g1 + s * z1
            A00, A10, A11 = A00 + c * z0 * z0, A10 + c * z0 * z1, A11 + c * z1 * z1
        w.g[0], w.g[1] = g0, g1
        w.A[0, 0], w.A[1, 0], w.A[1, 1] = A00, A10, A11
        return
    for a in range(rows.Z.shape[1]):
        s = 0.0
        for j in range(rows.first[i], rows.first[i + 1]):
            s += w.score[j] * rows.Z[j, a]
        w.g[a] = s
        for c in range(a + 1):
            s = 0.0
            for j in range(rows.first[i], rows.first[i + 1]):
                s += w.curvature[j] * rows.Z[j, a] * rows.Z[j, c]
            w.A[a, c] = s


@inner
def at_effects(rows: GlmmRows, shape: float, i: int, L: Matrix, u: Vector, w: ModeWork) -> None:
    """w.b <- L u; w.score, w.curvature (rows of cluster i), w.g and w.A <- their values there."""
    effects_of(L, u, w.b)
    for j in range(rows.first[i], rows.first[i + 1]):
        eta = w.eta0[j] + dot(rows.Z, j, w.b)
        s, curvature = derivatives(rows.family, rows.y[j], rows.trials[j], eta, shape)
        w.score[j], w.curvature[j] = rows.weight[j] * s, rows.weight[j] * curvature
    sum_rows(rows, i, w)


@inner
def factor(L: Matrix, w: ModeWork) -> bool:
    """w.H <- the Cholesky factor of I + L'AL; w.A is completed to a full matrix. False if A is not finite."""
    q = L.shape[0]
    for a in range(q):
        for c in range(a):
            w.A[c, a] = w.A[a, c]
    for c in range(q):
        for a in range(q):  # step: column c of A L
            w.step[a] = 0.0
            for k in range(c, q):
                w.step[a] += w.A[a, k] * L[k, c]
        for e in range(c, q):
            h = 1.0 if e == c else 0.0
            for a in range(e, q):
                h += L[a, e] * w.step[a]
            w.H[e, c] = h
    return cholesky(w.H, q)


@inner
def gradient(L: Matrix, w: ModeWork, u: Vector, out: Vector) -> None:
    """out <- L'g - u."""
    q = u.shape[0]
    for c in range(q):
        out[c] = -u[c]
        for a in range(c, q):
            out[c] += L[a, c] * w.g[a]


@inner
def find_mode(
    rows: GlmmRows, shape: float, i: int, L: Matrix, u: Vector, w: ModeWork, tolerance: float
) -> bool:
    """u (q,) <- the mode of cluster i, from u, to a Newton decrement below the tolerance. Returns whether it was found.

    On return w holds its values at u (`ModeWork`), and w.step is the next Newton step.
    """
    q = u.shape[0]
    t, decrement, first, from_zero = 0.0, math.inf, True, False
    for a in range(q):
        w.trial[a] = u[a]
    for _ in range(EVALUATIONS):
        at_effects(rows, shape, i, L, w.trial, w)
        good = True
        if not first:
            slope = 0.0
            for c in range(q):
                r = -w.trial[c]
                for a in range(c, q):
                    r += L[a, c] * w.g[a]
                slope += w.step[c] * r
            good = slope >= -0.9 * decrement  # otherwise too far, or overflow
            if not good and t > 1e-12:
                t *= 0.5
                for a in range(q):
                    w.trial[a] = u[a] + t * w.step[a]
                continue
        if good:
            for a in range(q):
                u[a] = w.trial[a]
            good = factor(L, w)
        if not good:
            if decrement < ROUNDING:
                return True
            if from_zero:
                return False
            for a in range(q):  # a start so far out that curvatures overflow or are lost in rounding
                w.trial[a] = 0.0
            first, from_zero, decrement = True, True, math.inf
            continue
        gradient(L, w, u, w.step)
        first, decrement = False, newton_step(w.H, w.step)
        if decrement < tolerance:
            return True
        t = 1.0
        for a in range(q):
            w.trial[a] = u[a] + w.step[a]
    return False


@inner
def cluster_log_likelihood(rows: GlmmRows, shape: float, i: int, eta0: Vector, b: Vector) -> float:
    """sum_j w_ij log p(y_ij | eta_ij) at effects b, without terms that do not depend on eta."""
    value, product = 0.0, 1.0
    for j in range(rows.first[i], rows.first[i + 1]):
        eta, weight, trials = eta0[j] + dot(rows.Z, j, b), rows.weight[j], rows.trials[j]
        l, rest = split_log_likelihood(rows.family, rows.y[j], trials, eta, shape)
        product, logs = sum_of_logs(product, weight * trials, rest)
        value += weight * l - logs
    return value - math.log(product)


@kernel(nogil=True)
def conditional_modes(
    rows: GlmmRows,
    shape: float,
    beta: Vector,
    L: Matrix,
    u: Matrix,
    modes: Matrix,
    covariance: Stack,
    root: Stack,
) -> int:
    """Modes and variances of the effects of every cluster at given parameters.

    Parameters
    ----------
    rows, shape
        `GlmmRows`; shape parameter of the family (1.0 where it has none).
    beta (p,), L (q, q)
        Fixed effects; lower triangular with Psi = L L', which may be singular.
    u (m, q)
        In: starting points of the searches (zeros will do); out: modes of the standardised effects u_i, b_i = L u_i.
    modes (m, q), covariance (m, q, q), root (m, q, q)
        <- modes of b_i; L H_i^-1 L'; lower Cholesky factor of H_i, the precision of u_i. Clusters without rows have 0,
        Psi and I.

    Returns
    -------
    Number of clusters whose mode was not found: 0 for log-concave families with finite linear predictors.
    """
    m, q = u.shape
    w = workspace(rows.y.shape[0], q)
    fixed_part(rows, beta, w.eta0)
    failed = 0
    for i in range(m):
        if not find_mode(rows, shape, i, L, u[i], w, SMALL):
            failed += 1
        for a in range(q):
            modes[i, a] = w.b[a]
            for c in range(q):
                root[i, a, c] = w.H[a, c] if c <= a else 0.0
        for a in range(q):  # covariance = F'F, F = C^-1 L': column a of F in step, then those before it
            for c in range(a + 1):
                for k in range(q):
                    w.step[k] = L[a, k] if k <= a else 0.0
                    w.trial[k] = L[c, k] if k <= c else 0.0
                solve_lower(w.H, w.step, q)
                solve_lower(w.H, w.trial, q)
                s = 0.0
                for k in range(q):
                    s += w.step[k] * w.trial[k]
                covariance[i, a, c] = s
                covariance[i, c, a] = s
    return failed

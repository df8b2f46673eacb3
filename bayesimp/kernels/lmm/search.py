"""The search for the best Lambda (BFGS with exact gradients), with all tables in one call.

Only `prepare_tables` and `descend` are compiled: every additional place in compiled code that calls the deviance
costs seconds of compilation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from bayesimp.kernels.compiled import kernel, merged
from bayesimp.kernels.lmm.deviance import (
    cluster_products,
    copy_vector,
    deviance,
    orthonormalise,
    project_out,
    sum_of_squares,
    workspace,
)
from bayesimp.kernels.newton import bfgs, downhill, shortened
from bayesimp.notation import Array, BoolVector, Integer, IntMatrix, IntVector, Matrix, Stack, Vector

__all__ = ["SearchableTables", "PreparedTables", "descend", "prepare_tables", "search"]

BOUNDARY = 1e-4  # a relative standard deviation below this is zero, as in lme4's isSingular(tol = 1e-4)
START = 0.5  # initial relative standard deviation: intraclass correlation 0.2
AWAY = 0.03  # and that of a restart, so near zero that the search returns there only if zero is a minimum
RESOLUTION = 1e-11  # decrease of the deviance not worth a step,
RELATIVE = 1e-14  # also relative to the deviance: in large tables anything smaller is rounding
NEAR = 1e-7  # predicted decrease that is small enough if rounding of the deviance hides it
EVALUATIONS = 500  # evaluations per search, at most,
AGAIN = 3  # and how often it may be repeated from its last point


@merged
def update_inverse_hessian(H: Matrix, s: Vector, y: Vector, scaled: bool) -> bool:
    """`bfgs` if the curvature is positive, at first from a scaled unit matrix (Nocedal & Wright 2006, eq. 6.20).

    Returns whether H has been scaled.
    """
    d, sy, yy = s.shape[0], 0.0, sum_of_squares(y)
    for a in range(d):
        sy += s[a] * y[a]
    if not sy > 1e-14:
        return scaled
    for a in range(d):
        if not scaled:
            H[a, a] = sy / yy
    bfgs(H, s, y, 0.0)
    return True


@merged
def minimise(
    theta: Vector,
    held: float,
    evaluations: Integer,
    free: IntMatrix,
    A: Stack,
    B: Stack,
    c: Matrix,
    n: int,
    reml: bool,
    work: tuple[Matrix, Stack, Stack, Matrix, Matrix, Vector, Vector],
    g: Vector,
) -> tuple[float, bool]:
    """theta <- end of BFGS from theta, g <- gradient there; returns the deviance and whether no decrease is left."""
    d = theta.shape[0]
    H, scaled = np.eye(d), False
    s, y, trial, g_trial = np.zeros(d), np.empty(d), theta.copy(), np.empty(d)
    value, slope, t = np.inf, 0.0, 1.0
    for _ in range(evaluations):
        after = deviance(trial, free, A, B, c, n, reml, held, work, g_trial)
        if not after <= value + 1e-4 * t * slope:  # backtrack until the decrease is sufficient (Armijo)
            if t < 1e-12:
                # the remaining gain is below the deviance's rounding error (near enough), or the search is stuck
                return value, -slope < NEAR
            t = shortened(t, slope, after - value)
            for a in range(d):
                trial[a] = theta[a] + t * s[a]
            continue
        if value < np.inf:
            for a in range(d):
                s[a], y[a] = trial[a] - theta[a], g_trial[a] - g[a]
            scaled = update_inverse_hessian(H, s, y, scaled)
        copy_vector(theta, trial)
        copy_vector(g, g_trial)
        if after == value and -slope < NEAR:
            # started at the optimum, as for an identical table: steps do not visibly change the deviance
            return value, True
        value = after
        slope, length = downhill(H, g, s)
        if -slope < max(RESOLUTION, RELATIVE * abs(value)):
            return value, True
        t = 1.0 if scaled else min(1.0, 0.5 / length)
        for a in range(d):
            trial[a] = theta[a] + t * s[a]
    return value, False


@merged
def prepare(
    y: Vector, X: Matrix, Z: Matrix, block: IntVector, zeros: IntVector, Tx: Matrix, Tz: Matrix, alpha: Vector
) -> tuple[int, float]:
    """X, Z <- orthonormal rows (those of Z with mean square 1), y <- residual on X with mean square 1.

    Returns what is wrong (0: nothing; 1 + c or -1 - c: column c of X or Z depends on others; 1 + p: X fits y
    exactly) and the scale of y.
    """
    (p, n), q = X.shape, Z.shape[0]
    bad = orthonormalise(X, zeros, Tx)
    if bad >= 0:
        return 1 + bad, 0.0
    bad = orthonormalise(Z, block, Tz)
    if bad >= 0:
        return -1 - bad, 0.0
    root, before = math.sqrt(n), sum_of_squares(y)
    for a in range(q):
        for b in range(q):
            Tz[a, b] /= root
        for j in range(n):
            Z[a, j] *= root
    for _ in range(2):
        for a in range(p):
            alpha[a] += project_out(X[a], y)
    after = sum_of_squares(y)
    if not after > 1e-24 * before:
        return 1 + p, 0.0
    scale = math.sqrt(after / n)
    for j in range(n):
        y[j] /= scale
    return 0, scale


@kernel(nogil=True)
def prepare_tables(
    y: Vector,
    X: Matrix,
    Z: Matrix,
    codes: IntVector,
    starts: IntVector,
    block: IntVector,
    A: Array,
    B: Array,
    c: Stack,
    Tx: Stack,
    Tz: Stack,
    alpha: Matrix,
    scale: Vector,
    wrong: IntVector,
) -> None:
    """`prepare` and `cluster_products` of rows starts[k]:starts[k+1] of y, X (N, p), Z (N, q), codes (N,).

    Outputs have a leading axis of tables and are zero on entry.
    """
    p, q = X.shape[1], Z.shape[1]
    zeros = np.zeros(p, np.int64)
    for k in range(len(starts) - 1):
        n = starts[k + 1] - starts[k]
        Xk, Zk, yk = np.empty((p, n)), np.empty((q, n)), np.empty(n)
        for j in range(n):
            yk[j] = y[starts[k] + j]
            for a in range(p):
                Xk[a, j] = X[starts[k] + j, a]
            for a in range(q):
                Zk[a, j] = Z[starts[k] + j, a]
        wrong[k], scale[k] = prepare(yk, Xk, Zk, block, zeros, Tx[k], Tz[k], alpha[k])
        if wrong[k] == 0:
            cluster_products(Xk, Zk, yk, codes[starts[k] : starts[k + 1]], A[k], B[k], c[k])


@kernel(nogil=True)
def descend(
    theta: Matrix,
    held: Vector,
    evaluations: Integer,
    free: IntMatrix,
    A: Array,
    B: Array,
    c: Stack,
    n: IntVector,
    reml: bool,
    value: Vector,
    g: Matrix,
    converged: BoolVector,
    beta: Matrix,
    R: Stack,
    scalars: Matrix,
) -> None:
    """`minimise` for every table, with theta (M, d) updated in place; with a single evaluation theta does not move.

    ``held`` (M,): sigma^2, or 0 to profile it out. Where theta is nan, the search starts at the previous table's
    end point, or at `START` if that is singular: zero is stationary, and no search could leave it.
    """
    M, d = theta.shape
    work = workspace(A.shape[1], A.shape[2], B.shape[3])
    for k in range(M):
        for l in range(d):
            if math.isnan(theta[k, l]):
                theta[k, l] = theta[k - 1, l] if k > 0 else 0.0
                if free[l, 0] == free[l, 1] and abs(theta[k, l]) < BOUNDARY:
                    theta[k, l] = START
        value[k], converged[k] = minimise(
            theta[k], held[k], evaluations, free, A[k], B[k], c[k], n[k], reml, work, g[k]
        )
        copy_vector(beta[k], work[5])
        copy_vector(scalars[k], work[6])
        for a in range(beta.shape[1]):
            copy_vector(R[k, a], work[4][a])


@dataclass(frozen=True)
class PreparedTables:
    """Products of prepared rows: A (M, m, q, q), B (M, m, q, p), c (M, m, q), n (M,); see kernels/lmm/deviance.py."""

    A: np.ndarray
    B: np.ndarray
    c: np.ndarray
    n: np.ndarray
    free: np.ndarray
    reml: bool

    def at(self, tables: IntVector) -> PreparedTables:
        """Some of the tables."""
        return PreparedTables(
            self.A[tables], self.B[tables], self.c[tables], self.n[tables], self.free, self.reml
        )

    def descend(self, theta: Matrix, held: Vector | None = None, evaluations: int = EVALUATIONS) -> Descent:
        """`descend` from a copy of theta (M, d)."""
        theta = np.array(theta, dtype=float)
        M, p = len(theta), self.B.shape[3]
        flags, g = np.zeros(M, dtype=bool), np.zeros_like(theta)
        out = Descent(theta, np.zeros(M), g, flags, np.zeros((M, p)), np.zeros((M, p, p)), np.zeros((M, 2)))
        held = np.zeros(M) if held is None else held
        descend(
            theta, held, evaluations, self.free, self.A, self.B, self.c, self.n, self.reml,
            out.value, out.gradient, out.converged, out.beta, out.R, out.scalars,
        )  # fmt: skip
        return out


@dataclass(frozen=True)
class Descent:
    """End points of searches: theta (M, d), deviance (M,), gradient (M, d), beta, R, (rss, sigma^2) (M, 2)."""

    theta: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    converged: np.ndarray
    beta: np.ndarray
    R: np.ndarray
    scalars: np.ndarray

    def inverse(self) -> np.ndarray:
        """(M, p, p) (R R')^-1."""
        inverse = np.linalg.inv(np.tril(self.R))
        return np.swapaxes(inverse, 1, 2) @ inverse

    def take(self, tables: IntVector, other: Descent) -> None:
        """Replace the results of some of the tables by ``other``."""
        for field in fields(self):
            getattr(self, field.name)[tables] = getattr(other, field.name)


class SearchableTables(Protocol):
    """Tables whose deviance can be searched, with one grouping factor (`PreparedTables`) or several."""

    @property
    def n(self) -> IntVector:
        """(M,) rows of each table."""
        ...

    @property
    def free(self) -> IntMatrix:
        """(d, 2) rows and columns of the free elements of Lambda."""
        ...

    @property
    def reml(self) -> bool:
        """Whether the criterion is REML."""
        ...

    def at(self, tables: IntVector) -> SearchableTables:
        """Some of the tables."""
        ...

    def descend(self, theta: Matrix, held: Vector | None = ..., evaluations: int = ...) -> Descent:
        """Search from theta (M, d); with one evaluation, compute the deviance and its gradient there."""
        ...


def search(prepared: SearchableTables, theta: Matrix) -> tuple[Descent, np.ndarray]:
    """The best theta of every table, searched from ``theta`` (M, d); nan: from the previous table's end point.

    A search that ends far out (effects much larger than sigma) is repeated from its last point. One that ends at a
    variance of zero, which is stationary whether or not it is a minimum, is repeated from near zero. A diagonal element
    becomes zero if the deviance is no higher there. Also returns (M,) whether the fit is singular.
    """
    diagonal = prepared.free[:, 0] == prepared.free[:, 1]
    end = prepared.descend(theta)
    for _ in range(AGAIN):
        tables = np.flatnonzero(~end.converged)
        if len(tables) == 0:
            break
        end.take(tables, prepared.at(tables).descend(end.theta[tables]))
    for away, evaluations, gain in ((AWAY, EVALUATIONS, 1e-8), (0.0, 1, -1e-9)):
        at_zero = diagonal & (np.abs(end.theta) < BOUNDARY)
        tables = np.flatnonzero(at_zero.any(axis=1))
        if len(tables) == 0:
            break
        again = prepared.at(tables).descend(
            np.where(at_zero, away, end.theta)[tables], evaluations=evaluations
        )
        if evaluations == 1:
            again.converged[:] = end.converged[tables]
        better = np.flatnonzero(again.value < end.value[tables] - gain)
        end.take(tables[better], Descent(*(getattr(again, field.name)[better] for field in fields(again))))
    return end, (diagonal & (np.abs(end.theta) < BOUNDARY)).any(axis=1)

"""Effects of one factor of a joint GLMM at given parameters, the completed variables and the effects of other factors.

    normal        b_i  ~  N(W_i^-1 u_i, W_i^-1),    W_i = Z'Z / sigma^2 + Q,    u_i = Z'(y - X beta) / sigma^2 + t_i
    others        b_i  by independence Metropolis (kernels/factors/conditional.py)

with Q and t_i from the other factors' effects (kernels/factors/effects.py).
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.draws import draw_by_precision
from bayesimp.kernels.factors.conditional import latent_and_effects, put_back
from bayesimp.kernels.factors.effects import conditional_prior
from bayesimp.kernels.glmm.blocks import workspace
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import Integer, IntMatrix, IntVector, Matrix, Vector

__all__ = ["glmm_effects", "normal_effects"]


@kernel(nogil=True)
def normal_effects(
    rng: np.random.Generator,
    X: Matrix,
    Z: Matrix,
    y: Vector,
    first: IntVector,
    beta: Vector,
    variance: float,
    at: Integer,
    Psi: Matrix,
    B: Matrix,
) -> int:
    """Draw the effects of a normal factor, which are the columns of B (m, D) from `at` on.

    X (n, p), Z (n, q), y (n,): rows in which the factor is used; those of cluster i begin at first[i]. Returns 0, or a
    key of `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    p, q, m = X.shape[1], Z.shape[1], first.size - 1
    R, Q, t = np.empty(Psi.shape), np.empty((q, q)), np.empty((m, q))
    W, u = np.empty((q, q)), np.empty(q)
    if q == 0:
        return 0
    if not invert(Psi, R):
        return 1
    conditional_prior(R, B, at, at + q, Q, t)
    for i in range(m):
        for l in range(q):
            u[l] = t[i, l]
            for h in range(l + 1):
                W[l, h] = Q[l, h]
        for j in range(first[i], first[i + 1]):
            e = y[j]
            for a in range(p):
                e -= X[j, a] * beta[a]
            for l in range(q):
                u[l] += Z[j, l] * e / variance
                for h in range(l + 1):
                    W[l, h] += Z[j, l] * Z[j, h] / variance
        if not draw_by_precision(rng, W, u, q):
            return 2
        for l in range(q):
            B[i, at + l] = u[l]
    return 0


@kernel(nogil=True)
def glmm_effects(
    rng: np.random.Generator,
    rows: GlmmRows,
    counts: Vector,
    at: Integer,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Matrix,
    tallies: IntMatrix,
) -> int:
    """Update the effects of a factor that is not normal, which are the columns of B (m, D) from `at` on.

    rows: those in which the factor is used. counts (K,): rows at each level of an ordinal response. beta (p, r), aux
    (a,): given. tallies (5, 2): incremented. Returns 0, or a key of `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    d, R = rows.Z.shape[1] * beta.shape[1], np.empty(Psi.shape)
    if d == 0:
        return 0
    if not invert(Psi, R):
        return 1
    s, failed = latent_and_effects(rng, rows, counts, at, beta, aux, R, B, workspace(d), tallies)
    if failed == 0:
        put_back(s.b, at, B)
    return failed

"""Effects of one factor of a joint GLMM at given parameters, the completed variables and the effects of other factors.

    normal        b_i  ~  N(W_i^-1 u_i, W_i^-1),    W_i = Z'Z / sigma^2 + Q,    u_i = Z'(y - X beta) / sigma^2 + t_i
    others        b_i  by independence Metropolis from a t at the mode of its conditional density (kernels/glmm/blocks.py)

with Q and t_i of the other factors' effects (kernels/factors/effects.py); of a mixture, given latent variables that are
drawn first (kernels/families/mixtures.py).
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.factors.effects import conditional_means, conditional_prior
from bayesimp.kernels.families.codes import NEGATIVE_BINOMIAL, ORDINAL
from bayesimp.kernels.families.mixtures import component, is_mixture, latent
from bayesimp.kernels.families.responses import cutpoints
from bayesimp.kernels.families.scalar import is_log_concave
from bayesimp.kernels.glmm.blocks import BlockTarget, draw_block, workspace
from bayesimp.kernels.glmm.moves import predictor, read_effects, write_effects
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.linalg import cholesky, solve_lower, solve_lower_t
from bayesimp.notation import Integer, IntMatrix, IntVector, Matrix, Vector

__all__ = ["glmm_effects", "normal_effects"]

T_EFFECTS, T_MODES = 0, 3  # rows of tallies, as kernels/glmm/gibbs.py counts


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
    """Draw the effects of a normal factor, columns of B (m, D) from `at` on.

    X (n, p), Z (n, q), y (n,): rows in which the factor is used, those of cluster i first[i] .. Returns 0, or a key of
    `bayesimp.kernels.glmm.gibbs.FAILURES`.
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
        if not cholesky(W, q):
            return 2
        solve_lower(W, u, q)
        for l in range(q):
            u[l] += rng.standard_normal()
        solve_lower_t(W, u, q)
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
    """One update of the effects of a factor that is not normal, columns of B (m, D) from `at` on.

    rows: those in which the factor is used. counts (K,): of the levels of an ordinal response. beta (p, r), aux (a,):
    given. tallies (5, 2): counted up. Returns 0, or a key of `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    n, r = rows.X.shape[0], beta.shape[1]
    q, m, family = rows.Z.shape[1], rows.first.size - 1, rows.family
    d = q * r
    ordinal, mixed = family == ORDINAL, is_mixture(family)
    shaped = NEGATIVE_BINOMIAL <= family < ORDINAL or mixed
    trials, given = np.empty(n) if mixed else rows.trials, component(family)
    if d == 0:
        return 0
    R, Q, t = np.empty(Psi.shape), np.empty((d, d)), np.empty((m, d))
    mean, L, z = np.empty((m, d)), np.empty((d, d)), np.empty(d)
    if not invert(Psi, R):
        return 1
    conditional_prior(R, B, at, at + d, Q, t)
    if not conditional_means(Q, t, L, mean):
        return 1
    shape, cuts = aux[0] if shaped else 1.0, np.zeros(aux.size + 1)
    if ordinal:
        cutpoints(aux, cuts)
    b, base, w = np.zeros((m, q, r)), np.empty((n, r)), workspace(d)
    two_modes = np.int64(not is_log_concave(given))
    if mixed:
        for i in range(m):
            for e in range(d):
                z[e] = B[i, at + e]
            write_effects(z, b[i])
        predictor(rows, beta, b, True, True, base)
        latent(rng, family, rows.y, base, aux, trials)
    predictor(rows, beta, b, True, False, base)
    for i in range(m):
        for e in range(d):
            z[e] = B[i, at + e]
        if rows.first[i] == rows.first[i + 1]:
            for e in range(d):
                z[e] = rng.standard_normal()
            solve_lower_t(L, z, d)
            for e in range(d):
                z[e] += mean[i, e]
        else:
            write_effects(z, b[i])
            read_effects(b[i], w.theta)
            own = BlockTarget(
                given, rows.y, trials, base, rows.Z, True, Q, t[i], shape, cuts, counts, two_modes
            )
            failed = draw_block(
                rng, own, rows.first[i], rows.first[i + 1], w, tallies[T_EFFECTS], tallies[T_MODES]
            )
            if failed:
                return 2 if failed == 2 else 5
            for e in range(d):
                z[e] = w.theta[e]
        for e in range(d):
            B[i, at + e] = z[e]
    return 0

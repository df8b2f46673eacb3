"""Parameters of one factor of a joint GLMM that is not normal, given the completed variables and other factors' effects.

The moves of kernels/glmm/gibbs.py, with the conditional prior of the factor's effects (kernels/factors/effects.py) in the
place of N(0, Psi); Psi itself is drawn with all factors' effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, HUANG_WAND, CovarianceUpdate, invert
from bayesimp.kernels.factors.effects import conditional_means, conditional_prior, mixing_precision, scaled
from bayesimp.kernels.families.codes import NEGATIVE_BINOMIAL, ORDINAL
from bayesimp.kernels.families.mixtures import component, draw_mixture_aux, is_mixture, latent
from bayesimp.kernels.families.responses import cutpoints
from bayesimp.kernels.families.scalar import is_log_concave
from bayesimp.kernels.families.shape import draw_shape
from bayesimp.kernels.glmm.blocks import BlockTarget, draw_block, workspace
from bayesimp.kernels.glmm.moves import (
    centre,
    centring,
    predictor,
    read_effects,
    read_fixed,
    scale_design,
    write_effects,
    write_fixed,
)
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.linalg import solve_lower_t
from bayesimp.notation import Integer, IntMatrix, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.blocks import Workspace
    from bayesimp.kernels.glmm.moves import Centring

__all__ = ["glmm_factor_step"]

T_EFFECTS, T_FIXED, T_SCALE, T_MODES, T_SHAPE = range(5)  # rows of tallies, as kernels/glmm/gibbs.py counts


@inner
def _own(B: Matrix, at: Integer, out: Stack) -> None:
    """out (m, q, r) <- the factor's effects, columns of B (m, D) from `at` on."""
    m, q, r = out.shape
    for i in range(m):
        for k in range(r):
            for l in range(q):
                out[i, l, k] = B[i, at + k * q + l]


@inner
def _put_back(own: Stack, at: Integer, B: Matrix) -> None:
    m, q, r = own.shape
    for i in range(m):
        for k in range(r):
            for l in range(q):
                B[i, at + k * q + l] = own[i, l, k]


@inner
def _without_rows(rng: np.random.Generator, L: Matrix, mean: Vector, b: Matrix) -> None:
    """b (q, r) ~ N(mean, Q^-1), L the Cholesky factor of Q."""
    d = mean.size
    z = np.empty(d)
    for e in range(d):
        z[e] = rng.standard_normal()
    solve_lower_t(L, z, d)
    for e in range(d):
        z[e] += mean[e]
    write_effects(z, b)


@inner
def _draw_effects(
    rng: np.random.Generator,
    rows: GlmmRows,
    block: BlockTarget,
    t: Matrix,
    L: Matrix,
    mean: Matrix,
    b: Stack,
    w: Workspace,
    tallies: IntMatrix,
) -> Integer:
    """EFFECTS of every cluster."""
    for i in range(b.shape[0]):
        if rows.first[i] == rows.first[i + 1]:
            _without_rows(rng, L, mean[i], b[i])
            continue
        own = BlockTarget(block.family, block.y, block.trials, block.base, block.D, True, block.Q, t[i], block.shape,
                          block.cuts, block.counts, block.slices)  # fmt: skip
        read_effects(b[i], w.theta)
        failed = draw_block(
            rng, own, rows.first[i], rows.first[i + 1], w, tallies[T_EFFECTS], tallies[T_MODES]
        )
        if failed:
            return failed
        write_effects(w.theta, b[i])
    return np.int64(0)


@inner
def _centre(
    rng: np.random.Generator,
    rows: GlmmRows,
    centred: Centring,
    Q0: Matrix,
    t0: Vector,
    Q: Matrix,
    mean: Matrix,
    beta: Matrix,
    b: Stack,
) -> None:
    """CENTRE: beta and effects together, which have the prior means `mean`."""
    m, q, r = b.shape
    for side in range(2):
        for i in range(m):
            for k in range(r):
                for l in range(q):
                    b[i, l, k] += (2.0 * side - 1.0) * mean[i, k * q + l]
        if side == 0:
            centre(rng, rows, centred, Q0, t0, Q, beta, b)


@kernel(nogil=True)
def glmm_factor_step(
    rng: np.random.Generator,
    rows: GlmmRows,
    counts: Vector,
    above: Vector,
    slices: Integer,
    Q0: Matrix,
    t0: Vector,
    psi_prior: CovarianceUpdate,
    shape_scale: float,
    at: Integer,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Matrix,
    tallies: IntMatrix,
) -> int:
    """One update of the parameters of a factor that is not normal.

    Parameters
    ----------
    rows
        Rows in which the factor is used.
    counts, above, slices
        As in `bayesimp.kernels.glmm.gibbs.glmm_step`.
    Q0, t0, shape_scale
        Priors of vec(beta) and of shape^-1/2.
    psi_prior
        Of the block of Psi in which the factor's effects are.
    at
        Place of the factor's effects among the columns of B (m, D).
    beta (p, r), aux (a,), Psi (D, D), B (m, D), tallies (5, 2)
        The state, which changes in place.

    Returns
    -------
    0, or a key of `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    n, p, r = rows.X.shape[0], rows.X.shape[1], beta.shape[1]
    q, m, family = rows.Z.shape[1], rows.first.size - 1, rows.family
    d = q * r
    ordinal, shaped, mixed = family == ORDINAL, NEGATIVE_BINOMIAL <= family < ORDINAL, is_mixture(family)
    trials, given = np.empty(n) if mixed else rows.trials, component(family)
    R, Q, t, mean, L = (
        np.empty(Psi.shape),
        np.empty((d, d)),
        np.empty((m, d)),
        np.empty((m, d)),
        np.empty((d, d)),
    )
    if not invert(Psi, R):
        return 1
    conditional_prior(R, B, at, at + d, Q, t)
    if not conditional_means(Q, t, L, mean):
        return 1
    shape, cuts, base, b = (
        aux[0] if shaped or mixed else 1.0,
        np.zeros(aux.size + 1),
        np.empty((n, r)),
        np.empty((m, q, r)),
    )
    if ordinal:
        cutpoints(aux, cuts)
    two_modes = np.int64(not is_log_concave(given))
    _own(B, at, b)
    zero = np.zeros(d)
    w_effects, w_fixed = workspace(d), workspace(r * p + (aux.size if ordinal else 0))
    if mixed:
        predictor(rows, beta, b, True, True, base)
        latent(rng, family, rows.y, base, aux, trials)
    if d > 0:
        predictor(rows, beta, b, True, False, base)
        block = BlockTarget(
            given, rows.y, trials, base, rows.Z, True, Q, zero, shape, cuts, counts, two_modes
        )
        failed = _draw_effects(rng, rows, block, t, L, mean, b, w_effects, tallies)
        if failed:
            return 2 if failed == 2 else 5
    predictor(rows, beta, b, False, True, base)
    read_fixed(beta, aux, w_fixed.theta)
    block = BlockTarget(given, rows.y, trials, base, rows.X, True, Q0, t0, shape, cuts, counts, slices)
    failed = draw_block(rng, block, np.int64(0), n, w_fixed, tallies[T_FIXED], tallies[T_MODES])
    if failed:
        return 3 if failed == 2 else 5
    write_fixed(w_fixed.theta, beta, aux)
    if d > 0:
        centred = centring(rows)
        if centred.columns.size > 0:
            _centre(rng, rows, centred, Q0, t0, Q, mean, beta, b)
    _put_back(b, at, B)
    if d > 0 and (psi_prior.kind == HUANG_WAND or psi_prior.kind == DIAGONAL_HALF_T):
        U, scale_Q = np.empty((n, d)), np.empty((d, d))
        predictor(rows, beta, b, True, False, base)
        scale_design(rows, b, U)
        mixing_precision(rng, psi_prior, R, at, at + d, scale_Q)
        for e in range(d):
            w_effects.theta[e] = 1.0
        block = BlockTarget(
            given, rows.y, trials, base, U, False, scale_Q, zero, shape, cuts, counts, two_modes
        )
        failed = draw_block(rng, block, np.int64(0), n, w_effects, tallies[T_SCALE], tallies[T_MODES])
        if failed:
            return 4 if failed == 2 else 5
        scaled(w_effects.theta, at, B, Psi, R)
        _own(B, at, b)
    if shaped:
        predictor(rows, beta, b, True, True, base)
        aux[0] = draw_shape(rng, family, rows.y, base, above, shape_scale, shape, tallies[T_SHAPE])
    if mixed:
        predictor(rows, beta, b, True, True, base)
        draw_mixture_aux(rng, family, rows.y, base, above, shape_scale, aux)
    return 0

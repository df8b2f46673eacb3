"""Parameters of one factor of a joint GLMM that is not normal, given the completed variables and other factors' effects.

The moves are those of kernels/glmm/gibbs.py, with the conditional prior of the factor's effects
(kernels/factors/effects.py) in place of N(0, Psi); Psi itself is drawn given all factors' effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, HUANG_WAND, CovarianceUpdate, invert
from bayesimp.kernels.factors.conditional import (
    latent_and_effects,
    own_effects,
    put_back,
    target,
)
from bayesimp.kernels.factors.effects import mixing_precision, scaled
from bayesimp.kernels.families.codes import NEGATIVE_BINOMIAL, ORDINAL
from bayesimp.kernels.families.mixtures import draw_mixture_aux, is_mixture
from bayesimp.kernels.families.shape import draw_shape
from bayesimp.kernels.glmm.blocks import draw_block, workspace
from bayesimp.kernels.glmm.moves import (
    centre,
    centring,
    columns,
    predictor,
    read_fixed,
    scale_design,
    write_fixed,
)
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import Integer, IntMatrix, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.factors.conditional import FactorState
    from bayesimp.kernels.glmm.blocks import Workspace
    from bayesimp.kernels.glmm.moves import Centring

__all__ = ["glmm_factor_step"]

T_FIXED, T_SCALE, T_MODES, T_SHAPE = range(1, 5)  # rows of tallies, as in kernels/glmm/gibbs.py


@inner
def _draw_fixed(
    rng: np.random.Generator,
    rows: GlmmRows,
    s: FactorState,
    slices: Integer,
    Q0: Matrix,
    t0: Vector,
    beta: Matrix,
    aux: Vector,
    tallies: IntMatrix,
) -> int:
    """FIXED: draw beta, and the increments of an ordinal response. Returns 0 or a key of FAILURES."""
    n = rows.X.shape[0]
    w = workspace(beta.size + (aux.size if rows.family == ORDINAL else 0))
    predictor(rows, beta, s.b, False, True, s.base)
    read_fixed(beta, aux, w.theta)
    block = target(s, columns(rows.X), True, Q0, t0, slices)
    failed = draw_block(rng, block, np.int64(0), n, w, tallies[T_FIXED], tallies[T_MODES])
    if failed:
        return 3 if failed == 2 else 5
    write_fixed(w.theta, beta, aux)
    return 0


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
    """CENTRE: move beta together with the effects, whose prior means are `mean`."""
    m, q, r = b.shape
    for side in range(2):
        for i in range(m):
            for k in range(r):
                for l in range(q):
                    b[i, l, k] += (2.0 * side - 1.0) * mean[i, k * q + l]
        if side == 0:
            centre(rng, rows, centred, Q0, t0, Q, beta, b)


@inner
def _draw_scales(
    rng: np.random.Generator,
    rows: GlmmRows,
    s: FactorState,
    psi_prior: CovarianceUpdate,
    at: Integer,
    beta: Matrix,
    Psi: Matrix,
    R: Matrix,
    B: Matrix,
    w: Workspace,
    tallies: IntMatrix,
) -> int:
    """SCALE: rescale the effects together with their standard deviations. Returns 0 or a key of FAILURES."""
    n, d = rows.X.shape[0], s.Q.shape[0]
    U, scale_Q = np.empty((d, n)), np.empty((d, d))
    predictor(rows, beta, s.b, True, False, s.base)
    scale_design(rows, s.b, U)
    mixing_precision(rng, psi_prior, R, at, at + d, scale_Q)
    for e in range(d):
        w.theta[e] = 1.0
    block = target(s, U, False, scale_Q, np.zeros(d), s.two_modes)
    failed = draw_block(rng, block, np.int64(0), n, w, tallies[T_SCALE], tallies[T_MODES])
    if failed:
        return 4 if failed == 2 else 5
    scaled(w.theta, at, B, Psi, R)
    own_effects(B, at, s.b)
    return 0


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
    """Update the parameters of a factor that is not normal.

    Parameters
    ----------
    rows
        Rows in which the factor is used.
    counts, above, slices
        As in `bayesimp.kernels.glmm.gibbs.glmm_step`.
    Q0, t0, shape_scale
        Priors of vec(beta) and of shape^-1/2.
    psi_prior
        Prior of the block of Psi that contains the factor's effects.
    at
        First column of the factor's effects in B (m, D).
    beta (p, r), aux (a,), Psi (D, D), B (m, D), tallies (5, 2)
        The state, changed in place.

    Returns
    -------
    0, or a key of `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    family, d, R = rows.family, rows.Z.shape[1] * beta.shape[1], np.empty(Psi.shape)
    if not invert(Psi, R):
        return 1
    w = workspace(d)
    s, failed = latent_and_effects(rng, rows, counts, at, beta, aux, R, B, w, tallies)
    if failed == 0:
        failed = _draw_fixed(rng, rows, s, slices, Q0, t0, beta, aux, tallies)
    if failed == 0 and d > 0:
        centred = centring(rows)
        if centred.columns.size > 0:
            _centre(rng, rows, centred, Q0, t0, s.Q, s.mean, beta, s.b)
        put_back(s.b, at, B)
        if psi_prior.kind == HUANG_WAND or psi_prior.kind == DIAGONAL_HALF_T:
            failed = _draw_scales(rng, rows, s, psi_prior, at, beta, Psi, R, B, w, tallies)
    if failed == 0 and NEGATIVE_BINOMIAL <= family < ORDINAL:
        predictor(rows, beta, s.b, True, True, s.base)
        aux[0] = draw_shape(rng, family, rows.y, s.base, above, shape_scale, s.shape, tallies[T_SHAPE])
    if failed == 0 and is_mixture(family):
        predictor(rows, beta, s.b, True, True, s.base)
        draw_mixture_aux(rng, family, rows.y, s.base, above, shape_scale, aux)
    return failed

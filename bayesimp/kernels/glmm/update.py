"""One update of a generalised linear mixed model: the moves of kernels/glmm/gibbs.py, one function each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.covariance.update import (
    DIAGONAL_HALF_T,
    FIXED,
    HUANG_WAND,
    CovarianceUpdate,
    invert,
)
from bayesimp.kernels.families.mixtures import component, draw_mixture_aux, is_mixture, latent
from bayesimp.kernels.families.responses import ORDINAL, cutpoints
from bayesimp.kernels.families.scalar import (
    NEGATIVE_BINOMIAL,
    is_log_concave,
)
from bayesimp.kernels.families.shape import draw_shape
from bayesimp.kernels.glmm.blocks import BlockTarget, Workspace, draw_block, workspace
from bayesimp.kernels.glmm.moves import (
    Centring,
    centre,
    columns,
    draw_Psi,
    predictor,
    read_effects,
    read_fixed,
    rescale,
    scale_design,
    write_effects,
    write_fixed,
)
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.notation import Integer, IntMatrix, Matrix, Stack, Vector

__all__ = ["MOVES", "GlmmPrior", "glmm_update", "glmm_work"]

# bits of the moves
MOVES = {"effects": 1, "fixed": 2, "centre": 4, "covariance": 8, "scale": 16, "aux": 32}
M_EFFECTS, M_FIXED, M_CENTRE, M_COVARIANCE, M_SCALE, M_AUX = MOVES.values()
# rows of tallies (`TALLIES` in kernels/glmm/gibbs.py)
T_EFFECTS, T_FIXED, T_SCALE, T_MODES, T_SHAPE = range(5)


class GlmmPrior(NamedTuple):
    """Priors: Q0 (rp, rp), t0 (rp,), precision and precision times mean of vec(beta), zero if flat; Psi; shape^-1/2."""

    Q0: np.ndarray
    t0: np.ndarray
    Psi: CovarianceUpdate
    shape_scale: float = 1.0


class GlmmWork(NamedTuple):
    """Work arrays: trials and y (n,), for a mixture its latent variables and the response given them; base (n, r);
    columns of designs, X (p, n), Z (q, n), U (r q, n) of `_draw_scales`; counts (K,) of levels; cutpoints (K,); Psi^-1
    and S (r q, r q); scale_Q (r q, r q), the precision of the scales; zeros (r q,); work space for the blocks of effects
    and of fixed effects."""

    trials: np.ndarray
    y: np.ndarray
    base: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    U: np.ndarray
    counts: np.ndarray
    cuts: np.ndarray
    Psi_inverse: np.ndarray
    S: np.ndarray
    scale_Q: np.ndarray
    zeros: np.ndarray
    effects: Workspace
    fixed: Workspace


@inner
def _is_scaled(prior: CovarianceUpdate) -> bool:
    """Whether the standard deviations of Psi are half-t, as the move SCALE needs."""
    return prior.kind == HUANG_WAND or prior.kind == DIAGONAL_HALF_T


@inner
def _has_shape(family: int) -> bool:
    """Whether aux holds the shape of the family."""
    return NEGATIVE_BINOMIAL <= family < ORDINAL


@inner
def glmm_work(rows: GlmmRows, prior: GlmmPrior, counts: Vector, p: int, B: Stack, aux: Vector) -> GlmmWork:
    """New `GlmmWork`, with the cutpoints set."""
    n, q, r = rows.X.shape[0], B.shape[1], B.shape[2]
    ordinal, cuts = rows.family == ORDINAL, np.zeros(aux.size + 1)
    if ordinal:
        cutpoints(aux, cuts)
    return GlmmWork(
        np.empty(n) if is_mixture(rows.family) else rows.trials,
        np.empty(n) if is_mixture(rows.family) else rows.y,
        np.empty((n, r)),
        columns(rows.X), columns(rows.Z), np.empty((r * q if _is_scaled(prior.Psi) else 0, n)), counts, cuts,
        np.empty((r * q, r * q)), np.empty((r * q, r * q)), np.zeros((r * q, r * q)), np.zeros(r * q),
        workspace(r * q), workspace(r * p + (aux.size if ordinal else 0)),
    )  # fmt: skip


@inner
def _block(
    rows: GlmmRows, aux: Vector, w: GlmmWork, D: Matrix, shared: bool, Q: Matrix, t: Vector, slices: Integer
) -> BlockTarget:
    """Target of the coefficients with design D, given the rest of the linear predictor, w.base."""
    shape = aux[0] if _has_shape(rows.family) or is_mixture(rows.family) else 1.0
    given = component(rows.family)  # the latent variables of a mixture
    return BlockTarget(given, w.y, w.trials, w.base, D, shared, Q, t, shape, w.cuts, w.counts, slices)


@inner
def _draw_effects(
    rng: np.random.Generator,
    rows: GlmmRows,
    beta: Matrix,
    aux: Vector,
    B: Stack,
    slices: Integer,
    w: GlmmWork,
    tallies: IntMatrix,
) -> int:
    """The move EFFECTS; returns 0 or a key of FAILURES."""
    predictor(rows, beta, B, True, False, w.base)
    block = _block(rows, aux, w, w.Z, True, w.Psi_inverse, w.zeros, slices)
    for i in range(B.shape[0]):
        if rows.first[i] < rows.first[i + 1]:
            read_effects(B[i], w.effects.theta)
            failed = draw_block(
                rng, block, rows.first[i], rows.first[i + 1], w.effects, tallies[T_EFFECTS], tallies[T_MODES]
            )
            if failed:
                return 2 if failed == 2 else 5
            write_effects(w.effects.theta, B[i])
    return 0


@inner
def _draw_fixed(
    rng: np.random.Generator,
    rows: GlmmRows,
    prior: GlmmPrior,
    beta: Matrix,
    aux: Vector,
    B: Stack,
    slices: Integer,
    w: GlmmWork,
    tallies: IntMatrix,
) -> int:
    """The move FIXED; returns 0 or a key of FAILURES."""
    predictor(rows, beta, B, False, True, w.base)
    read_fixed(beta, aux, w.fixed.theta)
    block = _block(rows, aux, w, w.X, True, prior.Q0, prior.t0, slices)
    n = w.base.shape[0]
    failed = draw_block(rng, block, np.int64(0), n, w.fixed, tallies[T_FIXED], tallies[T_MODES])
    if failed:
        return 3 if failed == 2 else 5
    write_fixed(w.fixed.theta, beta, aux)
    return 0


@inner
def _draw_scales(
    rng: np.random.Generator,
    rows: GlmmRows,
    prior: CovarianceUpdate,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Stack,
    slices: Integer,
    w: GlmmWork,
    tallies: IntMatrix,
) -> int:
    """The move SCALE: lambda_e ~ Gamma(k, rate (nu R_ee s_e^2 + 1) / 2), then alpha; 0 or a key of FAILURES."""
    rq, n = Psi.shape[0], w.base.shape[0]
    power = prior.nu + (rq if prior.kind == HUANG_WAND else 1)  # 2 k
    predictor(rows, beta, B, True, False, w.base)
    scale_design(rows, B, w.U)
    for e in range(rq):
        spread = prior.nu * w.Psi_inverse[e, e] * prior.sd[e] ** 2
        w.scale_Q[e, e] = 2.0 * rng.standard_gamma(0.5 * power) / (spread + 1.0)
        w.effects.theta[e] = 1.0
    block = _block(rows, aux, w, w.U, False, w.scale_Q, w.zeros, slices)
    failed = draw_block(rng, block, np.int64(0), n, w.effects, tallies[T_SCALE], tallies[T_MODES])
    if failed:
        return 4 if failed == 2 else 5
    rescale(w.effects.theta, B, Psi)
    return 0 if invert(Psi, w.Psi_inverse) else 1


@inner
def glmm_update(
    rng: np.random.Generator,
    rows: GlmmRows,
    above: Vector,
    slices: Integer,
    moves: int,
    centred: Centring,
    prior: GlmmPrior,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Stack,
    w: GlmmWork,
    tallies: IntMatrix,
) -> int:
    """One update, each move in turn; returns 0 or a key of FAILURES."""
    failed = 0
    mixed = is_mixture(rows.family)
    if mixed:
        predictor(rows, beta, B, True, True, w.base)
        latent(rng, rows.family, rows.y, w.base, aux, w.trials, w.y)
    one_mode = is_log_concave(component(rows.family))
    extra = np.int64(not one_mode)  # slices for effects and scales, whose targets may have two modes
    if moves & M_EFFECTS:
        failed = _draw_effects(rng, rows, beta, aux, B, extra, w, tallies)
    if failed == 0 and moves & M_FIXED:
        failed = _draw_fixed(rng, rows, prior, beta, aux, B, slices, w, tallies)
    if failed == 0 and moves & M_CENTRE and centred.columns.size > 0:
        centre(rng, rows, centred, prior.Q0, prior.t0, w.Psi_inverse, beta, B)
    if failed == 0 and moves & M_COVARIANCE and prior.Psi.kind != FIXED:
        failed = 0 if draw_Psi(rng, rows, prior.Psi, B, Psi, w.Psi_inverse, w.S) else 1
    if failed == 0 and moves & M_SCALE and _is_scaled(prior.Psi) and w.base.shape[0] > 0:
        failed = _draw_scales(rng, rows, prior.Psi, beta, aux, Psi, B, extra, w, tallies)
    if failed == 0 and moves & M_AUX and _has_shape(rows.family):
        predictor(rows, beta, B, True, True, w.base)
        aux[0] = draw_shape(
            rng, rows.family, rows.y, w.base, above, prior.shape_scale, aux[0], tallies[T_SHAPE]
        )
    if failed == 0 and moves & M_AUX and mixed:
        predictor(rows, beta, B, True, True, w.base)
        draw_mixture_aux(rng, rows.family, rows.y, w.base, above, prior.shape_scale, aux)
    return failed

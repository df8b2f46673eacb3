"""A Markov chain transition of one discrete or positive response given all else, with p(beta, aux, Psi, B | y) invariant.

    eta_ij = offset_ij + x_ij' beta + z_ij' b_i,   b_i ~ N(0, Psi),   i = 1..m         (beta (p, r), b_i (q, r))

for the families of kernels/families/scalar.py, ORDINAL and CATEGORICAL (kernels/families/responses.py). Only rows in
which y is observed enter. One update:

    EFFECTS      b_i | beta, aux, Psi, y, clusters with rows       t at its mode, Metropolis   kernels/glmm/blocks.py
    FIXED        beta and the ordinal increments | B, aux, y       likewise; with few events slices, too
    CENTRE       beta and B together, X beta + Z b unchanged       normal                      kernels/glmm/moves.py
    COVARIANCE   Psi | b_i of the clusters with rows               conjugate                   covariance/update.py
    SCALE        B and Psi together, half-t sds only               as EFFECTS, given lambda    kernels/glmm/moves.py
    AUX          shape | beta, B, y                                slice                       kernels/families/shape.py

and at the end b_i ~ N(0, Psi) in the clusters without rows, which no move reads. Drawing them last leaves the joint
distribution invariant, so y_mis may be drawn from (X beta + Z b, aux) on return.

Priors: beta normal or flat (Q0, t0); Psi as CovarianceUpdate; increments ~ Exp(1); shape^-1/2 ~ half-t(3, shape_scale).
A flat prior of beta gives an improper posterior where a response is separated, and always for the inverse Gaussian, whose
likelihood does not vanish as the mean goes to infinity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import (
    DIAGONAL_HALF_T,
    FIXED,
    HUANG_WAND,
    CovarianceUpdate,
    invert,
)
from bayesimp.kernels.families.responses import CATEGORICAL, ORDINAL, cutpoints
from bayesimp.kernels.families.scalar import (
    GAMMA,
    LOGIT,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
    is_log_concave,
)
from bayesimp.kernels.families.shape import counts_above, draw_shape
from bayesimp.kernels.glmm.blocks import BlockTarget, Workspace, draw_block, workspace
from bayesimp.kernels.glmm.moves import (
    Centring,
    centre,
    centring,
    draw_Psi,
    draw_without_rows,
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

__all__ = [
    "ALL_MOVES", "FAILURES", "MOVES", "RARE", "TALLIES", "GlmmPrior", "glmm_start", "glmm_step", "new_tallies",
    "rare_events",
]  # fmt: skip

MOVES = {"effects": 1, "fixed": 2, "centre": 4, "covariance": 8, "scale": 16, "aux": 32}
M_EFFECTS, M_FIXED, M_CENTRE, M_COVARIANCE, M_SCALE, M_AUX = MOVES.values()
ALL_MOVES = 63
TALLIES = {
    "cluster effects": ("proposed", "accepted"),
    "fixed effects": ("proposed", "accepted"),
    "scales of effects": ("proposed", "accepted"),
    "modes": ("sought", "found"),
    "shape": ("draws", "evaluations"),
}
RARE = 10  # rows of a level, below which the log of its increment is far from normal and is slice sampled
T_EFFECTS, T_FIXED, T_SCALE, T_MODES, T_SHAPE = range(5)
FAILURES = {
    1: "Psi lost its positive definiteness",
    2: "the precision of a cluster's effects is not positive definite",
    3: "the fixed effects are not identified: give them a normal prior",
    4: "the scales of the effects have no proper distribution",
    5: "the likelihood is not finite: a linear predictor is out of range",
}


class GlmmPrior(NamedTuple):
    """Q0 (rp, rp), t0 (rp,): precision, and precision times mean, of vec(beta), zero if flat; Psi; shape^-1/2."""

    Q0: np.ndarray
    t0: np.ndarray
    Psi: CovarianceUpdate
    shape_scale: float = 1.0


def new_tallies() -> np.ndarray:
    """Zeros (5, 2), rows and columns as TALLIES says."""
    return np.zeros((len(TALLIES), 2), dtype=np.int64)


class GlmmWork(NamedTuple):
    """Work arrays: base (n, r); U (n, r q) of `_draw_scales`; counts (K,) of levels; cutpoints (K,); Psi^-1 and S (r q,
    r q); precision scale_Q (r q, r q) of the scales; zeros (r q,); the blocks of effects and of fixed effects."""

    base: np.ndarray
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
    """Whether aux is the shape of the family."""
    return NEGATIVE_BINOMIAL <= family < ORDINAL


@inner
def _work(rows: GlmmRows, prior: GlmmPrior, counts: Vector, p: int, B: Stack, aux: Vector) -> GlmmWork:
    """`GlmmWork`, with the cutpoints set."""
    n, q, r = rows.X.shape[0], B.shape[1], B.shape[2]
    ordinal, cuts = rows.family == ORDINAL, np.zeros(aux.size + 1)
    if ordinal:
        cutpoints(aux, cuts)
    return GlmmWork(
        np.empty((n, r)), np.empty((n, r * q if _is_scaled(prior.Psi) else 0)), counts, cuts,
        np.empty((r * q, r * q)), np.empty((r * q, r * q)), np.zeros((r * q, r * q)), np.zeros(r * q),
        workspace(r * q), workspace(r * p + (aux.size if ordinal else 0)),
    )  # fmt: skip


@inner
def _block(
    rows: GlmmRows, aux: Vector, w: GlmmWork, D: Matrix, shared: bool, Q: Matrix, t: Vector, slices: Integer
) -> BlockTarget:
    """The target of coefficients with design D, given the rest of the linear predictor, w.base."""
    shape = aux[0] if _has_shape(rows.family) else 1.0
    return BlockTarget(
        rows.family, rows.y, rows.trials, w.base, D, shared, Q, t, shape, w.cuts, w.counts, slices
    )


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
    """EFFECTS; 0 or a key of FAILURES."""
    predictor(rows, beta, B, True, False, w.base)
    block = _block(rows, aux, w, rows.Z, True, w.Psi_inverse, w.zeros, slices)
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
    """FIXED; 0 or a key of FAILURES."""
    predictor(rows, beta, B, False, True, w.base)
    read_fixed(beta, aux, w.fixed.theta)
    block = _block(rows, aux, w, rows.X, True, prior.Q0, prior.t0, slices)
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
    """SCALE: lambda_e ~ Gamma(k, rate (nu R_ee s_e^2 + 1) / 2), then alpha; 0 or a key of FAILURES."""
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
def _update(
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
    """One update, each of the moves in turn; 0 or a key of FAILURES."""
    failed = 0
    one_mode = is_log_concave(rows.family)
    extra = np.int64(not one_mode)  # slices of effects and scales: their targets may have two modes
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
    return failed


@kernel(nogil=True)
def _updates(
    rng: np.random.Generator,
    rows: GlmmRows,
    counts: Vector,
    above: Vector,
    slices: int,
    updates: int,
    moves: int,
    prior: GlmmPrior,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Stack,
    tallies: IntMatrix,
) -> int:
    """`glmm_step`. counts (K,): of levels; above: kernels/families/shape.py."""
    w = _work(rows, prior, counts, beta.shape[0], B, aux)
    if not invert(Psi, w.Psi_inverse):
        return 1
    centred = centring(rows)
    for _ in range(updates):
        failed = _update(rng, rows, above, slices, moves, centred, prior, beta, aux, Psi, B, w, tallies)
        if failed:
            return failed
    return 0 if draw_without_rows(rng, rows, Psi, B, w.S) else 1


def rare_events(rows: GlmmRows, counts: Vector) -> float:
    """Rows that inform the intercept least: of the rarer outcome or the rarest level; counted events."""
    if rows.family in (LOGIT, PROBIT):
        return min(rows.y.sum(), (rows.trials - rows.y).sum())
    if rows.family in (POISSON, NEGATIVE_BINOMIAL):
        return rows.y.sum()
    if rows.family in (ORDINAL, CATEGORICAL):
        return counts.min()
    return len(rows.y) if rows.family == GAMMA else 0.0  # the others are not log-concave


def glmm_step(
    rng: np.random.Generator,
    rows: GlmmRows,
    updates: int,
    prior: GlmmPrior,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Stack,
    tallies: IntMatrix,
    moves: int = ALL_MOVES,
) -> int:
    """Make `updates` updates of the state in place; then draw the effects of clusters without rows.

    Parameters
    ----------
    rng
        numpy.random.Generator.
    rows
        GlmmRows; y holds levels 0..K-1 (as floats) of ordinal and categorical responses. Weights must all be one:
        they are not read.
    updates
        How many.
    prior
        GlmmPrior.
    beta (p, r), aux (a,), Psi (rq, rq), B (m, q, r)
        The state. aux: kernels/families/responses.py. B of clusters without rows is not read.
    tallies (5, 2)
        Added to: TALLIES.
    moves
        Which, a sum of MOVES: all but in tests.

    Returns
    -------
    0 or a key of FAILURES.
    """
    levels = {ORDINAL: len(aux) + 2, CATEGORICAL: beta.shape[1] + 1}.get(rows.family, 1)
    counts = (
        np.bincount(rows.y.astype(np.int64), minlength=levels).astype(float) if levels > 1 else np.zeros(1)
    )
    above = counts_above(rows.y) if rows.family == NEGATIVE_BINOMIAL else np.zeros(0)
    slices = 1 + beta.size // 4 if rare_events(rows, counts) < 10 * len(beta) else 0
    if rows.family == ORDINAL:
        slices += int((counts < RARE).sum())
    return _updates(rng, rows, counts, above, slices, updates, moves, prior, beta, aux, Psi, B, tallies)


def glmm_start(
    rng: np.random.Generator,
    rows: GlmmRows,
    prior: GlmmPrior,
    beta: Matrix,
    aux: Vector,
    Psi: Matrix,
    B: Stack,
) -> int:
    """A dispersed start that any data allow: beta (and increments) drawn in the pooled model, B = 0.

    beta gets a normal prior of sd 10 on top of its own; Psi is diag(exp N(-1.5, 1)) unless fixed, a shape exp N(0, 1/2),
    B ~ N(0, Psi) where there are no rows. Arguments and answer as for `glmm_step`; beta, aux, Psi and B are set.
    """
    beta[:], B[:] = 0.0, 0.0
    if prior.Psi.kind != FIXED:
        Psi[:] = np.diag(np.exp(rng.normal(-1.5, 1.0, len(Psi))))
    aux[:] = 1.0 if rows.family == ORDINAL else np.exp(rng.normal(0.0, 0.5, len(aux)))
    proper = prior._replace(Q0=prior.Q0 + 0.01 * np.eye(len(prior.Q0)))
    return glmm_step(rng, rows, 1, proper, beta, aux, Psi, B, new_tallies(), MOVES["fixed"])

"""A Markov chain transition of one discrete or positive response given all else, with p(beta, aux, Psi, B | y) invariant.

    eta_ij = offset_ij + x_ij' beta + z_ij' b_i,   b_i ~ N(0, Psi),   i = 1..m         (beta (p, r), b_i (q, r))

for the families of kernels/families/scalar.py, ORDINAL and CATEGORICAL (kernels/families/responses.py). Only rows in
which y is observed enter. One update:

    EFFECTS      b_i | beta, aux, Psi, y, clusters with rows       t at its mode, Metropolis   kernels/glmm/blocks.py
    FIXED        beta and the ordinal increments | B, aux, y       likewise; with few events slices, too
    CENTRE       beta and B together, X beta + Z b as it is        normal                      kernels/glmm/moves.py
    COVARIANCE   Psi | b_i of the clusters with rows               conjugate                   covariance/update.py
    SCALE        B and Psi together, half-t sds only               as EFFECTS, given lambda    kernels/glmm/moves.py
    AUX          shape | beta, B, y                                slice                       kernels/families/shape.py

and before these, of a mixture, its latent variables, given which all moves but AUX are (kernels/families/mixtures.py);
and when all are done b_i ~ N(0, Psi) in the clusters without rows, which none of the moves sees. Drawing them last
leaves the joint law as it is, so that y_mis may be drawn from (X beta + Z b, aux) as they are on return.

Priors: beta normal or flat (Q0, t0); Psi as CovarianceUpdate; increments ~ Exp(1); shape^-1/2 ~ half-t(3, shape_scale).
A flat prior of beta is improper in its effect where a response is separated, and always for the inverse Gaussian, whose
likelihood does not vanish as the mean goes to infinity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.covariance.update import (
    DIAGONAL_HALF_T,
    FIXED,
    HUANG_WAND,
    CovarianceUpdate,
    invert,
)
from bayesimp.kernels.families.codes import (
    STUDENT,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.mixtures import component, draw_mixture_aux, is_mixture, latent
from bayesimp.kernels.families.responses import CATEGORICAL, ORDINAL, cutpoints, dispersed_aux
from bayesimp.kernels.families.scalar import (
    GAMMA,
    LOGIT,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
    is_log_concave,
)
from bayesimp.kernels.families.shape import counts_above, draw_shape
from bayesimp.kernels.glmm.blocks import BlockTarget, draw_block, workspace
from bayesimp.kernels.glmm.moves import (
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
from bayesimp.notation import IntMatrix, Matrix, Stack, Vector

__all__ = [
    "ALL_MOVES", "FAILURES", "MOVES", "OVERDISPERSED", "RARE", "TALLIES", "GlmmPrior", "glmm_start", "glmm_step",
    "new_tallies", "rare_events",
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
OVERDISPERSED = NEGATIVE_BINOMIAL, ZERO_INFLATED_NEGATIVE_BINOMIAL
RARE = 10  # rows of a level, below which the log of its increment is far from normal and is slice sampled
T_EFFECTS, T_FIXED, T_SCALE, T_MODES, T_SHAPE = range(5)
FAILURES = {
    1: "Psi lost its positive definiteness",
    2: "the precision of a cluster's effects is not positive definite",
    3: "the fixed effects are not identified: give them a normal prior",
    4: "the scales of the effects have no proper law",
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
    n, p = rows.X.shape
    m, q, r = B.shape
    family, y = rows.family, rows.y
    ordinal, shaped, mixed = family == ORDINAL, NEGATIVE_BINOMIAL <= family < ORDINAL, is_mixture(family)
    trials, given = np.empty(n) if mixed else rows.trials, component(family)
    scaled = prior.Psi.kind == HUANG_WAND or prior.Psi.kind == DIAGONAL_HALF_T
    power = prior.Psi.nu + (r * q if prior.Psi.kind == HUANG_WAND else 1)
    shape = aux[0] if shaped or mixed else 1.0
    cuts = np.zeros(aux.size + 1)
    if ordinal:
        cutpoints(aux, cuts)
    base, U = np.empty((n, r)), np.empty((n, r * q if scaled else 0))
    Psi_inverse, S, scale_Q = np.empty((r * q, r * q)), np.empty((r * q, r * q)), np.zeros((r * q, r * q))
    zero_t = np.zeros(r * q)
    w_effects, w_fixed = workspace(r * q), workspace(r * p + (aux.size if ordinal else 0))
    two_modes = np.int64(not is_log_concave(given))  # there may be two: one slice
    if not invert(Psi, Psi_inverse):
        return 1
    centred = centring(rows)
    for _ in range(updates):
        if mixed:
            predictor(rows, beta, B, True, True, base)
            latent(rng, family, y, base, aux, trials)
        if moves & M_EFFECTS:
            predictor(rows, beta, B, True, False, base)
            block = BlockTarget(
                given,
                y,
                trials,
                base,
                rows.Z,
                True,
                Psi_inverse,
                zero_t,
                shape,
                cuts,
                counts,
                two_modes,
            )
            for i in range(m):
                if rows.first[i] < rows.first[i + 1]:
                    read_effects(B[i], w_effects.theta)
                    failed = draw_block(rng, block, rows.first[i], rows.first[i + 1], w_effects, tallies[T_EFFECTS],
                                        tallies[T_MODES])  # fmt: skip
                    if failed:
                        return 2 if failed == 2 else 5
                    write_effects(w_effects.theta, B[i])
        if moves & M_FIXED:
            predictor(rows, beta, B, False, True, base)
            read_fixed(beta, aux, w_fixed.theta)
            block = BlockTarget(
                given,
                y,
                trials,
                base,
                rows.X,
                True,
                prior.Q0,
                prior.t0,
                shape,
                cuts,
                counts,
                slices,
            )
            failed = draw_block(rng, block, np.int64(0), n, w_fixed, tallies[T_FIXED], tallies[T_MODES])
            if failed:
                return 3 if failed == 2 else 5
            write_fixed(w_fixed.theta, beta, aux)
        if moves & M_CENTRE and centred.columns.size > 0:
            centre(rng, rows, centred, prior.Q0, prior.t0, Psi_inverse, beta, B)
        if moves & M_COVARIANCE and prior.Psi.kind != FIXED:
            if not draw_Psi(rng, rows, prior.Psi, B, Psi, Psi_inverse, S):
                return 1
        if moves & M_SCALE and scaled and n > 0:
            predictor(rows, beta, B, True, False, base)
            scale_design(rows, B, U)
            for e in range(r * q):
                spread = prior.Psi.nu * Psi_inverse[e, e] * prior.Psi.sd[e] ** 2
                scale_Q[e, e] = 2.0 * rng.standard_gamma(0.5 * power) / (spread + 1.0)
                w_effects.theta[e] = 1.0
            block = BlockTarget(
                given,
                y,
                trials,
                base,
                U,
                False,
                scale_Q,
                zero_t,
                shape,
                cuts,
                counts,
                two_modes,
            )
            failed = draw_block(rng, block, np.int64(0), n, w_effects, tallies[T_SCALE], tallies[T_MODES])
            if failed:
                return 4 if failed == 2 else 5
            rescale(w_effects.theta, B, Psi)
            if not invert(Psi, Psi_inverse):
                return 1
        if moves & M_AUX and shaped:
            predictor(rows, beta, B, True, True, base)
            shape = draw_shape(rng, family, y, base, above, prior.shape_scale, shape, tallies[T_SHAPE])
            aux[0] = shape
        if moves & M_AUX and mixed:
            predictor(rows, beta, B, True, True, base)
            draw_mixture_aux(rng, family, y, base, above, prior.shape_scale, aux)
            shape = aux[0]
    return 0 if draw_without_rows(rng, rows, Psi, B, S) else 1


def rare_events(rows: GlmmRows, counts: Vector) -> float:
    """Rows that inform the intercept least: of the rarer outcome or the rarest level; counted events."""
    if rows.family in (LOGIT, PROBIT):
        return min(rows.y.sum(), (rows.trials - rows.y).sum())
    if rows.family in (POISSON, ZERO_INFLATED_POISSON, *OVERDISPERSED):
        return rows.y.sum()
    if rows.family in (ORDINAL, CATEGORICAL):
        return counts.min()
    return len(rows.y) if rows.family in (GAMMA, STUDENT) else 0.0  # the others are not log-concave


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
    above = counts_above(rows.y) if rows.family in OVERDISPERSED else np.zeros(0)
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

    beta gets a normal prior of sd 10 on top of its own; Psi is diag(exp N(-1.5, 1)) unless fixed; shapes as in
    `dispersed_aux`; B ~ N(0, Psi) where there are no rows. Arguments as of `glmm_step`; beta, aux, Psi and B are set.
    Returns as it does.
    """
    beta[:], B[:] = 0.0, 0.0
    if prior.Psi.kind != FIXED:
        Psi[:] = np.diag(np.exp(rng.normal(-1.5, 1.0, len(Psi))))
    aux[:] = dispersed_aux(rng, rows.family, len(aux) + 2)
    proper = prior._replace(Q0=prior.Q0 + 0.01 * np.eye(len(prior.Q0)))
    return glmm_step(rng, rows, 1, proper, beta, aux, Psi, B, new_tallies(), MOVES["fixed"])

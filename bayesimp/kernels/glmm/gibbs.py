"""A transition for one discrete or positive response given all else, which leaves p(beta, aux, Psi, B | y) invariant.

    eta_ij = offset_ij + x_ij' beta + z_ij' b_i,   b_i ~ N(0, Psi),   i = 1..m         (beta (p, r), b_i (q, r))

for the families of kernels/families/scalar.py, ORDINAL and CATEGORICAL (kernels/families/responses.py). Only rows with
observed y enter. One update:

    EFFECTS      b_i | beta, aux, Psi, y, clusters with rows       t at its mode, Metropolis   kernels/glmm/blocks.py
    FIXED        beta and the ordinal increments | B, aux, y       likewise; with few events also slices
    CENTRE       beta and B together, X beta + Z b unchanged       normal                      kernels/glmm/moves.py
    COVARIANCE   Psi | b_i of the clusters with rows               conjugate                   covariance/update.py
    SCALE        B and Psi together, half-t sds only               as EFFECTS, given lambda    kernels/glmm/moves.py
    AUX          shape | beta, B, y                                slice                       kernels/families/shape.py

For a mixture, its latent variables are drawn first, and every move except AUX conditions on them
(kernels/families/mixtures.py). Last, b_i ~ N(0, Psi) in the clusters without rows, which no move reads. Drawing them last
leaves the joint distribution invariant, so y_mis may be drawn from (X beta + Z b, aux) on return.

Priors: beta normal or flat (Q0, t0); Psi as CovarianceUpdate; increments ~ Exp(1); shape^-1/2 ~ half-t(3, shape_scale).
A flat prior on beta gives an improper posterior where a response is separated, and always for the inverse Gaussian, whose
likelihood does not vanish as the mean goes to infinity.
"""

from __future__ import annotations

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.covariance.update import (
    FIXED,
    invert,
)
from bayesimp.kernels.families.codes import (
    HURDLE_NEGATIVE_BINOMIAL,
    HURDLE_POISSON,
    STUDENT,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from bayesimp.kernels.families.responses import CATEGORICAL, ORDINAL, dispersed_aux
from bayesimp.kernels.families.scalar import (
    GAMMA,
    LOGIT,
    LOGNORMAL,
    NEGATIVE_BINOMIAL,
    POISSON,
    PROBIT,
)
from bayesimp.kernels.families.shape import counts_above
from bayesimp.kernels.glmm.moves import (
    centring,
    draw_without_rows,
)
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.glmm.update import MOVES, GlmmPrior, glmm_update, glmm_work
from bayesimp.notation import IntMatrix, Matrix, Stack, Vector

__all__ = [
    "ALL_MOVES", "FAILURES", "MOVES", "OVERDISPERSED", "RARE", "TALLIES", "GlmmPrior", "glmm_start", "glmm_step",
    "new_tallies", "rare_events",
]  # fmt: skip

ALL_MOVES = 63
TALLIES = {
    "cluster effects": ("proposed", "accepted"),
    "fixed effects": ("proposed", "accepted"),
    "scales of effects": ("proposed", "accepted"),
    "modes": ("sought", "found"),
    "shape": ("draws", "evaluations"),
}
OVERDISPERSED = NEGATIVE_BINOMIAL, ZERO_INFLATED_NEGATIVE_BINOMIAL, HURDLE_NEGATIVE_BINOMIAL
RARE = 10  # rows of a level, below which the log of its increment is far from normal and is slice sampled
FAILURES = {
    1: "Psi lost its positive definiteness",
    2: "the precision of a cluster's effects is not positive definite",
    3: "the fixed effects are not identified: give them a normal prior",
    4: "the scales of the effects have no proper distribution",
    5: "the likelihood is not finite: a linear predictor is out of range",
}


def new_tallies() -> np.ndarray:
    """Zeros (5, 2), with rows and columns as in TALLIES."""
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
    """Compiled part of `glmm_step`. counts (K,): rows of each level; above: see kernels/families/shape.py."""
    w = glmm_work(rows, prior, counts, beta.shape[0], B, aux)
    if not invert(Psi, w.Psi_inverse):
        return 1
    centred = centring(rows)
    for _ in range(updates):
        failed = glmm_update(rng, rows, above, slices, moves, centred, prior, beta, aux, Psi, B, w, tallies)
        if failed:
            return failed
    return 0 if draw_without_rows(rng, rows, Psi, B, w.S) else 1


def rare_events(rows: GlmmRows, counts: Vector) -> float:
    """Number of rows that inform the intercept least: those of the rarer outcome or the rarest level; counted events."""
    if rows.family in (LOGIT, PROBIT):
        return min(rows.y.sum(), (rows.trials - rows.y).sum())
    if rows.family in (POISSON, ZERO_INFLATED_POISSON, NEGATIVE_BINOMIAL, ZERO_INFLATED_NEGATIVE_BINOMIAL):
        return rows.y.sum()
    if rows.family in (ORDINAL, CATEGORICAL):
        return counts.min()
    if rows.family == HURDLE_POISSON:  # a count of one only says that the mean is small
        return (rows.y - (rows.y > 0)).sum()
    # the others are not log-concave
    return len(rows.y) if rows.family in (GAMMA, STUDENT, LOGNORMAL, YEO_JOHNSON) else 0.0


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
        Number of updates.
    prior
        GlmmPrior.
    beta (p, r), aux (a,), Psi (rq, rq), B (m, q, r)
        The state. aux: kernels/families/responses.py. B of clusters without rows is not read.
    tallies (5, 2)
        Added to: TALLIES.
    moves
        Moves to make, a sum of MOVES: all except in tests.

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

    beta gets a normal prior with sd 10 in addition to its own; Psi is diag(exp N(-1.5, 1)) unless fixed; shapes are as in
    `dispersed_aux`; B ~ N(0, Psi) where there are no rows. Arguments and return value are as for `glmm_step`; beta, aux,
    Psi and B are set.
    """
    beta[:], B[:] = 0.0, 0.0
    if prior.Psi.kind != FIXED:
        Psi[:] = np.diag(np.exp(rng.normal(-1.5, 1.0, len(Psi))))
    aux[:] = dispersed_aux(rng, rows.family, len(aux) + 2)
    proper = prior._replace(Q0=prior.Q0 + 0.01 * np.eye(len(prior.Q0)))
    return glmm_step(rng, rows, 1, proper, beta, aux, Psi, B, new_tallies(), MOVES["fixed"])

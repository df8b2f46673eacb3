"""A factor that is not normal, given other factors' effects: what its moves share, and the draw of its effects.

    b_i  by independence Metropolis from a t distribution at the mode of its conditional density (kernels/glmm/blocks.py)

with the prior N(Q^-1 t_i, Q^-1) given the other factors' effects (kernels/factors/effects.py), from which effects of
clusters without rows are drawn; for a mixture, given its latent variables (kernels/families/mixtures.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import noise_by_factor
from bayesimp.kernels.factors.effects import conditional_means, conditional_prior
from bayesimp.kernels.families.codes import NEGATIVE_BINOMIAL, ORDINAL
from bayesimp.kernels.families.mixtures import component, is_mixture, latent
from bayesimp.kernels.families.responses import cutpoints
from bayesimp.kernels.families.scalar import is_log_concave
from bayesimp.kernels.glmm.blocks import BlockTarget, draw_block
from bayesimp.kernels.glmm.moves import columns, predictor, read_effects, write_effects
from bayesimp.notation import Integer, IntMatrix, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.glmm.blocks import Workspace
    from bayesimp.kernels.glmm.rows import GlmmRows

__all__ = [
    "FactorState",
    "latent_and_effects",
    "own_effects",
    "put_back",
    "target",
]

T_EFFECTS, T_MODES = 0, 3  # rows of tallies, as in kernels/glmm/gibbs.py


class FactorState(NamedTuple):
    """What the moves of a factor read in addition to its rows and parameters.

    given: family of a row; for a mixture, given its latent variable. trials, y (n,): those of the rows; for a mixture,
    the latent variables, and the response given them. base (n, r): work space for linear predictors. shape; cuts, counts:
    as in `BlockTarget`. two_modes: slices of targets that may have two modes, else 0. Q (d, d), t, mean (m, d), L (d, d):
    conditional prior of the effects, their prior means, Cholesky factor of Q. b (m, q, r): the effects.
    """

    given: int
    trials: np.ndarray
    y: np.ndarray
    base: np.ndarray
    shape: float
    cuts: np.ndarray
    counts: np.ndarray
    two_modes: Integer
    Q: np.ndarray
    t: np.ndarray
    mean: np.ndarray
    L: np.ndarray
    b: np.ndarray


@inner
def own_effects(B: Matrix, at: Integer, out: Stack) -> None:
    """out (m, q, r) <- the factor's effects, which are the columns of B (m, D) from `at` on."""
    m, q, r = out.shape
    for i in range(m):
        for k in range(r):
            for l in range(q):
                out[i, l, k] = B[i, at + k * q + l]


@inner
def put_back(own: Stack, at: Integer, B: Matrix) -> None:
    """The reverse of `own_effects`."""
    m, q, r = own.shape
    for i in range(m):
        for k in range(r):
            for l in range(q):
                B[i, at + k * q + l] = own[i, l, k]


@inner
def _factor_state(
    rows: GlmmRows, counts: Vector, at: Integer, r: Integer, aux: Vector, R: Matrix, B: Matrix
) -> tuple[FactorState, bool]:
    """The state of a factor with r linear predictors, R = Psi^-1; whether its effects' precision is positive definite."""
    n, q, m, family = rows.X.shape[0], rows.Z.shape[1], rows.first.size - 1, rows.family
    d, mixed, cuts = q * r, is_mixture(family), np.zeros(aux.size + 1)
    Q, t, mean, L = np.empty((d, d)), np.empty((m, d)), np.empty((m, d)), np.empty((d, d))
    conditional_prior(R, B, at, at + d, Q, t)
    definite = conditional_means(Q, t, L, mean)
    if family == ORDINAL:
        cutpoints(aux, cuts)
    shape = aux[0] if mixed or NEGATIVE_BINOMIAL <= family < ORDINAL else 1.0
    given, b = component(family), np.empty((m, q, r))
    own_effects(B, at, b)
    trials = np.empty(n) if mixed else rows.trials
    y = np.empty(n) if mixed else rows.y
    two_modes = np.int64(not is_log_concave(given))
    return FactorState(
        given, trials, y, np.empty((n, r)), shape, cuts, counts, two_modes, Q, t, mean, L, b
    ), definite


@inner
def target(s: FactorState, D: Matrix, shared: bool, Q: Matrix, t: Vector, slices: Integer) -> BlockTarget:
    """The target of coefficients with design D (w, n) and prior precision Q; s.base: the rest of the linear predictor."""
    return BlockTarget(s.given, s.y, s.trials, s.base, D, shared, Q, t, s.shape, s.cuts, s.counts, slices)


@inner
def draw_latent(rng: np.random.Generator, rows: GlmmRows, s: FactorState, beta: Matrix, aux: Vector) -> None:
    """s.trials, s.y <- the latent variables of a mixture, and y given them; unchanged for other families."""
    if is_mixture(rows.family):
        predictor(rows, beta, s.b, True, True, s.base)
        latent(rng, rows.family, rows.y, s.base, aux, s.trials, s.y)


@inner
def _without_rows(rng: np.random.Generator, L: Matrix, mean: Vector, b: Matrix) -> None:
    """b (q, r) ~ N(mean, Q^-1), L the Cholesky factor of Q."""
    d = mean.size
    z = np.empty(d)
    noise_by_factor(rng, L, z, d)
    for e in range(d):
        z[e] += mean[e]
    write_effects(z, b)


@inner
def _draw_effects(
    rng: np.random.Generator, rows: GlmmRows, s: FactorState, beta: Matrix, w: Workspace, tallies: IntMatrix
) -> int:
    """s.b <- effects of every cluster. Returns 0 or a key of `bayesimp.kernels.glmm.gibbs.FAILURES`."""
    predictor(rows, beta, s.b, True, False, s.base)
    Z = columns(rows.Z)
    for i in range(s.b.shape[0]):
        if rows.first[i] == rows.first[i + 1]:
            _without_rows(rng, s.L, s.mean[i], s.b[i])
            continue
        own = target(s, Z, True, s.Q, s.t[i], s.two_modes)
        read_effects(s.b[i], w.theta)
        failed = draw_block(
            rng, own, rows.first[i], rows.first[i + 1], w, tallies[T_EFFECTS], tallies[T_MODES]
        )
        if failed:
            return 2 if failed == 2 else 5
        write_effects(w.theta, s.b[i])
    return 0


@inner
def latent_and_effects(
    rng: np.random.Generator, rows: GlmmRows, counts: Vector, at: Integer, beta: Matrix, aux: Vector, R: Matrix,
    B: Matrix, w: Workspace, tallies: IntMatrix,
) -> tuple[FactorState, int]:  # fmt: skip
    """Make the first moves of a factor, at given parameters: latent variables of a mixture, then effects.

    R (D, D): Psi^-1. Returns the state, whose effects have not been put back into B (m, D), and 0 or a key of
    `bayesimp.kernels.glmm.gibbs.FAILURES`.
    """
    s, definite = _factor_state(rows, counts, at, beta.shape[1], aux, R, B)
    if not definite:
        return s, 1
    draw_latent(rng, rows, s, beta, aux)
    if s.Q.shape[0] == 0:
        return s, 0
    return s, _draw_effects(rng, rows, s, beta, w, tallies)

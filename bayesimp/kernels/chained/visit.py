"""Steps of the chained-equations loop: the parameters of a block, then its missing values, in one call; whole cycles.

`gibbs_step` is for one response (kernels/chained/gibbs.py). `joint_step` is for several imputed jointly given all
other variables. It is the sampler of kernels/normal/gibbs.py, in the order that leaves (beta, B) drawn given the
(Sigma, Psi) with which the missing values are then filled in:

    Sigma | E'E of the completed rows, Psi | B      given beta, B of the last cycle (not at the first)
    beta, B | Sigma, Psi, Y_obs                     then the rescale move for half-t standard deviations

`gibbs_cycles` runs cycles of blocks with one response each. This is the default path, on which Python loops would take
1.4 to 1.7 times as long for 2 to 10 variables in 450 rows. It reads the blocks from a table of
places (kernels/chained/places.py) and is compiled once. With a tuple of blocks it would be compiled for every number of
variables (3 s for two, 405 s for 60), and its loops took 1.1 to 1.25 times as long; numba's typed lists compile their
own methods in every session; and one array for all blocks would store the cross products twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bayesimp.kernels.chained.fill import fill, imputed_moments
from bayesimp.kernels.chained.gibbs import common_step
from bayesimp.kernels.chained.moments import (
    BlockArrays,
    Terms,
    block_moments,
    cluster_factors,
)
from bayesimp.kernels.chained.places import flags, matrix, matrix_of_flags, reals, stack, whole
from bayesimp.kernels.compiled import inner, kernel, merged
from bayesimp.kernels.covariance.update import (
    FIXED,
    CovarianceUpdate,
    invert,
    update_covariance,
)
from bayesimp.kernels.linalg import copy_to
from bayesimp.kernels.linalg import fill as fill_matrix
from bayesimp.kernels.normal.complete import complete
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.kernels.normal.rescale import draw_and_rescale_effects
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.notation import IntArray, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.chained.moments import RowCells
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["STATE", "VISIT", "BlockState", "Visit", "gibbs_cycles", "gibbs_step", "joint_step"]


class Visit(NamedTuple):
    """The arguments of a visit to a block with one response, except its state; see `gibbs_step`."""

    terms: Terms
    block: BlockArrays
    updates: int
    prior_Sigma: CovarianceUpdate
    prior_Psi: CovarianceUpdate
    Q0: np.ndarray
    t0: np.ndarray


class BlockState(NamedTuple):
    """The state of a block, and arrays for the states of n cycles: kept_beta (n, p*, 1), kept_Sigma, kept_Psi.

    held: number of updates in which each coefficient was held (kernels/normal/effects.py).
    """

    Sigma: np.ndarray
    Psi: np.ndarray
    beta: np.ndarray
    B: np.ndarray
    held: np.ndarray
    kept_beta: np.ndarray
    kept_Sigma: np.ndarray
    kept_Psi: np.ndarray


# Kind and number of dimensions of the arrays of `Visit` and of `BlockState`, in turn (kernels/chained/places.py).
VISIT = "i1 f1 i1 i1 f1 f1 f2 b1 f2 i1 i1  i1 b2 i1 i1 i1 f3 i1 i1 b2 i1 i1 f1 f1  i1  i1 f1 f2 f1  i1 f1 f2 f1  f2 f1"
STATE = "f3 f2 f2 f3 i1  f3 f3 f3"


@inner
def _visit(p: IntArray, b: int) -> Visit:
    """The `Visit` of block b. p: places of the arrays."""
    terms = Terms(
        whole(p, b, 0), reals(p, b, 1), whole(p, b, 2), whole(p, b, 3), reals(p, b, 4), reals(p, b, 5), matrix(p, b, 6),
        flags(p, b, 7), matrix(p, b, 8), whole(p, b, 9), whole(p, b, 10),
    )  # fmt: skip
    block = BlockArrays(
        whole(p, b, 11), matrix_of_flags(p, b, 12), whole(p, b, 13), whole(p, b, 14), whole(p, b, 15), stack(p, b, 16),
        whole(p, b, 17), whole(p, b, 18), matrix_of_flags(p, b, 19), whole(p, b, 20), whole(p, b, 21), reals(p, b, 22),
        reals(p, b, 23),
    )  # fmt: skip
    prior_Sigma = CovarianceUpdate(whole(p, b, 25)[0], reals(p, b, 26)[0], matrix(p, b, 27), reals(p, b, 28))
    prior_Psi = CovarianceUpdate(whole(p, b, 29)[0], reals(p, b, 30)[0], matrix(p, b, 31), reals(p, b, 32))
    return Visit(terms, block, whole(p, b, 24)[0], prior_Sigma, prior_Psi, matrix(p, b, 33), reals(p, b, 34))


@kernel(nogil=True)
def gibbs_cycles(
    rng: np.random.Generator,
    cells: RowCells,
    visits: IntArray,
    states: IntArray,
    V: Matrix,
    mean: Stack,
    sd: Stack,
) -> tuple[int, int, int]:
    """Run n cycles. visits, states: places of the arrays of `Visit`, `BlockState`; mean, sd (n, m, k): `imputed_moments`.

    Returns (cycle, block, code) of a failure; code 0 if there is none.
    """
    for t in range(mean.shape[0]):
        for b in range(visits.shape[0]):
            v = _visit(visits, b)
            Sigma, Psi, beta, B = (
                stack(states, b, 0),
                matrix(states, b, 1),
                matrix(states, b, 2),
                stack(states, b, 3),
            )
            code = _step(
                rng, cells, v.terms, v.block, v.updates, v.prior_Sigma, v.prior_Psi, v.Q0, v.t0,
                Sigma, Psi, beta, B, whole(states, b, 4), V,
            )  # fmt: skip
            if code:
                return t, b, code
            copy_to(stack(states, b, 5)[t], beta)
            copy_to(stack(states, b, 6)[t], Sigma[0])
            copy_to(stack(states, b, 7)[t], Psi)
        imputed_moments(cells, V, mean[t], sd[t])
    return 0, 0, 0


@kernel(nogil=True)
def gibbs_step(
    rng: np.random.Generator,
    cells: RowCells,
    terms: Terms,
    block: BlockArrays,
    updates: int,
    prior_Sigma: CovarianceUpdate,
    prior_Psi: CovarianceUpdate,
    Q0: Matrix,
    t0: Vector,
    Sigma: Stack,
    Psi: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
    V: Matrix,
) -> int:
    """Run `updates` Gibbs updates of one response, then draw its missing values. Returns the code of the updates.

    Sigma (1, 1, 1), Psi (q, q), beta (p*, 1), B (m, q, 1), held (p*,), V (R, d - p) change in place.
    """
    return _step(
        rng, cells, terms, block, updates, prior_Sigma, prior_Psi, Q0, t0, Sigma, Psi, beta, B, held, V
    )


@merged
def _step(
    rng: np.random.Generator,
    cells: RowCells,
    terms: Terms,
    block: BlockArrays,
    updates: int,
    prior_Sigma: CovarianceUpdate,
    prior_Psi: CovarianceUpdate,
    Q0: Matrix,
    t0: Vector,
    Sigma: Stack,
    Psi: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
    V: Matrix,
) -> int:
    """`gibbs_step`, inlined in its callers: a table needs only one of the two and compiles only that one."""
    f = cluster_factors(cells, terms, V)
    m = block_moments(cells, terms, block, f, V)
    code = common_step(rng, m, updates, prior_Sigma, prior_Psi, Q0, t0, Sigma[0], Psi, beta, B, held)
    if code:
        return code
    if not fill(rng, cells, terms, block, f, beta, B, Sigma, V):
        return 1
    return 0


@kernel(nogil=True)
def joint_step(
    rng: np.random.Generator,
    cells: RowCells,
    terms: Terms,
    block: BlockArrays,
    first: bool,
    updates: int,
    prior_Sigma: CovarianceUpdate,
    prior_Psi: CovarianceUpdate,
    Q0: Matrix,
    t0: Vector,
    Sigma: Stack,
    Psi: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
    V: Matrix,
) -> int:
    """`gibbs_step` for several responses: Sigma (1, r, r), Psi (rq, rq), beta (p*, r), B (m, q, r), held (r p*,).

    first: whether this is the first cycle, in which beta and B have not yet been drawn.
    """
    f = cluster_factors(cells, terms, V)
    m = block_moments(cells, terms, block, f, V)
    r, q = Sigma.shape[1], B.shape[1]
    Sigma_inverse, Psi_inverse = np.empty((r, r)), np.empty((r * q, r * q))
    for t in range(updates):
        if not (first and t == 0):
            code = _draw_covariances(rng, m, prior_Sigma, prior_Psi, Sigma[0], Psi, beta, B)
            if code:
                return code
        W, ok = pattern_weights(Sigma[0], m.patterns)
        if not (ok and invert(Sigma[0], Sigma_inverse)):
            return 1
        code = draw_and_rescale_effects(rng, W, prior_Psi, m, Q0, t0, Psi, Psi_inverse, beta, B, held)
        if code:
            return code
    if not fill(rng, cells, terms, block, f, beta, B, Sigma, V):
        return 1
    return 0


@inner
def _draw_covariances(
    rng: np.random.Generator,
    m: Moments,
    prior_Sigma: CovarianceUpdate,
    prior_Psi: CovarianceUpdate,
    Sigma: Matrix,
    Psi: Matrix,
    beta: Matrix,
    B: Stack,
) -> int:
    """Draw Sigma, Psi in place given beta and B; missing values enter as a cross product (kernels/normal/complete.py)."""
    clusters, q, r = B.shape
    A = m.patterns.shape[0]
    W, ok = pattern_weights(Sigma, m.patterns)
    inverse = np.empty((r, r))
    if not (ok and invert(Sigma, inverse)):
        return 1
    if prior_Sigma.kind != FIXED:
        RR, S = np.zeros((A, r, r)), np.zeros((r, r))
        residual_products(m, beta, B, RR)
        N = np.int64(0)
        for a in range(A):
            N += m.pattern_rows[a]
            if m.pattern_rows[a] > 0 and not complete(
                rng, m.pattern_rows[a], m.patterns[a], W[a], Sigma, RR[a], S
            ):
                return 1
        if not update_covariance(rng, prior_Sigma, S, N, inverse, Sigma):
            return 1
    if prior_Psi.kind != FIXED:
        n = r * q
        T, Psi_inverse = np.empty((n, n)), np.empty((n, n))
        if not invert(Psi, Psi_inverse):
            return 4
        fill_matrix(T, 0.0)
        for i in range(clusters):
            for k in range(n):
                for j in range(n):
                    T[k, j] += B[i, k % q, k // q] * B[i, j % q, j // q]
        if not update_covariance(rng, prior_Psi, T, clusters, Psi_inverse, Psi):
            return 4
    return 0

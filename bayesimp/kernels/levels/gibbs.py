"""Gibbs sampler of the joint normal model with several grouping factors (docs/mathematics.md, sec. 16).

    Y = X beta + sum_s Z_s B_s + E,   rows of E ~ N(0, Sigma),   vec(B_sg) ~ N(0, Psi_s) for the groups g of factor s

One iteration:

    1. for every chain of nested factors:
       beta, the effects of the chain | Sigma, Psi, the other effects, Y_obs     kernels/levels/tree.py
       effects and Psi_s rescaled together, with half-t standard deviations      kernels/levels/scales.py
    2. E'E of the completed rows | beta, B, Sigma, Y_obs                         kernels/normal/complete.py
       Sigma | E'E   ~ IW(nu + N, V^-1 + E'E)
       Psi_s | B_s   ~ IW(nu_s + groups, V_s^-1 + sum_g b_sg b_sg')              (other priors:
       kernels/covariance/update.py)

Missing values are integrated out of step 1 and enter step 2 only through E'E, so they are not part of the chain's state.
For kept states, they are drawn from their rows' normal distributions given (beta, B, Sigma), which makes (parameters,
effects, missing values) one draw from their joint posterior. The cost of an iteration is linear in cells, hence in rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import FIXED, CovarianceUpdate, invert, update_covariance
from bayesimp.kernels.levels.records import EffectNormals
from bayesimp.kernels.levels.sums import gather, pack, unpack
from bayesimp.kernels.levels.tree import room
from bayesimp.kernels.levels.visits import common_blocks, invert_factors, visit_chain
from bayesimp.kernels.linalg import copy_to, fill
from bayesimp.kernels.normal.complete import complete
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.kernels.normal.rows import fill_rows
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.levels.records import Factors, NestedChains, PsiPriors, RowsToFill
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["levels_gibbs"]


@kernel(nogil=True)
def levels_gibbs(
    rng: np.random.Generator, iterations: int, thin: int, stride: int, m: Moments, factors: Factors, chains: NestedChains,
    prior_Sigma: CovarianceUpdate, priors: PsiPriors, Q0: Matrix, t0: Vector, rows: RowsToFill, Sigma: Matrix,
    Psi: Vector, b: Vector, beta_draws: Stack, Sigma_draws: Stack, Psi_draws: Matrix, mean_draws: Stack,
    sd_draws: Stack, cell_draws: Matrix,
) -> Integer:  # fmt: skip
    """Run the chain from (Sigma, Psi, b), updated in place; keep every `thin`-th state.

    Parameters
    ----------
    m
        Moments of combinations of groups, with the columns of Z of all factors (kernels/levels/records.py).
    Psi, b
        Flat arrays: all Psi_s; all effects.
    beta_draws (D, p, r), Sigma_draws (D, r, r), Psi_draws (D, flat)
        Arrays for the kept states; D = iterations // thin.
    mean_draws, sd_draws
        (D, m, r): mean and sd of missing values by group of the first factor and response; nan where there are none.
    cell_draws
        (D // stride, c): the missing values of every `stride`-th kept state, row by row.

    Returns
    -------
    0, or what failed: 1 Sigma, 2 the precision of a group's effects, 3 beta not identified, 4 a Psi_s not positive
    definite.
    """
    p, r = beta_draws.shape[1], Sigma.shape[0]
    K, q = factors.group.shape[0], m.ZZ.shape[1]
    beta = np.zeros((p, r))
    B = np.empty((K, q, r))
    for s in range(factors.number.size):
        gather(factors, np.int64(s), b, B)
    Psi_inverse = np.empty(Psi.size)
    given = EffectNormals(Psi_inverse, common_blocks(factors), np.zeros(b.size))
    Sigma_inverse = np.empty((r, r))
    work = np.empty(room(factors, chains, np.int64(r), np.int64(r * p)))
    XY = np.empty(m.XY.shape)
    ZY = np.empty(m.ZY.size)
    RR = np.empty((m.patterns.shape[0], r, r))
    cells = np.empty(rows.Y.shape)
    N = np.int64(0)
    for a in range(m.pattern_rows.size):
        N += m.pattern_rows[a]
    for t in range(iterations):
        W, ok = pattern_weights(Sigma, m.patterns)
        if not (ok and invert(Sigma, Sigma_inverse)):
            return np.int64(1)
        failed = _draw_effects(
            rng, W, m, factors, chains, priors, Q0, t0, given, Psi, beta, b, B, XY, ZY, work
        )
        if failed:
            return failed
        if (t + 1) % thin == 0:
            # the state that is kept has the (Sigma, Psi) with which this (beta, b) was drawn
            k = (t + 1) // thin - 1
            copy_to(beta_draws[k], beta)
            copy_to(Sigma_draws[k], Sigma)
            for e in range(Psi.size):
                Psi_draws[k, e] = Psi[e]
            if not _fill(rng, m, rows, W, beta, Sigma, B, cells, mean_draws[k], sd_draws[k]):
                return np.int64(1)
            if (k + 1) % stride == 0:
                _keep(m, rows, cells, cell_draws, (k + 1) // stride - 1)
        if prior_Sigma.kind != FIXED and not _update_Sigma(
            rng, m, W, prior_Sigma, N, beta, B, RR, Sigma_inverse, Sigma
        ):
            return np.int64(1)
        if not _update_factors(rng, factors, priors, b, Psi_inverse, Psi):
            return np.int64(4)
    return np.int64(0)


@inner
def _keep(m: Moments, rows: RowsToFill, cells: Matrix, out: Matrix, k: Integer) -> None:
    """out[k] (c,) <- the missing values among cells (R, r), row by row."""
    at = 0
    for j in range(cells.shape[0]):
        for v in range(cells.shape[1]):
            if not m.patterns[rows.pattern[j], v]:
                out[k, at] = cells[j, v]
                at += 1


@inner
def _update_Sigma(
    rng: np.random.Generator, m: Moments, W: Stack, prior: CovarianceUpdate, N: Integer, beta: Matrix, B: Stack,
    RR: Stack, inverse: Matrix, Sigma: Matrix,
) -> bool:  # fmt: skip
    """Draw Sigma in place (step 2); RR (A, r, r) is overwritten. Returns False if Sigma is not positive definite."""
    r = Sigma.shape[0]
    S = np.empty((r, r))
    residual_products(m, beta, B, RR)
    fill(S, 0.0)
    for a in range(RR.shape[0]):
        if m.pattern_rows[a] > 0 and not complete(
            rng, m.pattern_rows[a], m.patterns[a], W[a], Sigma, RR[a], S
        ):
            return False
    return update_covariance(rng, prior, S, N, inverse, Sigma)


@inner
def _draw_effects(
    rng: np.random.Generator, W: Stack, m: Moments, factors: Factors, chains: NestedChains, priors: PsiPriors, Q0: Matrix,
    t0: Vector, given: EffectNormals, Psi: Vector, beta: Matrix, b: Vector, B: Stack, XY: Stack, ZY: Vector, work: Vector,
) -> Integer:  # fmt: skip
    """Step 1; given.precision, which is Psi_inverse, is computed here. Returns 0, or what failed (see `levels_gibbs`)."""
    if not invert_factors(factors, priors, Psi, given.precision):
        return np.int64(4)
    for t in range(chains.first.size - 1):
        failed = visit_chain(
            rng, W, m, factors, chains, np.int64(t), given, priors, Q0, t0, Psi, given.precision, beta, b, B, XY, ZY, work
        )  # fmt: skip
        if failed:
            return failed + 1
    return np.int64(0)


@inner
def _update_factors(
    rng: np.random.Generator,
    factors: Factors,
    priors: PsiPriors,
    b: Vector,
    Psi_inverse: Vector,
    Psi: Vector,
) -> bool:
    """Draw Psi_s | b of every factor in place; Psi_inverse: that of the current Psi. False if one cannot be drawn."""
    for s in range(factors.number.size):
        if priors.kind[s] == FIXED:
            continue
        n = priors.sd_at[s + 1] - priors.sd_at[s]
        sd, scale, inverse, current, T = (
            np.empty(n), np.empty((n, n)), np.empty((n, n)), np.empty((n, n)), np.zeros((n, n))
        )  # fmt: skip
        for e in range(n):
            sd[e] = priors.sd[priors.sd_at[s] + e]
        unpack(priors.scale, factors.psi_at[s], scale)
        unpack(Psi_inverse, factors.psi_at[s], inverse)
        unpack(Psi, factors.psi_at[s], current)
        for g in range(factors.number[s]):
            at = factors.effect_at[s] + g * n
            for e in range(n):
                for f in range(n):
                    T[e, f] += b[at + e] * b[at + f]
        prior = CovarianceUpdate(priors.kind[s], priors.nu[s], scale, sd)
        if not update_covariance(rng, prior, T, factors.number[s], inverse, current):
            return False
        pack(current, Psi, factors.psi_at[s])
    return True


@inner
def _fill(
    rng: np.random.Generator, m: Moments, rows: RowsToFill, W: Stack, beta: Matrix, Sigma: Matrix, B: Stack,
    cells: Matrix, mean: Matrix, sd: Matrix,
) -> bool:  # fmt: skip
    """cells (R, r) <- missing values, `fixed` included; mean, sd (m, r) <- theirs by cluster, nan without any.

    sd has denominator n - 1 and is nan for a single value.
    """
    R, r = rows.Y.shape
    z = np.empty(R * r)
    for e in range(z.size):
        z[e] = rng.standard_normal()
    if not fill_rows(
        z, np.int64(0), m.patterns, W, rows.X, rows.Z, rows.Y, rows.combination, rows.pattern, beta, Sigma, B, cells
    ):  # fmt: skip
        return False
    fill(mean, math.nan)
    fill(sd, math.nan)
    count, squares = np.zeros(mean.shape), np.zeros(mean.shape)
    for j in range(R):
        i = rows.cluster[j]
        for k in range(r):
            if m.patterns[rows.pattern[j], k]:
                continue
            cells[j, k] += rows.fixed[j, k]
            if count[i, k] == 0.0:
                mean[i, k] = 0.0
            count[i, k] += 1.0
            gap = cells[j, k] - mean[i, k]
            mean[i, k] += gap / count[i, k]
            squares[i, k] += gap * (cells[j, k] - mean[i, k])
            if count[i, k] > 1.0:
                sd[i, k] = math.sqrt(squares[i, k] / (count[i, k] - 1.0))
    return True

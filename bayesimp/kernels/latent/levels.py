"""Gibbs sampler of the joint model on latent normals with several grouping factors (docs/mathematics.md, sec. 14, 16).

    Y* = X beta + sum_s Z_s B_s + E,   rows of E ~ N(0, Sigma),   (vec(B_sg), v_sg - gamma_s' G_sg) ~ N(0, Psi_s)

Given the latent values of observed levels this is the joint normal model of kernels/levels/gibbs.py with missing cells,
whose steps are used; what concerns latent values, Sigma and variables of groups are the steps of kernels/latent/gibbs.py,
for which the groups of all factors are the rows of one table. One iteration:

    1. c, y* | beta, all B, Sigma;   c, v* | gamma, all B, Psi_s        kernels/latent/values.py, and the moments
    2. for every chain of nested factors:
       beta, the effects of the chain | y*, v*, the other effects       kernels/levels/visits.py
       effects and Psi_s rescaled together
       gamma | v*, all B                                                kernels/latent/groups.py
    3. y*_k, beta_k, B_k, c_k rescaled together; v*_k, gamma_k, c_k     kernels/latent/scales.py
       Sigma, every Psi_s | cross products of completed rows, groups    kernels/latent/gibbs.py

Missing values of rows and of groups are integrated out of steps 1 and 2. The kept state and the missing cells are those
after step 2. The cost of an iteration is linear in rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.kernels.latent.effects import products_of_clusters
from bayesimp.kernels.latent.gibbs import draw_covariance, draw_values
from bayesimp.kernels.latent.groups import (
    copy_effects,
    draw_group_coefficients,
    joined,
    precision_places,
    renew_normals,
)
from bayesimp.kernels.latent.missing import draw_missing_cells
from bayesimp.kernels.latent.moments import renew_moments
from bayesimp.kernels.latent.residual import ResidualPrior
from bayesimp.kernels.latent.scales import move_scales
from bayesimp.kernels.levels.records import EffectNormals
from bayesimp.kernels.levels.sums import gather, pack, scatter, unpack
from bayesimp.kernels.levels.tree import room
from bayesimp.kernels.levels.visits import invert_factors, visit_chain
from bayesimp.kernels.linalg import copy_to
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.level_records import GroupTable, LevelsKept, LevelsPriors, LevelsState
    from bayesimp.kernels.latent.records import LatentLevel
    from bayesimp.kernels.levels.records import Factors, NestedChains
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["latent_levels_gibbs"]


@inner
def _prior_of_factor(
    factors: Factors, priors: LevelsPriors, s: Integer
) -> tuple[CovarianceUpdate, ResidualPrior]:
    """The two records of the prior of Psi_s (w_s, w_s), from arrays of all."""
    free, own = priors.free, priors.restricted
    n = free.sd_at[s + 1] - free.sd_at[s]
    scale, restricted_scale = np.empty((n, n)), np.empty((n, n))
    sd, restricted_sd = np.empty(n), np.empty(n)
    free_sd, correlation = np.empty(n, np.bool_), np.empty((n, n), np.bool_)
    unpack(free.scale, factors.psi_at[s], scale)
    unpack(own.scale, factors.psi_at[s], restricted_scale)
    for e in range(n):
        at = free.sd_at[s] + e
        sd[e], restricted_sd[e], free_sd[e] = free.sd[at], own.sd[at], own.free_sd[at]
        for f in range(n):
            correlation[e, f] = own.free_correlation[factors.psi_at[s] + e * n + f]
    return (
        CovarianceUpdate(free.kind[s], free.nu[s], scale, sd),
        ResidualPrior(
            own.kind[s], own.nu[s], restricted_scale, restricted_sd, own.eta[s], own.family[s], free_sd, correlation
        ),
    )  # fmt: skip


@inner
def _update_factors(
    rng: np.random.Generator, groups: GroupTable, factors: Factors, priors: LevelsPriors, K: Stack, AA: Stack,
    Psi: Vector,
) -> bool:  # fmt: skip
    """Draw every Psi_s in place given cross products AA (A_2, w, w) by pattern of groups; False if one is not positive
    definite."""
    for s in range(factors.number.size):
        first = groups.member_at[s]
        n = groups.member_at[s + 1] - first
        A = np.int64(0)
        for a in range(groups.factor.size):
            A += groups.factor[a] == s
        counts, patterns = np.empty(A, np.int64), np.empty((A, n), np.bool_)
        W, RR, Psi_s = np.empty((A, n, n)), np.empty((A, n, n)), np.empty((n, n))
        own = 0
        for a in range(groups.factor.size):
            if groups.factor[a] != s:
                continue
            counts[own] = groups.level.counts[a]
            for e in range(n):
                k = groups.member[first + e]
                patterns[own, e] = groups.level.patterns[a, k]
                for f in range(n):
                    W[own, e, f] = K[a, k, groups.member[first + f]]
                    RR[own, e, f] = AA[a, k, groups.member[first + f]]
            own += 1
        unpack(Psi, factors.psi_at[s], Psi_s)
        free, restricted = _prior_of_factor(factors, priors, s)
        if not draw_covariance(rng, counts, patterns, free, restricted, W, RR, Psi_s):
            return False
        pack(Psi_s, Psi, factors.psi_at[s])
    return True


@inner
def _copy(values: Vector, out: Matrix, d: Integer) -> None:
    """out[d] <- values."""
    for e in range(values.size):
        out[d, e] = values[e]


@inner
def _keep(state: LevelsState, kept: LevelsKept, d: Integer) -> None:
    """kept[d] <- the parameters."""
    copy_to(kept.beta[d], state.beta)
    copy_to(kept.Sigma[d], state.Sigma)
    copy_to(kept.gamma[d], state.gamma)
    _copy(state.Psi, kept.Psi, d)
    _copy(state.cutpoints, kept.cutpoints, d)
    _copy(state.group_cutpoints, kept.group_cutpoints, d)
    if kept.b.shape[0]:
        _copy(state.b, kept.b, d)


@inner
def _fill_cells(
    rng: np.random.Generator, level: LatentLevel, groups: GroupTable, W: Stack, K: Stack, B: Stack, Psi: Matrix,
    state: LevelsState, kept: LevelsKept, d: Integer, stride: Integer,
) -> bool:  # fmt: skip
    """Draw the missing cells of rows and groups at kept state d; Psi (w, w). False if a covariance is not positive
    definite."""
    r, w = state.Sigma.shape[0], Psi.shape[0]
    cells = np.empty(kept.cells.shape[1])
    of_rows = cells.size - (groups.level.cells.place >= 0).sum()
    if not draw_missing_cells(
        rng, level, np.zeros(W.shape[0], np.int64), W, state.Sigma.reshape((1, r, r)), state.beta, B, state.cutpoints,
        state.Y, cells[:of_rows], kept.mean[d], kept.sd[d],
    ):  # fmt: skip
        return False
    if of_rows < cells.size and not draw_missing_cells(
        rng, groups.level, np.zeros(K.shape[0], np.int64), K, Psi.reshape((1, w, w)), state.gamma,
        np.empty((state.V.shape[0], 0, w)), state.group_cutpoints, state.V, cells[of_rows:], kept.group_mean[d],
        kept.group_sd[d],
    ):  # fmt: skip
        return False
    if (d + 1) % stride == 0:
        _copy(cells, kept.cells, (d + 1) // stride - 1)
    return True


@inner
def _move_scales(
    rng: np.random.Generator, level: LatentLevel, groups: GroupTable, factors: Factors, priors: LevelsPriors, W: Stack,
    RR: Stack, K: Stack, AA: Stack, of_rows: bool, of_groups: bool, B: Stack, state: LevelsState,
) -> bool:  # fmt: skip
    """Move the scales of latent variables of rows and of groups; both copies of the effects, B and b, change.

    Returns False as `move_scales`.
    """
    if of_rows:
        effects = np.int64(0)
        for s in range(factors.number.size):
            effects += factors.number[s] * (factors.column[s + 1] - factors.column[s])
        multiplied = np.full(state.beta.shape[1], state.beta.shape[0] + effects)
        if not move_scales(rng, level, W, RR, priors.Q0, priors.t0, K, AA, priors.rate, multiplied, state.beta, B,
                           state.cutpoints, state.Y):  # fmt: skip
            return False
        for s in range(factors.number.size):
            scatter(factors, np.int64(s), B, state.b)
    if of_groups:
        p, w = state.gamma.shape
        before = B.shape[1] * B.shape[2]
        Q0, t0 = np.zeros((w * p, w * p)), np.zeros(w * p)
        for e in range(priors.t0_groups.size):
            t0[before * p + e] = priors.t0_groups[e]
            for f in range(priors.t0_groups.size):
                Q0[before * p + e, before * p + f] = priors.Q0_groups[e, f]
        multiplied = np.zeros(w, np.int64)
        for k in range(w):
            for x in range(p):
                multiplied[k] += groups.coefficient[x, k]
        nothing, no_effects = np.empty((0, 0, 0)), np.empty((0, 0, w))
        return move_scales(rng, groups.level, K, AA, Q0, t0, nothing, nothing, priors.rate, multiplied, state.gamma,
                           no_effects, state.group_cutpoints, state.V)  # fmt: skip
    return True


@inner
def _draw_effects(
    rng: np.random.Generator, W: Stack, m: Moments, groups: GroupTable, factors: Factors, chains: NestedChains,
    priors: LevelsPriors, given: EffectNormals, Psi_inverse: Vector, Psi: Matrix, B: Stack, XY: Stack, ZY: Vector,
    work: Vector, state: LevelsState,
) -> Integer:  # fmt: skip
    """Step 2; Psi (w, w) is overwritten. Returns 0, or a code of `latent_levels_gibbs`."""
    r = W.shape[1]
    before = B.shape[1] * r
    places = precision_places(groups, factors, r)
    for t in range(chains.first.size - 1):
        joined(groups, factors, state.Psi, Psi)
        K, ok = pattern_weights(Psi, groups.level.patterns)
        if not (ok and invert_factors(factors, priors.moves, state.Psi, Psi_inverse)):
            return np.int64(4)
        renew_normals(groups, factors, places, K, state.gamma, state.V, before, given)
        failed = visit_chain(
            rng, W, m, factors, chains, np.int64(t), given, priors.moves, priors.Q0, priors.t0, state.Psi, Psi_inverse,
            state.beta, state.b, B, XY, ZY, work,
        )  # fmt: skip
        if failed:
            return failed + 1
    copy_effects(groups, factors, r, state.b, state.V)
    joined(groups, factors, state.Psi, Psi)
    K, ok = pattern_weights(Psi, groups.level.patterns)
    if not ok:
        return np.int64(4)
    if not draw_group_coefficients(rng, groups, priors, K, state.V, before, state.gamma):
        return np.int64(3)
    return np.int64(0)


@kernel(nogil=True)
def latent_levels_gibbs(
    rng: np.random.Generator, iterations: int, thin: int, stride: int, m: Moments, level: LatentLevel, groups: GroupTable,
    factors: Factors, chains: NestedChains, priors: LevelsPriors, state: LevelsState, kept: LevelsKept,
) -> Integer:  # fmt: skip
    """Run the chain from `state`; the state and the moments m are updated in place.

    Parameters
    ----------
    thin, stride
        Every `thin`-th state is kept, and the imputed cells of every `stride`-th kept state.
    m
        Moments of combinations of groups, with the columns of Z of all factors (kernels/levels/records.py).
    level
        The rows of the table, whose `cluster` is their combination.
    kept
        Arrays for the kept states; D = iterations // thin.

    Returns
    -------
    0, or what failed: 1 Sigma, 2 the precision of a group's effects, 3 coefficients not identified, 4 a Psi_s not
    positive definite, 5 a latent value too far from its bounds.
    """
    (p, r), w = state.beta.shape, state.V.shape[1]
    latent = (level.columns.kind != 0).any()
    latent_groups = (groups.level.columns.kind != 0).any()
    B = np.empty((factors.group.shape[0], m.ZZ.shape[1], r))
    for s in range(factors.number.size):
        gather(factors, np.int64(s), state.b, B)
    places = precision_places(groups, factors, r)
    blocks = places[-1, 0] + places[-1, 1] ** 2
    given = EffectNormals(np.empty(blocks), np.empty(state.V.shape[0], np.int64), np.empty(state.b.size))
    Psi, Psi_inverse = np.empty((w, w)), np.empty(state.Psi.size)
    work = np.empty(room(factors, chains, np.int64(r), np.int64(r * p)))
    XY, ZY, RR = np.empty(m.XY.shape), np.empty(m.ZY.size), np.zeros((m.patterns.shape[0], r, r))
    AA = np.empty((groups.factor.size, w, w))
    no_effects = np.empty((state.V.shape[0], 0, w))
    for t in range(iterations):
        W, ok = pattern_weights(state.Sigma, level.patterns)
        if not ok:
            return 1
        if latent:
            if not draw_values(rng, level, W, priors.rate, state.beta, B, state.cutpoints, state.Y):
                return 5
            renew_moments(level.rows, level.columns, state.Y, m)
        if latent_groups:
            copy_effects(groups, factors, r, state.b, state.V)
            joined(groups, factors, state.Psi, Psi)
            K, ok = pattern_weights(Psi, groups.level.patterns)
            if not ok:
                return 4
            if not draw_values(
                rng, groups.level, K, priors.rate, state.gamma, no_effects, state.group_cutpoints, state.V
            ):
                return 5
        failed: Integer = _draw_effects(
            rng, W, m, groups, factors, chains, priors, given, Psi_inverse, Psi, B, XY, ZY, work, state
        )
        if failed:
            return failed
        K, ok = pattern_weights(Psi, groups.level.patterns)
        if (t + 1) % thin == 0:
            d = (t + 1) // thin - 1
            _keep(state, kept, d)
            if not _fill_cells(rng, level, groups, W, K, B, Psi, state, kept, d, stride):
                return 1
        residual_products(m, state.beta, B, RR)
        products_of_clusters(groups.level.rows, state.gamma, state.V, AA)
        if not _move_scales(
            rng, level, groups, factors, priors, W, RR, K, AA, latent, latent_groups, B, state
        ):
            return 6
        if not draw_covariance(
            rng, level.counts, level.patterns, priors.free_Sigma, priors.restricted_Sigma, W, RR, state.Sigma
        ):
            return 1
        if not _update_factors(rng, groups, factors, priors, K, AA, state.Psi):
            return 4
    return 0

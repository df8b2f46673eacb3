"""Gibbs sampler of the joint normal model on latent normals (docs/mathematics.md, sec. 14).

Given the latent values y* of observed levels, the model is the joint normal one with missing cells. Cluster-level
variables are further elements of the clusters' effect vectors, a_i = (vec(B_i), v_i - G_i gamma) ~ N(0, Psi): clusters
play the part of rows for them, and the same functions serve both. One iteration:

    1. c | beta, B, Sigma;  y* | c, beta, B, Sigma     kernels/latent/values.py, and their moments
       the same of v* | gamma, B, Psi
    2. beta, gamma, B | y*, v*, Sigma, Psi             kernels/latent/effects.py, missing values integrated out
       B and Psi rescaled together                     kernels/normal/rescale.py
       y*_k, beta_k, B_k, c_k rescaled together        kernels/latent/scales.py; v*_k, gamma_k, c_k too
    3. E'E of the completed rows | y*, beta, B, Sigma  kernels/normal/complete.py
       Sigma | E'E                                     kernels/latent/residual.py, or as in kernels/normal/gibbs.py
                                                       where no entry is fixed; in each cluster:
                                                       kernels/latent/cluster_residuals.py
       Psi | A'A                                       in the same way, from the completed a_i

The kept state and the missing cells are those after coefficients and effects are drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.density import HALF_T
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, FIXED, invert, update_covariance
from bayesimp.kernels.covariance.update import HUANG_WAND as HUANG_WAND_UPDATE
from bayesimp.kernels.latent.cluster_residuals import draw_cluster_residuals
from bayesimp.kernels.latent.effects import (
    draw_coefficients_and_effects,
    effects_to_values,
    products_of_clusters,
)
from bayesimp.kernels.latent.missing import draw_missing_cells
from bayesimp.kernels.latent.moments import renew_moments
from bayesimp.kernels.latent.residual import HUANG_WAND, KNOWN, SCALES, draw_residual_covariance
from bayesimp.kernels.latent.scales import move_scales
from bayesimp.kernels.latent.values import draw_latent_values, predictors
from bayesimp.kernels.linalg import copy_to
from bayesimp.kernels.normal.complete import complete
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.kernels.normal.rescale import rescale_effects
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.notation import BoolMatrix, Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.latent.records import Kept, LatentLevel, LatentState, SamplerPriors
    from bayesimp.kernels.latent.residual import ResidualPrior
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["draw_covariance", "draw_values", "latent_gibbs"]


@inner
def _weights(Sigma: Stack, group: IntVector, level: LatentLevel) -> tuple[Stack, bool]:
    """W (A, r, r), inverses of the observed part of each pattern's covariance Sigma[group]; whether all exist."""
    if Sigma.shape[0] == 1:
        return pattern_weights(Sigma[0], level.patterns)
    A, r = level.patterns.shape
    W = np.empty((A, r, r))
    for a in range(A):
        own, ok = pattern_weights(Sigma[group[a]], level.patterns[a : a + 1])
        if not ok:
            return W, False
        copy_to(W[a], own[0])
    return W, True


@inner
def draw_covariance(
    rng: np.random.Generator, counts: IntVector, patterns: BoolMatrix, free: CovarianceUpdate, restricted: ResidualPrior,
    W: Stack, RR: Stack, S: Matrix,
) -> bool:  # fmt: skip
    """Draw S (w, w) in place given cross products RR (A, w, w) of observed parts: Sigma of residuals, or Psi of the a_i.

    counts (A,), patterns (A, w): as in `LatentLevel`; free: the update where no entry is fixed; if its kind is FIXED,
    `restricted` is used instead, and if KNOWN, S keeps its value.
    """
    if free.kind == FIXED and restricted.kind == KNOWN:
        return True
    w, n = S.shape[0], np.int64(0)
    T = np.zeros((w, w))
    for a in range(RR.shape[0]):
        n += counts[a]
        if counts[a] > 0 and not complete(rng, counts[a], patterns[a], W[a], S, RR[a], T):
            return False
    if free.kind == FIXED:
        return draw_residual_covariance(rng, restricted, T, n, S)
    inverse = np.empty((w, w))
    return invert(S, inverse) and update_covariance(rng, free, T, n, inverse, S)


@inner
def _draw_residuals(
    rng: np.random.Generator, level: LatentLevel, group: IntVector, priors: SamplerPriors, W: Stack, RR: Stack,
    state: LatentState, given: bool,
) -> bool:  # fmt: skip
    """Draw Sigma, a and the clusters' residual covariances in place; here every pattern belongs to one cluster.

    given: draw only the covariances of the clusters.
    """
    G, r, _ = state.residuals.shape
    T, n = np.zeros((G, r, r)), np.zeros(G, np.int64)
    for a in range(RR.shape[0]):
        i = group[a]
        n[i] += level.counts[a]
        if level.counts[a] > 0 and not complete(
            rng, level.counts[a], level.patterns[a], W[a], state.residuals[i], RR[a], T[i]
        ):
            return False
    return draw_cluster_residuals(
        rng, priors.restricted_Sigma, priors.spread, level.columns.kind, n, T, state.Sigma, state.likeness,
        state.residuals, given,
    )  # fmt: skip


@inner
def _rescale(
    rng: np.random.Generator, priors: SamplerPriors, W: Stack, m: Moments, state: LatentState
) -> Integer:
    """Rescale effects and Psi together if the prior of Psi has the move; 0, or 4: Psi not positive definite."""
    free, restricted, d = priors.free_Psi, priors.restricted_Psi, state.Psi.shape[0]
    half_ts = (
        restricted.kind == SCALES and restricted.family == HALF_T and not restricted.free_correlation.any()
    )
    one_by_one = half_ts or free.kind == DIAGONAL_HALF_T
    if not (one_by_one or free.kind == HUANG_WAND_UPDATE or restricted.kind == HUANG_WAND):
        return np.int64(0)
    inverse = np.empty((d, d))
    if not invert(state.Psi, inverse):
        return np.int64(4)
    nu, sd = (restricted.nu, restricted.sd) if free.kind == FIXED else (free.nu, free.sd)
    together = np.int64(1) if one_by_one else np.int64(d)
    rescale_effects(rng, nu, sd, together, W, m, state.beta, state.B, state.Psi, inverse)
    return np.int64(0)


@inner
def draw_values(
    rng: np.random.Generator,
    level: LatentLevel,
    W: Stack,
    rate: float,
    beta: Matrix,
    B: Stack,
    cutpoints: Vector,
    Y: Matrix,
) -> bool:
    """Draw latent values and cutpoints in place; False if a value lies too far from its bounds."""
    mu = np.empty(Y.shape)
    predictors(level.rows, beta, B, mu)
    return draw_latent_values(rng, level.rows, level.columns, W, mu, rate, cutpoints, Y)


@inner
def _keep(state: LatentState, kept: Kept, d: Integer) -> None:
    """kept[d] <- the parameters."""
    copy_to(kept.beta[d], state.beta)
    copy_to(kept.Sigma[d], state.Sigma)
    copy_to(kept.Psi[d], state.Psi)
    copy_to(kept.gamma[d], state.gamma)
    for h in range(state.cutpoints.size):
        kept.cutpoints[d, h] = state.cutpoints[h]
    for h in range(state.cluster_cutpoints.size):
        kept.cluster_cutpoints[d, h] = state.cluster_cutpoints[h]
    kept.likeness[d, 0] = state.likeness[0]
    if kept.residuals.shape[0]:
        for i in range(state.residuals.shape[0]):
            copy_to(kept.residuals[d, i], state.residuals[i])
    if kept.B.shape[0]:
        for i in range(state.B.shape[0]):
            copy_to(kept.B[d, i], state.B[i])


@inner
def _fill_cells(
    rng: np.random.Generator, level: LatentLevel, group: IntVector, clusters: LatentLevel, W: Stack, K: Stack,
    state: LatentState, kept: Kept, d: Integer, stride: Integer,
) -> bool:  # fmt: skip
    """Draw the missing cells of rows and clusters at kept state d; False if a covariance is not positive definite."""
    cells = np.empty(kept.cells.shape[1])
    of_clusters = (clusters.cells.place >= 0).sum()
    of_rows = cells.size - of_clusters
    if not draw_missing_cells(rng, level, group, W, state.residuals, state.beta, state.B, state.cutpoints, state.Y,
                              cells[:of_rows], kept.mean[d], kept.sd[d]):  # fmt: skip
        return False
    w = state.V.shape[1]
    if of_clusters and not draw_missing_cells(
        rng, clusters, np.zeros(K.shape[0], np.int64), K, state.Psi.reshape((1, w, w)), state.gamma,
        np.empty((state.V.shape[0], 0, w)), state.cluster_cutpoints, state.V, cells[of_rows:], kept.cluster_mean[d],
        kept.cluster_sd[d],
    ):  # fmt: skip
        return False
    if (d + 1) % stride == 0:
        at = (d + 1) // stride - 1
        for h in range(cells.size):
            kept.cells[at, h] = cells[h]
    return True


@inner
def _draw_scales_and_covariances(
    rng: np.random.Generator, m: Moments, level: LatentLevel, group: IntVector, clusters: LatentLevel,
    priors: SamplerPriors, W: Stack, K: Stack, RR: Stack, latent: bool, latent_clusters: bool, state: LatentState,
    given: bool,
) -> Integer:  # fmt: skip
    """Draw the scales of latent variables, then Sigma and Psi, in place; 0, or a code of `latent_gibbs`.

    RR (A, r, r): cross products of the residuals of observed rows; given: draw only the clusters' covariances.
    """
    own = state.likeness[0] > 0.0
    if given:
        return np.int64(own and not _draw_residuals(rng, level, group, priors, W, RR, state, given))
    effects_to_values(state.B, state.V)
    AA = np.empty(K.shape)
    products_of_clusters(clusters.rows, state.gamma, state.V, AA)
    if latent:
        own_values = np.full(state.beta.shape[1], state.beta.shape[0] + state.B.shape[0] * state.B.shape[1])
        if not move_scales(rng, level, W, RR, priors.Q0, priors.t0, K, AA, priors.rate, own_values, state.beta, state.B,
                           state.cutpoints, state.Y):  # fmt: skip
            return np.int64(6)
    if latent_clusters:
        nothing = np.empty((0, 0, 0))
        no_effects = np.empty((0, 0, state.V.shape[1]))
        coefficients = np.full(state.gamma.shape[1], state.gamma.shape[0])
        if not move_scales(rng, clusters, K, AA, priors.Q0_clusters, priors.t0_clusters, nothing, nothing, priors.rate,
                           coefficients, state.gamma, no_effects, state.cluster_cutpoints, state.V):  # fmt: skip
            return np.int64(6)
    if own:
        if not _draw_residuals(rng, level, group, priors, W, RR, state, given):
            return np.int64(1)
    else:
        if not draw_covariance(
            rng, level.counts, level.patterns, priors.free_Sigma, priors.restricted_Sigma, W, RR, state.Sigma
        ):
            return np.int64(1)
        copy_to(state.residuals[0], state.Sigma)
    if not draw_covariance(
        rng, clusters.counts, clusters.patterns, priors.free_Psi, priors.restricted_Psi, K, AA, state.Psi
    ):
        return np.int64(4)
    return np.int64(0)


@kernel(nogil=True)
def latent_gibbs(
    rng: np.random.Generator, iterations: int, thin: int, stride: int, given: bool, m: Moments, level: LatentLevel,
    group: IntVector, clusters: LatentLevel, priors: SamplerPriors, state: LatentState, kept: Kept,
) -> Integer:  # fmt: skip
    """Run the chain from `state`; the state and the moments m are updated in place.

    Parameters
    ----------
    thin, stride
        Every `thin`-th state is kept, and the imputed cells of every `stride`-th kept state.
    given
        Whether parameters keep their values, so that only latent values, effects and cells are drawn.
    level, clusters
        The rows of the table; its clusters.
    group
        (A,) index of the residual covariance of each pattern of rows.
    kept
        Arrays for the kept states; D = iterations // thin.

    Returns
    -------
    0, or what failed: 1 Sigma, 2 a cluster's precision, 3 coefficients not identified, 4 Psi not positive definite, 5 a
    latent value too far from its bounds, 6 the scale of a latent variable.
    """
    latent = (level.columns.kind != 0).any()
    latent_clusters = (clusters.columns.kind != 0).any()
    no_effects = np.empty((state.V.shape[0], 0, state.V.shape[1]))
    for t in range(iterations):
        W, ok = _weights(state.residuals, group, level)
        if not ok:
            return 1
        K, ok = pattern_weights(state.Psi, clusters.patterns)
        if not ok:
            return 4
        if latent:
            rate = -1.0 if given else priors.rate
            if not draw_values(rng, level, W, rate, state.beta, state.B, state.cutpoints, state.Y):
                return 5
            renew_moments(level.rows, level.columns, state.Y, m)
        if latent_clusters:
            rate = -1.0 if given else priors.rate
            effects_to_values(state.B, state.V)
            if not draw_values(
                rng, clusters, K, rate, state.gamma, no_effects, state.cluster_cutpoints, state.V
            ):
                return 5
        code: Integer = draw_coefficients_and_effects(rng, W, K, m, clusters.rows, priors, state, given)
        if code:
            return 1 + code
        if not given:
            code = _rescale(rng, priors, W, m, state)
            if code:
                return code
            K, ok = pattern_weights(state.Psi, clusters.patterns)
            if not ok:
                return 4
        effects_to_values(state.B, state.V)
        if (t + 1) % thin == 0:
            d = (t + 1) // thin - 1
            _keep(state, kept, d)
            if not _fill_cells(rng, level, group, clusters, W, K, state, kept, d, stride):
                return 1
        RR = np.zeros(W.shape)
        residual_products(m, state.beta, state.B, RR)
        code = _draw_scales_and_covariances(
            rng, m, level, group, clusters, priors, W, K, RR, latent, latent_clusters, state, given
        )
        if code:
            return code
    return 0

"""Gibbs sampler of the joint normal model on latent normals (docs/mathematics.md, sec. 14).

Given the latent values y* of observed levels the model is the joint normal one with missing cells. One iteration:

    1. c | beta, B, Sigma;  y* | c, beta, B, Sigma     kernels/latent/values.py, and their moments
    2. beta, B | y*, Sigma, Psi                        kernels/normal/effects.py, missing values integrated out
       B and Psi rescaled together                     kernels/normal/rescale.py
       y*_k, beta_k, B_k, c_k rescaled together        kernels/latent/scales.py
    3. E'E of the completed rows | y*, beta, B, Sigma  kernels/normal/complete.py
       Sigma | E'E                                     kernels/latent/residual.py; without latent variables as in
                                                       kernels/normal/gibbs.py
       Psi | B                                         kernels/covariance/update.py

The state that is kept, and the missing cells, are those after beta and B are drawn, before anything is rescaled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.update import FIXED, invert, update_covariance
from bayesimp.kernels.latent.missing import draw_missing_cells
from bayesimp.kernels.latent.moments import renew_moments
from bayesimp.kernels.latent.residual import KNOWN, draw_residual_covariance
from bayesimp.kernels.latent.scales import move_scales
from bayesimp.kernels.latent.values import draw_latent_values, predictors
from bayesimp.kernels.linalg import copy_to
from bayesimp.kernels.normal.complete import complete
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.kernels.normal.rescale import draw_and_rescale_effects
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.latent.records import LatentColumns, LatentRows, MissingCells
    from bayesimp.kernels.latent.residual import ResidualPrior
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["latent_gibbs"]


@inner
def _draw_Psi(
    rng: np.random.Generator, prior: CovarianceUpdate, B: Stack, Psi_inverse: Matrix, Psi: Matrix
) -> bool:
    """Psi, in place, given B (m, q, r)."""
    clusters, q, r = B.shape
    T = np.zeros((r * q, r * q))
    for i in range(clusters):
        for k in range(r):
            for l in range(q):
                for j in range(r):
                    for h in range(q):
                        T[k * q + l, j * q + h] += B[i, l, k] * B[i, h, j]
    return update_covariance(rng, prior, T, np.int64(clusters), Psi_inverse, Psi)


@inner
def _draw_Sigma(rng: np.random.Generator, m: Moments, free: CovarianceUpdate, restricted: ResidualPrior, W: Stack,
                RR: Stack, n: Integer, Sigma: Matrix) -> bool:  # fmt: skip
    """Sigma, in place, given cross products RR (A, r, r) of observed residuals.

    free: the update where no entry is fixed; of kind FIXED, `restricted` is used.
    """
    r = Sigma.shape[0]
    S = np.zeros((r, r))
    for a in range(RR.shape[0]):
        if m.pattern_rows[a] > 0 and not complete(
            rng, m.pattern_rows[a], m.patterns[a], W[a], Sigma, RR[a], S
        ):
            return False
    if free.kind == FIXED:
        return draw_residual_covariance(rng, restricted, S, n, Sigma)
    inverse = np.empty((r, r))
    return invert(Sigma, inverse) and update_covariance(rng, free, S, n, inverse, Sigma)


@kernel(nogil=True)
def latent_gibbs(rng: np.random.Generator, iterations: int, thin: int, stride: int, m: Moments, rows: LatentRows,
                 columns: LatentColumns, cells: MissingCells, free_Sigma: CovarianceUpdate,
                 restricted_Sigma: ResidualPrior, prior_Psi: CovarianceUpdate, Q0: Matrix, t0: Vector, rate: float,
                 Y: Matrix, cutpoints: Vector, beta: Matrix, B: Stack, Sigma: Matrix, Psi: Matrix, beta_draws: Stack,
                 Sigma_draws: Stack, Psi_draws: Stack, cutpoint_draws: Matrix, mean_draws: Stack, sd_draws: Stack,
                 cell_draws: Matrix) -> int:  # fmt: skip
    """Run the chain from (Y, cutpoints, beta, B, Sigma, Psi), which are updated in place, as the moments m are.

    Parameters
    ----------
    thin, stride
        Every `thin`-th state is kept, and of every `stride`-th of these the imputed cells.
    free_Sigma, restricted_Sigma
        Prior of Sigma without and with fixed entries; the one that is not meant is of kind FIXED or KNOWN.
    Q0, t0
        (r p, r p), (r p,): precision, and precision times mean, of the normal prior of vec(beta); zero if flat.
    rate
        Of the exponential prior of the increments between cutpoints.
    Y
        (N, r) observed numbers and latent values of observed levels; zeros elsewhere.
    beta_draws (D, p, r), Sigma_draws (D, r, r), Psi_draws (D, rq, rq), cutpoint_draws (D, c), mean_draws (D, m, V),
    sd_draws (D, m, V), cell_draws (D // stride, cells)
        Arrays for what is kept; D = iterations // thin.

    Returns
    -------
    0, or what failed: 1 Sigma, 2 a cluster's precision, 3 beta not identified, 4 Psi not positive definite, 5 a latent
    value too far from its bounds.
    """
    r = Sigma.shape[0]
    latent = (columns.kind != 0).any()
    mu, imputed = np.empty(Y.shape), np.empty(cell_draws.shape[1])
    RR = np.zeros((m.patterns.shape[0], r, r))
    Psi_inverse = np.empty(Psi.shape)
    none = np.empty(0, np.int64)
    n = np.int64(0)
    for a in range(m.pattern_rows.size):
        n += m.pattern_rows[a]
    for t in range(iterations):
        W, ok = pattern_weights(Sigma, m.patterns)
        if not ok:
            return 1
        if latent:
            predictors(rows, beta, B, mu)
            if not draw_latent_values(rng, rows, columns, W, mu, rate, cutpoints, Y):
                return 5
            renew_moments(rows, columns, Y, m)
        code = draw_and_rescale_effects(rng, W, prior_Psi, m, Q0, t0, Psi, Psi_inverse, beta, B, none)
        if code:
            return code
        if (t + 1) % thin == 0:
            d = (t + 1) // thin - 1
            copy_to(beta_draws[d], beta)
            copy_to(Sigma_draws[d], Sigma)
            copy_to(Psi_draws[d], Psi)
            for h in range(cutpoints.size):
                cutpoint_draws[d, h] = cutpoints[h]
            if not draw_missing_cells(rng, rows, columns, cells, m.patterns, W, Sigma, beta, B, cutpoints, Y, imputed,
                                      mean_draws[d], sd_draws[d]):  # fmt: skip
                return 1
            if (d + 1) % stride == 0:
                for h in range(imputed.size):
                    cell_draws[(d + 1) // stride - 1, h] = imputed[h]
        residual_products(m, beta, B, RR)
        if latent:
            move_scales(rng, rows, columns, m, W, RR, Q0, t0, Psi_inverse, rate, beta, B, cutpoints, Y)
        if not (free_Sigma.kind == FIXED and restricted_Sigma.kind == KNOWN) and not _draw_Sigma(
            rng, m, free_Sigma, restricted_Sigma, W, RR, n, Sigma
        ):
            return 1
        if prior_Psi.kind != FIXED and not _draw_Psi(rng, prior_Psi, B, Psi_inverse, Psi):
            return 4
    return 0

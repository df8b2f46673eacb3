"""Gibbs sampler of the joint multilevel normal model on sufficient statistics (docs/mathematics.md, sec. 1).

One iteration, two blocks:

    1. beta, B | Sigma, Psi, Y_obs             kernels/normal/effects.py, missing values integrated out
       B and Psi rescaled together             kernels/normal/rescale.py, with half-t standard deviations
    2. E'E of the completed rows | beta, B, Sigma, Y_obs      (missing values, as a cross product)
       Sigma | E'E  ~ IW(nu_1 + N, V_1^-1 + E'E)
       Psi | B      ~ IW(nu_2 + m, V_2^-1 + sum_i b_i b_i')

Step 2 needs the missing values only through E'E, which is drawn from the cross products of the observed residuals
(kernels/normal/complete.py): the cost of an iteration does not depend on the number of rows.

Other covariance priors are in kernels/covariance/update.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import kernel
from bayesimp.kernels.covariance.update import (
    FIXED,
    invert,
    update_covariance,
)
from bayesimp.kernels.linalg import add_square, copy_to, fill
from bayesimp.kernels.normal.complete import complete
from bayesimp.kernels.normal.effects import pattern_weights
from bayesimp.kernels.normal.imputed import draw_imputed_statistics
from bayesimp.kernels.normal.rescale import draw_and_rescale_effects
from bayesimp.kernels.normal.residuals import residual_products
from bayesimp.notation import Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.normal.effects import Moments
    from bayesimp.kernels.normal.imputed import IncompleteCells

__all__ = ["gibbs"]


@kernel(nogil=True)
def gibbs(rng: np.random.Generator, iterations: int, thin: int, m: Moments, prior_Sigma: CovarianceUpdate,
          prior_Psi: CovarianceUpdate, Q0: Matrix, t0: Vector, incomplete: IncompleteCells, offset: Matrix,
          Sigma: Matrix, Psi: Matrix, beta_draws: Stack, Sigma_draws: Stack, Psi_draws: Stack, mean_draws: Stack,
          sd_draws: Stack) -> int:  # fmt: skip
    """Run the chain from (Sigma, Psi), updated in place; keep every `thin`-th state.

    Parameters
    ----------
    m
        Moments (kernels/normal/effects.py).
    Q0, t0
        (r p, r p), (r p,): precision, and precision times mean, of the normal prior of vec(beta); zero if flat.
    incomplete, offset
        Incomplete cells; the part of the mean that was subtracted beforehand (kernels/normal/imputed.py).
    beta_draws (D, p, r), Sigma_draws (D, r, r), Psi_draws (D, rq, rq)
        Arrays for the kept states; D = iterations // thin.
    mean_draws, sd_draws
        (D, m, r): drawn mean and sd of missing values by cluster and response, nan where none are missing.

    Returns
    -------
    0, or what failed: 1 Sigma, 2 a cluster's precision, 3 beta not identified, 4 Psi not positive definite.
    """
    p, r = beta_draws.shape[1], Sigma.shape[0]
    q = Psi.shape[0] // r
    clusters = m.first.size - 1
    beta = np.zeros((p, r))
    B = np.zeros((clusters, q, r))
    RR = np.empty((m.patterns.shape[0], r, r))
    none = np.empty(0, np.int64)  # X is complete and has been checked
    Sigma_inverse = np.empty((r, r))
    Psi_inverse = np.empty((r * q, r * q))
    S = np.empty((r, r))
    T = np.empty((r * q, r * q))
    N = np.int64(0)  # a literal 0 has its own type, so that functions called with it would be compiled twice
    for a in range(m.pattern_rows.size):
        N += m.pattern_rows[a]
    for t in range(iterations):
        W, ok = pattern_weights(Sigma, m.patterns)
        if not (ok and invert(Sigma, Sigma_inverse)):
            return 1
        code = draw_and_rescale_effects(rng, W, prior_Psi, m, Q0, t0, Psi, Psi_inverse, beta, B, none)
        if code:
            return code
        if (t + 1) % thin == 0:
            # the state that is kept has the (Sigma, Psi) with which this (beta, B) was drawn
            k = (t + 1) // thin - 1
            copy_to(beta_draws[k], beta)
            copy_to(Sigma_draws[k], Sigma)
            copy_to(Psi_draws[k], Psi)
            draw_imputed_statistics(rng, incomplete, offset, W, Sigma, beta, B, mean_draws[k], sd_draws[k])
        if prior_Sigma.kind != FIXED:
            residual_products(m, beta, B, RR)
            fill(S, 0.0)
            for a in range(RR.shape[0]):
                if m.pattern_rows[a] > 0 and not complete(
                    rng, m.pattern_rows[a], m.patterns[a], W[a], Sigma, RR[a], S
                ):
                    return 1
            if not update_covariance(rng, prior_Sigma, S, N, Sigma_inverse, Sigma):
                return 1
        if prior_Psi.kind != FIXED:
            fill(T, 0.0)
            for i in range(clusters):
                add_square(B, i, T)
            if not update_covariance(rng, prior_Psi, T, clusters, Psi_inverse, Psi):
                return 4
    return 0

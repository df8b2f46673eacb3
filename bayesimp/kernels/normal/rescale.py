"""A move that frees the Gibbs sampler from variances near zero.

Given B, Psi cannot grow much, nor can B given Psi: near zero the two-block sampler moves slowly. So effect e is
also rescaled together with its row and column of Psi (Liu & Sabatti 2000, generalised Gibbs; equivalent to
interweaving with the non-centred form, Yu & Meng 2011):

    b_ie -> alpha b_ie,     Psi -> A Psi A,  A = diag(1, .., alpha, .., 1)

The density of B given Psi changes only by a Jacobian, so alpha has density

    p(alpha) ~ L(alpha) pi(A Psi A) |alpha|^d,      L(alpha) ~ exp( lambda_e alpha - Lambda_ee alpha^2 / 2 - .. )

where, with missing values integrated out and H_i = vec(sum_a (Z'Y - Z'X beta)_ia W_a),

    lambda = sum_i b_i * H_i (elementwise),     Lambda = sum_i diag(b_i) P_i diag(b_i)

L is normal in alpha: alpha is proposed from it and accepted with probability

    pi(A Psi A) |alpha|^d / pi(Psi) = |alpha|^-(nu+d) [ (nu R / alpha^2 + s^-2) / (nu R + s^-2) ]^-(nu+d)/2

for a Huang-Wand prior, R = (Psi^-1)_ee and s its scale; d = 1 for independent half-t standard deviations, where
this is the ratio of the half-t densities. Inverse-Wishart priors keep Psi away from zero and do not need it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.covariance.update import DIAGONAL_HALF_T, HUANG_WAND, invert
from bayesimp.kernels.linalg import fill
from bayesimp.kernels.normal.effects import draw_beta_and_effects
from bayesimp.notation import Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["draw_and_rescale_effects", "propose_scales", "rescale_effects"]


@inner
def _likelihood_of_scales(W: Stack, m: Moments, beta: Matrix, B: Stack, Lambda: Matrix, lam: Vector) -> None:
    """Lambda (n, n), lam (n,) of the module's equations <- their values at the current B."""
    clusters, q, r = B.shape
    p = beta.shape[0]
    fill(Lambda, 0.0)
    for e in range(lam.size):
        lam[e] = 0.0
    T = np.empty((q, r))
    for i in range(clusters):
        for c in range(m.first[i], m.first[i + 1]):
            a = m.cell_pattern[c]
            for l in range(q):
                for j in range(r):
                    s = m.ZY[c, l, j]
                    for x in range(p):
                        s -= m.ZX[c, l, x] * beta[x, j]
                    T[l, j] = s
            for k in range(r):
                for j in range(r):
                    w = W[a, k, j]
                    for l in range(q):
                        wb = w * B[i, l, k]
                        lam[k * q + l] += wb * T[l, j]
                        for h in range(q):
                            Lambda[k * q + l, j * q + h] += wb * m.ZZ[c, l, h] * B[i, h, j]


@inner
def propose_scales(
    rng: np.random.Generator,
    nu: float,
    sd: Vector,
    d: Integer,
    Lambda: Matrix,
    lam: Vector,
    Psi: Matrix,
    Psi_inverse: Matrix,
    alphas: Vector,
) -> int:
    """One proposal for every effect; alphas (n,) <- the factor of each. Returns the number of accepted proposals.

    Lambda (n, n), lam (n,), Psi and Psi_inverse change in place; the last two and nu, sd, d as in `rescale_effects`.
    """
    n = alphas.size
    accepted = 0
    for e in range(n):
        alphas[e] = 1.0
        if not Lambda[e, e] > 0.0:
            continue
        mean = lam[e] + Lambda[e, e]
        for f in range(n):
            mean -= Lambda[e, f]
        alpha = mean / Lambda[e, e] + rng.standard_normal() / math.sqrt(Lambda[e, e])
        square = alpha * alpha
        if not (square > 0.0 and square < math.inf):
            continue
        before = nu * Psi_inverse[e, e] + sd[e] ** -2.0
        after = nu * Psi_inverse[e, e] / square + sd[e] ** -2.0
        log_ratio = -0.5 * (nu + d) * (math.log(square) + math.log(after / before))
        if math.log(rng.random()) >= log_ratio:
            continue
        accepted += 1
        alphas[e] = alpha
        lam[e] *= alpha
        for f in range(n):
            Lambda[e, f] *= alpha
            Lambda[f, e] *= alpha
        for f in range(Psi.shape[0]):
            Psi[e, f] *= alpha
            Psi_inverse[e, f] /= alpha
        for f in range(Psi.shape[0]):
            Psi[f, e] *= alpha
            Psi_inverse[f, e] /= alpha
    return accepted


@inner
def rescale_effects(
    rng: np.random.Generator,
    nu: float,
    sd: Vector,
    d: Integer,
    W: Stack,
    m: Moments,
    beta: Matrix,
    B: Stack,
    Psi: Matrix,
    Psi_inverse: Matrix,
) -> int:
    """One proposal for every effect; B, Psi and Psi_inverse change in place. Returns the number accepted.

    nu, sd (n,): degrees of freedom and scales of the half-t standard deviations; d: n for Huang-Wand, 1 for
    independent standard deviations. Psi may be larger than the effects: its first n rows are theirs, the others belong
    to cluster-level variables, which keep their values (kernels/latent/effects.py); then d counts all rows.
    """
    clusters, q, r = B.shape
    n = r * q
    Lambda = np.empty((n, n))
    lam = np.empty(n)
    alphas = np.empty(n)
    _likelihood_of_scales(W, m, beta, B, Lambda, lam)
    accepted = propose_scales(rng, nu, sd, d, Lambda, lam, Psi, Psi_inverse, alphas)
    for e in range(n):
        if alphas[e] != 1.0:
            for i in range(clusters):
                B[i, e % q, e // q] *= alphas[e]
    return accepted


@inner
def draw_and_rescale_effects(
    rng: np.random.Generator,
    W: Stack,
    prior_Psi: CovarianceUpdate,
    m: Moments,
    Q0: Matrix,
    t0: Vector,
    Psi: Matrix,
    Psi_inverse: Matrix,
    beta: Matrix,
    B: Stack,
    held: IntVector,
) -> int:
    """Draw beta, B given Sigma (through its weights W) and Psi, then make the module's move if Psi's prior has one.

    In place: beta (p, r), B (m, q, r), Psi and Psi_inverse (rq, rq).

    Returns
    -------
    0, or what failed: 4 Psi not positive definite, else 1 + the code of `draw_beta_and_effects`.
    """
    if not invert(Psi, Psi_inverse):
        return 4
    failed = draw_beta_and_effects(rng, W, Psi_inverse, m, Q0, t0, beta, B, held)
    if failed:
        return 1 + failed
    if prior_Psi.kind == HUANG_WAND or prior_Psi.kind == DIAGONAL_HALF_T:
        d = Psi.shape[0] if prior_Psi.kind == HUANG_WAND else np.int64(1)
        rescale_effects(rng, prior_Psi.nu, prior_Psi.sd, d, W, m, beta, B, Psi, Psi_inverse)
    return 0

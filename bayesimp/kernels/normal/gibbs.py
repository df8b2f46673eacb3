"""Gibbs sampler of the joint multilevel normal model on sufficient statistics (docs/mathematics.md, sec. 1).

One iteration, two blocks:

    1. beta, B | Sigma, Psi, Y_obs             kernels/normal/effects.py, missing values integrated out
       B and Psi rescaled together             kernels/normal/rescale.py, for half-t standard deviations
    2. E'E of the completed rows | beta, B, Sigma, Y_obs      (missing values, as a cross product)
       Sigma | E'E  ~ IW(nu_1 + N, V_1^-1 + E'E)
       Psi | B      ~ IW(nu_2 + m, V_2^-1 + sum_i b_i b_i')

Step 2 needs the missing values only through E'E, which is drawn from the cross products of the observed residuals
(kernels/normal/complete.py): one iteration costs the same whatever the number of rows.

Covariance priors (kind): 0 inverse-Wishart, 1 Huang-Wand, 2 diagonal with half-t sds, 3 diagonal
inverse-gamma, 4 fixed. Huang-Wand: S | a ~ IW(nu + d - 1, 2 nu diag(1/a)), a_k ~ IG(1/2, 1/s_k^2), so
a_k | S ~ IG((nu + d)/2, nu (S^-1)_kk + 1/s_k^2)  (Huang & Wand 2013, sec. 4.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import draw_inverse_wishart
from bayesimp.kernels.linalg import cholesky, copy_to, fill, inverse_from_cholesky
from bayesimp.kernels.normal.complete import complete
from bayesimp.kernels.normal.effects import draw_beta_and_effects, pattern_weights
from bayesimp.kernels.normal.imputed import draw_imputed_statistics
from bayesimp.kernels.normal.rescale import rescale_effects

__all__ = ["INVERSE_WISHART", "HUANG_WAND", "DIAGONAL_HALF_T", "DIAGONAL_INVERSE_GAMMA", "FIXED",
           "CovarianceUpdate", "gibbs"]  # fmt: skip

INVERSE_WISHART, HUANG_WAND, DIAGONAL_HALF_T, DIAGONAL_INVERSE_GAMMA, FIXED = range(5)


class CovarianceUpdate(NamedTuple):
    """Prior of a covariance matrix as the kernel reads it.

    kind: see the module; nu: degrees of freedom; scale (d, d): scipy's inverse-Wishart scale, V^-1 (its
    diagonal for kind 3); sd (d,): half-t scales (kinds 1, 2).
    """

    kind: int
    nu: float
    scale: np.ndarray
    sd: np.ndarray


@inner
def _residual_products(m, beta, B, RR):
    """RR (A, r, r) <- (Y - X beta - Z B)'(Y - X beta - Z B) by pattern; only observed rows and columns mean anything.

    R'R = Y'Y - beta'X'Y - Y'X beta + beta'X'X beta - sum_i [B_i'T_i + T_i'B_i - B_i'Z'Z B_i],
    T_i = Z'Y - Z'X beta.
    """
    A, p, r = m.XY.shape
    q = B.shape[1]
    for a in range(A):
        if m.pattern_rows[a] == 0:
            continue
        copy_to(RR[a], m.YY[a])
        for x in range(p):
            for j in range(r):
                s = -m.XY[a, x, j]
                for h in range(p):
                    s += m.XX[a, x, h] * beta[h, j]
                for k in range(r):
                    RR[a, k, j] += beta[x, k] * s - m.XY[a, x, k] * beta[x, j]
    T = np.empty((q, r))
    for i in range(B.shape[0]):
        for c in range(m.first[i], m.first[i + 1]):
            R = RR[m.cell_pattern[c]]
            for l in range(q):
                for k in range(r):
                    s = m.ZY[c, l, k]
                    for x in range(p):
                        s -= m.ZX[c, l, x] * beta[x, k]
                    # half of the quadratic term goes with each of the two cross terms
                    for h in range(q):
                        s -= 0.5 * m.ZZ[c, l, h] * B[i, h, k]
                    T[l, k] = s
            for k in range(r):
                for j in range(r):
                    s = 0.0
                    for l in range(q):
                        s += B[i, l, k] * T[l, j] + T[l, k] * B[i, l, j]
                    R[k, j] -= s


@inner
def _draw_covariance(rng, prior, S, n, inverse, out):
    """out ~ p(covariance | n vectors with cross product S); out holds the current value, inverse its inverse."""
    d = S.shape[0]
    if prior.kind == FIXED:
        return True
    if prior.kind == INVERSE_WISHART:
        T = np.empty((d, d))
        for k in range(d):
            for j in range(d):
                T[k, j] = prior.scale[k, j] + S[k, j]
        return draw_inverse_wishart(rng, prior.nu + n, T, out, d)
    if prior.kind == HUANG_WAND:
        T = np.empty((d, d))
        copy_to(T, S)
        for k in range(d):
            rate = prior.nu * inverse[k, k] + 1.0 / prior.sd[k] ** 2
            one_over_a = rng.standard_gamma(0.5 * (prior.nu + d)) / rate
            T[k, k] += 2.0 * prior.nu * one_over_a
        return draw_inverse_wishart(rng, prior.nu + d - 1.0 + n, T, out, d)
    for k in range(d):
        scale = S[k, k]
        if prior.kind == DIAGONAL_HALF_T:
            rate = prior.nu * inverse[k, k] + 1.0 / prior.sd[k] ** 2
            scale += 2.0 * prior.nu * rng.standard_gamma(0.5 * (prior.nu + 1.0)) / rate
        else:
            scale += prior.scale[k, k]
        out[k, k] = 0.5 * scale / rng.standard_gamma(0.5 * (prior.nu + n))
    return True


@inner
def _invert(S, out):
    L = np.empty(S.shape)
    copy_to(L, S)
    if not cholesky(L, S.shape[0]):
        return False
    inverse_from_cholesky(L, out, S.shape[0])
    return True


@kernel(nogil=True)
def gibbs(rng, iterations, thin, m, prior_Sigma, prior_Psi, Q0, t0, incomplete, offset, Sigma, Psi,
          beta_draws, Sigma_draws, Psi_draws, mean_draws, sd_draws):  # fmt: skip
    """Run the chain from (Sigma, Psi), which are updated in place; keep every `thin`-th state.

    Parameters
    ----------
    m
        Moments (kernels/normal/effects.py).
    Q0, t0
        (r p, r p), (r p,): precision, and precision times mean, of the normal prior of vec(beta); zero if flat.
    incomplete, offset
        Incomplete cells and the part of the mean taken off beforehand (kernels/normal/imputed.py).
    beta_draws (D, p, r), Sigma_draws (D, r, r), Psi_draws (D, rq, rq)
        Where kept states go; D = iterations // thin.
    mean_draws, sd_draws
        (D, m, r): drawn mean and sd of the missing values by cluster and response, nan where none is missing.

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
    none = np.empty(0, np.int64)  # X is complete, and has been checked
    Sigma_inverse = np.empty((r, r))
    Psi_inverse = np.empty((r * q, r * q))
    S = np.empty((r, r))
    T = np.empty((r * q, r * q))
    N = np.int64(0)  # a literal 0 would be a type of its own, and compile what it is handed to twice
    for a in range(m.pattern_rows.size):
        N += m.pattern_rows[a]
    for t in range(iterations):
        W, ok = pattern_weights(Sigma, m.patterns)
        if not (ok and _invert(Sigma, Sigma_inverse)):
            return 1
        if not _invert(Psi, Psi_inverse):
            return 4
        failed = draw_beta_and_effects(rng, W, Psi_inverse, m, Q0, t0, beta, B, none)
        if failed:
            return 1 + failed
        if prior_Psi.kind == HUANG_WAND or prior_Psi.kind == DIAGONAL_HALF_T:
            d = r * q if prior_Psi.kind == HUANG_WAND else np.int64(1)
            rescale_effects(rng, prior_Psi.nu, prior_Psi.sd, d, W, m, beta, B, Psi, Psi_inverse)
        if (t + 1) % thin == 0:
            # state kept: the (Sigma, Psi) that this (beta, B) was drawn with
            k = (t + 1) // thin - 1
            copy_to(beta_draws[k], beta)
            copy_to(Sigma_draws[k], Sigma)
            copy_to(Psi_draws[k], Psi)
            draw_imputed_statistics(rng, incomplete, offset, W, Sigma, beta, B, mean_draws[k], sd_draws[k])
        if prior_Sigma.kind != FIXED:
            _residual_products(m, beta, B, RR)
            fill(S, 0.0)
            for a in range(RR.shape[0]):
                if m.pattern_rows[a] > 0 and not complete(
                    rng, m.pattern_rows[a], m.patterns[a], W[a], Sigma, RR[a], S
                ):
                    return 1
            if not _draw_covariance(rng, prior_Sigma, S, N, Sigma_inverse, Sigma):
                return 1
        if prior_Psi.kind != FIXED:
            fill(T, 0.0)
            for i in range(clusters):
                for k in range(r):
                    for l in range(q):
                        for j in range(r):
                            for h in range(q):
                                T[k * q + l, j * q + h] += B[i, l, k] * B[i, h, j]
            if not _draw_covariance(rng, prior_Psi, T, clusters, Psi_inverse, Psi):
                return 4
    return 0

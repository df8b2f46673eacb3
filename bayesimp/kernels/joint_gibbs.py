"""Gibbs sampler of the joint multilevel normal model on sufficient statistics (models.md, section 1).

One iteration, two blocks:

    1. beta, B | Sigma, Psi, Y_obs             kernels/effects.py, missing values integrated out
       B and Psi rescaled together             kernels/rescale.py, for half-t standard deviations
    2. E'E of the completed rows | beta, B, Sigma, Y_obs      (missing values, as a cross product)
       Sigma | E'E  ~ IW(nu_1 + N, V_1^-1 + E'E)
       Psi | B      ~ IW(nu_2 + m, V_2^-1 + sum_i b_i b_i')

Step 2 needs the missing values only through E'E. In pattern a, with observed residuals E_O (n_a rows),
K = Sigma_OO^-1 Sigma_OM and S = Sigma_MM - Sigma_MO K, the missing residuals are E_M = E_O K + F, rows of
F ~ N(0, S) = rows of N(0, I) times A', A A' = S. With E_O'E_O = L L', L of rho = min(n_a, |O_a|) columns,

    E_O'F = L U A',            U (rho x |M|) standard normal
    F'F   = A (U'U + W) A',    W ~ Wishart(n_a - rho, I)

so one iteration costs the same whatever the number of rows.

Covariance priors (kind): 0 inverse-Wishart, 1 Huang-Wand, 2 diagonal with half-t sds, 3 diagonal
inverse-gamma, 4 fixed. Huang-Wand: S | a ~ IW(nu + d - 1, 2 nu diag(1/a)), a_k ~ IG(1/2, 1/s_k^2), so
a_k | S ~ IG((nu + d)/2, nu (S^-1)_kk + 1/s_k^2)  (Huang & Wand 2013, sec. 4.1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import draw_inverse_wishart, draw_wishart_identity
from bayesimp.kernels.effects import draw_beta_and_effects, pattern_weights
from bayesimp.kernels.imputed import draw_imputed_statistics
from bayesimp.kernels.linalg import cholesky, copy_to, fill, inverse_from_cholesky, semidefinite_cholesky
from bayesimp.kernels.rescale import rescale_effects

__all__ = ["INVERSE_WISHART", "HUANG_WAND", "DIAGONAL_HALF_T", "DIAGONAL_INVERSE_GAMMA", "FIXED",
           "CovarianceUpdate", "gibbs"]  # fmt: skip

INVERSE_WISHART, HUANG_WAND, DIAGONAL_HALF_T, DIAGONAL_INVERSE_GAMMA, FIXED = range(5)

# a pivot of E_O'E_O below this share of its diagonal is round-off: the rows of the pattern are fewer than |O|
ROUND_OFF = 1e-10


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
def _complete(rng, rows, observed, Wa, Sigma, R, S):
    """S <- S + E'E of the completed rows of one pattern, R = their observed cross product."""
    r = Sigma.shape[0]
    O = np.empty(r, np.int64)
    M = np.empty(r, np.int64)
    o = 0
    for k in range(r):
        if observed[k]:
            O[o] = k
            o += 1
        else:
            M[k - o] = k
    u = r - o
    for i in range(o):
        for j in range(o):
            S[O[i], O[j]] += R[O[i], O[j]]
    if u == 0:
        return True
    K = np.zeros((o, u))
    for i in range(o):
        for j in range(u):
            for k in range(o):
                K[i, j] += Wa[O[i], O[k]] * Sigma[O[k], M[j]]
    A = np.empty((u, u))
    for i in range(u):
        for j in range(u):
            s = Sigma[M[i], M[j]]
            for k in range(o):
                s -= Sigma[M[i], O[k]] * K[k, j]
            A[i, j] = s
    if not cholesky(A, u):
        return False
    L = np.empty((r, r))
    for i in range(o):
        for j in range(o):
            L[i, j] = R[O[i], O[j]]
    limit = min(rows, o)
    semidefinite_cholesky(L, o, ROUND_OFF, limit)
    # as many rows of normals as the rank can be, so that round-off in the rank does not shift the generator:
    # those that fall on no pivot are rows of F like any other
    V = np.empty((limit, u))
    for k in range(limit):
        for j in range(u):
            V[k, j] = rng.standard_normal()
    U = np.zeros((o, u))  # rows of dropped pivots stay zero
    k = 0
    for i in range(o):
        if L[i, i] > 0.0:
            for j in range(u):
                U[i, j] = V[k, j]
            k += 1
    G = np.zeros((u, u))  # V'V + W
    for k in range(limit):
        for i in range(u):
            for j in range(u):
                G[i, j] += V[k, i] * V[k, j]
    draw_wishart_identity(rng, rows - limit, G, u)
    # X_OM = E_O'E_M = R K + L U A'
    UA = np.zeros((o, u))
    for i in range(o):
        for j in range(u):
            for k in range(j + 1):
                UA[i, j] += U[i, k] * A[j, k]
    LUA = np.zeros((o, u))
    RK = np.zeros((o, u))
    for i in range(o):
        for j in range(u):
            for k in range(i + 1):
                LUA[i, j] += L[i, k] * UA[k, j]
            for k in range(o):
                RK[i, j] += R[O[i], O[k]] * K[k, j]
            S[O[i], M[j]] += RK[i, j] + LUA[i, j]
            S[M[j], O[i]] += RK[i, j] + LUA[i, j]
    # E_M'E_M = K'R K + K'(E_O'F) + (E_O'F)'K + A G A'
    for i in range(u):
        for j in range(i + 1):
            s = 0.0
            for k in range(o):
                s += K[k, i] * (RK[k, j] + LUA[k, j]) + LUA[k, i] * K[k, j]
            for k in range(i + 1):
                for h in range(j + 1):
                    s += A[i, k] * G[k, h] * A[j, h]
            S[M[i], M[j]] += s
            if i != j:
                S[M[j], M[i]] += s
    return True


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
        Moments (kernels/effects.py).
    Q0, t0
        (r p, r p), (r p,): precision, and precision times mean, of the normal prior of vec(beta); zero if flat.
    incomplete, offset
        Incomplete cells and the part of the mean taken off beforehand (kernels/imputed.py).
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
    Sigma_inverse = np.empty((r, r))
    Psi_inverse = np.empty((r * q, r * q))
    S = np.empty((r, r))
    T = np.empty((r * q, r * q))
    N = 0
    for a in range(m.pattern_rows.size):
        N += m.pattern_rows[a]
    for t in range(iterations):
        W, ok = pattern_weights(Sigma, m.patterns)
        if not (ok and _invert(Sigma, Sigma_inverse)):
            return 1
        if not _invert(Psi, Psi_inverse):
            return 4
        failed = draw_beta_and_effects(rng, W, Psi_inverse, m, Q0, t0, beta, B)
        if failed:
            return 1 + failed
        if prior_Psi.kind == HUANG_WAND:
            rescale_effects(rng, prior_Psi.nu, prior_Psi.sd, r * q, W, m, beta, B, Psi, Psi_inverse)
        elif prior_Psi.kind == DIAGONAL_HALF_T:
            rescale_effects(rng, prior_Psi.nu, prior_Psi.sd, 1, W, m, beta, B, Psi, Psi_inverse)
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
                if m.pattern_rows[a] > 0 and not _complete(
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

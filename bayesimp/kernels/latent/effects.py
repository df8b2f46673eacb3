"""A joint draw of coefficients and cluster effects given the observed cluster-level variables.

Let a_i = (vec(B_i), e_i) ~ N(0, Psi), where e_i = v_i - G_i gamma are the residuals of cluster i's variables and O marks
the observed ones, K = Psi_(b,O),(b,O)^-1, and P_i, g_i, C_i as in kernels/normal/effects.py. With missing values of both
levels integrated out:

    M_i = K_bb + P_i,    g_i <- g_i - K_bO v_iO,    C_i <- [C_i, -K_bO G_iO]
    (vec(beta), vec(gamma)) ~ N(Q^-1 t, Q^-1),    Q = Q_0 + rows + sum_i [G_iO' K_OO G_iO - C_i' M_i^-1 C_i],
                                                  t = t_0 + rows + sum_i [G_iO' K_OO v_iO - C_i' M_i^-1 g_i]
    vec(B_i) | beta, gamma                  ~ N(M_i^-1 (g_i - C_i (beta, gamma)), M_i^-1)

Without cluster-level variables K = Psi^-1, and this reduces to the draw of the joint normal model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.draws import draw_by_precision
from bayesimp.kernels.normal.equations import (
    add_crosses,
    add_fixed,
    add_precision,
    factor_precision,
    given_factors,
    solve_crosses,
    subtract_clusters,
)
from bayesimp.notation import Integer, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.latent.records import LatentRows, LatentState, SamplerPriors
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["draw_coefficients_and_effects", "effects_to_values", "products_of_clusters"]


@inner
def _start_cluster(
    K: Matrix, G: Matrix, V: Matrix, i: Integer, P: Integer, L: Stack, U: Stack, v: Matrix
) -> None:
    """L[i] <- K_bb, v[i] <- -K_bO v_iO, U[i] <- [0, -K_bO G_iO], with its second part starting at column P."""
    n, p = L.shape[1], G.shape[1]
    for e in range(n):
        v[i, e] = 0.0
        for f in range(e + 1):
            L[i, e, f] = K[e, f]
        for x in range(U.shape[2]):
            U[i, e, x] = 0.0
        for k in range(n, K.shape[0]):  # K is zero where nothing is observed
            v[i, e] -= K[e, k] * V[i, k]
            for x in range(p):
                U[i, e, P + (k - n) * p + x] = -K[e, k] * G[i, x]


@inner
def _add_cluster(
    K: Matrix, G: Matrix, V: Matrix, i: Integer, n: Integer, P: Integer, Q: Matrix, t: Vector
) -> None:
    """Q, t <- Q + G_iO' K_OO G_iO, t + G_iO' K_OO v_iO, in rows and columns P, P + 1, .."""
    p = G.shape[1]
    for k in range(n, K.shape[0]):
        for j in range(n, K.shape[0]):
            for x in range(p):
                w = K[k, j] * G[i, x]
                t[P + (k - n) * p + x] += w * V[i, j]
                for h in range(p):
                    Q[P + (k - n) * p + x, P + (j - n) * p + h] += w * G[i, h]


@inner
def _prior(priors: SamplerPriors, n: Integer, p: Integer, P: Integer, Q: Matrix, t: Vector) -> None:
    """Q, t <- priors of beta and gamma, the latter in columns starting at P; n columns of gamma belong to effects."""
    for x in range(t.size):
        for y in range(t.size):
            Q[x, y] = 0.0
    for x in range(P):
        t[x] = priors.t0[x]
        for y in range(P):
            Q[x, y] = priors.Q0[x, y]
    for x in range(t.size - P):
        t[P + x] = priors.t0_clusters[n * p + x]
        for y in range(t.size - P):
            Q[P + x, P + y] = priors.Q0_clusters[n * p + x, n * p + y]


@inner
def draw_coefficients_and_effects(
    rng: np.random.Generator, W: Stack, K: Stack, m: Moments, clusters: LatentRows, priors: SamplerPriors,
    state: LatentState, given: bool,
) -> int:  # fmt: skip
    """Draw beta, gamma and B of the state in place; `given`: only B, given the state's beta and gamma.

    W (A, r, r), K (A_2, w, w): inverse covariances of the observed parts, by pattern of rows and of clusters.
    Returns 0, or 1 if some M_i, 2 if Q is not positive definite (coefficients not identified).
    """
    beta, gamma, B, V, G = state.beta, state.gamma, state.B, state.V, clusters.X
    p, r = beta.shape
    count, q, _ = B.shape
    n, P, p2 = r * q, r * p, gamma.shape[0]
    size = P + (gamma.shape[1] - n) * p2
    L, U, v = np.empty((count, n, n)), np.empty((count, n, size)), np.empty((count, n))
    Q, t = np.empty((size, size)), np.empty(size)
    _prior(priors, n, p2, P, Q, t)
    add_fixed(W, m, Q, t)
    for i in range(count):
        o = clusters.pattern[i]
        _start_cluster(K[o], G, V, i, P, L, U, v)
        add_precision(W, m, i, L, v)
        if not factor_precision(L, v, i):
            return 1
        add_crosses(W, m, i, U)
        solve_crosses(L, i, U)
        _add_cluster(K[o], G, V, i, n, P, Q, t)
    if given:
        for x in range(size):
            at = x - P
            t[x] = beta[x % p, x // p] if at < 0 else gamma[at % p2, n + at // p2]
    else:
        subtract_clusters(U, v, Q, t)
        if not draw_by_precision(rng, Q, t, size):
            return 2
        for x in range(size):
            at = x - P
            if at < 0:
                beta[x % p, x // p] = t[x]
            else:
                gamma[at % p2, n + at // p2] = t[x]
    z = np.empty(count * n)
    for e in range(z.size):
        z[e] = rng.standard_normal()
    given_factors(z, L, U, v, t, B)
    return 0


@inner
def effects_to_values(B: Stack, V: Matrix) -> None:
    """The leading columns of V (m, w) <- vec(B_i), B (m, q, r)."""
    clusters, q, r = B.shape
    for i in range(clusters):
        for k in range(r):
            for l in range(q):
                V[i, k * q + l] = B[i, l, k]


@inner
def products_of_clusters(clusters: LatentRows, gamma: Matrix, V: Matrix, AA: Stack) -> None:
    """AA (A_2, w, w) <- sums of a_i a_i' by pattern; only the observed entries are meaningful."""
    w = V.shape[1]
    a = np.empty(w)
    for o in range(AA.shape[0]):
        for k in range(w):
            for j in range(w):
                AA[o, k, j] = 0.0
    for i in range(V.shape[0]):
        o = clusters.pattern[i]
        for k in range(w):
            a[k] = V[i, k]
            for x in range(gamma.shape[0]):
                a[k] -= clusters.X[i, x] * gamma[x, k]
        for k in range(w):
            for j in range(w):
                AA[o, k, j] += a[k] * a[j]

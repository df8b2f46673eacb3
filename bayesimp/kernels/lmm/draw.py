"""One step of MICE-ML: a draw from the asymptotic distribution of the maximum-likelihood estimator, then cluster effects.

    y_i = X_i beta + Z_i b_i + e_i,   e_i ~ N(0, sigma I),   b_i ~ N(0, Psi),   sigma a variance

Kunkel & Kaizar 2017, sec. 2.3.1, for any q. With V_i = sigma I + Z_i Psi Z_i' and hats for ML estimates,

    1. beta*              ~ N(beta^, (sum_i X_i'V_i^-1 X_i)^-1)
    2. (sigma, vech Psi)* ~ N((sigma, vech Psi)^, I^-1), truncated                  kernels/lmm/variances.py
    3. b_i*               ~ p(b_i | y_i; beta*, sigma*, Psi*), which is N(0, Psi*) where nothing was observed

(The paper prints N(0, Psi*) for every i, because its clusters to impute have no y_i.)

Estimates come from kernels/lmm/estimate.py, with Psi = sigma Lambda Lambda'. They depend only on the data, because the
search starts from a fixed point; starting from the last cycle would not be faster.
Everything is drawn for orthonormal columns and transformed back at the end.

Effects: with Psi* = sigma* Lambda Lambda' (of the draw), L L' = I + Lambda'Z_i'Z_i Lambda, z standard normal,

    b_i = Lambda L^-T (L^-1 Lambda' Z_i'(y_i - X_i beta*) + sqrt(sigma*) z)

which needs no inverse of Psi*, and is a draw from N(0, Psi*) where Z_i has no rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import semidefinite_cholesky, solve_lower, solve_lower_t
from bayesimp.kernels.lmm.estimate import maximise, standardise
from bayesimp.kernels.lmm.variances import (
    EXHAUSTED,
    NO_INFORMATION,
    RARE,
    REDRAWN,
    draw_variances,
    factor_cluster,
    fisher_information,
)
from bayesimp.notation import IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.normal.effects import Moments

__all__ = ["EVENTS", "FAILURES", "draw_effects_given", "ml_step"]

SINGULAR, NOT_CONVERGED = 1, 8

EVENTS = {
    SINGULAR: (
        "singular estimate",
        "the maximum-likelihood estimate of the variance between clusters is zero, or a correlation is +-1; its "
        "draw comes from the normal around that boundary, cut off there",
    ),
    NO_INFORMATION: (
        "estimate used as draw",
        "the Fisher information of the variances is not positive definite; their maximum-likelihood estimate "
        "was used instead of a draw, and imputations lack this part of the uncertainty",
    ),
    REDRAWN: (
        "draw truncated",
        "a draw of the variances was not positive (definite) and was repeated: the normal was truncated",
    ),
    NOT_CONVERGED: (
        "not converged",
        "the search for the maximum-likelihood estimate stopped before a stationary point; its last point was used",
    ),
    RARE: (
        "truncation rarely met",
        "the normal distribution of the variances has little mass on positive values; the draw from these is exact",
    ),
    EXHAUSTED: (
        "estimate used as draw",
        "no draw of the covariance matrix between clusters was positive definite; the maximum-likelihood estimate "
        "was used instead of a draw, and imputations lack this part of the uncertainty",
    ),
}  # bit of `ml_step`'s return code: (kind of event, message)

FAILURES = {
    -1: (
        "failed",
        "its fixed effects are not identified: where it is observed, a column is constant zero or a linear combination "
        "of others, or there are no more rows than columns",
    ),
    -2: (
        "failed",
        "its random effects are not identified: where it is observed, a column of their design is constant zero or a "
        "linear combination of others",
    ),
    -4: (
        "failed",
        "there are no more observed rows than random effects, which reproduce it exactly: its residual variance is not "
        "identified",
    ),
    -3: ("failed", "its fixed effects reproduce it exactly, or it has values that are not finite"),
}  # negative return codes of `ml_step`, in the same form

ROUNDING = 1e-14  # relative pivot of Psi* that counts as zero; occurs only if the estimate itself is used and is singular


@kernel
def draw_effects_given(
    rng: np.random.Generator,
    first: IntVector,
    A: Stack,
    B: Stack,
    c: Matrix,
    beta: Vector,
    Psi: Matrix,
    sigma: float,
    b: Matrix,
) -> None:
    """Draw b (clusters, q) ~ p(b_i | y; beta, sigma, Psi) from cells' A = Z'Z, B = Z'X, c = Z'y; Psi may be singular."""
    clusters, q = b.shape
    Lambda, H, u = np.zeros((q, q)), np.empty((q, q)), np.empty(q)
    for k in range(q):
        for l in range(k + 1):
            Lambda[k, l] = Psi[k, l] / sigma
    semidefinite_cholesky(Lambda, q, ROUNDING, q)
    for i in range(clusters):
        for a in range(q):
            u[a] = 0.0
        observed = first[i] < first[i + 1]
        if observed:
            cell = first[i]
            factor_cluster(A, cell, Lambda, H)
            for k in range(q):
                f = c[cell, k]
                for x in range(beta.shape[0]):
                    f -= B[cell, k, x] * beta[x]
                for a in range(k + 1):
                    u[a] += Lambda[k, a] * f
            solve_lower(H, u, q)
        for a in range(q):
            u[a] += math.sqrt(sigma) * rng.standard_normal()
        if observed:
            solve_lower_t(H, u, q)
        for a in range(q):
            b[i, a] = 0.0
            for k in range(a + 1):
                b[i, a] += Lambda[a, k] * u[k]


@inner
def on_data_scale(
    alpha: Vector,
    G: Matrix,
    T: Matrix,
    scale: float,
    fixed: Vector,
    Psi_unit: Matrix,
    b: Matrix,
    beta: Matrix,
    Psi: Matrix,
    B: Stack,
) -> None:
    """beta (p, 1), Psi (q, q), B (clusters, q, 1) <- their values in the moments' units."""
    p, q = beta.shape[0], Psi.shape[0]
    for x in range(p):
        beta[x, 0] = 0.0
        for h in range(x, p):
            beta[x, 0] += G[h, x] * (alpha[h] + scale * fixed[h])
    for i in range(B.shape[0]):
        for a in range(q):
            B[i, a, 0] = 0.0
            for k in range(a + 1):
                B[i, a, 0] += scale * T[a, k] * b[i, k]
    for a in range(q):
        for e in range(q):
            Psi[a, e] = 0.0
            for k in range(a + 1):
                for l in range(e + 1):
                    Psi[a, e] += scale * scale * T[a, k] * Psi_unit[k, l] * T[e, l]


@kernel(nogil=True)
def ml_step(
    rng: np.random.Generator, m: Moments, theta: Vector, beta: Matrix, Sigma: Matrix, Psi: Matrix, B: Stack
) -> int:
    """Draw a conditional model: beta (p, 1), Sigma (1, 1), Psi (q, q), B (clusters, q, 1) <- the draw described above.

    Parameters
    ----------
    m
        `Moments` of one response and one pattern: rows without the response do not enter, and a cluster has one cell or,
        if the response was never observed, none.
    theta (d,)
        <- the lower triangle, by columns, of the estimated Lambda, Psi = sigma Lambda Lambda', d = q (q + 1) / 2.

    Returns
    -------
    0 or bits of `EVENTS`; negative if nothing was drawn, see `FAILURES`.
    """
    p, q, cells, clusters = m.XX.shape[1], Psi.shape[0], m.ZZ.shape[0], B.shape[0]
    n, d = m.pattern_rows[0], theta.shape[0]
    alpha, G, T = np.empty(p), np.empty((p, p)), np.empty((q, q))
    A, Bx, c = np.zeros((1, cells, q, q)), np.zeros((1, cells, q, p)), np.zeros((1, cells, q))
    failed, scale = standardise(m, alpha, G, T, A, Bx, c)
    if failed < 0:
        return failed
    free = np.empty((d, 2), np.int64)
    k = 0
    for e in range(q):
        for a in range(e, q):
            free[k, 0], free[k, 1] = a, e
            k += 1
    unit, fixed, R, scalars = np.empty((1, d)), np.empty((1, p)), np.empty((1, p, p)), np.empty((1, 2))
    converged, singular = maximise(free, A, Bx, c, n, unit, fixed, R, scalars)
    answer = (0 if converged else NOT_CONVERGED) + (SINGULAR if singular else 0)
    Lambda, sigma = np.zeros((q, q)), scalars[0, 1]
    for k in range(d):
        Lambda[free[k, 0], free[k, 1]] = unit[0, k]

    z = np.empty(p)
    for x in range(p):
        z[x] = math.sqrt(sigma) * rng.standard_normal()
    solve_lower_t(R[0], z, p)
    for x in range(p):
        fixed[0, x] += z[x]
    estimate, drawn = np.empty(1 + d), np.empty(1 + d)
    information = np.empty((1 + d, 1 + d))
    estimate[0] = sigma
    for k in range(d):
        estimate[k + 1] = 0.0
        for l in range(q):
            estimate[k + 1] += sigma * Lambda[free[k, 0], l] * Lambda[free[k, 1], l]
    fisher_information(free, A[0], n, Lambda, sigma, information)
    answer += draw_variances(rng, free, estimate, information, drawn)
    Psi_unit, b = np.empty((q, q)), np.empty((clusters, q))
    for k in range(d):
        Psi_unit[free[k, 0], free[k, 1]] = drawn[k + 1]
        Psi_unit[free[k, 1], free[k, 0]] = drawn[k + 1]
    draw_effects_given(rng, m.first, A[0], Bx[0], c[0], fixed[0], Psi_unit, drawn[0], b)

    Sigma[0, 0] = scale * scale * drawn[0]
    on_data_scale(alpha, G, T, scale, fixed[0], Psi_unit, b, beta, Psi, B)
    for k in range(d):
        a, e = free[k, 0], free[k, 1]
        theta[k] = 0.0
        for l in range(e, a + 1):
            theta[k] += T[a, l] * Lambda[l, e]
        if Lambda[e, e] < 0.0:
            theta[k] = -theta[k]
    return answer

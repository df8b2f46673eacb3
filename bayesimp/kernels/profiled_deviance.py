"""Profiled (RE)ML deviance of a linear mixed model with one grouping factor, and its exact gradient.

    y_i = X_i beta + Z_i b_i + e_i,   e_i ~ N(0, sigma^2 I),   b_i ~ N(0, Psi),   Psi = sigma^2 Lambda Lambda'

With A_i = Z_i'Z_i (q, q), B_i = Z_i'X_i (q, p), c_i = Z_i'y_i (q,) and sums over clusters i,

    L_i L_i'  = I + Lambda' A_i Lambda                                   Bates et al. 2015, eq. 18, block by block
    U_i, v_i  = L_i^-1 Lambda' B_i,  L_i^-1 Lambda' c_i
    R R'      = X'X - sum U_i'U_i                                        ibid. eq. 19
    beta      = (R R')^-1 (X'y - sum U_i'v_i)
    rss       = y'y - sum v_i'v_i - |R'beta|^2                           ibid. eq. 14, at its minimum
    df        = n (ML),  n - p (REML)
    deviance  = sum log|L_i L_i'| + df (1 + log(2 pi rss / df)) [+ log|R R'| under REML]   ibid. eq. 35, 42

    d deviance / d Lambda = 2 sum { A_i Lambda H_i^-1 - (df / rss) f_i u_i' [- F_i (R R')^-1 G_i'] },  H_i = L_i L_i',
        u_i = H_i^-1 Lambda'(c_i - B_i beta),  f_i = c_i - B_i beta - A_i Lambda u_i,
        G_i = H_i^-1 Lambda' B_i,              F_i = B_i - A_i Lambda G_i

The criterion is even in every column of Lambda, so variances of zero need no constraint: BFGS runs free and
signs are put right afterwards. X, Z and y arrive made orthonormal (`orthonormalise`), hence X'X = I and X'y = 0.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

DEPENDENT = 1e-10  # a column whose part outside the others' span is relatively smaller than this is refused
BOUNDARY = 1e-4  # a relative standard deviation below this is zero; lme4's isSingular(tol = 1e-4)
JIT = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**JIT)
def orthonormalise(W, block, T):
    """Rows w_c of W (k, n) := q_c with w_c = sum_{d >= c, same block} T[d, c] q_d; T (k, k) lower triangular.

    Gram-Schmidt from the last row up, every row twice. Returns the first dependent row, or -1.
    """
    k, n = W.shape
    for c in range(k - 1, -1, -1):
        before = 0.0
        for i in range(n):
            before += W[c, i] * W[c, i]
        for _ in range(2):
            for d in range(c + 1, k):
                if block[d] == block[c]:
                    T[d, c] += project_out(W[d], W[c])
        after = 0.0
        for i in range(n):
            after += W[c, i] * W[c, i]
        if not after > DEPENDENT**2 * before:
            return c
        T[c, c] = math.sqrt(after)
        for i in range(n):
            W[c, i] /= T[c, c]
    return -1


@njit(**JIT)
def project_out(unit, w):
    """w := w - (unit'w) unit; returns unit'w."""
    s = 0.0
    for i in range(w.shape[0]):
        s += unit[i] * w[i]
    for i in range(w.shape[0]):
        w[i] -= s * unit[i]
    return s


@njit(**JIT)
def cluster_products(Xt, Zt, y, codes, A, B, c):
    """A_i = Z_i'Z_i, B_i = Z_i'X_i, c_i = Z_i'y_i in one pass over rows in any order; Xt (p, n), Zt (q, n)."""
    A[:], B[:], c[:] = 0.0, 0.0, 0.0
    for j in range(y.shape[0]):
        i = codes[j]
        for a in range(Zt.shape[0]):
            z = Zt[a, j]
            c[i, a] += z * y[j]
            for b in range(Zt.shape[0]):
                A[i, a, b] += z * Zt[b, j]
            for b in range(Xt.shape[0]):
                B[i, a, b] += z * Xt[b, j]


@njit(**JIT)
def cholesky(M):
    """Lower triangle of M := its Cholesky factor; returns log|M|, infinite where M is not positive definite."""
    logdet = 0.0
    for i in range(M.shape[0]):
        for j in range(i + 1):
            s = M[i, j]
            for k in range(j):
                s -= M[i, k] * M[j, k]
            if i > j:
                M[i, j] = s / M[j, j]
            elif s > 0.0:
                M[i, i] = math.sqrt(s)
                logdet += math.log(s)
            else:
                return np.inf
    return logdet


@njit(**JIT)
def forward(L, b):
    """b := L^-1 b."""
    for i in range(b.shape[0]):
        for k in range(i):
            b[i] -= L[i, k] * b[k]
        b[i] /= L[i, i]


@njit(**JIT)
def backward(L, b):
    """b := L'^-1 b."""
    for i in range(b.shape[0] - 1, -1, -1):
        for k in range(i + 1, b.shape[0]):
            b[i] -= L[k, i] * b[k]
        b[i] /= L[i, i]


@njit(**JIT)
def workspace(m, q, p):
    """Arrays a deviance leaves behind: Lambda, L_i, U_i, v_i, R, beta, scalars (rss, sigma^2)."""
    return (
        np.zeros((q, q)), np.empty((m, q, q)), np.empty((m, q, p)), np.empty((m, q)),
        np.empty((p, p)), np.empty(p), np.empty(2),
    )  # fmt: skip


@njit(**JIT)
def deviance(theta, free, A, B, c, n, reml, sigma2, work):
    """The deviance at theta, the entries ``free`` (d, 2) of Lambda; ``sigma2`` = 0 profiles sigma^2 out.

    X'X = I, X'y = 0, y'y = n. Infinite where Lambda is too large to be factored. ``work`` is filled.
    """
    Lambda, L, U, v, R, beta, scalars = work
    m, q, p = U.shape
    for k in range(theta.shape[0]):
        Lambda[free[k, 0], free[k, 1]] = theta[k]
    for a in range(p):
        beta[a] = 0.0
        for b in range(p):
            R[a, b] = 1.0 if a == b else 0.0
    logdet = 0.0
    rss = float(n)
    for i in range(m):
        for a in range(q):
            for b in range(a + 1):
                h = 1.0 if a == b else 0.0
                for k in range(a, q):
                    for l in range(b, q):
                        h += Lambda[k, a] * A[i, k, l] * Lambda[l, b]
                L[i, a, b] = h
        logdet += cholesky(L[i])
        for a in range(q):
            v[i, a] = 0.0
            for k in range(a, q):
                v[i, a] += Lambda[k, a] * c[i, k]
            for b in range(p):
                U[i, a, b] = 0.0
                for k in range(a, q):
                    U[i, a, b] += Lambda[k, a] * B[i, k, b]
        forward(L[i], v[i])
        for b in range(p):
            forward(L[i], U[i, :, b])
        for a in range(q):
            rss -= v[i, a] * v[i, a]
            for b in range(p):
                beta[b] -= U[i, a, b] * v[i, a]
                for e in range(b + 1):
                    R[b, e] -= U[i, a, b] * U[i, a, e]
    logdet_R = cholesky(R)
    if not (logdet < np.inf and logdet_R < np.inf):
        return np.inf
    forward(R, beta)
    for a in range(p):
        rss -= beta[a] * beta[a]
    backward(R, beta)
    df = n - p if reml else n
    if not rss > 0.0:
        return np.inf
    scalars[0] = rss
    scalars[1] = rss / df if sigma2 == 0.0 else sigma2
    fit = df if sigma2 == 0.0 else rss / sigma2
    return logdet + df * math.log(2.0 * math.pi * scalars[1]) + fit + (logdet_R if reml else 0.0)


@njit(**JIT)
def gradient(free, A, B, c, reml, work, g):
    """g := d deviance / d theta at the point where ``work`` was filled (sigma^2 profiled or held, alike)."""
    Lambda, L, U, v, R, beta, scalars = work
    m, q, p = U.shape
    D = np.zeros((q, q))  # half the derivative with respect to Lambda
    S, Hinv = np.empty((q, q)), np.empty((q, q))
    u, f = np.empty(q), np.empty(q)
    F, G = np.empty((q, p)), np.empty((q, p))
    for i in range(m):
        for a in range(q):
            for b in range(q):
                Hinv[b, a] = 1.0 if a == b else 0.0
                S[a, b] = 0.0  # A_i Lambda
                for k in range(b, q):
                    S[a, b] += A[i, a, k] * Lambda[k, b]
            forward(L[i], Hinv[:, a])
            backward(L[i], Hinv[:, a])
        for a in range(q):
            u[a] = v[i, a]
            f[a] = c[i, a]
            for b in range(p):
                u[a] -= U[i, a, b] * beta[b]
                f[a] -= B[i, a, b] * beta[b]
                G[a, b] = U[i, a, b]
        backward(L[i], u)
        for b in range(p):
            backward(L[i], G[:, b])
        for a in range(q):
            for k in range(q):
                f[a] -= S[a, k] * u[k]
            for b in range(p):
                F[a, b] = B[i, a, b]
                for k in range(q):
                    F[a, b] -= S[a, k] * G[k, b]
        if reml:
            for a in range(q):
                forward(R, F[a])
            for a in range(q):
                forward(R, G[a])
        for a in range(q):
            for b in range(a + 1):
                s = -f[a] * u[b] / scalars[1]
                for k in range(q):
                    s += S[a, k] * Hinv[k, b]
                if reml:
                    for k in range(p):
                        s -= F[a, k] * G[b, k]
                D[a, b] += s
    for k in range(g.shape[0]):
        g[k] = 2.0 * D[free[k, 0], free[k, 1]]


@njit(**JIT)
def minimise(theta, free, A, B, c, n, reml, work, g, iterations):
    """BFGS from theta, in place; ``work`` and ``g`` hold the end point.

    Returns deviance, whether the predicted decrease fell below what the deviance can resolve, iterations.
    """
    d = theta.shape[0]
    H = np.eye(d)
    step, trial, g_trial = np.empty(d), np.empty(d), np.empty(d)
    scaled, converged = False, False
    value = deviance(theta, free, A, B, c, n, reml, 0.0, work)
    gradient(free, A, B, c, reml, work, g)
    iteration = 0
    while iteration < iterations:
        iteration += 1
        slope, length = 0.0, 0.0
        for a in range(d):
            step[a] = 0.0
            for b in range(d):
                step[a] -= H[a, b] * g[b]
            slope += step[a] * g[a]
            length += step[a] * step[a]
        if -slope < 1e-11:
            converged = True
            break
        t = 1.0 if scaled else min(1.0, 0.5 / math.sqrt(length))
        found = False
        for _ in range(40):
            for a in range(d):
                trial[a] = theta[a] + t * step[a]
            after = deviance(trial, free, A, B, c, n, reml, 0.0, work)
            if after <= value + 1e-4 * t * slope:
                found = True
                break
            t *= 0.5 if not after < np.inf else max(0.1, min(0.5, -slope * t / (2.0 * (after - value - slope * t))))
        if not found:  # the rest of the way is below rounding: near enough, or not
            converged = -slope < 1e-7
            break
        gradient(free, A, B, c, reml, work, g_trial)
        scaled = update_inverse_hessian(H, step, t, g_trial, g, scaled)
        theta[:], g[:], value = trial, g_trial, after
    value = deviance(theta, free, A, B, c, n, reml, 0.0, work)
    gradient(free, A, B, c, reml, work, g)
    return value, converged, iteration


@njit(**JIT)
def update_inverse_hessian(H, step, t, g_new, g_old, scaled):
    """BFGS update (Nocedal & Wright 2006, eq. 6.17; first scaling 6.20), skipped without positive curvature."""
    d = step.shape[0]
    s, y, Hy = np.empty(d), np.empty(d), np.zeros(d)
    sy, yy, yHy = 0.0, 0.0, 0.0
    for a in range(d):
        s[a], y[a] = t * step[a], g_new[a] - g_old[a]
        sy += s[a] * y[a]
        yy += y[a] * y[a]
    if not sy > 1e-14:
        return scaled
    if not scaled:
        for a in range(d):
            H[a, a] = sy / yy
    for a in range(d):
        for b in range(d):
            Hy[a] += H[a, b] * y[b]
        yHy += y[a] * Hy[a]
    for a in range(d):
        for b in range(d):
            H[a, b] += (1.0 + yHy / sy) * s[a] * s[b] / sy - (Hy[a] * s[b] + s[a] * Hy[b]) / sy
    return True

"""Draws of a linear mixed model's variances from the truncated asymptotic distribution of their ML estimator.

    y_i = X_i beta + Z_i b_i + e_i,   e_i ~ N(0, sigma I),   b_i ~ N(0, Psi),   V_i = sigma I + Z_i Psi Z_i'

    (sigma, vech Psi)* ~ N((sigma, vech Psi)^, I^-1), restricted to sigma > 0 and Psi positive definite
        I_ab = 1/2 sum_i tr(V_i^-1 dV_i/da V_i^-1 dV_i/db)                         Fisher information

(Kunkel & Kaizar 2017, sec. 2.3.1; sigma is a variance.)

Information: rows enter through A_i = Z_i'Z_i and their number n. With Psi = sigma Lambda Lambda' and
K_i = Lambda (I + Lambda'A_i Lambda)^-1 Lambda',

    V_i^-1 = (I - Z_i K_i Z_i') / sigma        (Woodbury),   S_i = I - K_i A_i
    W_i = Z_i'V_i^-1 Z_i = A_i S_i / sigma,    Z_i'V_i^-2 Z_i = W_i S_i / sigma,
    tr V_i^-2 = (n_i - q + tr S_i^2) / sigma^2
    dV_i / dsigma = I,   dV_i / dPsi_ab = h_ab Z_i (e_a e_b' + e_b e_a') Z_i',   h_ab = 1, or 1/2 if a = b
    I_sigma,sigma = sum_i tr V_i^-2 / 2        I_sigma,ab = h_ab sum_i (W_i S_i)_ab / sigma
    I_ab,cd = h_ab h_cd sum_i (W_ac W_bd + W_ad W_bc)

Truncation: the whole vector is redrawn until it is admissible, which is exact. The mean lies in the closure of the
convex set of admissible values, so few tries are needed: at an estimate of zero about 1/2, 1/7, 1/40 of the draws are
admissible for q = 1, 2, 3. After `TRIES` failures with q > 1 the estimate itself is used; with q = 1 and I = L L', the
normal is sigma = sigma^ + (z_1 - k z_2)/L_11, psi = psi^ + z_2/L_22, z standard normal, k = L_21/L_22 >= 0, so

    z_2 has density phi(t) Phi(s - k t) on t > -a,   z_1 | z_2 ~ N(0, 1) on z_1 > k z_2 - s,
    s = L_11 sigma^,  a = L_22 psi^

by rejection from the envelope  phi(t) where t < s/k,  phi(t) exp(-(k t - s)^2 / 2) / 2  beyond: two pieces of normals.
This is exact too, and about half of the proposals are accepted whatever s, k and a are.
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.draws import noise_by_factor
from bayesimp.kernels.linalg import cholesky, copy_to, fill, semidefinite_cholesky
from bayesimp.notation import IntMatrix, Matrix, Stack, Vector

__all__ = ["draw_variances", "factor_cluster", "fisher_information", "in_wedge"]

NO_INFORMATION, REDRAWN, RARE, EXHAUSTED = (
    2,
    4,
    16,
    32,
)  # bits of return codes; in words: EVENTS of kernels/lmm/draw.py

TRIES = 50_000  # attempts at a whole draw
DEPENDENT = 1e-10  # relative pivot of the information that counts as zero
ROOT_2 = math.sqrt(2.0)


@kernel
def fisher_information(free: IntMatrix, A: Stack, n: int, Lambda: Matrix, sigma: float, out: Matrix) -> None:
    """out (1 + d, 1 + d) <- Fisher information of (sigma, Psi[free]), Psi = sigma Lambda Lambda'.

    free (d, 2): entries of the lower triangle; A (C, q, q) = Z_i'Z_i; n: total number of rows.
    """
    cells, q, _ = A.shape
    d = free.shape[0]
    fill(out, 0.0)
    H, K = np.empty((q, q)), np.empty((q, q))  # K holds L^-1 Lambda' first, then Lambda H^-1 Lambda'
    S, W, half = np.empty((q, q)), np.empty((q, q)), np.empty((q, q))
    out[0, 0] = 0.5 * (n - cells * q) / sigma**2
    for i in range(cells):
        factor_cluster(A, i, Lambda, H)
        for a in range(q):
            for b in range(q):  # column b of L^-1 Lambda'
                half[a, b] = Lambda[b, a]
                for k in range(a):
                    half[a, b] -= H[a, k] * half[k, b]
                half[a, b] /= H[a, a]
        for a in range(q):
            for b in range(q):
                K[a, b] = 0.0
                for k in range(q):
                    K[a, b] += half[k, a] * half[k, b]
        for a in range(q):
            for b in range(q):
                S[a, b] = 1.0 if a == b else 0.0
                for k in range(q):
                    S[a, b] -= K[a, k] * A[i, k, b]
        for a in range(q):
            for b in range(q):
                W[a, b] = 0.0
                for k in range(q):
                    W[a, b] += A[i, a, k] * S[k, b] / sigma
                out[0, 0] += 0.5 * S[a, b] * S[b, a] / sigma**2
        for k in range(d):
            a, b = free[k, 0], free[k, 1]
            h = 0.5 if a == b else 1.0
            for l in range(q):
                out[k + 1, 0] += h * W[a, l] * S[l, b] / sigma
            for l in range(k + 1):
                e, f = free[l, 0], free[l, 1]
                hh = 0.5 * h if e == f else h
                out[k + 1, l + 1] += hh * (W[a, e] * W[b, f] + W[a, f] * W[b, e])
    for k in range(d + 1):
        for l in range(k):
            out[l, k] = out[k, l]


@inner
def factor_cluster(A: Stack, i: int, Lambda: Matrix, H: Matrix) -> None:
    """H <- lower Cholesky factor of I + Lambda'A_i Lambda, Lambda lower triangular."""
    q = H.shape[0]
    for a in range(q):
        for b in range(a + 1):
            H[a, b] = 1.0 if a == b else 0.0
            for k in range(a, q):
                for l in range(b, q):
                    H[a, b] += Lambda[k, a] * A[i, k, l] * Lambda[l, b]
    cholesky(H, q)


@kernel
def draw_variances(
    rng: np.random.Generator, free: IntMatrix, estimate: Vector, information: Matrix, out: Vector
) -> int:
    """out (1 + d,) ~ N(estimate, information^-1) given sigma > 0 and Psi positive definite; returns bits of `EVENTS`."""
    d = free.shape[0]
    q = free[d - 1, 0] + 1
    L, Psi = np.zeros((d + 1, d + 1)), np.zeros((q, q))
    copy_to(L, information)
    for k in range(d + 1):
        out[k] = estimate[k]
    if semidefinite_cholesky(L, d + 1, DEPENDENT, d + 1) <= d:
        return NO_INFORMATION
    for t in range(TRIES):
        noise_by_factor(rng, L, out, d + 1)
        for k in range(d + 1):
            out[k] += estimate[k]
        for k in range(d):
            Psi[free[k, 0], free[k, 1]] = out[k + 1]
        if out[0] > 0.0 and cholesky(Psi, q):
            return REDRAWN if t > 0 else 0
    if q > 1:
        for k in range(d + 1):
            out[k] = estimate[k]
        return EXHAUSTED
    z1, z2 = in_wedge(rng, L[1, 0] / L[1, 1], L[0, 0] * estimate[0], L[1, 1] * estimate[1])
    out[1] = estimate[1] + z2 / L[1, 1]
    out[0] = estimate[0] + (z1 - L[1, 0] / L[1, 1] * z2) / L[0, 0]
    return REDRAWN | RARE


@kernel
def in_wedge(rng: np.random.Generator, k: float, s: float, a: float) -> tuple[float, float]:
    """(z_1, z_2) standard normal given z_2 > -a and z_1 > k z_2 - s; k, s, a >= 0."""
    w = math.sqrt(1.0 + k * k)
    near = 0.5 * (math.erf(s / k / ROOT_2) + math.erf(a / ROOT_2))
    far = 0.25 * math.exp(-0.5 * (s / w) ** 2) / w * math.erfc(s / (k * w) / ROOT_2)
    while True:
        if rng.random() * (near + far) < near:
            t = normal_between(rng, -a, s / k)
            accept = normal_cdf(s - k * t)
        else:  # phi(t) exp(-(k t - s)^2 / 2) is a normal with mean k s / w^2 and standard deviation 1 / w
            t = k * s / (w * w) + normal_above(rng, s / (k * w)) / w
            accept = normal_cdf(s - k * t) / (0.5 * math.exp(-0.5 * (k * t - s) ** 2))
        if rng.random() < accept:
            return normal_above(rng, k * t - s), t


@inner
def normal_cdf(x: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-x / ROOT_2)


@inner
def normal_between(rng: np.random.Generator, low: float, high: float) -> float:
    """N(0, 1) on (low, high), low <= 0 <= high, by rejection from the normal, or from the uniform if narrow."""
    while True:
        if high - low > 2.5:
            x = rng.standard_normal()
            if low < x < high:
                return x
        else:
            x = low + (high - low) * rng.random()
            if rng.random() < math.exp(-0.5 * x * x):
                return x


@inner
def normal_above(rng: np.random.Generator, low: float) -> float:
    """N(0, 1) on (low, inf), by rejection from the normal or, in the tail, from an exponential (Robert 1995)."""
    rate = 0.5 * (low + math.sqrt(low * low + 4.0))
    while True:
        if low < 0.4:
            x = rng.standard_normal()
            if x > low:
                return x
        else:
            x = low + rng.standard_exponential() / rate
            if rng.random() < math.exp(-0.5 * (x - rate) ** 2):
                return x

"""Variance components of linear mixed models as log standard deviations and Fisher's z, and their covariance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.kernels.lmm.search import BOUNDARY
from bayesimp.notation import IntMatrix, Matrix, Stack, Vector

__all__ = ["components_of", "covariance_spread", "fisher_z"]

Array = NDArray[np.float64]
AT_BOUND = 1 - 1e-8  # a correlation that counts as 1
FLAT = 1e-7  # share of the largest eigenvalue of a Hessian by differences below which there is no curvature


def components_of(
    Lambda: Array, sigma2: Vector, free: IntMatrix, Tz: Stack, signs: Stack, hessian: Stack, theta: Matrix
) -> tuple[Array, Array]:
    """log sd, atanh of correlations and log sigma, with their covariance by the delta method.

    With l_a rows of Lambda and s_a = |l_a|:  log sd_a = log(s_a sigma),   rho_ab = l_a'l_b / s_a s_b,

        d log s_a / d l_a = l_a / s_a^2,    d rho_ab / d l_a = (l_b / s_b - rho_ab l_a / s_a) / s_a

    The deviance is -2 log-likelihood, so the information is half its Hessian. Where a diagonal element is zero, the
    deviance is even in it, so its mixed derivatives are zero, and the parameters off the boundary have their own
    information, unaffected by it. Whether a sd is zero is judged for columns of Z with mean square 1, not in user units.
    """
    M, q, _ = Lambda.shape
    d = len(free)
    pairs = [(a, b) for a, b in free if a != b]
    s = np.linalg.norm(Lambda, axis=2)
    unit = Lambda / np.where(s > 0, s, 1.0)[:, :, None]
    dLambda = np.zeros((M, d, q, q))  # derivatives by theta_q: Lambda = Tz^-1 Lambda_q
    into = np.linalg.inv(Tz)
    for l, (a, b) in enumerate(free):
        dLambda[:, l, :, b] = into[:, :, a] * signs[:, :, b]
    k = q + len(pairs) + 1
    values, J = np.empty((M, k)), np.zeros((M, k, d + 1))
    log_sigma = 0.5 * np.log(sigma2)
    with np.errstate(divide="ignore", invalid="ignore"):
        values[:, :q] = np.log(s) + log_sigma[:, None]
        J[:, :q, :d] = np.einsum("kac,klac->kal", unit / s[:, :, None], dLambda)
        J[:, :q, d] = 0.5
        for j, (a, b) in enumerate(pairs, start=q):
            rho = np.einsum("kc,kc->k", unit[:, a], unit[:, b])
            values[:, j] = fisher_z(rho)
            by_a = (unit[:, b] - rho[:, None] * unit[:, a]) / s[:, a, None]
            by_b = (unit[:, a] - rho[:, None] * unit[:, b]) / s[:, b, None]
            slope = np.einsum("kc,klc->kl", by_a, dLambda[:, :, a]) + np.einsum(
                "kc,klc->kl", by_b, dLambda[:, :, b]
            )
            J[:, j, :d] = slope / (1 - rho**2)[:, None]
    values[:, -1], J[:, -1, d] = log_sigma, 0.5
    _put_zeros(values, s * np.linalg.norm(Tz, axis=1), pairs)
    covariance = np.full((M, k, k), np.nan)
    at_zero = (free[:, 0] == free[:, 1]) & (np.abs(theta) < BOUNDARY)
    rows = np.zeros((M, q, q))  # of Lambda, for orthonormal columns of Z
    rows[:, free[:, 0], free[:, 1]] = theta
    # for small sigma, a step in theta is relative to its size
    size = np.ones((M, d + 1))
    size[:, :d] = np.maximum(1.0, np.linalg.norm(rows, axis=2))[:, free[:, 0]]
    J, hessian = J * size[:, None], hessian * size[:, :, None] * size[:, None]
    for t in range(M):
        inside = np.append(~at_zero[t], True)
        there = np.flatnonzero(np.isfinite(values[t]))
        covariance[t][np.ix_(there, there)] = _delta(J[t][there][:, inside], hessian[t][inside][:, inside])
    return values, covariance


def _put_zeros(values: Array, s: Array, pairs: Sequence[tuple[int, int]]) -> None:
    """Replace round-off by -inf in the log sds that are zero, and by nan in their correlations.

    s (M, q): sds relative to sigma, for columns of Z with mean square 1.
    """
    q = s.shape[1]
    zero = s < BOUNDARY
    values[:, :q][zero] = -np.inf
    for j, (a, b) in enumerate(pairs, start=q):
        values[zero[:, a] | zero[:, b], j] = np.nan


def fisher_z(rho: ArrayLike) -> Array:
    """atanh of correlations; -inf or inf at a bound, up to rounding."""
    rho = np.asarray(rho, dtype=float)
    at_bound = np.abs(rho) > AT_BOUND
    return np.where(at_bound, np.copysign(np.inf, rho), np.arctanh(np.where(at_bound, 0.0, rho)))


def _delta(J: Array, hessian: Array) -> Array:
    """J (hessian / 2)^+ J'; nan unless the Hessian is that of a minimum (flat along rotations of Lambda is allowed)."""
    half = J @ _root(hessian)
    return half @ half.T


def _root(hessian: Array) -> Array:
    """(d, d) U, U U' = (hessian / 2)^+, the parameters' covariance; zero columns where the Hessian is flat; nan: none."""
    values, vectors = np.linalg.eigh(0.5 * hessian)
    flat = np.abs(values) <= FLAT * values[-1]
    if values[~flat][0] < 0:
        return np.full_like(hessian, np.nan)
    return vectors * np.where(flat, 0.0, 1 / np.sqrt(np.where(flat, 1.0, values)))


def covariance_spread(cov: Array, slopes: Array, free: IntMatrix, hessian: Stack, theta: Matrix) -> Array:
    """(M, d + 1, p, p) derivatives of the covariance of beta along the estimated parameters.

    Derivatives of cov (M, p, p) along d + 1 independent directions, per standard error: c' cov c has approximate variance
    sum_k (c' spread_k c)^2 (delta method), as needed for Satterthwaite's degrees of freedom. slopes (M, d, p, p): the
    derivatives of cov by theta; its derivative by log sigma^2 is cov itself. Like the deviance, cov is even in a diagonal
    element of zero, which therefore does not contribute.
    """
    at_zero = (free[:, 0] == free[:, 1]) & (np.abs(theta) < BOUNDARY)
    by = np.concatenate([slopes, cov[:, None]], axis=1)
    out = np.zeros_like(by)
    for t in range(len(theta)):
        inside = np.flatnonzero(np.append(~at_zero[t], True))
        root = _root(hessian[t][np.ix_(inside, inside)])
        out[t, : len(inside)] = np.einsum("lk,lab->kab", root, by[t, inside])
    return out

"""Likelihood of the typical residual covariance S and of a, how alike clusters are, with their matrices integrated out.

With T_i the cross product of cluster i's n_i completed residuals, Sigma_i ~ IW(nu, a S) and nu = a + r - 1,

    p(T | S, a)  ~  prod_i Gamma_r((nu + n_i)/2) / Gamma_r(nu/2)  |a S|^(nu/2) |a S + T_i|^-((nu + n_i)/2)

Where the block (2) of latent variables equals that of S in all clusters (kernels/latent/given_block.py), with A = a S,
A_i = a S + T_i, A_11.2 = A_11 - A_12 A_22^-1 A_21 and r_1 numeric variables,

    p(T | S, a)  ~  |S_22|^-(n/2) etr(-S_22^-1 T_22 / 2)  prod_i Gamma_r1((nu + n_i)/2) / Gamma_r1(nu/2)
                    |A_11.2|^(nu/2) |A_i,11.2|^-((nu + n_i)/2)  (|A_22| / |A_i,22|)^(r_1/2)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.covariance.update import invert
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.kernels.linalg import cholesky, cholesky_log_det
from bayesimp.notation import Integer, IntVector, Matrix, Stack

__all__ = ["Residuals", "log_likelihood_of_residuals", "ordered_residuals"]


class Residuals(NamedTuple):
    """Cross products T (m, r, r) of n (m,) completed residuals, with columns in `order` (r,): latent, then numeric.

    latent: number of latent columns; rows: total over clusters; total (latent, latent): the sum of the T_22.
    """

    n: np.ndarray
    T: np.ndarray
    order: np.ndarray
    latent: Integer
    rows: Integer
    total: np.ndarray


@inner
def ordered_residuals(n: IntVector, T: Stack, kind: IntVector) -> Residuals:
    """New `Residuals`; kind (r,): codes of kernels/latent/records.py."""
    m, r, _ = T.shape
    order, latent, rows = np.empty(r, np.int64), np.int64(0), np.int64(0)
    for k in range(r):
        if kind[k] != NUMBER:
            order[latent] = k
            latent += 1
    last = latent
    for k in range(r):
        if kind[k] == NUMBER:
            order[last] = k
            last += 1
    own, total = np.empty((m, r, r)), np.zeros((latent, latent))
    for i in range(m):
        rows += n[i]
        for k in range(r):
            for j in range(r):
                own[i, k, j] = T[i, order[k], order[j]]
                if k < latent and j < latent:
                    total[k, j] += own[i, k, j]
    return Residuals(n, own, order, latent, rows, total)


@inner
def _log_dets(A: Matrix, latent: Integer) -> tuple[float, float]:
    """log |A_22| and log |A_11.2|, nan if A is not positive definite; rows and columns in order, A is overwritten."""
    if not cholesky(A, A.shape[0]):
        return math.nan, math.nan
    of_latent = of_numbers = 0.0
    for k in range(A.shape[0]):
        if k < latent:
            of_latent += math.log(A[k, k])
        else:
            of_numbers += math.log(A[k, k])
    return 2.0 * of_latent, 2.0 * of_numbers


@inner
def _log_latent(residuals: Residuals, S: Matrix) -> float:
    """log |S_22|^-(n/2) etr(-S_22^-1 T_22 / 2)."""
    size = residuals.latent
    S22, K = np.empty((size, size)), np.empty((size, size))
    for k in range(size):
        for j in range(size):
            S22[k, j] = S[residuals.order[k], residuals.order[j]]
    if not invert(S22, K):
        return -math.inf
    total = -0.5 * residuals.rows * cholesky_log_det(S22, S22.shape[0])
    for k in range(size):
        for j in range(size):
            total -= 0.5 * K[k, j] * residuals.total[k, j]
    return total


@inner
def log_likelihood_of_residuals(residuals: Residuals, S: Matrix, a: float, of_a: bool) -> float:
    """log p(T | S, a), -inf if S is not positive definite; the gamma functions are included only if `of_a`."""
    r, order, latent, n = S.shape[0], residuals.order, residuals.latent, residuals.n
    A = np.empty((r, r))
    for k in range(r):
        for j in range(r):
            A[k, j] = a * S[order[k], order[j]]
    latent_before, before = _log_dets(A, latent)
    if math.isnan(before):
        return -math.inf
    nu, total, numbers = a + r - 1.0, 0.0, r - latent
    if latent:
        total += _log_latent(residuals, S)
    for i in range(n.size):
        if n[i] == 0:
            continue
        for k in range(r):
            for j in range(k + 1):
                A[k, j] = a * S[order[k], order[j]] + residuals.T[i, k, j]
        latent_after, after = _log_dets(A, latent)
        # difference of the two first: each is large where the matrices hardly differ
        total -= 0.5 * nu * (after - before) + 0.5 * n[i] * after
        if latent:
            total -= 0.5 * numbers * (latent_after - latent_before)
        if of_a:
            for k in range(numbers):
                total += math.lgamma(0.5 * (nu + n[i] - k)) - math.lgamma(0.5 * (nu - k))
    return total if not math.isnan(total) else -math.inf

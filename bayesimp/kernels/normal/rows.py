"""Draws of rows' missing values given the parameters and the observed values of all rows; see joint/rows.py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.linalg import cholesky, copy_to, inverse_from_cholesky, row_mean
from bayesimp.kernels.normal.complete import conditional
from bayesimp.kernels.normal.effects import draw_effects, effects_from_normals, pattern_weights
from bayesimp.kernels.normal.imputed import draw_imputed_statistics
from bayesimp.notation import BoolMatrix, Integer, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.kernels.normal.effects import Moments
    from bayesimp.kernels.normal.imputed import IncompleteCells

__all__ = ["draw_statistics", "fill_rows", "missing_from_normals"]


@kernel(nogil=True)
def missing_from_normals(
    z: Matrix,
    m: Moments,
    X: Matrix,
    Z: Matrix,
    Y: Matrix,
    cluster: IntVector,
    pattern: IntVector,
    beta: Stack,
    Sigma: Stack,
    Psi: Stack,
    out: Stack,
) -> bool:
    """out (M, R, r) <- draws of the missing cells of the rows (X, Z, Y), nan where observed, on the working scale.

    One draw for each of M draws beta (M, p, r), Sigma (M, r, r), Psi (M, rq, rq), from standard normals z (M, k):
    m r q for the cluster effects, then one per missing cell. m: Moments of all rows.
    Returns False if a Sigma or Psi is not positive definite.
    """
    for k in range(z.shape[0]):
        if not _fill(z[k], m, X, Z, Y, cluster, pattern, beta[k], Sigma[k], Psi[k], out[k]):
            return False
    return True


@inner
def _fill(
    z: Vector,
    m: Moments,
    X: Matrix,
    Z: Matrix,
    Y: Matrix,
    cluster: IntVector,
    pattern: IntVector,
    beta: Matrix,
    Sigma: Matrix,
    Psi: Matrix,
    out: Matrix,
) -> bool:
    """One draw, out (R, r)."""
    clusters, r, q = m.first.size - 1, beta.shape[1], Z.shape[1]
    W, ok = pattern_weights(Sigma, m.patterns)
    L = np.empty(Psi.shape)
    copy_to(L, Psi)
    Psi_inverse = np.empty(Psi.shape)
    if not ok or not cholesky(L, r * q):
        return False
    inverse_from_cholesky(L, Psi_inverse, r * q)
    B = np.empty((clusters, q, r))
    if not effects_from_normals(z, W, Psi_inverse, m, beta, B):
        return False
    return fill_rows(z, clusters * r * q, m.patterns, W, X, Z, Y, cluster, pattern, beta, Sigma, B, out)


@inner
def fill_rows(
    z: Vector,
    used: Integer,
    patterns: BoolMatrix,
    W: Stack,
    X: Matrix,
    Z: Matrix,
    Y: Matrix,
    cluster: IntVector,
    pattern: IntVector,
    beta: Matrix,
    Sigma: Matrix,
    B: Stack,
    out: Matrix,
) -> bool:
    """out (R, r) <- the missing cells given effects B (m, q, r), from the standard normals z[used], z[used + 1], ..

    Returns False if a conditional covariance is not positive definite.
    """
    r = beta.shape[1]
    K = np.zeros((patterns.shape[0], r, r))
    A = np.zeros((patterns.shape[0], r, r))
    for a in range(patterns.shape[0]):
        if conditional(W[a], Sigma, patterns[a], K[a], A[a]) < 0:
            return False
    mu = np.empty(r)
    for j in range(X.shape[0]):
        a, i = pattern[j], cluster[j]
        for k in range(r):
            mu[k] = row_mean(X, Z, j, i, k, beta, B)
        u = 0
        for v in range(r):
            if patterns[a, v]:
                out[j, v] = math.nan
                continue
            s = mu[v]
            for k in range(r):
                if patterns[a, k]:
                    s += (Y[j, k] - mu[k]) * K[a, k, v]
            for k in range(u + 1):
                s += A[a, u, k] * z[used + k]
            out[j, v] = s
            u += 1
        used += u
    return True


@kernel(nogil=True)
def draw_statistics(
    rng: np.random.Generator,
    m: Moments,
    cells: IncompleteCells,
    offset: Matrix,
    beta: Stack,
    Sigma: Stack,
    Psi: Stack,
    mean: Stack,
    sd: Stack,
) -> bool:
    """mean, sd (D, m, r) <- imputed means and sds (kernels/normal/imputed.py) for draws beta (D, p, r), Sigma, Psi.

    For samplers that only provide parameter draws. Returns False if a Sigma or Psi is not positive definite.
    """
    d, r = Psi.shape[1], Sigma.shape[1]
    L = np.empty((d, d))
    Psi_inverse = np.empty((d, d))
    B = np.empty((m.first.size - 1, d // r, r))
    for t in range(beta.shape[0]):
        W, ok = pattern_weights(Sigma[t], m.patterns)
        copy_to(L, Psi[t])
        if not ok or not cholesky(L, d):
            return False
        inverse_from_cholesky(L, Psi_inverse, d)
        if not draw_effects(rng, W, Psi_inverse, m, beta[t], B):
            return False
        draw_imputed_statistics(rng, cells, offset, W, Sigma[t], beta[t], B, mean[t], sd[t])
    return True

"""log p(y_obs | beta, Sigma, Psi), with missing values and random effects integrated out exactly.

Cells (cluster i, pattern a with observed set O_a), R = Y - X beta, W_a = Sigma[O_a, O_a]^-1 zero-padded:

    P_i = sum_a kron(W_a, (Z'Z)_ia)        h_i = vec(sum_a (Z'R)_ia W_a)
    log p = -1/2 sum_a [n_a (|O_a| log 2pi + logdet Sigma[O_a, O_a]) + tr(W_a (R'R)_a)]
            + sum_i [-1/2 logdet(I + Psi P_i) + 1/2 h_i' V_i h_i],      V_i = (Psi^-1 + P_i)^-1

Random effects given the data: b_i | y ~ N(V_i h_i, V_i). Gradients are posterior expectations of those of the
complete-data density (Fisher's identity), with B_i the (q, r) form of V_i h_i and g_i = Psi^-1 V_i h_i:

    d/dbeta  = sum_a [(X'R)_a - sum_i (X'Z)_ia B_i] W_a
    d/dSigma = 1/2 sum_a (W_a T_a W_a - n_a W_a),     T_a = sum_i E[(R - Z B_i)'(R - Z B_i) | y]_ia
    d/dPsi   = 1/2 sum_i (g_i g_i' - (P_i - P_i V_i P_i))

The last line is 1/2 Psi^-1 [sum_i (b_i b_i' + V_i) - m Psi] Psi^-1 with Psi^-1 multiplied out, and V_i is
computed as L (I + L'P_i L)^-1 L', Psi = L L': a nearly singular Psi costs no precision. Gradients with
respect to a symmetric matrix are symmetric and mean d log p = tr(gradient' dSigma) for symmetric dSigma.

Terms that do not depend on the cluster (n_a, X'X, X'Y, Y'Y) are summed over clusters once, so a call costs
O(cells), whatever the number of rows. Small dense algebra is written out, because LAPACK calls from numba
take the interpreter lock. Source: Schafer & Yucel 2002, rederived here; tested against the dense
multivariate normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.kernels.compiled import inner, kernel
from bayesimp.kernels.covariance.inverse import lower_factor, quadratic_form
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.kernels.normal.terms import fixed_part, information, posterior, precisions, random_by_residual
from bayesimp.notation import Array, Integer, Matrix, Stack, Vector

__all__ = ["MarginalData", "log_likelihood", "log_likelihood_by_cluster", "marginal_data"]


@dataclass(frozen=True)
class MarginalData:
    """The data of the likelihood: the arrays taken by `log_likelihood`, in its order.

    Integers have 32 bits because `pm.Data` makes them so; that way one compiled kernel serves both.

    Attributes
    ----------
    observed
        (A, r) int32, 1 where the response is observed in the pattern.
    cells
        (C, 2) int32: cluster and pattern of each cell, sorted by cluster.
    gram
        (C, d, d) D'D, D = [1 | X | Z | Y].
    total
        (A, d, d) sums of gram over clusters, by pattern.
    """

    observed: NDArray[np.int32]
    cells: NDArray[np.int32]
    gram: NDArray[np.float64]
    total: NDArray[np.float64]


def marginal_data(statistics: SufficientStatistics) -> MarginalData:
    """Arrays for `log_likelihood`, without cells in which nothing is observed: these carry no information."""
    informative = statistics.patterns[statistics.cell_pattern].any(axis=1)
    pattern = statistics.cell_pattern[informative]
    gram = np.ascontiguousarray(statistics.gram[informative])
    total = np.zeros((len(statistics.patterns), *gram.shape[1:]))
    np.add.at(total, pattern, gram)
    cells = np.column_stack([statistics.cell_cluster[informative], pattern]).astype(np.int32)
    return MarginalData(statistics.patterns.astype(np.int32), np.ascontiguousarray(cells), gram, total)


@kernel(nogil=True)
def log_likelihood(
    beta: Matrix,
    Sigma: Matrix,
    Psi: Matrix,
    observed: NDArray[np.int32],
    cells: NDArray[np.int32],
    gram: Stack,
    total: Stack,
) -> tuple[float, Matrix, Matrix, Matrix]:
    """Log density of the observed values and its gradient.

    Parameters
    ----------
    beta, Sigma, Psi
        (p, r), (r, r), (r q, r q).
    observed, cells, gram, total
        See `MarginalData`.

    Returns
    -------
    value : float
        -inf where Sigma or Psi is not positive definite; the gradients are then zero.
    dbeta, dSigma, dPsi
        Shaped as their arguments.
    """
    (p, r), s = beta.shape, len(Psi)
    dbeta, dSigma, dPsi = np.zeros((p, r)), np.zeros((r, r)), np.zeros((s, s))
    L = np.zeros((s, s))
    W, logdet = np.zeros((len(observed), r, r)), np.zeros(len(observed))
    if not (lower_factor(Psi, L) and precisions(Sigma, observed, W, logdet)):
        return -np.inf, dbeta, dSigma, dPsi
    T = np.zeros((len(observed), r, r))  # E[(R - ZB)'(R - ZB)] by pattern
    XR = np.zeros((len(observed), p, r))  # X'(R - ZB) by pattern
    P, V, M, PVP = np.zeros((s, s)), np.zeros((s, s)), np.zeros((s, s)), np.zeros((s, s))
    h, b = np.zeros(s), np.zeros(s)
    value = fixed_part(beta, observed, W, logdet, total, T, XR)
    start: Integer = np.int64(
        0
    )  # a literal 0 has its own type, so that functions called with it would be compiled twice
    while start < len(cells):
        stop = information(beta, W, cells, gram, start, P, h)
        value += posterior(L, P, h, M, V, b)
        _add_residuals(beta, b, V, cells, gram, start, stop, T, XR)
        _add_dPsi(P, V, h, b, M, PVP, dPsi)
        start = stop
    for a in range(len(observed)):
        for j in range(r):
            for k in range(r):
                for c in range(p):
                    dbeta[c, k] += XR[a, c, j] * W[a, j, k]
                dSigma[j, k] -= 0.5 * total[a, 0, 0] * W[a, j, k]
                for i in range(r):
                    for l in range(r):
                        dSigma[i, l] += 0.5 * W[a, i, j] * T[a, j, k] * W[a, k, l]
    return value, dbeta, dSigma, dPsi


def log_likelihood_by_cluster(
    beta: Array, Sigma: Array, Psi: Array, statistics: SufficientStatistics
) -> NDArray[np.float64]:
    """Log density of the observed values of each cluster, at each draw.

    Parameters
    ----------
    beta, Sigma, Psi
        (..., p, r), (..., r, r), (..., r q, r q): leading axes are draws, for instance (chain, draw).

    Returns
    -------
    (..., m), zero for clusters in which nothing is observed. Sums over the last axis equal `log_likelihood`.
    """
    beta, Sigma, Psi = (np.asarray(x, dtype=float) for x in (beta, Sigma, Psi))
    front = beta.shape[:-2]
    b, S, P = (np.ascontiguousarray(x.reshape(-1, *x.shape[-2:])) for x in (beta, Sigma, Psi))
    data = marginal_data(statistics)
    out = _by_cluster(b, S, P, data.observed, data.cells, data.gram, statistics.clusters)
    return out.reshape(*front, statistics.clusters)


@kernel(nogil=True)
def _by_cluster(
    beta: Stack,
    Sigma: Stack,
    Psi: Stack,
    observed: NDArray[np.int32],
    cells: NDArray[np.int32],
    gram: Stack,
    clusters: int,
) -> Matrix:
    (draws, p, r), s = beta.shape, Psi.shape[1]
    out = np.zeros((draws, clusters))
    L, P, V, M = np.zeros((s, s)), np.zeros((s, s)), np.zeros((s, s)), np.zeros((s, s))
    h, b = np.zeros(s), np.zeros(s)
    W, logdet = np.zeros((len(observed), r, r)), np.zeros(len(observed))
    T, XR = np.zeros((1, r, r)), np.zeros((1, p, r))
    for d in range(draws):
        if not (lower_factor(Psi[d], L) and precisions(Sigma[d], observed, W, logdet)):
            out[d] = -np.inf
            continue
        start: Integer = np.int64(0)
        while start < len(cells):
            i = cells[start, 0]
            stop = information(beta[d], W, cells, gram, start, P, h)
            out[d, i] = posterior(L, P, h, M, V, b)
            for c in range(start, stop):
                a = cells[c, 1]
                out[d, i] += fixed_part(
                    beta[d], observed[a : a + 1], W[a : a + 1], logdet[a : a + 1], gram[c : c + 1], T, XR
                )
            start = stop
    return out


@inner
def _add_residuals(
    beta: Matrix,
    b: Vector,
    V: Matrix,
    cells: NDArray[np.int32],
    gram: Stack,
    start: Integer,
    stop: Integer,
    T: Stack,
    XR: Stack,
) -> None:
    """Turn R'R and X'R into E[(R - ZB)'(R - ZB)] and X'(R - ZB), cell by cell."""
    p, r = beta.shape
    z, q = 1 + p, gram.shape[1] - 1 - p - r
    for cell in range(start, stop):
        G, a = gram[cell], cells[cell, 1]
        for k in range(r):
            for l in range(q):
                zr = random_by_residual(beta, G, l, k)
                for c in range(p):
                    XR[a, c, k] -= G[1 + c, z + l] * b[k * q + l]
                for j in range(r):
                    T[a, k, j] -= zr * b[j * q + l]
                    T[a, j, k] -= zr * b[j * q + l]
                    for c in range(q):
                        u, v = k * q + l, j * q + c
                        T[a, k, j] += G[z + l, z + c] * (b[u] * b[v] + V[u, v])


@inner
def _add_dPsi(P: Matrix, V: Matrix, h: Vector, b: Vector, M: Matrix, PVP: Matrix, dPsi: Matrix) -> None:
    """dPsi += 1/2 (g g' - (P - P V P)), g = h - P b."""
    s = len(h)
    g = np.empty(s)
    for i in range(s):
        g[i] = h[i]
        for k in range(s):
            g[i] -= P[i, k] * b[k]
    quadratic_form(V, P, M, PVP)
    for i in range(s):
        for j in range(s):
            dPsi[i, j] += 0.5 * (g[i] * g[j] - P[i, j] + PVP[i, j])

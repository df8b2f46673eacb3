"""The joint model written out as one dense normal of the observed values, row by row."""

import numpy as np


def table(p, q, r, seed, clusters=6, rows=40, holes=0.3):
    """Columns at random; cluster 0 lacks the last response, cluster m-3 has two rows, m-2 one, m-1 none."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, clusters - 3, rows)
    codes[-3:] = [clusters - 3, clusters - 3, clusters - 2]
    X = np.column_stack([np.ones(rows), rng.normal(size=(rows, p - 1))])
    Z = np.column_stack([np.ones(rows), rng.normal(size=(rows, q - 1))])
    Y = 2 * rng.normal(size=(rows, r)) + 1
    lost = rng.random((rows, r)) < holes
    lost[-3:] = False
    Y[lost] = np.nan
    Y[:2] = np.nan
    if r > 1:
        Y[codes == 0, -1] = np.nan
    return X, Z, Y, codes, clusters


def covariance(d, seed):
    A = np.random.default_rng([seed, d]).normal(size=(d, d + 2))
    return A @ A.T / (d + 2)


def system(X, Z, Y, codes, clusters):
    """y_obs = D (vec beta, vec B_0, ..., vec B_{m-1}) + e: y, D, and for each value its row and response."""
    p, q, r = X.shape[1], Z.shape[1], Y.shape[1]
    row, response = np.nonzero(~np.isnan(Y))
    D = np.zeros((len(row), r * p + clusters * r * q))
    for n, (j, k) in enumerate(zip(row, response, strict=True)):
        D[n, k * p : (k + 1) * p] = X[j]
        start = r * p + codes[j] * r * q + k * q
        D[n, start : start + q] = Z[j]
    return Y[row, response], D, row, response


def error_covariance(row, response, Sigma):
    return np.where(row[:, None] == row[None, :], Sigma[np.ix_(response, response)], 0.0)


def posterior(data, Sigma, Psi, Q0, t0):
    """Mean and covariance of (vec beta, vec B_0, ...) given the observed values and (Sigma, Psi)."""
    y, D, row, response = system(*data)
    weight = np.linalg.inv(error_covariance(row, response, Sigma))
    prior = np.zeros((D.shape[1], D.shape[1]))
    P, rq = len(t0), len(Psi)
    prior[:P, :P] = Q0
    for start in range(P, len(prior), rq):
        prior[start : start + rq, start : start + rq] = np.linalg.inv(Psi)
    covariance_ = np.linalg.inv(prior + D.T @ weight @ D)
    score = D.T @ weight @ y
    score[:P] += t0
    return covariance_ @ score, covariance_


def stacked(beta, B):
    """Draws beta (S, p, r), B (S, m, q, r) -> (S, rp + m rq) in the order of `posterior`."""
    S = len(beta)
    return np.hstack([beta.transpose(0, 2, 1).reshape(S, -1), B.transpose(0, 1, 3, 2).reshape(S, -1)])

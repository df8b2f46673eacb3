"""A textbook Gibbs sampler of the joint normal model: row by row, every missing cell drawn.

    y_j = x_j' beta + z_j' B_i + e_j;   the four conditionals, each given the completed table:

    B_i     ~ N(V h, V),   V = (Psi^-1 + Sigma^-1 kron Z_i'Z_i)^-1,   h = vec(Z_i'(Y_i - X_i beta) Sigma^-1)
    beta    ~ matrix normal((X'X)^-1 X'(Y - ZB), (X'X)^-1, Sigma)                        (flat prior)
    Sigma   ~ IW(nu_1 + N; scale V_1^-1 + E'E),      Psi ~ IW(nu_2 + m; scale V_2^-1 + sum_i b_i b_i')
    y_mis,j ~ conditional normal given y_obs,j

It shares no code with bayesimp and mixes slowly; only its stationary law matters.
"""

import numpy as np
from scipy.stats import invwishart


def sample(X, Z, Y, codes, nu, V, iterations, seed):
    """nu, V: pairs, for Sigma and Psi (IW(nu, V) with density exp(-tr(V^-1 S^-1)/2)).

    Returns draws beta (D, p, r), Sigma (D, r, r), Psi (D, rq, rq), values (D, N, r), burn-in included.
    """
    rng = np.random.default_rng(seed)
    m, r, q = codes.max() + 1, Y.shape[1], Z.shape[1]
    missing = np.isnan(Y)
    Y = np.where(missing, np.nanmean(Y, axis=0), Y)
    members = [np.flatnonzero(codes == i) for i in range(m)]
    beta = np.linalg.lstsq(X, Y)[0]
    Sigma, Psi, B = np.cov(Y.T), np.eye(r * q), np.zeros((m, q, r))
    kept = [], [], [], []
    for _ in range(iterations):
        for i, j in enumerate(members):
            B[i] = effects(rng, Z[j], Y[j] - X[j] @ beta, Sigma, Psi)
        ZB = np.array([Z[j] @ B[codes[j]] for j in range(len(Y))])
        beta = fixed_effects(rng, X, Y - ZB, Sigma)
        mu = X @ beta + ZB
        E = Y - mu
        Sigma = invwishart(nu[0] + len(Y), np.linalg.inv(V[0]) + E.T @ E).rvs(random_state=rng)
        b = B.transpose(0, 2, 1).reshape(m, r * q)
        Psi = invwishart(nu[1] + m, np.linalg.inv(V[1]) + b.T @ b).rvs(random_state=rng)
        for j in np.flatnonzero(missing.any(1)):
            Y[j] = complete(rng, Y[j], missing[j], mu[j], Sigma)
        for store, value in zip(kept, (beta, Sigma, Psi, Y.copy()), strict=True):
            store.append(value)
    return tuple(np.array(k) for k in kept)


def effects(rng, Z, R, Sigma, Psi):
    weight = np.linalg.inv(Sigma)
    V = np.linalg.inv(np.linalg.inv(Psi) + np.kron(weight, Z.T @ Z))
    h = (Z.T @ R @ weight).ravel(order="F")
    b = V @ h + np.linalg.cholesky(V) @ rng.standard_normal(len(h))
    return b.reshape(Z.shape[1], len(Sigma), order="F")


def fixed_effects(rng, X, R, Sigma):
    precision = X.T @ X
    mean = np.linalg.solve(precision, X.T @ R)
    noise = rng.standard_normal(mean.shape)
    return mean + np.linalg.cholesky(np.linalg.inv(precision)) @ noise @ np.linalg.cholesky(Sigma).T


def complete(rng, y, missing, mu, Sigma):
    M, O = np.flatnonzero(missing), np.flatnonzero(~missing)
    K = np.linalg.solve(Sigma[np.ix_(O, O)], Sigma[np.ix_(O, M)])
    S = Sigma[np.ix_(M, M)] - Sigma[np.ix_(M, O)] @ K
    out = y.copy()
    out[M] = mu[M] + (y[O] - mu[O]) @ K + np.linalg.cholesky(S) @ rng.standard_normal(len(M))
    return out

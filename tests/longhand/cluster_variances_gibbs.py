"""A textbook Gibbs sampler for a mixed model with one residual variance per cluster, many chains side by side.

    y_j = x_j' beta + z_j' b_i + e_j,  e_j ~ N(0, sigma_i^2);  each given all else, on the residuals of the rows:

    b_i           ~ N(V Z_i'(y_i - X_i beta) / sigma_i^2, V),   V = (Psi^-1 + Z_i'Z_i / sigma_i^2)^-1
    beta          ~ N(Q^-1 sum_j x_j (y_j - z_j'b_i) / sigma_i^2, Q^-1),   Q = sum_j x_j x_j' / sigma_i^2
    Psi           ~ IW(q + m; scale I + sum_i b_i b_i')                      (prior IW(q, I), all clusters)
    1/sigma_i^2   ~ Gamma((a + n_i)/2, rate (a s0 + R_i)/2)
    s0, a         Metropolis on log s0 and log (2/a)^1/2 given the sigma_i^2;  s0^1/2 ~ half-t, (2/a)^1/2 ~ half-normal

It shares no code with bayesimp and mixes slowly; only its stationary law matters.
"""

import numpy as np
from scipy.special import gammaln


def sample(X, Z, y, codes, clusters, prior, chains, iterations, seed):
    """Complete rows only. prior: (scale, nu, spread). Returns beta (C, T, p), B (C, T, m, q), Psi (C, T, q, q),
    sigma2 (C, T, m), s0_a (C, T, 2), burn-in included."""
    rng = np.random.default_rng(seed)
    (p, q), C, m = (X.shape[1], Z.shape[1]), chains, clusters
    member = (codes[:, None] == np.arange(m)).astype(float)
    ZZ = np.einsum("jm,jq,jk->mqk", member, Z, Z)
    beta, B = rng.normal(size=(C, p)), np.zeros((C, m, q))
    Psi = np.eye(q) * rng.gamma(2.0, size=(C, 1, 1))
    sigma2, log_s0, log_h = rng.gamma(2.0, size=(C, m)), np.zeros(C), rng.normal(-1.0, 0.5, size=C)
    kept = [], [], [], [], []
    for _ in range(iterations):
        weight = 1 / sigma2[:, codes]
        h = np.einsum("cj,jm,jq->cmq", (y - beta @ X.T) * weight, member, Z)
        B = normal(rng, np.linalg.inv(Psi)[:, None] + ZZ / sigma2[:, :, None, None], h)
        ZB = np.einsum("jq,cjq->cj", Z, B[:, codes])
        beta = normal(rng, np.einsum("cj,jp,jk->cpk", weight, X, X), ((y - ZB) * weight) @ X)
        Psi = inverse_wishart(rng, q + m, np.eye(q) + np.einsum("cmq,cmk->cqk", B, B))
        R = (y - beta @ X.T - ZB) ** 2 @ member
        a = 2 * np.exp(-2 * log_h)[:, None]
        shape, rate = (a + member.sum(0)) / 2, (a * np.exp(log_s0)[:, None] + R) / 2
        sigma2 = rate / rng.gamma(shape)
        for _ in range(3):
            proposed = log_s0 + 0.5 * rng.normal(size=C), log_h + 0.7 * rng.normal(size=C)
            gain = hyper_density(*proposed, sigma2, prior) - hyper_density(log_s0, log_h, sigma2, prior)
            take = np.log(rng.random(C)) < gain
            log_s0, log_h = np.where(take, proposed[0], log_s0), np.where(take, proposed[1], log_h)
        s0_a = np.column_stack([np.exp(log_s0), 2 * np.exp(-2 * log_h)])
        for store, value in zip(kept, (beta, B, Psi, sigma2, s0_a), strict=True):
            store.append(value)
    return tuple(np.stack(k, axis=1) for k in kept)


def hyper_density(log_s0, log_h, sigma2, prior):
    """Log density of (log s0, log h) given the variances: gamma densities of the precisions, and the priors."""
    scale, nu, spread = prior
    x, s0 = np.exp(-2 * log_h)[:, None], np.exp(log_s0)[:, None]
    gammas = x * np.log(x * s0) - gammaln(x) + (x - 1) * np.log(1 / sigma2) - x * s0 / sigma2
    half_t = 0.5 * log_s0 - (nu + 1) / 2 * np.log(1 + np.exp(log_s0) / (nu * scale**2))
    return gammas.sum(1) + half_t + log_h - np.exp(2 * log_h) / (2 * spread**2)


def normal(rng, precision, h):
    """N(precision^-1 h, precision^-1), stacked."""
    L = np.linalg.cholesky(precision)
    mean = np.linalg.solve(precision, h[..., None])
    return (mean + np.linalg.solve(L.swapaxes(-1, -2), rng.normal(size=(*h.shape, 1))))[..., 0]


def inverse_wishart(rng, df, scale):
    """(C, q, q), integer df: the inverse of a sum of df outer products of N(0, scale^-1)."""
    F = np.linalg.inv(np.linalg.cholesky(scale)).swapaxes(-1, -2)
    G = np.einsum("cqk,cdk->cdq", F, rng.normal(size=(len(scale), df, scale.shape[-1])))
    return np.linalg.inv(np.einsum("cdq,cdk->cqk", G, G))

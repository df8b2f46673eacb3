"""Two-stage imputation and Jolani's published algorithm written out: fits by SciPy, laws by plain simulation.

stage 1   b_i_hat, S_i by maximum likelihood in every cluster
stage 2   b_i_hat ~ N(W_i beta, Psi + S_i): REML (L* ~ N(L_hat, 2 H^-1)) or DerSimonian & Laird (p = 1, kept)
draws     beta* | Psi*;  b_i* | beta*, Psi*, b_i_hat;  without rows N(W_i beta*, Psi*)
"""

from __future__ import annotations

import numpy as np
from scipy import optimize

from tests.longhand.cells import log_density
from tests.longhand.laws import Rows, about_mode, hessian

__all__ = ["cluster_fits", "moments", "published", "reml", "two_stage"]


def cluster_fits(family, rows: Rows, clusters):
    """b_hat (n, p), S (n, p, p) of these clusters."""
    fits = []
    for i in clusters:
        own = rows.cluster == i
        y, trials, X = rows.y[own], rows.trials[own], rows.X[own]

        def log_target(b, y=y, trials=trials, X=X):
            return log_density(family, y, trials, (b @ X.T)[..., None], np.zeros((1, 0))).sum(-1)

        fits.append(about_mode(log_target, np.zeros(X.shape[1])))
    return np.array([b for b, _ in fits]), np.array([S for _, S in fits])


def _mean(b, S, W, Psi):
    """beta_hat and its covariance C at Psi (..., p, p); and sum log|V_i| + sum r_i'V_i^-1 r_i."""
    V = Psi[..., None, :, :] + S
    K = np.linalg.inv(V)
    C = np.linalg.inv((W.mT @ K @ W).sum(-3))
    beta = np.einsum("...kl,...il->...k", C, np.einsum("ipk,...ipq,iq->...ik", W, K, b))
    r = b - np.einsum("ipk,...k->...ip", W, beta)
    value = np.linalg.slogdet(V)[1].sum(-1) + np.einsum("...ip,...ipq,...iq->...", r, K, r)
    return beta, C, value


def _lower(theta, p):
    L = np.zeros((*theta.shape[:-1], p, p))
    L[..., *np.tril_indices(p)] = theta
    return L


def reml(rng, b, S, W, count):
    """Draws of Psi (count, p, p)."""
    p = b.shape[1]

    def deviance(theta):
        L = _lower(theta, p)
        _, C, value = _mean(b, S, W, L @ L.T)
        return value - np.linalg.slogdet(C)[1]

    spread = b.std(axis=0)
    starts = [_lower_of(np.diag(c * spread)) for c in (0.3, 1.0)]
    best = min((optimize.minimize(deviance, s, method="BFGS") for s in starts), key=lambda found: found.fun)
    V = 2 * np.linalg.inv(hessian(deviance, best.x))
    assert np.sqrt(np.diag(V)).max() < spread.max()  # the table determines all of L
    L = _lower(rng.multivariate_normal(best.x, V, count), p)
    return L @ L.mT


def _lower_of(L):
    return L[np.tril_indices(len(L))]


def moments(b, S):
    """The estimate of DerSimonian & Laird (1986), (1, 1)."""
    b, w = b[:, 0], 1 / S[:, 0, 0]
    Q = (w * (b - (w @ b) / w.sum()) ** 2).sum()
    return np.array([[max(0.0, (Q - (len(b) - 1)) / (w.sum() - (w**2).sum() / w.sum()))]])


def two_stage(rng, family, rows: Rows, T, fitted, failed, count, estimator="reml"):
    """Coefficients (count, m, p) of all m clusters; T (m, c) of cluster level; `failed` have rows but no estimate."""
    m, p, c = len(T), rows.X.shape[1], T.shape[1]
    W = np.zeros((m, p, p + c))
    W[:, range(p), range(p)], W[:, 0, p:] = 1, T
    b, S = cluster_fits(family, rows, fitted)
    if estimator == "reml":
        Psi = reml(rng, b, S, W[fitted], count)
    else:
        Psi = np.broadcast_to(moments(b, S), (count, 1, 1))
    beta, C, _ = _mean(b, S, W[fitted], Psi)
    beta = beta + np.einsum("skl,sl->sk", np.linalg.cholesky(C), rng.normal(size=beta.shape))
    mu, root = np.einsum("ipk,sk->sip", W, beta), np.linalg.cholesky(Psi)
    out = mu + np.einsum("spq,siq->sip", root, rng.normal(size=mu.shape))
    for k, i in enumerate(fitted):
        K, K_i = np.linalg.inv(Psi), np.linalg.inv(S[k])
        V = np.linalg.inv(K + K_i)
        mean = np.einsum("spq,sq->sp", V, np.einsum("spq,sq->sp", K, mu[:, i]) + K_i @ b[k])
        out[:, i] = mean + np.einsum("spq,sq->sp", np.linalg.cholesky(V), rng.normal(size=mean.shape))
    for i in failed:  # one of 500 draws without the rows, by their likelihood
        own = rows.cluster == i
        tried = mu[:, i, None] + rng.normal(size=(count, 500, p)) @ root.mT
        log = log_density(family, rows.y[own], rows.trials[own], (tried @ rows.X[own].T)[..., None],
                          np.zeros((1, 0))).sum(-1)  # fmt: skip
        chosen = (log + rng.gumbel(size=log.shape)).argmax(1)
        out[:, i] = tried[np.arange(count), chosen]
    return out


def published(rng, family, rows: Rows, incomplete, new, count, tries=250):
    """Jolani (2025), sec. 2.4, random intercepts: beta (count, p) and effects (count, clusters) by cluster.

    Fit: (beta, u) the joint mode given the standard deviation t of effects; t where f - sum log H_i / 2 is highest.
    """
    clusters, code = np.unique(rows.cluster, return_inverse=True)
    p, m = rows.X.shape[1], len(clusters)
    D = np.eye(m)[code]

    def at(t):
        full = np.column_stack([rows.X, t * D])

        def log_joint(theta):
            log = log_density(family, rows.y, rows.trials, (theta @ full.T)[..., None], np.zeros((1, 0))).sum(
                -1
            )
            return log - 0.5 * (theta[:, p:] ** 2).sum(-1)

        mode, V = about_mode(log_joint, np.zeros(p + m))
        H = np.linalg.inv(V)
        return log_joint(mode[None])[0] - 0.5 * np.log(np.diag(H)[p:]).sum(), mode, V

    t = optimize.minimize_scalar(lambda t: -at(t)[0], bounds=(0.05, 6), method="bounded").x
    _, mode, V = at(t)
    b_hat = t * mode[p:]
    beta = rng.multivariate_normal(mode[:p], V[:p, :p], count)
    sd = np.sqrt((b_hat**2).sum() / rng.chisquare(m, count))

    def log_p(eta, own):
        return log_density(family, rows.y[own], rows.trials[own], eta[..., None], np.zeros((1, 0))).sum(-1)

    effects = {i: sd * rng.normal(size=count) for i in new}
    for i in incomplete:
        own = rows.cluster == i
        bound = log_p(rows.X[own] @ mode[:p] + b_hat[clusters == i], own)
        b, waiting = np.empty(count), np.arange(count)
        for attempt in range(tries + 1):
            b[waiting] = sd[waiting] * rng.normal(size=len(waiting))
            if attempt == tries or not len(waiting):
                break
            ratio = log_p(beta[waiting] @ rows.X[own].T + b[waiting, None], own) - bound
            waiting = waiting[np.log(rng.random(len(waiting))) > ratio]
        effects[i] = b
    return beta, effects

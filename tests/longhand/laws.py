"""Posteriors of generalised linear models with and without cluster effects, by importance sampling and quadrature.

    eta_ij = x_ij' beta + z_ij' b_i,   b_i = L v_i,   v_i on a grid

No derivatives and no sampler: mode and curvature by SciPy, draws from a t about the mode, reweighted by the posterior in
which the effects are integrated out on the grid.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats
from scipy.special import expit

from tests.longhand.cells import Cell, Law, log_density

__all__ = ["Rows", "about_mode", "about_the_mode", "hessian", "hierarchical", "no_effects", "of_clusters"]


BLOCK = 50_000  # numbers in an array of temporary results


class Rows(NamedTuple):
    """Observed rows: y (n,), trials (n,), X (n, p), Z (n, q), cluster (n,)."""

    y: np.ndarray
    trials: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    cluster: np.ndarray


def hessian(f, x, h=1e-3):
    """Second derivatives by differences."""
    n, E = len(x), h * np.eye(len(x))
    H = np.empty((n, n))
    for a, b in product(range(n), range(n)):
        H[a, b] = (f(x + E[a] + E[b]) - f(x + E[a] - E[b]) - f(x - E[a] + E[b]) + f(x - E[a] - E[b])) / (
            4 * h * h
        )
    return H


def about_mode(log_target, start):
    """Mode and the inverse of minus the second derivatives there; log_target of (S, d)."""

    def negative(x):
        return -float(log_target(x[None])[0])

    found = optimize.minimize(negative, start, method="BFGS", options={"gtol": 1e-6})
    return found.x, np.linalg.inv(hessian(negative, found.x))


def importance(log_target, start, count, seed=0, df=6.0, wide=1.2):
    """Draws (count, d) and their normalised weights."""
    mode, V = about_mode(log_target, start)
    d = len(mode)
    u = stats.qmc.Sobol(d + 1, seed=seed).random(count)
    shrink = np.sqrt(df / stats.chi2(df).ppf(u[:, -1]))[:, None]
    step = stats.norm.ppf(u[:, :d]) * shrink
    draws = mode + wide * step @ np.linalg.cholesky(V).T
    log = log_target(draws) + 0.5 * (df + d) * np.log1p((step**2).sum(1) / df)
    weight = np.exp(log - np.nanmax(log))
    weight = np.where(np.isfinite(weight), weight, 0.0)
    return draws, weight / weight.sum()


def grid(q, places, width):
    """Places (K, q) of v, and logs of their chances under N(0, I)."""
    one = np.linspace(-width, width, places)
    v = np.array(list(product(one, repeat=q)))
    log = -0.5 * (v**2).sum(1)
    return v, log - np.log(np.exp(log).sum())


def _covariance_root(sds, z):
    """L (S, d, d) of logs of sds (S, d), d = 1, 2, and atanh of the correlation; log |dS / d(those)|."""
    s = np.exp(sds)
    if s.shape[1] == 1:
        return s[:, :, None], 2 * sds[:, 0]
    rho = np.tanh(z[:, 0])
    L = np.zeros((len(s), 2, 2))
    L[:, 0, 0], L[:, 1, 0], L[:, 1, 1] = s[:, 0], rho * s[:, 1], s[:, 1] * np.sqrt(1 - rho**2)
    return L, 3 * sds.sum(1) + np.log1p(-(rho**2))


def huang_wand(L, nu=2.0):
    """log p(S) = -(nu + 2 d)/2 log|S| - (nu + d)/2 sum log(nu K_kk + 1), K = S^-1, of scale one (a_k integrated out)."""
    d = L.shape[-1]
    K = np.linalg.inv(L @ L.mT)
    logs = np.log(np.diagonal(L, axis1=1, axis2=2)).sum(1)
    return -(nu + 2 * d) * logs - 0.5 * (nu + d) * np.log(nu * np.diagonal(K, axis1=1, axis2=2) + 1).sum(1)


def _aux(family, z):
    """Increments or the shape of their logs (S, a), and the log prior of these logs."""
    if family == "ordinal":
        return np.exp(z), (z - np.exp(z)).sum(1)  # increments ~ exponential(1)
    if family == "normal":  # z = log sigma, half-t(2, 1)
        return np.exp(2 * z), stats.t(2).logpdf(np.exp(z[:, 0])) + z[:, 0]
    if family == "student":  # z = log sigma, half-t(3, 1), and log(nu - 2), nu - 2 ~ Gamma(2, 1/10)
        sigma, excess = np.exp(z).T
        log = stats.t(3).logpdf(sigma) + stats.gamma(2, scale=10).logpdf(excess) + z.sum(1)
        return np.column_stack([sigma, 2 + excess]), log
    if family == "yeo_johnson":  # z = log sigma, half-t(3, 1), and logit(lambda / 2), lambda / 2 ~ Beta(2, 2)
        sigma, half = np.exp(z[:, 0]), expit(z[:, 1])
        log = stats.t(3).logpdf(sigma) + z[:, 0] + stats.beta(2, 2).logpdf(half) + np.log(half * (1 - half))
        return np.column_stack([sigma, 2 * half]), log
    if family.startswith(("zero_inflated", "hurdle")):
        # z = log shape^-1/2 where there is one, and logit zi or hu, ~ Beta(1, 1)
        log = stats.logistic.logpdf(z[:, -1])
        if z.shape[1] == 1:
            return expit(z), log
        log = log + stats.t(3).logpdf(np.exp(z[:, 0])) + z[:, 0]
        return np.column_stack([np.exp(-2 * z[:, 0]), expit(z[:, 1])]), log
    if z.shape[1]:  # z = log shape^-1/2, half-t(3, 1)
        return np.exp(-2 * z), stats.t(3).logpdf(np.exp(z[:, 0])) + z[:, 0]
    return z, np.zeros(len(z))


def _aux_size(family, levels):
    shaped = "normal", "negative_binomial", "gamma", "inverse_gaussian", "lognormal", "beta"
    if family in ("student", "yeo_johnson", "zero_inflated_negative_binomial", "hurdle_negative_binomial"):
        return 2
    if family in ("zero_inflated_poisson", "hurdle_poisson"):
        return 1
    return levels - 2 if family == "ordinal" else int(family in shaped)


def _unique(family, rows: Rows, i):
    """The distinct rows of a cluster, and the number of each."""
    own = rows.cluster == i
    table = np.column_stack([rows.y, rows.trials, rows.X, rows.Z])[own]
    distinct, count = np.unique(table, axis=0, return_counts=True)
    p = rows.X.shape[1]
    return Rows(
        distinct[:, 0], distinct[:, 1], distinct[:, 2 : 2 + p], distinct[:, 2 + p :], distinct[:, 0]
    ), count


def log_sum(log):
    """(S, 1) logarithm of the sum over the last axis of exp(log) (S, K); several times as fast as np.logaddexp."""
    top = log.max(axis=1, keepdims=True)
    return top + np.log(np.exp(log - top).sum(axis=1, keepdims=True))


def hierarchical(family, rows: Rows, cells: list[Cell], X, Z, *, mean, sd, levels=2, count=2048, places=49, width=6.0,
                 Psi=huang_wand):  # fmt: skip
    """`Law` of the cells.

    Parameters
    ----------
    X, Z
        (cells, p), (cells, q).
    mean, sd
        (p,): of the normal prior of every column of beta.
    Psi
        log p of its root L (S, rq, rq), or Psi itself where it is known.
    """
    p, q, r = rows.X.shape[1], rows.Z.shape[1], levels - 1 if family == "categorical" else 1
    a, d = _aux_size(family, levels), q * r
    known = None if callable(Psi) else np.linalg.cholesky(Psi)
    v, log_v = grid(d, places, width)
    parts = {i: _unique(family, rows, i) for i in np.unique(rows.cluster)}

    def read(theta):
        beta, rest = theta[:, : p * r].reshape(-1, r, p), theta[:, p * r :]
        log = stats.norm.logpdf(beta, mean, sd).sum((1, 2))
        aux, log_aux = _aux(family, rest[:, :a])
        if known is not None:
            return beta, aux, np.broadcast_to(known, (len(theta), d, d)), log + log_aux
        L, jacobian = _covariance_root(rest[:, a : a + d], rest[:, a + d :])
        return beta, aux, L, log + log_aux + jacobian + Psi(L)

    def eta(x, z, beta, L):
        """(S, K, J, r) of rows with predictors x (J, p), z (J, q)."""
        b = (v @ L.mT).reshape(len(L), len(v), r, q)
        return np.swapaxes((beta @ x.T)[:, None] + b @ z.T, 2, 3)

    def in_cluster(i, beta, aux, L):
        """(S, K) log p(y_i, v); as many rows at once as the cache of a processor holds."""
        log = np.broadcast_to(log_v, (len(beta), len(v))).copy()
        if i in parts:
            own, times = parts[i]
            step = max(BLOCK // log.size, 1)
            for j in (slice(first, first + step) for first in range(0, len(times), step)):
                e = eta(own.X[j], own.Z[j], beta, L)
                log += log_density(family, own.y[j], own.trials[j], e, aux[:, None, None]) @ times[j]
        return log

    def log_target(theta):
        beta, aux, L, log = read(theta)
        for i in parts:
            log = log + log_sum(in_cluster(i, beta, aux, L))[:, 0]
        return log

    start = np.zeros(p * r + a + (0 if known is not None else d * (d + 1) // 2))
    draws, weight = importance(log_target, start, count)
    keep = weight > 1e-7
    beta, aux, L, _ = read(draws[keep])
    weight = weight[keep] / weight[keep].sum()
    chance = {}
    for i in {cell.cluster for cell in cells}:
        log = in_cluster(i, beta, aux, L)
        chance[i] = np.exp(log - log_sum(log))
    etas = [eta(x[None], z[None], beta, L)[:, :, 0] for x, z in zip(X, Z, strict=True)]
    return Law(weight, etas, [chance[cell.cluster] for cell in cells], aux, 1 / (weight**2).sum())


def no_effects(beta, weight, X, aux, draws) -> Law:
    """`Law` of weighted draws of coefficients by cell: beta (S, r, p) of all cells, X (cells, p)."""
    etas = [(beta @ x)[:, None] for x in X]
    return Law(weight, etas, [np.ones((len(weight), 1))] * len(X), aux, draws)


def _fixed_log_target(family, rows: Rows, p, r, a, log_prior):
    """log p(y, theta) of (S, d) for coefficients (r, p) and an auxiliary parameter, not transformed (a,)."""

    def log_target(theta):
        beta, aux = theta[:, : p * r].reshape(-1, r, p), theta[:, p * r :]
        eta = np.einsum("srp,np->snr", beta, rows.X)
        inside = (aux > 0).all(1)
        log = log_density(family, rows.y, rows.trials, eta, np.where(inside[:, None], aux, 1.0)[:, None]).sum(
            1
        )
        return np.where(inside, log + log_prior(theta), -np.inf)

    return log_target


def about_the_mode(family, rows: Rows, X, *, mean, sd, levels=2, count=20_000, seed=0) -> Law:
    """`Law` of normal draws about the mode, for regressions whose terms are all columns of X (glm, sti).

    mean, sd: (p, r) and (p,); increments ~ Gamma(2, 1/2), draws with negative ones rejected.
    """
    p, r = rows.X.shape[1], levels - 1 if family == "categorical" else 1
    a = levels - 2 if family == "ordinal" else 0

    def log_prior(theta):
        log = stats.norm.logpdf(theta[:, : p * r].reshape(-1, r, p), mean.T, sd).sum((1, 2))
        return log + stats.gamma.logpdf(theta[:, p * r :], 2, scale=2).sum(1)

    start = np.r_[np.zeros((p, r)).T.ravel(), np.full(a, 1.5)]
    mode, V = about_mode(_fixed_log_target(family, rows, p, r, a, log_prior), start)
    draws = np.random.default_rng(seed).multivariate_normal(mode, V, count)
    draws = draws[(draws[:, p * r :] > 0).all(1)]
    n = len(draws)
    return no_effects(draws[:, : p * r].reshape(n, r, p), np.full(n, 1 / n), X, draws[:, p * r :], n)


def of_clusters(family, rows: Rows, X, *, mean, sd, levels=2, count=2048) -> Law:
    """`Law` of the exact posterior of a regression without effects; 2lonly: increments ~ Gamma(2, 1/2)."""
    p, r = rows.X.shape[1], levels - 1 if family == "categorical" else 1
    a = _aux_size(family, levels)

    def read(theta):
        z = theta[:, p * r :]
        aux, log = _aux(family, z)
        if family == "ordinal":
            log = (stats.gamma.logpdf(aux, 2, scale=2) + z).sum(1)
        return np.concatenate([theta[:, : p * r], aux], axis=1), log

    def log_prior(theta):
        return stats.norm.logpdf(theta[:, : p * r].reshape(-1, r, p), mean, sd).sum((1, 2))

    target = _fixed_log_target(family, rows, p, r, a, log_prior)

    def log_target(theta):
        natural, log = read(theta)
        return target(natural) + log

    draws, weight = importance(log_target, np.r_[np.tile(mean, r), np.zeros(a)], count)
    natural, _ = read(draws)
    return no_effects(
        natural[:, : p * r].reshape(-1, r, p), weight, X, natural[:, p * r :], 1 / (weight**2).sum()
    )

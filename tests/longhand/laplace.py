"""The Laplace log-likelihood of a generalised linear mixed model, written out in NumPy and SciPy."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from bayesimp.kernels.families.scalar import LOGIT, PROBIT


def log_density(rows, eta):
    """(n,) log p(y | eta), complete."""
    if rows.family in (LOGIT, PROBIT):
        p = special.expit(eta) if rows.family == LOGIT else special.ndtr(eta)
        return stats.binom.logpmf(rows.y, rows.trials, p)
    return stats.poisson.logpmf(rows.y, np.exp(eta))


def slopes(rows, eta):
    """Score and observed information of eta."""
    if rows.family == LOGIT:
        p = special.expit(eta)
        return rows.y - rows.trials * p, rows.trials * p * (1 - p)
    if rows.family == PROBIT:
        a, b = (np.exp(stats.norm.logpdf(eta) - special.log_ndtr(s * eta)) for s in (1, -1))
        failures = rows.trials - rows.y
        return rows.y * a - failures * b, rows.y * a * (a + eta) + failures * b * (b - eta)
    return rows.y - np.exp(eta), np.exp(eta)


def laplace(rows, beta, L):
    """Laplace log-likelihood, Newton's steps for all clusters at once."""
    m, q = len(rows.first) - 1, rows.Z.shape[1]
    g = np.repeat(np.arange(m), np.diff(rows.first))
    ZL, fixed = rows.Z @ L, rows.offset + rows.X @ beta
    u, outer = np.zeros((m, q)), np.einsum("na,nb->nab", ZL, ZL)
    for _ in range(200):
        score, information = slopes(rows, fixed + np.sum(ZL * u[g], axis=1))
        gradient, H = -u.copy(), np.tile(np.eye(q), (m, 1, 1))
        np.add.at(gradient, g, (rows.weight * score)[:, None] * ZL)
        np.add.at(H, g, (rows.weight * information)[:, None, None] * outer)
        step = np.linalg.solve(H, gradient[:, :, None])[:, :, 0]
        if np.abs(step).max() < 1e-11:
            break
        u += step / np.maximum(1.0, np.abs(step).max(axis=1) / 0.5)[:, None]
    value = np.sum(rows.weight * log_density(rows, fixed + np.sum(ZL * u[g], axis=1)))
    return value - 0.5 * np.sum(u**2) - 0.5 * np.sum(np.linalg.slogdet(H)[1])


def gradient(rows, beta, L, free, h=1e-4):
    """Gradient of `laplace` in (beta, theta), by central differences."""
    x = np.concatenate([beta, L[free[:, 0], free[:, 1]]])

    def value(x):
        root = np.zeros_like(L)
        root[free[:, 0], free[:, 1]] = x[len(beta) :]
        return laplace(rows, x[: len(beta)], root)

    return np.array([(value(x + s) - value(x - s)) / (2 * h) for s in h * np.eye(len(x))])


def marginal(rows, beta, L, nodes=60):
    """Log-likelihood of a model with one effect, by Gauss-Hermite quadrature on a fine grid."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    eta = (rows.offset + rows.X @ beta)[:, None] + rows.Z @ L * z
    tall = rows._replace(y=rows.y[:, None], trials=rows.trials[:, None])
    terms = np.add.reduceat(rows.weight[:, None] * log_density(tall, eta), rows.first[:-1])
    return np.sum(special.logsumexp(terms, axis=1, b=w / np.sqrt(2 * np.pi)))

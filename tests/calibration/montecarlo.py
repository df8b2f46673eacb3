"""Comparing Monte Carlo draws with their target, in Monte Carlo standard errors.

Every function returns one p-value: the smallest of its comparisons times their number (Bonferroni), so that
a right sampler gives less than `a` with probability at most about `a`. Tests accept above LEVEL, and have a
wrong variant that falls below REJECTED.
"""

import numpy as np
from scipy.stats import kstest, norm

LEVEL = 1e-4
REJECTED = 1e-6


def bonferroni(p_values) -> float:
    p_values = np.ravel(p_values)
    return float(min(1.0, p_values.min() * p_values.size))


def means(draws, expected) -> float:
    """Independent draws (S, ...) against the means (...) they should have."""
    S = len(draws)
    standard_error = draws.std(axis=0, ddof=1) / np.sqrt(S)
    gap = np.abs(draws.mean(axis=0) - expected)
    exact = standard_error < 1e-12  # no randomness: round-off only
    z = np.where(exact, np.where(gap < 1e-8, 0.0, np.inf), gap / np.where(exact, 1.0, standard_error))
    return bonferroni(2 * norm.sf(z))


def two_samples(a, b) -> float:
    """Means of independent draws a (S, ...) and b (S', ...)."""
    variance = a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b)
    gap = np.abs(a.mean(axis=0) - b.mean(axis=0))
    return bonferroni(2 * norm.sf(gap / np.sqrt(np.maximum(variance, 1e-20))))


def with_products(draws) -> np.ndarray:
    """(S, d) -> (S, d + d(d+1)/2): the draws and all their products, whose means are the second moments."""
    i, j = np.tril_indices(draws.shape[1])
    return np.column_stack([draws, draws[:, i] * draws[:, j]])


def normal(draws, mean, covariance) -> float:
    """Draws (S, d) against N(mean, covariance): first and second moments after whitening."""
    w = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean).T).T
    d = w.shape[1]
    i, j = np.tril_indices(d)
    return means(with_products(w), np.concatenate([np.zeros(d), (i == j).astype(float)]))


def distributions(pairs) -> float:
    """[(draws (S,), frozen scipy distribution), ...] by Kolmogorov-Smirnov."""
    return bonferroni([kstest(draws, law.cdf).pvalue for draws, law in pairs])


def batch_means(chains, batches: int = 20):
    """Mean of chains (C, D, ...) and its standard error, from `batches` batches of every chain."""
    C, D = chains.shape[:2]
    cut = chains[:, : D // batches * batches].reshape(C * batches, D // batches, *chains.shape[2:])
    each = cut.mean(axis=1)
    return each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(len(each))

"""Are ranks uniform? Säilynoja, Bürkner & Vehtari's (2022) exact test of their empirical distribution function.

With n ranks in K equal bins, the count c_k in the first k bins is Binomial(n, k/K) if ranks are uniform. The statistic is
the most extreme pointwise tail probability; its distribution follows from

    c_k - c_(k-1) | c_(k-1) ~ Binomial(n - c_(k-1), 1 / (K - k + 1))
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

__all__ = ["envelope", "uniformity"]

Array = NDArray[np.float64]


@cache
def _null(n: int, bins: int) -> tuple[Array, Array]:
    """Pointwise tail probabilities (bins - 1, n + 1) and transitions (bins - 1, n + 1, n + 1)."""
    counts = np.arange(n + 1)
    share = np.arange(1, bins)[:, None] / bins
    tails = 2 * np.minimum(binom.cdf(counts, n, share), binom.sf(counts - 1, n, share))
    steps = np.array([
        binom.pmf(counts[None, :] - counts[:, None], n - counts[:, None], 1 / (bins - k)) for k in range(bins - 1)
    ])  # fmt: skip
    return tails, steps


def uniformity(ranks: ArrayLike, highest: int) -> float:
    """P(more extreme than these ranks, 0 .. highest | uniform)."""
    bins = highest + 1
    ranks = np.asarray(ranks)
    tails, _ = _null(len(ranks), bins)
    counts = np.cumsum(np.bincount(ranks, minlength=bins))[:-1]
    return _beyond(len(ranks), bins, float(tails[np.arange(bins - 1), counts].min()))


def _beyond(n: int, bins: int, statistic: float) -> float:
    """P(the most extreme tail probability is at most this)."""
    tails, steps = _null(n, bins)
    inside = tails > statistic * (1 + 1e-9)
    probability = np.zeros(n + 1)
    probability[0] = 1.0
    for k in range(bins - 1):
        probability = np.where(inside[k], probability @ steps[k], 0.0)
    return max(float(1.0 - probability.sum()), 1e-16)  # rounding errors


def envelope(n: int, highest: int, level: float = 0.95) -> Array:
    """(2, highest) limits between which all cumulated counts of uniform ranks lie with at least this probability."""
    bins = highest + 1
    tails, _ = _null(n, bins)
    low, high = 0.0, 1.0
    for _ in range(40):  # bisection for the largest statistic that is rare enough
        middle = (low + high) / 2
        low, high = (middle, high) if _beyond(n, bins, middle) <= 1 - level else (low, middle)
    inside = tails > low
    return np.array([inside.argmax(axis=1), n - inside[:, ::-1].argmax(axis=1)], dtype=float)

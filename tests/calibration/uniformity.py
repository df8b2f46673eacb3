"""Are ranks uniform? An exact test on their empirical distribution function.

With n ranks in K equal bins, the count c_k in the first k bins is Binomial(n, k/K) if ranks are uniform. The
test statistic is the most extreme of these, t = min_k 2 min(P(C_k <= c_k), P(C_k >= c_k)); its null law
follows from c_k - c_{k-1} | c_{k-1} ~ Binomial(n - c_{k-1}, 1/(K - k + 1))  (Sailynoja et al. 2022).
"""

from functools import cache

import numpy as np
from scipy.stats import binom

BINS = 20


@cache
def _null(n: int, bins: int):
    """Pointwise tail probabilities (bins-1, n+1) and transitions (bins-1, n+1, n+1)."""
    counts = np.arange(n + 1)
    share = np.arange(1, bins)[:, None] / bins
    tails = 2 * np.minimum(binom.cdf(counts, n, share), binom.sf(counts - 1, n, share))
    steps = np.empty((bins - 1, n + 1, n + 1))
    for k in range(bins - 1):
        steps[k] = binom.pmf(counts[None, :] - counts[:, None], n - counts[:, None], 1 / (bins - k))
    return tails, steps


def p_value(ranks, highest: int, bins: int = BINS) -> float:
    """P(more extreme than these ranks, 0..highest | uniform). `bins` divides highest + 1."""
    if (highest + 1) % bins:
        raise ValueError(f"{highest + 1} ranks do not fall into {bins} equal bins")
    n = len(ranks)
    tails, steps = _null(n, bins)
    counts = np.cumsum(np.bincount(np.asarray(ranks) * bins // (highest + 1), minlength=bins))[:-1]
    statistic = tails[np.arange(bins - 1), counts].min()
    inside = tails > statistic * (1 + 1e-9)
    probability = np.zeros(n + 1)
    probability[0] = 1.0
    for k in range(bins - 1):
        probability = np.where(inside[k], probability @ steps[k], 0.0)
    return max(float(1.0 - probability.sum()), 1e-16)  # round-off

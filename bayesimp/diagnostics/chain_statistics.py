"""R-hat and effective sample sizes of many quantities at once (Vehtari et al. 2021).

x has S = M n draws in M half-chains of n (each chain is split in the middle, and its middle draw left out if their number
is odd). With B/n the variance of the half-chains' means, W the mean of their variances and g_t the mean of their
autocovariances at lag t (denominator n),

    R-hat^2  = (B/W + n - 1) / n                                               (eq. 1-4)
    rho_t    = 1 - (W - g_t) / V,    V = W (n - 1)/n + B/n                     (eq. 10)
    ESS      = S / tau,              tau = -1 + 2 sum_{j < J} P_j + max(rho_2J, 0)
    P_j      = rho_2j + rho_2j+1, each at most its predecessor, up to the first, J, that is not positive (Geyer 1992)

and tau at least 1/log10 S. R-hat is the larger of that of the normal scores of the draws and of their distances from the
median; the bulk ESS is that of the normal scores, the tail ESS the smaller of those of the indicators of two quantiles.
These are the numbers of ArviZ, to rounding (`tests/diagnostics/test_chain_statistics.py`), which goes through quantities
one by one and sorts each five times: that took a third as long as the sampler of a default imputation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special, stats

__all__ = ["autocovariances", "effective_size", "normal_scores", "r_hat", "split", "tail_size"]

Array = NDArray[np.float64]
BLOCK = 1 << 20  # numbers treated at once: work arrays stay in the cache


def in_blocks(function: Callable[[Array], Array], x: Array) -> Array:
    """function of x (k, chains, n) by blocks of quantities."""
    size = max(1, BLOCK // max(1, x[0].size)) if len(x) else 1
    return np.concatenate([function(x[at : at + size]) for at in range(0, max(len(x), 1), size)])


def split(x: Array) -> Array:
    """(k, 2 chains, n) the halves of the chains of x (k, chains, draws)."""
    half = x.shape[2] // 2
    return np.concatenate([x[:, :, :half], x[:, :, -half:]], axis=1)


def normal_scores(x: Array) -> Array:
    """Normal scores of the ranks of x (k, chains, n) among all draws of a quantity (eq. 14)."""
    flat = x.reshape(len(x), -1)
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    scores = np.empty_like(flat, dtype=float)
    size = flat.shape[1]
    by_rank = special.ndtri((np.arange(1, size + 1) - 0.375) / (size + 0.25))
    np.put_along_axis(scores, order, by_rank[None], axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if tied.any():
        scores[tied] = special.ndtri((stats.rankdata(flat[tied], axis=1) - 0.375) / (size + 0.25))
    return scores.reshape(x.shape)


def autocovariances(z: Array) -> Array:
    """(k, n) autocovariances of z (k, M, n), denominator n, chains centred at their own means, averaged over chains."""
    n = z.shape[2]
    size = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(z - z.mean(axis=2, keepdims=True), size, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)
    return fft.irfft(power, size, axis=1)[:, :n] / n


def effective_size(z: Array) -> Array:
    """(k,) effective sample sizes of the means of half-chains z (k, M, n); S where all draws are equal."""
    _, M, n = z.shape
    g = autocovariances(z)
    W = g[:, 0] * n / (n - 1.0)
    V = g[:, 0] + z.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1.0 - (W[:, None] - g) / V[:, None]
    rho[:, 0] = 1.0
    last = max((n - 3) // 2, 0)  # the last pair that may be reached
    pairs = rho[:, 0 : 2 * last + 2 : 2] + rho[:, 1 : 2 * last + 2 : 2]
    ends = ~(pairs > 0.0)
    ends[:, last] = True
    J = ends.argmax(axis=1)
    monotone = np.minimum.accumulate(pairs, axis=1)
    inside = np.arange(last + 1) < J[:, None]
    rows = np.arange(len(z))
    rest = rho[rows, 2 * J]
    rest = np.where((rest > 0.0) | (pairs[rows, J] >= 0.0), rest, 0.0)
    tau = -1.0 + 2.0 * np.where(inside, monotone, 0.0).sum(axis=1) + np.where(J > 0, rest, 1.0)
    size = M * n
    found = size / np.maximum(tau, 1.0 / np.log10(size))
    equal = np.ptp(z, axis=(1, 2)) < np.finfo(float).resolution
    return np.where(equal, float(size), np.where(np.isnan(V), np.nan, found))


def r_hat(z: Array) -> Array:
    """(k,) R-hat of half-chains z (k, M, n)."""
    n = z.shape[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = n * z.mean(axis=2).var(axis=1, ddof=1) / z.var(axis=2, ddof=1).mean(axis=1)
    return np.sqrt((ratio + n - 1.0) / n)


def tail_size(x: Array, levels: tuple[float, float]) -> Array:
    """(k,) the smaller effective sample size of the indicators of two quantiles of x (k, chains, draws)."""
    at = np.quantile(x.reshape(len(x), -1), levels, axis=1)
    low, high = (effective_size(split((x <= q[:, None, None]).astype(float))) for q in at)
    return np.minimum(low, high)

"""The limit of R-hat for chains that mix: how large it can be by chance.

M half-chains of n draws each, with autocorrelation time tau, whose means differ only by chance, have (B between,
W within; Vehtari et al. 2021, eq. 1-4),

    R-hat^2 = 1 - 1/n + B/(n W),      B/(n W) ~ (tau/n) chi2_{M-1} / (M - 1).

So R-hat^2 exceeds 1 by about (tau - 1)/n however many chains there are, and the largest over K quantities by more. A
quantity passes if R-hat^2 is at most

    limit^2 = 1.01^2 + (tau q - 1)/n,   q = the 1 - alpha/K quantile of chi2_{M-1} / (M - 1),  alpha = .01:

The limit is 1.01 for long chains, as published (sec. 4.1), plus what Monte Carlo error explains for short ones. tau is
computed *within* chains, so that chains which stay apart do not raise their own limit. It can be estimated only if it
is small relative to their length N = 2 n, and is cut off at max(3, N/12).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["R_HAT_LIMIT", "autocorrelation_time", "normal_scores", "r_hat_limit"]

R_HAT_LIMIT = 1.01  # Vehtari et al. 2021, sec. 4.1
ALPHA = 0.01  # probability that chains that mix fail in some quantity
SHORTEST, SHARE = (
    3.0,
    1 / 12,
)  # longest autocorrelation time that is trusted: in draws, and as a share of the chain

Array = NDArray[np.float64]


def r_hat_limit(x: Array, checked: int | None = None) -> Array:
    """The largest R-hat (k,) that passes for quantities x (chains, draws, k); checked: K, by default k."""
    n, M = x.shape[1] // 2, 2 * x.shape[0]
    folded = np.abs(
        x - np.median(x, axis=(0, 1))
    )  # R-hat is the larger of that of the draws and of their distances
    tau = np.maximum(*(autocorrelation_time(normal_scores(part)) for part in (x, folded)))
    tau = np.clip(tau, 1.0, max(SHORTEST, SHARE * x.shape[1]))
    q = stats.chi2.ppf(1 - ALPHA / (checked or x.shape[2]), M - 1) / (M - 1)
    return np.sqrt(R_HAT_LIMIT**2 + np.maximum(tau * q - 1, 0.0) / n)


def normal_scores(x: Array) -> Array:
    """Normal scores of ranks over all draws (Vehtari et al. 2021, eq. 14)."""
    flat = x.reshape(-1, x.shape[-1])
    ranks = stats.rankdata(flat, axis=0)
    return stats.norm.ppf((ranks - 0.375) / (len(flat) + 0.25)).reshape(x.shape)


def autocorrelation_time(z: Array) -> Array:
    """tau = 1 + 2 (rho_1 + rho_2 + ...), (k,), within chains z (M, n, k), by Geyer's initial monotone sequence.

    Chains are centred at their own means, which reduces every autocovariance by about s tau/n (s: the variance). With
    the sum S of those up to lag T, and g_0 that at lag 0, both uncorrected,

        s tau = S + (2 T + 1) s tau/n   and   s = g_0 + s tau/n.
    """
    M, n, k = z.shape
    centred = z - z.mean(axis=1, keepdims=True)
    power = np.zeros((n + 1, k))
    for chain in centred:
        power += np.abs(np.fft.rfft(chain, 2 * n, axis=0)) ** 2
    g = np.fft.irfft(power, axis=0)[:n] / (M * n)
    rho = g / np.where(g[0] > 0, g[0], 1.0)
    pairs = np.minimum.accumulate(rho[0 : n // 2 * 2 : 2] + rho[1 : n // 2 * 2 : 2], axis=0)
    kept = np.cumprod(pairs > 0, axis=0)
    S, T = 2 * (pairs * kept).sum(axis=0) - 1, 2 * kept.sum(axis=0) - 1
    s_tau = S / np.maximum(1 - (2 * T + 1) / n, 0.25)
    return s_tau / (1 + s_tau / n)

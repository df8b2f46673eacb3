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

from bayesimp.diagnostics.chain_statistics import autocovariances

__all__ = ["R_HAT_LIMIT", "autocorrelation_time", "r_hat_limit"]

R_HAT_LIMIT = 1.01  # Vehtari et al. 2021, sec. 4.1
ALPHA = 0.01  # probability that chains that mix fail in some quantity
SHORTEST, SHARE = (
    3.0,
    1 / 12,
)  # longest autocorrelation time that is trusted: in draws, and as a share of the chain

Array = NDArray[np.float64]


def r_hat_limit(z: Array, folded: Array, checked: int | None = None) -> Array:
    """The largest R-hat (k,) that passes.

    z, folded (k, 2 chains, n): normal scores of the half-chains (`chain_statistics.split`) of the draws, and of their
    distances from the median; R-hat is the larger of both. checked: K, by default k.
    """
    k, M, n = z.shape
    tau = np.maximum(*(autocorrelation_time(joined(part)) for part in (z, folded)))
    tau = np.clip(tau, 1.0, max(SHORTEST, SHARE * 2 * n))
    q = stats.chi2.ppf(1 - ALPHA / (checked or k), M - 1) / (M - 1)
    return np.sqrt(R_HAT_LIMIT**2 + np.maximum(tau * q - 1, 0.0) / n)


def joined(halves: Array) -> Array:
    """(k, chains, 2 n) the chains of half-chains (k, 2 chains, n)."""
    chains = halves.shape[1] // 2
    return np.concatenate([halves[:, :chains], halves[:, chains:]], axis=2)


def autocorrelation_time(z: Array) -> Array:
    """tau = 1 + 2 (rho_1 + rho_2 + ...), (k,), within chains z (k, M, n), by Geyer's initial monotone sequence.

    Chains are centred at their own means, which reduces every autocovariance by about s tau/n (s: the variance). With
    the sum S of those up to lag T, and g_0 that at lag 0, both uncorrected,

        s tau = S + (2 T + 1) s tau/n   and   s = g_0 + s tau/n.
    """
    n = z.shape[2]
    g = autocovariances(z)
    rho = g / np.where(g[:, :1] > 0, g[:, :1], 1.0)
    pairs = np.minimum.accumulate(rho[:, 0 : n // 2 * 2 : 2] + rho[:, 1 : n // 2 * 2 : 2], axis=1)
    kept = np.cumprod(pairs > 0, axis=1)
    S, T = 2 * (pairs * kept).sum(axis=1) - 1, 2 * kept.sum(axis=1) - 1
    s_tau = S / np.maximum(1 - (2 * T + 1) / n, 0.25)
    return s_tau / (1 + s_tau / n)

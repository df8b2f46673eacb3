"""Power-scaling of pooled answers: how they move when the prior, or the likelihood, counts a little more.

With theta the parameters of the imputation model, g(theta) its prior or its likelihood, and y_mis the missing values,

    p_a(theta, y_mis | y_obs) ~ g(theta)^(a - 1) p(theta, y_mis | y_obs)           Kallioinen et al. 2024, eq. 1-4

Imputation k is a draw (theta_k, y_mis,k) at a = 1, so its weight at a is w_k ~ g(theta_k)^(a - 1), and for any f of the
completed table

    d E_a f / d log2 a  at a = 1  =  log 2  Cov(f, log g)                          over imputations

A pooled number h(Q, u, b) depends on three such means: of the estimates Q_k, of their variances U_k, and of the squares
(Q_k - Q)^2, b. Its slope is the gradient of h times their slopes, and its Monte Carlo error is that of the mean of

    log 2  gradient' [ (F_k - F) (l_k - l) - Cov(F, l) ],     F_k = (Q_k, U_k, (Q_k - Q)^2),    l_k = log g(theta_k)

computed from the effective sample size of that series, because successive draws of a chain are correlated. At a power a,
Rubin's rules with weights w, of sum 1 and smoothed (Vehtari, Simpson, Gelman, Yao & Gabry 2024), are

    Q = sum w Q_k,   u = sum w U_k,   b = sum w (Q_k - Q)^2 / (1 - sum w^2),   t = u + (1 + 1/M) b

with M as at a = 1, so that the answer changes and not the number of imputations behind it; the effective number,
1 / sum w^2, is reported with the answer.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.analysis.monte_carlo import rubin_numbers

__all__ = ["FEWEST", "NUMBERS", "SMOOTHED", "Slopes", "Weighted", "pareto_limit", "slopes", "weighted"]

Array = NDArray[np.float64]
NUMBERS = ("estimate", "std.error", "conf.low", "conf.high")
STEP = 1e-4  # relative step of central differences
SMOOTHED = 25  # imputations from which a Pareto tail of five weights can be fitted
FEWEST = 4  # draws per chain from which an effective sample size can be computed


class Slopes(NamedTuple):
    """Slopes of pooled numbers in log2 of the power, at power 1, and their Monte Carlo errors: name -> (k,)."""

    slope: dict[str, Array]
    mc_error: dict[str, Array]


class Weighted(NamedTuple):
    """Pooled numbers at a power, name -> (k,), and diagnostics of the weights.

    Attributes
    ----------
    numbers
        Named as in `NUMBERS`.
    mc_error
        (k,) Monte Carlo error of the change of the estimate.
    pareto_k, ess
        Pareto's k and effective sample size of the weights.
    """

    numbers: dict[str, Array]
    mc_error: Array
    pareto_k: float
    ess: float


def slopes(Q: Array, U: Array, log_g: Array, dfcom: Array, level: float, chains: int) -> Slopes:
    """Slopes of the pooled estimate, its standard error and the limits of its interval.

    Parameters
    ----------
    Q, U
        (M, k) estimates and variances of imputations; imputation i is from chain i % chains.
    log_g
        (M,) log prior or log likelihood of the parameters behind the imputations.
    dfcom
        (k,) degrees of freedom of the complete data.
    level
        Level of the interval.
    chains
        Number of chains.
    """
    M = len(Q)
    mean = Q.mean(axis=0)
    F = np.stack([Q, U, (Q - mean) ** 2 * M / (M - 1)])  # (3, M, k)
    centred = F - F.mean(axis=1, keepdims=True)
    products = centred * (log_g - log_g.mean())[:, None] * M / (M - 1)
    covariance = products.mean(axis=1)  # (3, k)
    gradients = _gradients(F.mean(axis=1), M, dfcom, level)
    slope = {name: np.log(2) * (g * covariance).sum(axis=0) for name, g in gradients.items()}
    error = {
        name: np.log(2) * _error_of_mean(np.einsum("jk,jmk->mk", g, products - covariance[:, None]), chains)
        for name, g in gradients.items()
    }
    return Slopes(slope, error)


def _gradients(F: Array, M: int, dfcom: Array, level: float) -> dict[str, Array]:
    """Derivatives (3, k) of each pooled number in Q, u and b, by central differences; F (3, k)."""
    unit = np.sqrt(F[1] + F[2])
    steps = STEP * np.stack([unit, unit**2, unit**2])
    out = {name: np.zeros_like(F) for name in NUMBERS}
    for j in range(3):
        low, high = F.copy(), F.copy()
        low[j] -= steps[j]
        high[j] += steps[j]
        low[1:] = np.maximum(low[1:], 0.0)  # b of a term without missing information is 0
        width = high[j] - low[j]
        down, up = (rubin_numbers(f[:1], f[1:2], f[2:], M, dfcom, level) for f in (low, high))
        for name in NUMBERS:
            out[name][j] = (up[name] - down[name])[0] / width
    return out


def _error_of_mean(series: Array, chains: int) -> Array:
    """(k,) standard errors of the means of numbers (M, k) that are autocorrelated within their chains."""
    from arviz_stats.base import array_stats

    M = len(series)
    plain = series.std(axis=0, ddof=1) / np.sqrt(M)
    draws = M // chains
    if draws < FEWEST:
        return plain
    by_chain = series[: draws * chains].reshape(draws, chains, -1).transpose(2, 1, 0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        ess = np.array([array_stats.ess(x, method="mean") if np.ptp(x) > 0 else M for x in by_chain])
    return np.asarray(series.std(axis=0, ddof=1) / np.sqrt(np.where(np.isfinite(ess), ess, M)))


def weighted(Q: Array, U: Array, log_g: Array, power: float, dfcom: Array, level: float) -> Weighted:
    """Pooled numbers at a power of the prior or the likelihood, by weights; arguments as for `slopes`."""
    from arviz_stats.base import array_stats

    M = len(Q)
    raw = (power - 1.0) * log_g
    smooth, k = raw, np.inf
    if M >= SMOOTHED:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the result itself reports a large k
            smooth, k = array_stats.psislw(-raw)
    w = np.exp(smooth - smooth.max())
    w /= w.sum()
    mean = w @ Q
    ubar, b = w @ U, w @ (Q - mean) ** 2 / (1.0 - (w**2).sum())
    numbers = rubin_numbers(mean[None], ubar[None], b[None], M, dfcom, level)
    moved = w[:, None] * (Q - mean) - (Q - Q.mean(axis=0)) / M
    return Weighted(
        {name: numbers[name][0] for name in NUMBERS},
        np.sqrt((moved**2).sum(axis=0)),
        float(k),
        float(1.0 / (w**2).sum()),
    )


def pareto_limit(M: int) -> float:
    """The largest k at which M weights are reliable, min(1 - 1 / log10 M, 0.7); Vehtari et al. 2024, sec. 3.2.4."""
    return float(min(1.0 - 1.0 / np.log10(M), 0.7)) if M > 1 else 0.0

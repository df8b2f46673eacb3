"""Monte Carlo errors of pooled numbers, and the number of imputations needed to make them small.

With M independent imputations of the same data, the Monte Carlo standard errors of pooled numbers are about

    estimate                       sqrt(b / M)
    any function theta of all M    sqrt((M - 1) / M  sum_l (theta_(-l) - mean theta_(-l))^2)

The second is the jackknife over imputations, with theta_(-l) computed from all but the l-th (Royston, Carlin & White
2009, sec. 2; White, Royston & Wood 2011, sec. 7.3); for the estimate the two agree exactly. The numbers of imputations
that suffice are

    for the estimate      M >= b / (share std.error)^2              Monte Carlo error at most a share of the std.error
    for the std.error     M >= 1 + (gamma_high / cv)^2 / 2          coefficient of variation between runs at most cv
                          logit gamma_high = logit gamma + 1.96 sqrt(2 / M)

with gamma the fraction of missing information from the imputations so far (von Hippel 2020, eqs 2 and 9, in two stages:
a pilot gives gamma, and its upper limit gives M). The upper limit is used because a few imputations say little about
gamma.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.special import expit, logit

from bayesimp.analysis.pool import barnard_rubin
from bayesimp.errors import SpecificationError

__all__ = ["enough_imputations", "jackknife", "monte_carlo_errors", "rubin_numbers"]

Array = NDArray[np.float64]
CV = 0.05  # coefficient of variation of the standard error; von Hippel 2020, sec. 5
SHARE = 0.1  # Monte Carlo error of the estimate, in standard errors; White, Royston & Wood 2011, sec. 7.3
# degrees of freedom with which t is normal to eight figures; SciPy's functions do not take infinity
INFINITE = 1e8
LEAST = 3  # fewest imputations for the jackknife


def monte_carlo_errors(
    Q: ArrayLike, U: ArrayLike, df_complete: ArrayLike = np.inf, level: float = 0.95
) -> dict[str, Array]:
    """Monte Carlo errors of the results of Rubin's rules.

    Parameters
    ----------
    Q, U
        (M, k) estimates and their variances.
    df_complete
        Complete-data degrees of freedom, a number or (k,).
    level
        Confidence level of the intervals.

    Returns
    -------
    estimate, std.error, df, p.value, conf.low, conf.high, fmi: (k,) each, nan if M < 3.
    """
    Q, U = np.asarray(Q, dtype=float), np.asarray(U, dtype=float)
    M, k = Q.shape
    dfcom = np.broadcast_to(np.asarray(df_complete, dtype=float), (k,))
    if M < LEAST:
        return {
            name: np.full(k, np.nan)
            for name in rubin_numbers(Q[:1], U[:1], np.zeros((1, k)), 2, dfcom, level)
        }
    # means and variances without imputation l, from those of all
    mean, ubar = Q.mean(axis=0), U.mean(axis=0)
    d = Q - mean
    without = mean - d / (M - 1)
    S = (d**2).sum(axis=0)
    b = np.maximum(S - d**2 * M / (M - 1), 0.0) / (M - 2)
    left = rubin_numbers(without, ubar - (U - ubar) / (M - 1), b, M - 1, dfcom, level)
    return {name: jackknife(values) for name, values in left.items()}


def rubin_numbers(Q: Array, ubar: Array, b: Array, M: int, dfcom: Array, level: float) -> dict[str, Array]:
    """Results of Rubin's rules from mean estimates, mean variances and between variances, all (replicates, k)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = ubar + (1 + 1 / M) * b
        lambda_ = (1 + 1 / M) * b / t
        df = barnard_rubin(lambda_, M, dfcom)
        se = np.sqrt(t)
        law = np.where(df > 0, np.minimum(df, INFINITE), np.nan)
        half = special.stdtrit(law, 0.5 + level / 2) * se
        p = 2 * special.stdtr(law, -np.abs(Q / se))
    return {
        "estimate": Q, "std.error": se, "df": df, "p.value": p, "conf.low": Q - half, "conf.high": Q + half,
        "fmi": lambda_ + (1 - lambda_) * 2 / (df + 3),
    }  # fmt: skip


def jackknife(left_out: ArrayLike) -> Array:
    """Jackknife standard errors (k,) from leave-one-out values (M, k); nan where some are not finite."""
    x = np.asarray(left_out, dtype=float)
    M = len(x)
    with np.errstate(invalid="ignore"):
        return np.sqrt((M - 1) / M * ((x - x.mean(axis=0)) ** 2).sum(axis=0))


def enough_imputations(
    b: ArrayLike, std_error: ArrayLike, fmi: ArrayLike, m: int, *, share: float = SHARE, cv: float = CV
) -> pd.DataFrame:
    """The number of imputations that each pooled number needs.

    Parameters
    ----------
    b, std_error, fmi
        (k,) variance between imputations, pooled standard error, fraction of missing information.
    m
        Number of imputations that they come from.
    share
        Largest Monte Carlo error of the estimate, in standard errors.
    cv
        Largest coefficient of variation of the standard error.

    Returns
    -------
    DataFrame: ``mc.error``; ``mc.share``, the same in standard errors; ``fmi.high``, the 97.5 % limit of fmi;
    ``for.estimate``, ``for.std.error`` and the larger of the two, ``needed`` (nan if there is no standard error).

    Raises
    ------
    SpecificationError
        `share` or `cv` is not above zero.
    """
    for name, value in (("share", share), ("cv", cv)):
        if not value > 0:
            raise SpecificationError(
                f"{name} = {value!r}: give a number above 0, such as {SHARE if name == 'share' else CV}."
            )
    b, se, gamma = (np.asarray(x, dtype=float) for x in (b, std_error, fmi))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(b / m)
        high = np.where(
            gamma > 0, expit(logit(np.minimum(gamma, 1.0)) + special.ndtri(0.975) * np.sqrt(2 / m)), gamma
        )
        of_estimate = np.maximum(np.ceil(b / (share * se) ** 2 - 1e-9), 2.0)
        of_error = np.ceil(1 + (high / cv) ** 2 / 2 - 1e-9)
    columns = {"mc.error": error, "mc.share": error / se, "fmi.high": high, "for.estimate": of_estimate,
               "for.std.error": of_error, "needed": np.maximum(of_estimate, of_error)}  # fmt: skip
    return pd.DataFrame(columns)

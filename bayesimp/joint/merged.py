"""The working scale from sufficient statistics alone, so that tables that cannot be pooled can share a scale.

Each holder of rows collects statistics in the units of the data (`kernels.normal.statistics.collect`, with cluster codes
that all holders agree on). Their sum contains the cross products needed by the formulas of scale.py:

    X'X = N T^-T T^-1,    beta_0k = (X'X)_k^-1 (X'Y)_k,    s_k^2 = (Y'Y - (1'Y)^2 / n_k)_k / (n_k - 1)

where (.)_k sums over the rows in which response k is observed. Squaring loses half of the digits, so columns that are
many standard deviations away from 0 must be centred first; `prepare`, which works on rows, does not need this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.joint.scale import Scale
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.scale.margins import margins

__all__ = ["scale_from_statistics"]

Array = NDArray[np.float64]
CONSTANT = 1e-12  # variance of a column, relative to its mean square, below which it counts as constant
DEPENDENT = 1e-12  # smallest pivot of the scaled X'X below which columns of X count as dependent


def scale_from_statistics(
    statistics: SufficientStatistics, responses: Sequence[str], random: Sequence[str] | None = None
) -> Scale:
    """The scale of `bayesimp.joint.scale.prepare`, computed from cross products instead of rows.

    Parameters
    ----------
    statistics
        Statistics in the units of the data, of one table or summed over several.
    responses
        (r,) names, for messages.
    random
        (q,) names of the columns of Z, which show what the columns contain. None: only the intercept.

    Returns
    -------
    The scale, equal to that of `prepare` up to rounding.

    Raises
    ------
    DataError
        A response has fewer than two observed values, or is constant.
    SpecificationError
        Columns of X are dependent, over all rows or over those in which a response is observed.
    """
    p, q, r = statistics.p, statistics.q, statistics.r
    x, z = slice(1, 1 + p), slice(1 + p, 1 + p + q)
    total = statistics.gram.sum(axis=0)
    N = float(total[0, 0])
    observed = [_observed(statistics, k) for k in range(r)]
    means, s, spread = np.empty(r), np.empty(r), np.empty(r)
    for k, G in enumerate(observed):
        n, at = G[0, 0], 1 + p + q + k
        squares = G[at, at] - G[0, at] ** 2 / n if n else 0.0
        if n < 2 or not squares > CONSTANT * G[at, at]:
            raise DataError(
                f"'{responses[k]}' has {n:.0f} observed values in all tables together, and they do not vary: there is no "
                "standard deviation to work with. Remove it from the left side of the formula."
            )
        means[k], s[k], spread[k] = G[0, at] / n, np.sqrt(squares / (n - 1)), np.sqrt(squares / n)
    association = sum((G[x, 1 + p + q + k] - means[k] * G[x, 0]) / spread[k] for k, G in enumerate(observed))
    T = _basis(total[x, x], total[x, 0], association, N)
    offset = np.empty((p, r))
    for k, G in enumerate(observed):
        try:
            offset[:, k] = np.linalg.solve(T.T @ G[x, x] @ T, T.T @ G[x, 1 + p + q + k]) / s[k]
        except np.linalg.LinAlgError:
            raise SpecificationError(
                f"The fixed effects of '{responses[k]}' are not identified in the {G[0, 0]:.0f} rows where it is "
                "observed. Remove columns from the formula."
            ) from None
    C, u = _random(total[z, z], total[z, 0], N, random)
    return Scale(T, offset, s, u, C)


def _observed(statistics: SufficientStatistics, k: int) -> Array:
    """(d, d) cross products over the rows in which response k is observed."""
    return statistics.gram[statistics.patterns[statistics.cell_pattern, k]].sum(axis=0)


def _basis(XX: Array, X1: Array, association: Array, N: float) -> Array:
    """T (p, p) with T' X'X T = N I; signs follow the association with the responses, as in scale.py."""
    length = np.sqrt(np.diag(XX))
    length = np.where(length > 0, length, 1.0)  # a column of zeros has a pivot of 0
    try:
        L = np.linalg.cholesky(XX / np.outer(length, length))
    except np.linalg.LinAlgError:
        L = np.zeros_like(XX)
    if np.diag(L).min() ** 2 < DEPENDENT:
        raise SpecificationError(
            "Columns of X are combinations of each other in all tables together, judging by their cross products. "
            "Remove one from the formula, or centre columns that are far from 0."
        )
    T = np.linalg.solve((L * length[:, None]).T, np.eye(len(XX))) * np.sqrt(N)
    ones = np.abs(T.T @ X1) > 1e-6 * N  # intercept-like columns keep their sign
    return T * np.where(ones | (T.T @ association >= 0), 1.0, -1.0)


def _random(ZZ: Array, Z1: Array, N: float, random: Sequence[str] | None) -> tuple[Array, Array]:
    """C (q, q) and u (q,): centred columns Z C, and their standard deviations (`scale.margins.centred_columns`)."""
    q = len(ZZ)
    constant = np.diag(ZZ) - Z1**2 / N <= CONSTANT * np.diag(ZZ)
    names = [f"z{l}" for l in range(q)] if random is None else list(random)
    for l in np.flatnonzero(constant & (Z1 != 0))[:1]:
        names[l] = INTERCEPT
    C, inside = np.eye(q), margins(names)
    for l in sorted(range(q), key=lambda l: len(inside[l])):
        for j in (j for j in inside[l] if names[j] == INTERCEPT):
            C[j, l] -= Z1 @ C[:, l] / Z1[j]
        others = [j for j in inside[l] if names[j] != INTERCEPT]
        if others:
            inner = C[:, others].T @ ZZ @ C
            C[:, l] -= C[:, others] @ np.linalg.lstsq(inner[:, others], inner[:, l], rcond=None)[0]
    rms, mean = np.sqrt(np.diag(C.T @ ZZ @ C) / N), Z1 @ C / N
    sd = np.sqrt(np.maximum(rms**2 - mean**2, 0.0))
    return C, np.where(constant, np.where(rms > 0, rms, 1.0), sd)

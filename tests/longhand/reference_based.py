"""Reference-based imputation written out, patient by patient, with the mean vectors of Carpenter, Roger & Kenward (2013).

For each patient the mean of all visits under the strategy, and the conditional mean of the missing visits given the
observed ones, by the textbook formula with one covariance matrix for both arms. `WRONG` strategies must be detected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["WRONG", "conditional_mean", "strategy_mean"]

Array = NDArray[np.float64]
WRONG = ("own arm", "visit of drop-out too", "increments from the first visit", "arms exchanged")


def strategy_mean(own: Array, reference: Array, seen: Array, how: str) -> Array:
    """(T,) mean of all visits of a patient; seen (T,): which are observed."""
    last = int(np.flatnonzero(seen).max()) if seen.any() else -1
    mean = own.copy()
    if how == "jump to reference":
        mean[last + 1 :] = reference[last + 1 :]
    elif how == "copy increments in reference":
        before = 0.0 if last < 0 else own[last] - reference[last]
        mean[last + 1 :] = before + reference[last + 1 :]
    elif how == "copy reference":
        mean = reference.copy()
    elif how == "visit of drop-out too":
        mean[max(last, 0) :] = reference[max(last, 0) :]
    elif how == "increments from the first visit":
        mean[last + 1 :] = own[0] - reference[0] + reference[last + 1 :]
    elif how == "arms exchanged":
        mean[last + 1 :] = 2 * own[last + 1 :] - reference[last + 1 :]
    return mean


def conditional_mean(mean: Array, Sigma: Array, y: Array) -> Array:
    """(T,) of the missing entries of y given the others, nan where observed."""
    seen, out = ~np.isnan(y), np.full(len(y), np.nan)
    M, O = np.flatnonzero(~seen), np.flatnonzero(seen)
    out[M] = mean[M]
    if len(O):
        out[M] += Sigma[np.ix_(M, O)] @ np.linalg.inv(Sigma[np.ix_(O, O)]) @ (y[O] - mean[O])
    return out

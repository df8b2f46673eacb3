"""An order of clusters that depends on values alone, not on labels or on the order of the table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEY_DIGITS", "cluster_order"]

# digits in which covariates count when rows are put in order: beyond them there is only rounding error
KEY_DIGITS = 8


def cluster_order(
    Y: NDArray[np.float64], covariates: NDArray[np.float64], codes: NDArray[np.integer], clusters: int
) -> NDArray[np.int64]:
    """Clusters by their values: number of rows, then number observed, least and largest value by response.

    If these agree (small clusters, nothing observed), all rows decide.
    """
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(clusters))
    sorted_Y = np.vstack([Y[order], np.full(Y.shape[1], np.nan)])  # the last cluster may be empty
    keys = [np.bincount(codes, minlength=clusters)]
    for k in range(Y.shape[1]):
        y = sorted_Y[:, k]
        keys += [
            np.add.reduceat(~np.isnan(y), starts, dtype=np.int64),
            np.minimum.reduceat(np.where(np.isnan(y), np.inf, y), starts),
            np.maximum.reduceat(np.where(np.isnan(y), -np.inf, y), starts),
        ]
    by_value = np.lexsort(keys[::-1])
    ordered = np.array(keys, dtype=float)[:, by_value]
    differs = (ordered[:, 1:] != ordered[:, :-1]).any(0)
    table = np.hstack([np.where(np.isnan(Y), np.inf, Y), covariates])[order]
    ends = np.append(starts, len(Y))

    def contents(i: int) -> list[float]:
        rows = table[ends[i] : ends[i + 1]]
        return rows[np.lexsort(rows.T)].ravel().tolist()

    for run in np.split(by_value, np.flatnonzero(differs) + 1):
        if len(run) > 1:
            run[:] = sorted(run, key=contents)
    return by_value

"""An order of clusters that depends on values alone, not on labels or on the order of the table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEY_DIGITS", "cluster_order", "order_of_keys"]

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
    by_value, differs = order_of_keys(keys)
    table = np.hstack([np.where(np.isnan(Y), np.inf, Y), covariates])[order]
    ends = np.append(starts, len(Y))

    def contents(i: int) -> list[float]:
        rows = table[ends[i] : ends[i + 1]]
        return rows[np.lexsort(rows.T)].ravel().tolist()

    for run in np.split(by_value, np.flatnonzero(differs) + 1):
        if len(run) > 1:
            run[:] = sorted(run, key=contents)
    return by_value


def order_of_keys(
    keys: Sequence[NDArray[np.generic]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Clusters in the order of their keys (m,), the first of which counts most; ties stay in order.

    Returns
    -------
    The order (m,), and whether each cluster but the first (m - 1,) has other keys than the one before it.
    """
    by_value = np.lexsort(keys[::-1])
    ordered = np.array(keys, dtype=float)[:, by_value]
    return by_value, (ordered[:, 1:] != ordered[:, :-1]).any(0)

"""An order of clusters, and of rows, that depends on values alone, not on labels or on the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEY_DIGITS", "cluster_order", "in_groups", "order_of_keys", "row_order"]

# digits in which covariates count when rows are put in order: beyond them there is only rounding error
KEY_DIGITS = 8


def in_groups(codes: NDArray[np.integer], groups: int) -> NDArray[np.int64]:
    """The rows in the order of their groups 0..groups-1, in the order of the table within each.

    NumPy sorts numbers of 16 bits by counting, ten times as fast as longer ones: the last 16 bits first, then the others.
    """
    if (codes[1:] >= codes[:-1]).all():
        return np.arange(len(codes))
    order = np.argsort((codes & 0xFFFF).astype(np.uint16), kind="stable")
    for shift in range(16, int(groups).bit_length(), 16):
        digit = (codes[order] >> shift) & 0xFFFF
        order = order[np.argsort(digit.astype(np.uint16), kind="stable")]
    return order


def cluster_order(
    Y: NDArray[np.float64],
    covariates: Sequence[NDArray[np.float64]],
    codes: NDArray[np.integer],
    clusters: int,
) -> NDArray[np.int64]:
    """Clusters by their values: number of rows, then number observed, least and largest value by response.

    If these agree (small clusters, nothing observed), all rows decide, with covariates (N, .) rounded to `KEY_DIGITS`.
    """
    order = in_groups(codes, clusters)
    rows = np.bincount(codes, minlength=clusters)
    ends = np.append(0, np.cumsum(rows))
    starts = ends[:-1]
    keys = [rows]
    for k in range(Y.shape[1]):
        y = np.append(Y[order, k], np.nan)  # the last cluster may be empty
        nothing = np.isnan(y)
        keys += [
            np.add.reduceat(~nothing, starts, dtype=np.int64),
            np.minimum.reduceat(np.where(nothing, np.inf, y), starts),
            np.maximum.reduceat(np.where(nothing, -np.inf, y), starts),
        ]
    by_value, differs = order_of_keys(keys)

    @cache
    def table() -> NDArray[np.float64]:
        known = [np.round(columns[order], KEY_DIGITS) for columns in covariates]
        return np.hstack([np.where(np.isnan(Y[order]), np.inf, Y[order]), *known])

    def contents(i: int) -> list[float]:
        own = table()[ends[i] : ends[i + 1]]
        return own[np.lexsort(own.T)].ravel().tolist()

    for run in np.split(by_value, np.flatnonzero(differs) + 1):
        if len(run) > 1:
            run[:] = sorted(run, key=contents)
    return by_value


def row_order(
    cell: NDArray[np.int64],
    cells: int,
    first: NDArray[np.float64],
    keys: Callable[[NDArray[np.int64]], list[NDArray[np.float64]]],
) -> NDArray[np.int64]:
    """The order ``np.lexsort([*keys, first, cell])`` of n rows, which sorts by the other keys only rows that tie.

    cell (n,): 0..cells-1; first (n,): without nan; keys(rows): further keys of some of the rows, the last counts most.
    """
    order = np.argsort(first)
    order = order[in_groups(cell[order], cells)]
    tied = _tied(cell[order], first[order])
    rows = np.sort(order[tied])
    order[tied] = rows[np.lexsort([*keys(rows), first[rows], cell[rows]])]
    return order


def _tied(cell: NDArray[np.int64], first: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of n sorted rows have the same cell and number as a neighbour."""
    same = (cell[1:] == cell[:-1]) & (first[1:] == first[:-1])
    return (np.append(same, False) | np.append(False, same))[: len(cell)]  # there may be no rows


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

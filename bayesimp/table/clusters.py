"""Clusters of a table, and which columns vary within them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["varies_within"]

Array = NDArray[np.float64]


def varies_within(values: Array, codes: NDArray[np.integer], tolerance: float = 1e-12) -> NDArray[np.bool_]:
    """(m,) whether a column has more than one value, not counting NaN, in each cluster."""
    there = np.isfinite(values)
    m = int(codes.max()) + 1
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    np.minimum.at(low, codes[there], values[there])
    np.maximum.at(high, codes[there], values[there])
    scale = np.abs(values[there]).max(initial=0.0)
    return high - low > tolerance * scale

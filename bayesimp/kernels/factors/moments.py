"""Means and standard deviations by cluster of the imputed values of one variable."""

from __future__ import annotations

import math

from bayesimp.kernels.compiled import kernel
from bayesimp.notation import Integer, IntVector, Matrix, Vector

__all__ = ["cell_moments"]


@kernel(nogil=True)
def cell_moments(
    v: Vector, cluster: IntVector, first: IntVector, k: Integer, mean: Matrix, sd: Matrix
) -> None:
    """Column k of mean, sd (m, K) <- those of v (c,) in each cluster that has values; sd (n - 1) is nan for one value.

    v is sorted by cluster: the values of cluster[e] are first[e] .. first[e + 1] - 1.
    """
    for e in range(cluster.size):
        start, stop = first[e], first[e + 1]
        s, ss = 0.0, 0.0
        for j in range(start, stop):
            s += v[j]
        average = s / (stop - start)
        for j in range(start, stop):
            ss += (v[j] - average) ** 2
        mean[cluster[e], k] = average
        sd[cluster[e], k] = math.sqrt(ss / (stop - start - 1)) if stop - start > 1 else math.nan

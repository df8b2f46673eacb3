"""Imputed values of one variable, kept with their means and standard deviations by cluster."""

from __future__ import annotations

import math

from bayesimp.kernels.compiled import kernel
from bayesimp.notation import Integer, IntVector, Matrix, Vector

__all__ = ["keep_cells"]


@kernel(nogil=True)
def keep_cells(
    y: Vector,
    v: Vector,
    cluster: IntVector,
    first: IntVector,
    k: Integer,
    mean: Matrix,
    sd: Matrix,
    kept: Vector,
) -> None:
    """Column k of mean, sd (m, K) <- those of v (c,) in each cluster that has values; sd (n - 1) is nan for one value.

    v, the values as numbers, is sorted by cluster: those of cluster[e] are first[e] .. first[e + 1] - 1. kept (c,) <- y,
    the values as the model sees them, unless it is empty. Memory written for the first time takes longer than the sums,
    and here it does not hold up other chains.
    """
    for j in range(kept.size):
        kept[j] = y[j]
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

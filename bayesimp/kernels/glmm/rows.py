"""The rows of a generalised linear mixed model, as its kernels read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["GlmmRows"]


class GlmmRows(NamedTuple):
    """Rows with an observed response, sorted by cluster.

    family: a code of kernels/families/scalar.py. y (n,): successes, counts, positive numbers. trials (n,): binomial
    trials, 1 in other families. weight (n,): prior weights. offset: known part of eta (n,), or (n r,), entry r j + k,
    where each of r predictors has its own. X (n, p), Z (n, q): fixed and random columns. first (m + 1,): rows of cluster
    i are first[i]..first[i+1]-1, none in clusters without the response.

        eta_ij = offset_ij + x_ij' beta + z_ij' b_i,     b_i ~ N(0, Psi)
    """

    family: int
    y: np.ndarray
    trials: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    first: np.ndarray

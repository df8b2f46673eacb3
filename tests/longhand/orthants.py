"""Probabilities that up to three normals are below bounds, by quadrature: for laws of binary visits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from tests.joint.latent.brute_force import both_below

__all__ = ["all_below"]

Array = NDArray[np.float64]
X, WEIGHTS = np.polynomial.legendre.leggauss(20)


def all_below(h: Array, R: Array) -> Array:
    """P(z_k < h_k for all k), z ~ N(0, R); h (n, w), w <= 3, R (n, w, w) correlations.

    For w = 3 given z_3, whose distribution function is the variable of integration.
    """
    if h.shape[1] == 0:
        return np.ones(len(h))
    if h.shape[1] == 1:
        return ndtr(h[:, 0])
    if h.shape[1] == 2:
        return both_below(h[:, 0], h[:, 1], R[:, 0, 1])
    r1, r2, r12 = R[:, 0, 2], R[:, 1, 2], R[:, 0, 1]
    s1, s2 = np.sqrt(1 - r1**2), np.sqrt(1 - r2**2)
    total = np.zeros(len(h))
    for x, weight in zip(X, WEIGHTS, strict=True):
        z = ndtri(0.5 * (x + 1) * ndtr(h[:, 2]))
        total += (
            0.5
            * weight
            * both_below((h[:, 0] - r1 * z) / s1, (h[:, 1] - r2 * z) / s2, (r12 - r1 * r2) / (s1 * s2))
        )
    return ndtr(h[:, 2]) * total

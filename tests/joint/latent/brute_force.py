"""Posteriors of small tables of levels by quadrature: no latent values are drawn.

One row of data is a cluster and the levels of its variables. Given the effects of a cluster the probability of a level
is a normal probability, and the effects are integrated out on a grid of Gauss-Hermite nodes; parameters are on grids.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import ndtr

GAUSS_X, GAUSS_W = np.polynomial.legendre.leggauss(24)


def nodes(d: int, order: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal nodes (k, d) and weights (k,)."""
    x, w = hermegauss(order)
    w = w / w.sum()
    grid = np.stack(np.meshgrid(*[x] * d, indexing="ij"), axis=-1).reshape(-1, d)
    weights = np.prod(np.stack(np.meshgrid(*[w] * d, indexing="ij"), axis=-1).reshape(-1, d), axis=1)
    return grid, weights


def both_below(h, k, rho):
    """P(x < h, y < k) of standard normals with correlation rho: Phi(h) Phi(k) + int_0^rho phi_2(h, k; r) dr."""
    h, k, rho = np.broadcast_arrays(h, k, rho)
    total = ndtr(h) * ndtr(k)
    for x, w in zip(GAUSS_X, GAUSS_W, strict=True):
        theta = 0.5 * np.arcsin(rho) * (x + 1)  # r = sin(theta) takes the square root away
        s, c2 = np.sin(theta), np.cos(theta) ** 2
        total = total + 0.5 * np.arcsin(rho) * w * np.exp(-0.5 * (h * h + k * k - 2 * s * h * k) / c2) / (
            2 * np.pi
        )
    return total


def posterior(log_density: np.ndarray, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and mean square of each quantity (shaped like the grid) under a density on it."""
    w = np.exp(log_density - log_density.max())
    w /= w.sum()
    edge = max(
        np.take(w, [0, -1], axis=a).sum(axis=tuple(b for b in range(w.ndim) if b != a)).max()
        for a in range(w.ndim)
    )
    assert edge < 1e-3, "the grid ends where there is posterior mass"
    return {name: np.array([(w * x).sum(), (w * x * x).sum()]) for name, x in values.items()}

"""Fixed effects on the working scale and in the units of the data, which all engines' conditional models share.

beta = T beta_w diag(s),    and c is added to the row of the intercept
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CoefficientScale", "log_normal"]

Array = NDArray[np.float64]


FLAT = 1e-12  # share of the largest eigenvalue of a precision below which a direction has a flat prior


def log_normal(beta_w: Array, Q: Array, t: Array, T: Array, s: Array) -> Array:
    """Log density (...,) of beta = T beta_w diag(s) + .., vec(beta_w) ~ N(Q^-1 t, Q^-1), in the units of the data.

    beta_w (..., p, r), Q (r p, r p), t (r p,), T (p, p), s (r,). Directions with a flat prior contribute 0; if there are
    any, the density is in working units, that is up to a constant.
    """
    p, r = beta_w.shape[-2:]
    values, U = np.linalg.eigh(Q)
    own = values > FLAT * max(values.max(), 0.0)
    if not own.any():
        return np.zeros(beta_w.shape[:-2])
    values, U = values[own], U[:, own]
    vec = np.swapaxes(beta_w, -1, -2).reshape(*beta_w.shape[:-2], r * p)
    z = (vec @ U - (t @ U) / values) * np.sqrt(values)
    constant = 0.5 * (np.log(values).sum() - len(values) * np.log(2 * np.pi))
    if own.all():
        constant -= r * np.linalg.slogdet(T)[1] + p * np.log(s).sum()
    return np.asarray(constant - 0.5 * (z**2).sum(axis=-1))


class CoefficientScale:
    """Mixin: has s, c (r,) of the responses or linear predictors, T (p, p), and the place of the intercept, or -1."""

    s: Array
    c: Array
    T: Array
    intercept: int
    contextual: Array | None = None

    def beta(self, beta_w: Array) -> Array:
        """Fixed effects (..., p, r) in the units of the data, from working units."""
        beta = self.T @ beta_w * self.s
        if self.intercept >= 0:
            beta[..., self.intercept, :] += self.c
        return beta

    def working_beta(self, beta: Array) -> Array:
        """Fixed effects (..., p, r) in working units, from those in the units of the data."""
        beta = np.array(beta, dtype=float)
        if self.intercept >= 0:
            beta[..., self.intercept, :] -= self.c
        return np.linalg.solve(self.T, beta / self.s)

    def marginal_beta(self, mean_w: Array, sd_w: Array) -> tuple[Array, Array]:
        """Means and sds (p, r), in the units of the data, of independent coefficients with these in working units."""
        return self.beta(mean_w), np.sqrt(self.T**2 @ sd_w**2) * self.s

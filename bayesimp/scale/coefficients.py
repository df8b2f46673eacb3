"""Fixed effects on the working scale and in the units of the data, which all engines' conditional models share.

beta = T beta_w diag(s),    and c is added to the row of the intercept
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CoefficientScale"]

Array = NDArray[np.float64]


class CoefficientScale:
    """Mixin: has s, c (r,) of the responses or linear predictors, T (p, p), and the place of the intercept, or -1."""

    s: Array
    c: Array
    T: Array
    intercept: int

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

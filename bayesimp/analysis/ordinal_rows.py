"""Probabilities of the levels of an ordinal response for rows of a table, with derivatives by the parameters of a fit.

    P(y <= l) = F(alpha_l - eta),        eta = offset + x'beta         at cluster effects of zero
    P(y <= l) = E F(alpha_l - eta - z'b)                               averaged over effects b ~ N(0, Psi)
    P(y = l)  = P(y <= l) - P(y <= l - 1),    l = 0..L-1

The parameters are (alpha, beta), and for averages also the log standard deviations and Fisher's z of the effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.analysis.links import mean_at, mean_over
from bayesimp.analysis.row_model import FormulaRows, RowPredictions, effects_variance
from bayesimp.errors import SpecificationError
from bayesimp.notation import Matrix

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["OrdinalRows"]


@dataclass(frozen=True)
class OrdinalRows(FormulaRows):
    """Row predictions for a cumulative logit analysis; attributes as of `FormulaRows`."""

    def predicted(self, fits: Fits, k: int, new: pd.DataFrame, scale: str, effects: str) -> RowPredictions:
        """Probabilities of the levels (n L,), those of each row together; on the link scale eta (n,).

        Raises
        ------
        SpecificationError
            Effects of clusters of the table are requested.
        """
        if effects == "cluster":
            raise SpecificationError(
                f"{fits.analysis!r}: probabilities of levels for clusters of the table are not available. Give "
                "random_effects='integrated', for all clusters, or 'zero', for a median one."
            )
        t = len(self.levels) - 1
        X, Z, offset = self.matrices(k, new, ("Intercept", *fits.names[t:]))
        X, alpha, n = X[:, 1:], fits.estimates[k, :t], len(X)
        eta = offset + X @ fits.estimates[k, t:]
        c = len(fits.component_names) if effects == "integrated" else 0
        if scale == "link":
            return RowPredictions(eta, np.hstack([np.zeros((n, t)), X, np.zeros((n, c))]))
        below = np.zeros((n, t + 2))  # P(y <= l) of l = -1..L-1
        below[:, -1] = 1.0
        slopes = np.zeros((n, t + 2, t + X.shape[1] + c))
        s2, by = effects_variance(fits, k, Z) if c else (np.zeros(n), np.zeros((n, 0)))
        for l in range(t):
            if c:
                below[:, l + 1], slope, by_s2 = mean_over(self.link, alpha[l] - eta, s2)
            else:
                below[:, l + 1], slope = mean_at(self.link, alpha[l] - eta)
                by_s2 = np.zeros(n)
            slopes[:, l + 1, l] = slope
            slopes[:, l + 1, t:] = np.hstack([-slope[:, None] * X, by_s2[:, None] * by])
        K = slopes.shape[2]
        return RowPredictions(np.diff(below, axis=1).ravel(), np.diff(slopes, axis=1).reshape(-1, K))

    def own_matrices(self, k: int) -> tuple[Matrix, list[Matrix]]:
        """X (n, t + p) by which (alpha, beta) give eta, zero for the t thresholds, and Z of each random term."""
        X, Zs = super().own_matrices(k)
        return np.hstack([np.zeros((len(X), len(self.levels) - 1)), X[:, 1:]]), Zs

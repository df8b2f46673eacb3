"""Chained equations with a shift, written out: two normal variables without clusters, NumPy only.

The not-at-random procedure of Leacy (2016) and Tompsett, Leacy, Moreno-Betancur, Heron & White (2018, Statistics in
Medicine 37, 2338) for linear regressions: parameters from the rows in which a variable is observed, with the other one
completed; then missing values from the regression plus delta. The other variable is thus imputed given shifted values.

`WRONG` are variants that a comparison must detect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["WRONG", "chained", "expected_means"]

Array = NDArray[np.float64]
WRONG = ("twice", "sign", "observed", "last cycle", "fitted to completed rows")


def chained(Y: Array, delta: Array, cycles: int, rng: np.random.Generator, wrong: str = "") -> Array:
    """A completed copy of Y (n, 2), nan where missing; delta (2,) the shift of each variable."""
    missing, V = np.isnan(Y), Y.copy()
    for k in range(2):
        V[missing[:, k], k] = rng.choice(Y[~missing[:, k], k], int(missing[:, k].sum()))
    for cycle in range(cycles):
        for k in range(2):
            X = np.column_stack([np.ones(len(Y)), V[:, 1 - k]])
            fitted = np.ones(len(Y), bool) if wrong == "fitted to completed rows" else ~missing[:, k]
            beta, sd = _draw(X[fitted], V[fitted, k], rng)
            n = int(missing[:, k].sum())
            V[missing[:, k], k] = X[missing[:, k]] @ beta + sd * rng.standard_normal(n)
            last = cycle == cycles - 1
            if wrong == "last cycle" and not last:
                continue
            factor = {"twice": 2.0, "sign": -1.0}.get(wrong, 1.0)
            V[missing[:, k], k] += factor * delta[k]
            if wrong == "observed" and last:
                V[~missing[:, k], k] += delta[k]
    return V


def _draw(X: Array, y: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """Coefficients and residual sd of a linear regression under the prior 1 / sigma^2."""
    n, p = X.shape
    inverse = np.linalg.inv(X.T @ X)
    estimate = inverse @ X.T @ y
    residual = y - X @ estimate
    sigma2 = residual @ residual / rng.chisquare(n - p)
    return rng.multivariate_normal(estimate, sigma2 * inverse), float(np.sqrt(sigma2))


def expected_means(intercepts: Array, slopes: Array, delta: Array) -> Array:
    """(2,) means of both variables in rows with both missing, at the stationary law of the cycle.

    With intercepts and slopes (2,), of variable k on the other: m_k = intercepts_k + slopes_k m_(1-k) + delta_k.
    """
    A = np.array([[1.0, -slopes[0]], [-slopes[1], 1.0]])
    return np.linalg.solve(A, intercepts + delta)

"""The probability that a value is missing, given the other variables.

Given this probability, observed and imputed values of a variable that is missing at random have the same distribution,
even if they differ overall (Abayomi, Gelman & Levy 2008, sec. 3). With R_i = 1 if the value of row i is missing and x_i
the other variables, standardised,

    logit P(R_i = 1) = a + x_i'b,    b_k ~ N(0, 2.5^2)          Gelman et al. 2008, with a normal in place of their Cauchy

at the posterior mode, which exists even if the other variables separate missing from observed values. Probabilities are
averaged over completed tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bayesimp.errors import SamplingError

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = ["completed_numbers", "missing_propensity", "penalised_logistic"]

Array = NDArray[np.float64]
SD = 2.5  # standard deviation of the prior of a coefficient of a standardised variable
TABLES = 20  # probabilities are averaged over at most this many completed tables
STEPS = 50
DECREMENT = 1e-12  # convergence: twice the log posterior still to gain
SHORTEST = 1e-8  # share of a step below which it is not halved


def missing_propensity(imp: Imputations, name: str) -> Array:
    """(n,) probability in each row that a variable is missing, given all others.

    Variables that are not known as numbers or levels in all rows, such as complete text with a level for each row, are
    left out.

    Parameters
    ----------
    imp
        Imputations.
    name
        A variable of the table.
    """
    missing = imp.data.missing(name).astype(float)
    tables = np.unique(np.linspace(0, imp.m - 1, min(imp.m, TABLES)).round().astype(int))
    others = [other for other in imp.data.variables if other != name and other in imp.data.families]
    fitted = [penalised_logistic(_columns(imp, others, int(k)), missing) for k in tables]
    return np.mean(fitted, axis=0)


def penalised_logistic(X: Array, y: Array) -> Array:
    """(n,) fitted probabilities at the posterior mode; X (n, p) has no intercept, y (n,) is 0 or 1.

    Newton's method on a concave log posterior; steps are halved while they do not increase it.

    Raises
    ------
    SamplingError
        The mode is not found in `STEPS` steps.
    """
    spread = X.std(axis=0)
    Z = (X - X.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    Z = np.column_stack([np.ones(len(Z)), Z])
    penalty = np.full(Z.shape[1], 1 / SD**2)
    penalty[0] = 1e-8  # y may be constant

    def value(b: Array) -> float:
        eta = Z @ b
        return float(y @ eta - np.logaddexp(0, eta).sum() - 0.5 * penalty @ b**2)

    b = np.zeros(Z.shape[1])
    for _ in range(STEPS):
        p = expit(Z @ b)
        gradient = Z.T @ (y - p) - penalty * b
        step = np.linalg.solve((Z.T * (p * (1 - p))) @ Z + np.diag(penalty), gradient)
        if gradient @ step < DECREMENT:
            return p
        size, now = 1.0, value(b)
        while value(b + size * step) < now and size > SHORTEST:
            size /= 2
        b = b + size * step
    raise SamplingError(
        f"The model of which values are missing was not fitted in {STEPS} Newton steps. Look for extreme values of the "
        "other variables."
    )


def completed_numbers(imp: Imputations, name: str, k: int) -> Array:
    """(n,) a variable in completed table k, as numbers or positions of levels; NaN where it is not imputed."""
    values = np.array(imp.data.numeric(name))
    if name in imp.imputed_columns:
        values[imp.rows(name)] = imp.values(name)[k]
    return values


def _columns(imp: Imputations, names: list[str], k: int) -> Array:
    """(n, p) the variables in completed table k, with levels as indicators."""
    columns = []
    for name in names:
        values, levels = completed_numbers(imp, name, k), imp.data.levels(name)
        if not np.isfinite(values).all() or len(levels) > len(values) / 4:
            continue
        indicators = [values == level for level in range(1, len(levels))]
        columns += [each.astype(float) for each in indicators] if levels else [values]
    return np.column_stack(columns) if columns else np.empty((len(imp.data), 0))

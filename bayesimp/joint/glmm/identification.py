"""Columns of factors that no data could tell apart, refused before anything is sampled.

Complete columns are checked where formulas are read (formulas/design.py). Here are those with missing values, at values
that stand for what can be imputed (`table.representative`): a column that is a combination of others there is one
whatever is imputed, ``x + I(2 * x)`` or ``x + within(x) + cluster_mean(x)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.formulas.design import check_rank
from bayesimp.joint.glmm.prior import factor_beta
from bayesimp.joint.glmm.table import FactorTable, representative
from bayesimp.priors import Priors

__all__ = ["check_identified"]

Array = NDArray[np.float64]


def check_identified(table: FactorTable, priors: Priors) -> None:
    """Refuse factors whose columns are combinations of each other, or that a flat prior leaves without information.

    Raises
    ------
    DataError
        Columns that are combinations of others; under a flat prior, a response that is observed in too few rows.
    """
    a = table.arrays
    X = representative(table.V, table.programs, table.means, table.divisor, a.cluster, a.first)
    for k, factor in enumerate(table.factors):
        fixed, random = table.columns_of(k)
        names = [column.name for column in factor.fixed]
        rows = table.rows[k]
        _check(X[rows, fixed], names, f"fixed part of '{factor.formula}'")
        _check(
            X[rows, random], [column.name for column in factor.random], f"random part of '{factor.formula}'"
        )
        if factor_beta(priors.beta, factor).is_proper:
            continue
        seen = rows[~np.isnan(table.Y[rows, k])]
        where = f"fixed part of '{factor.formula}', in the {len(seen):,} rows in which '{factor.response}' is observed,"
        try:
            _check(X[seen, fixed], names, where)
        except DataError as error:
            raise DataError(
                f"{error} Or give the coefficients a proper prior, priors=Priors(beta=Normal(0, 10))."
            ) from None


def _check(X: Array, names: Sequence[str], what: str) -> None:
    """Columns as they are, or else less their means: one that is far from 0 is no constant."""
    try:
        check_rank(X, names, what)
    except DataError:
        if INTERCEPT not in names or len(X) < len(names):
            raise
        others = [l for l, name in enumerate(names) if name != INTERCEPT]
        size = np.abs(X[:, others]).max(axis=0, initial=0.0)
        centred = X[:, others] - X[:, others].mean(axis=0)
        centred[:, np.abs(centred).max(axis=0, initial=0.0) <= 1e-12 * size] = 0.0
        try:
            check_rank(centred, [names[l] for l in others], what)
        except DataError:
            pass
        else:
            return
        raise

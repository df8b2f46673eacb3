"""Cumulative logit models of completed tables: kernels/laplace/ordinal.py on rows whose first column is the intercept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesimp.analysis.laplace_check import Likelihood
from bayesimp.errors import DataError
from bayesimp.formulas.formula import Formula
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.laplace.ordinal import fit_ordinal, ordinal_at, quadrature_slope
from bayesimp.messages import listing

if TYPE_CHECKING:
    from bayesimp.analysis.generalised_tables import GlmmStack

__all__ = ["CUMULATIVE", "check_levels"]


def _without_intercept(rows: GlmmRows) -> GlmmRows:
    """Rows with thresholds instead of an intercept."""
    return rows._replace(X=np.ascontiguousarray(rows.X[:, 1:]))


CUMULATIVE = Likelihood(
    lambda rows, **options: fit_ordinal(_without_intercept(rows), **options),
    lambda rows, *given: ordinal_at(_without_intercept(rows), *given),
    lambda rows, fit, nodes: quadrature_slope(_without_intercept(rows), fit, nodes),
)


def check_levels(rows: GlmmRows, stack: GlmmStack, formula: Formula, table: int) -> None:
    """Refuse a completed table without rows at some level, where two thresholds would be equal.

    Raises
    ------
    DataError
    """
    levels: tuple[Any, ...] = stack.levels or ()
    weights = np.bincount(rows.y.astype(np.int64), rows.weight, minlength=len(levels))
    absent = [level for level, weight in zip(levels, weights, strict=True) if not weight > 0]
    if absent:
        raise DataError(
            f"{formula.text!r}: completed table {table} has no row of positive weight at level {listing(absent)}, so the "
            "thresholds beside it cannot be estimated. Join it with a neighbouring level in all tables."
        )

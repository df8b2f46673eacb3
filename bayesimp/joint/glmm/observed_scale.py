"""The scale of every factor of a joint GLMM, from the rows in which its response is observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, Column, cluster_column
from bayesimp.formulas.terms import WITHIN
from bayesimp.joint.glmm.factors import Factor
from bayesimp.joint.glmm.scale import FactorScale, effect_columns, factor_scale
from bayesimp.kernels.factors.arrays import FactorArrays
from bayesimp.kernels.factors.columns import Programs, all_columns, all_means
from bayesimp.notation import Array

__all__ = ["check_finite", "factor_scales", "representative"]

LEAST_ROWS = 30  # with this many complete rows for a factor, its scale is computed from them alone


def representative(
    V: Array,
    programs: Programs,
    means: Programs,
    divisor: Array,
    cluster: NDArray[np.int64],
    first: NDArray[np.int64],
) -> Array:
    """(n, T) columns in which missing values are filled with observed ones, evenly spaced from least to largest."""
    filled = V.copy()
    for v in filled.T:
        hole = np.flatnonzero(np.isnan(v))
        if len(hole):
            seen = np.sort(v[~np.isnan(v)])
            # large steps through the sorted values, so that neighbours in the table get different values
            v[hole] = seen[(np.arange(len(hole)) * 0.6180339887498949 % 1.0 * len(seen)).astype(np.int64)]
    M, X = np.zeros(divisor.shape), np.empty((len(V), len(programs.start) - 1))
    all_means(means, divisor, filled, first, M)
    all_columns(programs, filled, M, cluster, np.arange(len(V)), X)
    return X


def check_finite(X: Array, factors: Sequence[Factor]) -> None:
    """Refuse columns that overflow at observed values."""
    at = 0
    for factor in factors:
        for column in (*factor.fixed, *factor.grouped):
            bad = int((~np.isfinite(X[:, at])).sum())
            at += 1
            if bad:
                raise DataError(
                    f"Formula '{factor.formula}': '{column.name}' is not finite in {bad:,} of {len(X):,} rows at "
                    "observed values of its variables: it overflows. Divide them by a larger unit in the table, or use "
                    "another transformation."
                )


def factor_scales(
    factors: Sequence[Factor],
    arrays: FactorArrays,
    X: Array,
    Y: Array,
    used: NDArray[np.bool_],
    base: BaseColumns,
) -> tuple[FactorScale, ...]:
    """The scale of every factor, in the rows in which its response is observed."""
    out = []
    for k, factor in enumerate(factors):
        begin, p = arrays.column[k], arrays.fixed[k]
        rows = used[:, k] & ~np.isnan(Y[:, k])
        if rows.sum() < LEAST_ROWS:
            rows = used[:, k]
        levels = []
        for columns, places in zip(factor.by_level, factor.places, strict=True):
            own = begin + p + np.array(places, dtype=np.int64)
            levels.append(
                effect_columns(X[np.ix_(rows, own)], [_written(column, base) for column in columns])
            )
        fixed = [_written(column, base) for column in factor.fixed]
        s, c = np.ones(factor.predictors), np.zeros(factor.predictors)
        if factor.family.is_standardised:
            s, c = arrays.unit[k : k + 1].copy(), arrays.center[k : k + 1].copy()
        elif factor.family.is_divided_by_mean:
            c = np.log(arrays.unit[k : k + 1])
        out.append(factor_scale(X[rows, begin : begin + p], fixed, levels, s, c))
    return tuple(out)


def _written(column: Column, base: BaseColumns) -> str:
    """A column as a formula spells it, with backticks where its names need them."""

    def spelled(name: str) -> str:
        return base.written.get(name, name)

    if column.function is not None:
        own = [] if column.base == INTERCEPT else [spelled(column.base)]
        return ":".join([*own, str(column.function)])
    if column.parts:
        own = [] if column.base == INTERCEPT else [spelled(column.base)]
        return ":".join([*own, *(_written(part, base) for part in column.parts)])
    if column.within:
        return f"{WITHIN}({spelled(column.base)})"
    if column.over is None:
        return spelled(column.base)
    first, second = column.over
    mean = cluster_column(INTERCEPT, (spelled(first), spelled(second)), column.sum).name
    return mean if column.base == INTERCEPT else f"{spelled(column.base)}:{mean}"

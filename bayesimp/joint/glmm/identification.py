"""Checks before sampling: columns of factors that no data could tell apart are refused.

Complete columns are checked when formulas are read (formulas/design.py). This file checks those with missing values: a
column that is a combination of others while incomplete variables vary freely is one whatever is imputed, as in
``x + I(2 * x)`` or ``x + within(x) + cluster_mean(x)``. Under a flat prior, the observed values must suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.formulas.design import check_rank
from bayesimp.formulas.formula import parse
from bayesimp.joint.glmm.factors import Factor
from bayesimp.joint.glmm.observed_scale import representative
from bayesimp.joint.glmm.prior import factor_beta
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.priors import Priors
from bayesimp.table.incomplete import IncompleteData

__all__ = ["check_identified", "check_variation"]

Array = NDArray[np.float64]
TRIES = 10  # in tables with few clusters, columns can coincide by chance


def check_variation(factors: Sequence[Factor], data: IncompleteData) -> None:
    """Refuse variables with a single distinct observed value.

    Raises
    ------
    DataError
        The message names the variable and the number of rows.
    """
    for factor in factors:
        values = data.numeric(factor.response)
        seen = values[~np.isnan(values)]
        if len(np.unique(seen)) < 2:
            raise DataError(
                f"'{factor.response}' has one value, {seen[0]:g}, in all {len(seen):,} rows in which it is observed, "
                "so its distribution cannot be estimated. Leave it out of the table, or fill it in."
            )


def check_identified(table: FactorTable, priors: Priors, data: IncompleteData, own: Collection[str]) -> None:
    """Refuse factors whose columns are combinations of each other, or that a flat prior leaves without information.

    own: responses whose formulas the user wrote.

    Raises
    ------
    DataError
        Columns that are combinations of others; under a flat prior, a response that is observed in too few rows, or a
        level that is hardly observed together with it.
    """
    seen = _columns(table, table.V)
    possible = cache(lambda seed: _columns(table, _possible(table, seed)))
    for k, factor in enumerate(table.factors):
        try:
            _check_anywhere(table, k, possible)
            if not factor_beta(priors.beta, factor).is_proper:
                _check_where_observed(table, data, k, seen[:, table.columns_of(k)[0]])
        except DataError as error:
            if factor.response in own:
                raise
            cure = (
                f"This is the default formula; to use another, give factors={{'{factor.response}': '...'}}."
            )
            raise DataError(f"{error} {cure}") from None


def _columns(table: FactorTable, V: Array) -> Array:
    a = table.arrays
    return representative(V, table.programs, table.means, table.divisor, a.cluster, a.first)


def _possible(table: FactorTable, seed: int) -> Array:
    """(n, v) variables, in which each observed value of an incomplete variable occurs about equally often."""
    V, rng, a = table.V.copy(), np.random.default_rng(seed), table.arrays
    for factor, v in zip(table.factors, a.variable, strict=True):
        lost = np.isnan(V[:, v])
        if lost.any():
            drawn = rng.choice(np.unique(V[~lost, v]), len(V))
            V[:, v] = drawn[a.first[a.cluster]] if factor.at_cluster else drawn
    return V


def _check_anywhere(table: FactorTable, k: int, possible: Callable[[int], Array]) -> None:
    """Refuse columns that are combinations of others whatever is imputed, which means in all of TRIES tables."""
    factor, rows = table.factors[k], table.rows[k]
    if not factor.fixed:
        raise DataError(f"Formula '{factor.formula}': its fixed part has no columns. Give it an intercept.")
    parts: list[tuple] = [("fixed", factor.fixed, table.columns_of(k)[0])]
    parts += [("random", columns, table.columns_at(k, s)) for s, columns in enumerate(factor.by_level)]
    for part, columns, place in parts:
        if len(rows) < len(columns):
            continue
        for seed in range(TRIES):
            X = possible(seed)[rows][:, place]
            try:
                _check(X, [column.name for column in columns], f"{part} part of '{factor.formula}'")
                break
            except DataError:
                if seed == TRIES - 1:
                    raise


def _check_where_observed(table: FactorTable, data: IncompleteData, k: int, X: Array) -> None:
    """Refuse factors that a flat prior leaves unidentified. X: fixed columns, with stand-ins for missing values."""
    factor, rows = table.factors[k], table.rows[k]
    names = [column.name for column in factor.fixed]
    seen = rows[~np.isnan(table.Y[rows, k])]
    _check_seen(X[seen], names, factor, [factor.response])
    for name in parse(factor.formula).variables:
        if name in data.variables and data.missing(name).any() and data.variable(name).is_coded:
            both = seen[~data.missing(name)[table.row[seen]]]
            # variables never observed together are linked only by the model of one of them
            if len(both) >= len(names):
                _check_seen(X[both], names, factor, [factor.response, name])


def _check_seen(X: Array, names: Sequence[str], factor: Factor, observed: Sequence[str]) -> None:
    """Refuse columns that the rows with observed values do not identify, as a flat prior requires."""
    there = f"{' and '.join(map(repr, observed))} {'are' if observed[1:] else 'is'} observed"
    where = f"fixed part of '{factor.formula}' where {there}"
    try:
        _check(X, names, where)
    except DataError as error:
        raise DataError(
            f"{error} Or give coefficients a proper prior, priors=Priors(beta=Normal(0, 10))."
        ) from None


def _check(X: Array, names: Sequence[str], what: str) -> None:
    """Check columns; if they fail, check them again centred, because a column far from 0 is not a constant."""
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

"""The table as the sampler of a joint GLMM reads it: rows in canonical order, columns as programs, missing cells.

Clusters and rows are put in an order that depends on values alone, so that a seed gives the same imputations however
the table is arranged. A variable that appears in no other factor (a leaf) is imputed only when tables are completed: its
own factor then uses the rows in which it is observed, and nothing depends on its imputed values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import Shift
from bayesimp.families.registry import trials
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.joint.glmm.cells import bare_clusters, is_censored, missing_cells, used_rows
from bayesimp.joint.glmm.factors import Factor
from bayesimp.joint.glmm.groups import FurtherRows, further_rows, nested_levels
from bayesimp.joint.glmm.observed_scale import check_finite, factor_scales, representative
from bayesimp.joint.glmm.programs import Compiler
from bayesimp.joint.glmm.scale import FactorScale, JointScale, joint_scale
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.kernels.factors.arrays import Cells, FactorArrays
from bayesimp.kernels.factors.columns import Programs
from bayesimp.scale.order import KEY_DIGITS, cluster_order
from bayesimp.table.incomplete import IncompleteData

__all__ = ["FactorTable", "factor_table"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FactorTable:
    """Everything that chains share.

    Attributes
    ----------
    factors
        The factors in order.
    row, order
        (n,) position of each row in the table; (m,) cluster of the table at each position.
    arrays, cells, programs, means, divisor
        Arguments of kernels/factors/cells.py.
    V, Y
        (n, v), (n, K) variables and responses with NaN where they are to be imputed.
    rows, starts
        By factor: the rows in which it is used, and where those of each cluster begin (m + 1,).
    leaf
        (K,) whether the variable appears in no other factor.
    missing
        By factor: the rows in which its response is to be imputed; for a cluster-level variable all rows of the cluster.
    free
        By factor: the missing rows that are not censored.
    limits
        By factor: (n,) lower and upper limits of censored values in units of the data, infinite where there is none.
    bare
        By factor: clusters in which its response is never observed, so that effects and values can move together.
    observed
        By factor: sorted observed values, from which chains start.
    scales, joint
        Conversions between the working scale and the data.
    variables
        (v,) names of the columns of V.
    further
        Grouping factors besides the clusters.
    combinations
        (c, 1 + S) cluster and group of each further grouping factor, for every combination that rows have; sorted.
    nested
        Pairs of levels (0: the clusters, s: further grouping factors), the finer one first, and the group of the coarser
        one in which each of its groups lies.
    """

    factors: tuple[Factor, ...]
    row: NDArray[np.int64]
    order: NDArray[np.int64]
    arrays: FactorArrays
    cells: Cells
    programs: Programs
    means: Programs
    divisor: Array
    V: Array
    Y: Array
    rows: tuple[NDArray[np.int64], ...]
    starts: tuple[NDArray[np.int64], ...]
    leaf: NDArray[np.bool_]
    missing: tuple[NDArray[np.int64], ...]
    free: tuple[NDArray[np.int64], ...]
    limits: tuple[tuple[Array, Array], ...]
    bare: tuple[NDArray[np.int64], ...]
    observed: tuple[Array, ...]
    scales: tuple[FactorScale, ...]
    joint: JointScale
    variables: tuple[str, ...] = ()
    further: tuple[FurtherRows, ...] = ()
    combinations: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 1), dtype=np.int64))
    nested: tuple[tuple[int, int, NDArray[np.int64]], ...] = ()

    @property
    def clusters(self) -> int:
        """The number of clusters, m."""
        return len(self.order)

    def number(self, level: int) -> int:
        """The number of clusters (0), or of groups of the s-th further grouping factor."""
        return self.clusters if level == 0 else self.further[level - 1].number

    def columns_of(self, k: int) -> tuple[slice, slice]:
        """Fixed columns of factor k, and those with effects of any grouping factor."""
        first, last = self.arrays.column[k], self.arrays.column[k + 1]
        p = self.arrays.fixed[k]
        return slice(first, first + p), slice(first + p, last)

    def columns_at(self, k: int, level: int) -> NDArray[np.int64]:
        """(q,) the columns on which factor k has effects of a level."""
        return self.columns_of(k)[1].start + np.array(self.factors[k].places[level], dtype=np.int64)


def factor_table(
    data: IncompleteData,
    factors: tuple[Factor, ...],
    base: BaseColumns,
    shift: Shift,
    analyses_only: bool = False,
    known: FactorTable | None = None,
    further: Sequence[GroupingFactor] = (),
) -> FactorTable:
    """Convert a table to the form that the sampler reads.

    analyses_only: a missing cell is drawn given its own factor and the analyses only, as in chained equations, where the
    models of other covariates are conditional on it without being factors of its distribution.
    known: the table from which the parameters come, whose scale is used; None: this one.
    further: grouping factors besides the clusters.
    """
    compiler = Compiler(data, base)
    columns = [
        [compiler.column(column, factor.formula) for column in (*factor.fixed, *factor.grouped)]
        for factor in factors
    ]
    places = [compiler.register(factor.response) for factor in factors]
    order, row, groups = _rows(data, compiler, factors, further)
    codes = np.empty(data.codes.max() + 1, dtype=np.int64)
    codes[order] = np.arange(len(order))
    cluster = codes[data.codes][row]
    first = np.searchsorted(cluster, np.arange(len(order) + 1)).astype(np.int64)
    V = np.column_stack([_values(data, base, name) for name in compiler.variables])[row]
    for k, factor in enumerate(factors):
        if factor.at_cluster:
            _spread_over_clusters(V[:, places[k]], cluster)
    Y, center, unit = _responses(data, factors, V, places, known)
    programs = compiler.programs([tokens for part in columns for tokens in part])
    means = compiler.programs(compiler.averaged)
    size = np.diff(first).astype(float)
    divisor = np.column_stack(
        [np.ones(len(order)) if sum else size for _, sum in compiler.means] or [np.empty((len(order), 0))]
    )
    limits = tuple(
        (low[row], high[row]) for low, high in (data.limits(factor.response) for factor in factors)
    )
    censored = np.column_stack([is_censored(pair) for pair in limits])
    cells, leaf = missing_cells(factors, places, columns, compiler, V, limits, first, analyses_only)
    used = used_rows(factors, V, places, leaf, censored, first)
    combinations, combination = np.unique(
        np.column_stack([cluster, *(own for _, own in groups)]), axis=0, return_inverse=True
    )
    arrays = _arrays(
        data, factors, places, columns, center, unit, V, used, censored, cluster, first,
        combination.ravel().astype(np.int64), row, shift,
    )  # fmt: skip
    if known is None:
        X = representative(V, programs, means, divisor, cluster, first)
        check_finite(X, factors)
        scales = factor_scales(factors, arrays, X, Y, used, base)
        observed = tuple(np.sort(y[~np.isnan(y)]) for y in Y.T)
    else:
        scales, observed = known.scales, known.observed
    rows = tuple(np.flatnonzero(used[:, k]) for k in range(len(factors)))
    starts = tuple(np.searchsorted(cluster[r], np.arange(len(order) + 1)).astype(np.int64) for r in rows)
    missing = tuple(np.flatnonzero(np.isnan(Y[:, k])) for k in range(len(factors)))
    free = tuple(rows[~censored[rows, k]] for k, rows in enumerate(missing))
    bare = tuple(
        bare_clusters(factor, leaf[k], ~np.isnan(Y[:, k]) | censored[:, k], cluster)
        for k, factor in enumerate(factors)
    )
    return FactorTable(
        factors, row, order, arrays, cells, programs, means, divisor, V, Y, rows, starts, leaf, missing, free, limits,
        bare, observed, scales, joint_scale(scales), tuple(compiler.variables),
        tuple(further_rows(factor, *own, rows) for factor, own in zip(further, groups, strict=True)), combinations,
        nested_levels([(cluster, len(order)), *((codes, len(own)) for own, codes in groups)]),
    )  # fmt: skip


def _values(data: IncompleteData, base: BaseColumns, name: str) -> Array:
    """(n,) a base column in the order of the table, NaN where it is missing."""
    return base.complete[name] if name in base.complete else np.array(data.column_values(name))


def _rows(
    data: IncompleteData, compiler: Compiler, factors: Sequence[Factor], further: Sequence[GroupingFactor]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """Clusters and rows in an order that depends on values alone; and for each further grouping factor its groups in such
    an order, and the group of each row."""
    Y = np.column_stack([_shown(data, factor.response) for factor in factors])
    names = [name for name in compiler.variables if name in compiler.base.complete]
    covariates = np.column_stack([compiler.base.complete[name] for name in names] or [np.zeros((len(Y), 0))])
    spread = covariates.std(axis=0)
    covariates = np.round(
        (covariates - covariates.mean(axis=0)) / np.where(spread > 0, spread, 1.0), KEY_DIGITS
    )
    order = cluster_order(Y, [covariates], data.codes, len(data.clusters))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    known, groups = np.column_stack([covariates, place[data.codes]]), []
    for factor in further:
        own = cluster_order(Y, [known], factor.groups.codes, len(factor.groups))
        groups.append((own, np.argsort(own)[factor.groups.codes]))
        known = np.column_stack([known, groups[-1][1]])
    # the groups decide between rows that are alike
    keys = [*(codes for _, codes in groups), *covariates.T, *np.where(np.isnan(Y), np.inf, Y).T]
    row = np.lexsort([*keys, place[data.codes]]).astype(np.int64)
    return order, row, [(own.astype(np.int64), codes[row].astype(np.int64)) for own, codes in groups]


def _shown(data: IncompleteData, name: str) -> Array:
    """(n,) what is known about a response: its value or its limit."""
    y, (lower, upper) = data.numeric(name), data.limits(name)
    return np.where(np.isfinite(upper), upper, np.where(np.isfinite(lower), lower, y))


def _spread_over_clusters(v: Array, cluster: NDArray[np.int64]) -> None:
    """Copy a cluster-level variable observed in some rows of a cluster to all rows of the cluster."""
    there = ~np.isnan(v)
    known = np.full(cluster[-1] + 1, np.nan)
    known[cluster[there]] = v[there]
    v[~there] = known[cluster[~there]]


def _responses(
    data: IncompleteData,
    factors: Sequence[Factor],
    V: Array,
    places: Sequence[int],
    known: FactorTable | None,
) -> tuple[Array, Array, Array]:
    """Responses as their models see them (n, K), and origin and unit of numbers (K,), taken from `known` if given."""
    Y, center, unit = np.empty((len(V), len(factors))), np.zeros(len(factors)), np.ones(len(factors))
    for k, factor in enumerate(factors):
        v = V[:, places[k]]
        if factor.family.is_coded:
            values = data.level_values(factor.response)
            by_value = np.argsort(values)
            at = np.searchsorted(values[by_value], v)
            Y[:, k] = np.where(np.isnan(v), np.nan, by_value[np.minimum(at, len(values) - 1)])
            continue
        # without an intercept to absorb it, an origin or a log mean would change the model
        absorbed = any(column.base == INTERCEPT and not column.is_over_rows for column in factor.fixed)
        if known is not None:
            center[k], unit[k] = known.arrays.center[k], known.arrays.unit[k]
        elif factor.family.is_standardised:
            center[k], unit[k] = np.nanmean(v) if absorbed else 0.0, np.nanstd(v)
        elif factor.family.is_divided_by_mean and absorbed:
            unit[k] = np.nanmean(v)
        unit[k] = unit[k] if unit[k] > 0 else 1.0
        Y[:, k] = (v - center[k]) / unit[k]
    return Y, center, unit


def _arrays(
    data: IncompleteData,
    factors: Sequence[Factor],
    places: Sequence[int],
    columns: Sequence[Sequence[tuple]],
    center: Array,
    unit: Array,
    V: Array,
    used: NDArray[np.bool_],
    censored: NDArray[np.bool_],
    cluster: NDArray[np.int64],
    first: NDArray[np.int64],
    combination: NDArray[np.int64],
    row: NDArray[np.int64],
    shift: Shift,
) -> FactorArrays:
    def ends(sizes: Sequence[int]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    r = [factor.predictors for factor in factors]
    p = [len(factor.fixed) for factor in factors]
    values = [data.level_values(f.response) if f.family.is_coded else np.zeros(0) for f in factors]
    n_trials, offset = np.ones(used.shape), np.zeros(used.shape)
    for k, factor in enumerate(factors):
        if column := trials(data.families[factor.response]):
            n_trials[:, k] = data.frame[column].to_numpy(float)[row]
        moved = shift.rows(factor.response, data)[row, 0] / (
            unit[k] if factor.family.is_standardised else 1.0
        )
        offset[:, k] = np.where(np.isnan(V[:, places[k]]) & ~censored[:, k], moved, 0.0)
    return FactorArrays(
        np.array([factor.code for factor in factors], dtype=np.int64), np.array(r, dtype=np.int64),
        np.array(p, dtype=np.int64), ends([len(part) for part in columns]),
        ends([a * b for a, b in zip(p, r, strict=True)]),
        ends([a * len(f.grouped) for f, a in zip(factors, r, strict=True)]),
        np.array(places, dtype=np.int64), center, unit, ends([len(v) for v in values]), np.concatenate(values),
        np.array([factor.at_cluster for factor in factors]), n_trials, offset, used, cluster, first, combination,
    )  # fmt: skip

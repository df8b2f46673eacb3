"""One variable as figures show it: its observed and imputed values, according to its family and level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesimp.families.record import Family
from bayesimp.families.registry import family_of, trials
from bayesimp.plots._style import Array
from bayesimp.table.clusters import varies_within

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["Statistic", "PlottedVariable", "second_level", "statistics", "variable"]

# positive values get a logarithmic axis if their 99 % quantile is so many times their 1 % quantile
SKEWED = 20


@dataclass(frozen=True)
class PlottedVariable:
    """Observed and imputed values of one variable.

    observed (n,) has the cluster of each value in observed_at, and imputed (m, c) in imputed_at (c,). The values are
    those of rows, or of clusters if the variable is at the cluster level. Levels are numbers from 0, with their names in
    `levels`.
    """

    name: str
    family: str
    observed: Array
    observed_at: np.ndarray
    imputed: Array
    imputed_at: np.ndarray
    levels: tuple
    unit: str
    out_of: Array | None = None  # binomial: trials of the observed values, then of the imputed ones

    @property
    def distribution(self) -> Family:
        """The record of the variable's family."""
        return family_of(self.family)

    @property
    def log(self) -> bool:
        """Whether the figure shows the density of the logarithm."""
        if not self.distribution.support.is_positive or len(self.observed) == 0:
            return False
        low, high = np.quantile(self.observed, (0.01, 0.99))
        return bool(high > SKEWED * low)


def variable(imp: Imputations, name: str) -> PlottedVariable:
    """Read a variable from imputations."""
    data, rows, imputed = imp.data, imp.rows(name), imp.values(name)
    values = data.numeric(name)
    there = np.flatnonzero(np.isfinite(values))
    unit = "rows"
    if _one_a_cluster(data, values, rows, imputed):
        unit = "clusters"
        there = there[np.unique(data.codes[there], return_index=True)[1]]
        first = np.unique(data.codes[rows], return_index=True)[1]
        rows, imputed = rows[first], imputed[:, first]
    column = trials(data.families[name])
    return PlottedVariable(
        name,
        data.families[name].partition("(")[0],
        values[there],
        data.codes[there],
        imputed,
        data.codes[rows],
        data.levels(name),
        unit,
        data.numeric(column)[np.concatenate([there, rows])] if column else None,
    )


def _one_a_cluster(data: IncompleteData, values: Array, rows: np.ndarray, imputed: Array) -> bool:
    """Whether the variable is constant in every cluster, both as observed and as imputed."""
    if np.max(data.sizes) == 1 or varies_within(values, data.codes).any():
        return False
    for drawn in imputed:
        filled = values.copy()
        filled[rows] = drawn
        if varies_within(filled, data.codes).any():
            return False
    return True


@dataclass(frozen=True)
class Statistic:
    """What is shown of a variable in each cluster.

    of: (values (..., k), where (k,)) -> (m,) or (k,), the numbers whose spread is shown; `where` counts the observed
    values first, then the imputed ones, as `Variable.out_of` does.
    """

    title: str
    summary: bool  # one number per table (a share, a mean) instead of the values themselves
    of: Callable[[Array, np.ndarray], Array]


def statistics(shown: PlottedVariable, called: str, at_most: int) -> list[Statistic]:
    """Depending on the family: the values, the mean of counts, or the share of successes, of the second of two levels or
    of each level.
    """
    if shown.unit == "clusters" and not shown.distribution.is_coded:
        return [Statistic(called, False, _values)]
    if shown.out_of is not None:
        total = shown.out_of
        return [
            Statistic(f"{called}: share of successes", True, lambda x, where: x.sum(-1) / total[where].sum())
        ]
    if shown.distribution.is_count:
        return [Statistic(f"{called}: mean", True, lambda x, where: x.mean(-1))]
    if not shown.distribution.is_coded:
        return [Statistic(f"{called} (log scale)" if shown.log else called, False, _values)]
    every = range(len(shown.levels)) if len(shown.levels) > 2 else range(1, len(shown.levels))
    frequent = sorted(every, key=lambda level: -(shown.observed == level).sum())[:at_most]
    return [Statistic(f"{called}: share of {shown.levels[k]}", True, _share_of(k)) for k in sorted(frequent)]


def _values(x: Array, where: np.ndarray) -> Array:
    return x.ravel()


def _share_of(level: int) -> Callable[[Array, np.ndarray], Any]:
    return lambda x, where: (x == level).mean(-1)


def second_level(data: IncompleteData, name: str) -> tuple[str, float, float] | None:
    """For a variable with two levels, the name of the second and the numbers that models use for both; else None."""
    two = name in data.families and data.variable(name).distribution.is_two_valued
    if not two or len(data.levels(name)) != 2:
        return None
    low, high = data.level_values(name)
    return str(data.levels(name)[1]), float(low), float(high)

"""One variable as figures show it: its observed and imputed values, by family and level."""

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

SKEWED = 20  # positive values whose 99 % quantile is so many times their 1 % quantile: on a logarithmic axis


@dataclass(frozen=True)
class PlottedVariable:
    """Observed and imputed values of one variable.

    observed (n,), with the cluster of each in observed_at; imputed (m, c), in imputed_at (c,): rows, or clusters where
    the variable has one value in each. Levels as numbers from 0, with their names in `levels`.
    """

    name: str
    family: str
    observed: Array
    observed_at: np.ndarray
    imputed: Array
    imputed_at: np.ndarray
    levels: tuple
    unit: str
    out_of: Array | None = None  # binomial: trials of observed, then of imputed values

    @property
    def distribution(self) -> Family:
        """The record of its family."""
        return family_of(self.family)

    @property
    def log(self) -> bool:
        """Whether its density is that of the logarithm."""
        if not self.distribution.support.is_positive or len(self.observed) == 0:
            return False
        low, high = np.quantile(self.observed, (0.01, 0.99))
        return bool(high > SKEWED * low)


def variable(imp: Imputations, name: str) -> PlottedVariable:
    """A variable of imputations."""
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
    """Whether the variable is constant in every cluster, as observed and as imputed."""
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
    """The summary of a variable that is shown for each cluster.

    of: (values (..., k), where (k,)) -> (m,) or (k,): the spread shown; `where` counts observed values first, then
    imputed ones, as `Variable.out_of` does.
    """

    title: str
    summary: bool  # one number a table (a share, a mean) in place of the values themselves
    of: Callable[[Array, np.ndarray], Array]


def statistics(shown: PlottedVariable, called: str, at_most: int) -> list[Statistic]:
    """By family: the values; of counts the mean; the share of successes, of the second of two levels, of each level."""
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
    """Of a variable with two levels: the name of the second, and what models compute with for the two; else None."""
    two = name in data.families and data.variable(name).distribution.is_two_valued
    if not two or len(data.levels(name)) != 2:
        return None
    low, high = data.level_values(name)
    return str(data.levels(name)[1]), float(low), float(high)

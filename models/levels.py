"""Rows of a joint GLMM, expanded over the levels of their missing cells so that the levels can be summed out.

    p(rows)  =  prod_i  sum_g  prod_j  sum_h  prod_k p_k(y_kj)

g runs over the possible combinations of values of the incomplete cluster-level variables in cluster i, and h over those
of the missing cells of row j. Each (i, g, j, h) is a place. Rows and clusters without missing levels have a single one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError

__all__ = ["MOST_COMBINATIONS", "MOST_PLACES", "Levels", "ExpandedRows", "expand"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_COMBINATIONS = 64  # of values of the missing cells of a row, or of a cluster's cluster-level variables
MOST_PLACES = 100_000  # places over which levels are summed


@dataclass(frozen=True)
class Levels:
    """The missing levels of one variable.

    Attributes
    ----------
    factor, variable
        Number of the variable among the factors and among the variables.
    row
        (c,) rows of the cells; for a cluster-level variable, the first row of each cluster.
    values
        For each cell, the numbers that formulas use for each level.
    at_cluster
        Whether the variable is at the cluster level.
    """

    factor: int
    variable: int
    row: Ints
    values: Sequence[Array]
    at_cluster: bool


@dataclass(frozen=True)
class ExpandedRows:
    """Places (i, g, j, h): first those of rows without a sum, then the others, row by row.

    Attributes
    ----------
    row, group
        (E,) row j, and number of the pair (i, g); the first m pairs are (i, 0).
    V, Y
        (E, v), (E, K) variables and responses, with NaN for continuous missing cells.
    single
        Number of places of rows without a sum.
    cluster
        (G,) cluster of each group.
    base
        Places that contain every row of every group once.
    reference
        (n,) a place of each row, in the group (i, 0).
    sums
        (S, H) places over which a row is summed, with -1 after the last.
    sum_group
        (S,) group of each sum.
    groups
        (C, G) groups over which a cluster is summed, with -1 after the last.
    """

    row: Ints
    group: Ints
    V: Array
    Y: Array
    single: int
    cluster: Ints
    base: Ints
    reference: Ints
    sums: Ints
    sum_group: Ints
    groups: Ints


def expand(V: Array, Y: Array, cluster: Ints, levels: Sequence[Levels], names: Sequence[str]) -> ExpandedRows:
    """Find all places.

    Parameters
    ----------
    V, Y
        (n, v), (n, K) variables and responses, with rows sorted by cluster.
    cluster
        (n,) cluster of each row, from 0.
    levels
        Variables whose missing levels are summed out.
    names
        Names of the factors, for messages.

    Raises
    ------
    SpecificationError
        If there are too many combinations, in one row or in total.
    """
    of_row: dict[int, list[tuple[Levels, Array]]] = {}
    of_cluster: dict[int, list[tuple[Levels, Array]]] = {}
    for one in levels:
        for row, values in zip(one.row, one.values, strict=True):
            if one.at_cluster:
                of_cluster.setdefault(int(cluster[row]), []).append((one, values))
            else:
                of_row.setdefault(int(row), []).append((one, values))
    _check(of_row, "row", names)
    _check(of_cluster, "cluster", names)
    single = np.flatnonzero(~np.isin(np.arange(len(V)), list(of_row)) & ~np.isin(cluster, list(of_cluster)))
    made = _Made(V, Y, cluster, single)
    for i in np.unique(cluster[np.setdiff1d(np.arange(len(V)), single)]):
        made.add_cluster(int(i), of_cluster.get(int(i), []), of_row)
    return made.places()


def _check(cells: dict[int, list[tuple[Levels, Array]]], what: str, names: Sequence[str]) -> None:
    for own in cells.values():
        count = int(np.prod([len(values) for _, values in own]))
        if count > MOST_COMBINATIONS:
            who = ", ".join(f"'{names[one.factor]}'" for one, _ in own)
            total = sum(
                np.prod([len(values) for _, values in other]) > MOST_COMBINATIONS for other in cells.values()
            )
            raise SpecificationError(
                f"NUTS sums over missing levels: in {total} of the {what}s they have more than "
                f"{MOST_COMBINATIONS} combinations ({who}: {count}). Use sampler='gibbs', which draws them one by one."
            )


class _Made:
    """Places under construction."""

    def __init__(self, V: Array, Y: Array, cluster: Ints, single: Ints) -> None:
        self.V, self.Y, self.cluster = V, Y, cluster
        self.first = np.searchsorted(cluster, np.arange(cluster[-1] + 2))
        self.single = single
        self.rows, self.own_V, self.own_Y = [single], [V[single]], [Y[single]]
        self.group = [cluster[single]]
        self.count = len(single)
        self.of_group = list(range(cluster[-1] + 1))
        self.base, self.reference = [np.arange(len(single))], np.full(len(V), -1)
        self.reference[single] = np.arange(len(single))
        self.sums: list[list[int]] = []
        self.sum_group: list[int] = []
        self.groups: list[list[int]] = []

    def add_cluster(self, i: int, own: list, of_row: dict) -> None:
        """Add the places of a cluster that has a sum."""
        groups = []
        for g, chosen in enumerate(_combinations(own)):
            group = i
            if g:
                group = len(self.of_group)
                self.of_group.append(i)
            groups.append(group)
            for j in range(self.first[i], self.first[i + 1]):
                if own or j in of_row:
                    self._add_row(j, group, g == 0, chosen, of_row.get(j, []))
        if own:
            self.groups.append(groups)

    def _add_row(self, j: int, group: int, is_reference: bool, chosen: list, cells: list) -> None:
        places = []
        for h, more in enumerate(_combinations(cells)):
            V, Y = self.V[j].copy(), self.Y[j].copy()
            for one, level, value in [*chosen, *more]:
                V[one.variable], Y[one.factor] = value, level
            self.rows.append(np.array([j]))
            self.group.append(np.array([group]))
            self.own_V.append(V[None])
            self.own_Y.append(Y[None])
            places.append(self.count)
            if h == 0:
                self.base.append(np.array([self.count]))
                if is_reference:
                    self.reference[j] = self.count
            self.count += 1
            if self.count - len(self.single) > MOST_PLACES:
                raise SpecificationError(
                    f"NUTS sums over missing levels, here over more than {MOST_PLACES:,} "
                    "combinations in all. Use sampler='gibbs', which draws them one by one."
                )
        self.sums.append(places)
        self.sum_group.append(group)

    def places(self) -> ExpandedRows:
        row, group, base = (np.concatenate(part) for part in (self.rows, self.group, self.base))
        V, Y = np.concatenate(self.own_V), np.concatenate(self.own_Y)
        return ExpandedRows(
            row, group, V, Y, len(self.single), np.array(self.of_group), base, self.reference, _padded(self.sums),
            np.array(self.sum_group, dtype=np.int64), _padded(self.groups),
        )  # fmt: skip


def _combinations(cells: list) -> list[list[tuple[Levels, int, float]]]:
    """Every choice of a level for each of these cells; a single empty choice if there are no cells."""
    return [
        [(one, level, values[level]) for (one, values), level in zip(cells, chosen, strict=True)]
        for chosen in product(*(range(len(values)) for _, values in cells))
    ]


def _padded(lists: list[list[int]]) -> Ints:
    out = np.full((len(lists), max(map(len, lists), default=0)), -1, dtype=np.int64)
    for row, own in zip(out, lists, strict=True):
        row[: len(own)] = own
    return out

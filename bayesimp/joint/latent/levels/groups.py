"""The groups of all factors as one table, as the sampler reads it (kernels/latent/level_records.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import Shift
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.cells import latent_columns
from bayesimp.joint.latent.clusters import ClusterTable, cluster_table
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.kernels.latent.level_records import GroupTable
from bayesimp.kernels.latent.records import LatentLevel, LatentRows, MissingCells
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Groups", "group_tables", "stacked"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """The groups of all factors.

    Attributes
    ----------
    tables
        Those of each factor, with its variables.
    record
        All of them as read by kernels.
    V
        (M, w) observed numbers, zeros elsewhere.
    variables
        All variables of groups, factor after factor, `first` counting the columns of all.
    before
        r q, the number of columns before those of variables.
    """

    tables: tuple[ClusterTable, ...]
    record: GroupTable
    V: Array
    variables: tuple[LatentVariable, ...]
    before: int

    @property
    def incomplete(self) -> list[tuple[int, LatentVariable, Ints]]:
        """Incomplete variables: their factor, and the groups of the table in which they are missing."""
        return [(s, *each) for s, table in enumerate(self.tables) for each in table.incomplete]

    @property
    def counted(self) -> int:
        """The number of values to impute, one per group."""
        return sum(table.counted for table in self.tables)

    def gamma(self, drawn: Array, s: int) -> Array:
        """(..., p_2, v) coefficients of the variables of factor s, from draws of all (..., p_2, w)."""
        table, at = self.tables[s], self.record.member_at
        own = self.record.member[at[s + 1] - len(table.labels) : at[s + 1]]
        return table.scale.beta(drawn[..., : len(table.fixed), own])


def group_tables(
    data: IncompleteData, design: DesignMatrices, grouping: Sequence[GroupingFactor],
    variables: Sequence[LatentVariable], effects: Sequence[int], places: Ints, shift: Shift, *, flat: bool,
) -> tuple[ClusterTable, ...]:  # fmt: skip
    """The groups of each factor; effects: n_s; places (N, S): canonical groups of the rows.

    Raises
    ------
    SpecificationError
        The mean of a variable cannot be modelled, or is not identified.
    """
    out = []
    for s, factor in enumerate(grouping):
        order = np.empty(len(factor.groups), dtype=np.int64)
        order[places[:, s]] = factor.groups.codes
        own = tuple(v for v in variables if v.group == factor.label)
        out.append(
            cluster_table(data, design, own, effects[s], order, shift, flat=flat, clusters=factor.groups)
        )
    return tuple(out)


def stacked(tables: Sequence[ClusterTable], column: Ints, r: int, places: Ints) -> Groups:
    """One table of the groups of all factors; column (S + 1,): columns of Z of each factor."""
    q, before = int(column[-1]), r * int(column[-1])
    widths = [len(table.labels) for table in tables]
    offset, p = np.cumsum([0, *widths]), max(len(table.fixed) for table in tables)
    members = []
    for s in range(len(tables)):
        effects = [k * q + l for k in range(r) for l in range(column[s], column[s + 1])]
        members.append(
            np.array([*effects, *range(before + offset[s], before + offset[s + 1])], dtype=np.int64)
        )
    w, first = before + int(offset[-1]), np.cumsum([0, *(len(table.V) for table in tables)]).astype(np.int64)
    M = int(first[-1])
    V, X, level = np.zeros((M, w)), np.zeros((M, p)), np.full((M, w), -1, dtype=np.int64)
    coefficient = np.zeros((p, w), dtype=bool)
    pattern: list[Ints] = []
    patterns: list[NDArray[np.bool_]] = []
    counts: list[Ints] = []
    factor: list[Ints] = []
    for s, (table, own) in enumerate(zip(tables, members, strict=True)):
        rows, part = table.level.rows, slice(first[s], first[s + 1])
        V[part, own], level[part, own], X[part, : rows.X.shape[1]] = table.V, rows.level, rows.X
        coefficient[: rows.X.shape[1], own[len(own) - widths[s] :]] = True
        seen = np.zeros((len(table.level.patterns), w), dtype=bool)
        seen[:, own] = table.level.patterns
        pattern.append(rows.pattern + sum(len(one) for one in patterns))
        patterns.append(seen)
        counts.append(table.level.counts)
        factor.append(np.full(len(seen), s, dtype=np.int64))
    variables = tuple(
        replace(v, first=v.first + int(offset[s])) for s, table in enumerate(tables) for v in table.variables
    )
    of_groups = LatentRows(
        np.arange(M), np.concatenate(pattern).astype(np.int64), np.concatenate(pattern).astype(np.int64), X,
        np.empty((M, 0)), level,
    )  # fmt: skip
    cells = _stacked_cells(tables, members, widths, first, w, _reported(places, first))
    made = LatentLevel(
        of_groups, latent_columns(variables, before), cells, np.concatenate(patterns),
        np.concatenate(counts).astype(np.int64),
    )  # fmt: skip
    record = GroupTable(
        made, np.concatenate(factor), np.concatenate(members), np.cumsum([0, *map(len, members)]).astype(np.int64),
        first, coefficient,
    )  # fmt: skip
    return Groups(tuple(tables), record, V, variables, before)


def _reported(places: Ints, first: Ints) -> Ints:
    """(M,) the primary cluster for which imputed values of each group are summarised: that with most of its rows."""
    out = np.empty(first[-1], dtype=np.int64)
    for s in range(places.shape[1]):
        pairs, count = np.unique(places[:, [s, 0]], axis=0, return_counts=True)
        order = np.lexsort([-pairs[:, 1], count])  # the last of each group stays
        out[first[s] + pairs[order, 0]] = pairs[order, 1]
    return out


def _stacked_cells(
    tables: Sequence[ClusterTable],
    members: Sequence[Ints],
    widths: Sequence[int],
    first: Ints,
    w: int,
    reported: Ints,
) -> MissingCells:
    """The missing cells of all groups, factor after factor."""
    each = [table.level.cells for table in tables]
    total = sum(cells.place.shape[1] for cells in each)
    row, place, fixed, shift, column, value, start = [], [], [], [], [], [], [0]
    count = v = 0
    for s, (cells, own) in enumerate(zip(each, members, strict=True)):
        (R, V), part = cells.place.shape, slice(v, v + cells.place.shape[1])
        moved, at, known = np.zeros((R, w)), np.full((R, total), -1, dtype=np.int64), np.zeros((R, total))
        moved[:, own] = cells.shift
        at[:, part] = np.where(cells.place >= 0, cells.place + count, -1)
        known[:, part] = cells.fixed
        row.append(cells.row + first[s])
        place.append(at)
        fixed.append(known)
        shift.append(moved)
        column.append(own[cells.column])
        value.append(cells.value)
        start += list(start[-1] + cells.start[1:])
        count, v = count + tables[s].counted, v + V
    rows = np.concatenate(row).astype(np.int64)
    return MissingCells(
        rows, np.vstack(place), np.concatenate(column).astype(np.int64), np.concatenate([c.unit for c in each]),
        np.vstack(fixed), np.concatenate(value), np.array(start, dtype=np.int64), np.vstack(shift), reported[rows],
    )  # fmt: skip

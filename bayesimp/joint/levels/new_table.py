"""New rows with the rows of a run's table on which their effects depend, on the working scale of the run.

With crossed factors a new row of school 1 depends on the rows of every class of school 1, on the other schools of these
classes, and so on: on all rows that are connected with it through their groups. Others are left out, which for classes
nested in schools leaves the schools of the new rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from bayesimp.formulas.design import DesignMatrices
from bayesimp.formulas.formula import Formula
from bayesimp.formulas.new_rows import new_design
from bayesimp.joint.levels.effects import RowsOfGroups
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.joint.levels.table import GroupingScale, canonical_places
from bayesimp.joint.scale import Scale
from bayesimp.scale.order import KEY_DIGITS, cluster_order
from bayesimp.table.new_rows import NewRows

__all__ = ["ConnectedRows", "connected", "connected_parts", "connected_rows"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ConnectedRows:
    """Rows in an order that depends on values alone.

    Attributes
    ----------
    row
        (n,) position of each among the rows of the run's table followed by the new rows.
    X, Y, fixed
        (n, p) columns on the working scale; (n, r) Y / s - fixed, nan where missing; (n, r) fixed = X offset.
    groups
        Rows with their groups, as `RowsOfGroups`.
    of_factor
        For each factor, the group of `NewRows.groups_beside` at each position.
    columns
        (N + n, p) columns of X in the units of the data, of all rows of the run's table followed by the new rows.
    """

    row: Ints
    X: Array
    Y: Array
    fixed: Array
    groups: RowsOfGroups
    of_factor: tuple[Ints, ...]
    columns: Array


def connected(
    formula: Formula, designs: Sequence[DesignMatrices], factors: Sequence[GroupingFactor], new: NewRows, scale: Scale,
    scales: Sequence[GroupingScale], Y: Array, also: Array,
) -> ConnectedRows:  # fmt: skip
    """The new rows and those of the run with which they are connected.

    designs, factors, scale, scales: of the run; Y (N + n, r): values of the run's table followed by the new rows, in the
    units of the data; also (N + n, v): further values, by which rows are put in order.

    Raises
    ------
    SpecificationError, DataError
        As for `bayesimp.formulas.new_rows.new_design` and `NewRows.groups_beside`.
    """
    beside = [new.groups_beside(factor.term.names) for factor in factors]
    made = [
        new_design(replace(formula, random=(factor.term,)), known, new)
        for factor, known in zip(factors, designs, strict=True)
    ]
    codes = np.column_stack([one.codes for one in beside])
    row = connected_rows(codes, len(new.training))
    columns = np.vstack([designs[0].X, made[0][0]])
    X = (columns @ scale.T)[row]
    Z = []
    for known, (_, Z_new), own in zip(designs, made, scales, strict=True):
        u = scale.s[0] / own.effects.reshape(len(scale.s), -1)[0]
        Z.append(((np.vstack([known.Z, Z_new]) @ own.C) / u)[row])
    fixed, own_Y = X @ scale.offset, Y[row]
    Z_all = np.hstack(Z)
    places, of_factor = _canonical(
        codes[row], np.round(np.hstack([X, Z_all]), KEY_DIGITS), np.hstack([own_Y, also[row]])
    )
    patterns, pattern = np.unique(~np.isnan(own_Y), axis=0, return_inverse=True)
    pattern = pattern.ravel().astype(np.int64)
    keys = [*np.round(X, KEY_DIGITS).T, *np.round(Z_all, KEY_DIGITS).T, *own_Y.T, pattern, *places.T[::-1]]
    order = np.lexsort(keys)
    groups = RowsOfGroups(
        np.ascontiguousarray(Z_all[order]), np.cumsum([0, *(one.shape[1] for one in Z)]).astype(np.int64), places[order],
        np.array([len(one) for one in of_factor], dtype=np.int64), pattern[order], patterns,
    )  # fmt: skip
    Y_w = own_Y / scale.s - fixed
    return ConnectedRows(
        row[order], np.ascontiguousarray(X[order]), Y_w[order], fixed[order], groups, of_factor, columns
    )


def connected_rows(codes: Ints, first_new: int) -> Ints:
    """Rows connected through their groups, codes (N, S), with some row at or after `first_new`; all of those too."""
    part = connected_parts(codes)
    return np.flatnonzero(np.isin(part, part[first_new:]))


def connected_parts(codes: Ints) -> Ints:
    """(N,) number of the part of the table in which each row is, where no group, codes (N, S), has rows in two parts."""
    number = codes.max(axis=0) + 1
    nodes = codes + np.cumsum([0, *number[:-1]])
    start, end = nodes[:, :-1].ravel(), nodes[:, 1:].ravel()
    graph = sparse.coo_array((np.ones(len(start)), (start, end)), shape=(number.sum(), number.sum()))
    labels = connected_components(graph, directed=False)[1][nodes[:, 0]]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _canonical(codes: Ints, covariates: Array, Y: Array) -> tuple[Ints, tuple[Ints, ...]]:
    """(n, S) groups numbered in an order that depends on values alone, and the code of each number."""
    there, compact = zip(*(np.unique(own, return_inverse=True) for own in codes.T), strict=True)
    own = np.column_stack([one.ravel() for one in compact]).astype(np.int64)
    order = cluster_order(Y, [covariates], own[:, 0], len(there[0]))
    places = canonical_places(order, own, covariates, Y)
    of_factor = []
    for s, labels in enumerate(there):
        at = np.empty(len(labels), dtype=np.int64)
        at[places[:, s]] = codes[:, s]
        of_factor.append(at)
    return places, tuple(of_factor)

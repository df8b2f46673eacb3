"""Columns of conditional models as numbers before imputation, and a test for linear dependence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, Column, Derived
from bayesimp.scale.products import centrable
from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = ["TOLERANCE", "BaseValues", "column_values", "dependent", "evaluated", "filled", "observed"]

TOLERANCE = 1e-7  # the same as `formulas.design.TOLERANCE`
ROUND_OFF = 1e-12  # share of the largest value that round-off may leave of a constant minus its mean
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BaseValues:
    """The base columns of all models as numbers, computed once for all steps that use them.

    Attributes
    ----------
    data
        The table.
    complete
        Complete base column -> (N,) values.
    incomplete
        Imputed variables.
    derived
        Columns derived from these, in order of computation.
    """

    data: IncompleteData
    complete: Mapping[str, Array]
    incomplete: tuple[str, ...]
    derived: tuple[Derived, ...]

    @classmethod
    def of(cls, base: BaseColumns, rows: NDArray[np.bool_] | None = None) -> BaseValues:
        """The columns that all formulas need, in the given rows (N,) or in all; call it when all formulas are known."""
        if rows is None or rows.all():
            return cls(base.data, base.complete, base.incomplete, tuple(base.derived.values()))
        complete = {name: x[rows] for name, x in base.complete.items()}
        return cls(
            base.data.part(base.data.frame[rows]), complete, base.incomplete, tuple(base.derived.values())
        )

    @cached_property
    def observed(self) -> dict[str, Array]:
        """Base column -> (N,) values, NaN where it or an ingredient is missing."""
        return observed(self.data, self.complete, self.incomplete, self.derived)

    @cached_property
    def filled(self) -> dict[str, Array]:
        """As `observed`, with missing cells drawn from observed ones."""
        return filled(self.data, self.complete, self.incomplete, self.derived)

    @property
    def codes(self) -> NDArray[np.int64]:
        """The position (N,) of each row's cluster among those of the table."""
        return self.data.codes

    @cached_property
    def varying(self) -> frozenset[str]:
        """Base columns with more than one observed value in some cluster."""
        return frozenset(name for name, x in self.observed.items() if varies_within(x, self.codes).any())


def observed(
    data: IncompleteData, complete: Mapping[str, Array], incomplete: Iterable[str], derived: Iterable[Derived]
) -> dict[str, Array]:
    """Values (N,) of every base column, NaN where the column or an ingredient is missing."""
    values = dict(complete)
    values |= {name: data.column_values(name) for name in incomplete}
    for record in derived:
        made = evaluated(record, values, data.codes)
        if record.column in data.variables:
            table = data.frame[record.column].to_numpy(np.float64, na_value=np.nan)
            made = np.where(np.isnan(table), made, table)
        values[record.name] = made
    return values


def evaluated(record: Derived, values: Mapping[str, Array], codes: NDArray[np.integer]) -> Array:
    """Values (N,) of a derived column; cluster means are taken over the cells that have a value."""
    there = np.ones(len(codes), dtype=bool)
    for name in record.ingredients:
        there &= ~np.isnan(values[name])
    return np.broadcast_to(record.evaluate(values, codes, there), codes.shape)


def filled(
    data: IncompleteData, complete: Mapping[str, Array], incomplete: Iterable[str], derived: Iterable[Derived]
) -> dict[str, Array]:
    """As `observed`, with missing cells drawn from observed ones.

    Like imputations, these values are in general position, so only columns that are always combinations of others
    appear as such.
    """
    values = dict(complete)
    for k, name in enumerate(incomplete):
        column = np.array(data.column_values(name))
        hole = np.isnan(column)
        rng = np.random.default_rng(k)
        if varies_within(column, data.codes).any() or np.bincount(data.codes[~hole]).max() < 2:
            column[hole] = rng.choice(column[~hole], hole.sum())
        else:  # one value per cluster
            of_cluster = rng.choice(column[~hole], len(data.clusters))
            of_cluster[data.codes[~hole]] = column[~hole]
            column = of_cluster[data.codes]
        values[name] = column
    for record in derived:
        values[record.name] = evaluated(record, values, data.codes)
    return values


def column_values(
    columns: Sequence[Column], values: Mapping[str, Array], codes: NDArray[np.integer], centred: bool = False
) -> Array:
    """Columns (N, p) of X* or Z*. Cluster means are taken over the cells that have a value.

    centred: products with cluster means have centred factors if this gives the same model (scale/products.py), so that
    linear dependence does not depend on the origin.
    """
    matrix = np.empty((len(codes), len(columns)), order="F")
    as_they_are, at_centre = values, centrable(columns) if centred else []
    less_mean = _less_mean(columns, values) if at_centre else {}
    for j, column in enumerate(columns):
        values = less_mean if j in at_centre else as_they_are
        matrix[:, j] = values[column.base]
        if column.within:
            rest = matrix[:, j] - _over_clusters(values[column.base], codes)
            largest = np.abs(matrix[:, j][np.isfinite(matrix[:, j])]).max(initial=0.0)
            matrix[:, j] = np.where(np.abs(rest) <= ROUND_OFF * largest, 0.0, rest)
        if column.over is not None:
            product = values[column.over[0]] * values[column.over[1]]
            matrix[:, j] *= _over_clusters(product, codes, column.sum)
    return matrix


def _less_mean(columns: Sequence[Column], values: Mapping[str, Array]) -> dict[str, Array]:
    """Base columns of products minus their means."""
    out = {INTERCEPT: values[INTERCEPT]} if INTERCEPT in values else {}
    for name in {name for column in columns if column.over for name in (column.base, *column.over)} - set(
        out
    ):
        out[name] = values[name] - np.mean(values[name], where=np.isfinite(values[name]))
    return out


def _over_clusters(
    x: Array, codes: NDArray[np.integer], sum: bool = False, tolerance: float = 1e-12
) -> Array:
    """Mean or sum (N,) of the values in each row's cluster; NaN if it has none."""
    m = int(codes.max()) + 1
    there = np.isfinite(x)
    total = np.bincount(codes, np.where(there, x, 0.0), m)
    count = np.bincount(codes, there, m)
    # columns that are already centred leave only round-off, which counts as zero
    total[np.abs(total) <= tolerance * count * np.abs(x[there]).max(initial=0.0)] = 0.0
    with np.errstate(invalid="ignore"):
        mean = total / count
    return (np.where(count > 0, total, np.nan) if sum else mean)[codes]


def dependent(matrix: Array, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Whether each column is a combination of those before it, (p,), up to ``tolerance`` of its length.

    This is Gram-Schmidt on the triangle of a QR decomposition, whose columns have the same lengths and angles; dependent
    columns are skipped.
    """
    p = matrix.shape[1]
    length = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(length > 0, length, 1.0)
    found = np.zeros(p, dtype=bool)
    # as in design.check_rank: settles the usual case cheaply
    if len(matrix) >= p > 0 and np.linalg.eigvalsh(scaled.T @ scaled)[0] > 1e-6:
        return found
    R = np.linalg.qr(scaled, mode="r")
    basis = np.empty((len(R), 0))
    for j in range(p):
        rest = R[:, j]
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        left = np.linalg.norm(rest)
        found[j] = left <= tolerance or basis.shape[1] == len(R)
        if not found[j]:
            basis = np.column_stack([basis, rest / left])
    return found

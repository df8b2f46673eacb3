"""Some rows of a table in partitions, and what a pass over them leaves: cross products, ranges, a few values."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bayesimp.errors import DataError
from bayesimp.federated.agreement import Agreement
from bayesimp.federated.rows import SiteRows, agreed_design, distinct_columns, responses
from bayesimp.formulas.design import DesignMatrices
from bayesimp.kernels.normal.statistics import SufficientStatistics, collect
from bayesimp.notation import Array

__all__ = ["FEW", "BatchMoments", "PartRows", "Place", "batch_moments", "first_place", "part_rows"]

FEW = 3  # distinct values of a response that are kept, enough to tell two values from more


class PartRows(SiteRows):
    """Some rows of a table, checked as the rows of a site are; what needs all rows is checked after the pass."""

    def _check_response(self, name: str) -> None:
        """Nothing: a part may have few values."""


@dataclass(frozen=True)
class Place:
    """What all parts have in common.

    Attributes
    ----------
    fixed, random, random_terms
        Columns of X and Z; those of Z as spelled in a formula.
    covariates
        (v,) names of the distinct columns of X and Z, without the constant.
    centre
        (v + r,) numbers subtracted from covariates and responses before their products are taken: means of the first
        rows, so that no digits are lost to an origin far away. The result does not depend on them.
    """

    fixed: tuple[str, ...]
    random: tuple[str, ...]
    random_terms: tuple[str, ...]
    covariates: tuple[str, ...]
    centre: Array


@dataclass(frozen=True)
class BatchMoments:
    """What a pass over some rows leaves.

    Attributes
    ----------
    labels
        (m,) the clusters, as coded in `statistics`.
    statistics
        Cells of the columns [1 | covariates | responses], about the centre.
    low, high
        (m, r) least and largest observed value of each response in each cluster; inf, -inf if there is none.
    values
        For each response up to `FEW` of its distinct values.
    """

    labels: list[Hashable]
    statistics: SufficientStatistics
    low: Array
    high: Array
    values: tuple[Array, ...]


def part_rows(batch: pa.RecordBatch, agreement: Agreement, start: int) -> PartRows:
    """The columns of a batch that the model needs; `start`: number of its first row in the table, for messages.

    Raises
    ------
    DataError
        As `bayesimp.federated.rows.SiteRows`; the message says which rows have been looked at.
    """
    frame = batch.to_pandas()
    frame.index += start
    try:
        return PartRows(frame, agreement)
    except DataError as error:
        last = start + len(frame) - 1
        raise DataError(
            f"Among rows {start:,} to {last:,} of the table, and perhaps later: {error}"
        ) from None


def first_place(rows: PartRows) -> Place:
    """The columns of all parts, and the centre, from the first rows."""
    made = agreed_design(rows)
    names, X = distinct_columns(made)
    Y = responses(rows)
    seen = ~np.isnan(Y)
    means = np.where(seen, Y, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return Place(made.fixed, made.random, made.random_terms, names, np.concatenate([X.mean(axis=0), means]))


def batch_moments(rows: PartRows, place: Place) -> BatchMoments:
    """One pass over some rows. A pure function of values that can be pickled, for schedulers.

    Raises
    ------
    DataError, SpecificationError
        As `bayesimp.federated.rows.agreed_design`.
    """
    made: DesignMatrices = agreed_design(rows)
    X, Y, v, m = distinct_columns(made)[1], responses(rows), len(place.covariates), len(rows.clusters)
    nothing = np.empty((len(X), 0))
    st = collect(X - place.centre[:v], nothing, Y - place.centre[v:], rows.codes, m)
    low, high = np.full((m, Y.shape[1]), np.inf), np.full((m, Y.shape[1]), -np.inf)
    order = np.argsort(rows.codes, kind="stable")
    starts, ordered = np.searchsorted(rows.codes[order], np.arange(m)), Y[order]
    missing = np.isnan(ordered)
    low = np.minimum.reduceat(np.where(missing, np.inf, ordered), starts, axis=0)
    high = np.maximum.reduceat(np.where(missing, -np.inf, ordered), starts, axis=0)
    return BatchMoments(rows.clusters.tolist(), st, low, high, tuple(few_values(y) for y in Y.T))


def few_values(y: Array) -> Array:
    """Up to `FEW` distinct values of y (n,) that are not NaN."""
    found: list[float] = []
    rest = y[~np.isnan(y)]
    while len(rest) and len(found) < FEW:
        found.append(float(rest[0]))
        rest = rest[rest != rest[0]]
    return np.array(found)

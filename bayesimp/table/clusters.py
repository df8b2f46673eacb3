"""Clusters of a table: their labels, the cluster of each row, and which columns vary within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.families.columns import positions
from bayesimp.messages import listing, where

__all__ = ["Clusters", "varies_within"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of a table.

    Attributes
    ----------
    labels
        (m,) labels, sorted (or in the order of a category; in order of appearance if they cannot be sorted), with the
        name of the column.
    codes
        (n,) int64, position of each row's cluster in the labels. Read-only.
    index
        (n,) labels of the rows, for messages.
    """

    labels: pd.Index
    codes: NDArray[np.int64]
    index: pd.Index

    @classmethod
    def of(cls, column: pd.Series, least: int = 2) -> Clusters:
        """The clusters that a column of ids names.

        Parameters
        ----------
        column
            (n,) the ids.
        least
            The smallest number of clusters allowed: two if differences between clusters are to be estimated.

        Raises
        ------
        DataError
            Ids are missing or not whole numbers, or there are too few clusters.
        """
        missing = column.isna().to_numpy()
        if missing.any():
            place = where(missing, index=column.index)
            raise DataError(
                f"The cluster id '{column.name}' is missing {place}. Fill in the ids, or "
                "drop these rows: a row without a cluster cannot be imputed."
            )
        codes, labels = positions(_whole(column))
        if len(labels) < least:
            raise DataError(
                f"'{column.name}' has only one cluster, {listing(labels)} ({len(column):,} rows). With "
                "one cluster, differences between clusters cannot be estimated. Is it the right column?"
            )
        codes.flags.writeable = False
        return cls(labels.rename(column.name), codes, column.index)

    @classmethod
    def combined(cls, parts: Sequence[Clusters]) -> Clusters:
        """The combinations of clusters of several columns that occur in the table, labelled ``"3:1"``, in the order of
        the columns.

        Parameters
        ----------
        parts
            Clusters of the same rows, one record per column.
        """
        if len(parts) == 1:
            return parts[0]
        codes = np.column_stack([part.codes for part in parts])
        groups, combined = np.unique(codes, axis=0, return_inverse=True)
        labels = [
            ":".join(str(part.labels[k]) for part, k in zip(parts, group, strict=True)) for group in groups
        ]
        combined = combined.ravel().astype(np.int64)
        combined.flags.writeable = False
        name = ":".join(str(part.labels.name) for part in parts)
        return cls(pd.Index(labels, name=name), combined, parts[0].index)

    def within(self, coarser: Clusters) -> bool:
        """Whether each of these clusters lies in one of `coarser`: classes in schools."""
        pairs = np.unique(np.column_stack([self.codes, coarser.codes]), axis=0)
        return len(pairs) == len(np.unique(self.codes))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(m,) rows in each cluster."""
        return self.count(np.ones(len(self.codes), dtype=bool))

    def count(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(m,) how many of the given rows (n,) each cluster contains."""
        return np.bincount(self.codes[rows], minlength=len(self.labels))

    def where(self, rows: NDArray[np.bool_]) -> str:
        """Text for a message: how many of the rows (n,) are concerned, which ones, in which clusters
        (`messages.where`)."""
        return where(rows, self.codes, self.labels, self.index)

    def varying(self, values: Array) -> NDArray[np.bool_]:
        """(m,) whether a column (n,) has more than one value in each cluster, ignoring NaN."""
        return varies_within(values, self.codes)


def varies_within(values: Array, codes: NDArray[np.integer], tolerance: float = 1e-12) -> NDArray[np.bool_]:
    """(m,) whether a column has more than one value in each cluster, ignoring NaN."""
    there = np.isfinite(values)
    m = int(codes.max()) + 1
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    np.minimum.at(low, codes[there], values[there])
    np.maximum.at(high, codes[there], values[there])
    scale = np.abs(values[there]).max(initial=0.0)
    return high - low > tolerance * scale


def _whole(column: pd.Series) -> pd.Series:
    """Convert whole numbers that were read as floats, because ids were missing, back to integers."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return column
    values = column.to_numpy(np.float64)
    broken = ~(np.isfinite(values) & (values == np.floor(values)))
    if broken.any():
        raise DataError(
            f"The cluster id '{column.name}' is not a whole number or is infinite "
            f"{where(broken, index=column.index)}. Is it the right column? If so, convert it to text."
        )
    if (np.abs(values) >= 2.0**63).any():  # beyond 64-bit integers, in which different ids would become equal
        return column
    return pd.Series(values.astype(np.int64), index=column.index, name=column.name)

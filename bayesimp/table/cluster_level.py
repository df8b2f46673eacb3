"""Cluster-level variables: those with one value in every cluster."""

from __future__ import annotations

import numpy as np

from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = ["of_clusters"]

PAIRS = 10  # of rows of the same cluster that agree, from which on a variable with levels is one of clusters


def of_clusters(data: IncompleteData, name: str) -> bool:
    """Whether a variable has one value in every cluster where it is observed, and not by chance.

    A number is one of clusters if two rows of a cluster never differ; one with few values (levels, counts) only if
    `PAIRS` pairs of rows agree. At least two clusters must have rows to compare, and differ.
    """
    values = data.column_values(name)
    there = ~np.isnan(values)
    rows = np.bincount(data.codes[there], minlength=len(data.clusters))
    several = rows > 1
    if several.sum() < 2 or varies_within(values, data.codes).any():
        return False
    pairs = int((rows[several] - 1).sum())
    differ = len(np.unique(values[there])) > 1
    return differ and (data.variable(name).distribution.is_continuous or pairs >= PAIRS)

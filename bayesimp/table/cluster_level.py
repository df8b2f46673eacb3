"""Cluster-level variables: those with one value in every cluster."""

from __future__ import annotations

import numpy as np

from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = ["of_clusters"]

# pairs of rows in the same cluster that must agree before a variable with levels counts as cluster-level
PAIRS = 10


def of_clusters(data: IncompleteData, name: str) -> bool:
    """Whether a variable has a single value in every cluster in which it is observed, other than by chance.

    A number is cluster-level if rows of a cluster never differ; a variable with few values (levels, counts) only if
    `PAIRS` pairs of rows agree as well. At least two clusters must have rows to compare, and must differ.
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

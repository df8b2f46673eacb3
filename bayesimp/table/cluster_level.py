"""Cluster-level variables: those with one value in every cluster."""

from __future__ import annotations

import numpy as np

from bayesimp.table.clusters import Clusters, varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = ["nested_level", "of_clusters", "of_groups"]

# pairs of rows in the same cluster that must agree before a variable with levels counts as cluster-level
PAIRS = 10


def of_clusters(data: IncompleteData, name: str) -> bool:
    """Whether a variable has a single value in every cluster in which it is observed, other than by chance.

    A number is cluster-level if rows of a cluster never differ; a variable with few values (levels, counts) only if
    `PAIRS` pairs of rows agree as well. At least two clusters must have rows to compare, and must differ.
    """
    return of_groups(data, name, data.grouping)


def nested_level(data: IncompleteData, name: str) -> str:
    """The cluster column, nested in the primary clusters, in each group of which a variable has one value (see
    `of_clusters`), that with the fewest groups; empty if there is none, or if the variable is one of the clusters."""
    if len(data.cluster_columns) < 2 or of_clusters(data, name):
        return ""
    inner = {
        c: data.groupings[c] for c in data.cluster_columns[1:] if data.groupings[c].within(data.grouping)
    }
    found = [c for c, groups in inner.items() if of_groups(data, name, groups)]
    return min(found, key=lambda c: len(inner[c]), default="")


def of_groups(data: IncompleteData, name: str, groups: Clusters) -> bool:
    """The same of any groups of rows."""
    values = data.column_values(name)
    there = ~np.isnan(values)
    rows = np.bincount(groups.codes[there], minlength=len(groups))
    several = rows > 1
    if several.sum() < 2 or varies_within(values, groups.codes).any():
        return False
    pairs = int((rows[several] - 1).sum())
    differ = len(np.unique(values[there])) > 1
    return differ and (data.variable(name).distribution.is_continuous or pairs >= PAIRS)

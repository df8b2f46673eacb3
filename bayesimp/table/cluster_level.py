"""Cluster-level variables: those with one value in every cluster; tables with one row in every cluster."""

from __future__ import annotations

import re

import numpy as np

from bayesimp.events import Event
from bayesimp.messages import listing
from bayesimp.table.clusters import Clusters, varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = ["ONE_ROW", "nested_level", "of_clusters", "of_groups", "one_row_each"]

ONE_ROW = "one row in each cluster"  # kind of the event

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
    """The same for the groups of any factor."""
    values = data.column_values(name)
    there = ~np.isnan(values)
    rows = np.bincount(groups.codes[there], minlength=len(groups))
    several = rows > 1
    if several.sum() < 2 or varies_within(values, groups.codes).any():
        return False
    pairs = int((rows[several] - 1).sum())
    differ = len(np.unique(values[there])) > 1
    return differ and (data.variable(name).distribution.is_continuous or pairs >= PAIRS)


def one_row_each(data: IncompleteData) -> list[Event]:
    """An event if no cluster has a second row, with the way to rows of repeated measures if these lie in columns."""
    if data.sizes.max() > 1:
        return []
    text = (
        f"there is one row in every cluster of '{data.cluster}', {len(data):,} in all, so what differs between clusters "
        "cannot be told from what differs between rows: random effects and their variances rest on their priors"
    )
    separator, stems = _repeated(data)
    if stems:
        columns = [name for names in stems.values() for name in names]
        text += (
            f". If {listing(columns, most=4)} are repeated measures, give each a row: pd.wide_to_long(table, "
            f"{list(stems)!r}, i={data.cluster!r}, j='time', sep={separator!r}).reset_index()"
        )
    text += ". If the rows are independent, use models without clusters: methods='glm' of chained equations"
    return [Event(ONE_ROW, data.cluster, text, len(data))]


def _repeated(data: IncompleteData) -> tuple[str, dict[str, list[str]]]:
    """Numbered columns that share a stem, by stem, ``{"y": ["y1", "y2"]}``, and the separator of stem and number."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in data.variables:
        if parts := re.fullmatch(r"(.*[^\W\d_])([_. -]?)\d+", name):
            found.setdefault((parts[2], parts[1]), []).append(name)
    several = {key: names for key, names in found.items() if len(names) > 1}
    first = next((separator for separator, _ in several), "")
    return first, {stem: names for (separator, stem), names in several.items() if separator == first}

"""Columns that name rows or groups of rows instead of measuring them; by default they are not predictors.

A number that counts rows has no linear effect on anything, and its cluster means reflect only how the table was put
together. One cannot prove that a column is such a number; these are patterns that measurements do not show
(tests/table/test_ids.py checks public tables):

    rows        whole numbers, all different, that run without a gap; or that do so within every cluster and never overlap
                (101, 102, ..., 201, 202, ...); or are called ids
    groups      whole numbers that have no gap or are called ids, each in one cluster only: pupils seen several times;
                or others of which each is in one cluster only and determines another variable, other than by chance
    clusters    one value in each cluster, all different: texts and categories; whole numbers in the order of the clusters

Years and occasions recur in other clusters, and measurements have gaps, so both remain predictors. If clusters follow
each other in time, a time that runs through all of them looks like a row number, so columns called time, age or rank
remain too.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import grouped_by

__all__ = ["names_rows"]

LEAST = 20  # with this many rows or groups, numbers without a gap are not a coincidence
NUMBER = "id|ids|nr|no|num|number|key|index|idx|row|rows|rownames|rownum|record|serial"
CALLED = re.compile(
    rf"(^|[^a-z])[pucs]?({NUMBER})$|[a-z](ID|Id|NR|Nr)$|"
    rf"^(id|obs|seq|case|subject|subj|patient|pat|pupil|student|child|kid|person|study|participant)(_?({NUMBER}))?$"
)
MEASURED = re.compile(
    r"(^|[^a-z])(t|time|times|date|year|years|yr|month|months|week|day|days|hour|minute|quarter|period|wave|visit|age|"
    r"agey|rank|order|game|round|episode|congress)([^a-z]|$)"
)


def names_rows(data: IncompleteData, name: str) -> str:
    """What a complete column names, in words; empty if it may be a measurement."""
    column = data.frame[name].infer_objects()
    codes, m = data.codes, len(data.clusters)
    if not pd.api.types.is_numeric_dtype(column.dtype) or data.variable(name).distribution.is_factor:
        places = pd.factorize(column)[0]
        alone = not varies_within(places.astype(float), codes).any() and len(np.unique(places)) == m > 2
        return "another name for the clusters (one value in each, all different)" if alone else ""
    values = column.to_numpy(np.float64)
    whole = not pd.api.types.is_bool_dtype(column.dtype) and bool((values == np.floor(values)).all())
    if not whole or MEASURED.search(name.lower()):
        return ""
    different = np.unique(values)
    called = CALLED.search(name) is not None or CALLED.search(name.lower()) is not None
    gapless = different[-1] - different[0] + 1 == len(different) or called
    if len(different) == len(values) > m:
        likely = len(values) >= LEAST and (gapless or _runs(values, codes, m))
        return "numbers of the rows (whole, all different)" if likely else ""
    if len(different) == m and not varies_within(values, codes).any():
        of_cluster = np.empty(m)
        of_cluster[codes] = values
        return "numbers of the clusters (one in each, all different)" if _in_order(of_cluster, codes) else ""
    pairs = len(np.unique(np.column_stack([codes, values]), axis=0))
    apart = pairs == len(different) >= LEAST
    if apart and ((gapless and pairs > 2 * m) or (pairs > m and _determines(data, name))):
        return "numbers of groups of rows (whole, each in one cluster only)"
    return ""


def _determines(data: IncompleteData, name: str) -> bool:
    """Whether another variable that varies within clusters has a single value in each group of rows of a column."""
    others = [v for v in data.variables if v != name and data.variable(v).distribution.is_imputable]
    return any(grouped_by(data, other, name) for other in others)


def _runs(values: NDArray[np.float64], codes: NDArray[np.integer], m: int) -> bool:
    """Whether numbers run without a gap in each cluster, and those of two clusters never overlap."""
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    sizes = np.bincount(codes, minlength=m)
    order = np.argsort(low)
    apart = (low[order][1:] > high[order][:-1]).all()
    return bool(apart and (high - low + 1 == sizes).all() and sizes.max() > 2)


def _in_order(of_cluster: NDArray[np.float64], codes: NDArray[np.integer]) -> bool:
    """Whether numbers run without a gap in the order of the clusters' labels, or of their first rows."""
    if of_cluster.max() - of_cluster.min() + 1 != len(of_cluster) or len(of_cluster) < 5:
        return False
    appeared = np.argsort(np.unique(codes, return_index=True)[1])
    return any((np.diff(of_cluster[order]) == 1).all() for order in (slice(None), appeared))

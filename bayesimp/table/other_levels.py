"""Variables of a level other than the clusters, such as one value per class where pupils are clustered in schools.

Both engines impute them row by row, which gives a class several values. They are found through a column that groups
rows: within each cluster, a variable y belongs to the level of the groups if it never differs between observed rows of
the same group, other than by chance. With p_v the frequency of value v in cluster i, and n_h the observed rows of group
h,

    P(all agree by chance) = prod_i (sum_v p_v^2) ^ (sum_h (n_h - 1))

clusters in which y does not vary provide no evidence.

Variables that, with a few exceptions, look like variables of the clusters, and categories without a row are reported too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_float_dtype, is_numeric_dtype

from bayesimp.events import Event
from bayesimp.messages import listing
from bayesimp.table.determined import determined
from bayesimp.table.incomplete import IncompleteData

__all__ = ["grouped_by", "of_other_levels", "other_groupings"]

CHANCE = 1e-8  # small, because many pairs of columns are compared
MOST, CLUSTERS, DEVIATING, COMMON = 0.75, 7, 0.02, 0.9  # see `_nearly_of_clusters`
Array = NDArray[np.float64]


def of_other_levels(data: IncompleteData, names: Iterable[str]) -> list[Event]:
    """Events about incomplete variables whose level, or levels, may not be what they seem.

    "another level": it has a single value in every group of a column. The event names the column with the fewest groups,
    preferring texts and categories to numbers; its count is the number of missing cells whose value is known from other
    rows of the group. "determined": see `bayesimp.table.determined`. "nearly one value": see `_nearly_of_clusters`.
    "levels without rows": categories of the column that are never observed, and so never imputed.
    """
    names = list(names)
    columns = {name: _groups(data, name) for name in (*data.variables, *data.cluster_columns[1:])}
    groups = {name: codes for name, codes in columns.items() if codes is not None}
    orders = {name: np.argsort(codes, kind="stable") for name, codes in groups.items()}
    events = []
    for name in names:
        if not data.missing(name).any():
            continue
        y = data.column_values(name)
        found = [
            other
            for other, codes in groups.items()
            if other != name and _constant(y, codes, orders[other], data.codes)
        ]
        if found:
            events.append(determined(data, name, found) or _event(data, name, y, found, groups))
        events += _nearly_of_clusters(data, name, y) + _without_rows(data, name)
    return events


def _nearly_of_clusters(data: IncompleteData, name: str, y: Array) -> list[Event]:
    """An event about a variable with one value in most of the clusters with three observed values or more.

    These are at least `CLUSTERS` clusters and a share of `MOST`, and in all clusters at most a share of `DEVIATING` of
    the values, or one value, differs from its cluster's most common one: a state that changes now and then is no
    variable of the clusters. Not of a variable that rarely differs from its most common value: a rare outcome has one
    value in most clusters.
    """
    seen = ~np.isnan(y)
    by = pd.Series(y[seen]).groupby(data.codes[seen])
    values = pd.DataFrame({"rows": by.size(), "distinct": by.nunique(), "first": by.first()})
    values = values[values["rows"] >= 3]
    constant = values[values["distinct"] == 1]
    several = values.index[values["distinct"] > 1]
    if not len(several) or len(constant) < max(MOST * len(values), CLUSTERS):
        return []
    common = sum(by.get_group(cluster).value_counts().iloc[0] for cluster in several)
    deviating = values.loc[several, "rows"].sum() - common
    if deviating > max(DEVIATING * values["rows"].sum(), 1):
        return []
    if constant["first"].value_counts(normalize=True).iloc[0] > COMMON:
        return []
    text = (
        f"a single value in {len(constant):,} of the {len(values):,} clusters of '{data.cluster}' with three observed "
        f"values or more, but several in {listing(data.clusters[several])}. It is imputed row by row. If it is a "
        "variable of the clusters, correct these values, or set them to missing, so that it is imputed once in each of "
        "them"
    )
    return [Event("nearly one value", name, text, len(several))]


def _without_rows(data: IncompleteData, name: str) -> list[Event]:
    """An event about categories of a column that occur in no row."""
    column = data.frame[name]
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return []
    left = [level for level in column.dtype.categories if level not in set(column.dropna())]
    if not left:
        return []
    text = (
        f"{listing(left)} of its categories {'is' if len(left) == 1 else 'are'} never observed and therefore not "
        "imputed: nothing in the table says how probable they are"
    )
    return [Event("levels without rows", name, text, len(left))]


def grouped_by(data: IncompleteData, name: str, column: str) -> bool:
    """Whether a variable has a single value in every group of rows of a column within clusters, other than by chance."""
    codes = _groups(data, column)
    if codes is None:
        return False
    return _constant(data.column_values(name), codes, np.argsort(codes, kind="stable"), data.codes)


def other_groupings(data: IncompleteData, used: Collection[str]) -> list[Event]:
    """An event "not used" about cluster columns for which a model has no effects; ``used`` are those for which it has."""
    left = [name for name in data.cluster_columns if name not in used]
    if not left:
        return []
    text = (
        f"{listing(left)} of the cluster columns {'has' if len(left) == 1 else 'have'} no effects in this model; rows "
        "of one group are imputed as if they had nothing more in common. JointNormal, JointLatent, JointGLMM and "
        f"'bayes' of FCS take several random parts: (1 | {data.cluster}) + (1 | {left[0]})"
    )
    return [Event("not used", "cluster", text, len(left))]


def _groups(data: IncompleteData, name: str) -> NDArray[np.int64] | None:
    """(N,) number of the row's group (cluster by value), -1 where it is missing; None if the column does not group
    rows."""
    column = data.frame[name]
    if is_float_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan)
        there = values[~np.isnan(values)]
        if not (np.isfinite(there).all() and (there == np.rint(there)).all()):
            return None
        column = pd.Series(values)  # pandas has no float16 index
    try:
        codes = column.astype("category").cat.codes.to_numpy(np.int64)
    except (TypeError, ValueError, NotImplementedError):  # lists, say
        return None
    if codes.max(initial=-1) < 1:
        return None
    key = np.where(codes < 0, -1, data.codes * (codes.max() + 1) + codes)
    _, group = np.unique(key[key >= 0], return_inverse=True)
    out = np.full(len(key), -1)
    out[key >= 0] = group.ravel()
    return out if group.max(initial=-1) + 1 < (key >= 0).sum() else None


def _constant(
    y: Array, groups: NDArray[np.int64], order: NDArray[np.int64], clusters: NDArray[np.int64]
) -> bool:
    """Whether y has a single value in every group, other than by chance; order (N,) sorts the rows by group."""
    sorted_ = groups[order]
    near = (np.diff(sorted_) == 0) & (sorted_[1:] >= 0)
    if (np.abs(np.diff(y[order])) > 0)[near].any():  # settles nearly all columns
        return False
    there = ~np.isnan(y) & (groups >= 0)
    y, group, cluster = y[there], groups[there], clusters[there]
    if len(y) < 2:
        return False
    order = np.argsort(group, kind="stable")
    y, group, cluster = y[order], group[order], cluster[order]
    same = group[1:] == group[:-1]
    if not same.any() or (y[1:] != y[:-1])[same].any():
        return False
    m = int(cluster.max()) + 1
    pairs = np.bincount(cluster[1:][same], minlength=m)
    _, value = np.unique(y, return_inverse=True)
    count = np.unique(np.column_stack([cluster, value.ravel()]), axis=0, return_counts=True)
    n = np.bincount(cluster, minlength=m)
    agree = np.bincount(count[0][:, 0], (count[1] / n[count[0][:, 0]]) ** 2, m)
    return bool((pairs * np.log(np.where(n > 0, agree, 1.0))).sum() < np.log(CHANCE))


def _event(
    data: IncompleteData, name: str, y: Array, found: list[str], groups: dict[str, NDArray[np.int64]]
) -> Event:
    def place(other: str) -> tuple[bool, int]:
        numbers = is_numeric_dtype(data.frame[other].dtype) and not is_bool_dtype(data.frame[other].dtype)
        return numbers, len(np.unique(groups[other]))

    best = min(found, key=place)
    codes, missing = groups[best], np.isnan(y)
    seen = np.unique(codes[~missing & (codes >= 0)])
    known = int((missing & np.isin(codes, seen)).sum())
    also = f" (and of {listing(other for other in found if other != best)})" if len(found) > 1 else ""
    cluster = data.cluster
    text = (
        f"'{name}' has a single value in each of the {len(seen):,} groups of '{best}'{also} within '{cluster}' where it "
        "is observed, but is imputed row by row, so a group will have several values. "
    )
    if known:
        text += (
            f"{known:,} cells are known from other rows of their group; fill these in first: "
            f"table.groupby(['{cluster}', '{best}'])['{name}'].transform('first'). "
        )
    text += (
        f"Impute it in a table with one row for each '{best}', clustered by '{cluster}', and merge the two; or make "
        f"'{best}' the cluster (with different labels in every '{cluster}'), and it is imputed once in each. If it is "
        f"computed from '{best}', compute it in the table, or through derived=."
    )
    return Event("another level", name, text, known)

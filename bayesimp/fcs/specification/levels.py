"""Blocks whose columns must vary within clusters, or must not.

A stratified model has a term for each cluster, which absorbs all differences between clusters. In a two-stage model the
coefficients of all columns that vary within clusters differ between clusters. A cluster-level variable is predicted by
cluster-level variables and by the cluster means of all others. If a variable is observed in one cluster only, columns
that are constant there cannot predict it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.columns import INTERCEPT, Column, cluster_column
from bayesimp.messages import listing
from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "Draft", "between_clusters", "check_groups", "random_within_clusters", "varying_in_one_cluster", "within_clusters",
]  # fmt: skip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Draft:
    """A block before cluster means are added; explicit: whether the user wrote a formula."""

    block: ConditionalModel
    explicit: bool


def random_within_clusters(draft: Draft, data: IncompleteData, values: Mapping[str, Array]) -> Draft:
    """The draft with random effects of all columns that vary within clusters (`TwoStage`).

    ``values``: base columns with missing cells filled in (`values.filled`), here and below.

    Raises
    ------
    SpecificationError
        The formula has no intercept, or another random part.
    """
    _check_intercept(draft.block)
    varying = [c for c in draft.block.fixed if not _between_only(c, data, values)]
    _check_random(draft.block, varying)
    return replace(draft, block=replace(draft.block, random=tuple(varying)))


def within_clusters(draft: Draft, data: IncompleteData, values: Mapping[str, Array]) -> Draft:
    """The draft without columns that vary only between clusters, which terms for clusters absorb (`Stratified`).

    Raises
    ------
    SpecificationError
        The formula has no intercept, or contains such a column.
    """
    _check_intercept(draft.block)
    return replace(draft, block=_within(draft, data, values))


def between_clusters(draft: Draft, data: IncompleteData, values: Mapping[str, Array]) -> Draft:
    """The draft with cluster means instead of columns that vary within clusters (`ClusterLevel`).

    Raises
    ------
    SpecificationError
        The formula has a column that varies within clusters.
    DataError
        The response, or its trials, has several values in a cluster.
    """
    _check_one_value(draft.block, data)
    _check_trials(draft.block, data, values)
    return replace(draft, block=_between(draft.block, data, values))


def check_groups(block: ConditionalModel, label: str, data: IncompleteData) -> None:
    """Refuse a variable of the groups of a factor where these are not nested, disagree, or are fewer than coefficients.

    Raises
    ------
    SpecificationError
        There is no such cluster column, its groups lie in several clusters; a binomial variable; too few groups.
    DataError
        The variable has several values in a group.
    """
    (name,) = block.responses
    groups = data.groups((label,))
    if label == data.cluster or not groups.within(data.grouping):
        where = (
            "are the clusters: '2lonly' imputes these" if label == data.cluster else "lie in several clusters"
        )
        raise SpecificationError(
            f"'{name}': group='{label}' must be nested in '{data.cluster}', and its groups {where}. Name '{label}' first "
            "in cluster=, and a variable of its groups is imputed by '2lonly'."
        )
    if block.trials is not None:
        raise SpecificationError(
            f"'{name}' is binomial, and variables of groups have no trials; take group= out."
        )
    differ = groups.varying(data.column_values(name))
    if differ.any():
        raise DataError(
            f"'{name}' has several values in {int(differ.sum())} of {len(groups)} groups of '{label}' "
            f"({listing(groups.labels[differ])}), and group='{label}' imputes one a group. Make them agree, or impute it "
            f"by rows: methods={{'{name}': 'bayes'}}."
        )
    seen = int((groups.count(~data.missing(name)) > 0).sum())
    if seen <= len(block.fixed) + 1:
        raise SpecificationError(
            f"'{name}' is observed in {seen} groups of '{label}', too few for {len(block.fixed)} coefficients and a "
            f"variance. Name fewer predictors: predictors={{'{name}': [...]}}."
        )


def varying_in_one_cluster(draft: Draft, data: IncompleteData, values: Mapping[str, Array]) -> Draft:
    """A default draft without columns that are constant in the one cluster where the response is observed."""
    block = draft.block
    rows = ~data.missing(block.responses[0])
    if draft.explicit or len(np.unique(data.codes[rows])) > 1:
        return draft
    static = [c for c in block.fixed if c.base != INTERCEPT and np.ptp(values[c.base][rows]) == 0]
    if not static:
        return draft
    note = f"constant in the cluster where it is observed, left out: {listing([c.name for c in static])}"
    fixed = tuple(c for c in block.fixed if c not in static)
    return replace(draft, block=replace(block, fixed=fixed, notes=(*block.notes, note)))


def _check_one_value(block: ConditionalModel, data: IncompleteData) -> None:
    """Refuse clusters whose rows disagree, because the value for their other rows is then unknown."""
    (name,) = block.responses
    differ = varies_within(data.column_values(name), data.codes)
    if differ.any():
        clusters = listing(data.clusters[differ])
        raise DataError(
            f"'{name}' has several values in {int(differ.sum())} of {len(data.clusters)} clusters ({clusters}), but "
            f"'{block.method.name}' imputes one value per cluster. Make them agree, or set wrong values to missing. "
            f"A row-level variable is imputed by, for example, methods={{'{name}': 'bayes'}}."
        )


def _check_trials(block: ConditionalModel, data: IncompleteData, values: Mapping[str, Array]) -> None:
    """Refuse a cluster-level variable whose number of trials varies within a cluster."""
    if block.trials is None:
        return
    differ = varies_within(values[block.trials], data.codes)
    if differ.any():
        raise DataError(
            f"'{block.name}' has a single value in each cluster, but its trials '{block.trials}' have several in "
            f"{int(differ.sum())} of {len(data.clusters)} clusters ({listing(data.clusters[differ])}); make them "
            f"agree, or impute it row by row: methods={{'{block.name}': 'bayes'}}."
        )


def _check_random(block: ConditionalModel, varying: list[Column]) -> None:
    """Refuse a random part that differs from that of the method."""
    if block.random and set(block.random) != set(varying):
        raise SpecificationError(
            f"'{block.name}': method '{block.method.name}' has random effects of all columns that vary within clusters "
            f"({listing([c.name for c in varying], 10)}); write all of these in the random part, or none."
        )


def _check_intercept(block: ConditionalModel) -> None:
    if not any(c.base == INTERCEPT and c.over is None for c in block.fixed):
        raise SpecificationError(
            f"'{block.name}': method '{block.method.name}' has a term for each cluster; remove the 0 from its formula."
        )


def _between_only(column: Column, data: IncompleteData, values: Mapping[str, Array]) -> bool:
    """Whether a column other than the intercept varies only between clusters."""
    if column.base == INTERCEPT:
        return column.over is not None
    return column.over is None and not varies_within(values[column.base], data.codes).any()


def _within(draft: Draft, data: IncompleteData, values: Mapping[str, Array]) -> ConditionalModel:
    block = draft.block
    static = [c for c in block.fixed if _between_only(c, data, values)]
    if not static:
        return block
    names = listing([c.name for c in static])
    if draft.explicit:
        raise SpecificationError(
            f"'{block.name}': {names} vary only between clusters, but method '{block.method.name}' has a term for "
            "each cluster, which makes them redundant. Remove them from the formula, or use 'bayes' or 'mlmi'."
        )
    fixed = tuple(c for c in block.fixed if c not in static)
    return replace(block, fixed=fixed, notes=(*block.notes, f"between clusters only, left out: {names}"))


def _between(block: ConditionalModel, data: IncompleteData, values: Mapping[str, Array]) -> ConditionalModel:
    columns = []
    for c in block.fixed:
        if c.within or (c.over is not None and c.base != INTERCEPT):
            raise SpecificationError(
                f"'{block.name}' is imputed once per cluster, but '{c.name}' varies within clusters; remove it."
            )
        plain = c.over is None and c.base != INTERCEPT
        same = plain and not varies_within(values[c.base], data.codes).any()
        mean = cluster_column(INTERCEPT, (INTERCEPT, c.base)) if plain else c
        columns.append(Column(c.name, mean.base, mean.over) if same else mean)
    return replace(block, fixed=tuple(dict.fromkeys(columns)))

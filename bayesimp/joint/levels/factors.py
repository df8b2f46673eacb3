"""The grouping factors of a formula, and whether the observed cells distinguish their effects.

``(1 | school) + (1 | class)`` is read as lme4 reads it: a class is all rows with its id. If every class lies in one
school the two are nested, otherwise crossed, which an event reports, because class ids that start again in every
school look the same; ids that are the numbers 1, 2, .. in every school are refused. ``(1 | school/class)`` is ``(1 |
school) + (1 | school:class)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.formula import Formula, RandomTerm
from bayesimp.joint.information import check_varies_within, few_clusters, never_together, only_cluster
from bayesimp.messages import listing
from bayesimp.priors import Priors
from bayesimp.table.clusters import Clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["GroupingFactor", "chains_of", "check_factors", "grouping_factors"]

# with fewer coarser groups that contain several finer ones, the prior decides how variance is divided
FEW = 5


@dataclass(frozen=True)
class GroupingFactor:
    """One random term of a formula with its groups.

    Attributes
    ----------
    label
        ``"class"``, ``"school:class"``.
    term
        The term of the formula.
    groups
        The group of every row.
    """

    label: str
    term: RandomTerm
    groups: Clusters


def grouping_factors(formula: Formula, data: IncompleteData) -> tuple[GroupingFactor, ...]:
    """The grouping factors of a formula, that of the primary clusters first.

    Raises
    ------
    SpecificationError
        A group is not a cluster column, the primary clusters have no term, a group has two terms, or ``||`` is used.
    DataError
        Two factors have the same groups, or the ids of one are numbered within the primary clusters.
    """
    labels = [term.label for term in formula.random]
    if data.cluster not in labels:
        raise SpecificationError(
            f"'{formula}' has no term of '{data.cluster}', the primary clusters of the data: add (1 | {data.cluster}), "
            "or name the column that has one first: bi.IncompleteData(table, cluster=[...])."
        )
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise SpecificationError(
            f"'{formula}' has two terms of '{twice[0]}'. Join them, (1 + x | {twice[0]}); their covariance is then "
            "estimated as well. For independent effects use priors.Diagonal as the prior of Psi."
        )
    factors = [GroupingFactor(term.label, term, data.groups(term.names)) for term in formula.random]
    factors.sort(key=lambda factor: factor.label != data.cluster)
    for one, other in combinations(factors, 2):
        if one.groups.within(other.groups) and other.groups.within(one.groups):
            raise DataError(
                f"'{one.label}' and '{other.label}' have the same {len(one.groups):,} groups of rows (one "
                f"'{other.label}' in each '{one.label}'): their effects cannot be distinguished. Remove one of the two "
                "terms, or one of the columns from cluster=."
            )
    for factor in factors[1:]:
        _check_ids(factor, data)
    return tuple(factors)


def _check_ids(factor: GroupingFactor, data: IncompleteData) -> None:
    """Refuse ids 1, 2, .. that start again in every primary cluster, such as classes numbered within schools."""
    name, cluster = factor.label, data.cluster
    labels = factor.groups.labels
    if len(factor.term.names) > 1 or not pd.api.types.is_integer_dtype(labels.dtype):
        return
    ids = pd.DataFrame(
        {"cluster": data.codes, "id": labels.to_numpy()[factor.groups.codes]}
    ).drop_duplicates()
    by_cluster = ids.groupby("cluster")["id"].agg(["min", "max", "count"])
    first = by_cluster["min"].iloc[0]
    gapless = (by_cluster["max"] - by_cluster["min"] + 1 == by_cluster["count"]).all()
    if first in (0, 1) and gapless and (by_cluster["min"] == first).all() and by_cluster["count"].max() > 1:
        raise DataError(
            f"'{name}' has the numbers {first}, {first + 1}, .. in every one of the {len(by_cluster):,} clusters of "
            f"'{cluster}': without a change, '{name}' {first} would be one group of all of them. If it is numbered "
            f"within '{cluster}', write (1 | {cluster}/{name}), or give every '{name}' an id of its own: "
            f"table['{name}'] = table['{cluster}'].astype(str) + ':' + table['{name}'].astype(str). If '{name}' "
            f"{first} is the same everywhere (crossed), say so by making the ids text: table['{name}'] = "
            f"table['{name}'].astype(str)."
        )


def check_factors(
    data: IncompleteData, factors: Sequence[GroupingFactor], responses: Sequence[str], priors: Priors
) -> list[Event]:
    """Refuse factors after the first that cannot be estimated; report what depends on the prior alone.

    Returns
    -------
    Events "crossed" for factors that are not nested in the primary clusters, and "prior only" and "prior matters" as in
    `bayesimp.joint.information.check_information`.

    Raises
    ------
    DataError
        A response is observed in one group only, once in each group, or has a single value in each; or, where it is
        observed, two factors have the same groups.
    """
    events = []
    observed = np.column_stack([~data.missing(name) for name in responses])
    for factor in factors[1:]:
        prior, groups = priors.of_factor(factor.label), factor.groups
        if not groups.within(data.grouping):
            events.append(_crossed(factor, data))
        seen = np.column_stack([groups.count(rows) for rows in observed.T])
        for k, name in enumerate(responses):
            y = data.numeric(name)
            check_varies_within(
                name,
                y,
                groups,
                f"; or add the mean of '{name}' by '{factor.label}' to the right side",
                factor.label,
            )
            if prior.is_known:
                continue
            if (seen[:, k] > 0).sum() == 1:
                raise only_cluster(name, groups, seen[:, k], factor.label)
            if seen[:, k].max() == 1:
                raise DataError(
                    f"'{name}' is observed once in each of the {int(seen[:, k].sum()):,} groups of '{factor.label}' "
                    f"where it is observed: its effects of '{factor.label}' are residuals. Remove (.. | {factor.label})."
                )
            events += few_clusters(
                name, seen[:, k], f"Psi_{factor.label}[{name}]", f"groups of '{factor.label}'"
            )
        events += never_together(
            responses, seen > 0, f"Psi_{factor.label}", f"group of '{factor.label}'", "effect"
        )
    for one, other in combinations(factors, 2):
        events += _told_apart(one, other, responses, observed, priors)
    return events


def _crossed(factor: GroupingFactor, data: IncompleteData) -> Event:
    pairs = np.unique(np.column_stack([factor.groups.codes, data.codes]), axis=0)
    several = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    text = (
        f"{len(several):,} of {len(factor.groups):,} groups of '{factor.label}' "
        f"({listing(factor.groups.labels[several])}) have rows in several clusters of '{data.cluster}' and are one "
        f"group in all of them: the two are crossed. If the ids start again in each '{data.cluster}', write (1 | "
        f"{data.cluster}/{factor.label})"
    )
    return Event("crossed", factor.label, text, len(several))


def _told_apart(
    one: GroupingFactor,
    other: GroupingFactor,
    responses: Sequence[str],
    observed: NDArray[np.bool_],
    priors: Priors,
) -> list[Event]:
    """Check that the rows in which each response is observed distinguish the groups of two factors."""
    events = []
    if any(priors.of_factor(factor.label).is_known for factor in (one, other)):
        return []
    for k, name in enumerate(responses):
        a, b = one.groups.codes[observed[:, k]], other.groups.codes[observed[:, k]]
        pairs = np.unique(np.column_stack([a, b]), axis=0)
        several = [int((np.bincount(pairs[:, j]) > 1).sum()) for j in (0, 1)]
        where = f"Psi_{one.label}, Psi_{other.label}[{name}]"
        if max(several) == 0:
            raise DataError(
                f"Where '{name}' is observed ({len(a):,} rows), every '{one.label}' has one '{other.label}' and "
                "vice versa: their effects cannot be distinguished. Remove one of the two terms, or fix its "
                f"covariance: priors.Priors(Psi_of={{'{other.label}': priors.Fixed(...)}})."
            )
        if max(several) < FEW:
            text = (
                f"where '{name}' is observed, only {max(several)} groups of '{one.label}' or '{other.label}' have rows "
                "in several groups of the other: how their variance is divided depends strongly on the prior; compare "
                "several."
            )
            events.append(Event("prior matters", where, text, max(several)))
    return events


def chains_of(factors: Sequence[GroupingFactor]) -> list[list[int]]:
    """Chains of nested factors, finest first, that contain every factor.

    A chain starts with the factor with most groups that is not yet in a chain and continues with the finest factor in
    which the last is nested. A factor in which two others are nested is in the chains of both.
    """
    order = sorted(range(len(factors)), key=lambda s: (-len(factors[s].groups), s))
    chains: list[list[int]] = []
    for s in order:
        if any(s in chain for chain in chains):
            continue
        chain = [s]
        while True:
            last = factors[chain[-1]].groups
            coarser = [u for u in order if u not in chain and last.within(factors[u].groups)]
            if not coarser:
                break
            chain.append(coarser[0])
        chains.append(chain)
    return chains

"""Grouping factors of a joint GLMM besides the clusters, ``(1 | school) + (1 | class)``, and which factors have them.

A default formula has an intercept of every grouping factor that the model has: those of the formulas given, and the other
cluster columns of the table. It lacks those that its response cannot have (`_cannot`), or that its observed values do not
support, which is printed. A variable with one value per cluster has those in which clusters are nested. Formulas that the
user gives may have slopes of every factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.formulas.formula import RandomTerm, parse
from bayesimp.formulas.predictors import Predictors
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.levels.factors import GroupingFactor, check_factors, grouping_factors
from bayesimp.kernels.levels.nested import parents
from bayesimp.priors import Priors
from bayesimp.table.cluster_level import of_clusters, of_groups
from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "FurtherRows",
    "check_level",
    "check_levels",
    "further_groups",
    "further_rows",
    "levels_by_default",
    "nested_levels",
]

Ints = NDArray[np.int64]


def further_groups(data: IncompleteData, formulas: Sequence[Predictors]) -> tuple[GroupingFactor, ...]:
    """The grouping factors besides the clusters: those of the formulas, then the other cluster columns of the table.

    Raises
    ------
    DataError, SpecificationError
        As for `bayesimp.joint.levels.factors.grouping_factors`.
    """
    terms: dict[str, RandomTerm] = {}
    for term in (term for formula in formulas for term in formula.further):
        terms.setdefault(term.label, term)
    groups = [term.group for term in terms.values()]
    columns = {name for term in terms.values() for name in term.names}
    groups += [write(Name(name)) for name in data.cluster_columns[1:] if name not in columns]
    if not groups:
        return ()
    random = " + ".join(f"(1 | {group})" for group in (write(Name(data.cluster)), *groups))
    return grouping_factors(parse(f"~ 1 + {random}"), data)[1:]


def _cannot(data: IncompleteData, name: str, factor: GroupingFactor) -> str | None:
    """Why a response cannot have effects of a grouping factor, or None."""
    if of_clusters(data, name) and not data.grouping.within(factor.groups):
        return f"'{name}' has a single value in each '{data.cluster}', and these are not nested in '{factor.label}'"
    return None


def check_levels(data: IncompleteData, factor: GroupingFactor, names: Sequence[str]) -> None:
    """Refuse incomplete variables with a single value in each group of a grouping factor that is not the clusters.

    Raises
    ------
    SpecificationError
    """
    for name in names:
        if not data.missing(name).any() or not of_groups(data, name, factor.groups):
            continue
        finer = factor.groups.within(data.grouping)
        if finer and of_clusters(data, name):
            continue
        cure = (
            f"Make '{factor.label}' the clusters, cluster={[factor.label, data.cluster]!r}: it is imputed once in each"
            if finer and len(factor.term.names) == 1
            else f"Impute it in a table with one row for each '{factor.label}', and merge the two"
        )
        raise SpecificationError(
            f"'{name}' has a single value in each '{factor.label}'. The variables of JointGLMM are those of rows and of "
            f"'{data.cluster}', the first grouping factor; imputed row by row, '{name}' would have several values in a "
            f"'{factor.label}'. {cure}; or use bi.FCS, whose method 'bayes' imputes variables of groups."
        )


def check_level(data: IncompleteData, name: str, factor: GroupingFactor, priors: Priors) -> list[Event]:
    """Refuse effects of a grouping factor that a response cannot have, or about which the data say nothing.

    Raises
    ------
    SpecificationError, DataError
        As for `bayesimp.joint.levels.factors.check_factors`.
    """
    cannot = _cannot(data, name, factor)
    if cannot is not None:
        raise SpecificationError(f"{cannot}. Take (.. | {factor.label}) out of its formula.")
    primary = _primary(data)
    if not of_clusters(data, name):
        return check_factors(data, [primary, factor], [name], priors)
    seen = np.unique(data.codes[~data.missing(name)])
    group = factor.groups.codes[np.unique(data.codes, return_index=True)[1]][seen]
    if not priors.of_factor(factor.label).is_known and np.bincount(group).max() == 1:
        raise DataError(
            f"'{name}' has a single value in each '{data.cluster}' and is observed in one of them at most in each "
            f"'{factor.label}': its effects of '{factor.label}' are residuals. Remove (1 | {factor.label})."
        )
    return []


def _primary(data: IncompleteData) -> GroupingFactor:
    formula = parse(f"~ 1 + (1 | {write(Name(data.cluster))})")
    return GroupingFactor(data.cluster, formula.random[0], data.grouping)


def levels_by_default(
    data: IncompleteData, name: str, further: Sequence[GroupingFactor], priors: Priors
) -> tuple[list[GroupingFactor], list[str]]:
    """The grouping factors of a default formula, and notes on those that it lacks."""
    kept, notes = [], []
    for factor in further:
        try:
            check_level(data, name, factor, priors)
        except (DataError, SpecificationError) as refused:
            notes.append(f"no effects of {factor.label}: {_cannot(data, name, factor) or refused}")
        else:
            kept.append(factor)
    return kept, notes


@dataclass(frozen=True)
class FurtherRows:
    """A grouping factor besides the clusters, as the sampler reads it.

    Attributes
    ----------
    label
        Its label.
    order
        (G,) group of the table at each position.
    codes
        (n,) group of each row, as a position.
    sorted, starts
        By factor of the model: the rows in which it is used, as positions among them, sorted by group; and where those
        of each group begin (G + 1,).
    """

    label: str
    order: Ints
    codes: Ints
    sorted: tuple[Ints, ...]
    starts: tuple[Ints, ...]

    @property
    def number(self) -> int:
        """The number of groups, G."""
        return len(self.order)


def further_rows(factor: GroupingFactor, order: Ints, codes: Ints, rows: Sequence[Ints]) -> FurtherRows:
    """The record; rows: those in which each factor of the model is used."""
    by_group = tuple(np.argsort(codes[own], kind="stable") for own in rows)
    edges = np.arange(len(order) + 1)
    starts = tuple(
        np.searchsorted(codes[own][at], edges).astype(np.int64)
        for own, at in zip(rows, by_group, strict=True)
    )
    return FurtherRows(factor.label, order, codes, by_group, starts)


def nested_levels(levels: Sequence[tuple[Ints, int]]) -> tuple[tuple[int, int, Ints], ...]:
    """Pairs of nested levels, the finer one first, and the coarser group of each finer one.

    levels: the group of each row, and the number of groups.
    """
    out = []
    for s, (codes, number) in enumerate(levels):
        for t, (coarser, _) in enumerate(levels):
            if s != t:
                of = parents(codes, coarser, number)
                if (of[codes] == coarser).all():
                    out.append((s, t, of))
    return tuple(out)

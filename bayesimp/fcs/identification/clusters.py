"""Identifiability from clusters: columns that vary only between clusters, and separate fits in each cluster."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.identification.evidence import Evidence
from bayesimp.fcs.specification.values import column_values, dependent
from bayesimp.formulas.columns import INTERCEPT, Column
from bayesimp.messages import listing
from bayesimp.table.clusters import varies_within

__all__ = ["between", "combined_means", "fitted_by_themselves", "rows_for_cluster_terms"]

Array = NDArray[np.float64]


def between(s: Evidence) -> list[Event]:
    """Check columns that vary only between clusters, grouped by the column they multiply; clusters are their units."""
    events = []
    for base, group in _groups(s):
        plain = [j for j in group if s.block.fixed[j] not in s.shrunk]
        if any(s.block.fixed[j].over for j in plain) or base == INTERCEPT:
            events += _between_rank(s, [s.names[j] for j in plain], _of_clusters(s, base, plain))
        for j in (j for j in group if j not in plain):
            events += _shrunk_mean(s, j, _of_clusters(s, base, [*plain, j]))
    return events


def combined_means(s: Evidence, automatic: Collection[Column]) -> list[int]:
    """Automatic between-cluster columns that are combinations of others, in the clusters where all have values.

    Means of incomplete variables are left out before those of complete ones, those observed in few clusters before
    others, and the last by name among equals. If there are more columns than clusters, the choice is undetermined and
    none is left out.
    """

    def rank(j: int, known: int) -> tuple:
        column = s.block.fixed[j]
        if column not in automatic:
            return (False,)
        return True, not s.base.complete.keys() >= set(column.over or ()), -known, column.name

    found: list[int] = []
    for base, group in _groups(s):
        known = np.isfinite(_of_clusters(s, base, group)).sum(axis=0)
        ranks = {j: rank(j, int(n)) for j, n in zip(group, known, strict=True)}
        group.sort(key=ranks.__getitem__)
        matrix = _of_clusters(s, base, group)
        matrix = matrix[np.isfinite(matrix).all(axis=1)]
        if len(matrix) >= len(group):
            out = dependent(matrix)
            found += [j for j, is_out in zip(group, out, strict=True) if is_out and ranks[j][0]]
    return found


def _groups(s: Evidence) -> list[tuple[str, list[int]]]:
    """Columns that vary only between clusters, grouped by the column that they multiply; without empty groups."""
    groups = []
    for base in dict.fromkeys([INTERCEPT, *(c.base for c in s.block.fixed if c.over)]):
        group = [j for j, c in enumerate(s.block.fixed) if _is_between(s, j, c, base)]
        over = [j for j in group if s.block.fixed[j].base != base or s.block.fixed[j].over]
        if over and len(s.clusters) > 1:
            groups.append((base, group))
    return groups


def _of_clusters(s: Evidence, base: str, group: Sequence[int]) -> Array:
    """Values (m, len(group)) of such columns, a row for each cluster where the response is observed."""
    columns = [_by_cluster(s.block.fixed[j], base) for j in group]
    return column_values(columns, s.values, s.codes, centred=True)[s.first_rows]


def _by_cluster(column: Column, base: str) -> Column:
    """The between-cluster part of a column, without the column that it multiplies."""
    if column.over:
        return Column(column.name, INTERCEPT, column.over, column.sum)
    return Column(INTERCEPT, INTERCEPT) if column.base == base else column


def _between_rank(s: Evidence, names: list[str], matrix: Array) -> list[Event]:
    m, k = matrix.shape
    if k > m:
        text = (
            f"{k} columns vary only between clusters ({listing(names)}), but it is observed in {m} clusters."
        )
        return s.unidentified(names[-1], text)
    known = np.isfinite(matrix).all(axis=1)
    out = dependent(matrix[known])
    if known.sum() >= k and out.any():
        column = names[int(np.argmax(out))]
        text = f"'{column}' is a combination of the other columns that vary only between clusters, in its {m} clusters."
        return s.unidentified(column, text)
    if known.sum() < k:
        text = (
            f"'{s.name}': {listing(names)} have observed values in {int(known.sum())} of its {m} clusters, but {k} "
            "coefficients, which therefore rest on imputed values."
        )
        return [Event("prior matters", s.name, text, int(known.sum()))]
    if k == m and s.block.random:
        text = f"'{s.name}' has as many columns that vary only between clusters as it has clusters ({m})"
        text += ", so Psi rests on its prior alone."
        return [Event("prior only", f"Psi[{s.name}]", text, m)]
    return []


def _shrunk_mean(s: Evidence, j: int, matrix: Array) -> list[Event]:
    """Check a mean with a shrunk coefficient (last column); any number of clusters suffices unless it is redundant."""
    known = np.isfinite(matrix).all(axis=1)
    if known.sum() < matrix.shape[1] or not dependent(matrix[known])[-1]:
        return []
    text = f"'{s.names[j]}' is a combination of the other columns that vary only between clusters, in its "
    return s.unidentified(s.names[j], f"{text}{len(matrix)} clusters.")


def fitted_by_themselves(s: Evidence) -> list[Event]:
    """Refuse two-stage imputation if too few clusters can be fitted separately (`TwoStage`)."""
    sizes = np.bincount(s.codes[s.rows], minlength=len(s.data.clusters))
    p, c = len(s.block.random), len(s.block.fixed) - len(s.block.random)
    least = p + s.block.distribution.spare_rows
    several = np.ones(len(sizes), dtype=bool)
    if s.block.distribution.is_two_valued:  # a constant response has no finite estimate
        several = varies_within(np.where(s.rows, s.values[s.name], np.nan), s.codes)
    many = [i for i in np.flatnonzero((sizes >= least) & several) if _full_rank(s, int(i))]
    if len(many) < 2 + c:
        both = ", and both values occur" * (not several.all())
        raise SpecificationError(
            f"'{s.name}': {len(many)} of its {len(s.clusters)} clusters can be fitted separately, as "
            f"'{s.block.method.name}' does first, but {2 + c} are needed, each with at least {least} rows in which "
            f"{listing(col.name for col in s.block.random)} vary{both}. Remove predictors from its formula, or use "
            "'bayes'."
        )
    return []


def rows_for_cluster_terms(s: Evidence) -> list[Event]:
    """Refuse a term for each cluster if no rows are left for a residual variance (`Stratified`)."""
    if not s.block.distribution.is_normal:
        return []
    terms = len(s.block.fixed) - 1 + len(s.clusters)
    if s.rows.sum() <= terms:
        raise SpecificationError(
            f"'{s.name}': {int(s.rows.sum())} rows are observed, but '{s.block.method.name}' has {terms} coefficients "
            f"(a term for each of {len(s.clusters)} clusters), so none are left for a residual variance. Remove "
            "predictors from its formula, or use 'bayes'."
        )
    return []


def _full_rank(s: Evidence, cluster: int) -> bool:
    """Whether the complete columns that vary between rows are independent in the observed rows of a cluster."""
    places = [s.block.fixed.index(column) for column in s.block.random if column in s.block.fixed]
    X = s.X[s.rows & (s.codes == cluster)][:, places]
    X = X[:, np.isfinite(X).all(axis=0)]
    return not dependent(X).any() if len(X) >= X.shape[1] else False


def _is_between(s: Evidence, j: int, column: Column, base: str) -> bool:
    if column.over:
        return column.base == base
    if base != INTERCEPT:
        return column.base == base
    plain = s.kinds[j] == "complete" and not column.within
    return plain and column.base not in s.varying

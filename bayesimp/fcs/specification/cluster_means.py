"""Cluster means that make a conditional model compatible with a joint one.

In the joint model Y = X beta + Z B + E, the conditional mean of y_k contains, besides X and the other responses, Z_i
times a matrix times Z_i'(Y_-k - X beta_-k). This is a regression on the columns

    z_ijl * mean_i(z_h u)      for columns z_l, z_h of Z and u of (Y_-k, X)

Their coefficients depend on the cluster size, for means much less than for sums (Kunkel & Kaizar 2017, eq. 7). We
therefore use means where the paper uses sums.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.fcs.identification.clusters import combined_means
from bayesimp.fcs.identification.evidence import Evidence, proper
from bayesimp.fcs.specification.left_out import without
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.specification.values import BaseValues, column_values, dependent
from bayesimp.formulas.columns import INTERCEPT, Column, cluster_column
from bayesimp.messages import listing
from bayesimp.priors import default
from bayesimp.table.clusters import varies_within

__all__ = ["check_compatible", "with_cluster_means"]

SHRUNK = "coefficients of cluster means whose variables are also predictors are shrunk towards 0 (priors.Contextual)"
ROUND_OFF = 1e-9  # share of a standard deviation below which that of cluster means counts as zero
PER_COLUMN = 5  # clusters per between-cluster column needed to add means by default
Array = NDArray[np.float64]


def check_compatible(draft: Draft, why: Mapping[str, str]) -> Draft:
    """Refuse compatible=True for a method that cannot use cluster means; if the method is a default, note it."""
    block, method = draft.block, draft.block.method
    reason = method.without_cluster_means()
    if reason is None:
        return draft
    text = f"compatible=True adds no cluster means to '{block.name}': method '{method.name}' {reason}"
    if block.name not in why:
        raise SpecificationError(
            f"{text}. Write the cluster means in its formula, cluster_mean(x), or use 'bayes', 'iw', 'ml' or 'mlmi'."
        )
    return replace(draft, block=replace(block, notes=(*block.notes, text)))


def with_cluster_means(
    draft: Draft,
    base: BaseValues,
    seen: BaseValues,
    compatible: bool | None,
    fitted: NDArray[np.bool_],
) -> ConditionalModel:
    """The block with its default cluster means, and the bounds of their coefficients.

    Parameters
    ----------
    base, seen
        Base columns in all rows, and in the rows to which models are fitted.
    compatible
        Whether to add means; None: where they are sensible.
    fitted
        (N,) bool, the rows to which models are fitted.
    """
    block = _with_means(draft, base, compatible, fitted)
    added = set(block.fixed) - set(draft.block.fixed)
    return _without_combined(_with_contextual(block, base, fitted), seen, added)


def _with_means(
    draft: Draft, base: BaseValues, compatible: bool | None, fitted: NDArray[np.bool_]
) -> ConditionalModel:
    """The block with cluster means, if requested or sensible."""
    block, method = draft.block, draft.block.method
    if not block.random or method.without_cluster_means() is not None:
        return block
    wanted = compatible if method.compatible is None else method.compatible
    if wanted is False or (wanted is None and draft.explicit):
        return block
    data = base.data
    imputed = {name for name in data.variables if data.missing(name).any()}
    values, codes = {name: v[fitted] for name, v in base.filled.items()}, base.codes[fitted]
    seen = [~data.missing(name)[fitted] for name in block.responses]
    shrunk = _is_shrunk(block)
    new, combined, there = cluster_means(
        block.fixed, block.random, values, codes, imputed, seen, wanted is True, shrunk
    )
    notes = list(block.notes)
    if there:
        notes.append(
            f"combinations of other columns in rows where '{block.name}' is observed, left out: {listing(there)}"
        )
    if wanted is None:
        clusters = min(len(np.unique(codes[rows])) for rows in seen)
        needed = clusters_needed((*block.fixed, *new), block.random, values, codes)
        if not new:
            return replace(block, notes=tuple(notes))
        if clusters < needed and not shrunk:
            few = f"observed in {clusters} clusters, {needed} are needed ({PER_COLUMN} for each)"
            return replace(block, notes=(*block.notes, f"no cluster means: {few}; compatible=True adds them"))
        notes.append(
            "cluster means of the predictors added (compatible with a joint model); compatible=False: none"
        )
    slopes = [c.name for c in block.random if c.base != INTERCEPT and not c.within]
    static = [c.name for c in block.fixed if c.over is None and c.base != INTERCEPT
              and not varies_within(values[c.base], codes).any()]  # fmt: skip
    if slopes and static:
        notes.append(
            f"products of {listing(static)} with random slopes, which a joint model also implies, are not added; write "
            f"them as {slopes[0]}:{static[0]}"
        )
    if combined:
        notes.append(f"combinations of other columns, left out: {listing(combined)}")
    return replace(block, fixed=(*block.fixed, *new), notes=tuple(notes))


def _with_contextual(
    block: ConditionalModel, base: BaseValues, fitted: NDArray[np.bool_]
) -> ConditionalModel:
    """The block with the bounds of its contextual effects, of added and written means, if its prior shrinks them."""
    if not _is_shrunk(block):
        return block
    values = {name: np.asarray(v)[fitted] for name, v in base.observed.items()}
    found = contextual_bounds(block.fixed, block.responses, values, base.codes[fitted])
    return replace(block, contextual=found, notes=(*block.notes, SHRUNK)) if found else block


def _is_shrunk(block: ConditionalModel) -> bool:
    """Whether the coefficients of cluster means have a prior that makes few clusters sufficient.

    In models with random slopes they do not, because the origin of a product with a slope's column would enter the
    prior.
    """
    method = block.method
    has_prior = method.takes_priors and not method.own_model
    if not has_prior or not block.distribution.is_normal or len(block.random) != 1:
        return False
    return (default() if method.priors is None else method.priors).beta.shrinks_contextual


def _without_combined(
    block: ConditionalModel, seen: BaseValues, automatic: Collection[Column]
) -> ConditionalModel:
    """The block without automatic means that are combinations of others in the clusters with observed responses."""
    if not automatic or proper(block):
        return block
    for name in block.responses:
        s = Evidence(name, block, seen)
        left = [block.fixed[j] for j in combined_means(s, automatic)]
        text = f"combinations of other columns in the {len(s.clusters)} clusters where '{name}' is observed, left out: "
        block = without(Draft(block, False), left, text).block
    return block


def cluster_means(
    fixed: Sequence[Column],
    random: Sequence[Column],
    values: Mapping[str, Array],
    codes: NDArray[np.integer],
    first: Set[str] = frozenset(),
    seen: Sequence[NDArray[np.bool_]] = (),
    alone: bool = False,
    proper: bool = False,
) -> tuple[tuple[Column, ...], tuple[str, ...], tuple[str, ...]]:
    """Columns to add to ``fixed``, and names of those left out as combinations of others, everywhere or in ``seen``.

    Parameters
    ----------
    values
        Base columns with missing cells filled in (`values.filled`).
    fixed, random
        The block's columns. For a column centred within clusters the mean of its variable is added, but no products.
    first
        Columns whose means have priority if there are too few clusters for all: those of imputed variables.
    seen
        For each response, the rows (N,) where it is observed; a mean that is a combination of others there is left out.
    alone
        Whether to leave out, in these rows, only combinations of ``fixed``, not those due to too few clusters.
    proper
        Whether the coefficients have a proper prior, so that any number of clusters suffices; then only combinations of
        ``fixed`` are left out anywhere.
    """
    inside = [c.base for c in fixed if c.over is None and c.base != INTERCEPT]
    inside = [base for base in inside if varies_within(values[base], codes).any()]
    wanted: dict[Column, None] = {}
    plain = [c for c in random if not c.within]
    for z_l in plain:
        for z_h in plain:
            for u in (*inside, INTERCEPT):
                if (z_h.base, u) != (INTERCEPT, INTERCEPT):  # the mean of 1 is 1
                    wanted[cluster_column(z_l.base, (z_h.base, u))] = None
    new = [column for column in wanted if column not in fixed]
    ranked = sorted(new, key=lambda column: first.isdisjoint(column.over or ()))
    matrix, p = column_values([*fixed, *ranked], values, codes, centred=True), len(fixed)
    every = np.ones(len(matrix), dtype=bool)
    out, there = _combinations(matrix, p, every, proper), np.zeros(len(ranked), dtype=bool)
    for rows in seen:
        there |= _combinations(matrix, p, rows, alone or proper)
    left, elsewhere = (
        {column for column, is_out in zip(ranked, mask, strict=True) if is_out}
        for mask in (out, there & ~out)
    )
    return (
        tuple(c for c in new if c not in left | elsewhere),
        tuple(c.name for c in new if c in left),
        tuple(c.name for c in new if c in elsewhere),
    )


def _combinations(matrix: Array, p: int, rows: NDArray[np.bool_], alone: bool) -> NDArray[np.bool_]:
    """Which columns from the p-th on are, in these rows, combinations of the first p, or (if not alone) of any before."""
    if not alone:
        return dependent(matrix[rows])[p:]
    each = [[*range(p), j] for j in range(p, matrix.shape[1])]
    return np.array([dependent(matrix[rows][:, columns])[-1] for columns in each], dtype=bool)


def contextual_bounds(
    fixed: Sequence[Column],
    responses: Sequence[str],
    values: Mapping[str, Array],
    codes: NDArray[np.integer],
) -> tuple[tuple[Column, tuple[float, ...]], ...]:
    """sd_i(ybar_i) / sd_i(xbar_i) for each mean of an x and each response y (`bayesimp.priors.Contextual`).

    Parameters
    ----------
    fixed
        Columns of X*. A mean has a contextual effect if x itself is also there. With x minus its mean, or alone, its
        coefficient is the between-cluster one, and it is left out here. So is the mean of a response whose clusters
        have equal means, as after centring, for which gamma = -beta_w.
    values
        Base columns (N,), nan where missing; moments are those of observed values.
    """
    plain = {c.base for c in fixed if c.over is None and not c.within}
    units = [_between_sd(values[y], codes) for y in responses]
    if any(unit <= ROUND_OFF * np.nanstd(values[y]) for unit, y in zip(units, responses, strict=True)):
        return ()
    found = []
    for column in fixed:
        if column.over is None or column.sum or (column.base, column.over[0]) != (INTERCEPT, INTERCEPT):
            continue
        x = column.over[1]
        spread = _between_sd(values[x], codes)
        if x in plain and spread > 0:
            found.append((column, tuple(unit / spread for unit in units)))
    return tuple(found)


def _between_sd(x: Array, codes: NDArray[np.integer]) -> float:
    """Standard deviation of cluster means of observed values; of the values if only one cluster has any."""
    known = np.flatnonzero(~np.isnan(x))
    known = known[np.lexsort((x[known], codes[known]))]  # the order of rows changes no digit
    sizes = np.bincount(codes[known])
    means = np.sort(np.bincount(codes[known], weights=x[known])[sizes > 0] / sizes[sizes > 0])
    return float(np.std(means, ddof=1)) if len(means) > 1 else float(np.std(np.sort(x[known])))


def clusters_needed(
    columns: Sequence[Column],
    random: Sequence[Column],
    values: Mapping[str, Array],
    codes: NDArray[np.integer],
) -> int:
    """The number of clusters needed for `PER_COLUMN` per between-cluster column.

    It is the maximum over random columns, not counting the random column itself.
    """
    plain = [c for c in columns if c.over is None and c.base != INTERCEPT]
    static = sum(not varies_within(values[c.base], codes).any() for c in plain)
    counts = []
    for z in random:
        means = sum(c.over is not None and c.base == z.base for c in columns)
        counts.append(means + (static if z.base == INTERCEPT else 0))
    return PER_COLUMN * max(counts, default=0)

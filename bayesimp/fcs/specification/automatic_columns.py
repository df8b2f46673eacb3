"""Default columns of a block: cluster means are added, and columns that its rows cannot distinguish are left out.

Every change is noted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.fcs.identification.clusters import combined_means
from bayesimp.fcs.identification.columns import combined, unseen
from bayesimp.fcs.identification.evidence import Evidence, Seen, proper, term_of
from bayesimp.fcs.specification.cluster_means import (
    PER_COLUMN,
    cluster_means,
    clusters_needed,
    contextual_bounds,
)
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.specification.values import column_values, dependent, observed
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, Column
from bayesimp.messages import listing
from bayesimp.priors import default
from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "check_compatible",
    "with_contextual",
    "with_means",
    "without_collinear",
    "without_combined_means",
    "without_unseen",
    "without_unseen_levels",
]

SHRUNK = "coefficients of cluster means whose variables are predictors too are shrunk towards 0 (priors.Contextual)"


def check_compatible(draft: Draft, why: Mapping[str, str]) -> Draft:
    """Refuse compatible=True for a method that cannot use cluster means; for a method chosen by default, note it."""
    block, method = draft.block, draft.block.method
    reason = method.without_cluster_means()
    if reason is None:
        return draft
    text = f"compatible=True adds no cluster means to '{block.name}': method '{method.name}' {reason}"
    if block.name not in why:
        raise SpecificationError(
            f"{text}. Write those that you want in its formula, cluster_mean(x), or take 'bayes', 'iw', 'ml' or 'mlmi'."
        )
    return replace(draft, block=replace(block, notes=(*block.notes, text)))


def without_unseen_levels(
    draft: Draft,
    data: IncompleteData,
    base: BaseColumns,
    fitted: NDArray[np.bool_],
    asked: Collection[Column] = (),
) -> Draft:
    """Drop from a default formula levels of a factor that the observed rows cannot distinguish, if others remain.

    asked: columns that the user added to the default formula; they stay.
    """
    block = draft.block
    if draft.explicit or proper(block):
        return draft
    complete = [c for c in block.fixed if c.over is None and c.base in base.complete]
    terms: dict[str, list[Column]] = {}
    for column in block.fixed:
        if column.over is None and (term := term_of(column.name, data)) != column.name:
            terms.setdefault(term, []).append(column)
    values = observed(data, base.complete, base.incomplete, base.derived.values())
    left: list[Column] = []
    for columns in (group for group in terms.values() if len(group) > 1):
        before = complete if columns[0] in complete else [c for c in complete if c.base == INTERCEPT]
        before = [c for c in before if c not in columns]
        X = column_values([*before, *columns], values, data.codes, centred=True)
        out = np.zeros(len(columns), dtype=bool)
        for name in block.responses:
            rows = fitted & ~data.missing(name) & np.isfinite(X).all(axis=1)
            out |= dependent(X[rows])[len(before) :]
        if not out.all():
            left += [c for c, is_out in zip(columns, out, strict=True) if is_out and c not in asked]
    text = f"not told apart from others in rows with '{block.name}', counted with the first level: "
    return _left_out(draft, left, text)


def without_collinear(
    draft: Draft,
    data: IncompleteData,
    base: BaseColumns,
    fitted: NDArray[np.bool_],
    asked: Collection[Column] = (),
) -> Draft:
    """Drop from a default formula complete columns that are combinations of others wherever the response is observed.

    If there are fewer rows than columns, they stay, and `identified` refuses the model, because it is arbitrary which to
    drop. In generalised models, whose priors are proper, such a column has only its prior; it is dropped if the prior
    acts on a log mean, where its factor exp(N(0, 2.5^2)) per standard deviation of the column could overflow.
    asked: columns that the user added to the default formula; they stay.
    """
    block = draft.block
    if draft.explicit or (proper(block) and not block.distribution.has_log_link):
        return draft
    complete = [c for c in block.fixed if c.over is None and c.base in base.complete]
    asked = (*asked, *(() if block.method.fits_each_cluster else block.random))  # a slope needs its mean
    complete.sort(key=lambda c: c.base != INTERCEPT and c not in asked)
    X = column_values(complete, base.complete, data.codes, centred=True)
    out = np.zeros(len(complete), dtype=bool)
    for name in block.responses:
        rows = fitted & ~data.missing(name)
        here = dependent(X[rows])
        if rows.sum() <= (~here).sum():
            return draft
        out |= here
    left = [c for c, is_out in zip(complete, out, strict=True) if is_out and c not in asked]
    return _left_out(
        draft, left, f"combinations of other columns in rows where '{block.name}' is observed, left out: "
    )


def without_unseen(draft: Draft, seen: Seen, asked: Collection[Column] = ()) -> Draft:
    """Drop from a default formula incomplete columns about whose coefficients the observed cells say nothing.

    Columns that are never observed with the response, or are constant or combinations of complete columns where both
    are observed, are dropped first, each checked separately. Then, among incomplete columns that are combinations of each
    other, the one that is observed in the fewest rows with the response is dropped (the last by name if several are). So
    the order of columns does not matter. Proper priors keep a column, as in `without_collinear`.
    """
    block = draft.block
    if draft.explicit or (proper(block) and not block.distribution.has_log_link):
        return draft
    asked = (*asked, *(() if block.method.fits_each_cluster else block.random))
    found = next(
        (
            (response, left)
            for response in block.responses
            if (left := _unseen(seen.evidence(response, block), asked))
        ),
        None,
    )
    if found is None:
        return draft
    response, left = found
    whose = "" if block.responses == (response,) else f" of '{response}'"
    for why in dict.fromkeys(left.values()):
        columns = [column for column in left if left[column] == why]
        each = f"(each {why})" if len(columns) > 1 else why
        draft = _left_out(draft, columns, f"automatic predictor left out{whose}: ", f" {each}")
    # those that are left may be observed together in more rows
    return without_unseen(draft, seen, asked)


def _unseen(s: Evidence, asked: Collection[Column]) -> dict[Column, str]:
    """Incomplete columns to leave out, and why; combinations of each other only if no column is left out on its own."""
    left = {s.block.fixed[j]: why for j, why in unseen(s) if s.block.fixed[j] not in asked}
    if left:
        return left
    rows = {
        int(j): int((s.rows & np.isfinite(s.X[:, j])).sum()) for j in np.flatnonzero(s.kinds == "incomplete")
    }
    order = sorted(rows, key=lambda j: (s.block.fixed[j] not in asked, -rows[j], s.names[j]))
    return {s.block.fixed[j]: why for j, why in combined(s, order) if s.block.fixed[j] not in asked}


def without_combined_means(
    block: ConditionalModel, seen: Seen, automatic: Collection[Column]
) -> ConditionalModel:
    """Without automatic cluster means that are combinations of others in the clusters where the response is observed."""
    if not automatic or proper(block):
        return block
    for name in block.responses:
        s = seen.evidence(name, block)
        left = [block.fixed[j] for j in combined_means(s, automatic)]
        text = f"combinations of other columns in the {len(s.clusters)} clusters where '{name}' is observed, left out: "
        block = _left_out(Draft(block, False), left, text).block
    return block


def with_contextual(
    block: ConditionalModel,
    observed: Mapping[str, Any],
    codes: NDArray[np.integer],
    fitted: NDArray[np.bool_],
) -> ConditionalModel:
    """The block with the bounds of its contextual effects, if its prior shrinks them; added means and written ones alike.

    observed: base columns (N,) with nan where missing.
    """
    if not _is_shrunk(block):
        return block
    values = {name: np.asarray(v)[fitted] for name, v in observed.items()}
    found = contextual_bounds(block.fixed, block.responses, values, codes[fitted])
    return replace(block, contextual=found, notes=(*block.notes, SHRUNK)) if found else block


def _is_shrunk(block: ConditionalModel) -> bool:
    """Whether the coefficients of cluster means have a prior by which few clusters can carry them.

    In models with random slopes they do not: the origin of a product with a slope's column would enter the prior.
    """
    method = block.method
    has_prior = method.takes_priors and not method.own_model
    if not has_prior or not block.distribution.is_normal or len(block.random) != 1:
        return False
    return (default() if method.priors is None else method.priors).beta.shrinks_contextual


def _left_out(draft: Draft, left: Collection[Column], text: str, why: str = "") -> Draft:
    """The draft without these columns, with a note about it."""
    if not left:
        return draft
    block = draft.block
    fixed, random = (tuple(c for c in part if c not in left) for part in (block.fixed, block.random))
    random = random if block.method.fits_each_cluster else block.random
    notes = (*block.notes, text + listing([c.name for c in left]) + why)
    return replace(draft, block=replace(block, fixed=fixed, random=random, notes=notes))


def with_means(
    draft: Draft,
    data: IncompleteData,
    values: Mapping[str, Any],
    compatible: bool | None,
    fitted: NDArray[np.bool_],
) -> ConditionalModel:
    """The block with cluster means, if requested or sensible."""
    block, method = draft.block, draft.block.method
    if not block.random or method.without_cluster_means() is not None:
        return block
    wanted = compatible if method.compatible is None else method.compatible
    if wanted is False or (wanted is None and draft.explicit):
        return block
    imputed = {name for name in data.variables if data.missing(name).any()}
    values, codes = {name: v[fitted] for name, v in values.items()}, data.codes[fitted]
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
            f"products of {listing(static)} with random slopes, which a joint model implies too, are not added; write "
            f"them as {slopes[0]}:{static[0]}"
        )
    if combined:
        notes.append(f"combinations of other columns, left out: {listing(combined)}")
    return replace(block, fixed=(*block.fixed, *new), notes=tuple(notes))

"""Leave out, with a note, columns of a default formula that the observed rows of the response cannot inform."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.identification.columns import combined, unseen
from bayesimp.fcs.identification.evidence import Evidence, proper, term_of
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.values import BaseValues, column_values, dependent
from bayesimp.formulas.columns import INTERCEPT, Column
from bayesimp.messages import listing

__all__ = ["without", "without_unsupported"]


def without_unsupported(
    draft: Draft,
    base: BaseValues,
    seen: BaseValues,
    fitted: NDArray[np.bool_],
    asked: Collection[Column] = (),
) -> Draft:
    """The draft without the columns of a default formula that the data do not support.

    Parameters
    ----------
    base, seen
        Base columns in all rows, and in the rows to which models are fitted.
    fitted
        (N,) bool, the rows to which models are fitted.
    asked
        Columns that the user added to the default formula; they are kept.
    """
    draft = _without_unseen_levels(draft, base, fitted, asked)
    draft = _without_collinear(draft, base, fitted, asked)
    return _without_unseen(draft, seen, asked)


def _without_unseen_levels(
    draft: Draft, base: BaseValues, fitted: NDArray[np.bool_], asked: Collection[Column]
) -> Draft:
    """Drop levels of a factor that the observed rows cannot distinguish, if others remain."""
    block = draft.block
    if draft.explicit or proper(block):
        return draft
    complete = [c for c in block.fixed if c.over is None and c.base in base.complete]
    terms: dict[str, list[Column]] = {}
    for column in block.fixed:
        if column.over is None and (term := term_of(column.name, base.data)) != column.name:
            terms.setdefault(term, []).append(column)
    left: list[Column] = []
    for columns in (group for group in terms.values() if len(group) > 1):
        before = complete if columns[0] in complete else [c for c in complete if c.base == INTERCEPT]
        before = [c for c in before if c not in columns]
        X = column_values([*before, *columns], base.observed, base.codes, centred=True)
        out = np.zeros(len(columns), dtype=bool)
        for name in block.responses:
            rows = fitted & ~base.data.missing(name) & np.isfinite(X).all(axis=1)
            out |= dependent(X[rows])[len(before) :]
        if not out.all():
            left += [c for c, is_out in zip(columns, out, strict=True) if is_out and c not in asked]
    text = f"not distinguishable from others in rows with '{block.name}', merged with the first level: "
    return without(draft, left, text)


def _without_collinear(
    draft: Draft, base: BaseValues, fitted: NDArray[np.bool_], asked: Collection[Column]
) -> Draft:
    """Drop complete columns that are combinations of others wherever the response is observed.

    If there are fewer rows than columns, all are kept and `check_conditionals` refuses the model, because the choice
    would be arbitrary. In generalised models, whose priors are proper, such a column has only its prior; it is dropped
    if the prior acts on a log mean, where its factor exp(N(0, 2.5^2)) per standard deviation of the column could
    overflow.
    """
    block = draft.block
    if draft.explicit or (proper(block) and not block.distribution.has_log_link):
        return draft
    complete = [c for c in block.fixed if c.over is None and c.base in base.complete]
    asked = (
        *asked,
        *(() if block.method.fits_each_cluster else block.random),
    )  # a random slope needs its fixed effect
    complete.sort(key=lambda c: c.base != INTERCEPT and c not in asked)
    X = column_values(complete, base.complete, base.codes, centred=True)
    out = np.zeros(len(complete), dtype=bool)
    for name in block.responses:
        rows = fitted & ~base.data.missing(name)
        here = dependent(X[rows])
        if rows.sum() <= (~here).sum():
            return draft
        out |= here
    left = [c for c, is_out in zip(complete, out, strict=True) if is_out and c not in asked]
    return without(
        draft, left, f"combinations of other columns in rows where '{block.name}' is observed, left out: "
    )


def _without_unseen(draft: Draft, seen: BaseValues, asked: Collection[Column]) -> Draft:
    """Drop incomplete columns whose coefficients the observed cells do not inform.

    Columns that are never observed with the response, or are constant or combinations of complete columns where both
    are observed, are dropped first, each checked separately. Then, among incomplete columns that are combinations of
    each other, the one observed in the fewest rows with the response is dropped (the last by name if there are
    several), so the order of columns does not matter. Proper priors keep a column, as in `_without_collinear`.
    """
    block = draft.block
    if draft.explicit or (proper(block) and not block.distribution.has_log_link):
        return draft
    asked = (*asked, *(() if block.method.fits_each_cluster else block.random))
    found = next(
        (
            (response, left)
            for response in block.responses
            if (left := _unseen(Evidence(response, block, seen), asked))
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
        draft = without(draft, columns, f"automatic predictor left out{whose}: ", f" {each}")
    # the remaining columns may be observed together in more rows
    return _without_unseen(draft, seen, asked)


def _unseen(s: Evidence, asked: Collection[Column]) -> dict[Column, str]:
    """Incomplete columns to leave out, and why; combinations of each other only if none is left out individually."""
    left = {s.block.fixed[j]: why for j, why in unseen(s) if s.block.fixed[j] not in asked}
    if left:
        return left
    rows = {
        int(j): int((s.rows & np.isfinite(s.X[:, j])).sum()) for j in np.flatnonzero(s.kinds == "incomplete")
    }
    order = sorted(rows, key=lambda j: (s.block.fixed[j] not in asked, -rows[j], s.names[j]))
    return {s.block.fixed[j]: why for j, why in combined(s, order) if s.block.fixed[j] not in asked}


def without(draft: Draft, left: Collection[Column], text: str, why: str = "") -> Draft:
    """The draft without these columns, with a note."""
    if not left:
        return draft
    block = draft.block
    fixed, random = (tuple(c for c in part if c not in left) for part in (block.fixed, block.random))
    random = random if block.method.fits_each_cluster else block.random
    notes = (*block.notes, text + listing([c.name for c in left]) + why)
    return replace(draft, block=replace(block, fixed=fixed, random=random, notes=notes))

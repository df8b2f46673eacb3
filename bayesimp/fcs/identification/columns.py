"""Whether the rows to which a conditional model is fitted identify its coefficients.

These are the rows where the response is observed; incomplete predictors are filled in there by their own models. A
relation among columns is therefore checked in the rows where these columns and the response are observed, however few
of the others are. It counts only if it rests on clearly more rows than it has terms: a rare level that two columns
share in one row is not a relation. Undecided relations are left to the models of the other variables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.identification.evidence import Evidence
from bayesimp.fcs.specification.values import column_values, dependent
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.formulas.design import check_rank
from bayesimp.messages import listing

__all__ = ["as_filled", "combined", "in_observed_rows", "unseen"]

BEYOND = 2  # rows beyond its number of terms on which a relation may still hold by chance
LEVERAGE = 1e-6
SUPPORT = 1e-6  # share of the largest contribution below which a column has no part in a relation
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def in_observed_rows(s: Evidence) -> list[Event]:
    """Refuse, or note, columns that cannot be separated in the rows where they and the response are observed."""
    return [*_complete(s), *_incomplete(s), *_together(s), *_exact(s)]


def _complete(s: Evidence) -> list[Event]:
    """Check complete predictors in the rows where the response is observed."""
    chosen = s.kinds == "complete"
    names = [n for n, c in zip(s.names, chosen, strict=True) if c]
    matrix = s.X[:, chosen][s.rows]
    out = dependent(matrix)
    if not out.any():
        return []
    if len(matrix) < len(names):
        why = f"is observed in {s.seen}, too few for the coefficients of {len(names)} complete columns."
        return s.unidentified(names[int(np.argmax(out))], why)
    try:
        check_rank(matrix, names, f"rows where '{s.name}' is observed ({s.seen})")
        detail = ""
    except DataError as problem:
        detail = str(problem).partition("; remove")[0] + "."
    column = names[int(np.argmax(out))]
    return s.unidentified(
        column, detail or f"'{column}' is a combination of others where '{s.name}' is observed."
    )


def _incomplete(s: Evidence) -> list[Event]:
    """Check each incomplete predictor with the complete ones, in the rows where it and the response are observed."""
    return [event for j, why in unseen(s) for event in s.unidentified(s.names[j], f"'{s.names[j]}' {why}.")]


def unseen(s: Evidence) -> list[tuple[int, str]]:
    """Incomplete columns, each checked separately, whose coefficients the observed cells do not inform, and why."""
    found: list[tuple[int, str]] = []
    known = np.flatnonzero(s.kinds == "complete")
    for j in np.flatnonzero(s.kinds == "incomplete"):
        x = s.X[:, j]
        both = s.rows & np.isfinite(x)
        if not both.any():
            found.append((int(j), f"is never observed in the same row as '{s.name}' ({s.seen})"))
        elif np.ptp(x[both]) == 0 and _has_intercept(s):
            found.append((int(j), f"is constant ({x[both][0]:g}) {_there(s, both)}"))
        elif relation := _relation(s, x, known, both):
            found.append((int(j), f"is a combination of the complete predictors {_there(s, relation[1])}"))
    return found


def _together(s: Evidence) -> list[Event]:
    """Check incomplete predictors jointly."""
    open_ = [int(j) for j in np.flatnonzero(s.kinds == "incomplete")]
    if len(open_) < 2:
        return []
    columns = int((s.kinds != "mean").sum())
    count = int(_all_there(s).sum())
    if count <= columns:
        return [
            Event(
                "few rows together",
                s.name,
                f"'{s.name}' and all its predictors are observed together in {count} rows, but there are "
                f"{columns} coefficients, which rest on pairs of variables and on the models of the others.",
                count,
            )
        ]
    return [
        event
        for j, why in combined(s, open_)
        for event in s.unidentified(s.names[j], f"'{s.names[j]}' {why}.")
    ]


def combined(s: Evidence, open_: Sequence[int]) -> list[tuple[int, str]]:
    """Incomplete columns that are combinations of complete ones and of those before them in ``open_``, and why."""
    order = [*(int(j) for j in np.flatnonzero(s.kinds == "complete")), *open_]
    all_there = _all_there(s)
    if all_there.sum() <= len(order):
        return []
    out = dependent(s.X[all_there][:, order])
    kept = [j for j, is_out in zip(order, out, strict=True) if not is_out]
    found = []
    for j in (j for j, is_out in zip(order, out, strict=True) if is_out and j in open_):
        before = [k for k in kept if order.index(k) < order.index(j)]
        relation = _relation(s, s.X[:, j], np.array(before, dtype=int), all_there)
        if relation and set(relation[0]) & set(open_):  # otherwise `_incomplete` reports it
            with_ = listing([s.names[k] for k in relation[0] if s.names[k] != INTERCEPT])
            found.append(
                (j, f"is a combination of other predictors ({with_}) {_there(s, relation[1], 'they')}")
            )
    return found


def _all_there(s: Evidence) -> Mask:
    """Rows in which the response and all its predictors are observed."""
    return s.rows & np.isfinite(s.X[:, s.kinds != "mean"]).all(axis=1)


def _exact(s: Evidence) -> list[Event]:
    """Refuse a response that its predictors determine, which has no residual variance."""
    if not s.block.distribution.is_normal:  # never exact, at worst separated
        return []
    by_row = np.flatnonzero(s.kinds != "mean")
    there = s.rows & np.isfinite(s.X[:, by_row]).all(axis=1)
    # one more row may fit by chance, and priors handle that; without a prior there is no variance then
    least = len(by_row) + (0 if s.block.method.needs_residual_rows and (there == s.rows).all() else 1)
    if there.sum() <= least or np.ptp(s.values[s.name][there]) == 0:
        return []
    found = _relation(s, s.values[s.name], by_row, there)
    if not found:
        return []
    involved = [s.names[k] for k in found[0] if s.names[k] != INTERCEPT]
    raise SpecificationError(
        f"'{s.name}' is an exact combination of its predictors ({listing(involved) or INTERCEPT}) "
        f"{_there(s, found[1])}: nothing is left to estimate. Drop one of them, or compute the variable: "
        f"derived={{'{s.name}': '...'}}."
    )


def as_filled(s: Evidence, values: dict[str, Array]) -> list[Event]:
    """Check all columns, including cluster means and deviations, after filling missing values (`values.filled`)."""
    columns = [c for c in s.block.fixed if c not in s.shrunk]
    count, p, names = int(s.rows.sum()), len(columns), [c.name for c in columns]
    if s.block.method.level == "cluster":  # `between` reports it
        return []
    if count < p:
        return s.unidentified(names[-1], f"is observed in {s.seen}, too few for its {p} coefficients.")
    if count == p and s.block.distribution.is_normal and s.block.method.needs_residual_rows:
        raise SpecificationError(
            f"'{s.name}' is observed in {s.seen}, as many as '{s.block.method.name}' has coefficients ({p}), so none "
            f"is left for a residual variance. Drop a predictor of '{s.name}', or use 'bayes', whose variance has a "
            "prior."
        )
    events = []
    of_clusters = [c.over is not None or c.within for c in columns]
    order = sorted(range(p), key=lambda j: of_clusters[j])
    every = column_values([*(columns[j] for j in order), *s.shrunk], values, s.codes, centred=True)[s.rows]
    X = every[:, :p]
    for place in np.flatnonzero(dependent(X)):
        j = order[place]
        if of_clusters[j]:  # for other columns one way of filling in is not conclusive
            zero = "zero" if not X[:, place].any() else "a combination of the other predictors"
            text = f"'{names[j]}' is {zero} in the {count:,} rows where '{s.name}' is observed."
            events += s.unidentified(names[j], text)
    kept = X[:, ~dependent(X)]
    # a proper prior allows any number of these, but none that is redundant
    for column, x in zip(s.shrunk, every[:, p:].T, strict=True):
        if dependent(np.column_stack([kept, x]))[-1]:
            where = f"in the {count:,} rows where '{s.name}' is observed."
            events += s.unidentified(
                column.name, f"'{column.name}' is a combination of the other predictors {where}"
            )
    random = s.block.random
    out = (
        dependent(column_values(random, values, s.codes, centred=True)[s.rows])
        if len(random) > 1
        else np.zeros(0, bool)
    )
    if out.any() and not s.fixed_Psi:
        name = random[int(np.argmax(out))].name
        raise SpecificationError(
            f"'{s.name}': the random part has '{name}', which is a combination of the columns before it in the "
            f"{count:,} rows where '{s.name}' is observed; remove it from (... | {s.data.cluster})."
        )
    return events


def _relation(s: Evidence, x: Array, candidates: NDArray, rows: Mask) -> tuple[list[int], Mask] | None:
    """Columns whose combination is x, and the rows where they, x and the response are observed; None if there are none.

    candidates: positions of columns that are observed in `rows`. A combination found there is checked in all rows where
    its own columns are observed, until no column drops out. One that rests on few rows counts as chance, unless there
    are no other rows.
    """
    members = [int(k) for k in candidates]
    while True:
        matrix = np.column_stack([s.X[:, members], x])
        if not dependent(matrix[rows])[-1]:
            return None
        members = _support(s.X[:, members], x, members, rows)
        wider = s.rows & np.isfinite(x) & np.isfinite(s.X[:, members]).all(axis=1)
        if (wider == rows).all():
            break
        rows = wider
    by_chance = not (rows == s.rows).all() and _rests_on_few(s.X[rows][:, members])
    return None if by_chance else (members, rows)


def _rests_on_few(matrix: Array) -> bool:
    """Whether columns are independent only because of a few equal rows, such as those of a rare level.

    Such rows have a total leverage of 1, and the columns reproduce any x there.
    """
    left = np.linalg.qr(matrix[:, ~dependent(matrix)])[0]
    _, group = np.unique(matrix, axis=0, return_inverse=True)
    count = np.bincount(group.ravel())
    leverage = np.bincount(group.ravel(), (left**2).sum(axis=1))
    return bool((leverage[count <= matrix.shape[1] + BEYOND] > 1 - LEVERAGE).any())


def _support(matrix: Array, x: Array, members: list[int], rows: Mask) -> list[int]:
    """The columns that contribute to the combination that equals x."""
    length = np.linalg.norm(matrix[rows], axis=0)
    scaled = matrix[rows] / np.where(length > 0, length, 1.0)
    independent = ~dependent(scaled)
    coefficients = np.zeros(len(members))
    coefficients[independent] = np.linalg.lstsq(scaled[:, independent], x[rows], rcond=None)[0]
    part = np.abs(coefficients) > SUPPORT * np.abs(coefficients).max(initial=0.0)
    return [k for k, has in zip(members, part, strict=True) if has]


def _has_intercept(s: Evidence) -> bool:
    return any(column.name == INTERCEPT for column in s.block.fixed)


def _there(s: Evidence, rows: Mask, what: str = "it") -> str:
    count = int(rows.sum())
    return f"in the {count:,} row{'s' * (count != 1)} where {what} and '{s.name}' are observed"

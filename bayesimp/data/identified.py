"""Whether the observed cells can say what each conditional model asks, before anything is sampled.

The loop itself would not notice: imputed values vary by themselves, so that every predictor looks informative
in the completed table. What counts are rows in which the response and the predictor are observed, and clusters in
which the response is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesimp.data.derived import check_derived
from bayesimp.data.design import check_rank
from bayesimp.data.generic import dependent, observed, varies_within
from bayesimp.data.identified_clusters import between, variances
from bayesimp.data.incomplete import IncompleteData
from bayesimp.data.sight import Sight
from bayesimp.data.where import listing
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.spec.conditional import INTERCEPT, Column, Conditionals
from bayesimp.spec.methods import ML, PMM

__all__ = ["check_conditionals"]


def check_conditionals(conditionals: Conditionals, data: IncompleteData) -> list[Event]:
    """Refuse conditional models that cannot be estimated; note what rests on the prior.

    Returns
    -------
    Events: "prior only" (a coefficient that only its normal prior makes estimable), "prior matters" (few clusters),
    "few rows together", "derived" (a derived column at odds with its definition).

    Raises
    ------
    SpecificationError
        Coefficients or variances that are not identified; the message says what to drop, or which prior helps.
    DataError
        A response that is constant, one value by cluster, or observed in one cluster; a derived column that is
        infinite.
    """
    values = observed(data, dict(zip(conditionals.complete, conditionals.X.T, strict=True)),
                      conditionals.incomplete, conditionals.derived)  # fmt: skip
    events = check_derived(conditionals, data, values)
    for block in {block.name: block for block in conditionals.blocks}.values():
        for name in block.responses:
            sight = Sight(name, block, values, data, frozenset(conditionals.complete))
            checks = (_response, variances, _complete, _incomplete, _together, _exact, _separated, between)
            for check in checks:
                events += check(sight)
    return events


def _response(s: Sight) -> list[Event]:
    y = s.values[s.name]
    low, high = y[s.rows].min(), y[s.rows].max()
    if low == high:
        shown = s.data.levels(s.name)[0] if s.data.levels(s.name) else f"{low:g}"
        raise DataError(
            f"'{s.name}' is {shown} wherever it is observed ({s.seen}): it has no variance to impute from. "
            f"Fill it in, or leave it out: methods={{'{s.name}': None}}."
        )
    if isinstance(s.block.method, PMM) and s.rows.sum() < s.block.method.donors:
        raise SpecificationError(
            f"'{s.name}' is observed in {s.seen}, fewer than the {s.block.method.donors} donors of pmm; take fewer."
        )
    if not s.block.random:
        return []
    several = np.bincount(s.data.codes[s.rows]).max() > 1
    if several and not varies_within(y, s.data.codes).any():
        text = f"'{s.name}' has one value in each of the {len(s.clusters):,} clusters where it is observed: a variable "
        text += f"of clusters? Method '2lonly' imputes these: methods={{'{s.name}': '2lonly'}}."
        if s.block.family == "normal":
            raise DataError(f"{text} Method '{s.block.method.name}' needs a variance within clusters.")
        return [Event("prior matters", f"Psi[{s.name}]", text, len(s.clusters))]
    if not several:
        once = f"'{s.name}' is observed in at most one row of each cluster ({s.seen}): its variances between and within"
        if isinstance(s.block.method, ML):
            raise DataError(
                f"{once} clusters cannot be told apart. Use 'bayes', or 'norm', which ignores clusters."
            )
        text = f"{once} clusters are told apart by their priors alone."
        return [Event("prior only", f"Psi[{s.name}]", text, int(s.rows.sum()))]
    return []


def _complete(s: Sight) -> list[Event]:
    """Complete predictors in the rows where the response is observed."""
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
        detail = str(problem).partition("; take")[0] + "."
    column = names[int(np.argmax(out))]
    return s.unidentified(
        column, detail or f"'{column}' is a combination of others where '{s.name}' is observed."
    )


def _incomplete(s: Sight) -> list[Event]:
    """Each incomplete predictor beside the complete ones, in the rows where it and the response are observed."""
    events = []
    known = s.X[:, s.kinds == "complete"]
    for j in np.flatnonzero(s.kinds == "incomplete"):
        column, x = s.names[j], s.X[:, j]
        both = s.rows & np.isfinite(x)
        if not both.any():
            events += s.unidentified(
                column, f"'{column}' is never observed in the same row as '{s.name}' ({s.seen})."
            )
        elif np.ptp(x[both]) == 0 and _has_intercept(s.block.fixed):
            events += s.unidentified(column, f"'{column}' is constant ({x[both][0]:g}) {_there(s, both)}.")
        elif dependent(np.column_stack([known, x])[both])[-1]:
            events += s.unidentified(
                column, f"'{column}' is a combination of the complete predictors {_there(s, both)}."
            )
    return events


def _together(s: Sight) -> list[Event]:
    """Incomplete predictors beside each other, where all are observed."""
    incomplete = np.flatnonzero(s.kinds == "incomplete")
    order = [*np.flatnonzero(s.kinds == "complete"), *incomplete]
    if len(incomplete) < 2:
        return []
    all_there = s.rows & np.isfinite(s.X[:, order]).all(axis=1)
    if all_there.sum() <= len(order):
        return [
            Event(
                "few rows together",
                s.name,
                f"'{s.name}' and all its predictors are observed together in {int(all_there.sum())} rows, for "
                f"{len(order)} coefficients: they rest on pairs of variables, and on the models of the others.",
                int(all_there.sum()),
            )
        ]
    out = dependent(s.X[all_there][:, order])[-len(incomplete) :]
    events = []
    for j in incomplete[out]:
        if _alone(s, j):  # else said by _incomplete
            text = f"'{s.names[j]}' is a combination of the predictors before it {_there(s, all_there)}."
            events += s.unidentified(s.names[j], text)
    return events


def _alone(s: Sight, j: int) -> bool:
    """Whether an incomplete predictor says something beside the complete ones."""
    both = s.rows & np.isfinite(s.X[:, j])
    return not dependent(np.column_stack([s.X[:, s.kinds == "complete"], s.X[:, j]])[both])[-1]


def _exact(s: Sight) -> list[Event]:
    """A response that its predictors determine has no residual variance."""
    if s.block.family != "normal":  # never exact: at the worst separated
        return []
    by_row = s.kinds != "mean"
    there = s.rows & np.isfinite(s.X[:, by_row]).all(axis=1)
    if there.sum() <= by_row.sum() + 1:
        return []
    y = s.values[s.name][there]
    centred = y - y.mean() if _has_intercept(s.block.fixed) else y
    if np.ptp(y) > 0 and dependent(np.column_stack([s.X[there][:, by_row], centred]))[-1]:
        involved = [n for n, k in zip(s.names, s.kinds, strict=True) if k != "mean" and n != INTERCEPT]
        raise SpecificationError(
            f"'{s.name}' is an exact combination of its predictors ({listing(involved)}) {_there(s, there)}: nothing is "
            f"left to estimate. Drop one of them, or compute it: derived={{'{s.name}': '...'}}."
        )
    return []


def _separated(s: Sight) -> list[Event]:
    """A predictor that tells the two values of a response apart without error: its likelihood has no maximum."""
    if s.block.family != "bernoulli" or s.block.method.name in ("pmm", "2stage"):
        return []
    y = s.values[s.name]
    events = []
    for j in np.flatnonzero(s.kinds != "mean"):
        x = s.X[:, j]
        low, high = (x[s.rows & np.isfinite(x) & (y == value)] for value in s.block.levels)
        if len(low) and len(high) and np.ptp(np.append(low, high)) > 0:
            if low.max() < high.min() or high.max() < low.min():
                text = f"'{s.names[j]}' separates the two values of '{s.name}' without error: its coefficient rests on "
                text += "its weak normal prior, which keeps it finite."
                events.append(Event("separated", f"{s.name} ~ {s.names[j]}", text, len(low) + len(high)))
    return events


def _has_intercept(columns: tuple[Column, ...]) -> bool:
    return any(column.name == INTERCEPT for column in columns)


def _there(s: Sight, rows: NDArray[np.bool_]) -> str:
    return f"in the {int(rows.sum()):,} rows where it and '{s.name}' are observed"

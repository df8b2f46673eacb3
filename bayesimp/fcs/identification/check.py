"""Identifiability of every conditional model, checked before anything is sampled.

The loop itself would not notice a lack of information: imputed values vary, so that every predictor looks informative
in the completed table. Only rows in which the response and the predictor are observed count
(fcs/identification/columns.py), and clusters in which the response is observed (fcs/identification/clusters.py).
"""

from __future__ import annotations

import numpy as np

from bayesimp.errors import DataError
from bayesimp.events import Event
from bayesimp.fcs.identification.clusters import between, variances
from bayesimp.fcs.identification.columns import as_filled, complete, exact, incomplete, together
from bayesimp.fcs.identification.evidence import Evidence, Seen
from bayesimp.fcs.specification.derived import check_derived
from bayesimp.fcs.specification.records import Conditionals
from bayesimp.fcs.specification.values import TOLERANCE, filled, observed
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import of_other_levels, other_groupings

__all__ = ["check_conditionals"]

DIGITS = 100  # least standard deviation of values, in spacings between floating-point numbers of their size


def check_conditionals(conditionals: Conditionals, data: IncompleteData) -> list[Event]:
    """Refuse conditional models that cannot be estimated; note what rests on the prior.

    Returns
    -------
    Events: "prior only" (a coefficient that only its normal prior makes estimable), "prior matters" (few clusters),
    "few rows together", "another level" (one value in each group of a column that is not the cluster), "derived" (a
    derived column at odds with its definition).

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
    whole = filled(data, dict(zip(conditionals.complete, conditionals.X.T, strict=True)), conditionals.incomplete,
                   conditionals.derived)  # fmt: skip
    events = check_derived(conditionals, data, values)
    seen = Seen(data, values, frozenset(conditionals.complete))
    by_row = [b for b in conditionals.blocks if b.method.level == "row"]
    events += other_groupings(data, [data.cluster])
    events += of_other_levels(data, dict.fromkeys(name for block in by_row for name in block.responses))
    for block in {block.name: block for block in conditionals.blocks}.values():
        for name in block.responses:
            evidence = seen.evidence(name, block)
            for general in (_response, variances, complete, incomplete, together, exact):
                events += general(evidence)
            events += block.method.check(evidence) + _separated(evidence) + between(evidence)
            told = {event.where for event in events}
            events += [event for event in as_filled(evidence, whole) if event.where not in told]
    return events


def _response(s: Evidence) -> list[Event]:
    y = s.values[s.name]
    low, high = y[s.rows].min(), y[s.rows].max()
    if low == high:
        shown = s.data.levels(s.name)[0] if s.data.levels(s.name) else f"{low:g}"
        raise DataError(
            f"'{s.name}' is {shown} wherever it is observed ({s.seen}): it has no variance to impute from. "
            f"Fill it in, or leave it out: methods={{'{s.name}': None}}."
        )
    _check_digits(s)
    if not s.block.random:
        return []
    several = np.bincount(s.codes[s.rows]).max() > 1
    if several and s.name not in s.varying:
        text = f"'{s.name}' has one value in each of the {len(s.clusters):,} clusters where it is observed: a variable "
        text += f"of clusters? Method '2lonly' imputes these: methods={{'{s.name}': '2lonly'}}."
        if s.block.distribution.is_normal:
            raise DataError(f"{text} Method '{s.block.method.name}' needs a variance within clusters.")
        return [Event("prior matters", f"Psi[{s.name}]", text, len(s.clusters))]
    if not several:
        once = f"'{s.name}' is observed in at most one row of each cluster ({s.seen}): its variances between and within"
        if not s.block.method.prior_on_Psi:
            raise DataError(
                f"{once} clusters cannot be told apart. Use 'bayes', or 'norm', which ignores clusters."
            )
        text = f"{once} clusters are told apart by their priors alone."
        return [Event("prior only", f"Psi[{s.name}]", text, int(s.rows.sum()))]
    return []


def _check_digits(s: Evidence) -> None:
    """Refuse values that differ by hardly more than the spacing of numbers of their size, or than ranks resolve."""
    y = s.values[s.name][s.rows]
    step, sd = float(np.spacing(np.abs(y).max())), float(y.std())
    least = max(DIGITS * step, TOLERANCE * float(np.abs(y).max()) * s.block.distribution.is_normal)
    if s.data.levels(s.name) or sd >= least:
        return
    raise DataError(
        f"'{s.name}' differs by a standard deviation of {sd:.3g} about {y.mean():.6g}, where numbers have steps of "
        f"{step:.3g} ({s.seen}): too little relative to its size for a model to be computed. Subtract a constant where "
        f"its digits are still there, table['{s.name}'] - {y.min():.6g}, or leave it out: methods={{'{s.name}': None}}."
    )


def _separated(s: Evidence) -> list[Event]:
    """A predictor that separates the two values of a response without error: the likelihood has no maximum."""
    if not s.block.distribution.is_two_valued or s.block.method.fits_each_cluster:
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

"""Check the identifiability of every conditional model before anything is sampled.

The loop itself would not notice a lack of information: imputed values vary, so every predictor looks informative in the
completed table. Only rows where the response and the predictor are observed count (fcs/identification/columns.py), and
clusters in which the response is observed (fcs/identification/clusters.py, fcs/identification/response.py).
"""

from __future__ import annotations

import numpy as np

from bayesimp.events import Event
from bayesimp.fcs.identification.clusters import between
from bayesimp.fcs.identification.columns import as_filled, in_observed_rows
from bayesimp.fcs.identification.evidence import Evidence
from bayesimp.fcs.identification.response import varies
from bayesimp.fcs.specification.derived import check_derived
from bayesimp.fcs.specification.factors import check_block_factors
from bayesimp.fcs.specification.records import ConditionalModel, Conditionals
from bayesimp.fcs.specification.values import BaseValues
from bayesimp.formulas.combinations import refuse_combinations
from bayesimp.table.cluster_level import one_row_each
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.other_levels import of_other_levels, other_groupings
from bayesimp.table.spread import spread_events

__all__ = ["check_conditionals"]

OF_CLUSTERS = (
    "methods={'{name}': bi.methods.Gibbs(residual='cluster')} has a residual variance for each cluster, and '2stage' "
    "coefficients as well"
)


def check_conditionals(conditionals: Conditionals, data: IncompleteData) -> list[Event]:
    """Refuse conditional models that cannot be estimated; note what rests on the prior.

    Returns
    -------
    Events: "prior only" (a coefficient that only its normal prior makes estimable), "prior matters" (few clusters),
    "few rows together", "another level" and the others of `of_other_levels`, "derived" (a derived column at odds with its
    definition), "residual spread" (one residual variance where clusters differ).

    Raises
    ------
    SpecificationError
        A coefficient or variance is not identified; the message says what to drop or which prior helps.
    DataError
        A response is constant, has one value per cluster or is observed in one cluster, or a derived column is
        infinite.
    """
    complete = dict(zip(conditionals.complete, conditionals.X.T, strict=True))
    base = BaseValues(data, complete, conditionals.incomplete, conditionals.derived)
    alone = one_row_each(data) if any(block.random for block in conditionals.blocks) else []
    events = alone + check_derived(conditionals, data, base.observed)
    by_row = [b for b in conditionals.blocks if b.method.level == "row" and not b.method.group]
    factors = {label for block in conditionals.blocks for f in block.factors for label in f.term.names}
    events += other_groupings(data, {data.cluster, *factors}) + data.missing_codes()
    events += of_other_levels(data, dict.fromkeys(name for block in by_row for name in block.responses))
    common = {name: None for block in by_row if _one_variance(block) for name in block.responses}
    slopes = {column.base for block in by_row for column in block.random}
    events += spread_events(data, list(common), OF_CLUSTERS, slopes=slopes)
    for block in {block.name: block for block in conditionals.blocks}.values():
        if len(block.responses) > 1:
            refuse_combinations(data, block.responses)
        if block.factors:
            events += [event for event in check_block_factors(block, data) if event not in events]
        for name in block.responses:
            evidence = Evidence(name, block, base)
            events += [
                e for e in varies(evidence) if not (alone and e.kind == "prior only")
            ] + in_observed_rows(evidence)
            events += block.method.check(evidence) + _separated(evidence) + between(evidence)
            told = {event.where for event in events}
            events += [event for event in as_filled(evidence, base.filled) if event.where not in told]
    return events


def _one_variance(block: ConditionalModel) -> bool:
    """Whether imputed values are drawn with the same residual variance in every cluster."""
    method = block.method
    several = method.residual == "cluster" or method.fits_each_cluster
    return block.distribution.is_normal and not (several or method.matches or method.own_model)


def _separated(s: Evidence) -> list[Event]:
    """Events for predictors that separate the two values of a response without error: no maximum of the likelihood."""
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

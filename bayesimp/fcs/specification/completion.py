"""From drafts to models: columns that methods add, removal of unsupported columns, notes on feedback, cluster means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.fcs.specification.analyses import Analyses
from bayesimp.fcs.specification.cluster_means import check_compatible, with_cluster_means
from bayesimp.fcs.specification.feedback import computed_circles, feeding_back, note, unlimited
from bayesimp.fcs.specification.left_out import without_unsupported
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.predictor_edits import Given
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.specification.values import BaseValues
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import Column
from bayesimp.formulas.predictors import Part
from bayesimp.messages import listing
from bayesimp.notation import Array
from bayesimp.table.incomplete import IncompleteData

__all__ = ["completed"]


def completed(
    drafts: Sequence[Draft],
    base: BaseColumns,
    given: Mapping[str, Given],
    why: Mapping[str, str],
    logs: Mapping[str, str],
    compatible: bool | None,
    ignore: NDArray[np.bool_] | None,
    analyses: Analyses,
) -> dict[str, ConditionalModel]:
    """The blocks with the columns that methods add and without those that the data cannot support, with notes."""
    everywhere = BaseValues.of(base)  # only now, after all formulas, are the base columns known
    fitted = np.ones(len(base.data), dtype=bool) if ignore is None else ~ignore
    seen = everywhere if fitted.all() else BaseValues.of(base, fitted)
    drafts = [d.block.method.columns(d, base.data, everywhere.filled) for d in drafts]
    if compatible:
        drafts = [d if d.block.name in analyses else check_compatible(d, why) for d in drafts]
    asked = [_asked(given[d.block.name], base) for d in drafts]
    drafts = [without_unsupported(d, everywhere, seen, fitted, a) for d, a in zip(drafts, asked, strict=True)]
    drafts = [_with_note(d, drafts, logs, base.data) for d in drafts]
    models = [
        d.block if d.block.name in analyses else with_cluster_means(d, everywhere, seen, compatible, fitted)
        for d in _with_circles(drafts, base, everywhere.filled)
    ]
    return {block.name: _without(block, given[block.name], base) for block in models}


def _asked(given: Given, base: BaseColumns) -> tuple[Column, ...]:
    """The columns that the user added to a default formula."""
    return base.columns(Part(False, given.asked), given.formula.text) if given.asked else ()


def _without(block: ConditionalModel, given: Given, base: BaseColumns) -> ConditionalModel:
    """The block without the cluster means that the user removed; its columns get unique names."""
    columns = list(block.fixed)
    for atom in given.without:
        (mean,) = base.columns(Part(False, ((atom,),)), given.formula.text)
        if mean not in columns:
            means = [c.name for c in columns if c.over is not None]
            raise SpecificationError(
                f"'{mean.name}' cannot be removed from the predictors of '{block.name}' because it is not added to "
                f"them (added: {listing(means) or 'no cluster mean'})."
            )
        columns.remove(mean)
    names = [column.name for column in columns]
    for name in (name for k, name in enumerate(names) if name in names[:k]):
        raise SpecificationError(
            f"'{name}' is both a column of the table and another term in the formula of '{block.name}'; rename the "
            "column."
        )
    return replace(block, fixed=tuple(columns))


def _with_note(draft: Draft, drafts: Sequence[Draft], logs: Mapping[str, str], data: IncompleteData) -> Draft:
    """Note a variable drawn through a log link that predicts one of its own predictors (`feedback`)."""
    block = draft.block
    notes = [
        note(name, data.families[name], others, logs)
        for name in block.responses
        if unlimited(data.families[name], block.method)
        and (others := feeding_back(name, [d.block for d in drafts], logs))
    ]
    return replace(draft, block=replace(block, notes=(*block.notes, *notes)))


def _with_circles(drafts: Sequence[Draft], base: BaseColumns, values: Mapping[str, Array]) -> list[Draft]:
    """Note derived columns that drive the variables from which they are derived (`feedback`)."""
    about: dict[str, list[str]] = {}
    users = [base.derived[name] for name in base.users]
    for column, behind, ahead in computed_circles([d.block for d in drafts], users, values):
        for name in behind:
            about.setdefault(name, []).append(
                f"'{column}' is computed from {listing(behind)} and predicts {listing(ahead)}, which predict these in "
                "turn: a circle in which imputed values can run away. Stable alternatives are bounds= on "
                f"{listing(behind)}, or formulas without {listing(ahead)} for these, or without '{column}' for the "
                "others"
            )
    return [
        replace(d, block=replace(d.block, notes=(*d.block.notes, *notes)))
        for d in drafts
        for notes in [[n for name in d.block.responses for n in about.get(name, ())]]
    ]

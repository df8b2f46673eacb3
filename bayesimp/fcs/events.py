"""Events of a run of chained equations: default choices, priors at a remote origin, and what blocks recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.events import Event
from bayesimp.fcs.loop import POST
from bayesimp.fcs.tree import block_names
from bayesimp.scale.slopes import check_slopes

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.base import Chain
    from bayesimp.fcs.model import FCS
    from bayesimp.fcs.specification.records import Conditionals

__all__ = ["chain_events", "choices", "origins"]


def choices(spec: Conditionals) -> list[Event]:
    """Events for what defaults chose or left out in the models of the blocks."""
    about: dict[str, list[str]] = {}
    for block in {block.name: block for block in spec.blocks}.values():
        for note in block.notes:
            about.setdefault(note, []).append(block.name)
    return [Event("by default", ", ".join(names), note, len(names)) for note, names in about.items()]


def origins(model: FCS) -> list[Event]:
    """Events for priors at an origin far from the data, and for slopes that the prior cannot distinguish."""
    out, priors, table, names = {}, model.parameter_priors, model.table, block_names(model.spec)
    for chained in table.blocks:
        name, random, scale = f"Psi_{names[chained.block.name]}", chained.block.random, chained.scale
        if name not in priors:
            continue
        plain = [column for column in random if column.over is None and not column.within]
        Z = table.full[:, [table.names.index(column.base) for column in plain]]
        out[name] = check_slopes(
            priors[name], scale, scale.s, table.clusters, name, [column.name for column in random],
            Z[~np.isnan(Z).any(axis=1)], [column.name for column in plain],
        )  # fmt: skip
    return [event for events in out.values() for event in events]


def chain_events(model: FCS, seed: int, chains: Sequence[Chain]) -> list[Event]:
    """The events that the blocks recorded, summed over imputations."""
    total: dict[tuple[int, int], int] = {}
    for chain in chains:
        for key, count in chain.events.items():
            total[key] = total.get(key, 0) + count
    conditionals, out = model.conditionals(seed), list[Event]()
    visits = sum(chain.cycles for chain in chains)
    for (block, code), count in sorted(total.items()):
        kind, message = (
            ("changed by post", "imputed values changed by the user's function") if code == POST
            else conditionals[block].words[code]
        )  # fmt: skip
        if code < 0:
            kind = "variable held"
            message += (
                ", given the completed values of the others: nothing was drawn, so its values did not change"
            )
        if code != POST:
            message += f" ({count / visits:.0%} of {visits:,} visits)"
        out.append(Event(kind, model.table.blocks[block].block.name, message, count))
    names = [block.name for block in model.spec.blocks]
    for name in dict.fromkeys(names):  # a block visited twice has one state
        b = names.index(name)
        out += conditionals[b].events([chain.theta[b] for chain in chains])
    return out

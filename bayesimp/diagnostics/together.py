"""Variables that are missing in the same rows, which one block would impute better than several.

If two related variables are missing in the same row, each is drawn given the other's current value, so chained
equations move in small steps along the line of their relation. One block that draws both jointly does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

__all__ = ["missing_together"]

SHARE = 0.5  # share of one variable's missing cells that must be missing in both


def missing_together(model: Any, labels: Sequence[str]) -> dict[str, list[str]]:
    """Suggested blocks of an FCS model, name -> variables missing together, of which at least one mixes badly.

    labels: names of the quantities that mix badly (`convergence.diagnose`).
    """
    alone = {*model.bounds, *model.spec.drawn}  # not allowed in a block of several variables
    could = [b.responses[0] for b in model.spec.blocks if _could(b) and b.responses[0] not in alone]
    hole = {name: model.masked.missing(name) for name in dict.fromkeys(could)}
    groups: list[set[str]] = [{name} for name in hole]
    for a, b in combinations(hole, 2):
        if (hole[a] & hole[b]).sum() >= SHARE * min(hole[a].sum(), hole[b].sum()):
            joined = set().union(*(group for group in groups if group & {a, b}))
            groups = [group for group in groups if not group & {a, b}] + [joined]
    wanted = [
        [name for name in hole if name in group]
        for group in groups
        if len(group) > 1 and any(_about(label, name) for label in labels for name in group)
    ]
    return {f"together{'' if k == 1 else f'_{k}'}": group for k, group in enumerate(wanted, 1)}


def _could(block: Any) -> bool:
    """Whether a variable that is imputed alone could be part of a larger block."""
    alone = len(block.responses) == 1 and block.distribution.is_normal
    return alone and block.method.joint and not block.method.own_model


def _about(label: str, name: str) -> bool:
    """Whether a row of the summary is about a variable: a parameter of its model, or its imputed values."""
    quantity, _, place = label.partition("[")
    return quantity.endswith(f"_{name}") or place.startswith((f"{name}, ", f"{name}]"))

"""Name the variables whose imputed values have run away when a run fails, possibly in another block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.specification.feedback import circle_cure
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.table import ChainedTable
from bayesimp.formulas.columns import Derived
from bayesimp.imputation.events import far_outside

__all__ = ["ran_away"]


class DrawnModels(NamedTuple):
    """The models and columns that `feedback.circle` searches for a circle."""

    blocks: Sequence[ConditionalModel]
    derived: Sequence[Derived]


def ran_away(table: ChainedTable, V: NDArray[np.float64]) -> str:
    """A sentence on variables far outside their observed values, the circle that drives them, and what to do.

    V (R, d - p): completed rows of the chain, on the working scale. Empty if there is no such variable.
    """
    blocks = list({chained.block.name: chained.block for chained in table.blocks}.values())
    far = {}
    for block in blocks:
        if block.distribution.is_coded:
            continue
        for name in block.responses:
            k = table.names.index(name)
            holes = table.holes(k)
            seen = np.concatenate([table.D[:, k], table.start[~holes, k - table.p]])
            drawn = V[holes, k - table.p]
            lost = ~np.isfinite(drawn)
            with np.errstate(all="ignore"):
                seen, drawn = table.on_data_scale(k, seen), table.on_data_scale(k, drawn)
                outside = lost | far_outside(block.distribution, seen[np.isfinite(seen)], drawn)
            if outside.any():
                worst = drawn[outside][np.argmax(np.abs(drawn[outside] - np.nanmean(seen)))]
                far[name] = f"'{name}' ({worst:.3g}; observed {np.nanmin(seen):.3g} to {np.nanmax(seen):.3g})"
    if not far:
        return ""
    cure = circle_cure(next(iter(far)), list(far), DrawnModels(blocks, table.derived))
    have = "has" if len(far) == 1 else "have"
    return f"By then, imputed values of {', '.join(list(far.values())[:5])} {have} run away. {cure}."

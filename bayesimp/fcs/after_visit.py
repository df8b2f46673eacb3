"""Steps after a visit to a block: the user's functions of imputed values, then derived columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.fcs.blocks.base import Block, Chain
from bayesimp.fcs.table import ChainedTable
from bayesimp.table.clusters import varies_within

__all__ = ["POST", "call_post", "derive"]

POST = 1 << 30  # event code for values changed by the user's function


def call_post(table: ChainedTable, chain: Chain, k: int, function: Callable, b: int, block: Block) -> None:
    """Let the user's function change the values just drawn, and count the changes."""
    holes = table.holes(k) if block.drawn is None else block.drawn
    drawn = table.on_data_scale(k, chain.V[holes, k - table.p])
    if not len(drawn):  # a cluster-level variable whose missing values other rows of the clusters determine
        return
    changed = np.asarray(function(drawn.copy()))
    if changed.dtype.kind not in "biuf":
        raise SamplingError(
            f"post['{table.names[k]}'] must return numbers, as it receives them (levels of text as codes from 0), "
            f"not {changed.dtype}."
        )
    changed = changed.astype(float)
    if changed.shape != drawn.shape or not np.isfinite(changed).all():
        raise SamplingError(
            f"post['{table.names[k]}'] must return {len(drawn)} finite values, one for each that it receives; got "
            f"shape {changed.shape}" + ("" if np.isfinite(changed).all() else ", some not finite") + "."
        )
    if k in table.exact and not np.isclose(table.nearest(k, changed), changed, rtol=1e-9).all():
        known = table.exact[k]
        raise SamplingError(
            f"post['{table.names[k]}'] returned a value that the variable cannot have; possible values are "
            + (", ".join(f"{value:g}" for value in known[:10]) if len(known) else "whole numbers")
            + "."
        )
    if block.drawn is not None:
        cluster = table.cells.cluster[table.row_cell[holes]]
        if varies_within(changed, cluster).any():
            raise SamplingError(
                f"post['{table.names[k]}'] returned different values for rows of one cluster, but the variable has one "
                "value per cluster. The result must depend only on the values that it receives."
            )
    if (changed != drawn).any():
        chain.record(b, POST, int((changed != drawn).sum()))
        chain.V[holes, k - table.p] = (changed - table.center[k]) / table.scale[k]


def derive(table: ChainedTable, chain: Chain, changed: set[str]) -> None:
    """Recompute the derived columns that depend on changed ones, in order."""
    names = []
    for derived in table.derived:
        if changed & set(derived.ingredients):
            names.append(derived.name)
            changed = changed | {derived.name}
    if not names:
        return
    for k in table.derive(chain.V, tuple(names)):
        if not np.isfinite(chain.V[:, k - table.p]).all():
            raise SamplingError(
                f"'{table.names[k]}' is not finite for some imputed values of its ingredients (a logarithm of a "
                "negative number, or a division by 0?). Give the ingredients bounds=, or use another expression."
            )

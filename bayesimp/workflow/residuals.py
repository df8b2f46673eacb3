"""Whether `bi.impute` gives each cluster a residual covariance of its own.

It does so where the residual spread of a variable to be imputed differs between clusters (`bayesimp.table.spread`), in
tables like those of the study: benchmarks/RESIDUAL_SPREAD.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.spread import differing, said
from bayesimp.workflow.default_formula import sides
from bayesimp.workflow.engines import Choice

__all__ = ["with_residuals"]

LEAST_CLUSTERS, LEAST_ROWS, MOST_VARIABLES = 8, 10, 6  # of the tables in the study


def with_residuals(
    choice: Choice, data: IncompleteData, own: Mapping[str, Any]
) -> tuple[Choice, dict[str, Any]]:
    """The engine and its options, with a residual covariance for each cluster if spreads differ.

    Parameters
    ----------
    choice
        The engine that the rule chose.
    data
        The table.
    own
        The user's options; ``residual`` and ``formula`` leave the choice to the user.
    """
    options = dict(own)
    if choice.engine == "joint" and "residual" in own:
        if own["residual"] == "cluster":
            return replace(choice, engine="latent"), options
        options.pop("residual")
    if choice.engine not in ("joint", "latent") or {"residual", "formula"} & set(own):
        return choice, options
    model = sides(data, latent=choice.engine == "latent")
    studied = (
        len(data.cluster_columns) == 1
        and len(data.clusters) >= LEAST_CLUSTERS
        and np.median(data.sizes) >= LEAST_ROWS
        and len(model.left) <= MOST_VARIABLES
    )
    if not studied:
        return choice, options
    normal = [
        name for name in model.left if data.variable(name).distribution.is_normal and name not in model.groups
    ]
    found = differing(data, normal, [*model.left, *model.right])
    if not found:
        return choice, options
    spreads = "; ".join(said(data, spread) for spread in found)
    text = (
        f" Each cluster has its own residual covariance, residual='cluster' (JointLatent), because residual standard "
        f"deviations differ between clusters: {spreads}. residual='common' has one for all."
    )
    return Choice("latent", choice.reason + text), options | {"residual": "cluster"}

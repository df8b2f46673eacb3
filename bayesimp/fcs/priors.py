"""Priors of the parameters of conditional models, on the scale of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.fcs.scale import ChainedBlock, factor_scale
from bayesimp.fcs.table import ChainedTable
from bayesimp.notation import in_tree

__all__ = ["parameter_priors"]


def parameter_priors(
    table: ChainedTable, names: Mapping[str, str], ignore: NDArray[np.bool_]
) -> dict[str, Any]:
    """Name in the posterior -> its prior, for blocks that have priors.

    Parameters
    ----------
    table
        The blocks with their scales.
    names
        Block -> its name in the tree.
    ignore
        (n,) rows to which no model is fitted.

    Raises
    ------
    SpecificationError
        A prior cannot be transformed to the scale of its block; the message names both.
    """
    out: dict[str, Any] = {}
    for chained in table.blocks:
        block, scale, method = chained.block, chained.scale, chained.block.method
        name = names[block.name]
        if not method.takes_priors or method.own_model:
            continue
        priors = pr.default() if method.priors is None else method.priors
        fitted = table.full[~ignore, chained.columns[0]]
        out[f"beta_{name}"] = _beta_prior(chained, priors.beta, fitted)
        if block.distribution.has_normal_errors and method.residual == "common":
            Sigma = "sigma2" if len(block.responses) == 1 else "Sigma"
            out[f"{Sigma}_{name}"] = pr.resolve(priors.Sigma, scale.s, f"Sigma of '{block.name}'")
        out[f"Psi_{name}"] = scale.Psi_prior(priors.Psi, f"Psi of '{block.name}'")
        for factor in block.further:
            where = f"Psi_{factor.label} of '{block.name}'"
            own = factor_scale(scale.s).Psi_prior(priors.of_factor(factor.label), where)
            out[f"Psi_{in_tree(factor.label)}_{name}"] = own
    return out


def _beta_prior(
    chained: ChainedBlock, prior: pr.CoefficientPrior, response: NDArray[np.float64]
) -> pr.CoefficientPrior:
    """The prior in the units of the data, whatever its own; response: values in the fitted rows, NaN if missing."""
    block, intercept = chained.block, 0.0
    if prior.follows_mean and block.distribution.has_log_mean_intercept:
        intercept = float(np.log(np.nanmean(response)))
    return prior.on_data(chained.scale, (len(block.fixed), block.predictors), intercept)

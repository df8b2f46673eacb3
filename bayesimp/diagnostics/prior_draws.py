"""Draws of all parameters of a model from their priors, for comparison with the posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.contract import ImputationModel
from bayesimp.errors import SpecificationError
from bayesimp.events import Event

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = ["known_model", "prior_group"]

Array = NDArray[np.float64]


def known_model(imp: Imputations) -> ImputationModel:
    """The model that made these imputations.

    Raises
    ------
    SpecificationError
        They do not carry it.
    """
    if imp.model is None:
        raise SpecificationError(
            "These imputations do not carry the model that made them, so its priors are unknown."
        )
    return imp.model


def prior_group(
    model: ImputationModel, posterior: xr.Dataset, size: int, seed: int
) -> tuple[xr.Dataset, list[Event]]:
    """Draw every parameter from its prior, with the dims of `posterior` (1 chain, `size` draws).

    Returns
    -------
    Dataset, and an event "no prior draws" for each parameter whose prior is improper (flat beta) or unknown to the
    model.
    """
    rng = np.random.default_rng(seed)
    draws, events = {}, []
    for name, array in posterior.data_vars.items():
        prior, shape = model.parameter_priors.get(str(name)), array.shape[2:]
        x, why = _draws(rng, prior, shape, size)
        if x is None:
            events.append(Event("no prior draws", str(name), f"{why}: there is nothing to draw from"))
        else:
            draws[name] = (array.dims, x.reshape(1, size, *shape))
    coords = {name: c for name, c in posterior.coords.items() if not {"chain", "draw"} & set(c.dims)}
    return xr.Dataset(draws, coords={**coords, "chain": [0], "draw": np.arange(size)}), events


def _draws(
    rng: np.random.Generator,
    prior: pr.CovariancePrior | pr.CoefficientPrior | None,
    shape: tuple[int, ...],
    size: int,
) -> tuple[Array | None, str]:
    """Draws (size, ...); or None, and why."""
    if prior is None:
        return None, "the model does not give its prior"
    if isinstance(prior, pr.CoefficientPrior):
        return prior.draw(rng, shape, size), prior.no_draws
    d = shape[0] if shape else 1
    if prior.no_draws:
        return None, prior.no_draws
    return (prior.draw(rng, d, size) if prior.is_proper(d) else None), "its prior is improper"

"""State of a run on latent normals as a dataset, and back, so that it goes on from a file exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesimp.joint.latent.gibbs import LatentChain, LatentDraws
from bayesimp.joint.strided import read_state, run_state

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.latent.run import LatentRun

__all__ = ["draws_and_chains", "latent_state"]

KEPT = "beta", "Sigma", "Psi", "cutpoints", "mean", "sd", "cells"
NOW = "Y", "cutpoints", "beta", "B", "Sigma", "Psi"


def latent_state(run: LatentRun) -> xr.Dataset:
    """Latent values, parameters and generators of all chains, and the draws kept."""
    return run_state(run, KEPT, NOW)


def draws_and_chains(state: xr.Dataset) -> tuple[LatentDraws, list[LatentChain]]:
    """The draws kept, and where the chains are."""
    return read_state(state, LatentDraws, KEPT, LatentChain, NOW)

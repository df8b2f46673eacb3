"""State of a run on latent normals as a dataset, and back, so that it goes on from a file exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesimp.contract import plain
from bayesimp.joint.latent.gibbs import LatentChain, LatentDraws
from bayesimp.kernels.latent.records import Kept, LatentState

if TYPE_CHECKING:
    from bayesimp.joint.latent.run import LatentRun

__all__ = ["draws_and_chains", "latent_state"]


def latent_state(run: LatentRun) -> xr.Dataset:
    """Latent values, parameters and generators of all chains, and the draws kept."""
    arrays = {f"kept_{name}": a for name, a in run.history.kept._asdict().items()}
    states = [chain.state._asdict() for chain in run.chains]
    arrays |= {f"now_{name}": np.stack([state[name] for state in states]) for name in LatentState._fields}
    return xr.Dataset(
        {key: (tuple(f"{key}_{axis}" for axis in range(a.ndim)), a) for key, a in arrays.items()},
        attrs={
            "generators": json.dumps([chain.rng.bit_generator.state for chain in run.chains]),
            "run_events": json.dumps([event.as_dict() for event in run.events], default=plain), "stride": run.stride,
            "residuals": int(run.residuals),
        },
    )  # fmt: skip


def draws_and_chains(state: xr.Dataset) -> tuple[LatentDraws, list[LatentChain]]:
    """The draws kept, and where the chains are."""
    draws = LatentDraws(Kept(*(state[f"kept_{name}"].to_numpy() for name in Kept._fields)))
    chains = []
    for c, generator in enumerate(json.loads(state.attrs["generators"])):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generator
        now = LatentState(*(state[f"now_{name}"].to_numpy()[c].copy() for name in LatentState._fields))
        chains.append(LatentChain(now, rng))
    return draws, chains

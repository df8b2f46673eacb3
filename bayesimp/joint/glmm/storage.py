"""The state of a run of the joint GLMM as a dataset, from which it can be continued exactly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesimp.contract import plain
from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.gibbs import JointHistory

if TYPE_CHECKING:
    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.joint.glmm.run import GLMMRun

__all__ = ["glmm_state", "history_and_chains"]

LISTS = "beta", "aux", "Psi", "B"
ARRAYS = "V", "Y", "sd", "tallies", "step", "moved"


def glmm_state(run: GLMMRun) -> xr.Dataset:
    """Completed variables, parameters and generators of all chains, and the kept draws."""
    h, chains = run.history, run.chains
    arrays = {f"now_{name}": np.stack([getattr(chain, name) for chain in chains]) for name in ARRAYS}
    for name in LISTS:
        for k, part in enumerate(getattr(h, name)):
            arrays[f"kept_{name}_{k}"] = part
            arrays[f"now_{name}_{k}"] = np.stack([getattr(chain, name)[k] for chain in chains])
    arrays |= {f"kept_{name}": getattr(h, name) for name in ("sd", "mean", "spread", "cells")}
    return xr.Dataset(
        {key: (tuple(f"{key}_{axis}" for axis in range(a.ndim)), a) for key, a in arrays.items()},
        attrs={
            "generators": json.dumps([chain.rng.bit_generator.state for chain in chains]),
            "failed": json.dumps([chain.failed for chain in chains]),
            "run_events": json.dumps([event.as_dict() for event in run.events], default=plain),
            "stride": run.stride, "effects": int(run.effects),
        },
    )  # fmt: skip


def history_and_chains(model: JointGLMM, state: xr.Dataset) -> tuple[JointHistory, list[ChainState]]:
    """The kept draws, and the states of the chains."""
    a = {str(name): variable.values for name, variable in state.data_vars.items()}

    def parts(kind: str, name: str) -> list[np.ndarray]:
        count = sum(key.startswith(f"{kind}_{name}_") for key in a)
        return [a[f"{kind}_{name}_{k}"] for k in range(count)]

    history = JointHistory(
        parts("kept", "beta"), parts("kept", "aux"), a["kept_sd"], parts("kept", "Psi"), parts("kept", "B"),
        a["kept_mean"], a["kept_spread"], a["kept_cells"],
    )  # fmt: skip
    chains = []
    generators, failed = json.loads(state.attrs["generators"]), json.loads(state.attrs["failed"])
    for c, generator in enumerate(generators):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generator
        beta, aux, Psi, B = ([np.ascontiguousarray(part[c]) for part in parts("now", name)] for name in LISTS)
        V, Y, sd, tallies, step, moved = (np.ascontiguousarray(a[f"now_{name}"][c]) for name in ARRAYS)
        chains.append(ChainState(V, Y, beta, aux, sd, Psi, B, rng, tallies, step, moved, failed[c]))
    return history, chains

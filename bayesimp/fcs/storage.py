"""Convert the state of a run of chained equations to a dataset and back, so that it continues exactly from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesimp.contract import plain
from bayesimp.fcs.blocks.base import Chain, Parameters
from bayesimp.fcs.history import History

if TYPE_CHECKING:
    from bayesimp.fcs.model import FCS
    from bayesimp.fcs.run import FCSRun

__all__ = ["fcs_state", "history_and_chains", "specification_of"]

PARAMETERS = "beta", "Sigma", "Psi", "B"


def fcs_state(run: FCSRun) -> xr.Dataset:
    """Values, parameters and generators of all chains, the kept cycles, and the arrays of the specification."""
    chains, history, model = run.chains, run.history, run.model
    arrays = {"V": np.stack([chain.V for chain in chains]), "mean": history.mean, "sd": history.sd}
    for b, kept in enumerate(history.blocks):
        arrays |= {f"kept_{b}_{name}": values for name, values in kept.items()}
        theta = [chain.theta[b] for chain in chains]
        arrays |= {f"now_{b}_{name}": np.stack([getattr(t, name) for t in theta]) for name in PARAMETERS}
        arrays |= {f"own_{b}_{name}": np.stack([t.own[name] for t in theta]) for name in theta[0].own}
    arrays |= {f"where_{k}": mask for k, mask in enumerate(model.where.values())} | {"ignore": model.ignore}
    variables = {
        name: (tuple(f"{name}_{axis}" for axis in range(a.ndim)), a.astype(np.int8) if a.dtype == bool else a)
        for name, a in arrays.items()
    }
    return xr.Dataset(
        variables,
        attrs={
            "generators": json.dumps([chain.rng.bit_generator.state for chain in chains]),
            "chain_events": json.dumps(
                [[[*key, count] for key, count in chain.events.items()] for chain in chains]
            ),
            "chain_cycles": json.dumps([chain.cycles for chain in chains]),
            "chain_failing": json.dumps([chain.failing for chain in chains]),
            "where": json.dumps(list(model.where)),
            "run_events": json.dumps([event.as_dict() for event in run.events], default=plain),
        },
    )


def specification_of(attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
    """The specification stored in a file: records in the attributes, masks in the state."""
    masks = {
        name: state[f"where_{k}"].values.astype(bool)
        for k, name in enumerate(json.loads(state.attrs["where"]))
    }
    record = json.loads(attrs["specification"])
    return record | {"where": masks or None, "ignore": state["ignore"].values.astype(bool)}


def history_and_chains(model: FCS, state: xr.Dataset) -> tuple[History, list[Chain]]:
    """The kept cycles and the states of the chains."""
    a = {str(name): variable.values for name, variable in state.data_vars.items()}
    blocks = range(len(model.spec.blocks))
    history = History([_of_block(a, f"kept_{b}_") for b in blocks], a["mean"], a["sd"])
    chains = []
    generators, events = json.loads(state.attrs["generators"]), json.loads(state.attrs["chain_events"])
    failing = json.loads(state.attrs.get("chain_failing", "null")) or [
        {} for _ in events
    ]  # files of earlier versions
    for k, cycles in enumerate(json.loads(state.attrs["chain_cycles"])):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generators[k]
        names = [block.name for block in model.spec.blocks]
        first = {name: _parameters(a, names.index(name), k) for name in names}
        for block in model.spec.blocks:  # files written before these updates were counted
            if block.distribution.is_normal and block.method.holds_coefficients:
                held = np.zeros(first[block.name].beta.size, dtype=np.int64)
                first[block.name].own.setdefault("held", held)
        theta = [first[name] for name in names]  # one state per block, however often it is visited
        V = np.ascontiguousarray(a["V"][k])
        chains.append(Chain(rng, V, theta, cycles, {(b, c): n for b, c, n in events[k]}, failing[k]))
    return history, chains


def _parameters(a: Mapping[str, np.ndarray], b: int, k: int) -> Parameters:
    beta, Sigma, Psi, B = (np.ascontiguousarray(a[f"now_{b}_{name}"][k]) for name in PARAMETERS)
    own = {name: values[k].copy() for name, values in _of_block(a, f"own_{b}_").items()}
    return Parameters(beta, Sigma, Psi, B, own)


def _of_block(a: Mapping[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    """Arrays whose names start with a prefix, keyed by the rest of the name (shapes, cutpoints, users' variables)."""
    return {name.removeprefix(start): values for name, values in a.items() if name.startswith(start)}

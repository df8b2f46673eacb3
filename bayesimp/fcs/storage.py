"""State of a run of chained equations as a dataset, and back, so that it goes on from a file exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.loop import Chain, History, Parameters
from bayesimp.fcs.model import FCS
from bayesimp.fcs.run import FCSRun
from bayesimp.fcs.specification.declared import declared_from_dict, plain

__all__ = ["fcs_run", "fcs_state"]

PARAMETERS = "beta", "Sigma", "Psi", "B"


def fcs_state(run: FCSRun) -> xr.Dataset:
    """Values, parameters and generators of all chains, the cycles kept, and the arrays of the specification."""
    chains, history, model = run.chains, run.history, run.model
    arrays = {"V": np.stack([chain.V for chain in chains]), "mean": history.mean, "sd": history.sd}
    for b, kept in enumerate(history.blocks):
        arrays |= {f"kept_{b}_{name}": values for name, values in kept.items()}
        theta = [chain.theta[b] for chain in chains]
        arrays |= {f"now_{b}_{name}": np.stack([getattr(t, name) for t in theta]) for name in PARAMETERS}
        arrays |= {f"own_{b}_{name}": np.stack([t.own[name] for t in theta]) for name in theta[0].own}
    arrays |= {f"where_{k}": mask for k, mask in enumerate(model._where.values())} | {"ignore": model.ignore}
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
            "where": json.dumps(list(model._where)),
            "run_events": json.dumps([event.as_dict() for event in run.events], default=plain),
        },
    )


def fcs_run(data, attrs: Mapping, state: xr.Dataset, post: Mapping[str, Callable] | None) -> FCSRun | str:
    """The run that `fcs_state` described; or, if it cannot be continued, why not."""
    record = json.loads(attrs["specification"])
    lacking = [name for name in record["post"] if name not in (post or {})]
    if lacking:
        each = ", ".join(f"{name!r}: function" for name in lacking)
        return (
            "the functions of post are code, which files do not hold; give them again, bayesimp.load(path, "
            f"post={{{each}}})"
        )
    try:
        declared = declared_from_dict(record)
    except SpecificationError as error:
        return str(error)
    a = {str(name): variable.values for name, variable in state.data_vars.items()}
    where = {name: a[f"where_{k}"].astype(bool) for k, name in enumerate(json.loads(state.attrs["where"]))}
    model = FCS(
        data, **declared, post={name: post[name] for name in record["post"]} if post else None,
        where=where or None, ignore=a["ignore"].astype(bool),
    )  # fmt: skip
    blocks = range(len(model.spec.blocks))
    history = History(
        [_of_block(a, f"kept_{b}_") for b in blocks],
        a["mean"],
        a["sd"],
    )
    chains = []
    generators, events = json.loads(state.attrs["generators"]), json.loads(state.attrs["chain_events"])
    for k, cycles in enumerate(json.loads(state.attrs["chain_cycles"])):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generators[k]
        names = [block.name for block in model.spec.blocks]
        first = {name: _parameters(a, names.index(name), k) for name in names}
        theta = [first[name] for name in names]  # one state a block, however often it is visited
        V = np.ascontiguousarray(a["V"][k])
        chains.append(Chain(rng, V, theta, cycles, {(b, c): n for b, c, n in events[k]}))
    return FCSRun(
        model, int(attrs["seed"]), int(attrs["tune"]), chains=chains, kept=history,
        events=tuple(Event(**e) for e in json.loads(state.attrs["run_events"])), seconds=float(attrs["seconds"]),
    )  # fmt: skip


def _parameters(a: Mapping[str, np.ndarray], b: int, k: int) -> Parameters:
    beta, Sigma, Psi, B = (np.ascontiguousarray(a[f"now_{b}_{name}"][k]) for name in PARAMETERS)
    own = {name: values[k].copy() for name, values in _of_block(a, f"own_{b}_").items()}
    return Parameters(beta, Sigma, Psi, B, own)


def _of_block(a: Mapping[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    """Arrays whose name starts so, by the rest of it: shapes, cutpoints, variables of the user's own model among them."""
    return {name.removeprefix(start): values for name, values in a.items() if name.startswith(start)}

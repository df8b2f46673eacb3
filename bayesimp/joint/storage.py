"""The state of a run of the joint model as a dataset and back, so that a run continues exactly from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp.contract import plain
from bayesimp.joint.gibbs import JointDraws, NormalChainState

if TYPE_CHECKING:
    from bayesimp.joint.normal import JointNormal
    from bayesimp.joint.run import JointRun

__all__ = ["chain_states", "draws_of", "joint_state", "specification_of", "specification_state"]


def joint_state(run: JointRun) -> xr.Dataset:
    """Covariances and generators of all chains; the draws themselves are in the groups of the result."""
    states = run.states
    attrs = specification_state(run.model) | {
        "generators": json.dumps([s.rng.bit_generator.state for s in states]),
        "run_events": json.dumps([e.as_dict() for e in run.events], default=plain),
    }
    return xr.Dataset(
        {
            "Sigma_w": (("chain", "a", "b"), np.stack([s.Sigma for s in states])),
            "Psi_w": (("chain", "c", "d"), np.stack([s.Psi for s in states])),
        },
        attrs=attrs,
    )


def specification_state(model: JointNormal) -> dict[str, Any]:
    """What `specification_of` needs in addition to the attributes of the result."""
    attrs = {"formula": model.formula.text}  # as the user wrote it
    if model.shift:
        attrs["shift"] = json.dumps(model.shift.to_record(), default=plain)
    if model.reference is not None:
        attrs["reference"] = json.dumps(model.reference.to_record(), default=plain)
    return attrs


def specification_of(attrs: Mapping[str, Any], state: xr.Dataset) -> dict[str, Any]:
    """The specification of the model in a file."""
    out = {"formula": state.attrs["formula"], "priors": json.loads(attrs["priors"])}
    if "shift" in state.attrs:
        out["shift"] = json.loads(state.attrs["shift"])
    if "reference" in state.attrs:
        out["reference"] = json.loads(state.attrs["reference"])
    return out


def chain_states(state: xr.Dataset) -> list[NormalChainState]:
    """The states of the chains."""
    states = []
    for k, generator in enumerate(json.loads(state.attrs["generators"])):
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = generator
        states.append(
            NormalChainState(state["Sigma_w"].values[k].copy(), state["Psi_w"].values[k].copy(), rng)
        )
    return states


def draws_of(tree: xr.DataTree, shift: NDArray[np.float64]) -> JointDraws:
    """The draws so far, from the groups of the result; the shift (m, r) is subtracted from imputed means."""
    posterior, stats = tree["posterior"].to_dataset(), tree["imputed_stats"].to_dataset()
    mean, sd = (np.moveaxis(stats[name].to_numpy(), -1, -2) for name in ("mean", "sd"))
    if shift.any():
        mean = mean - shift
    beta, Sigma, Psi = (posterior[name].to_numpy() for name in ("beta", "Sigma", "Psi"))
    return JointDraws(beta, Sigma, Psi, mean, sd)

"""Shared parts of blocks that move by Hamiltonian Monte Carlo: state, transitions, start, events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.sampling.compiled_model import CompiledModel, Structure
from bayesimp.sampling.hmc import Adaptation, hmc

__all__ = ["HmcBlock", "HmcState", "events"]

LOW = 0.5  # mean acceptance below which a cycle moves too little
TRIAL = 10  # transitions that test a starting point


@dataclass
class HmcState:
    """The state of a chain, theta (n,), unconstrained, and sums over its transitions."""

    theta: np.ndarray
    transitions: int = 0
    acceptance: float = 0.0
    divergences: int = 0


class HmcBlock:
    """Base class of both blocks. `structure` is None if nothing is left to sample."""

    structure: Structure | None
    adaptation: Adaptation | None = None
    transitions: int
    name: str

    @property
    def compiled(self) -> CompiledModel:
        """The compiled model."""
        assert self.structure is not None, "nothing is left to sample"
        return self.structure.compiled

    def move(
        self, rng: np.random.Generator, theta: np.ndarray, arrays: tuple, C: np.ndarray, e: float, count: int
    ) -> np.ndarray:
        """Make `count` transitions in place; returns their trace."""
        compiled, trace = self.compiled, np.empty((count, 2))
        sample = hmc(compiled.density_type, compiled.arrays_type)
        if not sample(compiled.density, rng, theta, C, e, trace, arrays):
            raise SamplingError(
                f"The log density of the model of '{self.name}' is not finite at the state of its chain: the data have "
                "left the support of the model (a bound, a positive variable?), or a parameter has diverged under a "
                "flat prior."
            )
        return trace

    def transition(self, rng: np.random.Generator, state: HmcState, arrays: tuple, count: int) -> None:
        """Move `state` by `count` transitions, recording acceptance and divergences."""
        if self.adaptation is None:
            raise SamplingError(
                f"The model of '{self.name}' has not been adapted: call adapt() before start()."
            )
        trace = self.move(rng, state.theta, arrays, self.adaptation.factor, self.adaptation.step, count)
        state.transitions += count
        state.acceptance += float(trace[:, 0].sum())
        state.divergences += int(trace[:, 1].sum())

    def start_near_mean(self, rng: np.random.Generator, arrays: tuple) -> HmcState:
        """An overdispersed start: twice as far from the warm-up mean as the draws were, or less if the chain cannot move
        there.

        Far from the posterior the step size may be too long for every transition, for example with large cluster
        effects, and the chain would not move.
        """
        if self.adaptation is None:
            raise SamplingError(
                f"The model of '{self.name}' has not been adapted: call adapt() before start()."
            )
        C, mean = self.adaptation.factor, self.adaptation.mean
        z = rng.standard_normal(len(mean))
        away = C @ z if C.shape[1] == len(mean) else C[:, 0] * z
        for spread in 2.0 ** -np.arange(-1.0, 20.0):
            theta = mean + spread * away
            if not np.isfinite(self.compiled.density(theta, *arrays)[0]):
                continue
            trace = self.move(rng, theta.copy(), arrays, C, self.adaptation.step, TRIAL)
            if trace[:, 0].mean() > LOW / 2:
                break
        return HmcState(theta)


def events(states: Iterable[HmcState], name: str) -> list[Event]:
    """Events about the transitions of all imputations of one variable."""
    states = list(states)
    count = sum(s.transitions for s in states)
    divergences, acceptance = sum(s.divergences for s in states), sum(s.acceptance for s in states)
    out = []
    if divergences:
        message = (
            f"{divergences} of {count} transitions of HMC were divergent: part of the posterior may not have been "
            "reached. Write the model in its non-centred form, in which effects do not depend on their sd, or use "
            "more informative priors."
        )
        out.append(Event("divergence", name, message, divergences))
    if count and acceptance < LOW * count:
        message = (
            f"HMC accepted {acceptance / count:.0%} of its transitions: the data have changed since it was adapted. "
            "Adapt it again after more cycles, or make more transitions per cycle."
        )
        out.append(Event("low acceptance", name, message, count))
    return out

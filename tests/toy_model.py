"""An imputation model of a few lines, for tests: y ~ N(mu, 1) with mu drawn from its posterior, m chains of n draws.

It is written against `bayesimp.contract` and `bayesimp.sampling.executors` alone, and registered like any other. `FAULTS`
are mistakes that it can be told to make, each of which a test in `tests/test_models.py` must notice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr

import bayesimp as bi
from bayesimp import priors as pr
from bayesimp.arguments import new_seed
from bayesimp.contract import ImputationModel, Run, Shift, register
from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import build_tree
from bayesimp.progress import progress_bar
from bayesimp.sampling.chains import chain_rng
from bayesimp.sampling.executors import Executor, read_executor, run_level

__all__ = ["Toy"]


@dataclass
class Chain:
    rng: np.random.Generator
    values: np.ndarray


@dataclass(frozen=True)
class Draws:
    """What a chain does: mu | y, then the missing values | mu. An iteration keeps mu (1,)."""

    seen: np.ndarray
    holes: int
    shift: float

    def room(self, chains, iterations):
        return np.zeros((len(chains), iterations))

    def advance(self, chain, number, into, place, start, stop):
        for t in range(start, stop):
            into[place, t] = self.seen.mean() + chain.rng.normal() / np.sqrt(len(self.seen))
            chain.values = into[place, t] + self.shift + chain.rng.normal(size=self.holes)

    def put(self, into, place, start, piece):
        into[place, start : start + piece.shape[1]] = piece[0]


@dataclass
class ToyRun(Run):
    """Chains, one an imputation."""

    model: Any
    seed: int
    workers: int | None = None
    executor: str | Executor | None = None
    chains: tuple[Chain, ...] = ()
    kept: np.ndarray | None = None
    events: tuple[Event, ...] = ()
    chained: ClassVar[bool] = True

    def advance(self, new: list[Chain], n: int, report: Any) -> np.ndarray:
        model = self.model
        task = Draws(model.seen, len(model.holes), model.shift.of("y"))
        kept = task.room(new, n)
        executor = read_executor(self.executor, self.workers)
        with executor.session(task) as session:
            done = run_level(session, new, kept, n, report=report)
        if not done:
            raise SamplingError("The run was interrupted before its first draw: nothing to keep.")
        if done < n:
            self.events += (Event("interrupted", "draws", f"{done} of {n} draws kept"),)
        return kept[:, :done]

    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        wrong = self.model.fault == "extend"
        new = [Chain(chain_rng(self.seed + wrong, k), np.empty(0)) for k in range(len(self.chains), m)]
        longer = replace(self)
        with progress_bar(progress) as report:
            kept = longer.advance(new, self.kept.shape[1], report)
        longer.chains, longer.kept = (*self.chains, *new), np.concatenate([self.kept, kept])
        return longer.imputations()

    def iterate(self, cycles: int, progress: bool | None = None) -> Imputations:
        longer, chains = replace(self), [copied(chain) for chain in self.chains]
        with progress_bar(progress) as report:
            kept = longer.advance(chains, cycles, report)
        longer.chains, longer.kept = tuple(chains), np.concatenate([self.kept, kept], axis=1)
        return longer.imputations()

    def state(self) -> xr.Dataset:
        position = [chain.rng.bit_generator.state for chain in self.chains]
        if self.model.fault == "load":
            position = [np.random.default_rng(1).bit_generator.state] * len(position)
        return xr.Dataset(
            {"values": (("chain", "hole"), np.stack([chain.values for chain in self.chains]))},
            attrs={
                "generators": json.dumps(position),
                "events": json.dumps([event.as_dict() for event in self.events]),
            },
        )

    @classmethod
    def restore(cls, model, tree, state) -> Self:
        chains = []
        for position, values in zip(
            json.loads(state.attrs["generators"]), state["values"].values, strict=True
        ):
            rng = np.random.Generator(np.random.PCG64())
            rng.bit_generator.state = position
            chains.append(Chain(rng, values))
        events = tuple(Event(**each) for each in json.loads(state.attrs["events"]))
        return cls(
            model, int(tree.attrs["seed"]), chains=tuple(chains), kept=tree["posterior"]["mu"].values, events=events
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        kept = dict(self.__dict__)
        if self.model.fault == "pickle":
            kept["seed"] = 0
        return kept

    def imputations(self) -> Imputations:
        model = self.model
        values = np.stack([chain.values for chain in self.chains])
        order = np.argsort(model.holes)
        cells = {"y": (model.holes[order], values[:, order])}
        if model.fault == "missing":
            cells["y"][1][0, 0] = np.nan
        if model.fault == "observed":
            cells = {
                "y": (
                    np.append(cells["y"][0], model.rows[0]),
                    np.insert(cells["y"][1], len(order), 0.0, axis=1),
                )
            }
        attrs = {
            "model": type(model).__name__, "formula": "y ~ 1", "responses": ["y"], "priors_name": model.priors.name,
            "specification": json.dumps(model.specification()), "sampler": "exact", "seed": self.seed,
            "m": len(values), "chains": len(values), "draws": self.kept.shape[1], "seconds": 0.0,
        }  # fmt: skip
        made = Imputations(model.data, cells, attrs, partial(self.tree, cells, attrs), self.events, run=self)
        return made.with_events(imputed_events(made) if model.fault != "events" else [])

    def tree(self, cells, attrs):
        shape = (*self.kept.shape, len(self.model.data.clusters), 1)
        stats = {name: np.broadcast_to(self.kept[:, :, None, None], shape) for name in ("mean", "sd")}
        observed = {"y": self.model.data.numeric("y")}
        return build_tree(
            self.model.data, {"mu": ((), self.kept)}, stats, cells, observed, {"response": ["y"]}, attrs
        )


def copied(chain: Chain) -> Chain:
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = chain.rng.bit_generator.state
    return Chain(rng, chain.values)


@register
class Toy(ImputationModel):
    """The model; ``fault`` names what it does wrong."""

    run_type = ToyRun

    def __init__(
        self, data: bi.IncompleteData, priors: pr.Priors | None = None, shift: Shift | None = None, fault=""
    ):
        self.data, self.fault, self.events = data, fault, []
        self.priors = pr.default() if priors is None else pr.read(priors)
        self.shift = Shift() if shift is None else shift.checked(["y"])
        missing, x = data.missing("y"), data.numeric("x")
        self.rows = np.flatnonzero(~missing)
        self.seen = np.sort(data.numeric("y")[~missing])  # in an order that depends on values alone
        self.holes = np.flatnonzero(missing)
        if fault == "labels":
            x = np.array([float(str(ord(str(label)[0]))) for label in data.frame[data.cluster]]) + x
        if fault != "rows":
            self.holes = self.holes[np.argsort(x[self.holes])]

    @property
    def responses(self):
        return ("y",)

    @property
    def parameter_priors(self):
        return {"mu": self.priors.beta}

    def with_priors(self, priors):
        return Toy(self.data, priors, self.shift, self.fault)

    def specification(self):
        lost = self.fault == "specification"
        return {"fault": self.fault, "shift": {"y": 9.0} if lost else dict(self.shift.by)}

    @classmethod
    def from_specification(cls, data, specification, functions=None):
        return cls(data, None, Shift(specification["shift"]), specification["fault"])

    @classmethod
    def saved_specification(cls, attrs, state):
        return json.loads(attrs["specification"])

    def impute(self, m=4, *, seed=None, n=6, workers=None, executor=None, progress=None):
        seed = new_seed() if seed is None else seed
        if self.fault == "seed":
            seed = new_seed()
        if self.fault == "workers":
            seed += workers or 0
        if self.fault == "executor":
            seed += executor is not None
        run = ToyRun(self, seed, workers, executor)
        chains = [Chain(chain_rng(seed, k), np.empty(0)) for k in range(m)]
        with progress_bar(progress) as report:
            told = (lambda *_: None) if self.fault == "progress" else report
            run.kept = run.advance(chains, n, told)
        if self.fault == "interrupt":
            run.events = ()
        run.chains = tuple(chains)
        return run.imputations()

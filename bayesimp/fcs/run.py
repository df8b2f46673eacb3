"""A run of chained equations that can be continued with more cycles or more imputations."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from bayesimp.contract import Run, TreeRequest, plain
from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import Chain
from bayesimp.fcs.events import chain_events, choices, origins
from bayesimp.fcs.history import History
from bayesimp.fcs.loop import Cycles, run_cycles
from bayesimp.fcs.specification.feedback import circle_cure
from bayesimp.fcs.storage import fcs_state, history_and_chains
from bayesimp.fcs.tree import imputed_cells, run_tree
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor, run_task

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.fcs.model import FCS

__all__ = ["FCSRun", "run_chain"]


SEVERAL = (
    "FCS has a prior and a likelihood in each conditional model, but no joint posterior that their product would be (Liu "
    "et al. 2014), so no weights on draws tell what the chains would do if one of them counted more. For one variable y "
    "given the others as they were imputed: tree = imp.tree_with('log_likelihood', 'log_prior'), then "
    "az.psense_summary(tree, var_names=['beta_y', 'Psi_y'], prior_var_names=['beta_y', 'Psi_y'], "
    "likelihood_var_names=['y']); its name must be in all three."
)


@dataclass
class FCSRun(Run):
    """The current states of the chains, one per imputation, and the cycles kept so far."""

    model: FCS
    seed: int
    tune: int
    workers: int | None = None
    executor: str | Executor | None = None
    chains: list[Chain] = field(default_factory=list)
    kept: History | None = None
    events: tuple[Event, ...] = ()
    seconds: float = 0.0
    chained: ClassVar[bool] = True

    @property
    def no_posterior(self) -> str:
        """Why several conditional models have no posterior; a single one has."""
        several = len({block.name for block in self.model.spec.blocks}) > 1
        return SEVERAL if several else ""

    @property
    def history(self) -> History:
        """The cycles so far; the run must have started."""
        assert self.kept is not None
        return self.kept

    def start(self, m: int, cycles: int, report: Callable | None) -> None:
        """Run m chains of `cycles` cycles each."""
        began = time.perf_counter()
        task = Cycles(self.model, self.seed)
        self.chains = [task.start(k) for k in range(m)]
        self.kept = self._cycles(self.chains, cycles, report)
        self.seconds += time.perf_counter() - began
        self._interrupted(self.history.cycles, cycles)

    def _cycles(self, chains: list[Chain], cycles: int, report: Callable | None) -> History:
        executor = read_executor(self.executor, self.workers)
        history = run_cycles(Cycles(self.model, self.seed), chains, cycles, executor, report)
        self.events += executor.new_events()
        return history

    def _interrupted(self, done: int, asked: int, kept: int = 0) -> None:
        """Record an interruption; `kept` is the number of earlier cycles."""
        if done == 0:
            raise SamplingError(
                "The run was interrupted before its first cycle, so there is nothing to keep. Run it again."
            )
        if done < asked:
            text = (
                f"stopped by the user after {done} of {asked} cycles; imputations are those of the last cycle"
            )
            if done + kept <= self.tune:
                text += f". All are warm-up (tune = {self.tune}) but are part of the posterior"
            self.events += (Event("interrupted", "cycles", text),)

    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        """The same run with m imputations in all; new ones have their own starts and as many cycles."""
        longer = replace(self, chains=list(self.chains))
        began = time.perf_counter()
        task = Cycles(self.model, self.seed)
        new = [task.start(k) for k in range(len(self.chains), m)]
        if new:
            with progress_bar(progress) as report:
                history = self._cycles(new, self.history.cycles, report)
            if history.cycles < self.history.cycles:
                raise SamplingError(
                    "Interrupted before the additional imputations were complete. The existing ones are unchanged."
                )
            longer.chains, longer.kept = [*self.chains, *new], self.history.joined(history, 0)
        longer.seconds += time.perf_counter() - began
        return longer.imputations()

    def iterate(self, cycles: int, progress: bool | None = None) -> Imputations:
        """The same imputations after `cycles` more cycles."""
        longer = replace(self, chains=[copy.deepcopy(chain) for chain in self.chains])
        began = time.perf_counter()
        with progress_bar(progress) as report:
            history = self._cycles(longer.chains, cycles, report)
            longer._interrupted(history.cycles, cycles, self.history.cycles)
            longer.kept = self.history.joined(history, 1)
            longer.seconds += time.perf_counter() - began
            return longer.imputations()

    def imputations(self) -> Imputations:
        """The last state of every chain, as completed tables."""
        cells, attrs = imputed_cells(self.model, self.chains), self._attrs()
        events = (
            *choices(self.model.spec),
            *self.model.events,
            *origins(self.model),
            *self.events,
            *chain_events(self.model, self.seed, self.chains),
        )
        tree = partial(run_tree, self.model, self.history, self.tune, cells, attrs)
        made = Imputations(self.model.data, cells, attrs, tree, events, run=self)
        spec = self.model.spec
        return made.with_events(imputed_events(made, set(spec.exact), partial(circle_cure, spec=spec)))

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """Those of each conditional model, in the cycles of the run (fcs/pointwise.py)."""
        from bayesimp.fcs.pointwise import pointwise

        return pointwise(self, what, request)

    def state(self) -> xr.Dataset:
        """The states of the chains and the kept cycles (fcs/storage.py)."""
        return fcs_state(self)

    @classmethod
    def restore(cls, model: FCS, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run stored in a file, with its chains and cycles."""
        attrs = tree.attrs
        history, chains = history_and_chains(model, state)
        events = tuple(Event(**e) for e in json.loads(state.attrs["run_events"]))
        return cls(
            model, int(attrs["seed"]), int(attrs["tune"]), chains=chains, kept=history, events=events,
            seconds=float(attrs["seconds"]),
        )  # fmt: skip

    def _attrs(self) -> dict:
        model = self.model
        return {
            "model": "FCS", "formula": "; ".join(model.formulas), "responses": list(model.spec.incomplete),
            "priors_name": model.priors_name, "specification": json.dumps(model.records(), default=plain),
            "sampler": "chained equations", "seed": self.seed, "tune": self.tune, "m": len(self.chains),
            "chains": len(self.chains), "draws": self.history.cycles, "cycles": self.history.cycles,
            "seconds": round(self.seconds, 4), "bayesimp_version": version("bayesimp"), "numpy_version": np.__version__,
        }  # fmt: skip


def run_chain(model: FCS, seed: int, k: int, n: int) -> tuple[Chain, History]:
    """Run chain k from its start; returns its state after n cycles, and the cycles, on the working scale.

    This is a task for a scheduler (Dask, Ray, a study): arguments and results can be pickled.
    """
    task = Cycles(model, seed)
    return run_task(task, task.start(k), k, n)

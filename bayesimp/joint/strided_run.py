"""Runs of chains that keep missing cells for some of their draws: started, continued, imputed from, restored."""

from __future__ import annotations

import copy
import json
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations
from bayesimp.joint.spaced_run import SpacedRun
from bayesimp.messages import NOTHING_KEPT
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor, run_level

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST_CELLS", "StridedRun"]

MOST_CELLS = 20_000_000  # with more numbers, imputed cells are kept for some draws only


@dataclass
class StridedRun(SpacedRun):
    """The current states of the chains and the draws so far, on the working scale.

    A derived class defines the task (`task`), how draws become values (`_cells`) and a tree (`_tree`), and
    the content of files (`state`, `restore`).
    """

    model: Any
    seed: int
    thin: int
    spacing: int
    stride: int
    workers: int | None = None
    executor: str | Executor | None = None
    chains: list[Any] = field(default_factory=list)
    kept: Any = None
    events: tuple[Event, ...] = ()
    seconds: float = 0.0

    @property
    def history(self) -> Any:
        """Draws so far, once the run has started."""
        assert self.kept is not None
        return self.kept

    @property
    def length(self) -> tuple[int, int]:
        """Number of chains, and of the draws kept so far in each."""
        return self.history.chains, self.history.draws

    @property
    @abstractmethod
    def task(self) -> Any:
        """The task of running iterations, for executors."""

    @abstractmethod
    def _declaration(self) -> dict[str, Any]:
        """The attributes of a result that describe the model."""

    def impute(self, m: int, chains: int, tune: int, draws: int, progress: bool | None) -> Imputations:
        """Start the run and impute."""
        with progress_bar(progress) as report:
            self.start(chains, tune, draws, report)
            if self.history.draws < draws:
                self._fit_spacing(m)
            return self.imputations(m)

    def start(self, chains: int, tune: int, draws: int, report: Callable | None) -> None:
        """Run the chains from their starts: `tune` warm-up sweeps, then `draws` kept draws each.

        If cells are kept for one in several draws, their number is raised to a multiple of that, so that the draws of a
        continuation keep theirs at the same places.
        """
        cells = chains * draws * self.task.counted
        # the smallest stride that keeps few enough, because interrupts are noticed only every `stride` draws
        strides = (d for d in range(1, self.spacing + 1) if self.spacing % d == 0)
        self.stride = next((d for d in strides if cells <= d * MOST_CELLS), self.spacing)
        self.chains = [self.task.start(self.seed, c) for c in range(chains)]
        raised = -(-draws // self.stride) * self.stride
        if raised > draws:
            text = f"{raised} per chain instead of {draws}: missing cells are kept for one in {self.stride}"
            self.events += (Event("more draws", "sampler", text),)
        self._advance(tune, raised, report)

    def _advance(self, tune: int, draws: int, report: Callable | None) -> None:
        began, task = time.perf_counter(), self.task
        states = [copy.deepcopy(chain) for chain in self.chains]
        new = task.room(states, draws * self.thin)
        executor = read_executor(self.executor, self.workers)
        with executor.session(task) as session:
            warm = not tune or min(session.run(states, None, 0, tune, report=report, stage="warm-up")) == tune
            multiple = self.thin * self.stride
            done = (
                run_level(session, states, new, draws * self.thin, multiple=multiple, report=report)
                // self.thin
                if warm
                else 0
            )
        self.seconds += time.perf_counter() - began
        self.events += executor.new_events()
        if done:
            new = new.truncated(done, self.stride)
            self.kept = new if self.kept is None else self.kept + new
            self.chains = states
        if self.kept is None:
            raise SamplingError(NOTHING_KEPT)
        if done < draws:
            text = f"stopped by the user: {done} of {draws} draws per chain kept"
            self.events += (Event("interrupted", "sampler", text),)

    def _fit_spacing(self, m: int) -> None:
        """After an interruption, space the imputations so that the draws so far give as many as possible."""
        per_chain = -(-m // self.history.chains)
        self.spacing = max(self.history.draws // per_chain // self.stride, 1) * self.stride

    def _log(self) -> tuple[Event, ...]:
        """Events of the model and of the chains."""
        return (*super()._log(), *self._chain_events())

    def _drawn(self, m: int) -> NDArray:
        """(m, c) cells of imputations 0 .. m-1, as stored."""
        chain, draw = self.places(range(m))
        return np.asarray(self.history.cells[chain, (draw + 1) // self.stride - 1])

    def _attrs(self, m: int) -> dict[str, Any]:
        h = self.history
        return self._declaration() | {
            "sampler": "gibbs", "seed": self.seed, "thin": self.thin, "spacing": self.spacing, "m": m, "chains": h.chains,
            "draws": h.draws, "seconds": round(self.seconds, 4), "bayesimp_version": version("bayesimp"),
            "numpy_version": np.__version__,
        }  # fmt: skip

    def _chain_events(self) -> list[Event]:
        """Events about the chains."""
        return []

    @classmethod
    def _restored(
        cls, model: Any, tree: xr.DataTree, state: xr.Dataset, kept: Any, chains: list[Any], **own: Any
    ) -> Self:
        """The run restored from a file, given its draws, its chains and arguments specific to the class."""
        attrs = tree.attrs
        return cls(
            model, int(attrs["seed"]), int(attrs["thin"]), int(attrs["spacing"]), int(state.attrs["stride"]),
            chains=chains, kept=kept, events=tuple(Event(**e) for e in json.loads(state.attrs["run_events"])),
            seconds=float(attrs["seconds"]), **own,
        )  # fmt: skip

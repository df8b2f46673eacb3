"""A run of the joint GLMM that can go on: from its chains to `Imputations`."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp import contract
from bayesimp.contract import plain
from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.gibbs import FactorTask, JointHistory
from bayesimp.joint.glmm.posterior import posterior
from bayesimp.joint.glmm.storage import glmm_state, history_and_chains
from bayesimp.kernels.glmm.gibbs import TALLIES
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor, run_level

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.table.new_rows import NewRows

__all__ = ["GLMMRun"]

MOST_CELLS = 20_000_000  # numbers kept of imputed cells, beyond which only those of some draws are
FEW_ACCEPTED = 0.1  # of Metropolis steps, below which parameters hardly move


@dataclass
class GLMMRun(contract.Run):
    """Chains at their present state and the draws so far, on the working scale."""

    model: JointGLMM
    seed: int
    thin: int
    spacing: int
    stride: int
    effects: bool = False
    workers: int | None = None
    executor: str | Executor | None = None
    chains: list[ChainState] = field(default_factory=list)
    kept: JointHistory | None = None
    events: tuple[Event, ...] = ()
    seconds: float = 0.0
    sample_stats: dict[str, NDArray] | None = None  # of NUTS

    @property
    def history(self) -> JointHistory:
        """Draws so far, once the run has started."""
        assert self.kept is not None
        return self.kept

    @property
    def task(self) -> FactorTask:
        """One sweep after the other, as executors run them."""
        model = self.model
        return FactorTask(model.table, model.priors, model.separate, self.thin, self.stride, self.effects)

    def impute(self, m: int, chains: int, tune: int, draws: int, progress: bool | None) -> Imputations:
        """Start the run and impute."""
        with progress_bar(progress) as report:
            self.start(chains, tune, draws, report)
            if self.history.draws < draws:
                self._fit_spacing(m)
            return self.imputations(m)

    def start(self, chains: int, tune: int, draws: int, report: Callable | None) -> None:
        """Chains from their starts: `tune` sweeps of warm-up, then `draws` kept draws each."""
        cells = chains * draws * self.task.counted
        # the smallest stride that keeps so few: an interruption is seen after every `stride` draws
        strides = (d for d in range(1, self.spacing + 1) if self.spacing % d == 0)
        self.stride = next((d for d in strides if cells <= d * MOST_CELLS), self.spacing)
        self.chains = [self.task.start(self.seed, c) for c in range(chains)]
        self._advance(tune, draws, report)

    def _advance(self, tune: int, draws: int, report: Callable | None) -> None:
        began, task = time.perf_counter(), self.task
        states = [copy.deepcopy(chain) for chain in self.chains]
        new = task.room(states, draws * self.thin)
        with read_executor(self.executor, self.workers).session(task) as session:
            warm = not tune or min(session.run(states, None, 0, tune, report=report, stage="warm-up")) == tune
            multiple = self.thin * self.stride
            done = (
                run_level(session, states, new, draws * self.thin, multiple=multiple, report=report)
                // self.thin
                if warm
                else 0
            )
        self.seconds += time.perf_counter() - began
        if done:
            new = new.truncated(done, self.stride)
            self.kept = new if self.kept is None else self.kept + new
            self.chains = states
        if self.kept is None:
            raise SamplingError(
                "The run was interrupted before its first imputation: nothing to keep. Run it again, or with "
                "smaller tune= and draws=."
            )
        if done < draws:
            text = f"stopped by the user: {done} of {draws} draws a chain kept"
            self.events += (Event("interrupted", "sampler", text),)

    def _fit_spacing(self, m: int) -> None:
        """After an interruption: as many imputations as there can be, from the draws there are."""
        per_chain = -(-m // self.history.chains)
        self.spacing = max(self.history.draws // per_chain // self.stride, 1) * self.stride

    def imputations(self, m: int) -> Imputations:
        """Imputations 0 .. m-1: number k from chain k % chains, at its draw (k // chains + 1) * spacing - 1."""
        h = self.history
        possible = h.chains * (h.draws // self.spacing)
        events = (*self.model.events, *self.events, *self._chain_events())
        if possible < m:
            events += (Event("fewer imputations", "imputations", f"{possible} of {m} could be made"),)
            m = possible
        cells, attrs = self._cells(m), self._attrs(m)
        tree = partial(self._tree, cells, attrs)
        made = Imputations(self.model.data, cells, attrs, tree, events, run=self)
        return made.with_events(imputed_events(made))

    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        """Column -> (rows, values (m, cells)), rows in the order of the table."""
        h, table = self.history, self.model.table
        k = np.arange(m)
        at = ((k // h.chains + 1) * self.spacing) // self.stride - 1
        drawn = h.cells[k % h.chains, at]
        out, first = {}, 0
        for f, factor in enumerate(table.factors):
            rows = table.row[table.missing[f]]
            values = drawn[:, first : first + len(rows)]
            first += len(rows)
            column = np.flatnonzero(self.model.data.missing(factor.response))
            if not len(column):
                continue
            place = np.full(len(table.row), -1)
            place[rows] = np.arange(len(rows))
            made = np.tile(self._known(f)[column], (m, 1))
            drawn_here = place[column] >= 0
            made[:, drawn_here] = self.in_units(f, values[:, place[column[drawn_here]]])
            lower, upper = self.model.data.limits(factor.response)
            np.clip(made, lower[column], upper[column], out=made)  # round-off passes no limit
            out[factor.response] = column, made
        return out

    def _known(self, f: int) -> NDArray:
        """(n,) responses of factor f as a table has them (positions of levels), where the data say them."""
        table = self.model.table
        y = np.empty(len(table.row))
        y[table.row] = self.in_units(f, table.Y[:, f])
        return y

    def in_units(self, f: int, y: NDArray) -> NDArray:
        """Responses in the units of the data; positions of levels stay."""
        table = self.model.table
        if table.factors[f].family.is_coded:
            return y
        values = table.arrays.center[f] + table.arrays.unit[f] * y
        return np.rint(values) if table.factors[f].family.is_count else values

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h, table = self.model, self.history, self.model.table
        variables, coords = posterior(model, h)
        incomplete = [k for k, rows in enumerate(table.missing) if len(rows)]
        names = [table.factors[k].response for k in incomplete]
        place = np.argsort(table.order)
        stats = {name: a[:, :, place][..., incomplete] for name, a in (("mean", h.mean), ("sd", h.spread))}
        return build_tree(
            model.data, variables, stats, cells, {f.response: model.data.numeric(f.response) for f in table.factors},
            coords | {"response": names}, attrs, self.sample_stats,
        )  # fmt: skip

    def _attrs(self, m: int) -> dict:
        model, h = self.model, self.history
        return {
            "model": "JointGLMM", "formula": "; ".join(f.formula for f in model.factors),
            "responses": [f.response for f in model.factors], "priors_name": model.priors.name,
            "specification": json.dumps(model.specification(), default=plain), "sampler": "gibbs", "seed": self.seed,
            "thin": self.thin, "spacing": self.spacing, "m": m, "chains": h.chains, "draws": h.draws,
            "seconds": round(self.seconds, 4), "bayesimp_version": version("bayesimp"), "numpy_version": np.__version__,
        }  # fmt: skip

    def _chain_events(self) -> list[Event]:
        """Acceptance of Metropolis steps, and cells that could not be drawn."""
        tallies = sum((chain.tallies for chain in self.chains), np.zeros_like(self.chains[0].tallies))
        out = []
        for factor, counts in zip(self.model.factors, tallies, strict=True):
            tally = dict(zip(TALLIES, counts, strict=True))
            kinds = [
                kind for kind in ("cluster effects", "fixed effects", "scales of effects") if tally[kind][0]
            ]
            if not kinds:
                continue
            shares = [f"{tally[kind][1] / tally[kind][0]:.0%} of {kind}" for kind in kinds]
            text = f"accepted by Metropolis steps: {', '.join(shares)}"
            out.append(Event("acceptance", factor.response, text, 1))
            slow = [kind for kind in kinds if tally[kind][1] < FEW_ACCEPTED * tally[kind][0]]
            if slow:
                text = (
                    f"fewer than {FEW_ACCEPTED:.0%} of the steps of {' and '.join(slow)} were accepted, so that they "
                    "hardly moved: see summary(). Join levels, leave out predictors, or take many more draws"
                )
                out.append(Event("slow mixing", factor.response, text, 1))
        failed = sum(chain.failed for chain in self.chains)
        if failed:
            text = (
                "draws of missing cells whose conditional distribution had no finite value: the cells kept the values "
                "they had"
            )
            out.append(Event("cells kept", ", ".join(f.response for f in self.model.factors), text, failed))
        return out

    def pointwise(self, what: str, request: contract.TreeRequest) -> xr.Dataset:
        """Log likelihood, log prior, replicates or cluster effects (joint/glmm/pointwise.py)."""
        from bayesimp.joint.glmm.pointwise import pointwise

        return pointwise(self, what, request)

    def transform(
        self, new: NewRows, m: int, seed: int
    ) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The missing values of new rows, by a Gibbs sampler at given parameters (joint/glmm/new_rows.py)."""
        from bayesimp.joint.glmm.new_rows import complete_new_rows

        return complete_new_rows(self, new, m, seed)

    def state(self) -> xr.Dataset:
        """Where the chains are, and the draws kept (joint/glmm/storage.py)."""
        return glmm_state(self)

    @classmethod
    def restore(cls, model: JointGLMM, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run of a file, chains and draws."""
        attrs = tree.attrs
        history, chains = history_and_chains(model, state)
        stats = tree["sample_stats"].data_vars.items() if "sample_stats" in tree.children else ()
        if attrs["sampler"] == "nuts":
            from bayesimp.joint.glmm.nuts import GLMMNutsRun

            cls = cast(type[Self], GLMMNutsRun)
        return cls(
            model, int(attrs["seed"]), int(attrs["thin"]), int(attrs["spacing"]), int(state.attrs["stride"]),
            effects=bool(int(state.attrs["effects"])), chains=chains, kept=history,
            events=tuple(Event(**e) for e in json.loads(state.attrs["run_events"])), seconds=float(attrs["seconds"]),
            sample_stats={str(name): v.values for name, v in stats} or None,
        )  # fmt: skip

    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        """The same run with `m` imputations in all, chains continued where they are."""
        needed = -(-m // self.history.chains) * self.spacing - self.history.draws
        longer = replace(self)
        with progress_bar(progress) as report:
            if needed > 0:
                longer._advance(0, needed, report)
            return longer.imputations(m)

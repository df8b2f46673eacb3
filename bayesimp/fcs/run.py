"""A run of chained equations that can be continued with more cycles or more imputations."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import Run, TreeRequest, plain
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.events import Event
from bayesimp.families.registry import family_of
from bayesimp.fcs.blocks.base import FREE, Chain
from bayesimp.fcs.loop import POST, Cycles, History, run_cycles
from bayesimp.fcs.scale import ChainedBlock
from bayesimp.fcs.specification.feedback import circle_cure
from bayesimp.fcs.storage import fcs_state, history_and_chains
from bayesimp.imputation.events import imputed_events
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.tree import build_tree
from bayesimp.notation import effect_names
from bayesimp.progress import progress_bar
from bayesimp.sampling.executors import Executor, read_executor, run_task
from bayesimp.scale.effects import check_origin
from bayesimp.scale.margins import alike

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.fcs.model import FCS
    from bayesimp.fcs.specification.records import Conditionals

__all__ = ["FCSRun", "block_names", "run_chain"]

TABLE = "FCS keeps the parameters of every cycle, but not the completed table"
NOT_KEPT = {  # why FCS lacks what `Imputations.tree_with` gives
    "log_likelihood": f"{TABLE} on which its conditional models depend, and in general no joint distribution has these "
    "conditionals: their product would be a pseudo-likelihood",
    "log_prior": "FCS has a prior in each conditional model, but in general no joint posterior to which they belong: "
    "power-scaling by their product would say nothing",
    "posterior_predictive": f"{TABLE} given which a variable is replicated",
    "cluster_effects": f"{TABLE} given which it drew cluster effects, nor these",
}


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
        return run_cycles(Cycles(self.model, self.seed), chains, cycles, executor, report)

    def _interrupted(self, done: int, asked: int, kept: int = 0) -> None:
        """Record an interruption; `kept` is the number of earlier cycles."""
        if done == 0:
            raise SamplingError(
                "The run was interrupted before its first cycle: nothing to keep. Run it again."
            )
        if done < asked:
            text = (
                f"stopped by the user: {done} of {asked} cycles kept; imputations are those of the last cycle"
            )
            if done + kept <= self.tune:
                text += f". All are warm-up (tune = {self.tune}), but are part of the posterior"
            self.events += (Event("interrupted", "cycles", text),)

    def extend(self, m: int, progress: bool | None = None) -> Imputations:
        """The same run with m imputations in all; the new ones have their own starts and as many cycles."""
        longer = replace(self, chains=list(self.chains))
        began = time.perf_counter()
        task = Cycles(self.model, self.seed)
        new = [task.start(k) for k in range(len(self.chains), m)]
        if new:
            with progress_bar(progress) as report:
                history = self._cycles(new, self.history.cycles, report)
            if history.cycles < self.history.cycles:
                raise SamplingError(
                    "Interrupted: the further imputations are not complete. The first ones are unchanged."
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
        cells, attrs = self._cells(), self._attrs()
        events = (
            *_choices(self.model.spec),
            *self.model.events,
            *_origins(self.model),
            *self.events,
            *self._chain_events(),
        )
        tree = partial(self._tree, cells, attrs)
        made = Imputations(self.model.data, cells, attrs, tree, events, run=self)
        spec = self.model.spec
        return made.with_events(imputed_events(made, set(spec.exact), partial(circle_cure, spec=spec)))

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """Refused, with the reason."""
        raise SpecificationError(
            f"{what}: {NOT_KEPT[what]}. JointNormal and JointGLMM have it; FCS has 'standard_deviations' and "
            "'correlations'."
        )

    def state(self) -> xr.Dataset:
        """The states of the chains and the cycles kept (fcs/storage.py)."""
        return fcs_state(self)

    @classmethod
    def restore(cls, model: FCS, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run that a file holds, with its chains and cycles."""
        attrs = tree.attrs
        history, chains = history_and_chains(model, state)
        events = tuple(Event(**e) for e in json.loads(state.attrs["run_events"]))
        return cls(
            model, int(attrs["seed"]), int(attrs["tune"]), chains=chains, kept=history, events=events,
            seconds=float(attrs["seconds"]),
        )  # fmt: skip

    def _cells(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Column -> (rows, values (m, cells)), rows in the order of the table."""
        model, data = self.model, self.model.data
        out = {}
        for name in model.spec.incomplete:
            rows = np.flatnonzero(model.masked.missing(name) & model.filled(name))
            if len(rows):
                out[name] = rows, self._values(name, rows)
        for derived in model.spec.derived:
            column = derived.column
            if column is None:
                continue
            every = column not in data.frame.columns  # all of a column that the table does not have
            rows = np.flatnonzero(model.filled(column) & (every or data.missing(column)))
            out[column] = rows, self._values(derived.name, rows)
        return out

    def _values(self, name: str, rows: np.ndarray) -> np.ndarray:
        """(m, len(rows)) a completed base column at rows of the table, on the scale of the data."""
        table = self.model.table
        k = table.names.index(name)
        place = np.full(len(table.full), -1)
        place[table.row] = np.arange(len(table.row))
        at = place[rows]
        values = np.tile(table.full[rows, k], (len(self.chains), 1))
        V = np.stack([chain.V[at[at >= 0], k - table.p] for chain in self.chains])
        values[:, at >= 0] = table.on_data_scale(k, V)
        if not family_of(self.model.data.families.get(name, "normal")).is_coded:
            return values
        levels = self.model.data.level_values(name)
        order = np.argsort(levels)  # positions of the levels, from their numbers in the loop
        return order[np.searchsorted(levels[order], values)].astype(float)

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, table, h = self.model, self.model.table, self.history
        place = np.argsort(table.order)
        posterior: dict[str, tuple] = {}
        coords: dict[str, list] = {nt.RESPONSE: list(model.spec.incomplete)}
        names = block_names(model.spec)
        for chained, kept in zip(table.blocks, h.blocks, strict=True):
            block = chained.block
            levels = model.data.levels(block.name)[1:] if block.distribution.predictor_per_level else ()
            texts = [str(level) for level in levels]
            part, dims = _posterior(chained, names[block.name], kept, place, texts)
            posterior |= part
            coords |= dims
        r = len(model.spec.incomplete)
        s, c = table.scale[table.p : table.p + r], table.center[table.p : table.p + r]
        stats = {"mean": h.mean[:, :, place] * s + c, "sd": h.sd[:, :, place] * s}
        observed = {name: model.masked.numeric(name) for name in model.spec.incomplete}
        tune = self.tune if h.cycles > self.tune else 0
        return build_tree(
            model.data, posterior, stats, cells, observed, coords, attrs, warmup=tune,
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

    def _chain_events(self) -> list[Event]:
        """The events that the blocks recorded, summed over imputations."""
        total: dict[tuple[int, int], int] = {}
        for chain in self.chains:
            for key, count in chain.events.items():
                total[key] = total.get(key, 0) + count
        conditionals, out = self.model.conditionals(self.seed), list[Event]()
        visits = sum(chain.cycles for chain in self.chains)
        for (block, code), count in sorted(total.items()):
            kind, message = (
                ("changed by post", "imputed values changed by the user's function") if code == POST
                else conditionals[block].words[code]
            )  # fmt: skip
            if code < 0:
                kind = "variable held"
                message += (
                    ", as the others were completed: nothing was drawn, and its values stayed as they were"
                )
            if code != POST:
                message += f" ({count / visits:.0%} of {visits:,} visits)"
            out.append(Event(kind, self.model.table.blocks[block].block.name, message, count))
        names = [block.name for block in self.model.spec.blocks]
        for name in dict.fromkeys(names):  # a block visited twice has one state
            b = names.index(name)
            out += conditionals[b].events([chain.theta[b] for chain in self.chains])
        return out


def run_chain(model: FCS, seed: int, k: int, n: int) -> tuple[Chain, History]:
    """Chain k of a run from its start: its state after n cycles, and the cycles, on the working scale.

    This is one task for a scheduler (Dask, Ray, a study): arguments and results can be pickled.
    """
    task = Cycles(model, seed)
    return run_task(task, task.start(k), k, n)


def _choices(spec: Conditionals) -> list[Event]:
    """Events for what defaults chose, or left out, in the models of the blocks."""
    about: dict[str, list[str]] = {}
    for block in {block.name: block for block in spec.blocks}.values():
        for note in block.notes:
            about.setdefault(note, []).append(block.name)
    return [Event("by default", ", ".join(names), note, len(names)) for note, names in about.items()]


def _origins(model: FCS) -> list[Event]:
    """Events for priors at an origin far from the data, and for slopes that the prior cannot distinguish."""
    out, priors, table, names = {}, model.parameter_priors, model.table, block_names(model.spec)
    for chained in table.blocks:
        name, random, scale = f"Psi_{names[chained.block.name]}", chained.block.random, chained.scale
        if name not in priors:
            continue
        plain = [column for column in random if column.over is None and not column.within]
        Z = table.full[:, [table.names.index(column.base) for column in plain]]
        labels = [column.name for column in random]
        out[name] = check_origin(priors[name], scale, scale.s, table.clusters, name, labels)
        out[name] += alike(Z[~np.isnan(Z).any(axis=1)], [column.name for column in plain], name)
    return [event for events in out.values() for event in events]


def block_names(spec: Conditionals) -> dict[str, str]:
    """Block -> its name in the tree, with "_" appended if that is taken.

    The second dimensions of "y" have the names of the first dimensions of "y_2", which may differ from them.
    """
    blocks = {block.name: block for block in spec.blocks}
    names: dict[str, str] = {}
    for name in sorted(blocks, key=lambda name: (len(name), name)):
        block, first = blocks[name], blocks.get(name.removesuffix("_2"), blocks[name])
        differ = block.random != first.random or max(block.predictors, first.predictors) > 1
        safe = nt.in_tree(name) + ("_" if first is not block and differ else "")
        while safe in names.values():
            safe += "_"
        names[name] = safe
    return names


def _posterior(
    chained: ChainedBlock,
    name: str,
    kept: dict[str, np.ndarray],
    place: NDArray[np.int64],
    levels: Sequence[str],
) -> tuple[dict, dict]:
    """Posterior variables of a block on the scale of the data, name -> (dims, array), and their coordinates.

    name: the block's name in the tree; levels: those of a categorical response except the first, each with a linear
    predictor.
    """
    block, scale = chained.block, chained.scale
    responses = list(levels or block.responses)
    dim = f"level_{name}" if levels else f"response_{name}"
    coords: dict[str, list] = {}
    out: dict[str, tuple] = {}
    for key, a in kept.items():
        if key.startswith(FREE):  # variables of a user's own model; shapes and cutpoints
            own = f"{key.removeprefix(FREE)}_{name}"
            out[own] = tuple(f"{own}_{axis}" for axis in range(a.ndim - 2)), a
    if "beta" in kept:
        beta, fixed = scale.beta(kept["beta"]), f"fixed_{name}"
        coords[fixed] = [c.name for c in block.fixed]
        one = len(responses) == 1
        out[f"beta_{name}"] = ((fixed,), beta[..., 0]) if one else ((fixed, dim), beta)
        if not one:
            coords[dim] = responses
    if "Sigma" in kept:
        Sigma = scale.Sigma(kept["Sigma"])
        if len(responses) > 1:
            coords[f"{dim}_2"] = responses
            out[f"Sigma_{name}"] = (dim, f"{dim}_2"), Sigma[:, :, 0]
        else:
            by_cluster = Sigma.shape[2] > 1
            sigma2 = Sigma[..., 0, 0]
            out[f"sigma2_{name}"] = (
                ((nt.CLUSTER,), sigma2[..., place]) if by_cluster else ((), sigma2[..., 0])
            )
    if "Psi" in kept:
        random, effect = [c.name for c in block.random], f"effect_{name}"
        names = random if len(responses) == 1 else effect_names(responses, random)
        coords |= {effect: names, f"{effect}_2": names}
        if block.method.fits_each_cluster:
            places = [block.fixed.index(column) for column in block.random]
            Psi = scale.coefficients_covariance(kept["Psi"], places)
        else:
            Psi = scale.Psi(kept["Psi"])
        out[f"Psi_{name}"] = (effect, f"{effect}_2"), Psi
    return out, coords

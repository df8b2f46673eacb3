"""NUTS on the PyMC model of a joint GLMM (models/joint_glmm.py): every proper prior, the same posterior as Gibbs.

NUTS draws parameters, effects and missing numbers; given a draw, missing levels are drawn exactly, from the weights of
the combinations over which the density sums, and then the missing cells of variables that appear in no other factor:

    g of cluster i  ~  prod_j sum_h w(i, g, j, h)        h of row j given g  ~  w(i, g, j, h)        w = prod_k p_k

A run differs from a Gibbs run only in how its draws are made.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.joint.glmm.blocks import tree_name
from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.definition import pymc_model
from bayesimp.joint.glmm.gibbs import FactorTask, JointHistory
from bayesimp.joint.glmm.prior import FactorPriors, layout_of
from bayesimp.joint.glmm.run import GLMMRun
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.joint.strided_run import MOST_CELLS
from bayesimp.kernels.glmm.gibbs import TALLIES
from bayesimp.messages import NOTHING_KEPT
from bayesimp.sampling.chains import Report, chain_rng

if TYPE_CHECKING:
    from bayesimp.joint.glmm.factors import Factor
    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.models.joint_glmm import JointModel
    from bayesimp.models.levels import ExpandedRows

__all__ = ["GLMMNutsRun", "draw_places", "sample_joint_glmm_nuts"]

Array = NDArray[np.float64]
CONTINUED = 3  # first number of the spawn key of a continued run
TARGET_ACCEPT = 0.9  # few clusters make funnels, in which larger steps diverge
WARM_UP = 500


def sample_joint_glmm_nuts(
    model: JointGLMM,
    *,
    chains: int = 4,
    tune: int = 1000,
    draws: int = 1000,
    seed: int,
    earlier: list[ChainState] | None = None,
    done: int = 0,
    spacing: int = 1,
    effects: bool = False,
    report: Report | None = None,
    workers: int | None = None,
) -> tuple[JointHistory, list[ChainState], dict[str, Array], list[Event]]:
    """Draws on the working scale, the final state of each chain, NUTS's statistics (chains, draws), and events.

    Parameters
    ----------
    earlier, done
        Final states of the chains of an earlier part of the run, and their number of draws; NUTS warms up again.
    spacing, effects
        Cells are kept for one in `spacing` draws; whether cluster effects are kept.

    Raises
    ------
    SpecificationError
        See `JointGLMM.pymc_model`.
    KeyboardInterrupt
        Interrupted before there was a draw to keep.
    """
    from bayesimp.sampling.nuts import sample_nuts

    joint = pymc_model(model)
    if done:
        seed_of_piece = int(np.random.SeedSequence(seed, spawn_key=(CONTINUED, done)).generate_state(1)[0])
    else:
        seed_of_piece = seed
    result = sample_nuts(
        joint.model, chains=chains, tune=tune, draws=draws, seed=seed_of_piece % 2**31, target_accept=TARGET_ACCEPT,
        report=report, cores=workers, all_chains=earlier is not None,
    )  # fmt: skip
    kept, count = result.stats["diverging"].shape
    task = _Task(model.table, model.priors, model.separate, model.data.cluster, 1, spacing, effects)
    ends = earlier or [_empty(model.table, seed, c) for c in range(kept)]
    history = task.room(ends, count)
    weigh = _weights(joint)
    for c in range(kept):
        for d in range(count):
            drawn = {name: x[c, d] for name, x in result.draws.items()}
            ends[c] = _state(model, joint, drawn, ends[c], weigh)
            task.finish(ends[c], history, c, d)
    events = [
        Event(**e) for e in result.events if e["kind"] != "interrupted"
    ]  # the run records interruptions itself
    return history, ends, result.stats, events


@dataclass(frozen=True)
class _Task(FactorTask):
    """Keeps from a draw what is kept from a sweep of the Gibbs sampler."""

    @cached_property
    def priors(self) -> FactorPriors:
        """The layout of effects only, because no prior needs a conjugate update here."""
        return layout_of(self.table, self.separate)

    def finish(self, chain: ChainState, into: JointHistory, place: int, draw: int) -> None:
        """Keep a draw, including the missing cells of leaves."""
        self._keep(Sampler(self.table, self.priors, chain, f"Chain {place}"), into, place, draw)


def _empty(table: FactorTable, seed: int, chain: int) -> ChainState:
    """A chain without parameters, for its generator."""
    K = len(table.factors)
    return ChainState(
        table.V, table.Y, [], [], np.ones(K), [], [], chain_rng(seed, chain),
        np.zeros((K, len(TALLIES), 2), dtype=np.int64), np.ones(K), np.zeros((K, 2), dtype=np.int64),
    )  # fmt: skip


def _weights(joint: JointModel) -> Callable[[dict[str, Array]], Array] | None:
    """The function from a draw to the log weights of the places that are summed over."""
    if joint.weights is None:
        return None
    import pytensor
    from pytensor.graph.replace import graph_replace

    free = joint.model.free_RVs
    inputs = [v.type(name=v.name) for v in free]
    (weights,) = graph_replace([joint.weights], dict(zip(free, inputs, strict=True)), strict=False)
    # run node by node: a few milliseconds per draw cost less than a minute of compilation
    call = pytensor.function(inputs, weights, mode="FAST_COMPILE", on_unused_input="ignore")
    return lambda drawn: call(*(drawn[v.name] for v in free))


def _state(
    model: JointGLMM, joint: JointModel, drawn: dict[str, Array], before: ChainState, weigh: Callable | None
) -> ChainState:
    """A draw as a state of the Gibbs sampler, with missing levels drawn."""
    table, rng = model.table, before.rng
    V, Y = table.V.copy(), table.Y.copy()
    for k, rows in joint.cells.items():
        _fill(table, k, rows, drawn[f"imputed_{tree_name(table.factors[k])}"], V, Y)
    if weigh is not None:
        places = joint.places
        chosen = draw_places(rng, weigh(drawn), places)
        rows = places.row[chosen]
        for own, values in ((V, places.V[chosen]), (Y, places.Y[chosen])):
            own[rows] = np.where(np.isnan(own[rows]), values, own[rows])
    beta, aux, sd = [], [], np.ones(len(table.factors))
    for k, factor in enumerate(table.factors):
        name = tree_name(factor)
        own = drawn[f"beta_{name}"]
        beta.append(np.ascontiguousarray(table.scales[k].working_beta(own.reshape(len(own), -1))))
        if f"sigma2_{name}" in drawn:
            sd[k] = np.sqrt(drawn[f"sigma2_{name}"]) / table.scales[k].s[0]
        aux.append(_auxiliary(factor, name, drawn))
    Psi, B = [], []
    for block in model.blocks:
        there = block.size > 0
        Psi.append(drawn[f"working_Psi{block.end}"] if there else np.zeros((0, 0)))
        B.append(drawn[f"working_B{block.end}"] if there else np.zeros((table.number(block.level), 0)))
    return ChainState(V, Y, beta, aux, sd, Psi, B, rng, before.tallies, before.step, before.moved)


def _auxiliary(factor: Factor, name: str, drawn: dict[str, Array]) -> Array:
    """Auxiliary parameters of a factor as kernels have them, from the free variables that represent them."""
    parts = [np.zeros(0)]
    for auxiliary in factor.family.auxiliaries:
        if (sampled := f"{auxiliary.sampled}_{name}") in drawn:
            made = auxiliary.to_kernel or auxiliary.from_sampled
            parts.append(np.atleast_1d(made(drawn[sampled])))
    return np.concatenate(parts)


def _fill(table: FactorTable, k: int, rows: NDArray[np.int64], values: Array, V: Array, Y: Array) -> None:
    """Fill in missing numbers of factor k; a cluster-level variable gets its value in all rows."""
    a = table.arrays
    if table.factors[k].at_cluster:
        of_cluster = np.full(table.clusters, np.nan)
        of_cluster[a.cluster[rows]] = values
        rows = table.missing[k]
        values = of_cluster[a.cluster[rows]]
    V[rows, a.variable[k]] = values
    Y[rows, k] = (values - a.center[k]) / a.unit[k]


def draw_places(rng: np.random.Generator, weights: Array, places: ExpandedRows) -> NDArray[np.int64]:
    """A place for every row that is summed over, with its probability.

    Parameters
    ----------
    weights
        Logarithms, of the places that are summed over.
    """
    index = places.sums - places.single
    w = np.where(index < 0, -np.inf, weights[np.maximum(index, 0)])
    is_chosen = np.ones(len(w), dtype=bool)
    if len(places.groups):
        by_group = np.zeros(len(places.cluster))
        np.add.at(by_group, places.sum_group, logsumexp(w, axis=1))
        of_cluster = np.where(places.groups < 0, -np.inf, by_group[np.maximum(places.groups, 0)])
        g = _one_of_each(rng, of_cluster)
        left = np.setdiff1d(places.groups, places.groups[np.arange(len(g)), g])
        is_chosen = ~np.isin(places.sum_group, left)
    w = w[is_chosen]
    return places.sums[is_chosen][np.arange(len(w)), _one_of_each(rng, w)]


def _one_of_each(rng: np.random.Generator, log_weights: Array) -> NDArray[np.int64]:
    """A column of every row, with probability proportional to exp(log_weights)."""
    return np.argmax(log_weights + rng.gumbel(size=log_weights.shape), axis=1)


@dataclass
class GLMMNutsRun(GLMMRun):
    """A run sampled by NUTS."""

    def start(self, chains: int, tune: int, draws: int, report: Callable | None) -> None:
        """Run `tune` warm-up draws, then `draws` kept draws per chain."""
        ignored = {
            "thin": (self.thin > 1, f"NUTS keeps every draw, so thin = {self.thin} was not used"),
            "tune": (tune == 0, f"NUTS needs a warm-up: {WARM_UP} draws were used"),
            "executor": (self.executor is not None,
                         f"NUTS runs its chains itself, so executor = {self.executor!r} was not used"),
        }  # fmt: skip
        self.events += tuple(
            Event("not used", where, text) for where, (is_so, text) in ignored.items() if is_so
        )
        self.thin = 1
        if chains * draws * self.task.counted > MOST_CELLS:
            self.stride = self.spacing
        self._sample(chains, tune, draws, report)

    def _advance(self, tune: int, draws: int, report: Callable | None) -> None:
        self._sample(len(self.chains), tune, draws, report)

    def _sample(self, chains: int, tune: int, draws: int, report: Callable | None) -> None:
        """Further draws; an interrupted run keeps those that it has.

        Raises
        ------
        SamplingError
            There are no draws at all.
        """
        began, tune, whole = time.perf_counter(), tune or WARM_UP, 0
        done = 0 if self.kept is None else self.kept.draws
        try:
            new, ends, stats, events = sample_joint_glmm_nuts(
                self.model, chains=chains, tune=tune, draws=draws, seed=self.seed,
                earlier=copy.deepcopy(self.chains) or None, done=done, spacing=self.stride, effects=self.effects,
                report=report, workers=self.workers,
            )  # fmt: skip
            whole = new.draws // self.stride * self.stride
        except KeyboardInterrupt:
            pass  # and nothing is new
        self.seconds += time.perf_counter() - began
        if whole:
            if done:
                text = f"NUTS was continued with a new warm-up of {tune} draws"
                events.append(Event("warmed up again", "sampler", text))
            self._keep(new.truncated(whole, self.stride), {name: x[:, :whole] for name, x in stats.items()})
            self.chains, self.events = ends, self.events + tuple(events)
        if self.kept is None:
            raise SamplingError(NOTHING_KEPT)
        if whole < draws or len(self.chains) < chains:
            which = "" if len(self.chains) == chains else f" of {len(self.chains)} of {chains} chains"
            text = f"stopped by the user: {whole} of {draws} draws per chain kept{which}"
            self.events += (Event("interrupted", "sampler", text),)
            if self.stride == 1:
                self.spacing = min(self.spacing, max(self.history.draws, 1))

    def _keep(self, new: JointHistory, stats: dict[str, Array]) -> None:
        """Put new draws, and what NUTS says of them, behind those there are."""
        before = self.sample_stats
        self.sample_stats = (
            stats if before is None else {k: np.concatenate([before[k], stats[k]], axis=1) for k in before}
        )
        self.kept = new if self.kept is None else self.kept + new

    def _chain_events(self) -> list[Event]:
        return []

    def _attrs(self, m: int) -> dict[str, Any]:
        return super()._attrs(m) | {"sampler": "nuts"}

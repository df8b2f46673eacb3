"""The loop of fully conditional specification: each imputation is a chain from its own start.

One cycle visits the blocks in order. A block draws its parameters given the observed values of its own responses and
the completed values of everything else, then its missing values (Kunkel & Kaizar 2017, eq. 4):

    theta_k, B_k ~ g~_k( . | Y_k_obs, Y_-k, X)           `Block.step`
    Y_k_mis      ~ g_k( . | Y_k_obs, Y_-k, theta_k, B_k)

Columns derived from imputed values are updated before the next block; cross products and cluster means are recomputed at
every visit (kernels/chained/moments.py). The draw of theta_k is a Markov transition that leaves its
conditional posterior invariant and starts where the last cycle ended (`Gibbs`, `PyMC`), or an independent draw (`ML`,
`Norm`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError
from bayesimp.fcs.after_visit import POST, call_post, derive
from bayesimp.fcs.blocks.base import KEPT, LASTING, Block, Chain, Parameters
from bayesimp.fcs.blocks.rows import indistinct
from bayesimp.fcs.history import History, empty_history
from bayesimp.fcs.runaway import ran_away
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.fill import imputed_moments
from bayesimp.kernels.chained.places import Places, places
from bayesimp.kernels.chained.visit import STATE, VISIT, BlockState, gibbs_cycles
from bayesimp.sampling.chains import Report, chain_rng
from bayesimp.sampling.executors import Executor, Task

__all__ = [
    "POST",
    "Cycles",
    "History",
    "adapt_all",
    "run_cycles",
    "start_chain",
]

ADAPT = 10  # cycles before a second tuning, which is free of the random starting values
SECONDS = 0.2  # imputations take turns of about this length, so that an interrupt stops all of them at the same cycle
# incomplete rows below which light steps called from Python are faster on one thread than on two
ROWS_FOR_THREADS = 5_000


def adapt_all(table: ChainedTable, blocks: list[Block], seed: int) -> None:
    """Tune blocks that need it, on starting values and again after some cycles, on a chain that is discarded."""
    tuned = [block for block in blocks if block.adapts]
    if not tuned:
        return
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(2, 0))))
    chain = start_chain(table, [], rng)
    for block in tuned:
        block.adapt(chain)
    chain.theta = _parameters(table, blocks, chain)
    _advance(table, blocks, None, chain, {}, empty_history(table, [chain], ADAPT), 0, 0, ADAPT)
    for block in tuned:
        block.adapt(chain)


def start_chain(table: ChainedTable, blocks: list[Block], rng: np.random.Generator) -> Chain:
    """A chain with missing values drawn at random from observed ones, those of the cluster if it has any."""
    V = table.start.copy()
    incomplete = range(table.p, len(table.names) - len(table.derived))
    for k in incomplete:
        holes = table.holes(k)
        if holes.any():
            V[holes, k - table.p] = _donors(rng, table, k, holes)
    table.derive(V)
    chain = Chain(rng, V, [])
    chain.theta = _parameters(table, blocks, chain) if blocks else []
    return chain


def _parameters(table: ChainedTable, blocks: list[Block], chain: Chain) -> list[Parameters]:
    """Parameters by visit; a block that is visited twice in a cycle has one state."""
    made: dict[str, Parameters] = {}
    for chained, block in zip(table.blocks, blocks, strict=True):
        if chained.block.name not in made:
            made[chained.block.name] = block.init(chain)
    return [made[chained.block.name] for chained in table.blocks]


def _donors(
    rng: np.random.Generator, table: ChainedTable, k: int, holes: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """A random observed value for each missing cell, from its cluster if possible."""
    row_cluster = table.cells.cluster[table.row_cell]
    seen = ~holes
    y = np.concatenate([table.D[:, k], table.start[seen, k - table.p]])
    codes = np.concatenate([table.D_cluster, row_cluster[seen]])
    order = np.lexsort([y, codes])
    y, codes = y[order], codes[order]
    first, last = (np.searchsorted(codes, row_cluster[holes], side=side) for side in ("left", "right"))
    none = first == last
    first, last = np.where(none, 0, first), np.where(none, len(y), last)
    return y[first + (rng.random(len(first)) * (last - first)).astype(np.int64)]


class Model(Protocol):
    """The part of `FCS` that the loop uses."""

    @property
    def table(self) -> ChainedTable:
        """The table in the form that the loop uses."""

    @property
    def post_by_column(self) -> Mapping[int, Callable]:
        """Column of the table -> function that post-processes its imputed values."""

    def conditionals(self, seed: int) -> list[Block]:
        """The blocks in the order of their visits, created for one run."""


class CycleTask(Task, Protocol):
    """A task whose iterations are cycles of chained equations."""

    @property
    def light(self) -> bool:
        """Whether steps are too short for threads to help."""


@dataclass(frozen=True)
class Cycles:
    """Cycles of chained equations as a task of `bayesimp.sampling.executors`, which can be pickled.

    Compiled and tuned parts are not pickled but rebuilt after unpickling.
    """

    model: Model
    seed: int

    def __getstate__(self) -> dict[str, object]:
        return {"model": self.model, "seed": self.seed}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)

    @cached_property
    def parts(self) -> tuple[ChainedTable, list[Block], Mapping[int, Callable]]:
        """The table, the blocks, and column -> the user's function."""
        return self.model.table, self.model.conditionals(self.seed), self.model.post_by_column

    @cached_property
    def visits(self) -> Places | None:
        """See `_visits`."""
        return _visits(*self.parts)

    @property
    def light(self) -> bool:
        """Whether steps are short and called from Python, so that threads do not help."""
        table, conditionals, _ = self.parts
        heavy = len(table.row) >= ROWS_FOR_THREADS or any(block.heavy for block in conditionals)
        return not heavy and self.visits is None

    def start(self, k: int) -> Chain:
        """Chain k, before its first cycle."""
        table, conditionals, _ = self.parts
        return start_chain(table, conditionals, chain_rng(self.seed, k))

    def room(self, chains: Sequence[Chain], iterations: int) -> History:
        """Arrays for the cycles of these chains."""
        return empty_history(self.parts[0], chains, iterations)

    def advance(self, chain: Chain, number: int, into: History, place: int, start: int, stop: int) -> None:
        """Run cycles start .. stop-1 of a chain, in place."""
        table, conditionals, post = self.parts
        try:
            _advance(table, conditionals, self.visits, chain, post, into, number, start, stop, place)
        except SamplingError as error:
            circle = ran_away(table, chain.V)
            if not circle:
                raise
            raise SamplingError(f"{error} {circle}") from error

    def put(self, into: History, place: int, start: int, piece: History) -> None:
        """Copy the cycles of one chain into the history of all."""
        into.put(place, start, piece)


def run_cycles(
    task: CycleTask, chains: list[Any], cycles: int, executor: Executor, report: Report | None = None
) -> History:
    """Advance all chains by `cycles` in parallel; returns the kept cycles, fewer if the run was interrupted."""
    history = task.room(chains, cycles)
    done, ahead, stop = 0, 1, threading.Event()

    def shown(_: str, k: int, total: int) -> None:
        if report is not None:
            report("imputing", done * len(chains) + k, cycles * len(chains))

    with executor.session(task, task.light) as session:
        while done < cycles:
            n = min(ahead, cycles - done)
            began = time.perf_counter()
            finished = session.run(chains, history, done, n, report=shown, stop=stop)
            if stop.is_set() or min(finished) < n:
                # turns are short: let all chains stop at the same cycle, as if the run had been that long
                level = max(finished) if done else min(finished)
                session.catch_up(chains, history, done, finished, level)
                return history.truncated(done + level)
            done += n
            ahead = max(1, int(n * SECONDS / max(time.perf_counter() - began, 1e-6)))
    return history


def _advance(
    table: ChainedTable,
    blocks: list[Block],
    visits: Places | None,
    chain: Chain,
    post: Mapping[int, Callable],
    history: History,
    c: int,
    start: int,
    stop: int,
    place: int = 0,
) -> None:
    """Run cycles start..stop-1 of chain c and store them at its place in the history; visits: see `_visits`."""
    if visits is not None:
        _advance_compiled(table, blocks, visits, chain, history, c, start, stop, place)
        return
    for t in range(start, stop):
        for b, (block, theta) in enumerate(zip(blocks, chain.theta, strict=True)):
            code = int(block.step(chain, theta))
            if not block.visited(chain, code):
                _fail(table, chain, block, b, c, code)
            if code:
                chain.note(b, code, block.words)
            columns = table.blocks[b].columns
            for k in columns:
                if k in post:
                    call_post(table, chain, k, post[k], b, block)
            if table.derived:
                derive(table, chain, {table.names[k] for k in columns})
            for name, value in theta.kept().items():
                history.blocks[b][name][place, t] = value
        imputed_moments(table.cells, chain.V, history.mean[place, t], history.sd[place, t])
        chain.cycles += 1


def _visits(table: ChainedTable, blocks: list[Block], post: Mapping[int, Callable]) -> Places | None:
    """Arguments for whole cycles in one kernel call; None if anything happens in Python between blocks."""
    visits = [block.visit for block in blocks]
    whole = [visit for visit in visits if visit is not None]
    return None if post or table.derived or len(whole) < len(visits) else places(whole, VISIT)


def _advance_compiled(
    table: ChainedTable,
    blocks: list[Block],
    visits: Places,
    chain: Chain,
    history: History,
    c: int,
    start: int,
    stop: int,
    place: int,
) -> None:
    """As `_advance`, in one kernel call: every block is a Gibbs step and nothing is computed between blocks."""
    kept = [[block[name][place, start:stop] for name in KEPT] for block in history.blocks]
    states = places(
        [
            BlockState(theta.Sigma, theta.Psi, theta.beta, theta.B, theta.own["held"], beta, Sigma[:, 0], Psi)
            for theta, (beta, Sigma, Psi) in zip(chain.theta, kept, strict=True)
        ],
        STATE,
    )
    mean, sd = history.mean[place, start:stop], history.sd[place, start:stop]
    t, b, code = gibbs_cycles(chain.rng, table.cells, visits.table, states.table, chain.V, mean, sd)
    if code:
        chain.cycles += t
        _fail(table, chain, blocks[b], b, c, -code)
    chain.cycles += stop - start


def _fail(table: ChainedTable, chain: Chain, block: Block, b: int, c: int, code: int) -> None:
    """End the run with the message for a negative code."""
    _, message = block.words.get(code, ("failed", f"code {code}"))
    name = table.blocks[b].block.name
    lasting = chain.failing.get(name, 0)
    again = f" in the last {lasting} cycles" if lasting >= LASTING else ""
    raise SamplingError(
        f"Imputation {c}, cycle {chain.cycles + 1}, '{name}': {message}{again}. "
        f"{indistinct(table, chain.V, b)}{block.advice}"
    )

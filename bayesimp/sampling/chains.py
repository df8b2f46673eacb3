"""Running chains in parallel: threads, progress, interruption. Results do not depend on the number of workers.

There is a single seed. Chain c draws from SeedSequence(seed, spawn_key=(0, c)), imputation k from (1, k), that of new
rows from (6, k), that of site s from (7, s, k), and row j of a table in partitions from place j of the stream (8, k).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count

import numpy as np
from numpy.typing import NDArray

__all__ = ["chain_rng", "imputation_rng", "new_rows_rng", "row_uniforms", "run_chains", "site_rng"]

Report = Callable[[str, int, int], None]

CHUNK_SECONDS = 0.1  # between two checks of a chain for an interrupt, and between two progress reports
# how far apart chains may be, in seconds of work of all of them, when an interrupt stops them
LEVEL_SECONDS = 0.2


def chain_rng(seed: int, chain: int) -> np.random.Generator:
    """The generator of a chain."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0, chain))))


def imputation_rng(seed: int, imputation: int) -> np.random.Generator:
    """The generator of an imputation from the draws of a joint model."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(1, imputation))))


def new_rows_rng(seed: int, imputation: int) -> np.random.Generator:
    """The generator of one imputation of new rows."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(6, imputation))))


def site_rng(seed: int, site: int, imputation: int) -> np.random.Generator:
    """The generator of an imputation of the rows of one site, whose others are completed elsewhere."""
    key = (7, site, imputation)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def row_uniforms(seed: int, imputation: int, first: int, rows: int, each: int) -> NDArray[np.float64]:
    """(rows, each) uniform numbers of rows first, first + 1, .. of a table in one of its imputations.

    Philox counts: those of a row depend on its number, not on the rows that are read with it. None is 0 or 1.
    """
    blocks = -(-each // 4)  # a count of Philox gives four numbers
    key = np.random.SeedSequence(seed, spawn_key=(8, imputation)).generate_state(2, np.uint64)
    raw = np.random.Philox(key=key, counter=first * blocks).random_raw(rows * 4 * blocks)
    bits = (raw >> np.uint64(12)).reshape(rows, -1)[:, :each].astype(np.float64)
    return (bits + 0.5) * 2.0**-52


def run_chains(
    advance: Callable[[int, int, int], None],
    chains: int,
    iterations: int,
    *,
    multiple: int = 1,
    workers: int | None = None,
    report: Report | None = None,
    stage: str = "sampling",
    stop: threading.Event | None = None,
) -> list[int]:
    """Advance every chain by `iterations`, in chunks.

    Parameters
    ----------
    advance
        ``advance(chain, start, stop)`` runs iterations start..stop-1 of one chain (releasing the GIL).
    multiple
        Chunks are multiples of this many iterations (the thinning interval).
    report
        Called as ``report(stage, done, total)``, with iterations summed over all chains.
    stop
        Ends the run when it is set, and is set when the run is interrupted.

    Returns
    -------
    Iterations done by each chain: all of them, or fewer if the run was interrupted by Ctrl-C, which is then not
    raised again: the caller keeps the iterations done and records the interrupt.
    """
    stop = threading.Event() if stop is None else stop
    workers = workers or min(chains, os.cpu_count() or 1)
    turns = _Turns(
        advance, chains, iterations, multiple, min(CHUNK_SECONDS, LEVEL_SECONDS * workers / chains), stop
    )

    def show() -> None:
        if report is not None:
            report(stage, sum(turns.done), chains * iterations)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures: list[Future] = []
        try:
            with turns.lock:  # none begins before all are there
                for chain in range(chains):  # one by one: an interruption may come here too
                    if chain < workers:
                        futures.append(pool.submit(turns.work))
                    if iterations:
                        turns.line_up(chain, multiple)
            _watch(futures, show)
        except KeyboardInterrupt:
            stop.set()
        except BaseException:
            stop.set()
            raise
        for f in futures:
            with suppress(KeyboardInterrupt):
                f.result()
    return turns.done


def _watch(futures: list[Future], report: Callable[[], None]) -> None:
    """Report progress from time to time until all workers have ended; a chain that fails ends the run at once."""
    running = set(futures)
    while running:
        report()
        finished, running = wait(futures, timeout=CHUNK_SECONDS, return_when=FIRST_EXCEPTION)
        for f in finished:
            f.result()
    report()


class _Turns:
    """The choice of the chain that a worker advances next: the one furthest behind, which keeps chains about level.

    done: iterations of each chain. waiting: a heap of the chains that no worker is advancing, as (iterations done, place
    in line, chain, iterations of its next chunk, of about `seconds`). A worker that finds none may go: each of the others
    has a chain, and there are no more.
    """

    def __init__(
        self,
        advance: Callable[[int, int, int], None],
        chains: int,
        iterations: int,
        multiple: int,
        seconds: float,
        stop: threading.Event,
    ) -> None:
        self.advance, self.iterations, self.multiple = advance, iterations, multiple
        self.seconds, self.stop = seconds, stop
        self.done = [0] * chains
        self.waiting: list[tuple[int, int, int, int]] = []
        self.places = count()
        self.lock = threading.Lock()

    def line_up(self, chain: int, step: int) -> None:
        """Let a chain wait for its next chunk."""
        heappush(self.waiting, (self.done[chain], next(self.places), chain, step))

    def work(self) -> None:
        """Advance chunk by chunk until no chain is waiting or the run is stopped."""
        while not self.stop.is_set():
            with self.lock:
                if not self.waiting:
                    return
                _, _, chain, step = heappop(self.waiting)
            start = self.done[chain]
            end = min(start + step, self.iterations)
            began = time.perf_counter()
            try:
                self.advance(chain, start, end)
            except BaseException:  # stop the other workers
                self.stop.set()
                raise
            self.done[chain] = end
            rate = (end - start) / max(time.perf_counter() - began, 1e-6)
            if end < self.iterations:
                with self.lock:
                    self.line_up(chain, max(int(rate * self.seconds) // self.multiple, 1) * self.multiple)

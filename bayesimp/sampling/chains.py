"""Run chains side by side: threads, progress, interruption. Results do not depend on the number of workers.

One seed enters. Chain c draws from SeedSequence(seed, spawn_key=(0, c)), imputation k from (1, k), that of new rows from
(6, k).
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

__all__ = ["chain_rng", "imputation_rng", "new_rows_rng", "run_chains"]

Report = Callable[[str, int, int], None]

CHUNK_SECONDS = 0.1  # between two looks of a chain at the interrupt, and between two reports of progress
LEVEL_SECONDS = 0.2  # by how much chains may be apart, in work of all of them, when an interrupt stops them


def chain_rng(seed: int, chain: int) -> np.random.Generator:
    """The generator of a chain."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0, chain))))


def imputation_rng(seed: int, imputation: int) -> np.random.Generator:
    """The generator of an imputation from the draws of a joint model."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(1, imputation))))


def new_rows_rng(seed: int, imputation: int) -> np.random.Generator:
    """The generator of an imputation of new rows."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(6, imputation))))


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
        Called as ``report(stage, done, total)`` with iterations over all chains.
    stop
        Ends the run when it is set, and is set when the run is interrupted.

    Returns
    -------
    Iterations done by each chain: all of them, or fewer if the run was interrupted (Ctrl-C, which is then not
    raised again: the caller keeps what there is and records it).
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
    """Report now and again until all workers have ended; a chain that failed ends the run at once."""
    running = set(futures)
    while running:
        report()
        finished, running = wait(futures, timeout=CHUNK_SECONDS, return_when=FIRST_EXCEPTION)
        for f in finished:
            f.result()
    report()


class _Turns:
    """Which chain a worker advances next: the one that is furthest behind, so that all stay about level.

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
        """Advance chunk after chunk, until no chain waits or the run is stopped."""
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
            except BaseException:  # the others need not go on
                self.stop.set()
                raise
            self.done[chain] = end
            rate = (end - start) / max(time.perf_counter() - began, 1e-6)
            if end < self.iterations:
                with self.lock:
                    self.line_up(chain, max(int(rate * self.seconds) // self.multiple, 1) * self.multiple)

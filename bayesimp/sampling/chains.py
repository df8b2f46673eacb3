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

import numpy as np

__all__ = ["chain_rng", "imputation_rng", "new_rows_rng", "run_chains"]

Report = Callable[[str, int, int], None]

CHUNK_SECONDS = 0.1  # how often a chain looks up: progress is shown, an interruption is noticed
LEVEL_SECONDS = (
    0.2  # by how much chains may be apart, in work of all of them, so that an interruption finds them level
)


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
    done = [0] * chains
    stop = threading.Event() if stop is None else stop
    workers = workers or min(chains, os.cpu_count() or 1)
    seconds = min(CHUNK_SECONDS, LEVEL_SECONDS * workers / chains)
    waiting: dict[int, int] = {}  # chains that no worker is advancing -> iterations of their next chunk
    lock = threading.Lock()

    def work(_: int) -> None:
        """Chunk after chunk of the chain that is furthest behind, so that all have done about as many iterations."""
        while not stop.is_set():
            with lock:
                if not waiting:
                    return
                chain = min(waiting, key=lambda c: done[c])
                step = waiting.pop(chain)
            start = done[chain]
            end = min(start + step, iterations)
            began = time.perf_counter()
            try:
                advance(chain, start, end)
            except BaseException:  # the others need not go on
                stop.set()
                raise
            done[chain] = end
            rate = (end - start) / max(time.perf_counter() - began, 1e-6)
            if end < iterations:
                with lock:
                    waiting[chain] = max(int(rate * seconds) // multiple, 1) * multiple

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures: list[Future] = []
        try:
            with lock:  # none begins before all are there
                for chain in range(chains):  # one by one: an interruption may come here too
                    futures.append(pool.submit(work, chain))
                    if iterations:
                        waiting[chain] = multiple
            running = set(futures)
            while running:
                if report is not None:
                    report(stage, sum(done), chains * iterations)
                finished, running = wait(futures, timeout=CHUNK_SECONDS, return_when=FIRST_EXCEPTION)
                for f in finished:
                    f.result()  # a chain that failed ends the run now
            if report is not None:
                report(stage, sum(done), chains * iterations)
        except KeyboardInterrupt:
            stop.set()
        except BaseException:
            stop.set()
            raise
        for f in futures:
            with suppress(KeyboardInterrupt):
                f.result()
    return done

"""Run chains side by side: threads, progress, interruption. Results do not depend on the number of workers.

One seed enters. Chain c draws from SeedSequence(seed, spawn_key=(0, c)), imputation k from (1, k).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

import numpy as np

__all__ = ["chain_rng", "imputation_rng", "new_seed", "run_chains"]

Report = Callable[[str, int, int], None]

CHUNK_SECONDS = 0.1  # how often a chain looks up: progress is shown, an interruption is noticed


def new_seed() -> int:
    """A seed from the operating system, kept in the result so that the run can be repeated."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)


def chain_rng(seed: int, chain: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0, chain))))


def imputation_rng(seed: int, imputation: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(1, imputation))))


def run_chains(
    advance: Callable[[int, int, int], None],
    chains: int,
    iterations: int,
    *,
    multiple: int = 1,
    workers: int | None = None,
    report: Report | None = None,
    stage: str = "sampling",
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

    Returns
    -------
    Iterations done by each chain: all of them, or fewer if the run was interrupted (Ctrl-C, which is then not
    raised again: the caller keeps what there is and records it).
    """
    done = [0] * chains
    stop = threading.Event()

    def work(chain: int) -> None:
        step = multiple
        while done[chain] < iterations and not stop.is_set():
            start = done[chain]
            end = min(start + step, iterations)
            began = time.perf_counter()
            advance(chain, start, end)
            done[chain] = end
            seconds = max(time.perf_counter() - began, 1e-6)
            rate = (end - start) / seconds
            step = max(int(rate * CHUNK_SECONDS) // multiple, 1) * multiple

    workers = workers or min(chains, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures: list[Future] = []
        try:
            for chain in range(chains):  # one by one: an interruption may come here too
                futures.append(pool.submit(work, chain))
            running = set(futures)
            while running:
                if report is not None:
                    report(stage, sum(done), chains * iterations)
                finished, running = wait(futures, timeout=CHUNK_SECONDS, return_when=FIRST_EXCEPTION)
                for f in finished:
                    f.result()  # a chain that failed ends the run now
        except KeyboardInterrupt:
            stop.set()
        except BaseException:
            stop.set()
            raise
        for f in futures:
            f.result()
    if report is not None:
        report(stage, sum(done), chains * iterations)
    return done

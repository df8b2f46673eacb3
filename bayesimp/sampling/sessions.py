"""The chains of one task while they run: in threads, one after the other, or in processes.

A `Session` advances all chains by the same number of iterations, and stops all of them at the same iteration if it is
interrupted. The executors (sampling/executors.py) open sessions.
"""

from __future__ import annotations

import pickle
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from bayesimp.errors import SamplingError
from bayesimp.sampling import chains as runner
from bayesimp.sampling.chains import Report, run_chains

__all__ = ["ProcessSession", "SerialSession", "Session", "Task", "ThreadSession", "begin", "run_task"]

ROUND_SECONDS = 0.3  # seconds of work that are sent to a process at a time
_task: list[Task] = []  # the task of this process, if the process belongs to a pool


class Task(Protocol):
    """The work of the chains of a run, as a value that can be pickled."""

    def room(self, chains: Sequence[Any], iterations: int) -> Any:
        """An empty history for this many iterations of these chains."""

    def advance(self, chain: Any, number: int, into: Any, place: int, start: int, stop: int) -> None:
        """Run iterations start .. stop-1 of a chain and keep them at its place in the history.

        Parameters
        ----------
        chain
            The state of the chain; changed in place.
        number
            Number of the chain, for messages.
        into, place
            The history, and the position of this chain in it; None: nothing is kept (warm-up).
        """

    def put(self, into: Any, place: int, start: int, piece: Any) -> None:
        """Copy the history of one chain (a `room` for one) into that of all chains, from iteration `start` on."""


def run_task(task: Task, chain: Any, number: int, iterations: int, keep: bool = True) -> tuple[Any, Any]:
    """Chain and history after this many iterations: the pure form of a task, for any scheduler.

    The chain is changed in place unless it was pickled. keep: whether to return a history; otherwise None.
    """
    piece = task.room([chain], iterations) if keep else None
    task.advance(chain, number, piece, 0, 0, iterations)
    return chain, piece


@dataclass(frozen=True)
class Pace:
    """How chains are advanced: chunks are multiples of `multiple`; `stop` ends the run, and is set by Ctrl-C."""

    multiple: int
    report: Report | None
    stage: str
    stop: threading.Event

    def tell(self, done: Sequence[int], iterations: int) -> None:
        """Report progress: iterations summed over all chains."""
        if self.report is not None:
            self.report(self.stage, sum(done), len(done) * iterations)


class Session(ABC):
    """A running task: its resources (processes, the model in each) last for several calls."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def run(
        self,
        chains: list[Any],
        into: Any,
        start: int,
        iterations: int,
        *,
        multiple: int = 1,
        report: Report | None = None,
        stage: str = "sampling",
        stop: threading.Event | None = None,
    ) -> list[int]:
        """Advance every chain by `iterations`, which are kept from iteration `start` of the history on.

        Parameters
        ----------
        chains
            The states of the chains. The list is updated: a chain that ran in another process is a new object.
        multiple, report, stage, stop
            See `bayesimp.sampling.chains.run_chains`.

        Returns
        -------
        Iterations done by each chain: fewer if the run was interrupted.
        """
        pace = Pace(multiple, report, stage, threading.Event() if stop is None else stop)
        return self._run(chains, into, start, iterations, pace)

    @abstractmethod
    def _run(self, chains: list[Any], into: Any, start: int, iterations: int, pace: Pace) -> list[int]:
        """The part of `run` that subclasses define."""

    def catch_up(self, chains: list[Any], into: Any, start: int, done: Sequence[int], level: int) -> None:
        """Bring every chain to iteration `level` after an interrupt."""
        for c, k in enumerate(done):
            if k < level:
                self.task.advance(chains[c], c, into, c, start + k, start + level)


class ThreadSession(Session):
    """Chains in threads of this process, which write into shared arrays."""

    def __init__(self, task: Task, workers: int | None) -> None:
        super().__init__(task)
        self.workers = workers

    def _run(self, chains: list[Any], into: Any, start: int, iterations: int, pace: Pace) -> list[int]:
        def advance(c: int, first: int, last: int) -> None:
            self.task.advance(chains[c], c, into, c, start + first, start + last)

        return run_chains(
            advance, len(chains), iterations,
            multiple=pace.multiple, workers=self.workers, report=pace.report, stage=pace.stage, stop=pace.stop,
        )  # fmt: skip


class SerialSession(Session):
    """Chains one after the other, in turns."""

    def _run(self, chains: list[Any], into: Any, start: int, iterations: int, pace: Pace) -> list[int]:
        done, step = [0] * len(chains), pace.multiple
        try:
            while min(done, default=iterations) < iterations:
                began, first = time.perf_counter(), done[0]
                last = min(first + step, iterations)
                for c, chain in enumerate(chains):
                    pace.tell(done, iterations)
                    self._advance(chain, c, into, start + first, start + last)
                    done[c] = last
                rate = (last - first) / max(time.perf_counter() - began, 1e-6)
                step = max(int(rate * runner.CHUNK_SECONDS) // pace.multiple, 1) * pace.multiple
            pace.tell(done, iterations)
        except KeyboardInterrupt:
            pace.stop.set()
        return done

    def _advance(self, chain: Any, c: int, into: Any, first: int, last: int) -> None:
        try:
            self.task.advance(chain, c, into, c, first, last)
        except KeyboardInterrupt:  # in the middle of a chunk, so the chain has no valid state
            raise SamplingError(
                f"Chain {c} was interrupted in the middle of an iteration, so nothing can be kept. Run it again."
            ) from None


class ProcessSession(Session):
    """A pool of processes, each of which has the task; chains are sent there and back."""

    def __init__(self, task: Task, pool: ProcessPoolExecutor, workers: int) -> None:
        super().__init__(task)
        self.pool, self.workers = pool, workers

    def _run(self, chains: list[Any], into: Any, start: int, iterations: int, pace: Pace) -> list[int]:
        done = [0] * len(chains)
        waiting = {c: pace.multiple for c in range(len(chains)) if iterations}
        running: dict[Future, tuple[int, int, float]] = {}

        def collect(futures: set[Future]) -> None:
            for future in futures:
                c, step, began = running.pop(future)
                chains[c], piece = self._result(future)
                if piece is not None:
                    self.task.put(into, c, start + done[c], piece)
                done[c] += step
                if done[c] < iterations:
                    rate = step / max(time.perf_counter() - began, 1e-6)
                    waiting[c] = max(int(rate * ROUND_SECONDS) // pace.multiple, 1) * pace.multiple

        try:
            while (running or waiting) and not pace.stop.is_set():
                while waiting and len(running) < self.workers:
                    c = min(waiting, key=lambda c: done[c])
                    step = min(waiting.pop(c), iterations - done[c])
                    running[self._submit(chains[c], c, step, into is not None)] = c, step, time.perf_counter()
                pace.tell(done, iterations)
                collect(wait(running, timeout=runner.CHUNK_SECONDS, return_when=FIRST_COMPLETED)[0])
            pace.tell(done, iterations)
        except KeyboardInterrupt:
            pace.stop.set()
        with suppress(KeyboardInterrupt):
            collect(set(wait(running)[0]))
        return done

    def catch_up(self, chains: list[Any], into: Any, start: int, done: Sequence[int], level: int) -> None:
        """Advance the chains that are behind, until all have done `level` iterations."""
        behind = {c: self._submit(chains[c], c, level - k, True) for c, k in enumerate(done) if k < level}
        for c, future in behind.items():
            chains[c], piece = self._result(future)
            self.task.put(into, c, start + done[c], piece)

    def _submit(self, chain: Any, number: int, iterations: int, keep: bool) -> Future:
        return self.pool.submit(_advance, chain, number, iterations, keep)

    @staticmethod
    def _result(future: Future) -> Any:
        try:
            return future.result()
        except BrokenProcessPool:
            raise SamplingError(
                "A process that ran chains has ended. A script must start chains below `if __name__ == '__main__':`, "
                "because "
                "every process imports the script again. If it does so, memory may have run out: use fewer workers=."
            ) from None


def begin(task: bytes) -> None:
    """Prepare a process of the pool: store the task, and leave Ctrl-C to the process that started the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _task[:] = [pickle.loads(task)]


def _advance(chain: Any, number: int, iterations: int, keep: bool) -> tuple[Any, Any]:
    return run_task(_task[0], chain, number, iterations, keep)

"""Where chains run: one after the other, in threads, or in processes; the numbers are the same.

One task is one chain, (model, seed, k, n) -> (chain, history), all of them values that can be pickled: a `Task` holds the
model and the seed, `run_task` advances chain k by n iterations and returns it with what it has kept. Threads write into
the shared arrays of the history instead, which saves a copy and a pickle on the default path; processes send a chain
there and back for every chunk of work, so that progress is shown and an interruption finds all chains at the same
iteration.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol

from bayesimp.arguments import whole
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.sampling import chains as runner
from bayesimp.sampling.chains import Report, run_chains

__all__ = [
    "Executor",
    "ProcessExecutor",
    "SerialExecutor",
    "Session",
    "Task",
    "ThreadExecutor",
    "read_executor",
    "run_level",
    "run_task",
]

ROUND_SECONDS = 0.3  # of work that is sent to a process at a time


class Task(Protocol):
    """What the chains of a run do, as a value that can be pickled."""

    def room(self, chains: Sequence[Any], iterations: int) -> Any:
        """An empty history of so many iterations of these chains."""

    def advance(self, chain: Any, number: int, into: Any, place: int, start: int, stop: int) -> None:
        """Iterations start .. stop-1 of a chain, kept at its place in the history.

        Parameters
        ----------
        chain
            The state of the chain; changed in place.
        number
            Number of the chain, for messages.
        into, place
            The history, and which of its chains this is; None: nothing is kept (warm-up).
        """

    def put(self, into: Any, place: int, start: int, piece: Any) -> None:
        """Copy the history of one chain (`room` of one) into that of all, from iteration `start` on."""


def run_task(task: Task, chain: Any, number: int, iterations: int, keep: bool = True) -> tuple[Any, Any]:
    """Chain and history after so many iterations: the pure form of a task, for any scheduler.

    The chain is changed in place where nothing has pickled it. keep: whether there is a history; else None.
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
        """Report progress: iterations over all chains."""
        if self.report is not None:
            self.report(self.stage, sum(done), len(done) * iterations)


class Session(ABC):
    """A task under way: what it holds on to (processes, the model in each) lasts for several calls."""

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
        """Advance every chain by `iterations`, kept from iteration `start` of the history on.

        Parameters
        ----------
        chains
            The states of the chains. The list is updated: a chain that was in another process is a new object.
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
        """`run`, as the subclass does it."""

    def catch_up(self, chains: list[Any], into: Any, start: int, done: Sequence[int], level: int) -> None:
        """Bring every chain to iteration `level`, after an interruption."""
        for c, k in enumerate(done):
            if k < level:
                self.task.advance(chains[c], c, into, c, start + k, start + level)


class _Threads(Session):
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


class _Serial(Session):
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
        except KeyboardInterrupt:  # in the middle of a chunk: the chain has no valid state
            raise SamplingError(
                f"Chain {c} was interrupted in the middle of an iteration: nothing to keep. Run it again."
            ) from None


class _Processes(Session):
    """A pool of processes, each of which has the task; chains go there and back."""

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
                "A process that ran chains has ended. A script must start them below `if __name__ == '__main__':`, since "
                "every process reads it again; otherwise memory may have run out: take fewer workers=."
            ) from None


_task: list[Task] = []  # of this process, where it is one of a pool


def _begin(task: bytes) -> None:
    """What a process of the pool does first; Ctrl-C is for the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _task[:] = [pickle.loads(task)]


def _advance(chain: Any, number: int, iterations: int, keep: bool) -> tuple[Any, Any]:
    return run_task(_task[0], chain, number, iterations, keep)


@dataclass(frozen=True)
class Executor(ABC):
    """Where chains run.

    Attributes
    ----------
    workers
        Chains at a time; None: one a core, at most.
    """

    workers: int | None = None

    @abstractmethod
    def session(self, task: Task, light: bool = False) -> AbstractContextManager[Session]:
        """A context in which the task is run; light: whether its steps are too short for threads to gain by."""


@dataclass(frozen=True)
class ThreadExecutor(Executor):
    """Threads of this process, the default: kernels release the interpreter, and nothing is copied."""

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Run tasks in threads of this process; light ones in one thread by default."""
        yield _Threads(task, 1 if light and self.workers is None else self.workers)


@dataclass(frozen=True)
class SerialExecutor(Executor):
    """One chain after the other in the thread that asks, in chunks: for debuggers, and inside processes of others.

    Raises
    ------
    SpecificationError
        More than one worker.
    """

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers > 1:
            raise SpecificationError(
                f"workers = {self.workers}: executor='serial' runs one chain after the other. Take workers=1, or "
                "executor='threads' or 'processes'."
            )

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Run tasks one after the other."""
        yield _Serial(task)


@dataclass(frozen=True)
class ProcessExecutor(Executor):
    """Processes, where steps hold the interpreter for long: PyMC blocks, functions of the user's.

    Each process is a new interpreter ("spawn") and takes some seconds for its imports; a script must ask for them below
    ``if __name__ == "__main__":``.
    """

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Run tasks in processes of their own, to which the task is sent once."""
        workers = self.workers or os.cpu_count() or 1
        try:
            pickled = pickle.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SpecificationError(
                f"The model cannot be sent to another process ({error}): define functions (post=, PyMC models) at the "
                "top of a module instead of inside a function or as a lambda, or take executor='threads'."
            ) from None
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (pickled,))
        try:
            yield _Processes(task, pool, workers)
        finally:
            pool.shutdown(cancel_futures=True)


EXECUTORS: dict[str, type[Executor]] = {
    "threads": ThreadExecutor,
    "serial": SerialExecutor,
    "processes": ProcessExecutor,
}


def read_executor(executor: str | Executor | None, workers: int | None = None) -> Executor:
    """The executor with this name, or the executor itself; None: threads.

    Raises
    ------
    SpecificationError
        No such executor, or two numbers of workers, or a number that is none.
    """
    if workers is not None:
        workers = whole(workers, "workers")
    if isinstance(executor, Executor):
        if workers is not None and executor.workers not in (None, workers):
            raise SpecificationError(
                f"workers = {workers}, but the executor has {executor.workers}; give one number."
            )
        return executor if workers is None else type(executor)(workers)
    name = "threads" if executor is None else executor
    if not isinstance(name, str) or name not in EXECUTORS:
        raise SpecificationError(f"executor must be one of {', '.join(map(repr, EXECUTORS))}, got {name!r}.")
    return EXECUTORS[name](workers)


def run_level(session: Session, chains: list[Any], into: Any, iterations: int, **options: Any) -> int:
    """Advance all chains, so that all stop at the same iteration, as if asked for no more.

    Returns
    -------
    Iterations that every chain has done: all of them, or fewer if the run was interrupted; none if this was before every
    chain had begun.
    """
    done = session.run(chains, into, 0, iterations, **options)
    level = max(done) if min(done) else 0
    session.catch_up(chains, into, 0, done, level)
    return level

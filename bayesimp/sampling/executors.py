"""Where chains run: one after the other, in threads, in processes, or by joblib. The results are the same.

One task is one chain, (model, seed, k, n) -> (chain, history), all of which can be pickled: a `Task` holds the
model and the seed, `run_task` advances chain k by n iterations and returns it with its history. Threads write into
the shared arrays of the history instead, which saves a copy and a pickle on the default path; processes send a chain
there and back for every chunk of work, so that progress is shown and an interrupt stops all chains at the same
iteration.
"""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from bayesimp.arguments import whole
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.sampling.sessions import (
    ProcessSession,
    SerialSession,
    Session,
    Task,
    ThreadSession,
    begin,
    run_task,
)

__all__ = [
    "Executor",
    "JoblibExecutor",
    "ProcessExecutor",
    "SerialExecutor",
    "Session",
    "Task",
    "ThreadExecutor",
    "read_executor",
    "run_level",
    "run_task",
]


@dataclass(frozen=True)
class Executor(ABC):
    """Where chains run.

    Attributes
    ----------
    workers
        Number of chains that run at a time; None: at most one per core.
    """

    workers: int | None = None

    @abstractmethod
    def session(self, task: Task, light: bool = False) -> AbstractContextManager[Session]:
        """A context in which the task is run; ``light`` says whether its steps are too short for threads to help."""

    def new_events(self) -> tuple[Event, ...]:
        """What happened in its sessions since the last call and belongs into the log of a result."""
        return ()


@dataclass(frozen=True)
class ThreadExecutor(Executor):
    """Threads of this process, the default: kernels release the interpreter lock, and nothing is copied."""

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Run tasks in threads of this process; light ones in one thread by default."""
        yield ThreadSession(task, 1 if light and self.workers is None else self.workers)


@dataclass(frozen=True)
class SerialExecutor(Executor):
    """One chain after the other in the calling thread, in chunks: for debuggers, and inside processes of other
    schedulers.

    Raises
    ------
    SpecificationError
        More than one worker.
    """

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers > 1:
            raise SpecificationError(
                f"workers = {self.workers}: executor='serial' runs one chain after the other. Use workers=1, or "
                "executor='threads' or 'processes'."
            )

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Run tasks one after the other."""
        yield SerialSession(task)


@dataclass(frozen=True)
class ProcessExecutor(Executor):
    """Processes, for steps that hold the interpreter lock for long: PyMC blocks, user-defined functions.

    Each process is a new interpreter ("spawn") whose imports take some seconds; a script must start them below
    ``if __name__ == "__main__":``.
    """

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Run tasks in separate processes, to each of which the task is sent once."""
        workers = self.workers or os.cpu_count() or 1
        try:
            pickled = pickle.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SpecificationError(
                f"The model cannot be sent to another process ({error}): define functions (post=, PyMC models) at the "
                "top level of a module instead of inside a function or as a lambda, or use executor='threads'."
            ) from None
        pool = ProcessPoolExecutor(workers, get_context("spawn"), begin, (pickled,))
        try:
            yield ProcessSession(task, pool, workers)
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class JoblibExecutor(Executor):
    """The backend of joblib that is in force, such as that of a Dask or a Ray cluster.

    ``joblib.parallel_config("dask")`` or ``("ray")`` chooses it, and with `workers` None also the number of workers. A
    worker that is lost loses nothing: its chains are sent again (`bayesimp.sampling.joblib_session`), with an event.
    """

    _log: list[Event] = field(default_factory=list, init=False, repr=False, compare=False)

    @contextmanager
    def session(self, task: Task, light: bool = False) -> Iterator[Session]:
        """Send tasks to joblib's workers."""
        from bayesimp.sampling.joblib_session import JoblibSession

        session = JoblibSession(task, self.workers, self._log)
        try:
            yield session
        finally:
            session.close()

    def new_events(self) -> tuple[Event, ...]:
        """Rounds that were repeated because workers were lost."""
        events = tuple(self._log)
        self._log.clear()
        return events


EXECUTORS: dict[str, type[Executor]] = {
    "threads": ThreadExecutor,
    "serial": SerialExecutor,
    "processes": ProcessExecutor,
    "joblib": JoblibExecutor,
}


def read_executor(executor: str | Executor | None, workers: int | None = None) -> Executor:
    """The executor with this name, or the executor itself; None: threads.

    Raises
    ------
    SpecificationError
        There is no such executor, two numbers of workers are given, or one is not a whole number of at least 1.
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
    """Advance all chains and stop them at the same iteration, as if no more had been requested.

    Returns
    -------
    Iterations that every chain has done: all of them, or fewer if the run was interrupted; none if that was before every
    chain had started.
    """
    done = session.run(chains, into, 0, iterations, **options)
    level = max(done) if min(done) else 0
    session.catch_up(chains, into, 0, done, level)
    return level

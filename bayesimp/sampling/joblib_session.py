"""Chains sent through joblib, so that the backend in force runs them: processes (loky), Dask, Ray, threads.

In a round, every chain is advanced by the same number of iterations by a pure function of values that are pickled,
(task, chain) -> (chain, history). The chains of the session change only when a whole round is back. So if a worker is
killed, the round is repeated with the same random numbers; if the run is interrupted, all chains are level.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.events import Event
from bayesimp.sampling.sessions import Pace, Session, Task, run_task

__all__ = ["JoblibSession", "advance_there"]

ROUND_SECONDS = 10.0  # seconds of work of a chain in a round, after the first ones
REPEATS = 3  # how often a round is repeated because workers were lost
LOST = (
    "joblib",
    "distributed",
    "ray",
    "concurrent",
)  # packages whose errors are those of workers, not of tasks
_tasks: dict[str, Task] = {}  # the last task of this process, by the hash of its pickle


class JoblibSession(Session):
    """Chains sent to the workers of joblib's backend and back, round by round."""

    def __init__(self, task: Task, workers: int | None, log: list[Event]) -> None:
        super().__init__(task)
        self.log = log
        import cloudpickle  # which knows functions that a notebook defines

        try:
            pickled = cloudpickle.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SpecificationError(
                f"The model cannot be sent to another process ({error}). Leave out what holds open files, connections or "
                "locks, or use executor='threads'."
            ) from None
        # an array, which Dask sends once to each worker and loky maps into their memory
        self.pickled, self.workers = np.frombuffer(pickled, np.uint8), workers
        self.name = hashlib.sha256(pickled).hexdigest()
        self.open: ExitStack = ExitStack()
        self.parallel: Any = None

    def close(self) -> None:
        """Give the workers back."""
        self.parallel = None
        self.open.close()

    def _send(self, calls: list) -> list:
        """The results of all calls, from workers that stay for the next round: Ray would start new ones."""
        import joblib

        if self.parallel is None:
            self.parallel = self.open.enter_context(joblib.Parallel(n_jobs=self.workers))
        return self.parallel(calls)

    def _run(self, chains: list[Any], into: Any, start: int, iterations: int, pace: Pace) -> list[int]:
        done, step = 0, pace.multiple
        try:
            while done < iterations and not pace.stop.is_set():
                pace.tell([done] * len(chains), iterations)
                step = min(step, iterations - done)
                seconds = self._round(chains, into, start + done, step)
                done += step
                step = max(int(ROUND_SECONDS * step / max(seconds, 1e-6)) // pace.multiple, 1) * pace.multiple
            pace.tell([done] * len(chains), iterations)
        except KeyboardInterrupt:
            pace.stop.set()
        return [done] * len(chains)

    def _round(self, chains: list[Any], into: Any, start: int, iterations: int) -> float:
        """Advance all chains; returns the seconds of the slowest."""
        import joblib

        sent = [pickle.dumps(chain) for chain in chains]
        for repeat in range(REPEATS + 1):
            calls = [
                joblib.delayed(advance_there)(self.pickled, self.name, chain, c, iterations, into is not None)
                for c, chain in enumerate(sent)
            ]
            try:
                results = self._send(calls)
                break
            except Exception as error:
                if type(error).__module__.partition(".")[0] not in LOST or isinstance(error, SamplingError):
                    raise
                with suppress(Exception):  # workers that are gone cannot be given back
                    self.close()
                self.open = ExitStack()
                if repeat == REPEATS:
                    raise SamplingError(
                        f"Workers of joblib's backend were lost {REPEATS + 1} times in the same iterations "
                        f"({type(error).__name__}). Memory may have run out: use fewer workers."
                    ) from error
                text = (
                    f"workers of joblib's backend were lost ({type(error).__name__}), and iterations {start + 1} to "
                    f"{start + iterations} of {len(chains)} chains {'' if into is not None else 'of the warm-up '}were "
                    "done again, with the same random numbers: the results are those of a run in which nothing was lost"
                )
                self.log.append(Event("worker lost", "executor", text))
        for c, (chain, piece, _) in enumerate(results):
            chains[c] = chain
            if piece is not None:
                self.task.put(into, c, start, piece)
        return max(seconds for _, _, seconds in results)


def advance_there(
    task: NDArray[np.uint8], name: str, chain: bytes, number: int, iterations: int, keep: bool
) -> tuple[Any, Any, float]:
    """Chain and history after these iterations, and the seconds they took; what a worker runs.

    task, name: the pickled task and its hash; a worker unpickles a task once. number: that of the chain, for messages.
    """
    if name not in _tasks:
        made = pickle.loads(task.tobytes())
        _tasks.clear()
        _tasks[name] = made
    began = time.perf_counter()
    advanced, piece = run_task(_tasks[name], pickle.loads(chain), number, iterations, keep)
    return advanced, piece, time.perf_counter() - began

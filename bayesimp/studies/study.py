"""`Study`: scenarios x replicates x methods, with the same numbers for any workers and after stops and continuations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import joblib
import pyarrow as pa

from bayesimp.errors import SpecificationError
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Record
from bayesimp.progress import progress_bar
from bayesimp.studies import parts
from bayesimp.studies.describe import described, key_of
from bayesimp.studies.records import Estimate, Scenario, rubin
from bayesimp.studies.result import StudyResult
from bayesimp.studies.tested import method
from bayesimp.studies.units import Unit, run_replicate

__all__ = ["Study"]

EVERY = 5.0  # seconds of results that a killed run may lose and must repeat
Task = tuple[Scenario, int, dict[str, Any]]


@checks_arguments
@dataclass(frozen=True)
class Study(Record):
    """A simulation study: generate, delete, impute, analyse, pool, summarise.

    Parameters
    ----------
    scenarios
        `Scenario` records: how data are generated, what is deleted, what is analysed, and the truth.
    methods
        Names from `bayesimp.studies.tested`, with their default options; or a mapping from names to callables that take
        ``(data, seed)`` and return imputations or completed tables (`bayesimp.studies.method` makes them).
    pool
        Function from fits to a list of `Estimate`; by default `rubin`.
    seed
        The seed which, with the scenario's name, the replicate and the method's name, determines all random numbers.

    Examples
    --------
    >>> study = bi.studies.Study(scenarios, ["REF", "CCA", "bayes"])                        # doctest: +SKIP
    >>> with joblib.parallel_config(n_jobs=2):                                              # doctest: +SKIP
    ...     result = study.run(200, out="my_study")
    >>> result.summary()                                                                    # doctest: +SKIP
    """

    scenarios: Sequence[Scenario]
    methods: Sequence[str] | Mapping[str, Any]
    pool: Callable[[Any], Sequence[Estimate]] = rubin
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "scenarios", tuple(self.scenarios))
        if isinstance(self.methods, str):
            raise SpecificationError(f"methods must be a list of names, [{self.methods!r}], or a mapping.")
        given = (
            self.methods
            if isinstance(self.methods, Mapping)
            else {name: method(name) for name in self.methods}
        )
        object.__setattr__(self, "methods", dict(given))
        names = [scenario.name for scenario in self.scenarios]
        if not names or not self.methods:
            raise SpecificationError("A study needs at least one scenario and one method.")
        for kind, each in (("scenarios", names), ("methods", list(self.methods))):
            if len({key_of(name) for name in each}) < len(each):
                raise SpecificationError(
                    f"The {kind} of a study need different names (and checksums of names); got {', '.join(each)}."
                )

    def run(
        self,
        replicates: int,
        out: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        retry_failed: bool = False,
        minutes: float | None = None,
        progress: bool | None = None,
    ) -> StudyResult:
        """Run whatever is not yet done of the first `replicates` data sets of every scenario.

        Parameters
        ----------
        replicates
            Number of data sets of each scenario. A later call with more continues from the existing ones.
        out
            Folder for the results, which a later run continues; None: results stay in memory.
        workers
            Number of processes; None: as set by ``joblib.parallel_config`` (otherwise one), with its backend: "loky",
            "threading", "dask", "ray". The numbers do not depend on it.
        retry_failed
            Whether methods that failed on a data set are tried again there.
        minutes
            No new data set is started after this many minutes.
        progress
            Whether to show a progress bar with the time left; None: if the output is a terminal.

        Returns
        -------
        `StudyResult` of everything done, also after Ctrl-C; ``result.complete`` says whether that is all.

        Raises
        ------
        SpecificationError
            If the folder has results of different scenarios or methods with the same names.
        """
        if int(replicates) != replicates or replicates < 1:
            raise SpecificationError(f"replicates must be a whole number not below 1, got {replicates!r}.")
        folder = None if out is None else Path(out)
        description = self.description()
        stored = parts.SCHEMA.empty_table()
        if folder is not None:
            description = self._agreed(folder, description)
            parts.write_description(folder, description)
            stored = parts.read_parts(folder)
        tasks = self._tasks(int(replicates), parts.done(stored, retry_failed))
        new: list[Unit] = []
        with progress_bar(progress) as report:
            interrupted = self._carry_out(tasks, folder, new, workers, minutes, report)
        units = parts.each_once(pa.concat_tables([stored, parts.as_table(new)]))
        units = parts.ordered(units, [s.name for s in self.scenarios], self.methods)
        wanted = int(replicates) * len(self.scenarios) * len(self.methods)
        counted = sum(k < replicates for k in units["replicate"].to_pylist())
        return StudyResult(units, description, complete=counted == wanted and not interrupted)

    @property
    def _tested(self) -> Mapping[str, Any]:
        assert isinstance(self.methods, Mapping)  # since `__post_init__`
        return self.methods

    def description(self) -> dict[str, Any]:
        """The study as JSON, with which a continued run is compared, and what its tables need."""
        return {
            "seed": self.seed,
            "pool": described(self.pool),
            "scenarios": {s.name: described(s) for s in self.scenarios},
            "methods": {name: described(how) for name, how in self._tested.items()},
        }

    def _agreed(self, folder: Path, mine: dict[str, Any]) -> dict[str, Any]:
        """The joint description of folder and study, after comparing what they share."""
        there = parts.read_description(folder)
        if there is None:
            return mine
        differ = [name for name in ("seed", "pool") if there[name] != mine[name]]
        for kind in ("scenarios", "methods"):
            shared = [name for name in mine[kind] if name in there[kind]]
            differ += [
                f"{kind[:-1]} '{name}'" for name in shared if _json(mine[kind][name]) != there[kind][name]
            ]
        if differ:
            raise SpecificationError(
                f"{folder} has results of another study: {', '.join(differ)} differ from those requested now. Use "
                "another folder, or rename what has changed."
            )
        return {**mine, **{kind: {**there[kind], **mine[kind]} for kind in ("scenarios", "methods")}}

    def _tasks(self, replicates: int, done: set[tuple[str, int, str]]) -> list[Task]:
        """Data sets and the methods still to be run on them, the scenarios in turn."""
        tasks = []
        for replicate in range(replicates):
            for scenario in self.scenarios:
                todo = {n: m for n, m in self._tested.items() if (scenario.name, replicate, n) not in done}
                if todo:
                    tasks.append((scenario, replicate, todo))
        return tasks

    def _carry_out(
        self,
        tasks: Sequence[Task],
        folder: Path | None,
        new: list[Unit],
        workers: int | None,
        minutes: float | None,
        report: Callable[[str, int, int], None],
    ) -> bool:
        """Run tasks, adding their units to `new` and to the folder; return whether the run ended early."""
        written, last = len(new), monotonic()
        stop = monotonic() + 60 * minutes if minutes is not None else None
        try:
            for count, units in enumerate(self._results(tasks, workers, stop), 1):
                new += units
                if folder is not None and monotonic() - last > EVERY:
                    parts.write_part(folder, new[written:])
                    written, last = len(new), monotonic()
                report("data sets", count, len(tasks))
        except KeyboardInterrupt:
            return True
        finally:
            if folder is not None and len(new) > written:
                parts.write_part(folder, new[written:])
        return False

    def _results(
        self, tasks: Sequence[Task], workers: int | None, stop: float | None
    ) -> Iterator[list[Unit]]:
        """Yield results as they arrive, or in rounds if the backend cannot return them one by one."""
        calls = (
            joblib.delayed(run_replicate)(scenario, k, todo, self.pool, self.seed)
            for scenario, k, todo in _until(tasks, stop)
        )
        try:
            parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
        except ValueError:  # joblib's error for a backend that only returns everything at the end
            parallel = joblib.Parallel(n_jobs=workers)
            each = list(calls)
            size = 8 * max(parallel.n_jobs or 1, 1)
            for first in range(0, len(each), size):
                yield from parallel(each[first : first + size])
        else:
            yield from parallel(calls)


def _until(tasks: Iterable[Task], stop: float | None) -> Iterator[Task]:
    for task in tasks:
        if stop is not None and monotonic() > stop:
            return
        yield task


def _json(value: Any) -> Any:
    """The value as it would be read back from a file."""
    return json.loads(json.dumps(value))

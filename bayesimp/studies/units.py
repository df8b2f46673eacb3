"""One unit of a study: one method on one data set. Errors belong to the result, as do events and warnings.

Random numbers come from `SeedSequence(seed, spawn_key=(scenario, replicate, step))`, with checksums of the names. They
depend neither on the other scenarios and methods of the study, nor on the number of workers, nor on earlier runs.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bayesimp.studies.describe import key_of
from bayesimp.studies.records import Case, Estimate, Scenario
from bayesimp.threads import one_thread

__all__ = ["run_replicate", "seed_of"]

GENERATE, DELETE, IMPUTE = 0, 1, 2
Unit = dict[str, Any]


def seed_of(seed: int, scenario: str, replicate: int, step: int, method: str | None = None) -> int:
    """A 63-bit seed for one step of one replicate."""
    key = (key_of(scenario), replicate, step, *(() if method is None else (key_of(method),)))
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def run_replicate(
    scenario: Scenario,
    replicate: int,
    methods: Mapping[str, Any],
    pool: Callable[[Any], Sequence[Estimate]],
    seed: int,
) -> list[Unit]:
    """The units of these methods on the data set of one replicate, which is generated once."""
    with one_thread(1), _gathering() as gathered:
        try:
            case = Case.make(
                scenario,
                seed_of(seed, scenario.name, replicate, GENERATE),
                seed_of(seed, scenario.name, replicate, DELETE),
            )
        except Exception as error:
            made = {**_empty(), "error": _said("making the data", error)}
            return [{"scenario": scenario.name, "replicate": replicate, "method": n, **made} for n in methods]
        units = []
        for name, method in methods.items():
            gathered.clear()
            began, cpu = time.perf_counter(), time.thread_time()
            result = _carried_out(
                case, method, pool, seed_of(seed, scenario.name, replicate, IMPUTE, name), gathered
            )
            units.append(
                {"scenario": scenario.name, "replicate": replicate, "method": name}
                | result
                | {"seconds": time.perf_counter() - began, "cpu": time.thread_time() - cpu}
            )
        return units


def _carried_out(case: Case, method: Any, pool: Callable, seed: int, gathered: list[dict]) -> Unit:
    unit, step = _empty(), "imputing"
    try:
        tables = method.tables(case) if hasattr(method, "tables") else method(case.data, seed)
        if hasattr(tables, "events"):
            unit["events"] = [_event(e) for e in tables.events.to_dict("records")]
        step = "analysing"
        fits = case.scenario.analysis(tables)
        if hasattr(fits, "singular"):
            unit["tables"] = len(fits)
            unit["singular"] = int(fits.singular.sum())
            unit["unconverged"] = int((~fits.converged).sum())
        step = "pooling"
        unit["estimates"] = [Estimate(*e)._asdict() for e in pool(fits)]
    except Exception as error:  # a method that fails is a result
        unit["error"] = _said(step, error)
        unit["estimates"] = []
    unit["events"] += gathered
    return unit


def _empty() -> Unit:
    counts = {"seconds": 0.0, "cpu": 0.0, "tables": None, "singular": None, "unconverged": None}
    return {"error": None, **counts, "estimates": [], "events": []}


def _said(step: str, error: Exception) -> str:
    return f"{step}: {type(error).__name__}: {error}"


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": str(event["kind"]), "where": str(event["where"]), "message": str(event["message"]),
        "count": int(event["count"]),
    }  # fmt: skip


_lock = threading.Lock()
_here = threading.local()  # .warnings has those of the unit that this thread runs
_inside: list[Any] = []  # one entry for each thread inside; the first restores what all have changed


@contextmanager
def _gathering() -> Iterator[list[dict[str, Any]]]:
    """Collect the warnings of this thread as events, while other threads collect theirs."""
    with _lock:
        if not _inside:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = _show
            _inside.append(catcher)
        else:
            _inside.append(None)
    _here.warnings = []
    try:
        yield _here.warnings
    finally:
        _here.warnings = None
        with _lock:
            catcher = _inside[0]
            _inside.pop()
            if not _inside:
                catcher.__exit__(None, None, None)


def _show(message: Any, category: type, *where: Any, **more: Any) -> None:
    kept = getattr(_here, "warnings", None)
    if kept is not None:
        kept.append({"kind": "warning", "where": category.__name__, "message": str(message), "count": 1})

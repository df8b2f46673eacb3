"""CPU seconds of every test file, largest first: ``make test ARGS="-p tests.seconds"``, or pytest with this option.

Processes that a test starts are counted, and so are fixtures, where they are made. Of these seconds numba's compilation
is also given, which only a first run has: kernels are kept in ``__pycache__``, or in the folder ``NUMBA_CACHE_DIR``; and
of it what two workers compiled at the same time, because neither had saved it yet.

The rule of the deep layer (CONTRIBUTING.md, "Two layers"): the cost of a test is what it and every fixture that it uses
take, with kernels compiled; a test that costs more than ``LIMIT`` belongs to ``tests/deep.txt``. Tests of the quick
layer that break the rule are listed after the table, as lines that can be copied into that file.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest
from numba.core import event

LIMIT = 0.4  # CPU seconds


class Compilation(event.Listener):
    """Seconds of this process in the compilation of every function, less those of the functions that it calls."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.of: dict[str, float] = defaultdict(float)  # since it was last asked
        self.under_way: list[list[float]] = []  # [begin, seconds of functions inside]

    def on_start(self, event: Any) -> None:
        self.under_way.append([time.process_time(), 0.0])

    def on_end(self, event: Any) -> None:
        begin, inside = self.under_way.pop()
        seconds = time.process_time() - begin
        if self.under_way:
            self.under_way[-1][1] += seconds
        f = event.data["dispatcher"].py_func
        self.of[f"{f.__module__}.{f.__qualname__}{event.data.get('args')}"] += seconds - inside
        self.seconds += seconds - inside


COMPILATION = Compilation()
event.register("numba:compile", COMPILATION)


class Clock:
    """(CPU, of children, compilation) since it was last read."""

    def __init__(self) -> None:
        self.last = self.now()

    def now(self) -> tuple[float, float, float]:
        t = os.times()
        return t.user + t.system, t.children_user + t.children_system, COMPILATION.seconds

    def read(self) -> list[float]:
        last, self.last = self.last, self.now()
        return [b - a for a, b in zip(last, self.last, strict=True)]


def work(seconds: list[float]) -> float:
    """CPU seconds without compilation."""
    own, children, compiling = seconds
    return own + children - compiling


CLOCK = Clock()
FILES: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
KERNELS: dict[str, dict[str, float]] = defaultdict(dict)  # function and types -> worker -> seconds
FIXTURES: dict[Any, float] = {}  # a fixture of several tests -> seconds to make its present value
MADE: list[float] = []  # seconds of those made for the present test
COLLECTION: list[float] = []  # seconds of imports and collection, until they are sent
COSTS: dict[str, float] = defaultdict(float)  # test -> its cost
DEEP: set[str] = set()


def pytest_collection_finish() -> None:
    """Imports of the test files do not count as a cost of the first test."""
    COLLECTION[:] = CLOCK.read()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: Any) -> Generator[None, Any, Any]:
    """Seconds of a fixture that several tests share; fixtures that it asks for are made before this is called."""
    clock = Clock()
    value = yield
    if fixturedef.scope != "function":
        FIXTURES[fixturedef] = work(clock.read())
        MADE.append(FIXTURES[fixturedef])
    return value


def shared(item: pytest.Item) -> float:
    """Seconds of all shared fixtures that a test uses, whichever test they were made for."""
    used = item._request._fixture_defs.values()  # type: ignore[attr-defined]
    return sum(FIXTURES.get(fixture, 0.0) for fixture in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Send the seconds of a phase with its report, which may go to another process."""
    report = yield
    seconds = CLOCK.read()
    cost = work(seconds)
    if report.when == "setup":
        cost += shared(item) - sum(MADE)
        MADE.clear()
    report.user_properties = [
        *report.user_properties, ("seconds", seconds), ("compiled", (os.getpid(), dict(COMPILATION.of))),
        ("cost", cost if report.when != "teardown" else 0.0), ("deep", "deep" in item.keywords),
        ("collection", COLLECTION.copy()),
    ]  # fmt: skip
    COMPILATION.of.clear()
    COLLECTION.clear()
    return report


def pytest_runtest_logreport(report: Any) -> None:
    """Add them up by file."""
    of_file, told = FILES[report.nodeid.partition("::")[0]], dict(report.user_properties)
    for k, value in enumerate([*told["seconds"], float(report.when == "call")]):
        of_file[k] += value
    for k, value in enumerate(told["collection"]):
        FILES["imports and collection, by each worker"][k] += value
    COSTS[report.nodeid] += told["cost"]
    if told["deep"]:
        DEEP.add(report.nodeid)
    worker, compiled = told["compiled"]
    for kernel, seconds in compiled.items():
        KERNELS[kernel][worker] = KERNELS[kernel].get(worker, 0.0) + seconds


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The tables."""
    terminalreporter.section("CPU seconds: all, of them in children, in compilation; tests")
    total = [sum(row[k] for row in FILES.values()) for k in range(4)]
    rows = sorted(FILES.items(), key=lambda row: -row[1][0] - row[1][1])
    for name, (own, children, compiling, tests) in [("all", total), *rows]:
        terminalreporter.write_line(
            f"{own + children:8.1f} {children:7.1f} {compiling:7.1f} {tests:6.0f}  {name}"
        )
    again = sum(sum(by.values()) - max(by.values()) for by in KERNELS.values())
    terminalreporter.write_line(f"{again:8.1f} of compilation, of what another worker compiled too")
    terminalreporter.section(f"tests that cost more than {LIMIT} s and are not in tests/deep.txt")
    for name, cost in sorted(COSTS.items()):
        if cost > LIMIT and name not in DEEP:
            terminalreporter.write_line(f"{cost:8.2f}  {name}")

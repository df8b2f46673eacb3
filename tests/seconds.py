"""CPU seconds of every test file, largest first: ``make test ARGS="-p tests.seconds"``, or pytest with this option.

Processes that a test starts are counted, and so are fixtures, for the test that makes them. Numba's compilation time
is also shown; only a first run has it, because kernels are kept in ``__pycache__``, or in the folder ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest
from numba.core import event


class Compilation(event.Listener):
    """Seconds of this process in compilations, those inside others counted once."""

    seconds = began = 0.0
    depth = 0

    def on_start(self, event: Any) -> None:
        if not self.depth:
            self.began = time.process_time()
        self.depth += 1

    def on_end(self, event: Any) -> None:
        self.depth -= 1
        if not self.depth:
            self.seconds += time.process_time() - self.began


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


CLOCK = Clock()
FILES: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Send the seconds of a phase with its report, which may go to another process."""
    report = yield
    report.user_properties = [*report.user_properties, ("seconds", CLOCK.read())]
    return report


def pytest_runtest_logreport(report: Any) -> None:
    """Add them up by file."""
    of_file = FILES[report.nodeid.partition("::")[0]]
    seconds = dict(report.user_properties)["seconds"]
    for k, value in enumerate([*seconds, float(report.when == "call")]):
        of_file[k] += value


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table."""
    terminalreporter.section("CPU seconds: all, of them in children, in compilation; tests")
    total = [sum(column) for column in zip(*FILES.values(), strict=True)]
    rows = sorted(FILES.items(), key=lambda row: -row[1][0] - row[1][1])
    for name, (own, children, compiling, tests) in [("all", total), *rows]:
        terminalreporter.write_line(
            f"{own + children:8.1f} {children:7.1f} {compiling:7.1f} {tests:6.0f}  {name}"
        )

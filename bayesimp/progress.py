"""Progress bars for anything that takes over a second; nothing is shown unless the output is a terminal or notebook."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["progress_bar", "waiting"]

PATIENCE = 1.0  # seconds before a bar is shown
_lines: list = []  # status lines of `waiting` now on the terminal


class Report:
    """report(stage, done, total): shows the progress of a run and lets it be interrupted at a safe point.

    Once a stage other than "compiling..." has been reported, Ctrl-C takes effect at the next report with work left to
    do, never between two statements that belong together. A third Ctrl-C takes effect at once.
    """

    def __init__(self, draw: Callable[[str, int, int], None]) -> None:
        self._draw = draw
        self._pressed = 0
        self._holding = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._holding = not stage.startswith("compiling")
        if self._pressed and done < total:
            raise KeyboardInterrupt
        self._draw(stage, done, total)

    def pressed(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler for Ctrl-C."""
        self._pressed += 1
        if not self._holding or self._pressed > 2:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C while the block runs, unless other code already does."""
        before = signal.getsignal(signal.SIGINT)
        inside = isinstance(getattr(before, "__self__", None), Report)  # a run inside another run
        if threading.current_thread() is not threading.main_thread() or not (
            inside or before is signal.default_int_handler
        ):
            yield  # other code handles it
            return
        signal.signal(signal.SIGINT, self.pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(show: bool | None = None) -> Iterator[Report]:
    """A report(stage, done, total) that draws one bar per stage once the run has lasted a second (see `Report`).

    show: True / False, or None: only if standard error is a terminal (or a notebook).
    """
    began = time.perf_counter()
    bars: dict[str, int] = {}
    live: list = []  # at most one rich bar; the module is imported late

    def draw(stage: str, done: int, total: int) -> None:
        if not wanted or time.perf_counter() - began < PATIENCE:
            return
        if not live:
            live.append(_start())
        if stage not in bars:
            for task in bars.values():
                live[0].update(task, completed=live[0].tasks[task].total)
            bars[stage] = live[0].add_task(stage, total=total)
        live[0].update(bars[stage], completed=done, total=total)

    wanted = (sys.stderr.isatty() or _in_notebook()) if show is None else show
    report = Report(draw)
    try:
        with report.listening():
            yield report
    finally:
        if live:
            live[0].stop()


def _start() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    for line in _lines:
        line.stop()
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=Console(file=sys.stderr), transient=False,
    )  # fmt: skip
    bar.start()
    return bar


def _in_notebook() -> bool:
    """Whether this is a notebook that can show a moving bar, which needs ipywidgets."""
    shell = sys.modules.get("IPython")
    there = shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
    return there and find_spec("ipywidgets") is not None


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a status line while the block runs, on a terminal only; a progress bar replaces it."""
    if not what or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    line = Console(stderr=True).status(what)
    line.start()
    _lines.append(line)
    try:
        yield
    finally:
        _lines.remove(line)
        line.stop()

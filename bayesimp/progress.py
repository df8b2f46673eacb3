"""Progress on the terminal: for anything over a second, and nothing when the output is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["progress_bar", "waiting"]

PATIENCE = 1.0  # seconds before a bar is shown
_lines: list = []  # of `waiting`, now on the terminal


@contextmanager
def progress_bar(show: bool | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """A function report(stage, done, total), drawing one bar by stage once the run has lasted a second.

    show: True / False, or None: only if standard error is a terminal (or a notebook).
    """
    began = time.perf_counter()
    bars: dict[str, int] = {}
    live: list = []  # of rich's bars, at most one; the module is loaded late

    def report(stage: str, done: int, total: int) -> None:
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
    try:
        yield report
    finally:
        if live:
            live[0].stop()


def _start():
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
    """Whether there is a notebook that can show a bar that moves, which takes ipywidgets."""
    shell = sys.modules.get("IPython")
    there = shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
    return there and find_spec("ipywidgets") is not None


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A line that moves while something goes on, on a terminal only; it gives way to a bar."""
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

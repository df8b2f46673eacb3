"""Limit BLAS to one thread while a model is built or fitted to many tables.

Checking a wide table takes thousands of decompositions of small matrices; fitting takes one or more per table. BLAS
divides each among all cores, and its threads spin while they wait for each other: on two cores shared with other jobs,
a model of 60 columns took 13 s (5.7 s of CPU) instead of 2 s (1.0 s). More cores make it worse.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]

LARGE = 1_000_000  # cells of a table above which several threads pay off
_lock = threading.Lock()
_inside: list[ExitStack] = []  # one per active block; the first holds the limit, which applies to the process


@contextmanager
def one_thread(cells: int) -> Iterator[None]:
    """Limit BLAS to one thread while the block runs, unless the table has many cells (rows times columns).

    If several Python threads are in such blocks, the last to leave restores the setting that the first found.
    """
    if cells > LARGE:
        yield
        return
    with _lock:
        stack = _inside[0] if _inside else ExitStack()
        if not _inside:
            stack.enter_context(_controller().limit(limits=1, user_api="blas"))
        _inside.append(stack)
    try:
        yield
    finally:
        with _lock:
            if len(_inside) == 1:
                stack.close()
            _inside.pop()


@cache
def _controller() -> ThreadpoolController:
    """The controller of the loaded libraries; finding them takes a millisecond and is done once."""
    return ThreadpoolController()

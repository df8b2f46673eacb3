"""BLAS on one thread while a model is made, or fitted to many tables.

The checks of a wide table are thousands of decompositions of small matrices; the fits are one or more a table. BLAS
divides each among all cores, and its threads wait for each other by spinning: on two cores shared with other jobs, the
model of 60 columns took 13 s (5.7 s of CPU) instead of 2 s (1.0 s). More cores make it worse.
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
_inside: list[
    ExitStack
] = []  # one for each that is inside; the first holds the limit, which is the process's


@contextmanager
def one_thread(cells: int) -> Iterator[None]:
    """Limit BLAS to one thread inside, unless the table has many cells (rows times columns).

    If several Python threads are inside, the last to leave restores what the first found.
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
    """Finds the loaded libraries once, which takes a millisecond."""
    return ThreadpoolController()

"""numba kernels, kept on disk between sessions.

numba checks only whether a cached kernel's own source file has changed. But a kernel contains the code of all kernels
that it calls, so after an edit or upgrade of one file the others would silently run with the old code. Here a cached
kernel is valid only while its own file and every file of this package that it imports, directly or indirectly, are
unchanged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, overload

from numba import njit

__all__ = ["STAMP", "inner", "kernel", "merged", "reduction", "stamp"]

_ROOT = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]
_IMPORTS = re.compile(rf"^\s*from {re.escape(_PACKAGE)}\.([\w.]+) import", re.MULTILINE)


def _digest(files: list[Path]) -> bytes:
    return hashlib.sha256(
        b"".join(path.relative_to(_ROOT).as_posix().encode() + path.read_bytes() for path in files)
    ).digest()


STAMP = _digest(sorted(_ROOT.rglob("*.py")))  # of the whole package


@cache
def stamp(module: str) -> bytes:
    """Digest of a module's file, of those that it imports from this package, directly or indirectly, and of this file."""
    found, waiting = {Path(__file__)}, [module.removeprefix(f"{_PACKAGE}.")]
    while waiting:
        path = _ROOT.joinpath(*waiting.pop().split(".")).with_suffix(".py")
        if path not in found:
            found.add(path)
            waiting += _IMPORTS.findall(path.read_text(encoding="utf-8"))
    return _digest(sorted(found))


class Kernel[**P, R](Protocol):
    """A compiled function, which numba calls a dispatcher."""

    signatures: list[tuple]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, after compilation for arguments of these types."""
        ...


class CompileDecorator(Protocol):
    """A decorator that compiles a function."""

    def __call__[**P, R](self, function: Callable[P, R], /) -> Kernel[P, R]:
        """The function, compiled at its first call."""
        ...


@overload
def kernel[**P, R](function: Callable[P, R]) -> Kernel[P, R]: ...
@overload
def kernel(function: None = None, **options: Any) -> CompileDecorator: ...
def kernel(function: Callable | None = None, **options: Any) -> Any:
    """``njit(cache=True, error_model="numpy", **options)`` with a cache that tracks the files a kernel depends on.

    NumPy's rules for division by zero need no branch that raises, and so halve the time to compile.
    """

    def compiled(f: Callable) -> Any:
        dispatcher = njit(cache=True, error_model="numpy", **options)(f)
        index, own = dispatcher._cache._cache_file, stamp(f.__module__)
        index._source_stamp = own
        # numba compares its version before it unpickles the signatures in an index, but the stamp only afterwards: an
        # index from before a type of ours was moved or renamed could not be read
        index._version = f"{index._version} {own.hex()}"
        return dispatcher

    return compiled if function is None else compiled(function)


# Functions called only from other kernels: without a wrapper for Python they compile faster.
inner = kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True)

# Functions with one caller are inlined before anything is optimised, whereas `inner` would optimise both.
merged = njit(inline="always", error_model="numpy")

# Sums over rows may be taken in any order, so that four rows are added at a time.
reduction = kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"reassoc", "contract", "nsz"})

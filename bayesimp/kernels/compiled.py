"""numba kernels, kept on disk between sessions.

numba asks of a cached kernel only whether its own source file is what it was. But a kernel holds the code of all
kernels it calls, so an edit or an upgrade of one file would leave the others running with the old one, in silence.
Here a cached kernel is valid only while its own file and every file of this package that it imports, directly or
through others, are what they were.
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
    """Digest of the file of a module of this package and of those it imports, at any remove; this file always."""
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
    """``njit(cache=True, error_model="numpy", **options)`` with a cache that knows what a kernel is made of.

    NumPy's rules for division by zero: no branch that raises, half the time to compile.
    """

    def compiled(f: Callable) -> Any:
        dispatcher = njit(cache=True, error_model="numpy", **options)(f)
        index, own = dispatcher._cache._cache_file, stamp(f.__module__)
        index._source_stamp = own
        # numba compares its version before it unpickles the signatures in an index, and the stamp only afterwards: an
        # index from before a type of ours was moved or renamed could not be read
        index._version = f"{index._version} {own.hex()}"
        return dispatcher

    return compiled if function is None else compiled(function)


# Functions called from other kernels only: without a wrapper for Python they compile faster still.
inner = kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True)

# For functions with one caller: part of it before anything is optimised, where `inner` would optimise both.
merged = njit(inline="always", error_model="numpy")

# Sums over rows in any order, so that they are made four rows at a time.
reduction = kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"reassoc", "contract", "nsz"})

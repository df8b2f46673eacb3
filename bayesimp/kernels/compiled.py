"""numba kernels, kept on disk between sessions.

numba asks of a cached kernel only whether its own source file is what it was. But a kernel holds the code of all
kernels it calls, so an edit or an upgrade of one file would leave the others running with the old one, in silence.
Here a cached kernel is valid only while every file of this package is what it was.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from numba import njit

__all__ = ["STAMP", "inner", "kernel", "merged", "reduction"]

_FILES = sorted(Path(__file__).parent.glob("*.py"))
STAMP = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in _FILES)).digest()


def kernel(function=None, **options):
    """``njit(cache=True, error_model="numpy", **options)`` with a cache that knows the whole package.

    NumPy's rules for division by zero: no branch that raises, half the time to compile.
    """

    def compiled(f):
        dispatcher = njit(cache=True, error_model="numpy", **options)(f)
        dispatcher._cache._cache_file._source_stamp = STAMP
        return dispatcher

    return compiled if function is None else compiled(function)


# Functions called from other kernels only: without a wrapper for Python they compile faster still.
inner = kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True)

# For functions with one caller: part of it before anything is optimised, where `inner` would optimise both.
merged = njit(inline="always", error_model="numpy")

# Sums over rows in any order, so that they are made four rows at a time.
reduction = kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"reassoc", "contract", "nsz"})

"""Tables of the memory addresses of arrays, so that one compiled loop can process any number of records.

numba compiles a function, and everything that it calls for each element, again for every length of a tuple. A table of
places

    places[b, k] = (address, n_0, n_1, n_2)    of array k of record b, shape (n_0, ..), 1 to 3 dimensions, C order

has one type for any number of records. `places` checks dtype, order and dimensions of every array, because the kernel
that reads the table cannot; the arrays must outlive it. Whole numbers are int64, truth values bool, others float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from bayesimp.kernels.compiled import inner
from bayesimp.notation import BoolMatrix, BoolVector, IntArray, IntVector, Matrix, Stack, Vector

if TYPE_CHECKING:
    from numba.core.base import BaseContext
    from numba.core.typing import Context
    from numba.core.typing.templates import Signature

__all__ = ["Places", "flags", "matrix", "matrix_of_flags", "places", "reals", "stack", "whole"]


class Places(NamedTuple):
    """table (b, k, 4): see the module. arrays: the arrays of all records, kept alive here."""

    table: np.ndarray
    arrays: list[np.ndarray]


def places(records: Sequence[tuple], layout: str) -> Places:
    """Places of the arrays of records.

    Parameters
    ----------
    records
        Tuples of arrays, numbers and such tuples, all of the same form; a number becomes an array of length one.
    layout
        Kind and number of dimensions of each array in turn: 'f2 i1 b1', ...

    Raises
    ------
    TypeError
        An array does not match the layout, or is not contiguous in C order.
    """
    wanted = layout.split()
    out = np.zeros((len(records), len(wanted), 4), dtype=np.int64)
    kept: list[np.ndarray] = []
    for b, record in enumerate(records):
        for k, (value, kind) in enumerate(zip(_leaves(record), wanted, strict=True)):
            array = value if isinstance(value, np.ndarray) else np.array([value], dtype=_DTYPES[kind[0]])
            if array.dtype != _DTYPES[kind[0]] or array.ndim != int(kind[1]) or not array.flags.c_contiguous:
                raise TypeError(
                    f"array {k} of record {b} must be {kind} in C order; got {array.dtype}, {array.ndim} dimensions"
                )
            out[b, k, 0] = array.ctypes.data
            out[b, k, 1 : 1 + array.ndim] = array.shape
            kept.append(array)
    return Places(out, kept)


_DTYPES = {"f": np.dtype(np.float64), "i": np.dtype(np.int64), "b": np.dtype(np.bool_)}


def _leaves(record: tuple) -> Iterator:
    for value in record:
        if isinstance(value, tuple):
            yield from _leaves(value)
        else:
            yield value


@intrinsic
def _pointer(typing: Context, address: types.Type) -> tuple[Signature, Callable]:
    """Convert an address to a pointer."""

    def code(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, args: Sequence[ir.Value]
    ) -> ir.Value:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


_at = cast(Callable[[int], Any], _pointer)  # numba supplies the typing context of the call


@inner
def reals(places: IntArray, b: int, k: int) -> Vector:
    """Array k of record b, float64 (n_0,)."""
    return carray(_at(places[b, k, 0]), (places[b, k, 1],), np.float64)


@inner
def whole(places: IntArray, b: int, k: int) -> IntVector:
    """Array k of record b, int64 (n_0,)."""
    return carray(_at(places[b, k, 0]), (places[b, k, 1],), np.int64)


@inner
def flags(places: IntArray, b: int, k: int) -> BoolVector:
    """Array k of record b, bool (n_0,)."""
    return carray(_at(places[b, k, 0]), (places[b, k, 1],), np.bool_)


@inner
def matrix(places: IntArray, b: int, k: int) -> Matrix:
    """Array k of record b, float64 (n_0, n_1)."""
    return carray(_at(places[b, k, 0]), (places[b, k, 1], places[b, k, 2]), np.float64)


@inner
def matrix_of_flags(places: IntArray, b: int, k: int) -> BoolMatrix:
    """Array k of record b, bool (n_0, n_1)."""
    return carray(_at(places[b, k, 0]), (places[b, k, 1], places[b, k, 2]), np.bool_)


@inner
def stack(places: IntArray, b: int, k: int) -> Stack:
    """Array k of record b, float64 (n_0, n_1, n_2)."""
    n = places[b, k, 1], places[b, k, 2], places[b, k, 3]
    return carray(_at(places[b, k, 0]), n, np.float64)

"""Read the numbers and arrays that a user passes to a function; refusals name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError

__all__ = ["broadcast", "chosen", "generator", "new_seed", "number", "numbers", "pair", "whole"]


def new_seed() -> int:
    """A seed from the operating system, kept in the result so that the run can be repeated."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)


def numbers(
    value: Any, what: str, shape: tuple[int | str, ...] | None = None, leading: bool = False
) -> NDArray[np.float64]:
    """An array of finite numbers.

    Parameters
    ----------
    value
        Numbers, nested sequences of them, or an array.
    what
        Name of the argument, for messages.
    shape
        Lengths of its dimensions. A letter means any length, and the same letter the same length; None: any
        shape.
    leading
        Whether there may be further dimensions in front.

    Raises
    ------
    SpecificationError
        The values are not numbers, are not finite or have another shape.
    """
    wanted = "numbers" if shape is None else f"numbers of shape {_written(shape, leading)}"
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError
        array = array.astype(float)
    except (TypeError, ValueError):  # text, None, other objects; rows of different lengths
        raise SpecificationError(f"{what} must be {wanted}, got {_shown(value)}.") from None
    if shape is not None and not _fits(array.shape, shape, leading):
        raise SpecificationError(f"{what} must be {wanted}, got shape {array.shape}.")
    if not np.isfinite(array).all():
        lost = int((~np.isfinite(array)).sum())
        raise SpecificationError(f"{what} must be finite; {lost:,} of {array.size:,} values are not.")
    return array


def number(value: Any, what: str, low: float = -np.inf, high: float = np.inf) -> float:
    """A finite number strictly between two others.

    Raises
    ------
    SpecificationError
    """
    real = (
        isinstance(value, Real | np.ndarray)
        and getattr(value, "ndim", 0) == 0
        and not isinstance(value, bool)
    )
    if not real or not np.isfinite(float(value)) or not low < float(value) < high:
        range_ = (
            f" between {low:g} and {high:g}"
            if np.isfinite(high)
            else f" above {low:g}"
            if np.isfinite(low)
            else ""
        )
        raise SpecificationError(f"{what} must be a finite number{range_}, got {_shown(value)}.")
    return float(value)


def whole(value: Any, what: str, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least ``least``.

    Raises
    ------
    SpecificationError
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real or value != np.floor(value) or value < least or (most is not None and value > most):
        range_ = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise SpecificationError(f"{what} must be a whole number {range_}, got {_shown(value)}.")
    return int(value)


def pair(value: Any, what: str) -> tuple[Any, Any]:
    """The two entries of a pair.

    Raises
    ------
    SpecificationError
    """
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or len(value) != 2:
        raise SpecificationError(f"{what} must be two, got {_shown(value)}.")
    return value[0], value[1]


def chosen(value: Any, what: str, possible: Sequence[str]) -> str:
    """The value, if it is one of the possible words.

    Raises
    ------
    SpecificationError
    """
    if not isinstance(value, str) or value not in possible:
        listed = ", ".join(map(repr, possible[:-1])) + f" or {possible[-1]!r}"
        raise SpecificationError(f"{what} must be {listed}, got {_shown(value)}.")
    return value


def generator(seed: Any, what: str = "seed") -> np.random.Generator:
    """A random number generator with this seed.

    Raises
    ------
    SpecificationError
        The seed is None (the same call should give the same numbers), or is not a valid seed.
    """
    try:
        if seed is None or isinstance(seed, bool):
            raise TypeError
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise SpecificationError(
            f"{what} must be a whole number of at least 0, got {_shown(seed)}."
        ) from None


def broadcast(what: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which arrays of these shapes broadcast.

    Raises
    ------
    SpecificationError
        They cannot be broadcast.
    """
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise SpecificationError(
            f"{what} do not fit together: their shapes {', '.join(map(str, shapes))} cannot be broadcast."
        ) from None


def _fits(found: tuple[int, ...], wanted: tuple[int | str, ...], leading: bool) -> bool:
    if len(found) < len(wanted) or (len(found) > len(wanted) and not leading):
        return False
    known: dict[str, int] = {}
    for have, want in zip(found[len(found) - len(wanted) :], wanted, strict=True):
        if have != (known.setdefault(want, have) if isinstance(want, str) else want):
            return False
    return True


def _written(shape: tuple[int | str, ...], leading: bool) -> str:
    inner = ", ".join(["..."] * leading + [str(n) for n in shape])
    return f"({inner},)" if len(shape) == 1 and not leading else f"({inner})"


def _shown(value: Any) -> str:
    """The value that was given, for a message: in full if it is short, otherwise its type and its beginning."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."

"""Checks of the options of `FCS.impute`."""

from __future__ import annotations

from numbers import Real
from typing import Any

from bayesimp.errors import SpecificationError

__all__ = ["length_of_run", "whole"]

CYCLES, DRAWS = 100, 1_000  # defaults: smallest number of cycles, and draws kept over all imputations


def length_of_run(m: Any, cycles: Any, tune: Any) -> tuple[int, int, int]:
    """Numbers of imputations, cycles and warm-up cycles; None for `cycles` or `tune` means the default.

    Raises
    ------
    SpecificationError
        One is out of range, or no cycle is left after warm-up.
    """
    m = whole("m", m, 1)
    cycles = max(CYCLES, -(-2 * DRAWS // m)) if cycles is None else whole("cycles", cycles, 1)
    tune = cycles // 2 if tune is None else whole("tune", tune, 0)
    if tune >= cycles:
        raise SpecificationError(f"tune = {tune} leaves none of {cycles} cycles; use a smaller tune.")
    return m, cycles, tune


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at most 63 bits, which files can hold.

    Raises
    ------
    SpecificationError
        The value is anything else, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or float(value) != float(value) // 1:
        raise SpecificationError(f"{name} must be an integer of at least {least}, got {value!r}.")
    whole = int(value)  # type: ignore[call-overload]  # every real number that is whole
    if not least <= whole < 2**63:
        raise SpecificationError(f"{name} must be an integer from {least} to 2**63 - 1, got {value!r}.")
    return whole

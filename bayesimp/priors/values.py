"""Checks of the numbers that a user puts into a prior."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import SpecificationError

__all__ = ["as_numbers", "degrees_to_power", "positive", "positive_definite", "symmetric", "vector"]

Array = NDArray[np.float64]


def positive(value: ArrayLike, what: str) -> None:
    """Refuse numbers that are not positive and finite.

    Parameters
    ----------
    value
        A number or an array of any shape.
    what
        Name of the value for the message, such as ``"HalfT: nu"``.

    Raises
    ------
    SpecificationError
        A number is zero, negative, infinite or NaN.
    """
    array = as_numbers(value, what)
    if not (np.all(np.isfinite(array)) and np.all(array > 0)):
        raise SpecificationError(f"{what} must be positive and finite, got {value!r}.")


def as_numbers(value: Any, what: str) -> Array:
    """The value as an array; refused, by name, if it does not consist of numbers."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise SpecificationError(f"{what} must be a number, or numbers; got {value!r}.") from None


def vector(value: ArrayLike, d: int, what: str) -> Array:
    """One number or d numbers as a new array (d,).

    Raises
    ------
    SpecificationError
        The number of values is wrong; `what` names them in the message.
    """
    array = as_numbers(value, what)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != d):
        raise SpecificationError(f"{what}: expected a number or {d} numbers, got shape {array.shape}.")
    return np.broadcast_to(array, (d,)).copy()


def positive_definite(matrix: Array, d: int, what: str) -> Array:
    """The matrix (d, d), if it is symmetric and positive definite.

    Raises
    ------
    SpecificationError
        The shape is wrong, or the matrix is not symmetric or not positive definite; `what` names it in the message.
    """
    if matrix.shape != (d, d):
        raise SpecificationError(f"{what} must be a {d} x {d} matrix, got shape {matrix.shape}.")
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-10 * np.abs(matrix).max()):
        raise SpecificationError(f"{what} must be symmetric.")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if not smallest > 0:
        raise SpecificationError(f"{what} is not positive definite (smallest eigenvalue {smallest:.3g}).")
    return matrix


def symmetric(matrix: Array) -> Array:
    """(S + S') / 2, which removes round-off from a matrix (d, d) that is symmetric by construction."""
    return (matrix + matrix.T) / 2


def degrees_to_power(nu: float, power: float, where: str) -> float:
    """nu_a = a (nu + 1) - 1 of half-t and inverse-gamma priors raised to the power a (`bayesimp.priors.powered`).

    Raises
    ------
    SpecificationError
        The power is improper, nu_a <= 0.
    """
    made = power * (nu + 1.0) - 1.0
    if made <= 0:
        raise SpecificationError(
            f"The prior on {where}, whose variances have nu = {nu:g}, is improper when raised to the power {power:g}. "
            f"Use a power above {1 / (nu + 1):.3g}."
        )
    return made

"""A variable of a table as the models read it: one record per column, made once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SamplingError
from bayesimp.families.censored import censored_cells
from bayesimp.families.columns import encode
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.table.clusters import Clusters

__all__ = ["Variable", "check_finite", "without_round_off"]

Array = NDArray[np.float64]
LEAST, MOST = 1e-70, 1e70  # limits for the largest number of a column, whose fourth powers are computed


# of the largest number of a column: how far from the working scale and back is rounding only
ROUND_OFF = 1e-9


def without_round_off(values: Array, lower: Array, upper: Array, name: str) -> Array:
    """Values, with those that lie beyond their limits by no more than round-off moved to the limits.

    Parameters
    ----------
    values
        (..., k) of a censored variable, in the units of the data.
    lower, upper
        (k,) its limits.
    name
        The variable.

    Raises
    ------
    SamplingError
        A value lies further beyond its limit, which is an error in this package.
    """
    limits = np.concatenate([lower, upper])
    limits = limits[np.isfinite(limits)]
    if not len(limits):
        return values
    beyond = np.maximum(lower - values, values - upper)
    far = beyond > ROUND_OFF * max(np.nanmax(np.abs(values), initial=0.0), np.abs(limits).max())
    if far.any():
        raise SamplingError(
            f"'{name}': {far.sum():,} of {values.size:,} imputed values lie beyond the limits of their cells, by up to "
            f"{beyond.max():.3g}, which is more than rounding. This is an error in bayesimp: please report it, with the "
            "model and the columns of the limits."
        )
    return np.clip(values, lower, upper)


@dataclass(frozen=True, eq=False)
class Variable:
    """A column with its family.

    Attributes
    ----------
    name, family
        As in the table and in `IncompleteData.families`.
    column
        (n,) cells of the table.
    clusters
        Clusters of the table, for messages.
    known_levels
        Levels taken from a larger table; None: those of the column.
    censoring
        (n,) which cells of a censored variable are limits (`bayesimp.families.censored`).
    """

    name: str
    family: str
    column: pd.Series
    clusters: Clusters
    known_levels: tuple | None = None
    censoring: pd.Series | None = None

    @cached_property
    def distribution(self) -> Family:
        """The record of the variable's family."""
        return family_of(self.family)

    @property
    def is_coded(self) -> bool:
        """Whether the values are levels, which computations represent by numbers."""
        return self.distribution.is_coded

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """(n,) whether the value of each cell is unknown: missing, or censored. Read-only."""
        return _frozen(self.column.isna().to_numpy() | self.censored)

    @property
    def censored(self) -> NDArray[np.bool_]:
        """(n,) whether each cell holds a limit in place of a value."""
        lower, upper = self.limits
        return np.isfinite(lower) | np.isfinite(upper)

    @cached_property
    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) lower and upper limits of the value of each cell, infinite where there is none. Read-only."""
        lower, upper = np.full(len(self.column), -np.inf), np.full(len(self.column), np.inf)
        if self.censoring is not None:
            left, right = censored_cells(self.column, self.censoring)
            numbers = self.column.to_numpy(np.float64, na_value=np.nan)
            upper[left], lower[right] = numbers[left], numbers[right]
        return _frozen(lower), _frozen(upper)

    @cached_property
    def _encoded(self) -> tuple[NDArray[np.float64], tuple]:
        values, levels = encode(self.column, self.family, self.clusters.where, self.known_levels)
        if self.censoring is not None:
            values = np.where(self.censored, np.nan, values)
        return _frozen(values), levels

    @property
    def numbers(self) -> NDArray[np.float64]:
        """(n,) float64 with NaN: positions among `levels`, or the numbers themselves. Read-only.

        Raises
        ------
        DataError
            A value is impossible under the family; the message says which and where.
        """
        return self._encoded[0]

    @property
    def levels(self) -> tuple:
        """Values that the positions 0, 1, ... represent; empty if the numbers are the values themselves."""
        return self._encoded[1]

    @property
    def level_values(self) -> NDArray[np.float64]:
        """(K,) number of each level in computations: the level itself if it is a number, otherwise its position."""
        number = all(isinstance(level, int | float | np.number) for level in self.levels)
        return np.array(self.levels if number else range(len(self.levels)), dtype=np.float64)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n,) float64 with NaN: the variable as models compute with it (`level_values`). Read-only."""
        if not self.is_coded:
            return self.numbers
        values = self.numbers.copy()
        there = ~np.isnan(values)
        values[there] = self.level_values[values[there].astype(np.int64)]
        return _frozen(values)


def _frozen(array: NDArray) -> NDArray:
    """A read-only view, because the array may share memory with the user's own table."""
    view = array.view()
    view.flags.writeable = False
    return view


def check_finite(variable: Variable) -> None:
    """Refuse numbers that are infinite, or too large or small to compute with.

    Raises
    ------
    DataError
        The message names the variable, rows and clusters.
    """
    column = variable.column
    floats = pd.api.types.is_float_dtype(column.dtype)
    if not floats and not (column.dtype == object and variable.distribution.is_normal):
        return
    values = column.to_numpy(np.float64, na_value=np.nan) if floats else variable.numbers
    _check_size(variable, values)
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"Variable '{variable.name}' is infinite {variable.clusters.where(infinite)}. "
            "Correct these values, set them to missing, or leave the column out of the table."
        )


def _check_size(variable: Variable, values: NDArray[np.float64]) -> None:
    """Refuse numbers whose fourth powers overflow or underflow: the column would look constant."""
    size = np.abs(values[np.isfinite(values)])
    largest = size.max(initial=0.0)
    if LEAST < largest < MOST or largest == 0:
        return
    odd = np.isfinite(values) & ((np.abs(values) >= MOST) if largest >= MOST else (values != 0))
    what = "so large" if largest >= MOST else "so small"
    raise DataError(
        f"Variable '{variable.name}' has numbers {what} ({largest:.3g}) that computations with them overflow or "
        "underflow, "
        f"{variable.clusters.where(odd)}. Are they codes for missing values? If not, change the unit: divide the "
        f"variable by {'1e' + str(int(np.log10(largest)))}."
    )

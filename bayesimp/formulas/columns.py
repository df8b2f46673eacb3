"""Columns of the design matrices X* and Z* of a conditional model, as records.

A base column is complete, incomplete (a variable that is imputed) or derived from others, row by row. A column of X* or
Z* is a base column, or one times the mean (or sum) over the cluster of the product of two:

    x_ij = base_ij * mean_i(over_0 over_1)

or one less its mean over the cluster, base_ij - mean_i(base).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["INTERCEPT", "Column", "Derived", "cluster_column"]

INTERCEPT = "Intercept"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """One column of X* or Z*.

    Attributes
    ----------
    name
        As in a formula: ``"y2"``, ``"Intercept"``, ``"gender[M]"``, ``"cluster_mean(y2)"``.
    base
        Base column that it multiplies; ``"Intercept"`` is the constant 1.
    over
        If given, the base is multiplied by the mean over the cluster's rows of the product of these two base columns.
    sum
        Whether the sum is taken instead of the mean.
    within
        Whether the mean over the cluster's rows is subtracted.
    """

    name: str
    base: str
    over: tuple[str, str] | None = None
    sum: bool = False
    within: bool = False


@dataclass(frozen=True)
class Derived:
    """A base column computed from others, row by row or over the rows of a cluster.

    Attributes
    ----------
    ingredients
        Base columns, possibly derived ones, that `evaluate` reads.
    evaluate
        Arrays by name (n,), the clusters of the rows and which are counted in cluster means (`arithmetic.OverCluster`)
        -> array (n,). May be infinite or NaN (log of a negative value): to be checked by the caller.
    column
        Column of the table that it fills or creates; None for a term of a formula such as ``I(y2 ** 2)``.
    """

    name: str
    ingredients: tuple[str, ...]
    evaluate: Callable[..., Array]
    column: str | None = None


def cluster_column(base: str, over: tuple[str, str], sum: bool = False) -> Column:
    """``base * mean(over)`` with its name: ``"cluster_mean(y2)"``, ``"x:cluster_mean(x * y2)"``.

    The two of ``over`` are put in one order, the Intercept first.
    """
    pair = tuple(sorted(over, key=lambda name: (name != INTERCEPT, name)))
    inner = " * ".join(name for name in pair if name != INTERCEPT) or "1"
    name = f"cluster_{'sum' if sum else 'mean'}({inner})"
    return Column(name if base == INTERCEPT else f"{base}:{name}", base, (pair[0], pair[1]), sum)

"""Columns of the design matrices X* and Z* of a conditional model, as records.

A base column is complete, incomplete (an imputed variable) or derived from others, row by row. A column of X* or Z* is
a base column, or a base column times the cluster mean (or sum) of the product of two others,

    x_ij = base_ij * mean_i(over_0 over_1)

or a base column minus its cluster mean, base_ij - mean_i(base). In a joint GLMM also a base column times several of
these, ``x:within(y)``, or a function of them, ``I(within(y)**2)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bayesimp.formulas.arithmetic import Expression

__all__ = ["INTERCEPT", "PART", "Column", "Derived", "cluster_column"]

INTERCEPT = "Intercept"
PART = "\0"  # begins the name of a part in the function of a column
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
        If given, the base is multiplied by the cluster mean of the product of these two base columns.
    sum
        Whether the sum is used instead of the mean.
    within
        Whether the cluster mean is subtracted.
    parts
        If given, the base is multiplied by these columns, each a cluster mean, a centred column or a function of these.
    function
        If given, this function of the parts takes the place of their product; its names of parts begin with `PART`.
    """

    name: str
    base: str
    over: tuple[str, str] | None = None
    sum: bool = False
    within: bool = False
    parts: tuple[Column, ...] = ()
    function: Expression | None = None

    @property
    def plain(self) -> tuple[str, ...]:
        """Base columns of its function, besides the parts."""
        names = self.function.names if self.function is not None else ()
        return tuple(name for name in names if not name.startswith(PART))

    @property
    def is_over_rows(self) -> bool:
        """Whether it is computed over the rows of a cluster."""
        return self.over is not None or self.within or bool(self.parts)

    @property
    def is_centred(self) -> bool:
        """Whether it, or a column by which it is multiplied, has its cluster mean subtracted."""
        return self.within or any(part.within for part in self.parts)


@dataclass(frozen=True)
class Derived:
    """A base column computed from others, row by row or over the rows of a cluster.

    Attributes
    ----------
    ingredients
        Base columns, possibly derived ones, that `evaluate` uses.
    evaluate
        (arrays (n,) by name, clusters of the rows, rows that count in cluster means) -> array (n,); see
        `arithmetic.OverCluster`. The result may be infinite or NaN (log of a negative value); the caller checks.
    column
        Column of the table that it fills or creates; None for a term of a formula such as ``I(y2 ** 2)``.
    """

    name: str
    ingredients: tuple[str, ...]
    evaluate: Callable[..., Array]
    column: str | None = None


def cluster_column(base: str, over: tuple[str, str], sum: bool = False) -> Column:
    """``base * mean(over)`` with its name: ``"cluster_mean(y2)"``, ``"x:cluster_mean(x * y2)"``.

    The two names in ``over`` are sorted, with the Intercept first.
    """
    pair = tuple(sorted(over, key=lambda name: (name != INTERCEPT, name)))
    inner = " * ".join(name for name in pair if name != INTERCEPT) or "1"
    name = f"cluster_{'sum' if sum else 'mean'}({inner})"
    return Column(name if base == INTERCEPT else f"{base}:{name}", base, (pair[0], pair[1]), sum)

"""Grouping columns of an analysis: the level of each row, and whether factors are nested or crossed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.events import Event
from bayesimp.formulas.formula import Formula, RandomTerm
from bayesimp.messages import listing

__all__ = [
    "CROSSED",
    "Grouping",
    "column_codes",
    "crossed_events",
    "groupings",
    "several_groups",
    "term_codes",
]

CROSSED = "crossed groups"  # kind of the events
IntVector = NDArray[np.int64]


@dataclass(frozen=True)
class Grouping:
    """A grouping factor of an analysis, in the first completed table.

    Attributes
    ----------
    group
        Its column, or columns joined by ``:``.
    levels, rows
        The number of levels, and the numbers of rows in the smallest and largest.
    nested_in
        The other factors of the analysis within whose levels its levels are nested.
    """

    group: str
    levels: int
    rows: tuple[int, int]
    nested_in: tuple[str, ...] = ()

    def __str__(self) -> str:
        inside = f", nested in {listing(self.nested_in)}" if self.nested_in else ""
        low, high = self.rows
        each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        return f"{self.group!r} {self.levels:,} levels of {each} rows{inside}"


def several_groups(formula: Formula) -> bool:
    """Whether there are several random terms, or one grouped by a combination of columns."""
    return len(formula.random) > 1 or any(len(term.names) > 1 for term in formula.random)


def term_codes(
    frame: pd.DataFrame, term: RandomTerm, starts: Sequence[int] | None = None
) -> tuple[IntVector, int]:
    """The level of each row, from 0, and the number of levels; for ``a:b``, combinations that occur."""
    codes, levels = column_codes(frame, term.names[0], starts)
    for name in term.names[1:]:
        other, others = column_codes(frame, name, starts)
        found, codes = np.unique(codes * others + other, return_inverse=True)
        levels = len(found)
    return codes, levels


def column_codes(
    frame: pd.DataFrame, name: str, starts: Sequence[int] | None = None
) -> tuple[IntVector, int]:
    """The level of each row of a column, from 0, and the number of levels.

    starts: first row of each table, then the end of the last.

    Raises
    ------
    DataError
        Some rows have no level.
    """
    codes, levels = pd.factorize(frame[name])
    missing = codes < 0
    if missing.any():
        each = missing if starts is None else np.add.reduceat(missing, starts[:-1])
        many = f"{int(missing.sum() if starts is None else each.max()):,} rows"
        of = "" if starts is None or len(starts) == 2 else " of a completed table"
        raise DataError(
            f"the grouping column {name!r} is missing in {many}{of}, so these rows have no group. Give each of them "
            f"its own level, leave them out of the tables, or impute {name!r}."
        )
    return codes.astype(np.int64, copy=False), len(levels)


def groupings(terms: Sequence[RandomTerm], codes: Sequence[IntVector]) -> tuple[Grouping, ...]:
    """The grouping factors of one table and their nesting; codes (n,) for each term."""
    once = {term.label: c for term, c in zip(terms, codes, strict=True)}
    out = []
    for name, own in once.items():
        sizes = np.bincount(own)
        sizes = sizes[sizes > 0]
        inside = tuple(other for other, c in once.items() if other != name and _cells(own, c) == len(sizes))
        out.append(Grouping(name, len(sizes), (int(sizes.min()), int(sizes.max())), inside))
    return tuple(out)


def _cells(one: IntVector, other: IntVector) -> int:
    return len(np.unique(one * (int(other.max()) + 1) + other))


def crossed_events(terms: Sequence[RandomTerm], codes: Sequence[IntVector]) -> tuple[Event, ...]:
    """An event for each crossed pair of plain columns, because ids that restart within a factor look crossed."""
    plain = {term.names[0]: c for term, c in zip(terms, codes, strict=True) if len(term.names) == 1}
    out = []
    for one, other in combinations(plain, 2):
        levels = {name: len(np.unique(plain[name])) for name in (one, other)}
        cells = _cells(plain[one], plain[other])
        if cells in levels.values():
            continue
        few, many = sorted((one, other), key=levels.__getitem__)
        keys = np.unique(plain[few] * (int(plain[many].max()) + 1) + plain[many]) // (
            int(plain[many].max()) + 1
        )
        shared = int((np.unique(keys, return_counts=True)[1] > 1).sum())
        text = (
            f"{shared:,} of {levels[few]:,} levels of {few!r} occur with several levels of {many!r}: the factors are "
            f"crossed, and rows with the same {few!r} share its effect whatever their {many!r}. If ids of one factor "
            f"start again within the other, write (1 | {many}/{few}) or (1 | {few}/{many}) instead of two terms"
        )
        out.append(Event(CROSSED, few, text, shared))
    return tuple(out)

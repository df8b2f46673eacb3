"""Tipping points: the smallest shift at which a conclusion changes.

Along an axis, from no shift outwards, with threshold t, pooled interval [l, u] and pooled estimate q, the conclusion is

    "interval"    t < l, or u < t (the interval excludes t: significant), or l <= t <= u (it does not)
    "estimate"    t < q, or q <= t

and the tipping point is where l, u or q, whichever decides, first crosses t. Between two scenarios it is interpolated
linearly on the scale of the link; `refine` brings the two closer together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayesimp.layout import Printed
from bayesimp.sensitivity_analysis.deltas import Axis, DeltaScenario

__all__ = ["CRITERIA", "Crossing", "Line", "TippingPoint", "crossing", "lines"]

CRITERIA = ("interval", "estimate")


class Line(NamedTuple):
    """Scenarios along one axis, with all others at their base, or (moves = all axes) those in which all move together.

    x (S,): sorted shifts of the first axis that moves, on the scale of its link; names (S,): the scenarios; start:
    position of the scenario without a shift, from which the search begins.
    """

    moves: tuple[int, ...]
    label: str
    x: np.ndarray
    names: tuple[str, ...]
    start: int


class Crossing(NamedTuple):
    """Where a conclusion changes: between two scenarios of a line, at x[inner] and x[outer]."""

    x: float
    inner: int
    outer: int
    weight: float


@dataclass(frozen=True)
class TippingPoint(Printed):
    """Where the conclusion about one term changes. ``print`` describes it in words.

    Attributes
    ----------
    analysis, term, threshold, criterion
        The arguments of the call.
    table
        One row for each axis and direction: axis, direction ("down" or "up"), delta (in the unit of the axis; nan if the
        conclusion does not change), shift (on the scale of the link), sd (the shift in standard deviations of observed
        values), factor (exp(shift), of odds or means), between (the scenarios on both sides), largest (the last shift
        examined).
    sentences
        The same results in words.
    """

    analysis: str
    term: str
    threshold: float
    criterion: str
    table: pd.DataFrame
    sentences: tuple[str, ...]

    def _said(self) -> str:
        return "\n".join(self.sentences)


def lines(axes: Sequence[Axis], scenarios: Sequence[DeltaScenario], combine: str) -> list[Line]:
    """The lines along which at least one delta varies."""
    base = tuple(axis.base for axis in axes)
    if combine == "together":
        moving = [k for k, axis in enumerate(axes) if len(axis.values) > 1]
        found = [
            s for s in scenarios if s.values == base or any(s.values[k] != axes[k].neutral for k in moving)
        ]
        return [_line(axes, found, tuple(moving))] if moving else []
    out = []
    for k, axis in enumerate(axes):
        if len(axis.values) > 1:
            found = [
                s for s in scenarios if (*s.values[:k], *s.values[k + 1 :]) == (*base[:k], *base[k + 1 :])
            ]
            out.append(_line(axes, found, (k,)))
    return out


def _line(axes: Sequence[Axis], found: Sequence[DeltaScenario], moves: tuple[int, ...]) -> Line:
    k = moves[0]
    ordered = sorted(found, key=lambda s: axes[k].shift(s.values[k]))
    x = np.array([axes[k].shift(s.values[k]) for s in ordered])
    label = ", ".join(axes[k].label for k in moves)
    return Line(moves, label, x, tuple(s.name for s in ordered), int(np.abs(x).argmin()))


def crossing(
    line: Line,
    low: np.ndarray,
    middle: np.ndarray,
    high: np.ndarray,
    threshold: float,
    criterion: str,
    step: int,
) -> Crossing | None:
    """The first crossing in one direction (step -1 or 1), or None.

    low, middle, high: (S,) interval and estimate along the line; nan if there is no interval.
    """
    at = line.start
    if criterion == "estimate":
        watched = [middle]
    elif low[at] > threshold:
        watched = [low]
    elif high[at] < threshold:
        watched = [high]
    else:
        watched = [low, high]
    inner = at
    while 0 <= inner + step < len(line.x):
        outer = inner + step
        found = [
            w for values in watched if (w := _weight(values[inner], values[outer], threshold)) is not None
        ]
        if found:
            weight = min(found)
            return Crossing(
                float(line.x[inner] + weight * (line.x[outer] - line.x[inner])), inner, outer, weight
            )
        inner = outer
    return None


def _weight(inside: float, outside: float, threshold: float) -> float | None:
    """Where the straight line from one value to the other meets the threshold, as a share from 0 to 1, or None."""
    a, b = inside - threshold, outside - threshold
    if not np.isfinite(a) or not np.isfinite(b) or a * b > 0 or a == b:
        return None
    return float(a / (a - b))

"""Variables that drive each other so that imputed values can run away: log links, and computed columns.

Suppose that a count c is drawn from exp(a + b x), and x in turn from a + b c. We know of no proper joint distribution
with these conditionals, and in rows that lack both, imputed values run away (tests/calibration/FEEDBACK_RESULTS.md).
Given such a c, the mean of a normal x is approximately linear in log c, and with log c the two are as stable as two
normal variables. Default models of unbounded variables therefore use logarithms, and formulas that do not are noted.

A nonlinear function of x, such as bmi = weight / height**2, can have the same effect: an x near 0 makes it large, hence
the variable that it predicts, and hence x, which that variable predicts. Such circles are noted before the run, and the
event about values that have run away names them (`imputed_events`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bayesimp.families.registry import family_of
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.arithmetic import OverCluster
from bayesimp.formulas.columns import INTERCEPT, Derived
from bayesimp.messages import listing
from bayesimp.methods import Method
from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "circle",
    "circle_cure",
    "computed_circles",
    "computed_from_itself",
    "drawn_by_logs",
    "driven_by",
    "feeding_back",
    "note",
    "unlimited",
]


def drawn_by_logs(data: IncompleteData, methods: Mapping[str, Method]) -> dict[str, str]:
    """Variable with a method -> the function through which it predicts others (log or log1p), if it has a log link.

    Matched variables are left out, because their values cannot exceed the largest observed one.
    """
    return {
        name: data.variable(name).distribution.as_predictor
        for name, method in methods.items()
        if data.variable(name).distribution.as_predictor and not method.matches
    }


def unlimited(family: str, method: Method) -> bool:
    """Whether imputed values of a variable are unbounded: it neither has few levels nor is matched."""
    return not family_of(family).support.is_bounded and not method.matches


def feeding_back(name: str, blocks: Iterable[ConditionalModel], logs: Iterable[str]) -> list[str]:
    """Variables drawn through a log link that predict `name` untransformed and that it predicts."""
    made = {response: block for block in blocks for response in block.responses}
    known = set(logs)
    direct = {part for c in made[name].fixed for part in (c.base, *(c.over or ())) if part in known}
    back = {other for other, block in made.items() for c in block.fixed if name in (c.base, *(c.over or ()))}
    return [other for other in made if other in direct & back]


def driven_by(name: str, blocks: Sequence[ConditionalModel]) -> list[str]:
    """Unbounded variables that a variable drawn through a log link predicts untransformed, and that predict it."""
    others = [(other, b) for b in blocks for other in b.responses if other != name]
    return [
        other for other, b in others if unlimited(b.family, b.method) and feeding_back(other, blocks, [name])
    ]


def note(name: str, family: str, others: list[str], logs: Mapping[str, str]) -> str:
    """A note on such a pair, with advice; family: that of `name`."""
    terms = listing([f"{logs[other]}({other})" for other in others])
    bounds = "bounds= on it, " if family_of(family).is_normal else ""
    return (
        f"{listing(others)} and '{name}' predict each other, the former through a log link, so imputed values can run "
        f"away. Stable alternatives are {terms} in the formula of '{name}', {bounds}or matching ('pmm')"
    )


class Models(Protocol):
    """Objects that can be searched for circles: conditional models, and columns computed from others."""

    @property
    def blocks(self) -> Sequence[ConditionalModel]:
        """The conditional models."""
        ...

    @property
    def derived(self) -> Sequence[Derived]:
        """The columns computed from others."""
        ...


def circle(name: str, others: Iterable[str], spec: Models) -> list[str]:
    """The shortest circle from a variable back to itself, in which each predicts, or is used to compute, the next.

    It leads through a computed column if possible, otherwise through one of ``others``; empty if there is none.
    """
    gives = _gives(spec.blocks, spec.derived)
    computed = [d.name for d in spec.derived]
    for through in (computed, [other for other in others if other != name]):
        ways = [_way(gives, name, via) + _way(gives, via, name)[1:] for via in through
                if _way(gives, name, via) and _way(gives, via, name)]  # fmt: skip
        if ways:
            return min(ways, key=len)
    return []


def circle_cure(name: str, others: Iterable[str], spec: Models) -> str:
    """The advice for a variable whose values have run away, naming the circle that drives it, if there is one."""
    around = circle(name, others, spec)
    if not around:
        return "Inspect the trace, and rows with extreme predictors; bounds= limits imputed values"
    names = listing(dict.fromkeys(around))
    steps = " -> ".join(repr(each) for each in around)
    made = {record.name for record in spec.derived} & set(around)
    block = "" if made else f"impute {names} in one block (blocks=), "
    return (
        f"They drive each other: {steps}, where each predicts, or is used to compute, the next. Leave one of "
        f"these predictors out of its formula, {block}or give them bounds="
    )


def computed_from_itself(
    block: str, name: str, column: str, derived: Sequence[Derived], in_table: bool
) -> str:
    """Why a column computed from a variable cannot predict it: the circle, and what to do."""
    way = _way(_gives((), derived), name, column)
    around = " -> ".join(repr(each) for each in (*way, name))
    own = {record.name: record for record in derived}
    others = sorted(
        {v for step in way if step in own for v in own[step].ingredients if v not in (*way, INTERCEPT)}
    )
    instead = f" and use {listing(others)} instead" if others else ""
    variable = (
        f", or impute '{column}' as a separate variable by removing it from derived=" if in_table else ""
    )
    return (
        f"'{column}' is computed from '{name}', so it cannot predict '{name}': each would determine the next in the "
        f"circle {around}, and imputed values run away in such circles. Remove '{column}' from the predictors of "
        f"'{block}'{instead}{variable}."
    )


def computed_circles(
    blocks: Sequence[ConditionalModel], derived: Iterable[Derived], values: Mapping[str, NDArray[np.float64]]
) -> list[tuple[str, list[str], list[str]]]:
    """Circles through computed columns: (column, ingredients, variables that it predicts and that predict these).

    Only circles in which nothing is bounded. ``values``: base columns with missing cells filled in.
    """
    derived = list(derived)
    free = [b for b in blocks if unlimited(b.family, b.method)]
    gives, computes = _gives(free, derived), _gives((), derived)
    found = []
    for record in derived:
        behind = [x for b in free for x in b.responses if _way(computes, x, record.name)]
        ahead = [y for y in gives.get(record.name, ()) if set(gives.get(y, ())) & set(behind)]
        ahead = list(dict.fromkeys(y for y in ahead if y not in (d.name for d in derived)))
        behind = [x for x in behind if any(x in gives[y] for y in ahead)]
        if ahead and behind and not _is_sum(record, values):
            found.append((record.name, behind, ahead))
    return found


def _gives(blocks: Iterable[ConditionalModel], derived: Iterable[Derived]) -> dict[str, list[str]]:
    """Variable or computed column -> those that it predicts or of which it is an ingredient."""
    out: dict[str, list[str]] = {}
    for block in blocks:
        for part in {part for c in block.fixed for part in (c.base, *(c.over or ()))}:
            out.setdefault(part, []).extend(block.responses)
    for record in derived:
        for part in record.ingredients:
            out.setdefault(part, []).append(record.name)
    return out


def _way(gives: Mapping[str, Sequence[str]], start: str, end: str) -> list[str]:
    """The shortest path of at least one step; empty if there is none."""
    came: dict[str, str] = {}
    waiting = deque([start])
    while waiting and end not in came:
        at = waiting.popleft()
        for step in gives.get(at, ()):
            if step not in came:
                came[step] = at
                waiting.append(step)
    if end not in came:
        return []
    way = [end]
    while True:
        way.append(came[way[-1]])
        if way[-1] == start:
            return way[::-1]


def _is_sum(record: Derived, values: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether a computed column is linear in its ingredients, so that midway between two rows it has their mean value."""
    if isinstance(record.evaluate, OverCluster):  # means and sums are linear; sizes have no ingredients
        return True
    here = {name: values[name] for name in record.ingredients}
    there = {name: np.roll(x, 1) for name, x in here.items()}
    with np.errstate(all="ignore"):
        middle = record.evaluate({name: (here[name] + there[name]) / 2 for name in here})
        mean = (record.evaluate(here) + record.evaluate(there)) / 2
    known = np.isfinite(middle) & np.isfinite(mean)
    return bool(np.allclose(middle[known], mean[known], rtol=1e-9, atol=0))

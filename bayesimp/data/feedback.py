"""Variables drawn through a log link, as predictors of what predicts them.

A count c is drawn from exp(a + b x). Where x is drawn from a + b c in turn, the two are conditionals of no proper joint
law that we know of: in rows that lack both, imputed values run away (tests/calibration/FEEDBACK_RESULTS.md). Given such
a c, a normal x has a mean that is about linear in log c, and with log c the two are as stable as two normal variables.
So default models of variables without a limit take logarithms, and formulas that do not are noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bayesimp.data.incomplete import IncompleteData
from bayesimp.data.where import listing
from bayesimp.spec.conditional import Block
from bayesimp.spec.methods import Method

__all__ = ["LOGS", "drawn_by_logs", "driven_by", "feeding_back", "note", "unlimited"]

LOGS = {"poisson": "log1p", "negative_binomial": "log1p", "gamma": "log", "inverse_gaussian": "log"}


def drawn_by_logs(data: IncompleteData, methods: Mapping[str, Method]) -> dict[str, str]:
    """The function of each variable, of those with a method, that its model has a linear predictor for.

    Matched values end at the largest observed one, and are none of these.
    """
    return {
        name: LOGS[data.families[name]]
        for name, method in methods.items()
        if data.families[name] in LOGS and getattr(method, "donors", None) is None
    }


def unlimited(family: str, method: Method) -> bool:
    """Whether what is imputed of a variable has no limit: it is neither one of few levels nor matched."""
    return (family == "normal" or family in LOGS) and getattr(method, "donors", None) is None


def feeding_back(name: str, blocks: Iterable[Block], logs: Iterable[str]) -> list[str]:
    """Variables drawn through a log link that predict `name` as they are, and that it predicts."""
    made = {response: block for block in blocks for response in block.responses}
    known = set(logs)
    direct = {part for c in made[name].fixed for part in (c.base, *(c.over or ())) if part in known}
    back = {other for other, block in made.items() for c in block.fixed if name in (c.base, *(c.over or ()))}
    return [other for other in made if other in direct & back]


def driven_by(name: str, blocks: Sequence[Block]) -> list[str]:
    """Variables without a limit that a variable drawn through a log link predicts as it is, and that predict it."""
    others = [(other, b) for b in blocks for other in b.responses if other != name]
    return [
        other for other, b in others if unlimited(b.family, b.method) and feeding_back(other, blocks, [name])
    ]


def note(name: str, family: str, others: list[str], logs: Mapping[str, str]) -> str:
    """What to know of such a pair, and what to do; family: of `name`."""
    terms = listing([f"{logs[other]}({other})" for other in others])
    bounds = "bounds= on it, " if family == "normal" else ""
    return (
        f"{listing(others)} and '{name}' predict each other, the former by a log link: imputed values can run away. "
        f"Stable are {terms} in the formula of '{name}', {bounds}or matching ('pmm')"
    )

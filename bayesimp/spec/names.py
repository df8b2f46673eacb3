"""What a name that is not known may have meant: the one rule behind every "did you mean"."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Any

__all__ = ["closest"]

ALIKE = 0.6  # least similarity (difflib's ratio) of names that are offered
AS_GOOD = 0.1  # names this much less alike than the best are not


def closest(name: Any, known: Iterable[str], most: int = 3) -> list[str]:
    """Known names like `name`, best first, whatever the case; only those about as close as the best.

    ``gausian`` is close to ``gaussian``; that ``inverse_gaussian`` shares most letters with it is no reason to offer it.
    A name that begins as `name` does (three letters at least) is close as well.
    """
    wanted = str(name).strip().lower()
    scored = []
    for value in dict.fromkeys(known):
        low = value.lower()
        score = SequenceMatcher(None, low, wanted).ratio()
        if len(wanted) >= 3 and low.startswith(wanted):
            score = max(score, 0.8)
        if score >= ALIKE:
            scored.append((score, value))
    best = max((score for score, _ in scored), default=0.0)
    near = sorted((pair for pair in scored if pair[0] >= best - AS_GOOD), key=lambda pair: -pair[0])
    return [value for _, value in near[:most]]

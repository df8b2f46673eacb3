"""Wording shared by messages, tables and figures: rows and clusters concerned, "did you mean", short labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from os.path import commonprefix  # character by character
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NOTHING_KEPT",
    "closest",
    "did_you_mean",
    "listing",
    "shortened",
    "shown",
    "signed",
    "suggestion",
    "where",
]

NOTHING_KEPT = (  # after an interruption
    "The run was interrupted before its first imputation, so there is nothing to keep. Run it again, or with smaller "
    "tune= and draws=."
)
ALIKE = 0.6  # least similarity (difflib's ratio) of a suggested name
ELLIPSIS = "\u2026"
LONGEST = 28  # characters of a label at an axis
AS_GOOD = 0.1  # suggested names are at most this much less similar than the best


def listing(values: Iterable, most: int = 5) -> str:
    """``'a', 'b', 'c' and 7 more``."""
    values = [repr(getattr(value, "item", lambda value=value: value)()) for value in values]
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def shown(value: Any) -> str:
    """A value as code, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def where(
    rows: NDArray[np.bool_],
    codes: NDArray[np.integer] | None = None,
    labels: Sequence | None = None,
    index: Sequence | None = None,
) -> str:
    """``in 12 of 90 rows (first: rows 0, 3, 4) of 3 clusters ('A', 'B', 'C')``.

    Parameters
    ----------
    rows
        (n,) bool, the rows concerned.
    codes, labels
        (n,) integer cluster of each row, and the clusters' labels; without them, clusters are not mentioned.
    index
        (n,) labels of the rows; without them, positions are given.
    """
    positions = np.flatnonzero(rows)
    first = positions[:3] if index is None else [index[i] for i in positions[:3]]
    text = f"in {len(positions):,} of {len(rows):,} rows (first: {listing(first)})"
    if codes is None or labels is None:
        return text
    touched = np.unique(np.asarray(codes)[positions])
    plural = "" if len(touched) == 1 else "s"
    return f"{text} of {len(touched):,} cluster{plural} ({listing(labels[i] for i in touched)})"


def suggestion(name: str, possible: Iterable[str]) -> str:
    """``Did you mean 'sex'? There are: 'age', 'sex'.``"""
    possible = [str(value) for value in possible]
    return f"{did_you_mean(name, possible)}There are: {listing(possible, most=30)}."


def did_you_mean(
    name: Any, known: Iterable[str], most: int = 3, write: Callable[[str], str] = repr, did: str = "Did"
) -> str:
    """``Did you mean 'sex' or 'site'? ``, with a blank at its end; empty if no known name is similar.

    most: number of names suggested; write: how a name is written; did: "did" within a sentence.
    """
    close = closest(name, known, most)
    return f"{did} you mean {' or '.join(map(write, close))}? " if close else ""


def closest(name: Any, known: Iterable[str], most: int = 3) -> list[str]:
    """Known names similar to `name`, ignoring case, best first; only those about as close as the best.

    ``gausian`` is close to ``gaussian``; ``inverse_gaussian`` is not suggested although it shares most letters. A name
    that begins with `name` (at least three letters) is close as well.
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


def shortened(names: Sequence[str], most: int = LONGEST) -> list[str]:
    """Labels of at most `most` characters, without the middle or what alike names share; always distinct."""
    short = {name: _without_middle(name, most) for name in names}
    alike: dict[str, list[str]] = {}
    for name, label in short.items():
        alike.setdefault(label, []).append(name)
    for group in alike.values():
        if len(group) > 1:
            short |= dict(zip(group, _without_shared(group, most), strict=True))
    return [short[name] for name in names] if len(set(short.values())) == len(short) else list(names)


def _without_shared(names: Sequence[str], most: int) -> list[str]:
    """Names without the beginning and the end that they share, apart from the first characters and the last word."""
    start, end = (commonprefix(each) for each in ([*names], [name[::-1] for name in names]))  # noqa: RUF071
    own = [name[len(start) : len(name) - len(end)] for name in names]
    word = re.search(r"\w*\W*$", start)
    if word and len(word[0]) + max(map(len, own)) + 2 <= most // 2:
        own = [word[0] + part for part in own]
        start = start[: word.start()]
    head = start[: max(most - max(map(len, own)) - 2, 0)].rstrip()
    return [_without_middle(f"{head}{ELLIPSIS}{part}{ELLIPSIS if end else ''}", most) for part in own]


def _without_middle(name: str, most: int) -> str:
    end = most // 3
    return name if len(name) <= most else f"{name[: most - end - 1].rstrip()}{ELLIPSIS}{name[-end:].lstrip()}"


def signed(value: float) -> str:
    """A change with two decimals and its sign; what rounds to zero is "+0.00", whatever its sign."""
    return f"{round(value, 2) + 0.0:+.2f}"

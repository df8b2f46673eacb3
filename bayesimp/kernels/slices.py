"""Slice sampling of one number by stepping out and shrinkage (Neal 2003, sec. 4.1, figures 3 and 5).

    height = log p(now) - Exp(1)
    an interval of the given width, placed at random around `now`; either end moves outwards by its width while log p at
    that end is above the height, and the moves of both ends together number fewer than `limit`
    places uniform in the interval; one below the height becomes the end on its side, the first that is not is the draw

Any width leaves the distribution invariant, so a poor one only costs evaluations. numba would compile the search once
more for every density that is passed to it as a function, so the caller evaluates the density in a loop, at one place in
its code:

    search = np.empty(ENTRIES)
    at = begin_slice(rng, log_p(now), now, width, limit, least, most, search)
    while search[PHASE] != DONE:
        at = next_on_slice(rng, at, log_p(at), search)          # once it is DONE, the draw

The density is evaluated between `least` and `most` only. If `limit` or these bounds are finite, a search ends whatever
the density returns, nan included: an interval shorter than rounding errors (`SHORTEST`) ends it at `now`. The state:

    PHASE    of the search, DONE once the last place is the draw           NOW          the present value
    HEIGHT   of the slice                                                  WIDTH        of the first interval
    LOW, HIGH    ends of the interval                                      LEAST, MOST  bounds of the number
    LEFT, RIGHT  moves outwards that remain on either side
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.notation import Vector

__all__ = ["DONE", "DOWN", "ENTRIES", "HEIGHT", "LOW", "NOW", "PHASE", "begin_slice", "begin_within", "next_on_slice",
           "place_interval"]  # fmt: skip

SHORTEST = 1e-12  # length of an interval, relative to 1 + |now|
DONE, DOWN, UP, SHRINK = -1.0, 1.0, 2.0, 3.0
PHASE, HEIGHT, LOW, HIGH, LEFT, RIGHT, NOW, WIDTH, LEAST, MOST, ENTRIES = range(11)  # ENTRIES: how many


@inner
def place_interval(
    rng: np.random.Generator,
    now: float,
    width: float,
    limit: float,
    least: float,
    most: float,
    search: Vector,
) -> None:
    """The interval around `now`, and how often either end may move: limit - 1 times in all (inf: without limit)."""
    search[NOW], search[WIDTH], search[LEAST], search[MOST] = now, width, least, most
    search[LOW] = now - width * rng.random()
    search[HIGH] = search[LOW] + width
    search[LEFT] = search[RIGHT] = limit
    if limit < math.inf:
        search[LEFT] = math.floor(limit * rng.random())
        search[RIGHT] = limit - 1.0 - search[LEFT]


@inner
def begin_slice(
    rng: np.random.Generator,
    value: float,
    now: float,
    width: float,
    limit: float,
    least: float,
    most: float,
    search: Vector,
) -> float:
    """The first place at which to evaluate the density, which has the logarithm `value` at `now`."""
    search[HEIGHT] = value - rng.standard_exponential()
    search[PHASE] = DOWN
    place_interval(rng, now, width, limit, least, most, search)
    return _next_place(rng, search)


@inner
def begin_within(
    rng: np.random.Generator, value: float, now: float, least: float, most: float, search: Vector
) -> float:
    """As `begin_slice`, but the interval is (least, most) from the beginning."""
    search[HEIGHT] = value - rng.standard_exponential()
    search[PHASE], search[NOW] = SHRINK, now
    search[LOW], search[HIGH], search[LEAST], search[MOST] = least, most, least, most
    return _next_place(rng, search)


@inner
def next_on_slice(rng: np.random.Generator, at: float, value: float, search: Vector) -> float:
    """The next place, after the log density had `value` at `at`; once search[PHASE] is DONE, the draw itself."""
    phase, above = search[PHASE], value > search[HEIGHT]
    if phase == DOWN:
        if above and search[LEFT] > 0.0:
            search[LOW] -= search[WIDTH]
            search[LEFT] -= 1.0
        else:
            search[PHASE] = UP
    elif phase == UP:
        if above and search[RIGHT] > 0.0:
            search[HIGH] += search[WIDTH]
            search[RIGHT] -= 1.0
        else:
            search[PHASE] = SHRINK
    elif value >= search[HEIGHT]:
        search[PHASE] = DONE
        return at
    elif search[HIGH] - search[LOW] < SHORTEST * (1.0 + abs(search[NOW])):
        search[PHASE] = DONE
        return search[NOW]
    else:
        search[LOW if at < search[NOW] else HIGH] = at
    return _next_place(rng, search)


@inner
def _next_place(rng: np.random.Generator, search: Vector) -> float:
    """The end that may move outwards; if neither may, a place between them."""
    if search[PHASE] == DOWN:
        if search[LOW] > search[LEAST]:
            return search[LOW]
        search[PHASE] = UP
    if search[PHASE] == UP:
        if search[HIGH] < search[MOST]:
            return search[HIGH]
        search[PHASE] = SHRINK
    search[LOW], search[HIGH] = max(search[LOW], search[LEAST]), min(search[HIGH], search[MOST])
    return search[LOW] + (search[HIGH] - search[LOW]) * rng.random()

"""Where to evaluate the log density of a missing cell next: level after level, or by slice sampling (Neal 2003).

The density is evaluated at one place in the code (kernels/factors/cells.py), whatever is drawn, so that it is compiled
once: `first_place` says where to begin; `next_place` takes the value found there and says where to continue, or that the
draw is done. The state of the search is kept in an array:

    LEVELS   number of levels           the others   those of kernels/slices.py, with the further phase FIRST
"""

from __future__ import annotations

import math

import numpy as np

from bayesimp.kernels.compiled import inner
from bayesimp.kernels.factors.arrays import COUNT, ENUMERATE
from bayesimp.kernels.families.beta import polygammas, shares
from bayesimp.kernels.families.codes import (
    BETA,
    GAMMA,
    HURDLE_NEGATIVE_BINOMIAL,
    INVERSE_GAUSSIAN,
    LOGNORMAL,
    NEGATIVE_BINOMIAL,
    STUDENT,
    YEO_JOHNSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
)
from bayesimp.kernels.slices import (
    DONE,
    DOWN,
    ENTRIES,
    HEIGHT,
    LOW,
    NOW,
    PHASE,
    next_on_slice,
    place_interval,
)
from bayesimp.notation import Vector

__all__ = [
    "DONE",
    "PHASE",
    "first_place",
    "log_jacobian",
    "next_place",
    "response_at",
    "search_scale",
    "slice_width",
]

STEPS = 50.0  # largest number of steps outwards per slice
PLAIN, LOGARITHMS, LOGITS = range(3)  # scales of the search
LEAST = 0.05  # a, b of a beta; below this, widths grow no further
FIRST, LEVELS = 0.0, ENTRIES


@inner
def search_scale(family: int) -> int:
    """Scale of the search for a number: its own, its logarithm if positive, or its logit if a proportion."""
    if family == BETA:
        return LOGITS
    return LOGARITHMS if family == GAMMA or family == INVERSE_GAUSSIAN or family == LOGNORMAL else PLAIN


@inner
def response_at(scale: int, at: float) -> float:
    """The number at a place of the search."""
    if scale == LOGARITHMS:
        return math.exp(at)
    return shares(at)[0] if scale == LOGITS else at


@inner
def log_jacobian(scale: int, at: float) -> float:
    """log dy / d at: `at` for y = e^at, log y (1 - y) for y = 1 / (1 + e^-at)."""
    if scale == LOGARITHMS:
        return at
    return -abs(at) - 2.0 * math.log1p(math.exp(-abs(at))) if scale == LOGITS else 0.0


@inner
def slice_width(family: int, shape: float, eta: float) -> float:
    """Width of a slice: about two standard deviations of a cell given its own factor alone."""
    if family < 0 or family == STUDENT:
        return 2.0 * shape
    if family == GAMMA or family == INVERSE_GAUSSIAN:
        return 2.0 / math.sqrt(shape) if shape > 0.25 else 4.0
    if family == YEO_JOHNSON:  # for any lambda
        return 2.0 * shape * (1.0 + abs(eta))
    if family == LOGNORMAL:
        return 2.0 / math.sqrt(shape)
    if family == BETA:  # var logit y = psi_1(a) + psi_1(b)
        mu, rest = shares(eta)
        a, b = max(mu * shape, LEAST), max(rest * shape, LEAST)
        return 2.0 * math.sqrt(polygammas(a)[1] + polygammas(b)[1])
    mean = math.exp(min(eta, 30.0))
    overdispersed = (
        family == NEGATIVE_BINOMIAL
        or family == ZERO_INFLATED_NEGATIVE_BINOMIAL
        or family == HURDLE_NEGATIVE_BINOMIAL
    )
    return 2.0 + 2.0 * math.sqrt(mean + (mean * mean / shape if overdispersed else 0.0))


@inner
def first_place(
    rng: np.random.Generator, kind: int, y: float, width: float, scale: int, count: int, search: Vector
) -> float:
    """The first place at which to evaluate the target, on the scale of the search (`search_scale`)."""
    search[PHASE] = FIRST
    search[LEVELS] = count
    if kind == ENUMERATE:
        search[NOW] = 0.0
    else:
        if kind == COUNT:
            now = y + rng.random()
        elif scale == LOGITS:
            now = math.log(y) - math.log1p(-y)
        else:
            now = math.log(y) if scale == LOGARITHMS else y
        place_interval(rng, now, width, STEPS, -math.inf, math.inf, search)
    return search[NOW]


@inner
def next_place(
    rng: np.random.Generator, kind: int, at: float, value: float, search: Vector, weight: Vector
) -> float:
    """The next place, after the target had `value` at `at`; once search[PHASE] is DONE, the draw itself."""
    if kind == ENUMERATE:
        return _next_level(rng, at, value, search, weight)
    if search[PHASE] == FIRST:
        search[HEIGHT] = value - rng.standard_exponential()
        search[PHASE] = DOWN
        return search[LOW]
    return next_on_slice(rng, at, value, search)


@inner
def _next_level(rng: np.random.Generator, at: float, value: float, search: Vector, weight: Vector) -> float:
    """Levels 0, 1, .. one after the other, then a draw by their probabilities; nan if none has positive probability."""
    count = int(search[LEVELS])
    level = int(at)
    weight[level] = value
    if level + 1 < count:
        return at + 1.0
    search[PHASE] = DONE
    highest, total = -math.inf, 0.0
    for y in range(count):
        highest = max(highest, weight[y])
    if not abs(highest) < math.inf:
        return math.nan
    for y in range(count):
        weight[y] = math.exp(weight[y] - highest)
        total += weight[y]
    u = rng.random() * total
    for y in range(count):
        u -= weight[y]
        if u < 0.0:
            return float(y)
    return at

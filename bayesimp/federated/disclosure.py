"""Choose the rows and values that a site releases, so that no cell determines a row.

A cell (cluster, responses observed) of n rows with v variables, the covariates and its observed responses, is released as

    1 count + v sums + v (v + 1) / 2 cross products = (v + 1)(v + 2) / 2 numbers.

Cross products determine the centred rows up to a rotation, and if the numbers have few digits they determine the rotation
too. A cell is therefore released only if

    n > (v + 1)(v + 2) / 2    and    n >= minimum                                                              (1)
    log2 C(n + K - 1, n) >= (v + 2) S + v (v + 3) / 4 log2 n + 10,    S = sum of b_j,    K = 2^S               (2)

where variable j takes about 2^b_j values: its range divided by the smallest difference between two of its values. The
left side is the number of sets of n such rows, in bits. The right side is the number of possible releases (sums and cross
products of n rows take about sqrt n times as many values as those of one row), plus 10 bits: about a thousand sets of
rows share a release.

Within a cell, every group of rows defined by a covariate with few values, or by two of them, has at least `minimum` rows
or none: if x indicates a single row, the cross product x'y is the y of that row. The same rule covers the rows in which a
column differs from its most frequent value: a column that is zero in all rows except one is such an indicator.

A cell that is too small is changed in one of these ways, the one that loses the fewest observed values first:

    top up    random rows of a cell with more variables have the additional ones set missing, and so join it
    join      two cells are both reduced to the responses that they share
    shorten   the cell itself is reduced to fewer responses; those observed least often are kept
    drop      its rows are left out, only if nothing else is possible

Rows of groups that are too small are left out. docs/howto/federated.md says what each of these does to inference: values
set missing leave the likelihood of the others unchanged; dropping rows because of what is missing in them is selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import lgamma, log, log2

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST", "Disclosed", "numbers_released", "resolution", "rows_needed", "withhold"]

LEAST = 3  # rows of a group: DataSHIELD's nfilter.tab
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Cells = dict[int, Ints]  # responses observed, as bits -> rows
Need = Callable[[int], int]  # responses observed, as bits -> number of rows that their cell needs
SPARE = 10.0  # bits: how many sets of rows a release must leave possible
MOST_BITS = 40.0  # bits of a row above which C(n + K - 1, n) equals K^n / n! to rounding
NEVER = 10_000  # upper limit of the search for the rows that a cell needs


def numbers_released(variables: int) -> int:
    """The number of numbers released for a cell with this many variables."""
    return (variables + 1) * (variables + 2) // 2


def rows_needed(variables: int, minimum: int, bits: float = np.inf) -> int:
    """The least number of rows of a cell, by (1) and (2); `bits` is S, over all its variables."""
    n = max(minimum, numbers_released(variables) + 1)
    while n < NEVER and _sets_of_rows(n, bits) < _releases(n, variables, bits) + SPARE:
        n += 1
    return n


def _sets_of_rows(n: int, bits: float) -> float:
    """log2 C(n + 2^bits - 1, n)."""
    if bits == np.inf:
        return np.inf
    if bits > MOST_BITS:
        return n * bits - lgamma(n + 1) / log(2)
    K = 2.0**bits
    return (lgamma(n + K) - lgamma(n + 1) - lgamma(K)) / log(2)


def _releases(n: int, variables: int, bits: float) -> float:
    return 0.0 if bits == np.inf else (variables + 2) * bits + variables * (variables + 3) / 4 * log2(n)


def resolution(values: NDArray[np.float64]) -> float:
    """The bits b of the values (n,) of a variable, ignoring NaN; 0 if it has one value only."""
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) < 2:
        return 0.0
    return float(np.log2(1 + (distinct[-1] - distinct[0]) / np.diff(distinct).min()))


@dataclass(frozen=True)
class Disclosed:
    """What is released, and how much is withheld.

    Attributes
    ----------
    observed
        (N, r) which responses of each row are released; none for a row that is not released.
    rows, empty, dropped, of_small_groups
        Number of rows: all; those without an observed response, which say nothing about the parameters; those dropped;
        those in small groups.
    masked
        (r,) number of values of each response that are set missing in released rows.
    """

    observed: Bools
    rows: int
    empty: int
    dropped: int
    of_small_groups: int
    masked: Ints

    @property
    def released(self) -> int:
        """Number of released rows."""
        return int(self.observed.any(axis=1).sum())


def withhold(
    observed: Bools,
    codes: Ints,
    covariates: NDArray[np.float64],
    responses: NDArray[np.float64],
    discrete: Sequence[Ints],
    minimum: int,
    rng: np.random.Generator,
) -> Disclosed:
    """Choose what is released.

    Parameters
    ----------
    observed
        (N, r) which responses are observed, r <= 62.
    codes
        (N,) cluster of each row.
    covariates, responses
        (N, v) without the constant, (N, r).
    discrete
        Codes (N,) of each covariate with few values.
    minimum
        Least number of rows of a group.
    rng
        Chooses the rows with which a cell is topped up. The same rows must give the same release: two different releases
        of one table could be subtracted from each other.

    Returns
    -------
    What is released. It depends on which responses are observed, and on their values only where all but a few rows of a
    cell have the same value.
    """
    N, r = observed.shape
    bits = 1 << np.arange(r, dtype=np.int64)
    before = observed @ bits
    after = before.copy()
    of_covariates = sum(resolution(x) for x in covariates.T)
    of_responses = [resolution(y) for y in responses.T]

    @cache
    def need(a: int) -> int:
        own = of_covariates + sum(b for k, b in enumerate(of_responses) if a >> k & 1)
        return rows_needed(covariates.shape[1] + a.bit_count(), minimum, own)

    scarce = [1 << int(k) for k in np.argsort(observed.sum(axis=0), kind="stable")]
    groups = [*discrete, *(_pairs(a, b) for a, b in combinations(discrete, 2))]
    small = np.zeros(N, dtype=bool)
    order = np.argsort(codes, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        while True:
            cells = _cells(rows[(after[rows] != 0) & ~small[rows]], after)
            too_small = [a for a, of in cells.items() if len(of) < need(a)]
            if too_small:
                _enlarge(min(too_small, key=lambda a: (len(cells[a]), a)), cells, after, need, scarce, rng)
                continue
            alone = [
                _in_small_groups(
                    of, groups, [*covariates[of].T, *responses[of][:, (a & bits) > 0].T], minimum
                )
                for a, of in cells.items()
            ]
            if not any(len(of) for of in alone):
                break
            small[np.concatenate(alone)] = True
    after[small] = 0
    kept = (after[:, None] & bits) > 0
    there = after != 0
    masked = (observed & ~kept)[there].sum(axis=0)
    dropped = int(((before != 0) & ~there & ~small).sum())
    return Disclosed(kept, N, int((before == 0).sum()), dropped, int(small.sum()), masked)


def _pairs(a: Ints, b: Ints) -> Ints:
    return a * (int(b.max(initial=0)) + 1) + b


def _cells(rows: Ints, patterns: Ints) -> Cells:
    return {int(a): rows[patterns[rows] == a] for a in np.unique(patterns[rows])}


def _in_small_groups(
    rows: Ints, groups: Sequence[Ints], columns: Sequence[NDArray[np.float64]], minimum: int
) -> Ints:
    """The rows of a cell in groups smaller than the minimum; `columns` are (rows,) each, as released."""
    small = np.zeros(len(rows), dtype=bool)
    for codes in groups:
        _, group, count = np.unique(codes[rows], return_inverse=True, return_counts=True)
        small |= (count < minimum)[group]
    for x in columns:
        _, group, count = np.unique(x, return_inverse=True, return_counts=True)
        if 0 < len(rows) - count.max() < minimum:
            small |= group != count.argmax()
    return rows[small]


def _enlarge(
    a: int, cells: Cells, patterns: Ints, need: Need, scarce: list[int], rng: np.random.Generator
) -> None:
    """Change the patterns of rows, so that cell a becomes large enough or closer to it; this always loses values."""
    rows, size = cells[a], len(cells[a])
    lacking = need(a) - size
    ways: list[tuple[int, int, int, int]] = []  # values lost, kind, other cell, new pattern
    for b, others in cells.items():
        if b == a:
            continue
        if b & a == a and len(others) - lacking >= need(b):
            ways.append((lacking * (b & ~a).bit_count(), 0, b, a))
        if common := a & b:
            lost = size * (a & ~common).bit_count() + len(others) * (b & ~common).bit_count()
            ways.append((lost, 1, b, common))
    for k in range(a.bit_count() - 1, 0, -1):
        shorter = sum([bit for bit in scarce if bit & a][:k])
        if size >= need(shorter):
            ways.append((size * (a.bit_count() - k), 2, a, shorter))
            break
    if not ways:
        patterns[rows] = 0
        return
    _, kind, b, then = min(ways)
    if kind == 0:
        patterns[rng.permutation(cells[b])[:lacking]] = then
    else:
        patterns[rows] = then
        patterns[cells[b]] = then

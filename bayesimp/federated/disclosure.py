"""Which rows and values of a site its release is made of, so that no cell says what a row is.

A cell (cluster, responses observed) of n rows with v variables, the covariates and its observed responses, is released as

    1 count + v sums + v (v + 1) / 2 cross products = (v + 1)(v + 2) / 2 numbers.

Centred rows are known from their cross products up to a rotation, and numbers of few digits fix that too. So a cell is
released only if

    n > (v + 1)(v + 2) / 2    and    n >= minimum                                                              (1)
    log2 C(n + K - 1, n) >= (v + 2) S + v (v + 3) / 4 log2 n + 10,    S = sum of b_j,    K = 2^S               (2)

where variable j takes about 2^b_j values, its range divided by the smallest difference of two of its values. On the left
is the number of sets of n such rows, in bits; on the right that of releases (sums and cross products over n rows spread
over some sqrt n times the values of one row), and 10: about a thousand sets of rows share a release.

Every group of rows that a covariate with few values, or two of them, forms within a cell has `minimum` rows or none: with
an indicator x of one row, the cross product x'y is that row's y. The same holds for the rows in which a column differs
from its most frequent value: zero but for one row, it is such an indicator.

What is done about a cell that is too small, in the order of the observed values that are lost:

    top up    rows of a cell that has more variables, chosen at random, have these set missing, so that they join it
    join      two cells are both reduced to the responses that they share
    shorten   the cell itself is reduced to fewer responses, those that are observed least often being kept
    drop      its rows are left out; only if nothing else is possible

Rows of groups that are too small are left out. What each does to inference is in docs/howto/federated.md: values that are
set missing leave the likelihood of the others; rows that are dropped because of what is missing in them are a selection.
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
Need = Callable[[int], int]  # responses observed, as bits -> rows that their cell needs
SPARE = 10.0  # bits: of how many sets of rows a release may be
MOST_BITS = 40.0  # of a row, above which C(n + K - 1, n) is K^n / n! to rounding
NEVER = 10_000  # rows of a cell beyond which nobody looks


def numbers_released(variables: int) -> int:
    """Numbers that a cell with so many variables is released as."""
    return (variables + 1) * (variables + 2) // 2


def rows_needed(variables: int, minimum: int, bits: float = np.inf) -> int:
    """The least number of rows of a cell, by (1) and (2); bits: S, of all its variables."""
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
    """b: bits of the values (n,) of a variable, NaN aside; 0 if it has one value only."""
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) < 2:
        return 0.0
    return float(np.log2(1 + (distinct[-1] - distinct[0]) / np.diff(distinct).min()))


@dataclass(frozen=True)
class Disclosed:
    """What a release is made of.

    Attributes
    ----------
    observed
        (N, r) which responses are released of each row; none of rows that are not released.
    rows, empty, dropped, of_small_groups
        Rows in all; without an observed response, which say nothing of the parameters; dropped; in small groups.
    masked
        (r,) values of each response that are set missing in rows which are released.
    """

    observed: Bools
    rows: int
    empty: int
    dropped: int
    of_small_groups: int
    masked: Ints

    @property
    def released(self) -> int:
        """Rows that are released."""
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
        Codes (N,) of each covariate that has few values.
    minimum
        Least number of rows of a group.
    rng
        Chooses the rows that a cell is topped up with. The same rows must give the same release: two different ones of
        one table could be subtracted from each other.

    Returns
    -------
    What is released. Of the responses it depends on which are observed, and on values only where all but a few rows of a
    cell have the same.
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
    """The rows of a cell that are in a group of fewer rows than the minimum; columns: (rows,) each, as released."""
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
    """Write other patterns to rows, so that cell a is large enough or closer to it; values are lost in every case."""
    rows, size = cells[a], len(cells[a])
    lacking = need(a) - size
    ways: list[tuple[int, int, int, int]] = []  # values lost, kind, the other cell, the pattern then
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

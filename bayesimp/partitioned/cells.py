"""Completed rows as counts: a chain of chained equations on the contingency table of a table's rows.

A cell is a kind of row d (a distinct row of the incomplete table), with values y of its missing variables, and n_dy > 0
rows. Rows of one kind are alike, so the chain of all rows, seen only through its counts, is itself a Markov chain:

    sums        of y_k and n over cells with y_k observed and the same cluster and predictors     what a GLMM needs
    split       the N rows with the same kind and other values:  (n_1, n_2, ..) ~ Multinomial(N, p(y_k | predictors))

Splitting N rows at once and drawing them one by one is the same distribution. Counts are split value by value,
n_v ~ Binomial(rows left, p_v / (p_v + p_v+1 + ..)), so that no largest count is assumed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, ndtr, pdtrc, xlogy

from bayesimp.kernels.families.codes import LOGIT, POISSON
from bayesimp.notation import Array

__all__ = ["CountCells", "FAMILIES", "alike", "merged", "moments", "split", "split_by_shares"]

FEW = 32  # rows up to which counts are drawn one by one
FAMILIES = ("bernoulli", "poisson")
Codes = NDArray[np.int64]


class CountCells(NamedTuple):
    """kind (C,): distinct row; y (C, K): values of the K incomplete variables, positions of levels or counts; n (C,)."""

    kind: Codes
    y: Codes
    n: Codes

    def some(self, which: NDArray[np.bool_]) -> CountCells:
        """Some of the cells."""
        return CountCells(self.kind[which], self.y[which], self.n[which])

    def joined(self, other: CountCells) -> CountCells:
        """These and others."""
        return CountCells(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def sorted(self) -> CountCells:
        """By kind, then by values."""
        order = np.lexsort([*self.y.T[::-1], self.kind])
        return CountCells(self.kind[order], self.y[order], self.n[order])


def alike(*columns: Codes) -> tuple[Codes, Codes]:
    """Rows with equal columns, each of whole numbers from 0: a row of each group (G,), and the group of each (n,).

    Groups are in the order of the columns, the first one first.
    """
    key, size = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        if size * width >= 2**62:  # more combinations than numbers, so only those that occur are numbered
            key = np.unique(key, return_inverse=True)[1]
            size = int(key.max(initial=0)) + 1
        key, size = key * width + column, size * width
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return first, group


def merged(cells: CountCells, k: int) -> CountCells:
    """CountCells that differ in variable k only, merged; it becomes 0."""
    y = cells.y.copy()
    y[:, k] = 0
    first, group = alike(cells.kind, *y.T)
    n = np.zeros(len(first), dtype=np.int64)
    np.add.at(n, group, cells.n)
    return CountCells(cells.kind[first], y[first], n)


def split(rng: np.random.Generator, cells: CountCells, k: int, family: int, eta: Array) -> CountCells:
    """The rows of each cell (C,), with variable k drawn given their linear predictors eta (C,)."""
    if family == POISSON:
        return _split_counts(rng, cells, k, np.exp(eta))
    p = expit(eta) if family == LOGIT else ndtr(eta)
    ones = rng.binomial(cells.n, p)
    none, one = (
        CountCells(cells.kind, _with(cells.y, k, value), n) for value, n in ((0, cells.n - ones), (1, ones))
    )
    both = none.joined(one)
    return both.some(both.n > 0)


def _split_counts(rng: np.random.Generator, cells: CountCells, k: int, mean: Array) -> CountCells:
    """As `split`, for Poisson counts with these means."""
    few = cells.n <= FEW
    one, many = cells.some(few), cells.some(~few)
    repeated = np.repeat(np.arange(len(one.n)), one.n)
    drawn = rng.poisson(mean[few][repeated]).astype(np.int64)
    first, group = alike(repeated, drawn)
    at, n = repeated[first], np.bincount(group, minlength=len(first)).astype(np.int64)
    out = [CountCells(one.kind[at], _with(one.y[at], k, drawn[first]), n)]
    rest, mu, value = many.n.copy(), mean[~few], 0
    while len(rest):
        above = pdtrc(value, mu)  # P(y > value)
        here = np.exp(xlogy(value, mu) - mu - gammaln(value + 1.0))  # P(y = value)
        n = rng.binomial(rest, np.divide(here, here + above, out=np.ones(len(mu)), where=here + above > 0))
        made = CountCells(many.kind, _with(many.y, k, value), n)
        out.append(made.some(n > 0))
        rest = rest - n
        many, mu, rest, value = many.some(rest > 0), mu[rest > 0], rest[rest > 0], value + 1
    return CountCells(*(np.concatenate(parts) for parts in zip(*out, strict=True)))


def split_by_shares(rng: np.random.Generator, cells: CountCells, k: int, shares: Array) -> CountCells:
    """The rows of each cell, with variable k drawn from the distribution shares (C, V) over the values 0..V-1."""
    n = rng.multinomial(cells.n, shares)
    at, value = np.nonzero(n)
    return CountCells(cells.kind[at], _with(cells.y[at], k, value), n[at, value])


def moments(cells: CountCells, values: Array) -> tuple[float, float]:
    """Mean and standard deviation of values (C,) over the rows; nan without enough rows."""
    n = cells.n.sum()
    mean = float(cells.n @ values / n) if n else np.nan
    return mean, float(np.sqrt(cells.n @ (values - mean) ** 2 / (n - 1))) if n > 1 else np.nan


def _with(y: Codes, k: int, value: Codes | int) -> Codes:
    out = y.copy()
    out[:, k] = value
    return out

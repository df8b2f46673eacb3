"""Which cluster means make a conditional model compatible with a joint one.

In the joint model Y = X beta + Z B + E, the conditional mean of y_k contains, in addition to X and the other responses,
Z_i times a matrix times Z_i'(Y_-k - X beta_-k). This is a regression on the columns

    z_ijl * mean_i(z_h u)      for columns z_l, z_h of Z and u of (Y_-k, X)

Their coefficients depend on the cluster size, those of means much less than those of sums (Kunkel & Kaizar 2017, eq. 7).
Therefore means are used here, where the paper uses sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.specification.values import column_values, dependent
from bayesimp.formulas.columns import INTERCEPT, Column, cluster_column
from bayesimp.table.clusters import varies_within

__all__ = ["PER_COLUMN", "cluster_means", "clusters_needed", "contextual_bounds"]

ROUND_OFF = 1e-9  # share of a standard deviation below which that of cluster means is zero
PER_COLUMN = 5  # clusters for each between-cluster column, below which means are not added by default
Array = NDArray[np.float64]


def cluster_means(
    fixed: Sequence[Column],
    random: Sequence[Column],
    values: Mapping[str, Array],
    codes: NDArray[np.integer],
    first: Set[str] = frozenset(),
    seen: Sequence[NDArray[np.bool_]] = (),
    alone: bool = False,
    proper: bool = False,
) -> tuple[tuple[Column, ...], tuple[str, ...], tuple[str, ...]]:
    """Columns to add to ``fixed``; names of those left out as combinations of others, everywhere or in ``seen`` only.

    Parameters
    ----------
    values
        Base columns with missing cells filled in (`values.filled`).
    fixed, random
        The block's columns; one that is centred within clusters has the mean of its variable, and no products.
    first
        Columns whose means have priority if there are too few clusters for all: those of the imputed variables.
    seen
        For each response, (N,) rows in which it is observed; a mean that is a combination of others there is left out.
    alone
        Whether, there, only combinations of ``fixed`` are left out, not those due to too few clusters.
    proper
        Whether the coefficients have a proper prior, by which any number of clusters can carry them; then only
        combinations of ``fixed`` are left out anywhere.
    """
    inside = [c.base for c in fixed if c.over is None and c.base != INTERCEPT]
    inside = [base for base in inside if varies_within(values[base], codes).any()]
    wanted: dict[Column, None] = {}
    plain = [c for c in random if not c.within]
    for z_l in plain:
        for z_h in plain:
            for u in (*inside, INTERCEPT):
                if (z_h.base, u) != (INTERCEPT, INTERCEPT):  # the mean of 1 is 1
                    wanted[cluster_column(z_l.base, (z_h.base, u))] = None
    new = [column for column in wanted if column not in fixed]
    ranked = sorted(new, key=lambda column: first.isdisjoint(column.over or ()))
    matrix, p = column_values([*fixed, *ranked], values, codes, centred=True), len(fixed)
    every = np.ones(len(matrix), dtype=bool)
    out, there = _combinations(matrix, p, every, proper), np.zeros(len(ranked), dtype=bool)
    for rows in seen:
        there |= _combinations(matrix, p, rows, alone or proper)
    left, elsewhere = (
        {column for column, is_out in zip(ranked, mask, strict=True) if is_out}
        for mask in (out, there & ~out)
    )
    return (
        tuple(c for c in new if c not in left | elsewhere),
        tuple(c.name for c in new if c in left),
        tuple(c.name for c in new if c in elsewhere),
    )


def _combinations(matrix: Array, p: int, rows: NDArray[np.bool_], alone: bool) -> NDArray[np.bool_]:
    """Which columns from the p-th on are in these rows combinations of the first p, or (not alone) of any before."""
    if not alone:
        return dependent(matrix[rows])[p:]
    each = [[*range(p), j] for j in range(p, matrix.shape[1])]
    return np.array([dependent(matrix[rows][:, columns])[-1] for columns in each], dtype=bool)


def contextual_bounds(
    fixed: Sequence[Column],
    responses: Sequence[str],
    values: Mapping[str, Array],
    codes: NDArray[np.integer],
) -> tuple[tuple[Column, tuple[float, ...]], ...]:
    """sd_i(ybar_i) / sd_i(xbar_i) for each mean of an x and each response y (`bayesimp.priors.Contextual`).

    Parameters
    ----------
    fixed
        Columns of X*. A mean has a contextual effect if x itself is there too. Together with x less its mean, or alone,
        it has the between-cluster coefficient, and is left out here; so is the mean of a response whose clusters have
        equal means, as after centring, for which gamma = -beta_w.
    values
        Base columns (N,), nan where missing: the moments are those of observed values.
    """
    plain = {c.base for c in fixed if c.over is None and not c.within}
    units = [_between_sd(values[y], codes) for y in responses]
    if any(unit <= ROUND_OFF * np.nanstd(values[y]) for unit, y in zip(units, responses, strict=True)):
        return ()
    found = []
    for column in fixed:
        if column.over is None or column.sum or (column.base, column.over[0]) != (INTERCEPT, INTERCEPT):
            continue
        x = column.over[1]
        spread = _between_sd(values[x], codes)
        if x in plain and spread > 0:
            found.append((column, tuple(unit / spread for unit in units)))
    return tuple(found)


def _between_sd(x: Array, codes: NDArray[np.integer]) -> float:
    """Standard deviation of the means of observed values in the clusters that have any; of values where one has."""
    known = np.flatnonzero(~np.isnan(x))
    known = known[np.lexsort((x[known], codes[known]))]  # the order of rows and labels changes no digit
    sizes = np.bincount(codes[known])
    means = np.sort(np.bincount(codes[known], weights=x[known])[sizes > 0] / sizes[sizes > 0])
    return float(np.std(means, ddof=1)) if len(means) > 1 else float(np.std(np.sort(x[known])))


def clusters_needed(
    columns: Sequence[Column],
    random: Sequence[Column],
    values: Mapping[str, Array],
    codes: NDArray[np.integer],
) -> int:
    """The number of clusters needed for `PER_COLUMN` per column that differs between clusters only; the maximum over
    random columns, not counting the random column itself."""
    plain = [c for c in columns if c.over is None and c.base != INTERCEPT]
    static = sum(not varies_within(values[c.base], codes).any() for c in plain)
    counts = []
    for z in random:
        means = sum(c.over is not None and c.base == z.base for c in columns)
        counts.append(means + (static if z.base == INTERCEPT else 0))
    return PER_COLUMN * max(counts, default=0)

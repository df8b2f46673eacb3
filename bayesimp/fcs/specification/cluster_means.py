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

__all__ = ["PER_COLUMN", "cluster_means", "clusters_needed"]

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
) -> tuple[tuple[Column, ...], tuple[str, ...], tuple[str, ...]]:
    """Columns to add to ``fixed``; names of those left out as combinations of others, everywhere or in ``seen`` only.

    Parameters
    ----------
    values
        Base columns with missing cells filled in (`generic.filled`).
    fixed, random
        The block's columns; one that is centred within clusters has the mean of its variable, and no products.
    first
        Columns whose means have priority if there are too few clusters for all: the imputed variables, which the option
        is about.
    seen
        For each response, (N,) rows in which it is observed; a mean that is a combination of others there is left out.
    alone
        Whether, there, only combinations of ``fixed`` are left out, not those due to too few clusters.
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
    out, there = dependent(matrix)[p:], np.zeros(len(ranked), dtype=bool)
    for rows in seen:
        each = [[*range(p), p + j] for j in range(len(ranked))]
        there |= (
            np.array([dependent(matrix[rows][:, columns])[-1] for columns in each], dtype=bool)
            if alone
            else dependent(matrix[rows])[p:]
        )
    left, elsewhere = (
        {column for column, is_out in zip(ranked, mask, strict=True) if is_out}
        for mask in (out, there & ~out)
    )
    return (
        tuple(c for c in new if c not in left | elsewhere),
        tuple(c.name for c in new if c in left),
        tuple(c.name for c in new if c in elsewhere),
    )


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

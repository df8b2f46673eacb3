"""How far the imputed values under one prior are from those under another, and how far chance alone would move them.

For a numeric variable, with F_a the distribution function of all its imputed values under prior a and s the standard
deviation of its observed values,

    distance = 1/s  integral |F_a(x) - F_o(x)| dx                   Wasserstein distance in standard deviations

and for a variable with levels, 1/2 sum_l |p_a(l) - p_o(l)|, the share of values that would have to change their level.
Both are zero only if the distributions agree, so chance alone gives a positive number. `chance` is its 95 % quantile. If
priors a and o led to the same distribution, imputation k under one could equally be imputation k under the other (their
seeds are the same); exchanging the two within random pairs k therefore gives the distances that could have occurred, and
preserves the dependence within a pair. The integral is taken over 512 quantiles of all values, which is exact to about
1/512 of their range.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.families.registry import family_of
from bayesimp.imputation.result import Imputations

__all__ = ["EXCHANGES", "distance_and_chance", "distance_table"]

Array = NDArray[np.float64]
POINTS = 512
EXCHANGES = 1999
LEVEL = 0.95


def distance_table(imputations: Mapping[str, Imputations], reference: str, seed: int = 0) -> pd.DataFrame:
    """One row for each imputed variable under each prior except the reference.

    Returns
    -------
    DataFrame: prior, variable, distance, unit ("sd" of observed values, "share" of values; "sd of imputed" or "data"
    if observed values have no spread), chance, p.value (from the exchanges), cells.
    """
    base, rows = imputations[reference], []
    for name, imp in imputations.items():
        if name == reference:
            continue
        for column in base.imputed_columns:
            if column not in imp.imputed_columns:
                continue
            coded = column in base.data.families and family_of(base.data.families[column]).is_coded
            m = min(base.m, imp.m)
            a, b = (np.asarray(x.values(column)[:m], dtype=float) for x in (imp, base))
            counts, widths = _by_level(a, b) if coded else _by_value(a, b)
            spread, unit = (1.0, "share") if coded else _spread(base, column, b)
            distance, chance, p = distance_and_chance(counts, widths / spread, a.shape[1], seed)
            rows.append((name, column, distance, unit, chance, p, a.shape[1]))
    columns = ["prior", "variable", "distance", "unit", "chance", "p.value", "cells"]
    return pd.DataFrame(rows, columns=columns)


def distance_and_chance(
    difference: Array, widths: Array, cells: int, seed: int = 0
) -> tuple[float, float, float]:
    """The distance, its 95 % quantile over exchanges within pairs, and the p-value.

    Parameters
    ----------
    difference
        (m, G) counts in imputation k under one prior minus those under the other: of values up to a point, or of a level.
    widths
        (G,) weights of the points.
    cells
        Number of values in each imputation.
    """
    m = len(difference)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (EXCHANGES, m))
    total = m * cells
    seen = float(np.abs(difference.sum(axis=0)) @ widths / total)
    by_chance = np.abs(signs @ difference) @ widths / total
    p = (1 + np.sum(by_chance >= seen * (1 - 1e-12))) / (EXCHANGES + 1)
    return seen, float(np.quantile(by_chance, LEVEL)), float(p)


def _by_value(a: Array, b: Array) -> tuple[Array, Array]:
    """Differences of the number of values up to each point (m, G), and the distances to the next point (G,)."""
    points = np.unique(np.quantile(np.concatenate([a.ravel(), b.ravel()]), np.linspace(0, 1, POINTS)))
    up_to = [np.stack([np.searchsorted(np.sort(row), points, side="right") for row in x]) for x in (a, b)]
    difference = (up_to[0] - up_to[1]).astype(float)
    # between two points the integrand is taken to be the mean of its values at both
    gaps = np.diff(points, prepend=points[0], append=points[-1])
    return difference, (gaps[:-1] + gaps[1:]) / 2


def _by_level(a: Array, b: Array) -> tuple[Array, Array]:
    """Differences of the number of values at each level (m, L), and 1/2 for each."""
    levels = np.unique(np.concatenate([a.ravel(), b.ravel()]))
    counts = [np.stack([(x == level).sum(axis=1) for level in levels], axis=1) for x in (a, b)]
    return (counts[0] - counts[1]).astype(float), np.full(len(levels), 0.5)


def _spread(imp: Imputations, column: str, imputed: Array) -> tuple[float, str]:
    """The unit of distances and its name: the standard deviation of observed values, if it is positive."""
    if column in imp.data.families:
        seen = imp.data.numeric(column)
        sd = float(np.nanstd(seen)) if np.isfinite(seen).sum() > 1 else 0.0
        if sd > 0:
            return sd, "sd"
    sd = float(imputed.std())
    return (sd, "sd of imputed") if sd > 0 else (1.0, "data")

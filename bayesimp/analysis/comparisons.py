"""Pairs of estimates to compare, and p-values and limits adjusted for several comparisons.

Several comparisons, with p-values p_j of pooled t statistics t_j:

    bonferroni    min(1, r p_j); limits at level 1 - alpha / r
    holm          step-down Bonferroni (Holm 1979); limits as for bonferroni
    mvt           P(max_i |T_i| >= |t_j|), T multivariate t with the correlations of the pooled covariance and the
                  smallest df; limits by the 1 - alpha quantile of max |T| (Hothorn, Bretz & Westfall 2008), by simulation

With few imputations the pooled correlations are themselves uncertain; Bonferroni and Holm do not use them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bayesimp.errors import SpecificationError
from bayesimp.notation import Matrix, Vector

__all__ = ["ADJUSTMENTS", "adjusted_p", "label_of", "max_t", "one_of", "pairs_of", "shown"]

ADJUSTMENTS = ("holm", "bonferroni", "mvt")
BARE = ("contrast", "change")  # columns of labels whose values need no name before them
SIMULATED = 200_000  # draws of the multivariate t: standard error 0.0005 for a p-value of 0.05


def adjusted_p(
    adjust: str, p: Vector, statistic: Vector, df: Vector, covariance: Matrix, level: float
) -> tuple[Vector, Vector]:
    """Adjusted p-values of pooled t statistics, and quantiles for their limits, (r,) each."""
    r = len(p)
    if adjust == "mvt":
        return max_t(statistic, covariance, float(np.min(df)), level)
    half = stats.t(df).ppf(1 - (1 - level) / (2 * r))
    if adjust == "bonferroni":
        return np.minimum(1.0, r * p), half
    order = np.argsort(p)
    steps = np.maximum.accumulate((r - np.arange(r)) * p[order])
    out = np.empty(r)
    out[order] = np.minimum(1.0, steps)
    return out, half


def max_t(statistic: Vector, covariance: Matrix, df: float, level: float) -> tuple[Vector, Vector]:
    """P(max |T| >= |t_j|) and the quantile of max |T|, (r,) each, for a multivariate t with these correlations.

    Simulated with a fixed seed, so that the same estimates give the same p-values.
    """
    d = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(d, d))
    rng = np.random.default_rng(20)
    Z = rng.standard_normal((SIMULATED, len(d))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    if np.isfinite(df):
        Z /= np.sqrt(rng.chisquare(df, SIMULATED) / df)[:, None]
    largest = np.sort(np.abs(Z).max(axis=1))
    p = (1 + SIMULATED - np.searchsorted(largest, np.abs(statistic))) / (1 + SIMULATED)  # never 0
    return p, np.full(len(d), np.quantile(largest, level))


def pairs_of(at: pd.DataFrame, by: list[str], kind: str) -> list[tuple[int, int]]:
    """Pairs (earlier, later) of positions to compare."""
    one_of(kind, ("pairwise", "treatment", "sequential"), "kind")
    groups = (
        [np.arange(len(at))] if not by else list(at.groupby(by, sort=False, observed=True).indices.values())
    )
    pairs: list[tuple[int, int]] = []
    for group in groups:
        places = [int(place) for place in group]
        pairs += {
            "pairwise": list(combinations(places, 2)),
            "treatment": [(places[0], place) for place in places[1:]],
            "sequential": list(pairwise(places)),
        }[kind]
    return pairs


def one_of(value: Any, known: Sequence[str], name: str) -> None:
    """Refuse a value that is not among the known ones."""
    if value not in known:
        raise SpecificationError(
            f"{name} = {value!r} is not known; choose one of {', '.join(map(repr, known))}."
        )


def label_of(row: Mapping[Any, Any]) -> str:
    """The label of an estimate: ``"treat = 1, sex = F"``, ``"b - a, sex = F"``, ``"age: +10, sex = F"``."""
    parts = [
        str(v) if name in BARE else f"{name} = {shown(v)}" for name, v in row.items() if name != "variable"
    ]
    text = ", ".join(parts)
    return f"{row['variable']}: {text}" if "variable" in row else text


def shown(value: Any) -> str:
    """A value as written in a label."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""Performance of methods over replicates, with Monte Carlo standard errors (Morris, White & Crowther 2019, table 6).

With estimates q_k, standard errors s_k and intervals from n replicates, and the truth theta,

    bias          mean q - theta                                sd(q) / sqrt(n)
    empirical se  sd(q)                                         sd(q) / sqrt(2 (n - 1))
    model se      sqrt(mean s^2)                                sqrt(var(s^2) / (4 n mean s^2))
    rmse          sqrt(mse), mse = mean (q - theta)^2           sd((q - theta)^2) / sqrt(n) / (2 rmse)
    coverage      share of intervals with theta inside          sqrt(c (1 - c) / n)
    se ratio      model se / empirical se                       ratio sqrt(var(s^2) / (4 n (mean s^2)^2) + 1/(2 (n-1)))

sd and var divide by n - 1. The Monte Carlo error of the rmse is from the delta method. `mean se` is what papers print as
the model's standard error.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.messages import suggestion

__all__ = ["compare", "performance", "summarise"]

Array = NDArray[np.float64]
INTERVALS: Mapping[str, tuple[str, str]] = {"coverage": ("low", "high"), "coverage z": ("z_low", "z_high")}
KEYS = ["scenario", "method", "term"]


def summarise(estimates: pd.DataFrame, units: pd.DataFrame | None = None) -> pd.DataFrame:
    """A tidy table: one row for each scenario, method, term and measure.

    Parameters
    ----------
    estimates
        scenario, replicate, method, term, estimate, se, low, high, z_low, z_high, truth.
    units
        scenario, replicate, method, error; used to count failures.

    Returns
    -------
    scenario, method, term, measure, value, mcse, n (replicates on which the measure is based), failed (replicates in
    which the method failed), truth. If a measure needs a truth, a standard error or an interval that some replicates
    lack, it is based on the others, and n says so. "coverage": Barnard-Rubin; "coverage z": estimate -+ 1.96 se.
    """
    failed = {}
    if units is not None and len(units):
        failed = units["error"].notna().groupby([units["scenario"], units["method"]], sort=False).sum()
    rows = []
    for (scenario, method, term), group in estimates.groupby(KEYS, sort=False):
        truth = float(group["truth"].iloc[0])
        for measure, (value, mcse, n) in performance(group, truth).items():
            rows.append((scenario, method, term, measure, value, mcse, n, truth))
    columns = [*KEYS, "measure", "value", "mcse", "n", "truth"]
    table = pd.DataFrame(rows, columns=columns)
    counts = [int(failed.get((s, m), 0)) for s, m in zip(table["scenario"], table["method"], strict=True)]
    table.insert(7, "failed", counts)
    return table


def performance(group: pd.DataFrame, truth: float) -> dict[str, tuple[float, float, int]]:
    """Measure -> (value, Monte Carlo standard error, replicates) of one method and term."""
    q = group["estimate"].to_numpy(float)
    q = q[~np.isnan(q)]
    s2 = group["se"].to_numpy(float) ** 2
    s2 = s2[~np.isnan(s2)]
    n = len(q)
    sd = _sd(q)
    out = {"mean": (_mean(q), sd / np.sqrt(n) if n else np.nan, n)}
    known = not np.isnan(truth)
    if known:
        out["bias"] = (_mean(q) - truth, out["mean"][1], n)
    out["empirical se"] = (sd, sd / np.sqrt(2 * (n - 1)) if n > 1 else np.nan, n)
    model, spread = np.sqrt(_mean(s2)), _sd(s2)
    with np.errstate(divide="ignore", invalid="ignore"):
        out["model se"] = (float(model), float(np.sqrt(spread**2 / (4 * len(s2) * model**2))), len(s2))
        out["mean se"] = (_mean(np.sqrt(s2)), float(_sd(np.sqrt(s2)) / np.sqrt(len(s2))), len(s2))
        ratio = model / sd
        error = np.sqrt(spread**2 / (4 * len(s2) * model**4) + 1 / (2 * (n - 1))) if n > 1 else np.nan
        out["se ratio"] = (float(ratio), float(ratio * error), min(n, len(s2)))
    if not known:
        return out
    squared = (q - truth) ** 2
    rmse = np.sqrt(_mean(squared))
    with np.errstate(divide="ignore", invalid="ignore"):
        out["rmse"] = (float(rmse), float(_sd(squared) / np.sqrt(n) / (2 * rmse)) if n else np.nan, n)
    for measure, columns in INTERVALS.items():
        inside = covered(group, truth, columns)
        inside = inside[~np.isnan(inside)]
        c = _mean(inside)
        out[measure] = (c, float(np.sqrt(c * (1 - c) / len(inside))) if len(inside) else np.nan, len(inside))
    return out


def covered(group: pd.DataFrame, truth: float, columns: tuple[str, str]) -> Array:
    """1 or 0 by replicate, nan without an interval."""
    low, high = (group[name].to_numpy(float) for name in columns)
    return np.where(np.isnan(low) | np.isnan(high), np.nan, (low <= truth) & (truth <= high)).astype(float)


def compare(estimates: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Compare two methods on the same data sets, by differences within replicates, which removes the variation between
    data sets.

    Returns
    -------
    scenario, comparison, term, measure, value, mcse, n. Measures: "difference" of the estimates; "mean se", "rmse",
    "coverage" and "coverage z" of `method` minus those of `other`; "precision gain", 100 ((empirical se of other / of
    method)^2 - 1) percent, whose Monte Carlo standard error accounts for their correlation (Morris, White & Crowther
    2019, table 6). Replicates in which one has no estimate are left out, and n says how many remain.

    Raises
    ------
    SpecificationError
        If a method is not in the results.
    """
    present = list(estimates["method"].unique())
    for name in (method, other):
        if name not in present:
            raise SpecificationError(f"There are no estimates by {name!r}. {suggestion(name, present)}")
    keys = ["scenario", "replicate", "term"]
    a, b = (estimates[estimates["method"] == name] for name in (method, other))
    both = a.merge(b, on=keys, suffixes=("", "_other"), sort=False)
    rows = []
    for (scenario, term), group in both.groupby(["scenario", "term"], sort=False):
        for measure, row in _differences(group).items():
            rows.append((scenario, term, measure, *row))
    table = pd.DataFrame(rows, columns=["scenario", "term", "measure", "value", "mcse", "n"])
    table.insert(1, "comparison", f"{method} - {other}")
    return table


def _differences(group: pd.DataFrame) -> dict[str, tuple[float, float, int]]:
    q, p = group["estimate"].to_numpy(float), group["estimate_other"].to_numpy(float)
    there = ~(np.isnan(q) | np.isnan(p))
    q, p, group = q[there], p[there], group[there]
    n, truth = len(q), float(group["truth"].iloc[0]) if len(group) else np.nan
    out = {
        "difference": _paired(q - p),
        "mean se": _paired(group["se"].to_numpy(float) - group["se_other"].to_numpy(float)),
    }
    if n > 2 and _sd(q) > 0 and _sd(p) > 0:
        gain = (_sd(p) / _sd(q)) ** 2
        rho = float(np.corrcoef(q, p)[0, 1])
        out["precision gain"] = (
            100 * (gain - 1),
            float(200 * gain * np.sqrt(max(1 - rho**2, 0.0) / (n - 1))),
            n,
        )
    if np.isnan(truth):
        return out
    mine, theirs = (q - truth) ** 2, (p - truth) ** 2
    a, b = np.sqrt(_mean(mine)), np.sqrt(_mean(theirs))
    with np.errstate(divide="ignore", invalid="ignore"):  # delta method: d sqrt(x) = dx / (2 sqrt(x))
        error = _sd(mine / (2 * a) - theirs / (2 * b)) / np.sqrt(n)
    out["rmse"] = (float(a - b), float(error), n)
    for measure, (low, high) in INTERVALS.items():
        difference = covered(group, truth, (low, high)) - covered(
            group, truth, (f"{low}_other", f"{high}_other")
        )
        out[measure] = _paired(difference)
    return out


def _paired(difference: Array) -> tuple[float, float, int]:
    d = difference[~np.isnan(difference)]
    return _mean(d), float(_sd(d) / np.sqrt(len(d))) if len(d) else np.nan, len(d)


def _mean(x: Array) -> float:
    return float(x.mean()) if len(x) else np.nan


def _sd(x: Array) -> float:
    return float(x.std(ddof=1)) if len(x) > 1 else np.nan

"""Tables of a sensitivity analysis: one row for each prior and parameter.

With reference prior o, for each parameter under prior a

    change   = (estimate_a - estimate_o) / std.error_o
    mc.error = sqrt(b_a / m_a)        Monte Carlo error of estimate_a, with b the variance between imputations
                                      (White, Royston & Wood 2011, sec. 7.3)

For the imputation model itself (standard deviations and correlations within and between clusters), estimate and
std.error are the posterior mean and standard deviation, and mc.error is the Monte Carlo error of the posterior mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp.analysis.fit import Fits
from bayesimp.diagnostics.components import components, overlap, prior_share
from bayesimp.diagnostics.convergence import ESS_LIMIT, diagnose
from bayesimp.errors import StatisticalWarning
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations

__all__ = ["model_table", "not_converged", "pooled_table"]

SHAPES = {"log": lambda v: v, "sd": lambda v: 1.0, "fisher z": lambda v: 1 - v**2}  # d value / d estimate


def pooled_table(fits: Mapping[str, Fits], reference: str, level: float) -> pd.DataFrame:
    """Coefficients and variance components, with the columns described in `Sensitivity`."""
    singular = any(not np.isfinite(f.components_cov).all() for f in fits.values() if f.component_names)
    parts = []
    for name, fit in fits.items():
        pooled = fit.pool()
        fixed = pooled.to_frame(level).assign(**{"part": "fixed effect", "scale": "estimate"})
        fixed["mc.error"] = np.sqrt(pooled.b / pooled.m)
        parts.append(fixed.assign(prior=name))
        if fit.component_names:
            parts.append(_component_table(fit, "sd" if singular else "log", level).assign(prior=name))
    columns = [
        "prior",
        "part",
        "term",
        "estimate",
        "std.error",
        "df",
        "conf.low",
        "conf.high",
        "fmi",
        "mc.error",
        "scale",
    ]
    return _with_change(pd.concat(parts, ignore_index=True)[columns], reference)


def _component_table(fit: Fits, scale: str, level: float) -> pd.DataFrame:
    """Variance components as standard deviations and correlations; standard errors by the delta method."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StatisticalWarning)  # scale "sd" is used if fits are singular
        pooled = fit.pool_components(scale)
        table = pooled.to_frame(level)
    slope = np.array([SHAPES[s](v) for s, v in zip(table["scale"], table["value"], strict=True)])
    table["std.error"] *= slope
    table["mc.error"] = np.sqrt(pooled.b / pooled.m) * slope
    table = table.drop(columns=["estimate", "conf.low", "conf.high"])
    names = {"value": "estimate", "value.low": "conf.low", "value.high": "conf.high"}
    return table.rename(columns=names).assign(part="variance component")


def model_table(imputations: Mapping[str, Imputations], reference: str) -> pd.DataFrame:
    """Standard deviations and correlations of the imputation model, with the columns described in `Sensitivity`."""
    parts = []
    for name, imp in imputations.items():
        found = components(imp)
        draws = xr.Dataset({k.replace("\n", " "): (("chain", "draw"), c.posterior) for k, c in found.items()})
        table = diagnose(draws).rename(
            columns={"mean": "estimate", "sd": "std.error", "mcse_mean": "mc.error"}
        )
        shares, common = ([of(c) for c in found.values()] for of in (prior_share, overlap))
        table = table.assign(prior=name, share=shares, overlap=common)
        parts.append(table.rename_axis("term").reset_index())
    columns = [
        "prior",
        "term",
        "estimate",
        "std.error",
        "q2.5",
        "q97.5",
        "share",
        "overlap",
        "mc.error",
        "ess_bulk",
        "r_hat",
        "r_hat_limit",
    ]
    return _with_change(pd.concat(parts, ignore_index=True)[columns], reference)


def not_converged(table: pd.DataFrame) -> list[tuple[str, Event]]:
    """A (prior, event) pair for each prior whose chains disagree or are too short (according to `model_table`)."""
    bad = table[(table["r_hat"] > table["r_hat_limit"]) | (table["ess_bulk"] < ESS_LIMIT)]
    return [(str(prior), _worst(rows)) for prior, rows in bad.groupby("prior", sort=False)]


def _worst(rows: pd.DataFrame) -> Event:
    """The event of one prior; for a single chain, which has no R-hat, its ESS decides."""
    known = rows["r_hat"].notna().any()
    worst = rows.loc[rows["r_hat"].idxmax() if known else rows["ess_bulk"].fillna(-1).idxmin()]
    r_hat = f"R-hat {worst['r_hat']:.3f} (limit {worst['r_hat_limit']:.3f}), " if known else ""
    few = f"ESS {rows['ess_bulk'].min():.0f} (limit {ESS_LIMIT})"
    return Event("not converged", str(worst["term"]), f"{r_hat}{few}; ask for longer chains", len(rows))


def _with_change(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    base = table[table["prior"] == reference].set_index("term")
    origin, unit = (table["term"].map(base[column]) for column in ("estimate", "std.error"))
    table.insert(table.columns.get_loc("mc.error"), "change", (table["estimate"] - origin) / unit)
    return table

"""Tables of power-scaling: slopes of pooled numbers, pooled numbers from weights, slopes of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp import notation as nt
from bayesimp.analysis.fits import Fits
from bayesimp.diagnostics.components import components
from bayesimp.events import Event
from bayesimp.imputation.result import Imputations
from bayesimp.sensitivity_analysis.power import SMOOTHED, pareto_limit, slopes, weighted

__all__ = ["SOURCES", "Answers", "answers_of", "at_powers", "parameter_slopes", "pooled_slopes"]

SOURCES = {"prior": "log_prior", "likelihood": "log_likelihood"}


class Answers(NamedTuple):
    """What is pooled: names; Q and U (M, k); degrees of freedom of the complete data, estimates, standard errors (k,).

    Variance components are logarithms of standard deviations and Fisher's z of correlations.
    """

    terms: list[str]
    Q: np.ndarray
    U: np.ndarray
    dfcom: np.ndarray
    estimate: np.ndarray
    std_error: np.ndarray


def answers_of(fits: Fits) -> tuple[Answers, list[Event]]:
    """Coefficients, and variance components if they have standard errors in every table."""
    pooled, events = fits.pool(), []
    parts = [(list(fits.names), fits.estimates, np.diagonal(fits.covariances, axis1=1, axis2=2), pooled)]
    if fits.component_names and np.isfinite(fits.components_cov).all():
        names = [f"{'z ' if name.startswith('cor(') else 'log '}{name}" for name in fits.component_names]
        U = np.diagonal(fits.components_cov, axis1=1, axis2=2)
        parts.append((names, fits.components, U, fits.pool_components("log")))
    elif fits.component_names:
        none = "Variance components were not scaled: in some tables one is estimated as zero, without a standard error."
        events.append(Event("not scaled", "variance components", none))
    terms = [name for names, *_ in parts for name in names]
    Q, U = np.hstack([part[1] for part in parts]), np.hstack([part[2] for part in parts])
    numbers = ([getattr(part[3], name) for part in parts] for name in ("dfcom", "estimate", "std_error"))
    return Answers(terms, Q, U, *(np.concatenate(list(each)) for each in numbers)), events


def pooled_slopes(answers: Answers, behind: dict[str, np.ndarray], chains: int, level: float) -> pd.DataFrame:
    """The table `PowerScaling.pooled`; behind: source -> (M,) log densities at the draws behind imputations."""
    parts = []
    for source, log_g in behind.items():
        made = slopes(answers.Q, answers.U, log_g, answers.dfcom, level, chains)
        columns: dict[str, Any] = {"source": source, "term": answers.terms, "estimate": answers.estimate}
        columns["std.error"] = answers.std_error
        shorter = {
            "estimate": "moves",
            "conf.low": "low.moves",
            "conf.high": "high.moves",
            "std.error": "se.moves",
        }
        errors = {"estimate": "mc.error", "conf.low": "mc.low", "conf.high": "mc.high", "std.error": "mc.se"}
        columns |= {new: made.slope[name] / answers.std_error for name, new in shorter.items()}
        columns |= {new: made.mc_error[name] / answers.std_error for name, new in errors.items()}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def at_powers(
    answers: Answers, behind: dict[str, np.ndarray], powers: Sequence[float], level: float
) -> pd.DataFrame:
    """The table `PowerScaling.powers`; behind as in `pooled_slopes`."""
    parts = []
    for source, log_g in behind.items():
        for power in powers:
            made = weighted(answers.Q, answers.U, log_g, power, answers.dfcom, level)
            usable = np.where(made.pareto_k <= pareto_limit(len(log_g)), 1.0, np.nan)
            columns: dict[str, Any] = {"source": source, "power": power, "term": answers.terms}
            columns |= {name: value * usable for name, value in made.numbers.items()}
            columns["change"] = (made.numbers["estimate"] - answers.estimate) / answers.std_error * usable
            columns["mc.error"] = made.mc_error / answers.std_error * usable
            parts.append(pd.DataFrame({**columns, "pareto.k": made.pareto_k, "ess": made.ess}))
    return pd.concat(parts, ignore_index=True)


def parameter_slopes(imp: Imputations, log: dict[str, xr.DataArray]) -> pd.DataFrame:
    """Slopes of posterior means, and `az.psense`, of every standard deviation and correlation."""
    from arviz_stats import psense

    found = {name.replace("\n", " "): c.posterior for name, c in components(imp, size=2).items()}
    parts = []
    for source, values in log.items():
        draws = values[nt.DRAW].values
        used = {name: x[:, draws] for name, x in found.items()}
        posterior = xr.Dataset({name: ((nt.CHAIN, nt.DRAW), x) for name, x in used.items()})
        scaled = values.assign_coords({nt.DRAW: np.arange(len(draws))}).rename("all")
        tree = xr.DataTree.from_dict({"posterior": posterior, SOURCES[source]: xr.Dataset({"all": scaled})})
        distance = (
            psense(tree, group=source) if used and values.size >= SMOOTHED else dict.fromkeys(used, np.nan)
        )
        for name, x in used.items():
            flat = x.T.reshape(-1, 1)  # draw by draw, over chains
            made = slopes(
                flat, np.zeros_like(flat), values.values.T.ravel(), np.array([np.inf]), 0.95, len(x)
            )
            sd = x.std(ddof=1)
            parts.append((source, name, x.mean(), sd, made.slope["estimate"][0] / sd,
                          made.mc_error["estimate"][0] / sd, float(distance[name])))  # fmt: skip
    columns = ["source", "term", "mean", "sd", "moves", "mc.error", "psense"]
    return pd.DataFrame(parts, columns=columns)

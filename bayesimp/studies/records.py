"""The steps of a simulation study as interchangeable records and functions.

generate(seed=) -> complete table
delete(table, seed=) -> incomplete table, what was deleted
method(data, seed) -> imputations, or a list of tables
analysis(tables) -> fits
pool(fits) -> estimates
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.analysis.pool import barnard_rubin
from bayesimp.layout import Record
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Analysis", "Case", "Estimate", "Scenario", "rubin"]

LEVEL = 0.95


class Estimate(NamedTuple):
    """One estimate from one replicate, with its 95% intervals.

    Attributes
    ----------
    term
        Coefficient; ``"var(Intercept | study)"``, ``"sd(Intercept | study)"``, ``"cor(..)"`` of random effects.
    estimate, se, df
        Pooled estimate, standard error (nan if unknown), Barnard and Rubin's degrees of freedom.
    low, high
        Interval from t with df degrees of freedom.
    z_low, z_high
        estimate -+ 1.96 se, as in both papers.
    """

    term: str
    estimate: float
    se: float = np.nan
    df: float = np.inf
    low: float = np.nan
    high: float = np.nan
    z_low: float = np.nan
    z_high: float = np.nan


@dataclass(frozen=True)
class Analysis(Record):
    """The analysis of each completed table: a formula with the options of `bayesimp.fit_each`."""

    formula: str
    family: str = "normal"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, tables: Any) -> Fits:
        return fit_each(tables, self.formula, family=self.family, **self.options)


@dataclass(frozen=True)
class Scenario(Record):
    """One cell of the design of a study.

    Attributes
    ----------
    name
        Unique in the study. Random numbers follow from it, so that scenarios can be left out or added.
    generate
        ``generate(seed=...)`` returns a complete table.
    delete
        ``delete(table, seed=...)`` returns the incomplete table, or that and a record; for example
        `bayesimp.studies.delete` with its options, by `functools.partial`.
    analysis
        ``analysis(tables)`` returns `Fits` for imputations or a list of tables.
    cluster, families
        As for `IncompleteData`.
    truth
        Term -> true value. Other terms are summarised without bias and coverage.
    labels
        Labels of the scenario in tables: ``{"simulation": 2, "setting": 6}``.
    """

    name: str
    generate: Callable[..., Any]
    delete: Callable[..., Any]
    analysis: Callable[[Any], Any]
    cluster: str
    truth: Mapping[str, float] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One data set: the incomplete table for the methods, and the complete one for the reference."""

    scenario: Scenario
    complete: pd.DataFrame
    holed: pd.DataFrame
    deleted: Any

    @classmethod
    def make(cls, scenario: Scenario, generate_seed: int, delete_seed: int) -> Case:
        """The data set of a scenario with these seeds."""
        complete = scenario.generate(seed=generate_seed)
        holed = scenario.delete(complete, seed=delete_seed)
        deleted = None
        if isinstance(holed, tuple):
            holed, deleted = holed
        return cls(scenario, complete, holed, deleted)

    @cached_property
    def data(self) -> IncompleteData:
        """The incomplete table in the form that methods accept."""
        return IncompleteData(
            self.holed, cluster=self.scenario.cluster, families=dict(self.scenario.families)
        )


def rubin(fits: Fits) -> list[Estimate]:
    """Pool coefficients, variances, standard deviations and correlations by Rubin's rules.

    Variances and standard deviations are averaged over the tables untransformed (Kunkel & Kaizar sec. 4; Jolani sec. 5),
    zeros included; their standard error is nan if a table has none, as happens if a variance is zero. A single table has
    no variance between imputations.
    """
    out = list(_pooled(fits.names, fits.estimates, _diagonal(fits.covariances), fits.df_complete))
    if fits.component_names:
        phi, V = fits.components, _diagonal(fits.components_cov)
        is_cor = np.array([name.startswith("cor(") for name in fits.component_names])
        with np.errstate(invalid="ignore"):
            sd = np.exp(phi)
            for kind, Q, slope in (("var", sd**2, 2 * sd**2), ("sd", sd, sd)):
                names = [name.replace("sd(", f"{kind}(", 1) for name in fits.component_names]
                own = np.flatnonzero(~is_cor)
                out += _pooled([names[j] for j in own], Q[:, own], (slope**2 * V)[:, own], np.inf)
            names = [name for name, cor in zip(fits.component_names, is_cor, strict=True) if cor]
            rho = np.tanh(phi[:, is_cor])
            out += _pooled(names, rho, (1 - rho**2) ** 2 * V[:, is_cor], np.inf)
    return out


def _diagonal(V: np.ndarray) -> np.ndarray:
    return np.diagonal(V, axis1=1, axis2=2)


def _pooled(names: Any, Q: np.ndarray, U: np.ndarray, df_complete: float) -> Iterator[Estimate]:
    """One estimate for each column of Q (M, k), with variances U (M, k)."""
    M = len(Q)
    mean, ubar = Q.mean(axis=0), U.mean(axis=0)
    b = Q.var(axis=0, ddof=1) if M > 1 else np.zeros_like(mean)
    t = ubar + (1 + 1 / M) * b
    with np.errstate(divide="ignore", invalid="ignore"):
        lambda_ = np.where(t > 0, (1 + 1 / M) * b / t, np.nan)
    df = barnard_rubin(lambda_, M, df_complete) if M > 1 else np.full_like(mean, df_complete)
    se = np.sqrt(t)
    half = stats.t(np.where(df > 0, df, np.nan)).ppf(0.5 + LEVEL / 2) * se
    z = stats.norm.ppf(0.5 + LEVEL / 2) * se
    columns = (mean, se, df, mean - half, mean + half, mean - z, mean + z)
    for name, *numbers in zip(names, *(c.tolist() for c in columns), strict=True):
        yield Estimate(name, *numbers)

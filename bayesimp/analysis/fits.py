"""Fits of one analysis to every completed table: estimates, covariances, variance components, events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayesimp.analysis.gaps import NOT_CONGENIAL
from bayesimp.analysis.groups import Grouping
from bayesimp.analysis.pool import Pooled, as_text, pool, pool_components
from bayesimp.errors import SpecificationError
from bayesimp.events import Event, EventTable

__all__ = ["Fit", "Fits"]

Array = NDArray[np.float64]


class Fit(NamedTuple):
    """One fit: estimates with their names, their covariance, residual degrees of freedom."""

    estimate: pd.Series
    covariance: pd.DataFrame
    df_residual: float

    def to_frame(self, level: float = 0.95) -> pd.DataFrame:
        """Table by coefficient: term, estimate, std.error, conf.low, conf.high (t with the residual df)."""
        error = np.sqrt(np.diag(self.covariance))
        half = stats.t(self.df_residual).ppf(0.5 + level / 2) * error
        e = self.estimate.to_numpy()
        columns = {"term": list(self.estimate.index), "estimate": e, "std.error": error}
        return pd.DataFrame({**columns, "conf.low": e - half, "conf.high": e + half})


@dataclass(frozen=True)
class Fits:
    """Fits of one analysis to M completed tables.

    Attributes
    ----------
    analysis
        The formula, or the name of the function.
    names
        (k,) coefficients.
    estimates, covariances
        (M, k) and (M, k, k).
    df_complete
        Residual degrees of freedom of a completed table (the smallest, should they differ); inf if unknown.
        For mixed models n - p - (number of variance parameters), as lme4's ``df.residual`` and so R's mice:
        too many for cluster-level covariates; inf for other families;
        give ``pool(df_complete=...)`` a better number, or one each.
    converged, singular
        (M,) bool.
    component_names, components, components_cov
        (c,) names ``"sd(Intercept | school)"``, ``"cor(...)"``, ``"sd(residual)"``; (M, c) log standard
        deviations and Fisher z of correlations; (M, c, c), nan where singular or the engine has none.
    loglik
        (M,) (restricted) log-likelihood, nan for functions.
    parameters
        Number of estimated parameters.
    likelihood
        ``likelihood("own")``, ``likelihood("average")``: (M,) log-likelihoods at each table's own estimates,
        at their average; None where it is not available (REML, functions, glmm).
    codes
        (M,) deviations of generalised fits, bits of `bayesimp.kernels.laplace.fit.EVENTS`; else None.
    quadrature
        Number of nodes by which the log-likelihood was computed.
    log
        How the analysis compares with the imputation model (`bayesimp.analysis.congenial`), and which grouping factors
        are crossed, see `events`.
    groupings
        Of an analysis with several grouping factors: their levels, and which is nested in which.
    """

    analysis: str
    names: tuple[str, ...]
    estimates: Array
    covariances: Array
    df_complete: float
    converged: NDArray[np.bool_]
    singular: NDArray[np.bool_]
    component_names: tuple[str, ...]
    components: Array
    components_cov: Array
    loglik: Array
    parameters: int
    likelihood: Callable[[str], Array] | None = None
    codes: NDArray[np.int64] | None = None
    quadrature: int = 1
    log: tuple[Event, ...] = ()
    groupings: tuple[Grouping, ...] = ()

    @property
    def events(self) -> pd.DataFrame:
        """DataFrame (kind, where, message, count): what the imputation model lacks of the analysis; crossed groups."""
        return EventTable([e.as_dict() for e in self.log], columns=["kind", "where", "message", "count"])

    def __len__(self) -> int:
        return len(self.estimates)

    def __getitem__(self, k: int) -> Fit:
        names = list(self.names)
        return Fit(
            pd.Series(self.estimates[k], names),
            pd.DataFrame(self.covariances[k], names, names),
            self.df_complete,
        )

    def __iter__(self) -> Iterator[Fit]:
        return (self[k] for k in range(len(self)))

    def pool(self, df_complete: ArrayLike | None = None) -> Pooled:
        """Rubin's rules on the coefficients; ``.to_frame()`` has the columns of R's mice."""
        dfcom = self.df_complete if df_complete is None else df_complete
        return replace(pool(self.estimates, self.covariances, dfcom, terms=self.names), log=self.log)

    def pool_components(self, scale: str = "log") -> Pooled:
        """Variance components pooled on ``scale``: log, sd, variance or median; see `pool_components`."""
        if not self.component_names:
            raise SpecificationError(f"the analysis {self.analysis!r} has no variance components.")
        correlation = [name.startswith("cor(") for name in self.component_names]
        pooled = pool_components(
            self.components, self.components_cov, self.component_names, correlation, scale
        )
        return replace(pooled, log=self.log)

    def to_frame(self) -> pd.DataFrame:
        """Long table: imputation (from 1), term, estimate, std.error, converged, singular."""
        M, k = self.estimates.shape
        return pd.DataFrame(
            {
                "imputation": np.repeat(np.arange(1, M + 1), k),
                "term": np.tile(np.array(self.names, dtype=object), M),
                "estimate": self.estimates.ravel(),
                "std.error": np.sqrt(np.einsum("kaa->ka", self.covariances)).ravel(),
                "converged": np.repeat(self.converged, k),
                "singular": np.repeat(self.singular, k),
            }
        )

    def __repr__(self) -> str:
        groups = "".join(f"\n{grouping}" for grouping in self.groupings)
        if len(self) == 1:
            return f"{self._heading()}\n{as_text(self[0].to_frame())}{self._components_text()}{groups}"
        return f"{self._heading()}; terms: {', '.join(self.names)}){groups}"

    def _components_text(self) -> str:
        """Of one fit: standard deviations and correlations."""
        each = [
            f"{name} {np.tanh(x) if name.startswith('cor(') else np.exp(x):.4g}"
            for name, x in zip(self.component_names, self.components[0], strict=True)
        ]
        return "\n" + ", ".join(each) if each else ""

    def _heading(self) -> str:
        doubts = f", {int((~self.converged).sum())} not converged" if not self.converged.all() else ""
        doubts += f", {int(self.singular.sum())} singular" if self.singular.any() else ""
        gaps = sum(event.kind == NOT_CONGENIAL for event in self.log)
        doubts += f", not congenial: {gaps} of .events" if gaps else ""
        return f"Fits({self.analysis!r}, m={len(self)}{doubts}" + (")" if len(self) == 1 else "")

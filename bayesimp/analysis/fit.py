"""Fit one analysis to every completed table.

An analysis is a formula, ``"y ~ x + (1 + x | school)"``, or a function of a table. For a formula the tables
are stacked and the design matrices made once for a whole stack (`bayesimp.analysis.linear.STACK` rows).

    no random term, normal                      least squares
    one random term on one column, normal       own kernel (`bayesimp.kernels.lmm.fit`)
    bernoulli, binomial, poisson, likewise      own kernels (`bayesimp.kernels.laplace.criterion`), Hessian covariance
    crossed or nested terms, other families     the optional package glmm (`bayesimp.analysis.glmm_adapter`)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayesimp.analysis.congenial import congeniality
from bayesimp.analysis.functions import fit_by_function
from bayesimp.analysis.gaps import NOT_CONGENIAL
from bayesimp.analysis.generalised import fit_generalised
from bayesimp.analysis.linear import fit_linear
from bayesimp.analysis.pool import Pooled, as_text, pool, pool_components
from bayesimp.contract import ImputationModel
from bayesimp.errors import DataError, SpecificationError, StatisticalWarning, instead_of
from bayesimp.events import Event, EventTable
from bayesimp.families.registry import analysis_names
from bayesimp.formulas.formula import Formula, parse
from bayesimp.kernels.laplace.fit import EVENTS, NO_CURVATURE, SEPARATED
from bayesimp.table.reading import as_pandas
from bayesimp.threads import one_thread

__all__ = ["Fit", "Fits", "completed_tables", "fit_each"]

Array = NDArray[np.float64]
NORMAL = analysis_names("linear")
GENERALISED = analysis_names("laplace")


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
        How the analysis compares with the imputation model (`bayesimp.analysis.congenial`), see `events`.
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

    @property
    def events(self) -> pd.DataFrame:
        """DataFrame (kind, where, message, count): what the imputation model lacks of the analysis."""
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
        if len(self) == 1:
            return f"{self._heading()}\n{as_text(self[0].to_frame())}{self._components_text()}"
        return f"{self._heading()}; terms: {', '.join(self.names)})"

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


def fit_each(
    imputed: Any,
    analysis: str | Callable,
    *,
    family: str = "normal",
    reml: bool = True,
    cluster: str | None = None,
    link: str | None = None,
    trials: str | None = None,
    weights: str | None = None,
    offset: str | None = None,
    quadrature: int = 1,
) -> Fits:
    """Fit ``analysis`` to every completed table.

    Parameters
    ----------
    imputed
        Completed tables: an iterable of pandas, polars or Arrow tables, or an object with ``m`` and ``frame(k)``,
        k = 0..m-1 (`Imputations`), of which only one stack of tables is in memory at a time.
    analysis
        A formula (``cluster_mean(x)`` and the like are computed in each completed table), or a function of a table that
        returns ``(estimates, covariance)``, ``(estimates,
        covariance, residual df)``, or a result with ``params``, ``cov_params()`` and perhaps ``df_resid``
        (statsmodels).
    family
        ``"normal"``; ``"bernoulli"``, ``"binomial"`` (the same, usually with ``trials``), ``"poisson"``: maximum of the
        Laplace log-likelihood (or by ``quadrature``), covariance from its Hessian. The response of a bernoulli model is
        bool, 0/1, or a text or category of two levels, of which the second (in alphabetical order, or in that of the
        category) is the event.
        Other families need the optional package glmm.
    reml
        Restricted maximum likelihood, or maximum likelihood (needed for D3). Linear mixed models only.
    cluster
        The cluster of the imputation model, to warn if the analysis does not mention it; that of ``cluster_mean(x)``,
        ``within(x)`` and ``cluster_size()`` where the formula has no grouping column, or several.
    link
        ``"logit"`` (default) or ``"probit"``; ``"log"`` for poisson.
    trials, weights, offset
        Columns: number of trials of a row (bernoulli, binomial); weight; known part of the linear predictor. A weight
        is that of as many equal rows in bernoulli, binomial and poisson models, and a precision in normal ones: the
        residual of a row of weight w has variance sigma^2 / w.
    quadrature
        Nodes of adaptive Gauss-Hermite quadrature, as lme4's ``nAGQ``, for bernoulli, binomial and poisson models with
        one random effect per cluster, ``(1 | school)`` or ``(0 + x | school)``; 1: Laplace's approximation. Where that
        displaces estimates, as with large effects in small clusters, a StatisticalWarning says so: give 20. For several
        effects per cluster there is only Laplace's approximation, without this check.

    Raises
    ------
    SpecificationError
        The formula cannot be read or fitted, or needs glmm and it is not installed.
    DataError
        A completed table still has missing values in a column of the analysis.
    """
    tables = completed_tables(imputed)
    columns = {"trials": trials, "weights": weights, "offset": offset}
    if callable(analysis):
        if quadrature != 1 or any(option is not None for option in (link, *columns.values())):
            raise SpecificationError(
                "link, trials, quadrature, weights and offset are for formulas; the analysis is a function of a table: "
                "handle them there."
            )
        return Fits(getattr(analysis, "__name__", "function"), **fit_by_function(tables, analysis))
    formula = parse(analysis)
    formula = replace(formula, cluster_of_means=formula.cluster or cluster)
    if len(formula.responses) != 1:
        raise SpecificationError(f"Formula {analysis!r}: an analysis has one response on the left of ~.")
    _mentions_cluster(formula, cluster)
    one_factor = formula.single_grouping and ":" not in formula.random[0].group
    simple = one_factor or not formula.random
    if family in GENERALISED and simple:
        with one_thread(tables.rows * len(tables.columns)):
            result = fit_generalised(tables, formula, family, link, quadrature, **columns)
    elif family in NORMAL and simple and link is None and trials is None and quadrature == 1:
        with one_thread(tables.rows * len(tables.columns)):
            result = fit_linear(tables, formula, reml, weights, offset)
    elif quadrature != 1 or any(option is not None for option in (link, *columns.values())):
        raise SpecificationError(
            f"{formula.text!r}: link, trials and quadrature are for families {', '.join(GENERALISED)}, weights and "
            f"offset for these and the normal, all with at most one grouping factor; family is {family!r}."
        )
    else:
        from bayesimp.analysis.glmm_adapter import fit_by_glmm

        result = fit_by_glmm(tables, formula, "gaussian" if family in NORMAL else family, reml)
    fits = Fits(analysis, **result, log=_compare(imputed, formula, offset))
    if fits.codes is not None:
        _warn_of_codes(fits)
    astray = ~fits.converged
    if fits.codes is not None:
        astray &= (fits.codes & SEPARATED) == 0  # already reported
    if astray.any():
        warnings.warn(
            f"{int(astray.sum())} of {len(fits)} fits of {analysis!r} did not converge "
            f"(imputations {', '.join(str(k + 1) for k in np.flatnonzero(astray)[:10])}); "
            "simplify the model.",
            StatisticalWarning,
            stacklevel=2,
        )
    return fits


def _compare(imputed: Any, formula: Formula, offset: str | None) -> tuple[Event, ...]:
    """Compare the analysis with the model of imputations that carry theirs; a warning, and events."""
    model = getattr(imputed, "model", None)
    if not isinstance(model, ImputationModel):
        return ()
    cells = {name: len(imputed.rows(name)) for name in imputed.imputed_columns if len(imputed.rows(name))}
    verdict = congeniality(model, formula, cells, imputed.frame(0), offset)
    text = verdict.warning()
    if text is not None:
        warnings.warn(text, StatisticalWarning, stacklevel=3)
    return verdict.events(cells)


def _warn_of_codes(fits: Fits) -> None:
    """Separated tables, and Hessians that gave no standard errors; singular fits are shown with the result."""
    assert fits.codes is not None
    for bit in (SEPARATED, NO_CURVATURE):
        tables = np.flatnonzero(fits.codes & bit)
        if len(tables):
            warnings.warn(
                f"{fits.analysis!r}: in {len(tables)} of {len(fits)} tables (imputations "
                f"{', '.join(str(k + 1) for k in tables[:10])}) {EVENTS[bit][1]}.",
                StatisticalWarning,
                stacklevel=3,
            )


class Tables(NamedTuple):
    """Completed tables: how many, and the k-th; with ``stacked(names, first, stop)``, columns of several tables of
    ``rows`` rows one below the other, where that is cheaper."""

    m: int
    frame: Callable[[int], pd.DataFrame]
    stacked: Callable[[list[str], int, int], pd.DataFrame] | None = None
    rows: int = 0
    columns: tuple[str, ...] = ()


def completed_tables(imputed: Any) -> Tables:
    """Whatever can be analysed, behind one interface."""
    if hasattr(imputed, "m") and hasattr(imputed, "frame"):
        tables = Tables(int(imputed.m), imputed.frame)
        if hasattr(imputed, "stacked"):
            tables = tables._replace(
                stacked=imputed.stacked, rows=len(imputed.data.frame), columns=tuple(imputed.columns)
            )
    elif (
        isinstance(imputed, Iterable)
        and not isinstance(imputed, str | Fits)
        and not hasattr(imputed, "columns")
    ):
        frames = [as_pandas(table)[0] for table in imputed]
        tables = Tables(len(frames), frames.__getitem__)
    else:
        raise DataError(
            f"Completed tables are expected, got {type(imputed).__name__}: give imputations (imp = model.impute(m=20, "
            f"seed=1)) or a list of tables, [table] if there is one only.{instead_of(imputed)}"
        )
    if tables.m == 0:
        raise DataError("there are no completed tables to analyse.")
    return tables


def _mentions_cluster(formula: Formula, cluster: str | None) -> None:
    if cluster is not None and cluster not in (*formula.groups, *formula.variables):
        warnings.warn(
            f"{formula.text!r} does not mention {cluster!r}, the cluster of the imputation model: its "
            f"standard errors assume independent rows. Add (1 | {cluster}), or {cluster} as a factor.",
            StatisticalWarning,
            stacklevel=3,
        )

"""Fit one analysis to every completed table.

An analysis is a formula, ``"y ~ x + (1 + x | school)"``, or a function of a table. For a formula, tables are stacked
and design matrices are computed once per stack (`bayesimp.analysis.linear.STACK` rows).

    no random term, normal                      least squares
    one random term on one column, normal       own kernel (`bayesimp.kernels.lmm.fit`)
    crossed or nested terms, normal             own kernel (`bayesimp.kernels.crossed.fit`)
    bernoulli, binomial, poisson, ordinal       own kernels (`bayesimp.kernels.laplace.criterion`), Hessian covariance
    other terms, other families                 the optional package glmm (`bayesimp.analysis.glmm_adapter`)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayesimp.analysis.bases import with_bases
from bayesimp.analysis.congenial import congeniality
from bayesimp.analysis.fits import Fit, Fits
from bayesimp.analysis.function_rows import FunctionRows
from bayesimp.analysis.functions import fit_by_function
from bayesimp.analysis.generalised import fit_generalised
from bayesimp.analysis.linear import fit_linear
from bayesimp.analysis.ordinal_rows import OrdinalRows
from bayesimp.analysis.posteriors import Posteriors
from bayesimp.analysis.response import check_response, of_family
from bayesimp.analysis.row_model import FormulaRows
from bayesimp.contract import ImputationModel
from bayesimp.errors import PACKAGE, DataError, SpecificationError, StatisticalWarning, instead_of
from bayesimp.events import Event
from bayesimp.families.registry import analysis_names, family_of
from bayesimp.formulas.formula import Formula, parse
from bayesimp.kernels.laplace.fit import EVENTS, NO_CURVATURE, SEPARATED
from bayesimp.table.reading import as_pandas
from bayesimp.threads import one_thread

__all__ = ["Fit", "Fits", "completed_tables", "fit_each"]

NORMAL = analysis_names("linear")
GENERALISED = analysis_names("laplace", "cumulative")


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
        A formula (``cluster_mean(x)`` and the like are computed in each completed table) with random terms in lme4's
        syntax, for one or several grouping factors: ``(1 + x | school) + (1 | item)``, ``(1 | school/class)``.
        Otherwise a function of a table that returns ``(estimates, covariance)``, ``(estimates, covariance, residual
        df)``, or a result with ``params``, ``cov_params()`` and possibly ``df_resid`` (statsmodels). If it returns a
        DataTree with a group ``posterior`` (Bambi, PyMC), the result is `bayesimp.analysis.posteriors.Posteriors`.
    family
        ``"normal"``; ``"bernoulli"``, ``"binomial"`` (the same, usually with ``trials``), ``"poisson"`` or ``"ordinal"``,
        fitted by maximising the Laplace log-likelihood (or that by ``quadrature``), with the covariance from its Hessian.
        The response of a bernoulli model is bool, 0/1, or a text or category with two levels, of which the second (in
        alphabetical order, or in the order of the category) is the event. That of an ordinal (cumulative logit) model,
        P(y <= l) = logistic(alpha_l - eta), is an ordered category or whole numbers, with at least three levels; its
        first coefficients are the thresholds alpha, ``"low|medium"``. Other families, and these except ordinal with
        several grouping factors, need the optional package glmm.
    reml
        Restricted maximum likelihood, or maximum likelihood (needed for D3). Linear mixed models only.
    cluster
        The cluster of the imputation model. A warning follows if the analysis does not mention it, and it is the
        cluster of ``cluster_mean(x)``, ``within(x)`` and ``cluster_size()`` if the formula has no grouping column, or
        several.
    link
        ``"logit"`` (default) or ``"probit"``; ``"log"`` for poisson; for ordinal ``"logit"`` only.
    trials, weights, offset
        Names of columns: number of trials of a row (bernoulli, binomial); weight; known part of the linear predictor. A
        weight w counts as w equal rows in all models but normal ones, where it is a precision: the residual of the row
        has variance sigma^2 / w.
    quadrature
        Nodes of adaptive Gauss-Hermite quadrature, as lme4's ``nAGQ``, for bernoulli, binomial, poisson and ordinal
        models with one random effect per cluster, ``(1 | school)`` or ``(0 + x | school)``; 1: Laplace's approximation. A
        StatisticalWarning says when that shifts the estimates, as with large effects in small clusters; then give 20.
        For several effects per cluster there is only Laplace's approximation, without this check.

    Raises
    ------
    SpecificationError
        The formula cannot be parsed or fitted, or needs the package glmm, which is not installed.
    DataError
        A completed table still has missing values in a column of the analysis.
    """
    tables = completed_tables(imputed)
    columns = {
        "trials": trials,
        "weights": weights if tables.counts is None else tables.counts,
        "offset": offset,
    }
    _check_names(columns)
    if callable(analysis):
        if quadrature != 1 or any(option is not None for option in (link, *columns.values())):
            raise SpecificationError(
                "link, trials, quadrature, weights and offset apply to formulas, but the analysis is a "
                "function of a table: handle them there."
            )
        fields = fit_by_function(tables, analysis)
        if isinstance(fields, Posteriors):
            return fields  # type: ignore[return-value]  # of analyses that return trees only
        return Fits(getattr(analysis, "__name__", "function"), **fields, rows=FunctionRows(tables, analysis))
    formula = parse(analysis)
    formula = replace(formula, cluster_of_means=formula.cluster or cluster)
    if len(formula.responses) != 1:
        raise SpecificationError(f"Formula {analysis!r}: an analysis has one response on the left of ~.")
    _mentions_cluster(formula, cluster)
    formula, notes = with_bases(formula, imputed)
    tables, first = _with_first(tables, formula.responses[0])
    if family in NORMAL or (family in GENERALISED and not family_of(family).is_ordered):
        two = family in GENERALISED and family_of(family).takes_trials and trials is None
        check_response(first, formula, family, two, imputed)
    result = _fitted(tables, formula, family, reml, link, quadrature, columns)
    log = (*result.pop("log", ()), *notes, *_compare(imputed, formula, offset))
    log += of_family(imputed, first, formula) if family in NORMAL else ()
    levels = result.pop("levels", ())
    rows = (OrdinalRows if levels else FormulaRows)(
        tables, formula, family, _link(family, link), columns, levels, tables.counts
    )
    fits = Fits(analysis, **result, log=log, rows=rows)
    if fits.codes is not None:
        _warn_of_codes(fits)
    _warn_not_converged(fits, analysis)
    return fits


def _with_first(tables: Tables, response: str) -> tuple[Tables, pd.DataFrame]:
    """The tables, and the response in the first one, which is made once only."""
    if tables.stacked is not None:
        return tables, tables.stacked([response] if response in tables.columns else [], 0, 1)
    first, frame = tables.frame(0), tables.frame
    return tables._replace(frame=lambda k: first if k == 0 else frame(k)), first


def _fitted(
    tables: Tables, formula: Formula, family: str, reml: bool, link: str | None, quadrature: int,
    columns: Mapping[str, str | None],
) -> dict[str, Any]:  # fmt: skip
    """Fields of `Fits` for a formula, from the engine that handles its family and grouping factors."""
    one_factor = formula.single_grouping and ":" not in formula.random[0].group
    if family in GENERALISED and (one_factor or not formula.random):
        with one_thread(tables.rows * len(tables.columns)):
            return fit_generalised(tables, formula, family, link, quadrature, **columns)
    if family in NORMAL and link is None and columns["trials"] is None and quadrature == 1:
        with one_thread(tables.rows * len(tables.columns)):
            return fit_linear(tables, formula, reml, columns["weights"], columns["offset"])
    if quadrature != 1 or any(option is not None for option in (link, *columns.values())):
        raise SpecificationError(
            f"{formula.text!r}: link, trials and quadrature are for families {', '.join(GENERALISED)} with at most one "
            f"grouping factor, weights and offset for these and the normal family; the family is {family!r}."
        )
    from bayesimp.analysis.glmm_adapter import fit_by_glmm

    return fit_by_glmm(tables, formula, family)


def _warn_not_converged(fits: Fits, analysis: str) -> None:
    astray = ~fits.converged
    if fits.codes is not None:
        astray &= (fits.codes & SEPARATED) == 0  # already reported
    if astray.any():
        warnings.warn(
            f"{int(astray.sum())} of {len(fits)} fits of {analysis!r} did not converge "
            f"(imputations {', '.join(str(k + 1) for k in np.flatnonzero(astray)[:10])}); "
            "simplify the model.",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )


def _link(family: str, link: str | None) -> str:
    """The link whose inverse is the mean; "" for families of other engines, which have their own links."""
    if family in NORMAL:
        return "identity"
    return (link or next(iter(family_of(family).links))) if family in GENERALISED else ""


def _compare(imputed: Any, formula: Formula, offset: str | None) -> tuple[Event, ...]:
    """Warn of, and return as events, what the analysis contains and the imputation model (if known) lacks."""
    model = getattr(imputed, "model", None)
    if not isinstance(model, ImputationModel):
        return ()
    cells = {name: len(imputed.rows(name)) for name in imputed.imputed_columns if len(imputed.rows(name))}
    verdict = congeniality(model, formula, cells, imputed.frame(0), offset)
    text = verdict.warning()
    if text is not None:
        warnings.warn(text, StatisticalWarning, skip_file_prefixes=PACKAGE)
    return verdict.events(cells)


def _warn_of_codes(fits: Fits) -> None:
    """Warn of separated tables and of Hessians without standard errors; singular fits are shown with the result."""
    assert fits.codes is not None
    for bit in (SEPARATED, NO_CURVATURE):
        tables = np.flatnonzero(fits.codes & bit)
        if len(tables):
            warnings.warn(
                f"{fits.analysis!r}: in {len(tables)} of {len(fits)} tables (imputations "
                f"{', '.join(str(k + 1) for k in tables[:10])}) {EVENTS[bit][1]}.",
                StatisticalWarning,
                skip_file_prefixes=PACKAGE,
            )


class Tables(NamedTuple):
    """Completed tables: their number ``m`` and ``frame(k)``, the k-th.

    ``stacked(names, first, stop)``, if given, returns columns of several tables of ``rows`` rows, one below the other,
    more cheaply. counts: the column that says how many rows each row stands for; None: one.
    """

    m: int
    frame: Callable[[int], pd.DataFrame]
    stacked: Callable[[list[str], int, int], pd.DataFrame] | None = None
    rows: int = 0
    columns: tuple[str, ...] = ()
    counts: str | None = None


def completed_tables(imputed: Any) -> Tables:
    """Anything that can be analysed, behind one interface."""
    if hasattr(imputed, "m") and hasattr(imputed, "frame"):
        tables = Tables(int(imputed.m), imputed.frame, counts=getattr(imputed, "counts", None))
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
            f"Completed tables are expected, got {type(imputed).__name__}. Give imputations (imp = model.impute(m=20, "
            f"seed=1)) or a list of tables, [table] if there is only one.{instead_of(imputed)}"
        )
    if tables.m == 0:
        raise DataError("there are no completed tables to analyse.")
    return tables


def _check_names(columns: Mapping[str, Any]) -> None:
    """Refuse anything but the name of a column."""
    for option, name in columns.items():
        if name is not None and not isinstance(name, str):
            raise SpecificationError(
                f"{option} takes the name of a column, so that rows keep their {option} in every completed table; got "
                f"{type(name).__name__}. Put the numbers into the table before imputing, table.assign({option}=...), "
                f"and give {option}='{option}'."
            )


def _mentions_cluster(formula: Formula, cluster: str | None) -> None:
    if cluster is not None and cluster not in (*formula.groups, *formula.variables):
        warnings.warn(
            f"{formula.text!r} does not mention {cluster!r}, the cluster of the imputation model, so its "
            f"standard errors assume independent rows. Add (1 | {cluster}), or {cluster} as a factor.",
            StatisticalWarning,
            skip_file_prefixes=PACKAGE,
        )

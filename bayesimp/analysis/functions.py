"""Analyses given as functions of a completed table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.posteriors import Posteriors, is_tree, stack_posteriors
from bayesimp.errors import SpecificationError

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["fit_by_function", "read_result"]


def fit_by_function(tables: Tables, function: Callable[[pd.DataFrame], Any]) -> dict | Posteriors:
    """Fields of `Fits` from ``function`` applied to every table; if it returns DataTrees, the mixture of posteriors."""
    first = function(tables.frame(0))
    later = (function(tables.frame(k)) for k in range(1, tables.m))
    if is_tree(first):
        return stack_posteriors([first, *later], getattr(function, "__name__", "function"))
    results = [read_result(first), *(read_result(result, k) for k, result in enumerate(later, start=1))]
    names = results[0][0]
    for k, result in enumerate(results):
        if result[0] != names:
            raise SpecificationError(
                f"imputation {k + 1} has the estimates {', '.join(result[0])}, imputation 1 has "
                f"{', '.join(names)}; every table must give the same ones. Is a category absent from some tables? "
                "Fix the categories first."
            )
    M, nothing = tables.m, np.zeros((tables.m, 0))
    return {
        "names": names,
        "estimates": np.array([r[1] for r in results]), "covariances": np.array([r[2] for r in results]),
        "df_complete": min(r[3] for r in results), "converged": np.array([r[4] for r in results]),
        "singular": np.zeros(M, bool), "component_names": (), "components": nothing,
        "components_cov": np.zeros((M, 0, 0)), "loglik": np.full(M, np.nan), "parameters": len(names),
    }  # fmt: skip


def read_result(result: Any, k: int = 0) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, float, bool]:
    """Names, estimates (k,), covariance (k, k), residual df (inf if not given) and convergence of one result.

    Raises
    ------
    SpecificationError
        The result is not of an accepted kind, its sizes do not match, or a value is not finite.
    """
    converged = True
    if hasattr(result, "params") and hasattr(result, "cov_params"):
        estimates, covariance = result.params, result.cov_params()
        df = getattr(result, "df_resid", np.inf)
        df = np.inf if df is None else df
        converged = bool(getattr(result, "converged", True))
    elif isinstance(result, tuple) and len(result) in (2, 3):
        estimates, covariance = result[:2]
        df = result[2] if len(result) == 3 else np.inf
    else:
        raise SpecificationError(
            f"imputation {k + 1}: the function returned {type(result).__name__}; return (estimates, "
            "covariance), (estimates, covariance, residual df), or a statsmodels result."
        )
    if isinstance(estimates, pd.DataFrame):
        estimates = _by_level(estimates, covariance, k)
    if isinstance(estimates, dict):
        estimates = pd.Series(estimates)
    values = np.atleast_1d(np.asarray(estimates, dtype=float))
    names = (
        [_name(result, n) for n in estimates.index]
        if isinstance(estimates, pd.Series)
        else [f"Q{j + 1}" for j in range(len(values))]
    )
    if isinstance(covariance, pd.DataFrame) and isinstance(estimates, pd.Series):
        if set(covariance.index) >= set(estimates.index) and set(covariance.columns) >= set(estimates.index):
            covariance = covariance.loc[estimates.index, estimates.index]
    V = np.atleast_2d(np.asarray(covariance, dtype=float))
    if values.ndim != 1 or V.shape != (len(values), len(values)):
        raise SpecificationError(
            f"imputation {k + 1}: estimates of shape {values.shape} and a covariance of shape {V.shape} do not match."
        )
    if not (np.isfinite(values).all() and np.isfinite(V).all()):
        raise SpecificationError(f"imputation {k + 1}: an estimate or covariance is missing or infinite.")
    return tuple(names), values, V, float(df), converged


def _by_level(estimates: pd.DataFrame, covariance: Any, k: int) -> pd.Series:
    """Coefficients for each level of a response (columns in statsmodels' MNLogit), in the order of their covariance."""
    index = getattr(covariance, "index", None)
    if not isinstance(index, pd.MultiIndex) or len(index) != estimates.size:
        raise SpecificationError(
            f"imputation {k + 1}: coefficients of shape {estimates.shape}, but their covariance does not say their "
            "order; return (estimates, covariance) with a Series of named estimates."
        )
    values = estimates.to_numpy().T.ravel()  # level by level
    by_term = [term for _, term in index] == list(estimates.index) * estimates.shape[1]
    if not by_term:
        raise SpecificationError(
            f"imputation {k + 1}: coefficients and their covariance are in different orders."
        )
    return pd.Series(values, index=index)


def _name(result: Any, label: Any) -> str:
    """The name of an estimate; statsmodels' random-effects variances are relative to the residual variance."""
    if isinstance(label, tuple):
        return ": ".join(map(str, label))
    fixed = getattr(result, "fe_params", None)
    relative = fixed is not None and hasattr(result, "cov_re_unscaled") and label not in fixed.index
    return f"{label} / residual Var" if relative else str(label)

"""Predictions for rows from the fitted objects that a function of a table returns (statsmodels, with a formula).

Such an object has ``params``, ``cov_params()`` and ``model.predict(params, exog)``, the mean at any parameters, which
is differentiated numerically. Columns of new rows are computed by the formula with which it was fitted. The function is
called again for each table; only the first fitted object is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.row_model import RowPredictions
from bayesimp.errors import SpecificationError
from bayesimp.notation import Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables
    from bayesimp.analysis.fits import Fits

__all__ = ["FunctionRows"]

STEP = 1e-5  # of a numerical derivative by a parameter, in units of its standard error
OF_LINK = {
    "Logit": "logit",
    "logit": "logit",
    "Log": "log",
    "log": "log",
    "Probit": "probit",
    "probit": "probit",
}
OF_MODEL = {
    "Logit": "logit",
    "Probit": "probit",
    "Poisson": "log",
    "NegativeBinomial": "log",
    "NegativeBinomialP": "log",
}


@dataclass(frozen=True)
class FunctionRows:
    """Row predictions for an analysis given as a function.

    Attributes
    ----------
    tables, function
        The completed tables, and the function that analyses one of them.
    """

    tables: Tables
    function: Callable[[pd.DataFrame], Any]
    levels: tuple[Any, ...] = ()  # of an ordinal response, which statsmodels' predictions do not have
    counts: str | None = None  # tables whose rows are counted are not given to functions

    @cached_property
    def first(self) -> Any:
        """The fitted object for the first table."""
        return self.function(self.tables.frame(0))

    def check(self) -> None:
        """Refuse results that cannot make predictions.

        Raises
        ------
        SpecificationError
            The function returned no fitted object, or one that was not fitted with a formula.
        """
        model = getattr(self.first, "model", None)
        if (
            not hasattr(model, "predict")
            or not _formula(self.first)
            or not hasattr(self.first, "_transform_predict_exog")
        ):
            raise SpecificationError(
                f"the function returned {type(self.first).__name__}, which cannot predict rows. Return a result of "
                "statsmodels.formula.api, or the desired estimates and their covariance, which are then pooled are."
            )

    @property
    def link(self) -> str:
        """The link on whose scale means are pooled; the identity if no other is known."""
        model = self.first.model
        family = getattr(model, "family", None)
        if family is not None and hasattr(family, "link"):
            return OF_LINK.get(type(family.link).__name__, "identity")
        return OF_MODEL.get(type(model).__name__, "identity")

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns of the tables that the formula names."""
        return tuple(name for name in map(str, self.tables.frame(0).columns) if name in _names(self.first))

    @property
    def averages(self) -> bool:
        """False: there are no cluster effects to average over."""
        return False

    def is_factor(self, name: str, column: pd.Series) -> bool:
        """Whether a column enters as a factor: text, categories, bool, C(x)."""
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        return not numeric or f"C({name})" in _formula(self.first).replace(" ", "")

    def predicted(self, fits: Fits, k: int, new: pd.DataFrame, scale: str, effects: str) -> RowPredictions:
        """Predictions for new rows from the fit of table k.

        Raises
        ------
        SpecificationError
            The object cannot make this kind of prediction, or new rows have missing values.
        """
        if effects != "zero":
            raise SpecificationError(
                f"{fits.analysis!r}: random_effects = {effects!r} needs a mixed model given as a formula to bayesimp."
            )
        result = self.first if k == 0 else self.function(self.tables.frame(k))
        X = _columns(result, new)
        params = np.asarray(getattr(result, "fe_params", result.params), dtype=float)
        if params.ndim != 1 or (scale == "link" and X.shape[1] != len(params)):
            raise SpecificationError(
                f"{fits.analysis!r}: its model has no single linear predictor; give scale='response'."
            )
        K = fits.estimates.shape[1]
        if scale == "link":
            return RowPredictions(X @ params, np.hstack([X, np.zeros((len(X), K - len(params)))]))

        def mean(theta: Vector) -> Vector:
            return np.asarray(result.model.predict(theta, X), dtype=float)

        if mean(params).ndim != 1:
            raise SpecificationError(
                f"{fits.analysis!r}: {type(result.model).__name__} predicts several numbers for a row, such as "
                "a probability for each level. Return the one you want, with its variance, from the function."
            )
        gradient = np.zeros((len(X), K))
        for j, se in enumerate(np.sqrt(np.diag(fits.covariances[k]))[: len(params)]):
            h = STEP * se * (np.arange(len(params)) == j)
            gradient[:, j] = (mean(params + h) - mean(params - h)) / (2 * STEP * se)
        return RowPredictions(mean(params), gradient)


def _formula(result: Any) -> str:
    return str(getattr(result.model, "formula", "") or "")


def _names(result: Any) -> set[str]:
    """All words on the right-hand side of the formula."""
    return set(re.findall(r"[^\W\d]\w*", _formula(result).partition("~")[2]))


def _columns(result: Any, new: pd.DataFrame) -> Matrix:
    """The design matrix of new rows, from the formula of the fit."""
    try:
        made = result._transform_predict_exog(new, transform=True)
    except Exception as problem:  # patsy and formulaic have their own
        said = " ".join(str(problem).split()).partition("returned by patsy is: ")
        raise SpecificationError(
            f"the columns of {_formula(result)!r} cannot be computed for new rows: {(said[2] or said[0])[:300]}. A "
            "spline of statsmodels ends at the outermost values of a table, where a slope would need values on both "
            "sides; imp.analyse('y ~ bs(x, df=4)') continues it."
        ) from problem
    X = np.asarray(made[0] if isinstance(made, tuple) else made, dtype=float)
    if len(X) != len(new):
        raise SpecificationError(f"{len(new) - len(X)} of {len(new)} new rows have missing values.")
    return X

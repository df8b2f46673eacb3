"""`MultilevelImputer`: fit on one table, complete another, with the names and conventions of scikit-learn.

A thin class around `JointNormal` and `Imputations.transform`, for pipelines. scikit-learn is not required: its contract
consists of names (``fit``, ``transform``, ``get_params``, attributes that end in "_").
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import ImputationModel
from bayesimp.errors import SpecificationError
from bayesimp.imputation.new_rows import ImputedNewRows
from bayesimp.imputation.result import Imputations
from bayesimp.joint.normal import JointNormal
from bayesimp.layout import Printed, as_call
from bayesimp.messages import listing, suggestion
from bayesimp.priors import Priors
from bayesimp.table.incomplete import IncompleteData
from bayesimp.workflow.default_formula import formula_of

__all__ = ["MultilevelImputer"]


class MultilevelImputer(Printed):
    """Multilevel imputation as a transformer: ``fit`` draws from the posterior, ``transform`` completes new rows from it.

    Parameters
    ----------
    cluster
        Name of the cluster column, which must be in every table.
    formula
        Formula of `JointNormal`, with all variables that may be missing on its left side. None: all normal variables on
        the left, complete ones too, because new rows may lack them; other complete variables on the right; a random
        intercept.
    families, priors
        As for `IncompleteData` and `JointNormal`.
    m, chains, draws
        As for `JointNormal.impute`.
    number
        The completed table (0 .. m-1) that ``transform`` and ``fit_transform`` return. One table has a single draw of
        every missing value; predictions that show their uncertainty need all tables (`impute`, `imputations_`).
    random_state
        Seed of ``fit`` and of every ``transform``. None: a new one each time.

    Attributes
    ----------
    imputations_
        `Imputations` of the table of ``fit``; including the posterior, `Imputations.summary` and events.
    model_
        The `JointNormal`.
    feature_names_in_, n_features_in_
        Columns of that table, and their number.

    Notes
    -----
    ``fit(X).transform(X)`` treats the rows of X as new rows, so their observed values count twice, as an
    event of `impute` reports; ``fit_transform(X)`` returns a completed table of the run itself. Pipelines call the latter
    when they are fitted.

    Examples
    --------
    >>> imputer = bi.MultilevelImputer("study", "sbp + bmi ~ age + (1 | study)", random_state=1)   # doctest: +SKIP
    >>> completed = imputer.fit(patients).transform(new_patients)                                  # doctest: +SKIP
    """

    imputations_: Imputations
    model_: ImputationModel
    feature_names_in_: NDArray[np.object_]
    n_features_in_: int

    def __init__(
        self,
        cluster: str,
        formula: str | None = None,
        *,
        families: Mapping[str, str] | None = None,
        priors: Priors | str | None = None,
        m: int = 20,
        chains: int = 4,
        draws: int = 1000,
        number: int = 0,
        random_state: int | None = None,
    ) -> None:
        self.cluster, self.formula, self.families, self.priors = cluster, formula, families, priors
        self.m, self.chains, self.draws = m, chains, draws
        self.number, self.random_state = number, random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw from the posterior given a table; y is not used.

        Raises
        ------
        DataError, SpecificationError
            As for `IncompleteData` and `JointNormal`.
        """
        if isinstance(self.number, bool) or self.number not in range(self.m):
            raise SpecificationError(f"number must be from 0 to m - 1 = {self.m - 1}, got {self.number!r}.")
        data = IncompleteData(X, self.cluster, self.families)
        formula = _formula(data) if self.formula is None else self.formula
        self.model_ = JointNormal(data, formula, self.priors)
        self.imputations_ = self.model_.impute(
            self.m, seed=self.random_state, chains=self.chains, draws=self.draws, progress=False
        )
        self.feature_names_in_ = np.array(data.frame.columns, dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        return self

    def transform(self, X: Any) -> Any:
        """Completed table `number` of new rows, in the library of X (pandas, polars, Arrow).

        Raises
        ------
        DataError, SpecificationError
            The imputer is not fitted; otherwise as for `Imputations.transform`.
        """
        return self.impute(X).to_frame(self.number)

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Completed table `number` of X, from the run fitted to it; y is not used."""
        return self.fit(X).imputations_.to_frame(self.number)

    def impute(self, X: Any) -> ImputedNewRows:
        """All m completed tables of new rows; see `Imputations.transform`."""
        if not self.__sklearn_is_fitted__():
            raise SpecificationError(
                "This MultilevelImputer is not fitted yet: call fit(X) with a table first."
            )
        return self.imputations_.transform(X, seed=self.random_state)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Columns of the completed tables, which are those of the table of ``fit``."""
        if not self.__sklearn_is_fitted__():
            raise SpecificationError(
                "This MultilevelImputer is not fitted yet: call fit(X) with a table first."
            )
        return self.feature_names_in_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the class by name; `deep` makes no difference."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters of the class.

        Raises
        ------
        SpecificationError
            A name is not a parameter; nothing is set in that case.
        """
        known = self.get_params()
        for name in parameters:
            if name not in known:
                raise SpecificationError(
                    f"'{name}' is not a parameter of MultilevelImputer. {suggestion(name, known)}"
                )
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "imputations_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=TransformerTags(),
            input_tags=InputTags(two_d_array=False, string=True, categorical=True, allow_nan=True),
        )  # fmt: skip

    def __repr__(self) -> str:
        own = {name: p.default for name, p in signature(type(self)).parameters.items()}
        given = {name: value for name, value in self.get_params().items() if value is not own[name]}
        return as_call("MultilevelImputer", given)


def _formula(data: IncompleteData) -> str:
    """All normal variables on the left side, other complete ones on the right."""
    normal = [name for name in data.variables if data.variable(name).distribution.is_normal]
    usable = (name for name in data.variables if data.variable(name).distribution.is_imputable)
    others = [name for name in usable if name not in normal]
    holes = [name for name in others if data.missing(name).any()]
    if holes or not normal:
        what = f"{listing(holes)} is not normal" if holes else "it has no normal variable"
        raise SpecificationError(
            f"The table has no default formula: {what}, but JointNormal imputes normal variables only. Name the "
            "variables in formula='y1 + y2 ~ x + (1 | cluster)', or use JointGLMM or FCS for this table."
        )
    return formula_of(normal, others, data.cluster)

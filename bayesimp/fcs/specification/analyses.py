"""Analyses for which chained equations impute: substantive-model-compatible draws (Bartlett et al. 2015).

A covariate x of an analysis p(y | x, w, u) is drawn from  p(x | w, v) p(y | x, w, u), where the first factor is its own
conditional model; y is drawn from the analysis. y is not a predictor in the model of x, because it would be used twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.predictors import Predictors, larger
from bayesimp.joint.glmm.factors import read_formula
from bayesimp.joint.glmm.request import read_request
from bayesimp.messages import listing
from bayesimp.methods import Bayes, ClusterLevel, Method, SingleLevel
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Analyses", "check_drawn", "check_limited", "read_analyses"]

TAKEN = "'bayes' and 'iw' (with one residual variance), 'norm', 'glm' and '2lonly' (without donors)"


@dataclass(frozen=True)
class Analyses:
    """Analyses by response, in the order in which they were given.

    Attributes
    ----------
    formulas
        Response -> formula.
    """

    formulas: Mapping[str, Predictors] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self.formulas

    def __bool__(self) -> bool:
        return bool(self.formulas)

    @property
    def texts(self) -> dict[str, str]:
        """Response -> formula as given."""
        return {name: formula.text for name, formula in self.formulas.items()}

    @property
    def covariates(self) -> frozenset[str]:
        """All variables on a right-hand side."""
        return frozenset().union(*(f.formula.variables for f in self.formulas.values()))

    def of(self, name: str) -> list[str]:
        """The analyses, as given, of which a variable is a covariate."""
        return [f.text for f in self.formulas.values() if name in f.formula.variables]

    def after(self, name: str) -> frozenset[str]:
        """Responses of which a variable is a covariate, directly or through other responses."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            now = waiting.pop()
            new = {y for y, f in self.formulas.items() if now in f.formula.variables} - found
            found |= new
            waiting += new
        return frozenset(found)

    def method(self, data: IncompleteData, name: str) -> Method:
        """The method whose model is the analysis, if the user named none."""
        if of_clusters(data, name):
            return ClusterLevel()
        return SingleLevel() if self.formulas[name].random is None else Bayes()


def read_analyses(
    analysis: Any,
    data: IncompleteData,
    blocks: Mapping[str, Sequence[str]] | None,
    derived: Mapping[str, str],
    ignore: NDArray[np.bool_] | None,
) -> Analyses:
    """Read and check the analyses of a call; None means none.

    Raises
    ------
    SpecificationError
        One is not a formula of this table with one response, two have the same response and neither contains the other,
        or they go in a circle.
    """
    if analysis is None:
        return Analyses()
    found: dict[str, Predictors] = {}
    for text in read_request(data.cluster, analysis, None, None, None).analyses:
        name, formula = read_formula(data, text, None)
        if not data.variable(name).distribution.is_imputable:
            raise SpecificationError(
                f"Analysis '{text}': '{name}' has family '{data.families[name]}', hence no distribution; make it a "
                "number, a text or a category."
            )
        found[name] = larger(found[name], formula, name) if name in found else formula
    analyses = Analyses(found)
    for name in found:
        if name in analyses.after(name):
            texts = "; ".join(f"'{f.text}'" for f in found.values())
            raise SpecificationError(
                f"The analyses form a circle: '{name}' is a covariate in the analysis of one of its own covariates "
                f"({texts}). Remove it from one formula."
            )
    _check_options(analyses, blocks, derived, ignore)
    return analyses


def _check_options(
    analyses: Analyses,
    blocks: Mapping[str, Sequence[str]] | None,
    derived: Mapping[str, str],
    ignore: NDArray[np.bool_] | None,
) -> None:
    """Refuse options that substantive-model-compatible draws do not support; the message says what to use instead."""
    if not analyses:
        return
    if derived:
        raise SpecificationError(
            f"derived with analysis: {listing(sorted(derived))} would have to follow every value tried for its "
            "ingredients. Write the expression in the formulas, as in I(weight / height**2), and remove derived=."
        )
    if ignore is not None and ignore.any():
        raise SpecificationError(
            f"ignore with analysis: {int(ignore.sum()):,} rows would be imputed given an analysis to which they do not "
            "belong. Leave these rows out of the table, or remove one of the two options."
        )
    for block, members in (blocks or {}).items():
        for name in members:
            if name in analyses or name in analyses.covariates:
                raise SpecificationError(
                    f"Block '{block}': '{name}' is in an analysis, so its values are drawn one by one given the "
                    "analysis. Remove it from the block."
                )


def check_drawn(
    block: ConditionalModel, analyses: Analyses, base: BaseColumns, bounded: Collection[str]
) -> None:
    """Refuse a model that cannot be a factor of the distribution from which a variable in an analysis is drawn.

    Raises
    ------
    SpecificationError
        Its method is not suitable, it has bounds, or the response of an analysis predicts a covariate.
    """
    name, method = block.name, block.method
    if not (name in analyses or name in analyses.covariates):
        return
    if name in bounded:
        raise SpecificationError(
            f"bounds['{name}']: '{name}' is in an analysis, and values drawn given an analysis cannot have bounds. "
            "Remove one of the two, or change the drawn values by post=."
        )
    if not method.given_analysis:
        what = "residual='cluster'" if method.residual == "cluster" else f"method '{method.name}'"
        raise SpecificationError(
            f"'{name}' is in an analysis, so its values are drawn from its own model times the analysis, which {what} "
            f"does not support. Use {TAKEN}."
        )
    if method.group:
        raise SpecificationError(
            f"'{name}' is in an analysis and has one value in each group of '{method.group}': values drawn given an "
            "analysis are those of rows or of clusters. Take analysis= out; or impute it row by row, "
            f"methods={{'{name}': 'bayes'}}, by which a group has several values."
        )
    after = analyses.after(name)
    for column in (*block.fixed, *block.random):
        for part in (column.base, *(column.over or ())):
            if used := base.roots(part) & after:
                response = min(used)
                raise SpecificationError(
                    f"predictors: '{response}' is in the formula of '{name}' (column '{column.name}'), and '{name}' "
                    f"is a covariate of '{analyses.formulas[response].text}': the information in '{response}' comes "
                    f"from there and would count twice. Remove '{response}' from the formula of '{name}'."
                )


def check_limited(block: ConditionalModel, base: BaseColumns, ignore: NDArray[np.bool_] | None) -> None:
    """Refuse a model of a censored variable from which its values cannot be drawn as a factor.

    Raises
    ------
    SpecificationError
        Rows are ignored, or a derived column is among its predictors.
    """
    name = block.name
    if ignore is not None and ignore.any():
        raise SpecificationError(
            f"ignore: '{name}' is {block.family}, and its parameters are drawn given its completed values, including "
            f"those of the {int(ignore.sum()):,} ignored rows. Leave these rows out of the table, or remove ignore=."
        )
    for column in (*block.fixed, *block.random):
        parts = [part for part in (column.base, *(column.over or ())) if part in base.derived]
        if any(base.derived[part].column is not None for part in parts):
            raise SpecificationError(
                f"'{name}' is {block.family}, so its model cannot have the derived column '{parts[0]}'. Write the "
                "expression in its formula, or remove the column."
            )

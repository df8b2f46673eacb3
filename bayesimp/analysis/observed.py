"""What the table says about columns that formulas do not: levels, equal groupings, columns that others determine."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.contract import Contents, ImputationModel
from bayesimp.errors import BayesimpError
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import Formula, RandomTerm, parse
from bayesimp.formulas.syntax import Name, read, walk
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Observed"]

Array = NDArray[Any]
ROWS = 5_000  # by which a column is compared with others
TOLERANCE = 1e-7


class Observed:
    """The table of an imputation model, as an analysis sees it.

    Parameters
    ----------
    table
        A completed table, or None: rows of the incomplete one.
    """

    def __init__(self, model: ImputationModel, analysis: Formula, table: pd.DataFrame | None) -> None:
        self.data: IncompleteData = model.data
        self.analysis, self.table = analysis, table

    @cached_property
    def linear(self) -> frozenset[str]:
        """Variables with two values, and factors, which enter models with a column for each level."""
        return frozenset(name for name in self.data.variables if self._is_linear(name))

    def _is_linear(self, name: str) -> bool:
        family, column = self.data.variable(name).distribution, self.data.frame[name]
        if family.is_two_valued or self.is_factor(name):
            return True
        return not self.data.missing(name).any() and column[:ROWS].nunique() <= 2 and column.nunique() <= 2

    def is_factor(self, name: str) -> bool:
        """Whether a column is a factor, represented by its levels."""
        dtype = self.data.frame[name].dtype
        number = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
        return self.data.variable(name).distribution.is_factor or not number

    def is_cluster(self, random: RandomTerm) -> bool:
        """Whether a term groups the rows as the clusters of the imputation model do."""
        if random.names == (self.data.cluster,):
            return True
        if any(name not in self.data.frame for name in random.names):
            return False
        codes = self.data.frame.groupby(list(random.names), sort=False, dropna=False, observed=True).ngroup()
        pairs = pd.DataFrame({"a": codes.to_numpy(), "b": self.data.codes}).drop_duplicates()
        return len(pairs) == pairs["a"].nunique() == pairs["b"].nunique()

    def is_factor_of(self, random: RandomTerm, contents: Contents) -> bool:
        """Whether a model has the levels of a grouping column among its predictors."""
        if len(random.names) > 1:
            return False
        (name,) = random.names
        nodes = {n.name for n in walk(read(parse(contents.formula).fixed)) if isinstance(n, Name)}
        return name in nodes and name in self.data.variables and self.is_factor(name)

    def combination(self, contents: Contents, lacks: list[str]) -> bool:
        """Whether columns are linear combinations, in this table, of those that a model has.

        So is the cluster mean of a variable of clusters, and a column that the imputation model left out for others.
        """
        if contents.clusters == "of clusters":
            return False
        formula, asked = parse(contents.formula), parse(" ~ " + " + ".join(lacks))
        frame, codes = self._rows({*formula.columns, *asked.columns})
        X, columns = self._columns(formula, frame, codes), self._columns(asked, frame, codes)
        if X is None or columns is None or len(X) <= 2 * X.shape[1]:
            return False
        scale = np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
        X = X / np.maximum(np.linalg.norm(X, axis=0), 1e-300)
        left = columns - X @ np.linalg.lstsq(X, columns, rcond=TOLERANCE)[0]
        return bool((np.linalg.norm(left, axis=0) < TOLERANCE * scale).all())

    def _rows(self, names: set[str]) -> tuple[pd.DataFrame, Array]:
        """Rows that are complete in some columns, and their clusters."""
        if self.table is not None:
            return self.table, self.data.codes
        frame = self.data.frame
        there = frame[[name for name in frame.columns if name in names]].notna().all(axis=1).to_numpy()
        return frame[there], np.unique(self.data.codes[there], return_inverse=True)[1]

    def _columns(self, formula: Formula, frame: pd.DataFrame, codes: Array) -> Array | None:
        """Columns of the fixed part, of up to `ROWS` rows; None where they cannot be made."""
        formula = replace(formula, random=(), cluster_of_means=self.data.cluster)
        try:
            made = design(formula, frame, codes=codes).X
        except BayesimpError:
            return None
        return made[:: max(len(made) // ROWS, 1)]

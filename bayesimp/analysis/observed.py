"""What the table, but not a formula, says of columns: levels, equal groupings, linear dependence."""

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
ROWS = 5_000  # most rows on which columns are compared
TOLERANCE = 1e-7


class Observed:
    """The table of an imputation model, as used by an analysis.

    Parameters
    ----------
    table
        A completed table; None: complete rows of the incomplete one.
    """

    def __init__(self, model: ImputationModel, analysis: Formula, table: pd.DataFrame | None) -> None:
        self.data: IncompleteData = model.data
        self.analysis, self.table = analysis, table

    @cached_property
    def linear(self) -> frozenset[str]:
        """Two-valued variables, and factors, which enter models with a column per level."""
        return frozenset(name for name in self.data.variables if self._is_linear(name))

    def _is_linear(self, name: str) -> bool:
        family, column = self.data.variable(name).distribution, self.data.frame[name]
        if family.is_two_valued or self.is_factor(name):
            return True
        return not self.data.missing(name).any() and column[:ROWS].nunique() <= 2 and column.nunique() <= 2

    def is_factor(self, name: str) -> bool:
        """Whether a column enters models as a factor."""
        dtype = self.data.frame[name].dtype
        number = pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)
        return self.data.variable(name).distribution.is_factor or not number

    def is_cluster(self, random: RandomTerm) -> bool:
        """Whether a random term groups the rows exactly like the clusters of the imputation model."""
        if random.names == (self.data.cluster,):
            return True
        if any(name not in self.data.frame for name in random.names):
            return False
        codes = self.data.frame.groupby(list(random.names), sort=False, dropna=False, observed=True).ngroup()
        pairs = pd.DataFrame({"a": codes.to_numpy(), "b": self.data.codes}).drop_duplicates()
        return len(pairs) == pairs["a"].nunique() == pairs["b"].nunique()

    def is_factor_of(self, random: RandomTerm, contents: Contents) -> bool:
        """Whether a model has the levels of a grouping column as predictors."""
        if len(random.names) > 1:
            return False
        (name,) = random.names
        nodes = {n.name for n in walk(read(parse(contents.formula).fixed)) if isinstance(n, Name)}
        return name in nodes and name in self.data.variables and self.is_factor(name)

    def combination(self, contents: Contents, lacks: list[str]) -> bool:
        """Whether columns are, in this table, linear combinations of the columns of a model.

        Examples are the cluster mean of a cluster-level variable, and a column that the imputation model left out as
        redundant.
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
        """Rows that are complete in these columns, and their clusters."""
        if self.table is not None:
            return self.table, self.data.codes
        frame = self.data.frame
        there = frame[[name for name in frame.columns if name in names]].notna().all(axis=1).to_numpy()
        return frame[there], np.unique(self.data.codes[there], return_inverse=True)[1]

    def _columns(self, formula: Formula, frame: pd.DataFrame, codes: Array) -> Array | None:
        """Columns of the fixed part in about `ROWS` rows; None if they cannot be computed."""
        formula = replace(formula, random=(), cluster_of_means=self.data.cluster)
        try:
            made = design(formula, frame, codes=codes).X
        except BayesimpError:
            return None
        return made[:: max(len(made) // ROWS, 1)]

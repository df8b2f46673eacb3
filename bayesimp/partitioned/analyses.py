"""Analyses of the completed tables of a table in partitions.

bernoulli, poisson, ..    of tables of which only counts are kept: rows that are alike have one term in the
                          log-likelihood, multiplied by their number, so no row is read
all else                  the columns of the formula of one completed table in memory at a time; a pass over the rows
                          for each
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.contract import ImputationModel
from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import parse
from bayesimp.messages import suggestion

if TYPE_CHECKING:
    from bayesimp.partitioned.fcs_result import PartitionedFCSImputations
    from bayesimp.partitioned.parts import CompletedParts

__all__ = ["ColumnsOfTables", "CountedTables", "needed_columns"]

COUNTS = "number of rows"


class ColumnsOfTables:
    """Some columns of the completed tables, one table in memory at a time, for `bayesimp.fit_each`.

    m: number of tables; names: the columns.
    """

    def __init__(self, made: CompletedParts, names: Sequence[str]) -> None:
        self.m, self._made, self._names = made.m, made, list(names)
        self._last: tuple[int, pd.DataFrame] | None = None

    def frame(self, k: int) -> pd.DataFrame:
        """Completed table k."""
        if self._last is None or self._last[0] != k:
            self._last = None  # free the table before, which may be large
            whole = pd.concat([part[self._names] for part in self._made.frames(k)])
            self._last = k, whole
        return self._last[1]


class CountedTables:
    """Completed tables as their distinct rows, with a column of how many rows each is, for `bayesimp.fit_each`.

    m: number of tables; counts: that column; model: the conditional models, with which analyses are compared.
    """

    def __init__(self, made: PartitionedFCSImputations) -> None:
        self.m, self._made = made.m, made
        self.model: ImputationModel = made.model.model
        self.counts = COUNTS
        while self.counts in made.model.distinct.names:
            self.counts += "_"

    @property
    def imputed_columns(self) -> tuple[str, ...]:
        """The variables that are imputed."""
        return self._made.model.responses

    def rows(self, name: str) -> np.ndarray:
        """The distinct rows of the incomplete table that lack a variable."""
        return np.flatnonzero(self._made.model.table.missing(name))

    def frame(self, k: int) -> pd.DataFrame:
        """Completed table k."""
        cells, missing = self._made.cells[k], self._made.model.counts.missing[self._made.cells[k].kind]
        table = self._made.model.table.frame
        out = table.iloc[cells.kind].reset_index(drop=True)
        for j, name in enumerate(self._made.model.responses):
            column, own = out[name].to_numpy(dtype=object, copy=True), missing[:, j]
            column[own] = self._made.values(j, name, cells.y[own, j]).to_numpy(zero_copy_only=False)
            kind = table[name].dtype
            out[name] = pd.Series(column).astype(bool if pd.api.types.is_bool_dtype(kind) else kind)
        return out.assign(**{self.counts: cells.n})


def needed_columns(made: CompletedParts, analysis: str | Callable, options: dict[str, Any]) -> list[str]:
    """The columns of a formula and of options such as ``offset``.

    Raises
    ------
    SpecificationError
        The analysis is not a formula, or a column is not in the table.
    """
    if not isinstance(analysis, str):
        raise SpecificationError(
            "analyse: the analysis of a table in partitions is a formula, whose columns are read. For a function, "
            "export() the tables and give it those columns, or frames(k) part by part; bi.pool pools what it returns."
        )
    own = [options.get(key) for key in ("trials", "weights", "offset")]
    names = list(dict.fromkeys([*parse(analysis).columns, *(name for name in own if name is not None)]))
    for name in names:
        if name not in made.source.columns:
            raise SpecificationError(
                f"Formula {analysis!r}: the table has no column {name!r}. {suggestion(str(name), made.source.columns)}"
            )
    return names

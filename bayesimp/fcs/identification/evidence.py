"""What the observed cells say about one response and its predictors, computed once for all checks of its model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.specification.values import BaseValues, column_values
from bayesimp.formulas.columns import Column
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Evidence", "proper", "term_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Observed values of a response of a block and of its predictors, in the rows to which models are fitted.

    Attributes
    ----------
    name, block
        The response and its block.
    base
        The base columns of all models in these rows.
    """

    name: str
    block: ConditionalModel
    base: BaseValues

    @property
    def data(self) -> IncompleteData:
        """The table with these rows."""
        return self.base.data

    @property
    def values(self) -> dict[str, Array]:
        """Base column -> (N,) numbers, NaN where not observed."""
        return self.base.observed

    @property
    def codes(self) -> NDArray[np.int64]:
        """The position (N,) of each row's cluster among those of the table."""
        return self.base.codes

    @cached_property
    def rows(self) -> NDArray[np.bool_]:
        """Whether the response is observed in each row, (N,)."""
        return np.isfinite(self.values[self.name])

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """Clusters where the response is observed."""
        return np.unique(self.codes[self.rows])

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """The first row of each of these clusters where the response is observed."""
        rows = np.flatnonzero(self.rows)
        return rows[np.unique(self.codes[rows], return_index=True)[1]]

    @property
    def varying(self) -> frozenset[str]:
        """Base columns with more than one observed value in some cluster."""
        return self.base.varying

    @cached_property
    def X(self) -> Array:
        """The fixed columns (rows, p), with centred predictors."""
        return column_values(self.block.fixed, self.values, self.codes, centred=True)

    @cached_property
    def kinds(self) -> NDArray[np.str_]:
        """The kind of each fixed column, (p,): "complete", "incomplete" (by row), or "mean" (of a cluster)."""
        return np.array([
            "mean" if c.over else "complete" if c.base in self.base.complete else "incomplete" for c in self.block.fixed
        ])  # fmt: skip

    @cached_property
    def shrunk(self) -> tuple[Column, ...]:
        """Cluster means whose coefficients have the proper prior for contextual effects (`priors.Contextual`)."""
        return tuple(column for column, _ in self.block.contextual)

    @cached_property
    def names(self) -> list[str]:
        """Names of the columns of `X`."""
        return [column.name for column in self.block.fixed]

    @property
    def seen(self) -> str:
        """The numbers of observed rows and clusters in words."""
        return f"{int(self.rows.sum()):,} rows of {len(self.clusters):,} clusters"

    @cached_property
    def fixed_Psi(self) -> bool:
        """Whether the covariance matrix of the random effects is fixed."""
        return self.block.method.fixed_Psi

    def unidentified(self, column: str, message: str) -> list[Event]:
        """Refuse the column; if beta has a proper prior, note instead that the coefficient rests on the prior alone."""
        why = proper(self.block)
        if why is None:
            term = term_of(column, self.data)
            written = f" In a formula, '{column}' is part of '{term}'." if term != column else ""
            raise SpecificationError(
                f"'{self.name}' ({self.block.method.name}): {message} {self._cure(column)}, or make its coefficient "
                "estimable by a normal prior, for example "
                f"methods.Bayes(priors.Priors(beta=priors.Normal(mean=0, sd=...))).{written}"
            )
        return [
            Event("prior only", f"{self.name} ~ {column}", f"'{self.name}': {message} Kept, because {why}.")
        ]

    def _cure(self, column: str) -> str:
        """What to do about a column that cannot be separated from others."""
        if any(c.name == column and c.over for c in self.block.fixed):
            choice = " (compatible=False: no cluster means; a formula: those that you write in it)"
            return f"Drop '{column}' from the predictors of '{self.block.name}'{choice}"
        term = term_of(column, self.data)
        if term != column and sum(term_of(name, self.data) == term for name in self.names) > 1:
            return (
                f"Merge that level with another in the table, or drop all of '{term}' from the predictors of "
                f"'{self.block.name}'"
            )
        return f"Drop '{column}' from the predictors of '{self.block.name}'"


def proper(block: ConditionalModel) -> str | None:
    """Why coefficients that the data do not determine have a proper distribution; None if they do not."""
    return block.method.proper_prior(block.family)


def term_of(column: str, data: IncompleteData) -> str:
    """The term of a formula to which a column belongs: ``sex:y2`` for ``sex[M]:y2``."""
    if "[" not in column:
        return column
    for name in data.variables:
        for head in (f"C({name})", name):
            column = re.sub(rf"(?<![^:]){re.escape(head)}\[.*?\](?=:|$)", head.replace("\\", r"\\"), column)
    return column

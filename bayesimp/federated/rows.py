"""The rows of one site: its table, and its X, Z and Y with the columns that all sites have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError, instead_of
from bayesimp.events import Event
from bayesimp.federated.agreement import Agreement
from bayesimp.federated.disclosure import LEAST, rows_needed
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.messages import listing, suggestion
from bayesimp.notation import Array
from bayesimp.table.clusters import Clusters
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.reading import as_pandas, check_columns
from bayesimp.table.variables import Variable, check_finite

__all__ = ["SiteMatrices", "SiteRows", "agreed_design", "distinct_columns", "responses", "site_matrices"]


class SiteRows(IncompleteData):
    """The table of one site, which may have a single cluster and may lack responses altogether.

    Parameters
    ----------
    frame
        pandas, polars or pyarrow table. A response without a column is added, with no values.
    agreement
        What all sites agree on.

    Raises
    ------
    DataError
        Not a table, or no rows; missing cluster ids; covariates missing, infinite or with levels not agreed on; a
        response that is not numeric or has only two values.
    SpecificationError
        No column for a covariate or for the clusters; a covariate that is not numeric and has no levels agreed on.
    """

    def __init__(self, frame: Any, agreement: Agreement) -> None:
        if isinstance(frame, IncompleteData) or instead_of(frame):
            raise DataError(f"A site passes its table, not {type(frame).__name__}.{instead_of(frame)}")
        self.frame, self.backend = as_pandas(frame)
        self.agreement = agreement
        self.cluster, self.cluster_columns = agreement.cluster, (agreement.cluster,)
        check_columns(self.frame, self.cluster_columns)
        self.absent = tuple(name for name in agreement.responses if name not in self.frame.columns)
        empty = [name for name in agreement.responses if name in self.absent or self.frame[name].isna().all()]
        self.frame = self.frame.assign(**{name: np.full(len(self.frame), np.nan) for name in empty})
        self.grouping = Clusters.of(self.frame[self.cluster], least=1)
        self.groupings = {self.cluster: self.grouping}
        self.families = {name: "normal" if name in agreement.responses else "none" for name in self.variables}
        self._levels: dict[str, tuple] = {}
        self._made: dict[str, Variable] = {}
        for name in agreement.responses:
            check_finite(self.variable(name))
            self._check_response(name)
        for name in agreement.parsed.variables:
            self._check_covariate(name)

    def events(self) -> list[Event]:
        """Notes about responses without a column."""
        if not self.absent:
            return []
        text = f"{listing(self.absent)}: not in the table, treated as missing in all {len(self):,} rows"
        return [Event("absent", "columns", text, len(self.absent))]

    def _check_response(self, name: str) -> None:
        seen = self.numeric(name)[~self.missing(name)]
        values = np.unique(seen)
        if len(values) == 2 and len(seen) >= rows_needed(1, LEAST):  # fewer are never released
            raise DataError(
                f"'{name}' has only two values, {values[0]:g} and {values[1]:g}, in {len(self):,} rows. It is not "
                "a normal variable, and its cross products would be sums over the rows with one of the values. Move it "
                "to the right of ~ if it is complete, or leave it out."
            )

    def _check_covariate(self, name: str) -> None:
        if name not in self.frame.columns:
            raise SpecificationError(
                f"Covariate '{name}' is not a column of the table. {suggestion(name, self.variables)}"
            )
        column, levels = self.frame[name], self.agreement.levels.get(name)
        if column.isna().any():
            raise DataError(
                f"Covariate '{name}' is missing {self.grouping.where(column.isna().to_numpy())}. Fill it in, remove "
                "these rows, or agree to impute it: move it to the left of ~."
            )
        factor = "factor" in self.agreement.parsed.uses[name]
        if levels is None:
            if factor or not pd.api.types.is_numeric_dtype(column.infer_objects().dtype):
                raise SpecificationError(
                    f"Covariate '{name}' is a factor, and other sites may have other levels. Agree on the levels: "
                    f'levels={{"{name}": [...]}}; in a plan, {name} = ["...", "..."] under [data.types].'
                )
            return
        unknown = ~column.astype(str).isin(levels).to_numpy()
        if unknown.any():
            raise DataError(
                f"Covariate '{name}' has levels outside the agreement, {listing(column[unknown].unique())}, "
                f"{self.grouping.where(unknown)}. The agreed levels are {listing(levels, 20)}."
            )

    def covariate(self, name: str) -> pd.Series:
        """A covariate (n,): numbers, or categories with the levels agreed on."""
        column, levels = self.frame[name].reset_index(drop=True), self.agreement.levels.get(name)
        return column if levels is None else column.astype(str).astype(pd.CategoricalDtype(list(levels)))


@dataclass(frozen=True)
class SiteMatrices:
    """X (n, p), Z (n, q) and Y (n, r) of the rows of a site, with column names; Y is NaN where missing.

    Attributes
    ----------
    fixed, random
        Names of the columns of X and Z.
    random_terms
        The columns of Z as spelled in a formula.
    discrete
        Codes (n,) of each covariate with levels or two values, which divide the rows into groups.
    """

    X: Array
    Z: Array
    Y: Array
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    random_terms: tuple[str, ...]
    discrete: tuple[NDArray[np.int64], ...]


def site_matrices(rows: SiteRows) -> SiteMatrices:
    """X, Z and Y of a site, with columns for every level agreed on, whether or not a row has it.

    Raises
    ------
    DataError, SpecificationError
        As for `bayesimp.formulas.design.design`.
    """
    formula, made = rows.agreement.parsed, agreed_design(rows)
    X, Z = made.X, made.Z
    discrete = [rows.covariate(name) for name in formula.variables if name in rows.agreement.levels]
    groups = [column.cat.codes.to_numpy(np.int64) for column in discrete]
    for matrix, names in ((X, made.fixed), (Z, made.random)):
        for k in range(len(names)):
            values, code = np.unique(matrix[:, k], return_inverse=True)
            if len(values) == 2:
                groups.append(code.astype(np.int64))
    unlike = list({group.tobytes(): group for group in groups}.values())
    return SiteMatrices(X, Z, responses(rows), made.fixed, made.random, made.random_terms, tuple(unlike))


def responses(rows: SiteRows) -> Array:
    """Y (n, r), NaN where missing."""
    return np.column_stack([rows.numeric(name) for name in rows.agreement.responses])


def agreed_design(rows: SiteRows) -> DesignMatrices:
    """X and Z of some rows, with columns for every level agreed on, whether or not a row has it.

    Raises
    ------
    DataError, SpecificationError
        As for `bayesimp.formulas.design.design`.
    """
    formula, n = rows.agreement.parsed, len(rows)
    # one row for each level is appended, so that all levels exist, and removed again below
    more = max((len(levels) for levels in rows.agreement.levels.values()), default=0)
    columns = {}
    for name in formula.variables:
        own, levels = rows.covariate(name), rows.agreement.levels.get(name)
        extra = [own.iloc[0]] * more if levels is None else [levels[k % len(levels)] for k in range(more)]
        columns[name] = pd.concat([own, pd.Series(extra, dtype=own.dtype)], ignore_index=True)
    both = pd.DataFrame(columns, index=range(n + more))
    codes = np.concatenate([rows.codes, np.full(more, len(rows.clusters))])
    made = design(formula, both, codes=codes, counted=np.arange(n + more) < n, independent=False)
    return replace(made, X=made.X[:n], Z=made.Z[:n])


def distinct_columns(matrices: SiteMatrices | DesignMatrices) -> tuple[tuple[str, ...], Array]:
    """Names (v,) and values (n, v) of the distinct columns of X and Z, without the constant."""
    columns = dict(zip(matrices.fixed, matrices.X.T, strict=True))
    columns |= {n: z for n, z in zip(matrices.random, matrices.Z.T, strict=True) if n not in columns}
    names = tuple(name for name in columns if name != INTERCEPT)
    values = [columns[name] for name in names]
    return names, np.column_stack(values) if values else np.empty((len(matrices.X), 0))

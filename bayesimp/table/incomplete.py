"""`IncompleteData`: a table with missing cells whose rows belong to clusters."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.families.censored import check_censoring
from bayesimp.families.columns import infer
from bayesimp.families.registry import censoring, family_of, read_name, trials
from bayesimp.messages import listing, suggestion
from bayesimp.table import describe
from bayesimp.table.clusters import Clusters
from bayesimp.table.exact import check_exact
from bayesimp.table.missing_codes import missing_codes
from bayesimp.table.reading import as_native, as_pandas, check_columns, cluster_columns
from bayesimp.table.variables import Variable, check_finite

if TYPE_CHECKING:
    from bayesimp.table.partitions import PartitionedData

__all__ = ["IncompleteData", "check_index", "table_like"]


class IncompleteData:
    """A table with missing cells whose rows belong to clusters.

    The table is kept unchanged, with its index, dtypes, categories and the order of its rows and columns; nothing is ever
    written to it.

    Parameters
    ----------
    frame
        pandas, polars or pyarrow table, or anything else that narwhals reads. The rows may be in any order. NaN, None
        and pandas.NA count as missing.
    cluster
        Name of the column that holds the cluster of each row, as numbers, text, categories or dates. With several
        grouping factors, nested or crossed, a list of names, ``["school", "class"]``: the first are the primary clusters,
        by which results are shown and which models with one random part use.
    families
        Family by variable, where it should differ from the inferred one: ``"normal"``, ``"student"``, ``"yeo_johnson"``,
        ``"bernoulli"``, ``"binomial(n)"`` (successes out of the complete column n), ``"poisson"``,
        ``"negative_binomial"``, ``"zero_inflated_poisson"``, ``"zero_inflated_negative_binomial"``, ``"hurdle_poisson"``,
        ``"hurdle_negative_binomial"``, ``"gamma"``, ``"inverse_gaussian"``, ``"lognormal"``, ``"beta"``,
        ``"censored(c)"`` (normal; the column c says ``"left"`` or ``"right"`` where the number is not a value but a limit
        of detection above or below it, else ``"none"``), ``"ordinal"``, ``"categorical"``, ``"none"`` or an
        alias of these. For how families are inferred see `bayesimp.families.columns`; printing the object shows the
        result.

    Attributes
    ----------
    frame
        The table as pandas. Treat as read-only.
    cluster
        Name of the column of the primary clusters.
    cluster_columns
        Names of all cluster columns, the primary one first.
    groupings
        Clusters by cluster column.
    clusters
        (m,) labels, sorted (or in the order of a category; in order of appearance if they cannot be sorted).
    codes
        (n,) int64, position of each row's cluster in ``clusters``. Read-only.
    families
        Family by variable.
    backend
        The kind of table that the user gave, where it is not pandas.

    Raises
    ------
    DataError
        Not a table; no rows; column names that are repeated or not text; a missing cluster id, or only one cluster;
        infinite values; a family that does not fit its column; values that files cannot keep (objects of unknown types).
    SpecificationError
        Names that are not columns; unknown families.
    """

    def __init__(
        self, frame: Any, cluster: str | Sequence[str], families: Mapping[str, str] | None = None
    ) -> None:
        if isinstance(frame, IncompleteData):
            raise SpecificationError(
                "The table is IncompleteData already; pass it to a model: bi.FCS(data).impute()."
            )
        self.frame, self.backend = as_pandas(frame)
        self.cluster_columns = cluster_columns(cluster)
        check_columns(self.frame, self.cluster_columns)
        check_exact(self.frame)
        self.cluster = self.cluster_columns[0]
        self.groupings = {name: Clusters.of(self.frame[name]) for name in self.cluster_columns}
        self.grouping = self.groupings[self.cluster]
        self._levels: dict[str, tuple] = {}  # taken from a larger table, for a part of it
        self._made: dict[str, Variable] = {}
        declared = _by_name(families)
        self.families = self._families(declared)
        for name in self.variables:
            if name in declared:
                self._check_family(name)
        for name in self.variables:
            check_finite(self.variable(name))

    @staticmethod
    def from_parquet(
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], cluster: str
    ) -> PartitionedData:
        """A table in Parquet files that need not fit into memory, for `bayesimp.PartitionedNormal`.

        Parameters
        ----------
        path
            A file, a folder of files, or a list of files.
        cluster
            Name of the cluster column.

        Raises
        ------
        DataError, SpecificationError
            As for `bayesimp.PartitionedData`, which also takes Dask, DuckDB and Ibis tables.
        """
        from bayesimp.table.partitions import PartitionedData  # loads pyarrow.dataset

        return PartitionedData(path, cluster)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of all columns except the cluster columns, in the table's order."""
        return tuple(name for name in self.frame.columns if name not in self.cluster_columns)

    @property
    def clusters(self) -> pd.Index:
        """(m,) labels of the clusters."""
        return self.grouping.labels

    @property
    def codes(self) -> NDArray[np.int64]:
        """(n,) position of each row's cluster in `clusters`. Read-only."""
        return self.grouping.codes

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(m,) rows in each cluster."""
        return self.grouping.sizes

    def groups(self, names: Sequence[str]) -> Clusters:
        """The groups of a grouping factor: clusters of one cluster column, or combinations of several (school:class).

        Raises
        ------
        SpecificationError
            A name is not that of a cluster column.
        """
        for name in names:
            if name not in self.groupings:
                more = [*self.cluster_columns, name]
                raise SpecificationError(
                    f"'{name}' is not a cluster column of the table, which has {listing(self.cluster_columns)}: "
                    f"bi.IncompleteData(table, cluster={more!r})."
                )
        return Clusters.combined([self.groupings[name] for name in names])

    def variable(self, name: str) -> Variable:
        """A column with its family, as the models read it.

        Raises
        ------
        SpecificationError
            Not a variable of the table.
        """
        if not isinstance(name, str) or name not in self._made:
            if not isinstance(name, str) or name not in self.families:
                raise SpecificationError(f"'{name}' is not a variable. {suggestion(name, self.variables)}")
            known = self._levels.get(name)
            flags = self.frame.get(censoring(self.families[name]) or None)
            self._made[name] = Variable(
                name, self.families[name], self.frame[name], self.grouping, known, flags
            )
        return self._made[name]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": {}}  # made again on demand

    def missing(self, name: str) -> NDArray[np.bool_]:
        """(n,) bool, whether the value of each cell of a variable is missing, or censored. Read-only."""
        return self.variable(name).missing

    def numeric(self, name: str) -> NDArray[np.float64]:
        """(n,) float64 with NaN: positions 0, 1, ... among the `levels` of bernoulli, ordinal and categorical variables,
        the numbers themselves otherwise. Read-only.

        Raises
        ------
        DataError
            A value is impossible under the variable's family; the message says which and where.
        """
        return self.variable(name).numbers

    def limits(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) lower and upper limits of the values of a censored variable, infinite where there is none. Read-only."""
        return self.variable(name).limits

    def levels(self, name: str) -> tuple:
        """Values that the positions 0, 1, ... of `numeric` represent; empty if `numeric` holds the values themselves."""
        return self.variable(name).levels

    def level_values(self, name: str) -> NDArray[np.float64]:
        """(K,) the number that represents each level in computations: the level itself if it is a number,
        otherwise its position."""
        return self.variable(name).level_values

    def column_values(self, name: str) -> NDArray[np.float64]:
        """(n,) float64 with NaN: the variable as models compute with it (`level_values`). Read-only."""
        return self.variable(name).values

    def part(self, frame: pd.DataFrame) -> IncompleteData:
        """Some of the rows, or all with fewer values; families and levels remain those of the whole table."""
        made = IncompleteData(frame, self.cluster_columns, dict(self.families))
        coded = [name for name in self.variables if self.variable(name).is_coded]
        made._levels = {name: self.levels(name) for name in coded}
        made._made = {}  # drops the levels found in the part while its columns were checked
        return made

    def require_observed(self, names: Sequence[str]) -> None:
        """Refuse variables without any observed value, which models cannot use.

        Raises
        ------
        DataError
            The message names the variables.
        """
        empty = [name for name in names if self.missing(name).all()]
        if empty:
            raise DataError(
                f"No value of {listing(empty)} is observed in any of {len(self.frame):,} rows and "
                f"{len(self.clusters):,} clusters, so its distribution cannot be estimated. Leave it out."
            )

    def missing_codes(self, names: Sequence[str] | None = None) -> list[Event]:
        """Events about values that may stand for missing ones (`bayesimp.table.missing_codes`), of some of the variables
        (None: all) and the cluster columns."""
        asked = {*(self.variables if names is None else names), *self.cluster_columns}
        return [event for event in self._missing_codes if event.where in asked]

    @cached_property
    def _missing_codes(self) -> tuple[Event, ...]:
        return tuple(missing_codes(self.frame, self.cluster_columns))

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Number of missing cells, variable x cluster."""
        m = len(self.clusters)
        rows = [self.grouping.count(self.missing(name)) for name in self.variables]
        return self._by_cluster(np.array(rows, dtype=np.int64).reshape(-1, m))

    @property
    def missingness(self) -> pd.DataFrame:
        """``"complete"``, ``"sporadic"`` (some cells missing), ``"systematic"`` (all); variable x cluster."""
        counts = self.counts.to_numpy()
        kind = np.where(counts == 0, "complete", np.where(counts == self.sizes, "systematic", "sporadic"))
        return self._by_cluster(kind)

    def patterns(self, variables: Sequence[str] | None = None) -> pd.DataFrame:
        """Sets of variables that are missing together, the most frequent first.

        Returns
        -------
        One row for each pattern: a bool column for each variable, True where missing, and ``rows``.
        """
        names = self.variables if variables is None else variables
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise SpecificationError(
                f"variables must be names, such as ['age', 'sex'], got {type(names).__name__}."
            )
        missing = np.column_stack([np.zeros(len(self.frame), bool), *(self.missing(name) for name in names)])
        key = np.zeros(len(missing), dtype=np.int64)
        for start in range(
            0, missing.shape[1], 31
        ):  # 31 bits at a time, combined with at most 2^31 keys so far
            bits = missing[:, start : start + 31]
            key = pd.factorize((key << bits.shape[1]) + bits @ (1 << np.arange(bits.shape[1])))[0]
        _, first, rows = np.unique(key, return_index=True, return_counts=True)
        order = np.argsort(-rows, kind="stable")
        return pd.DataFrame(missing[first[order], 1:], columns=names).assign(rows=rows[order])

    def summary(self) -> pd.DataFrame:
        """Family, complete, sporadic and systematic clusters, missing cells and their share, by variable."""
        return describe.summary(self)

    @property
    def learnt_from(self) -> IncompleteData:
        """The table whose observed values show the usual range of a variable: this one."""
        return self

    def to_native(self, frame: pd.DataFrame) -> Any:
        """A pandas table converted to the kind of table the user gave (polars and pyarrow have no index)."""
        return as_native(frame, self.backend)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return describe.text(self)

    def _repr_html_(self) -> str:
        return describe.html(self)

    def _by_cluster(self, values: NDArray) -> pd.DataFrame:
        index = pd.Index(self.variables, name="variable")
        return pd.DataFrame(values, index=index, columns=pd.Index(self.clusters, name=self.cluster))

    def _families(self, chosen: Mapping[str, str]) -> dict[str, str]:
        for name in chosen:
            if name not in self.variables:
                hint = suggestion(name, self.variables)
                of_clusters = name in self.cluster_columns
                what = "is a cluster column, which has no family" if of_clusters else "is not a column"
                raise SpecificationError(f"families: '{name}' {what}. {hint}")
        read = {name: read_name(family, name, self.variables) for name, family in chosen.items()}
        flags = {censoring(family): name for name, family in read.items() if censoring(family)}
        for column, name in flags.items():
            if column != name and column in read and family_of(read[column]).is_imputable:
                raise SpecificationError(
                    f"families: '{column}' says how '{name}' is censored and is not itself a variable of a model. Take "
                    "it out of families."
                )
        read |= {column: "none" for column, name in flags.items() if column != name}
        return {name: read[name] if name in read else infer(self.frame[name]) for name in self.variables}

    def _check_family(self, name: str) -> None:
        """Refuse a declared family that does not fit the column."""
        if column := censoring(self.families[name]):
            self._check_censoring(name, column)
        if family_of(self.families[name]).is_imputable:
            self._check_trials(name, self.families[name], self.numeric(name))

    def _check_censoring(self, name: str, column: str) -> None:
        if column == name or column not in self.frame.columns:
            raise SpecificationError(
                f"families: '{name}' is {self.families[name]}, but the table has no other column '{column}'. "
                f"{suggestion(column, self.variables)}"
            )
        check_censoring(name, self.frame[name], self.frame[column], self.grouping.where)

    def _check_trials(self, name: str, family: str, successes: NDArray[np.float64]) -> None:
        column = trials(family)
        if not column:
            return
        if column == name or column not in self.frame.columns:
            raise SpecificationError(
                f"families: '{name}' is {family}, but the table has no other column '{column}'. "
                f"{suggestion(column, self.variables)}"
            )
        if self.frame[column].isna().any():
            place = self.grouping.where(self.frame[column].isna().to_numpy())
            raise DataError(
                f"'{column}', the number of trials of '{name}', is missing {place}. Fill it in: trials are not imputed."
            )
        n = Variable(column, "poisson", self.frame[column], self.grouping).numbers
        bad = successes > n
        if bad.any():
            place = self.grouping.where(bad)
            raise DataError(
                f"'{name}' exceeds '{column}', its number of trials, {place}. Correct one of them."
            )


def table_like(data: IncompleteData, frame: pd.DataFrame, grouping: Clusters) -> IncompleteData:
    """Other rows in clusters of their own, as pandas, with the families and levels that a table has.

    Nothing is checked: single rows may lack levels, and a cluster may be alone.
    """
    made = IncompleteData.__new__(IncompleteData)
    made.frame, made.backend, made.cluster, made.grouping = frame, None, data.cluster, grouping
    made.cluster_columns, made.groupings = (data.cluster,), {data.cluster: grouping}
    made.families = {name: data.families[name] for name in frame.columns}
    made._levels = {name: data.levels(name) for name in frame.columns if data.variable(name).is_coded}
    made._made = {}
    return made


def check_index(data: IncompleteData, values: Any, what: str) -> None:
    """Refuse a pandas Series that is given row by row, but with another index than the table.

    Raises
    ------
    SpecificationError
    """
    own = data.backend is None and isinstance(values, pd.Series)
    if own and not values.index.equals(data.frame.index):
        raise SpecificationError(
            f"{what} has a different index from the table. If its rows are in the order of the table, give "
            ".to_numpy(); if not, sort it first: .reindex(table.index)."
        )


def _by_name(families: Any) -> Mapping[str, str]:
    if families is None or isinstance(families, Mapping):
        return families or {}
    raise SpecificationError(
        f"families takes a dict of families by variable, such as {{'visits': 'poisson'}}; got {families!r}."
    )

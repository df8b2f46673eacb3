"""`IncompleteData`: a table with holes, in clusters, and what is missing where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.data import describe
from bayesimp.data import families as family_rules
from bayesimp.data.exact import check_exact
from bayesimp.data.where import listing, suggestion, where
from bayesimp.errors import DataError, SpecificationError, instead_of

__all__ = ["IncompleteData", "as_pandas"]

LEAST, MOST = 1e-70, 1e70  # of the largest number of a column: variances of its variances are computed


class IncompleteData:
    """A table with missing cells whose rows belong to clusters.

    The table stays as it is: index, dtypes, order of rows and columns and categories are kept, and nothing is
    ever written to it.

    Parameters
    ----------
    frame
        pandas, polars or pyarrow table, or anything else that narwhals reads. Rows in any order. NaN, None
        and pandas.NA are missing.
    cluster
        Name of the column that says which cluster a row belongs to: numbers, text, categories, dates.
    families
        Family of variables by name, where the one inferred is not wanted: ``"normal"``, ``"bernoulli"``,
        ``"binomial(n)"`` (successes out of the complete column n), ``"poisson"``, ``"negative_binomial"``, ``"gamma"``,
        ``"inverse_gaussian"``, ``"ordinal"``, ``"categorical"``, ``"none"`` or an alias of these. For the rules of
        inference see `bayesimp.data.families`; printing the object shows the result.

    Attributes
    ----------
    frame
        The table as pandas. Treat as read-only.
    cluster
        Name of the cluster column.
    clusters
        (m,) labels, sorted (or in the order of a category; in order of appearance if they cannot be sorted).
    codes
        (n,) int64, position of each row's cluster in ``clusters``. Read-only.
    families
        Family by variable.

    Raises
    ------
    DataError
        Not a table; no rows; column names repeated or not text; cluster ids missing, or only one cluster;
        infinite values; a family that does not fit its column; values that files cannot keep (objects of unknown types).
    SpecificationError
        Names that are not columns; unknown families.
    """

    def __init__(self, frame: Any, cluster: str, families: Mapping[str, str] | None = None) -> None:
        if isinstance(frame, IncompleteData):
            raise SpecificationError(
                "The table is IncompleteData already; give it to a model: bi.FCS(data).impute()."
            )
        self.frame, self._backend = as_pandas(frame)
        _check_columns(self.frame, cluster)
        check_exact(self.frame)
        self.cluster = cluster
        self.codes, self.clusters = _codes(self.frame[cluster])
        self.codes.flags.writeable = False
        self._levels: dict[str, tuple] = {}  # known from a larger table
        self.families = self._families(_by_name(families))
        self._check_finite()

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of all columns but the cluster, in the table's order."""
        return tuple(name for name in self.frame.columns if name != self.cluster)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(m,) rows in each cluster."""
        return np.bincount(self.codes, minlength=len(self.clusters))

    def missing(self, name: str) -> NDArray[np.bool_]:
        """(n,) bool, whether each cell of a variable is missing."""
        return self._column(name).isna().to_numpy()

    def numeric(self, name: str) -> NDArray[np.float64]:
        """(n,) float64 with NaN: 0, 1, ... for the `levels` of bernoulli, ordinal and categorical variables,
        the numbers themselves of others.

        Raises
        ------
        DataError
            A value that the variable's family does not have; says which and where.
        """
        return self._encoded(name)[0]

    def levels(self, name: str) -> tuple:
        """Values behind the 0, 1, ... of `numeric`; empty where these are the numbers themselves."""
        return self._encoded(name)[1]

    def level_values(self, name: str) -> NDArray[np.float64]:
        """(K,) what stands for each level where the variable is computed with: the level itself where it is a
        number, else its position."""
        levels = self.levels(name)
        number = all(isinstance(level, int | float | np.number) for level in levels)
        return np.array(levels if number else range(len(levels)), dtype=np.float64)

    def column_values(self, name: str) -> NDArray[np.float64]:
        """(n,) float64 with NaN: the variable as models compute with it (`level_values`)."""
        values = self.numeric(name)
        if self.families[name] not in family_rules.CODED:
            return values
        there = ~np.isnan(values)
        values[there] = self.level_values(name)[values[there].astype(np.int64)]
        return values

    def part(self, frame: pd.DataFrame) -> IncompleteData:
        """Some of its rows, or the same with fewer values: families and levels stay those of the whole."""
        made = IncompleteData(frame, self.cluster, dict(self.families))
        coded = [name for name in self.variables if self.families[name] in family_rules.CODED]
        made._levels = {name: self.levels(name) for name in coded}
        return made

    def require_observed(self, names: Sequence[str]) -> None:
        """Refuse variables without any observed value; for models, which cannot use them.

        Raises
        ------
        DataError
            Naming the variables.
        """
        empty = [name for name in names if self.missing(name).all()]
        if empty:
            raise DataError(
                f"Nothing is observed of {listing(empty)} in any of {len(self.frame):,} rows and "
                f"{len(self.clusters):,} clusters, so nothing can be learnt; leave it out."
            )

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Missing cells, variable x cluster."""
        m = len(self.clusters)
        rows = [np.bincount(self.codes[self.missing(name)], minlength=m) for name in self.variables]
        return self._by_cluster(np.array(rows, dtype=np.int64).reshape(-1, m))

    @property
    def missingness(self) -> pd.DataFrame:
        """``"complete"``, ``"sporadic"`` (some cells missing), ``"systematic"`` (all); variable x cluster."""
        counts = self.counts.to_numpy()
        kind = np.where(counts == 0, "complete", np.where(counts == self.sizes, "systematic", "sporadic"))
        return self._by_cluster(kind)

    def patterns(self, variables: Sequence[str] | None = None) -> pd.DataFrame:
        """Sets of variables missing together, most frequent first.

        Returns
        -------
        One row for each pattern: a bool column for each variable, True where missing, and ``rows``.
        """
        names = list(self.variables if variables is None else variables)
        missing = np.column_stack([np.zeros(len(self.frame), bool), *(self.missing(name) for name in names)])
        key = np.zeros(len(missing), dtype=np.int64)
        for start in range(0, missing.shape[1], 31):  # 31 bits at a time beside at most 2^31 keys so far
            bits = missing[:, start : start + 31]
            key = pd.factorize((key << bits.shape[1]) + bits @ (1 << np.arange(bits.shape[1])))[0]
        _, first, rows = np.unique(key, return_index=True, return_counts=True)
        order = np.argsort(-rows, kind="stable")
        return pd.DataFrame(missing[first[order], 1:], columns=names).assign(rows=rows[order])

    def summary(self) -> pd.DataFrame:
        """By variable: family, clusters complete / sporadic / systematic, missing cells and their share."""
        return describe.summary(self)

    def to_native(self, frame: pd.DataFrame) -> Any:
        """A pandas table as the kind of table the user gave (pandas: as it is; polars, pyarrow: no index)."""
        if self._backend is None:
            return frame
        import narwhals as nw
        import pyarrow as pa

        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        made = nw.from_arrow(table, backend=self._backend)
        if self._backend is nw.Implementation.POLARS:  # whose categories with an order are Enum
            kinds = {name: dtype for name, dtype in frame.dtypes.items() if getattr(dtype, "ordered", False)}
            made = made.with_columns(
                nw.col(name).cast(nw.Enum(list(dtype.categories))) for name, dtype in kinds.items()
            )
        return made.to_native()

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return describe.text(self)

    def _repr_html_(self) -> str:
        return describe.html(self)

    def _encoded(self, name: str) -> tuple[NDArray[np.float64], tuple]:
        column = self._column(name)
        return family_rules.encode(
            column, self.families[name], self.codes, self.clusters, self._levels.get(name)
        )

    def _column(self, name: str) -> pd.Series:
        if name not in self.families:
            raise SpecificationError(f"'{name}' is not a variable. {suggestion(name, self.variables)}")
        return self.frame[name]

    def _by_cluster(self, values: NDArray) -> pd.DataFrame:
        index = pd.Index(self.variables, name="variable")
        return pd.DataFrame(values, index=index, columns=pd.Index(self.clusters, name=self.cluster))

    def _families(self, chosen: Mapping[str, str]) -> dict[str, str]:
        for name in chosen:
            if name not in self.variables:
                hint = suggestion(name, self.variables)
                what = "is the cluster, which has no family" if name == self.cluster else "is not a column"
                raise SpecificationError(f"families: '{name}' {what}. {hint}")
        families = {}
        for name in self.variables:
            column = self.frame[name]
            families[name] = (
                family_rules.read_name(chosen[name], name) if name in chosen else family_rules.infer(column)
            )
            if name in chosen and families[name] != "none":
                values, _ = family_rules.encode(column, families[name], self.codes, self.clusters)
                self._check_trials(name, families[name], values)
        return families

    def _check_trials(self, name: str, family: str, successes: NDArray[np.float64]) -> None:
        column = family_rules.trials(family)
        if not column:
            return
        if column == name or column not in self.frame.columns:
            raise SpecificationError(
                f"families: '{name}' is {family}, and the table has no other column '{column}'. "
                f"{suggestion(column, self.variables)}"
            )
        if self.frame[column].isna().any():
            place = where(self.frame[column].isna().to_numpy(), self.codes, self.clusters, self.frame.index)
            raise DataError(
                f"'{column}', the trials of '{name}', is missing {place}. Fill it in: trials are not imputed."
            )
        n = family_rules.encode(self.frame[column], "poisson", self.codes, self.clusters)[0]
        bad = successes > n
        if bad.any():
            place = where(bad, self.codes, self.clusters, self.frame.index)
            raise DataError(f"'{name}' is more than '{column}', its trials, {place}. Correct one of them.")

    def _check_finite(self) -> None:
        for name in self.variables:
            column = self.frame[name]
            floats = pd.api.types.is_float_dtype(column.dtype)
            if not floats and not (column.dtype == object and self.families[name] == "normal"):
                continue
            values = column.to_numpy(np.float64, na_value=np.nan) if floats else self.numeric(name)
            _check_size(name, values, self.codes, self.clusters, column.index)
            infinite = np.isinf(values)
            if infinite.any():
                place = where(infinite, self.codes, self.clusters, column.index)
                raise DataError(
                    f"Variable '{name}' is infinite {place}. "
                    "Correct these values, set them to missing, or leave the column out of the table."
                )


def _check_size(name: str, values: NDArray[np.float64], codes, labels, index) -> None:
    """Refuse numbers whose fourth powers a computer cannot hold: they would be infinite, or 0, and look constant."""
    size = np.abs(values[np.isfinite(values)])
    largest = size.max(initial=0.0)
    if LEAST < largest < MOST or largest == 0:
        return
    odd = np.isfinite(values) & ((np.abs(values) >= MOST) if largest >= MOST else (values != 0))
    what = "so large" if largest >= MOST else "so small"
    raise DataError(
        f"Variable '{name}' has numbers {what} ({largest:.3g}) that what is computed from them overflows, "
        f"{where(odd, codes, labels, index)}. Is it a code for a missing value? If not, change its unit: divide it by "
        f"{'1e' + str(int(np.log10(largest)))}."
    )


def as_pandas(frame: Any) -> tuple[pd.DataFrame, Any]:
    """The table as pandas, and narwhals' name of what it was (None: pandas)."""
    if isinstance(frame, pd.DataFrame):
        # pandas >= 3 copies when somebody writes; before, a copy is the only protection
        return frame.copy(deep=int(pd.__version__.split(".")[0]) < 3), None
    import narwhals as nw

    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise DataError(
            f"{type(frame).__name__} is not a table: give a pandas, polars or pyarrow table (a lazy one "
            f"collected, a file read).{instead_of(frame)}"
        ) from None
    import pyarrow as pa

    try:
        return table.to_arrow().to_pandas(types_mapper=_nullable().get), table.implementation
    except (pa.ArrowException, ValueError) as error:  # types of polars that nobody else has
        raise DataError(
            f"The table cannot be turned into pandas: {' '.join(str(error).split())}. Give its columns other types, or "
            "leave them out of the table."
        ) from None


def _nullable() -> dict:
    """Arrow type to pandas type: integers and booleans with holes stay so, instead of floats and objects."""
    import pyarrow as pa

    integers = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    names = {name: name.replace("u", "U").replace("i", "I") for name in integers} | {"bool_": "boolean"}
    return {getattr(pa, arrow)(): pd.api.types.pandas_dtype(pandas) for arrow, pandas in names.items()}


def _by_name(families: Any) -> Mapping[str, str]:
    if families is None or isinstance(families, Mapping):
        return families or {}
    raise SpecificationError(
        f"families takes family by variable, such as {{'visits': 'poisson'}}; got {families!r}."
    )


def _check_columns(frame: pd.DataFrame, cluster: str) -> None:
    if not isinstance(cluster, str):
        inside = list(cluster) if isinstance(cluster, list | tuple | pd.Index) else []
        hint = f": cluster={inside[0]!r}" if len(inside) == 1 else ""
        if len(inside) > 1:
            hint = f"; there is one level of clusters, so join {listing(inside)} in one column if they name it together"
        raise SpecificationError(f"cluster is the name of one column, as text{hint}; got {cluster!r}.")
    if len(frame) == 0:
        raise DataError("The table has no rows.")
    repeated = frame.columns[frame.columns.duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"Column names occur more than once: {listing(repeated)}. Rename or drop columns so that each "
            "name is unique."
        )
    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise DataError(f"Column names must be text; rename {listing(odd)}, with frame.columns = [...].")
    broken = [name for name in frame.columns if nt.shown(name) != name]
    if broken:
        raise DataError(
            f"Column names hold characters that are none: rename {listing(map(nt.shown, broken))}."
        )
    swapped = [
        name for name, dtype in frame.dtypes.items() if isinstance(dtype, np.dtype) and not dtype.isnative
    ]
    if swapped:
        raise DataError(
            f"The numbers of {listing(swapped)} are stored in another byte order than this machine's, with which pandas "
            "cannot compute; turn them: frame[name].astype(frame[name].dtype.newbyteorder('='))."
        )
    if cluster not in frame.columns:
        index = "It is in the index: call reset_index() first. " if cluster in frame.index.names else ""
        hint = index + suggestion(cluster, frame.columns)
        raise SpecificationError(f"The table has no column '{cluster}' for the clusters. {hint}")


def _codes(column: pd.Series) -> tuple[NDArray[np.int64], pd.Index]:
    """Cluster of each row as a position among the labels, and the labels."""
    missing = column.isna().to_numpy()
    if missing.any():
        place = where(missing, index=column.index)
        raise DataError(
            f"The cluster id '{column.name}' is missing {place}. Fill in the ids, or "
            "leave these rows out: a row without a cluster cannot be imputed."
        )
    codes, labels = family_rules.positions(_whole(column))
    if len(labels) < 2:
        raise DataError(
            f"There is only one cluster, {listing(labels)}, in '{column.name}' ({len(column):,} rows). With "
            "one cluster nothing can be learnt about differences between clusters; is it the right column?"
        )
    return codes, labels.rename(column.name)


def _whole(column: pd.Series) -> pd.Series:
    """Ids in floats, as read from files with holes, as the whole numbers that they are."""
    if not pd.api.types.is_float_dtype(column.dtype):
        return column
    values = column.to_numpy(np.float64)
    broken = ~(np.isfinite(values) & (values == np.floor(values)))
    if broken.any():
        raise DataError(
            f"The cluster id '{column.name}' is a number with a fraction or infinite "
            f"{where(broken, index=column.index)}; is it the right column? If so, turn it into text."
        )
    return pd.Series(values.astype(np.int64), index=column.index, name=column.name)

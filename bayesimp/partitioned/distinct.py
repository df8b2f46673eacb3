"""The distinct rows of a table in partitions, and how often each occurs: its contingency table by cluster.

    select cluster, variables, count(*) group by all         in DuckDB; batch by batch here; on Dask workers

Memory is that of the distinct rows, at most `MOST`, and of one batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.messages import listing
from bayesimp.table.partitions import PartitionedData
from bayesimp.table.sources import DaskSource, StreamSource, quoted

__all__ = ["MOST", "DistinctRows", "distinct_rows", "plain"]

MOST = 1_000_000  # distinct rows that are kept
AHEAD = 8  # Dask partitions whose distinct rows are in memory at a time
COUNT = "count_all"  # as Arrow names it; columns are numbered, so that no name is taken


@dataclass(frozen=True)
class DistinctRows:
    """Distinct rows, in the order of their values.

    Attributes
    ----------
    names
        The columns, that of the clusters first.
    values
        For each column its distinct values, sorted; categories in their order.
    codes
        (D, columns) position of each row's values, from 1; 0 where missing.
    frequency
        (D,) how many rows of the table are alike.
    order
        Categories by column that has some.
    """

    names: tuple[str, ...]
    values: tuple[pa.Array, ...]
    codes: NDArray[np.int64]
    frequency: NDArray[np.int64]
    order: dict[str, list[Hashable]]

    @property
    def rows(self) -> int:
        """Number of rows of the table."""
        return int(self.frequency.sum())

    def frame(self) -> pd.DataFrame:
        """The distinct rows as a table."""
        out = {}
        for name, values, codes in zip(self.names, self.values, self.codes.T, strict=True):
            column = values.take(pa.array(codes - 1, mask=codes == 0))
            made = column.to_pandas()
            if name in self.order:
                made = pd.Categorical(made, self.order[name])
            elif pa.types.is_boolean(column.type):
                made = made.astype("boolean")
            out[name] = made
        return pd.DataFrame(out)

    def find(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """(n,) which distinct row each row of a batch is; -1 if it is none of them."""
        codes = np.column_stack([
            _position(plain(batch.column(name)), values)
            for name, values in zip(self.names, self.values, strict=True)
        ])  # fmt: skip
        own, known = self._key(codes), self._key(self.codes)
        at = np.minimum(np.searchsorted(known, own), len(known) - 1)
        return np.where((known[at] == own) & (codes >= 0).all(axis=1), at, -1)

    def _key(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) a number for each combination of codes, in the order of the rows."""
        key = np.zeros(len(codes), dtype=np.int64)
        for values, column in zip(self.values, codes.T, strict=True):
            key = key * (len(values) + 1) + column
        return key


def plain(column: pa.Array) -> pa.Array:
    """A column without dictionaries, NaN and negative zeros, which would be other values than null and zero."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = pc.add(column, pa.scalar(0.0, column.type))
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _position(column: pa.Array, values: pa.Array) -> NDArray[np.int64]:
    """(n,) position among the values, from 1; 0 where missing, -1 where it is none of them."""
    column = column.cast(values.type)
    found = pc.index_in(column, value_set=values).fill_null(-2).to_numpy(zero_copy_only=False) + 1
    return np.where(column.is_null().to_numpy(zero_copy_only=False), 0, found).astype(np.int64)


def distinct_rows(data: PartitionedData, names: Sequence[str]) -> DistinctRows:
    """One pass over the rows.

    Parameters
    ----------
    data
        The table.
    names
        The columns: that of the clusters, then variables.

    Raises
    ------
    DataError
        No rows; more than `MOST` distinct ones; a row without a cluster.
    SpecificationError
        A column holds neither numbers, truth values nor text.
    """
    for name in names:
        _check_kind(name, data.schema.field(name).type)
    order: dict[str, dict[Hashable, None]] = {}
    tables = _by_sql(data, names) if _is_duckdb(data) else _tables(data, names, order)
    sums = _summed(tables, names)
    if not sums.num_rows:
        raise DataError("The table has no rows.")
    if lost := pc.sum(pc.if_else(pc.is_null(sums.column(0)), sums.column(COUNT), 0)).as_py():
        raise DataError(
            f"The cluster id '{names[0]}' is missing in {lost:,} of {pc.sum(sums.column(COUNT)).as_py():,} rows. Fill it "
            "in, or drop these rows."
        )
    made = _sorted(names, sums, {name: list(each) for name, each in order.items()})
    size = 1
    for values in made.values:
        size *= len(values) + 1
    if size >= 2**63:
        raise DataError(
            f"The {len(names)} columns have {size:.2g} combinations of values, more than can be numbered. Leave columns "
            f"with many values out (variables=): {_most_values(made.names, made.values)}."
        )
    return made


def _check_kind(name: str, kind: pa.DataType) -> None:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    known = (
        pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string
    )  # fmt: skip
    if not any(test(kind) for test in known):
        raise SpecificationError(
            f"'{name}' is of type {kind}: rows of a table in partitions are counted by numbers, truth values and text. "
            "Leave it out (variables=), or convert it."
        )


def _sorted(names: Sequence[str], sums: pa.Table, order: dict[str, list[Hashable]]) -> DistinctRows:
    values, codes = [], []
    for k, name in enumerate(names):
        column = sums.column(k).combine_chunks()
        used = pc.unique(column.drop_null())
        own = pa.array(order[name], used.type) if name in order else used.take(pc.sort_indices(used))
        values.append(own)
        codes.append(_position(column, own))
    stacked = np.column_stack(codes)
    unique, inverse = np.unique(stacked, axis=0, return_inverse=True)
    counts = sums.column(COUNT).to_numpy().astype(np.int64)
    frequency = np.zeros(len(unique), dtype=np.int64)
    np.add.at(frequency, inverse.ravel(), counts)
    return DistinctRows(tuple(names), tuple(values), unique, frequency, order)


def _summed(tables: Iterator[pa.Table], names: Sequence[str]) -> pa.Table:
    """The distinct rows of all tables with their counts, columns numbered."""
    keys, waiting, count = [str(k) for k in range(len(names))], [], 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        if count > MOST:
            waiting = [_merged(waiting, keys)]
            count = waiting[0].num_rows
            if count > MOST:
                _refuse(waiting[0], names)
    return _merged(waiting, keys) if waiting else pa.table({COUNT: pa.array([], pa.int64())})


def _merged(tables: Sequence[pa.Table], keys: list[str]) -> pa.Table:
    made = pa.concat_tables(tables).group_by(keys, use_threads=False).aggregate([(COUNT, "sum")])
    return made.rename_columns([*keys, COUNT])


def _refuse(found: pa.Table, names: Sequence[str]) -> None:
    values = [pc.unique(found.column(k)) for k in range(len(names))]
    raise DataError(
        f"{pc.sum(found.column(COUNT)).as_py():,} or more rows have {found.num_rows:,} or more different combinations of "
        f"{listing(names)}, and at most {MOST:,} are kept: chained equations of a table in "
        "partitions work on counts of rows that are alike. Leave out columns with many values (variables=), or round "
        f"them in the table: {_most_values(names, values)}. Normal variables: bi.PartitionedNormal."
    )


def _most_values(names: Sequence[str], values: Sequence[pa.Array]) -> str:
    most = sorted(zip(map(len, values), names, strict=True), reverse=True)[:3]
    return ", ".join(f"'{name}' has {count:,} values" for count, name in most)


def _counted(batch: pa.RecordBatch, names: Sequence[str], order: dict[str, dict[Hashable, None]]) -> pa.Table:
    """The distinct rows of a batch with their counts; categories are noted in order."""
    columns = [batch.column(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        if pa.types.is_dictionary(column.type):
            order.setdefault(name, {}).update(dict.fromkeys(column.dictionary.to_pylist()))
    keys = [str(k) for k in range(len(names))]
    made = pa.table(dict(zip(keys, map(plain, columns), strict=True)))
    counted = made.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    return counted.select([*keys, COUNT])


def _tables(
    data: PartitionedData, names: Sequence[str], order: dict[str, dict[Hashable, None]]
) -> Iterator[pa.Table]:
    if not isinstance(data.source, DaskSource):
        for batch in data.batches(names):
            yield _counted(batch, names, order)
        return
    import dask

    one = dask.delayed(_of_partition)
    tasks = [one(part, names) for part in data.source.frame[list(names)].to_delayed()]
    for first in range(0, len(tasks), AHEAD):
        for tables, own in dask.compute(*tasks[first : first + AHEAD]):
            for name, found in own.items():
                order.setdefault(name, {}).update(found)
            yield from tables


def _of_partition(frame: object, names: Sequence[str]) -> tuple[list[pa.Table], dict]:
    own: dict[str, dict[Hashable, None]] = {}
    batches = pa.Table.from_pandas(frame, preserve_index=False).to_batches(65_536)
    return [_counted(each, names, own) for each in batches if each.num_rows], own


def _is_duckdb(data: PartitionedData) -> bool:
    return (
        isinstance(data.source, StreamSource)
        and data.source.is_duckdb
        and not any(
            pa.types.is_dictionary(kind) for kind in data.schema.types
        )  # whose order is read from rows
    )


def _by_sql(data: PartitionedData, names: Sequence[str]) -> Iterator[pa.Table]:
    assert isinstance(data.source, StreamSource)
    columns = []
    for k, name in enumerate(names):
        text = quoted(name)
        if pa.types.is_floating(data.schema.field(name).type):
            text = f"case when isnan({text}) then null else {text} + 0.0 end"
        columns.append(f'{text} as "{k}"')
    # one row more than fits, which is then refused
    text = (
        f'select {", ".join(columns)}, count(*) as "{COUNT}" from rows_of_table group by all limit {MOST + 1}'
    )
    table = data.source.query.query("rows_of_table", text).to_arrow_table()
    kinds = [data.schema.field(name).type for name in names]
    yield table.cast(pa.schema([*((str(k), kind) for k, kind in enumerate(kinds)), (COUNT, pa.int64())]))

"""Passes over the rows of a table in partitions: levels of covariates, then cross products."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from bayesimp.errors import DataError
from bayesimp.federated.agreement import Agreement
from bayesimp.formulas.formula import Formula
from bayesimp.messages import listing
from bayesimp.partitioned.moments import CellSums, TableMoments
from bayesimp.partitioned.rows import BatchMoments, Place, batch_moments, first_place, part_rows
from bayesimp.partitioned.sql import columns_as_sql, moments_by_sql
from bayesimp.table.partitions import PartitionedData
from bayesimp.table.sources import DaskSource

__all__ = ["find_levels", "table_moments"]

MOST_LEVELS = 1_000  # levels of a covariate; more are names or numbers, and would be as many columns
AHEAD = 8  # Dask partitions whose cross products are in memory at a time


def find_levels(
    data: PartitionedData, formula: Formula, given: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Levels by covariate that has some: those given, or those that a pass over these columns alone finds.

    Text is sorted; categories have their order, where all partitions have the same ones.

    Raises
    ------
    DataError
        A covariate has a single level or too many.
    """
    levels = {name: list(each) for name, each in given.items()}
    wanted = [
        name
        for name in formula.variables
        if name not in levels and _is_factor(data.schema.field(name).type, name, formula)
    ]
    found: dict[str, dict[object, None]] = {name: {} for name in wanted}
    ordered = dict.fromkeys(wanted, True)
    for batch in data.distinct(wanted) if wanted else ():
        for name in wanted:
            column = batch.column(name)
            if pa.types.is_dictionary(column.type):
                used = set(pc.unique(column.indices.drop_null()).to_pylist())
                own = [each for k, each in enumerate(column.dictionary.to_pylist()) if k in used]
            else:
                own, ordered[name] = pc.unique(column.drop_null()).to_pylist(), False
            found[name].update(dict.fromkeys(own))
            if len(found[name]) > MOST_LEVELS:
                raise DataError(
                    f"Covariate '{name}' has more than {MOST_LEVELS:,} levels, such as {listing(list(found[name]))}: "
                    "each is a column of the model. Leave it out, or join levels in the table."
                )
    for name, values in found.items():
        if len(values) < 2:
            raise DataError(
                f"Covariate '{name}' has {'one level' if values else 'no level'} ({listing(list(values)) or 'none'}) in "
                "all rows, which the intercept already represents; remove it from the formula."
            )
        levels[name] = [str(each) for each in (values if ordered[name] else sorted(values))]  # type: ignore[type-var]
    return levels


def _is_factor(kind: pa.DataType, name: str, formula: Formula) -> bool:
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return "factor" in formula.uses[name] or not (number or pa.types.is_boolean(kind))


def table_moments(data: PartitionedData, agreement: Agreement) -> TableMoments:
    """Cross products of all rows by cluster and pattern: in SQL, on Dask workers, or batch by batch here.

    Raises
    ------
    DataError
        The table has no rows, or some of them cannot be used.
    """
    names = [data.cluster, *agreement.responses, *agreement.parsed.variables]
    first = next(data.batches(names), None)
    if first is None:
        raise DataError("The table has no rows.")
    rows = part_rows(first, agreement, 0)
    place = first_place(rows)
    columns = columns_as_sql(data, rows, place)
    whole = None if columns is None else moments_by_sql(data, agreement, place, columns)
    sums = CellSums(place)
    for batch in _passes(data, agreement, place, names) if whole is None else (whole,):
        sums.add(batch)
    return sums.table()


def _passes(
    data: PartitionedData, agreement: Agreement, place: Place, names: Sequence[str]
) -> Iterator[BatchMoments]:
    if isinstance(data.source, DaskSource):
        yield from _by_dask(data.source, agreement, place, names)
        return
    start = 0
    for batch in data.batches(names):
        yield batch_moments(part_rows(batch, agreement, start), place)
        start += batch.num_rows


def _by_dask(
    source: DaskSource, agreement: Agreement, place: Place, names: Sequence[str]
) -> Iterator[BatchMoments]:
    """Partitions by the scheduler in force; rows stay where they are, cross products come here, in order."""
    import dask

    one = dask.delayed(_of_partition)
    tasks = [one(part, agreement, place) for part in source.frame[list(names)].to_delayed()]
    for first in range(0, len(tasks), AHEAD):
        for batches in dask.compute(*tasks[first : first + AHEAD]):
            yield from batches


def _of_partition(frame: object, agreement: Agreement, place: Place) -> list[BatchMoments]:
    batches = pa.Table.from_pandas(frame, preserve_index=False).to_batches(65_536)
    return [batch_moments(part_rows(each, agreement, 0), place) for each in batches if each.num_rows]

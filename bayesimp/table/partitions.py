"""`PartitionedData`: a table with missing cells that is read part by part and never held in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bayesimp.errors import DataError, SpecificationError
from bayesimp.layout import Printed
from bayesimp.messages import listing, suggestion
from bayesimp.table.sources import Source, StreamSource, quoted, read_source

__all__ = ["PartitionedData"]


class PartitionedData(Printed):
    """A table with missing cells, in clusters, that need not fit into memory.

    `bayesimp.PartitionedNormal` imputes it. Nothing but names and types of columns is read when it is made.

    Parameters
    ----------
    source
        Path of a Parquet file, or of a folder of them (also with hive folders, ``study=3/``); a list of paths; a pyarrow
        Dataset; a Dask DataFrame; a DuckDB relation; an Ibis table.
    cluster
        Name of the column that holds the cluster of each row. The rows of a cluster may be in several partitions.

    Attributes
    ----------
    source
        The rows, in parts.
    cluster
        Name of the cluster column.
    schema
        Names and Arrow types of all columns.

    Raises
    ------
    DataError
        Not such a table, or it cannot be read.
    SpecificationError
        There is no such file, or no column of this name.

    Examples
    --------
    >>> table = bi.IncompleteData.from_parquet("patients/", cluster="study")        # doctest: +SKIP
    >>> table = bi.PartitionedData(duckdb.sql("from 'patients/*.parquet'"), "study")    # doctest: +SKIP
    """

    def __init__(self, source: Any, cluster: str) -> None:
        self.source: Source = read_source(source)
        # what pandas writes about its types and index would turn imputed values back into whole numbers
        self.schema: pa.Schema = self.source.schema.remove_metadata()
        if not isinstance(cluster, str):
            raise SpecificationError(
                f"cluster is the name of one column, as text; got {cluster!r}. A table in partitions has one grouping "
                "factor."
            )
        names = self.schema.names
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(
                f"Column names occur more than once: {listing(repeated)}. Rename or drop columns."
            )
        if cluster not in names:
            raise SpecificationError(
                f"The table has no column '{cluster}' for the clusters. {suggestion(cluster, names)}"
            )
        self.cluster = cluster

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(self.schema.names)

    @property
    def parts(self) -> int:
        """Number of partitions."""
        return self.source.parts

    def batches(
        self, columns: Sequence[str] | None = None, part: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows in order, some tens of thousands at a time.

        Parameters
        ----------
        columns
            Which columns; None: all.
        part
            Only this partition; None: all, one after the other.
        """
        for k in range(self.parts) if part is None else (part,):
            for batch in self.source.read(k, columns):
                if batch.num_rows:
                    yield batch.replace_schema_metadata(None)

    def distinct(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of some columns; DuckDB leaves out those that occur before."""
        source = self.source
        if isinstance(source, StreamSource) and source.is_duckdb:
            source = StreamSource(source.query.project(", ".join(map(quoted, columns))).distinct(), True)
        for k in range(source.parts):
            yield from source.read(k, columns)

    def _said(self) -> str:
        parts = f"{self.parts:,} partition{'' if self.parts == 1 else 's'}"
        return f"PartitionedData: {parts}, clusters '{self.cluster}'; columns {listing(self.columns, 20)}"

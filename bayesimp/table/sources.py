"""Where the rows of a table in partitions are read from, as Arrow record batches; a second reading has the same rows.

path, list of paths, pyarrow Dataset    Parquet files in the order of their paths; hive folders (study=3/) are columns
Dask DataFrame                          one partition at a time, computed by the scheduler in force
DuckDB relation, Ibis table             one part, streamed; the order of its rows is that of the query
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.dataset as ds

from bayesimp.errors import DataError, SpecificationError, instead_of

__all__ = ["BATCH", "DaskSource", "ParquetSource", "Source", "StreamSource", "quoted", "read_source"]

BATCH = 65_536  # most rows in memory at a time


class Source(Protocol):
    """Rows in parts."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

    @property
    def parts(self) -> int:
        """The number of parts."""

    def read(self, part: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The rows of a part, in order; None: all columns."""


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files."""

    dataset: ds.Dataset
    files: tuple[ds.ParquetFileFragment, ...]

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, with those of hive folders."""
        return self.dataset.schema

    @property
    def parts(self) -> int:
        """One part for each file."""
        return len(self.files)

    def read(self, part: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The rows of a file, one row group in memory at a time."""
        names, file = self.schema.names if columns is None else list(columns), self.files[part]
        try:
            # opened again, because a fragment remembers where the pages of its file were
            fresh = file.format.make_fragment(file.path, file.filesystem, file.partition_expression)
            for group in fresh.split_by_row_group():
                yield from group.to_batches(
                    self.schema, columns=names, batch_size=BATCH, batch_readahead=0, use_threads=False
                )
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file.path} cannot be read: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class DaskSource:
    """A Dask DataFrame."""

    frame: Any

    @property
    def schema(self) -> pa.Schema:
        """Types as Dask knows them before anything is computed."""
        return pa.Schema.from_pandas(self.frame._meta_nonempty, preserve_index=False).remove_metadata()

    @property
    def parts(self) -> int:
        """Partitions of the data frame."""
        return self.frame.npartitions

    def read(self, part: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The rows of a partition."""
        own = self.frame.partitions[part]
        made = (own if columns is None else own[list(columns)]).compute()
        yield from pa.Table.from_pandas(made, preserve_index=False).to_batches(BATCH)


@dataclass(frozen=True)
class StreamSource:
    """A query whose result is streamed: a DuckDB relation or an Ibis table."""

    query: Any
    is_duckdb: bool

    @property
    def schema(self) -> pa.Schema:
        """Types of the columns of the query."""
        if self.is_duckdb:
            return self.query.limit(0).to_arrow_table().schema
        return self.query.schema().to_pyarrow()

    @property
    def parts(self) -> int:
        """One part."""
        return 1

    def read(self, part: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        """The rows of the query."""
        if self.is_duckdb:
            names = self.schema.names if columns is None else columns
            yield from self.query.project(", ".join(map(quoted, names))).to_arrow_reader(BATCH)
        else:
            query = self.query if columns is None else self.query.select(*columns)
            yield from query.to_pyarrow_batches(chunk_size=BATCH)


def quoted(name: str) -> str:
    """A column name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def read_source(source: Any) -> Source:
    """The source for a user's object.

    Raises
    ------
    DataError
        Not one of those in the module's docstring; no files; a file is not Parquet.
    SpecificationError
        A path that does not exist.
    """
    package = type(source).__module__.partition(".")[0]
    if package in ("dask", "dask_expr") and hasattr(source, "npartitions"):
        return DaskSource(source)
    if package in ("duckdb", "_duckdb") and hasattr(source, "project"):
        return StreamSource(source, True)
    if package == "ibis" and hasattr(source, "to_pyarrow_batches"):
        backend = source.get_backend()
        if backend.name == "duckdb":
            return StreamSource(backend.con.sql(str(backend.compile(source))), True)
        return StreamSource(source, False)
    dataset = source if isinstance(source, ds.Dataset) else _dataset(source)
    files = tuple(sorted(dataset.get_fragments(), key=lambda file: file.path))
    if not files:
        raise DataError(f"{source} has no Parquet files.")
    return ParquetSource(dataset, files)


def _dataset(source: Any) -> ds.Dataset:
    paths = source if isinstance(source, list | tuple) and source else [source]
    if not all(isinstance(path, str | os.PathLike) for path in paths):
        raise DataError(
            f"{type(source).__name__} is not a table in partitions. Give the path of a Parquet file or of a folder of "
            "them, a list of paths, a pyarrow Dataset, a Dask DataFrame, a DuckDB relation or an Ibis table; a table in "
            f"memory is for bi.IncompleteData.{instead_of(source)}"
        )
    if lost := [str(path) for path in paths if not Path(path).exists()]:
        raise SpecificationError(f"There is no file or folder {lost[0]}.")
    place: Any = str(paths[0]) if len(paths) == 1 else [str(path) for path in paths]
    try:
        return ds.dataset(place, format="parquet", partitioning="hive")
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{source} cannot be read as Parquet: {' '.join(str(error).split())}") from None

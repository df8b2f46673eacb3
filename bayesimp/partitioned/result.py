"""`PartitionedImputations`: draws of the parameters, and completed tables that are made part by part."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from bayesimp.arguments import whole
from bayesimp.diagnostics.convergence import Summary, diagnose
from bayesimp.durable import replacing
from bayesimp.errors import PACKAGE, DataError, SpecificationError, StatisticalWarning
from bayesimp.federated.posterior import PosteriorRun
from bayesimp.notation import Array
from bayesimp.partitioned.completion import Completion
from bayesimp.partitioned.model import PartitionedNormal
from bayesimp.partitioned.rows import part_rows

__all__ = ["PartitionedImputations"]

TABLE, ROW = "imp_m", "imp_id"  # as imputation/export.py


@dataclass(frozen=True)
class PartitionedImputations(PosteriorRun):
    """Imputations of a table in partitions. Made by `PartitionedNormal.impute`, not by hand.

    Attributes
    ----------
    model
        The model.

    Notes
    -----
    The same seed gives the same tables, however the rows are divided into partitions, but not in another order of rows.
    Parameters, R-hat and imputed means are those of `bayesimp.JointNormal` with the same seed, up to rounding; single
    imputed values have the same distribution and other random numbers.
    """

    model: PartitionedNormal

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Names of the responses and of the columns of X and Z."""
        place = self.model.moments.place
        return self.model.agreement.responses, place.fixed, place.random

    @property
    def attrs(self) -> dict[str, Any]:
        """What makes the run repeatable: model, seed, sizes, versions."""
        return {
            "model": "PartitionedNormal", "agreement": json.dumps(self.model.agreement.record()), "m": self.m,
            "rows": self.model.moments.rows, "seed": self.seed, "thin": self.thin, "spacing": self.spacing,
            "chains": self.draws.chains, "draws": self.draws.draws, "bayesimp_version": version("bayesimp"),
            "numpy_version": np.__version__,
        }  # fmt: skip

    @cached_property
    def imputed_stats(self) -> xr.Dataset:
        """Mean and standard deviation of all missing values of each response, along the chains."""
        d, responses = self.draws, list(self.names[0])
        coords = {"chain": np.arange(d.chains), "draw": np.arange(d.draws), "response": responses}
        dims = ("chain", "draw", "response")
        return xr.Dataset({"mean": (dims, d.mean[:, :, 0]), "sd": (dims, d.sd[:, :, 0])}, coords=coords)

    def summary(self) -> Summary:
        """R-hat and effective sample sizes of the parameters, and of mean and sd of all missing values by response.

        A `StatisticalWarning` says so if the run has not converged.
        """
        parameters, imputed = diagnose(self.tree["posterior"].to_dataset()), diagnose(self.imputed_stats)
        made = Summary(parameters, imputed, self.events, self.m, self.draws.draws, extends=False)
        if not made.converged:
            warnings.warn(made.verdict, StatisticalWarning, skip_file_prefixes=PACKAGE)
        return made

    @cached_property
    def completion(self) -> Completion:
        """What completes rows of any partition."""
        codes = self.model.moments.codes
        return Completion.of(self.working, codes, self.draws, self.places, self.seed)

    def frames(self, k: int) -> Iterator[pd.DataFrame]:
        """Completed table k, some tens of thousands of rows at a time, with numbers of rows as index.

        Raises
        ------
        SpecificationError
            There is no imputation k.
        DataError
            The table has changed since the model was made.
        """
        if whole(k, "k", 0) >= self.m:
            raise SpecificationError(f"k = {k}: imputations are numbered 0 to {self.m - 1}.")
        for start, batch, cells in self._batches():
            made = _completed(batch, cells, k).to_pandas()
            made.index += start
            yield made

    def export(self, path: str | os.PathLike[str], *, original: bool = True) -> Path:
        """Write completed tables as Parquet in one pass over the rows: a folder for each, with a file for each partition.

        ``path/imp_m=1/part-00000.parquet``, as `bayesimp.Imputations.export` with ``partitioned=True``: ``imp_m`` counts
        from 1, ``imp_id`` is the number of the row, from 0. pandas, polars, Arrow, Dask, DuckDB and Spark read the folder
        as one table. It appears only when it is complete.

        Parameters
        ----------
        path
            A folder that does not exist yet.
        original
            Whether to write the incomplete table too, as ``imp_m=0``.

        Returns
        -------
        The path.

        Raises
        ------
        SpecificationError
            The folder exists; the table has a column ``imp_m`` or ``imp_id``.
        DataError
            The table has changed since the model was made.
        """
        path, columns = Path(path), self.model.data.columns
        if path.exists():
            raise SpecificationError(f"{path} exists; give the name of a new folder.")
        if taken := [name for name in (TABLE, ROW) if name in columns]:
            raise SpecificationError(
                f"export: the table has a column '{taken[0]}', which would be written. Rename it."
            )
        with replacing(path) as made:
            made.mkdir(parents=True)
            for k in range(0 if original else 1, self.m + 1):
                (made / f"{TABLE}={k}").mkdir()
            start = 0
            for part in range(self.model.data.parts):
                start = self._write(made, part, start, original)
            self._check_rows(start)
        return path

    def _write(self, folder: Path, part: int, start: int, original: bool) -> int:
        """Write one partition of every table; returns the number of the row that follows."""
        with ExitStack() as files:
            writers: dict[int, pq.ParquetWriter] = {}
            for first, batch, cells in self._batches(part, start):
                row = pa.array(np.arange(first, first + batch.num_rows))
                for k in range(-1 if original else 0, self.m):
                    table = _completed(batch, cells, k).add_column(0, ROW, row)
                    if k not in writers:
                        file = folder / f"{TABLE}={k + 1}" / f"part-{part:05d}.parquet"
                        writers[k] = files.enter_context(pq.ParquetWriter(file, table.schema))
                    writers[k].write_table(table)
                start = first + batch.num_rows
        return start

    def _batches(
        self, part: int | None = None, start: int = 0
    ) -> Iterator[tuple[int, pa.RecordBatch, dict[str, tuple[NDArray[np.bool_], Array]]]]:
        """Number of the first row, rows, and for each response which are missing (n,) and their values (m, cells)."""
        data, agreement = self.model.data, self.model.agreement
        needed = [data.cluster, *agreement.responses, *agreement.parsed.variables]
        for batch in data.batches(part=part):
            rows = part_rows(batch.select(needed), agreement, start)
            place, values = self.completion.values(rows, start)
            cells = {}
            for k, name in enumerate(agreement.responses):
                missing = rows.missing(name)
                cells[name] = missing, values[:, missing[place], k]
            yield start, batch, cells
            start += batch.num_rows
        if part is None:
            self._check_rows(start)

    def _check_rows(self, rows: int) -> None:
        if rows != self.model.moments.rows:
            raise DataError(
                f"The table has {rows:,} rows now, and had {self.model.moments.rows:,} when its cross products were "
                "taken. Make the model again, and leave the files alone until the tables are completed."
            )

    def _said(self) -> str:
        n = len(self.log)
        return "\n".join([
            f"PartitionedImputations: {self.model.agreement.formula}",
            f"  {self.model.moments.rows:,} rows in {self.working.statistics.clusters:,} clusters; m = {self.m}, not "
            "completed until export() or frames()",
            f"  {self.draws.chains} chains x {self.draws.draws} draws, seed {self.seed}",
            f"  {n} event{'' if n == 1 else 's'}" + (": see .events" if n else ""),
        ])  # fmt: skip


def _completed(batch: pa.RecordBatch, cells: dict[str, tuple[NDArray[np.bool_], Array]], k: int) -> pa.Table:
    """The rows with the values of imputation k, or without values for k = -1.

    Responses that are whole numbers become floating point in every table and partition, so that all have the same types.
    """
    table = pa.Table.from_batches([batch])
    for name, (missing, values) in cells.items():
        at, kind = table.schema.get_field_index(name), batch.schema.field(name).type
        kind = kind if pa.types.is_floating(kind) else pa.float64()
        column = batch.column(name).cast(kind)
        if k >= 0:
            numbers = column.to_numpy(zero_copy_only=False).copy()
            numbers[missing] = values[k]
            column = pa.array(numbers, kind)
        table = table.set_column(at, pa.field(name, kind), column)
    return table

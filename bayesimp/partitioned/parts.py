"""Completed tables of a table in partitions: made and written part by part, never in memory."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from bayesimp.analysis.fit import fit_each
from bayesimp.analysis.fits import Fits
from bayesimp.analysis.named import OWN, check_options
from bayesimp.arguments import whole
from bayesimp.diagnostics.convergence import Summary, diagnose
from bayesimp.durable import replacing
from bayesimp.errors import PACKAGE, DataError, SpecificationError, StatisticalWarning
from bayesimp.events import Event, counted_events, event_table
from bayesimp.partitioned.analyses import ColumnsOfTables, needed_columns
from bayesimp.table.partitions import PartitionedData

if TYPE_CHECKING:
    from bayesimp.report.parts import PartsRun

__all__ = ["GIVEN", "INSTEAD", "CompletedParts", "Filled", "missing_by_variable"]

GIVEN = (*OWN, "cluster")  # arguments of fit_each that are not options

SAMPLE = "or take a sample of whole clusters into memory, model it by bi.JointNormal or bi.FCS, and call"
INSTEAD = {  # functions that take models of tables in memory only -> what to do
    "sensitivity": "a table in partitions is modelled under one prior at a time. Make one model for each prior "
    f"(priors=...) and compare summary() and analyse(...).pool() of their results; {SAMPLE} bi.sensitivity.",
    "mnar": "imputed values of a table in partitions cannot be shifted, because the values of other variables are drawn "
    f"given them. Leave the deltas out; {SAMPLE} bi.mnar.",
}

TABLE, ROW = "imp_m", "imp_id"  # as imputation/export.py

Filled = dict[str, tuple[NDArray[np.bool_], list[pa.Array]]]
"""Variable -> which of some rows lack it (n,), and their values in each of some imputations."""


def missing_by_variable(
    seen: NDArray[np.int64], rows: NDArray[np.int64], names: Sequence[str], families: Sequence[str]
) -> pd.DataFrame:
    """Clusters by how much of each variable they lack, and missing cells; seen (m, K) observed values, rows (m,)."""
    lacks = rows[:, None] - seen
    cells = lacks.sum(axis=0)
    return pd.DataFrame({
        "variable": list(names), "family": list(families), "complete": (lacks == 0).sum(axis=0),
        "sporadic": ((lacks > 0) & (seen > 0)).sum(axis=0), "systematic": (seen == 0).sum(axis=0), "missing": cells,
        "% missing": 100 * cells / rows.sum(),
    })  # fmt: skip


class CompletedParts(ABC):
    """Imputations whose completed tables are made in a pass over the rows."""

    m: int
    log: tuple[Event, ...]

    @property
    def events(self) -> pd.DataFrame:
        """The log, one row for each event."""
        return event_table(self.log)

    @property
    @abstractmethod
    def imputed_stats(self) -> xr.Dataset:
        """Mean and standard deviation of all missing values of each variable, along the chains."""

    def diagnosed(self, tree: xr.DataTree, *, chained: bool = False) -> Summary:
        """R-hat and effective sample sizes of parameters and of `imputed_stats`; warns if the run has not converged."""
        posterior = tree["posterior"].to_dataset()
        draws = int(posterior.sizes["draw"])
        parameters, imputed = diagnose(posterior), diagnose(self.imputed_stats)
        made = Summary(parameters, imputed, self.events, self.m, draws, chained=chained, extends=False)
        if not made.converged:
            warnings.warn(made.verdict, StatisticalWarning, skip_file_prefixes=PACKAGE)
        return made

    def in_words(self, what: str, rows: int, clusters: int, sampled: str) -> str:
        """The printed result: its model or variables, sizes of the table, how it was sampled, how many events."""
        return "\n".join([
            f"{type(self).__name__}: {what}",
            f"  {rows:,} rows in {clusters:,} clusters; m = {self.m}, not completed until export() or frames()",
            f"  {sampled}",
            f"  {counted_events(len(self.log))}",
        ])  # fmt: skip

    @property
    @abstractmethod
    def source(self) -> PartitionedData:
        """The incomplete table."""

    @abstractmethod
    def batches(self, imputations: Sequence[int]) -> Iterator[tuple[int, int, pa.RecordBatch, Filled]]:
        """Number of the part, number of the first row, rows, and their missing values in these imputations."""

    @abstractmethod
    def completed_kind(self, kind: pa.DataType) -> pa.DataType:
        """The type of an imputed column in completed tables, given its type in the table."""

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
        for _, start, batch, filled in self.batches([k]):
            made = self._completed(batch, filled, 0).to_pandas()
            made.index += start
            yield made

    def analyse(self, analysis: str | Callable, **options: Any) -> Fits:
        """Fit a formula to every completed table; ``.pool()`` applies Rubin's rules.

        The columns of the formula of one completed table at a time are in memory, made in a pass over the rows for each
        table. Analyses of other than normal responses of `bayesimp.PartitionedFCS` read no rows: they are fitted to the
        counts of rows that are alike.

        Parameters
        ----------
        analysis
            A formula, as for `bayesimp.fit_each`.
        **options
            As for `bayesimp.fit_each`: family, link, quadrature, ...

        Raises
        ------
        SpecificationError, DataError
            The analysis is not a formula or cannot be fitted, or the table has changed since the model was made.
        """
        check_options(options, CompletedParts.analyse, own=GIVEN)
        tables = ColumnsOfTables(self, needed_columns(self, analysis, options))
        return fit_each(tables, analysis, cluster=self.source.cluster, **options)

    @property
    @abstractmethod
    def _about(self) -> PartsRun:
        """What a report reads."""

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        analysis: Any = None,
        title: str = "Multiple imputation: report",
        stated: Mapping[str, str] | None = None,
        level: float = 0.95,
        figures: bool = True,
        **options: Any,
    ) -> Path:
        """Write a report: plan, missing values by variable, assumptions, model, convergence, results, events, checklist.

        It has the steps of `bayesimp.Imputations.report`, without what needs the rows, and says what that is.

        Parameters
        ----------
        path, analysis, title, stated, level, figures
            As for `bayesimp.Imputations.report`; analyses are formulas.
        **options
            Options of all analyses, as for `analyse`.

        Returns
        -------
        The path.

        Raises
        ------
        SpecificationError
            A suffix or item is unknown, an analysis is not a formula, or Word is requested and pandoc is not installed.
        """
        from bayesimp.report.parts import report_of_parts

        check_options(options, CompletedParts.report, analysis, GIVEN)
        return report_of_parts(
            self._about,
            path,
            analysis=analysis,
            title=title,
            stated=stated,
            level=level,
            figures=figures,
            **options,
        )

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
        path, columns = Path(path), self.source.columns
        if path.exists():
            raise SpecificationError(f"{path} exists; give the name of a new folder.")
        if taken := [name for name in (TABLE, ROW) if name in columns]:
            raise SpecificationError(
                f"export: the table has a column '{taken[0]}', which would be written. Rename it."
            )
        with replacing(path) as made, ExitStack() as files:
            made.mkdir(parents=True)
            for k in range(0 if original else 1, self.m + 1):
                (made / f"{TABLE}={k}").mkdir()
            now, writers = -1, dict[int, pq.ParquetWriter]()
            for part, start, batch, filled in self.batches(range(self.m)):
                if part != now:
                    files.close()
                    now, writers = part, {}
                row = pa.array(np.arange(start, start + batch.num_rows))
                for k in range(-1 if original else 0, self.m):
                    table = self._completed(batch, filled, k).add_column(0, ROW, row)
                    if k not in writers:
                        file = made / f"{TABLE}={k + 1}" / f"part-{part:05d}.parquet"
                        writers[k] = files.enter_context(pq.ParquetWriter(file, table.schema))
                    writers[k].write_table(table)
            files.close()
        return path

    def _completed(self, batch: pa.RecordBatch, filled: Filled, at: int) -> pa.Table:
        """The rows with the values of an imputation, by its place among those that were asked for; -1: without values.

        Columns have the same type in every table and partition.
        """
        table = pa.Table.from_batches([batch])
        for name, (missing, values) in filled.items():
            place = table.schema.get_field_index(name)
            kind = self.completed_kind(batch.schema.field(name).type)
            column = batch.column(name).cast(kind)
            if at >= 0:
                column = pc.replace_with_mask(column, pa.array(missing), values[at].cast(kind))
            table = table.set_column(place, pa.field(name, kind), column)
        return table

    @staticmethod
    def check_rows(rows: int, known: int) -> None:
        """Refuse a table with other rows than before."""
        if rows != known:
            raise DataError(
                f"The table has {rows:,} rows now, and had {known:,} when its rows were counted. Make the model again, "
                "and leave the files alone until the tables are completed."
            )

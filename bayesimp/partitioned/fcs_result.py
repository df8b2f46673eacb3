"""`PartitionedFCSImputations`: cycles of the chains, and completed tables that are made part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xarray as xr
from numpy.typing import NDArray

from bayesimp.analysis.fit import GENERALISED, fit_each
from bayesimp.analysis.fits import Fits
from bayesimp.analysis.named import check_options
from bayesimp.diagnostics.convergence import Summary
from bayesimp.errors import DataError
from bayesimp.events import Event
from bayesimp.fcs.history import History
from bayesimp.fcs.tree import block_names
from bayesimp.kernels.chained.deal import deal_cells
from bayesimp.layout import Printed
from bayesimp.partitioned.analyses import CountedTables, needed_columns
from bayesimp.partitioned.cells import CountCells
from bayesimp.partitioned.fcs import PartitionedFCS
from bayesimp.partitioned.parts import GIVEN, CompletedParts, Filled, missing_by_variable
from bayesimp.sampling.chains import row_uniforms
from bayesimp.table.partitions import PartitionedData

if TYPE_CHECKING:
    from bayesimp.report.parts import PartsRun

__all__ = ["PartitionedFCSImputations"]


@dataclass(frozen=True)
class PartitionedFCSImputations(CompletedParts, Printed):
    """Imputations of a table in partitions by chained equations. Made by `PartitionedFCS.impute`, not by hand.

    Attributes
    ----------
    model
        The model.
    m, seed, tune
        Imputations; seed of the run; cycles that are warm-up.
    history
        The kept cycles, on the working scale.
    cells
        For each imputation its completed rows as counts.
    seconds
        Time spent sampling.
    log
        What could not be done as specified.

    Notes
    -----
    Rows that are alike share the completions that their kind has in the last cycle; which row gets which is drawn in the
    order of the rows, without replacement. So the same seed gives the same tables however the rows are divided into
    partitions, but not in another order of rows, nor with clusters whose labels are in another order: kinds of rows are
    drawn in the order of their values.
    """

    model: PartitionedFCS
    m: int
    seed: int
    tune: int
    history: History
    cells: tuple[CountCells, ...]
    seconds: float
    log: tuple[Event, ...]

    @property
    def warm(self) -> int:
        """Cycles that are left out of the tree; none if the run has no others."""
        return self.tune if self.history.cycles > self.tune else 0

    @cached_property
    def tree(self) -> xr.DataTree:
        """`xarray.DataTree` for ArviZ with the group ``posterior``; a chain is an imputation, a draw is a cycle."""
        names, coords = block_names(self.model.model.spec), self._coords
        variables: dict[str, tuple] = {}
        for block, kept in zip(self.model.counts.blocks, self.history.blocks, strict=True):
            name, scale = names[block.name], block.chained.scale
            fixed, effect = f"fixed_{name}", f"effect_{name}"
            random = [column.name for column in block.chained.block.random]
            coords |= {
                fixed: [column.name for column in block.chained.block.fixed],
                effect: random, f"{effect}_2": random,
            }  # fmt: skip
            beta, Psi = kept["beta"][:, self.warm :], kept["Psi"][:, self.warm :]
            variables[f"beta_{name}"] = ("chain", "draw", fixed), scale.beta(beta)[..., 0]
            variables[f"Psi_{name}"] = ("chain", "draw", effect, f"{effect}_2"), scale.Psi(Psi)
        tree = xr.DataTree.from_dict({"/posterior": xr.Dataset(variables, coords=coords)})
        tree.attrs.update(self.attrs)
        return tree

    @property
    def _coords(self) -> dict[str, Any]:
        return {"chain": np.arange(self.m), "draw": np.arange(self.history.cycles - self.warm)}

    @property
    def attrs(self) -> dict[str, Any]:
        """What makes the run repeatable."""
        model = self.model.model
        return {
            "model": "PartitionedFCS", "formula": "; ".join(model.formulas), "priors_name": model.priors_name,
            "m": self.m, "rows": self.model.distinct.rows, "distinct_rows": len(self.model.distinct.frequency),
            "seed": self.seed, "tune": self.tune, "cycles": self.history.cycles,
            "bayesimp_version": version("bayesimp"), "numpy_version": np.__version__,
        }  # fmt: skip

    @cached_property
    def imputed_stats(self) -> xr.Dataset:
        """Mean and standard deviation of all missing values of each variable, along the chains."""
        coords = self._coords | {"response": list(self.model.responses)}
        dims = ("chain", "draw", "response")
        mean, sd = (each[:, self.warm :, 0] for each in (self.history.mean, self.history.sd))
        return xr.Dataset({"mean": (dims, mean), "sd": (dims, sd)}, coords=coords)

    def summary(self) -> Summary:
        """R-hat and effective sample sizes of the parameters, and of mean and sd of all missing values by variable.

        A `StatisticalWarning` says so if the run has not converged.
        """
        return self.diagnosed(self.tree, chained=True)

    @property
    def _about(self) -> PartsRun:
        """What a report reads."""
        from bayesimp.report.parts import PartsRun

        table, n = self.model.table, self.model.distinct.frequency
        where, names = table.grouping, self.model.responses
        rows = np.bincount(where.codes, n, minlength=len(where.labels))
        seen = [np.bincount(where.codes, n * ~table.missing(name), minlength=len(rows)) for name in names]
        families = [table.families[name] for name in names]
        missing = missing_by_variable(
            np.column_stack(seen).astype(np.int64), rows.astype(np.int64), names, families
        )
        more = {"sampler": "bayes", "chains": self.m, "draws": self.history.cycles, "clusters": len(rows)}
        return PartsRun(self, "FCS", repr(self.model), missing, self.attrs | more, True, names)

    @property
    def source(self) -> PartitionedData:
        """The incomplete table."""
        return self.model.data

    def completed_kind(self, kind: pa.DataType) -> pa.DataType:
        """Columns keep their types; categories become their values."""
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    def batches(self, imputations: Sequence[int]) -> Iterator[tuple[int, int, pa.RecordBatch, Filled]]:
        """Number of the part, number of the first row, rows, and their missing values in these imputations.

        Raises
        ------
        DataError
            The table has changed since the model was made.
        """
        distinct, missing = self.model.distinct, self.model.counts.missing
        hands = [_Hand(self.cells[i], missing, self.seed, i) for i in imputations]
        start = 0
        for part in range(self.source.parts):
            for batch in self.source.batches(part=part):
                kind = distinct.find(batch.select(list(distinct.names)))
                if (kind < 0).any():
                    row = start + int(np.argmax(kind < 0))
                    raise DataError(
                        f"The table has changed since its rows were counted: row {row:,} is none of those that were "
                        "there. Make the model again, and leave the files alone until the tables are completed."
                    )
                place = np.flatnonzero(missing[kind].any(axis=1))
                dealt = [hand.deal(kind[place], start, place) for hand in hands]
                filled: Filled = {}
                for k, name in enumerate(self.model.responses):
                    own = missing[kind, k]
                    values = [self.values(k, name, y[own[place], k]) for y in dealt]
                    filled[name] = own, values
                yield part, start, batch, filled
                start += batch.num_rows
        self.check_rows(start, distinct.rows)

    def analyse(self, analysis: str | Callable, **options: Any) -> Fits:
        """As `CompletedParts.analyse`; no rows are read if the response is not normal and has no weights or trials."""
        check_options(options, PartitionedFCSImputations.analyse, own=GIVEN)
        names = needed_columns(self, analysis, options)
        counted = options.get("family") in GENERALISED and not {"weights", "trials"} & set(options)
        if not counted or not set(names) <= set(self.model.distinct.names):
            return super().analyse(analysis, **options)
        return fit_each(CountedTables(self), analysis, cluster=self.source.cluster, **options)

    def values(self, k: int, name: str, y: NDArray[np.int64]) -> pa.Array:
        """The values that positions of levels, or counts, stand for, as in the table."""
        distinct = self.model.distinct
        kind = distinct.values[distinct.names.index(name)].type
        levels = self.model.table.levels(name)
        return pa.array(list(levels)).cast(kind).take(pa.array(y)) if levels else pa.array(y).cast(kind)

    def _said(self) -> str:
        clusters, sampled = (
            self.model.counts.table.clusters,
            f"{self.history.cycles} cycles, seed {self.seed}",
        )
        return self.in_words(", ".join(self.model.responses), self.model.distinct.rows, clusters, sampled)


class _Hand:
    """The completions of one imputation that rows have not yet got, during one pass."""

    def __init__(self, cells: CountCells, missing: NDArray[np.bool_], seed: int, imputation: int) -> None:
        self.y, self.left, self.seed, self.imputation = cells.y, cells.n.copy(), seed, imputation
        self.first = np.searchsorted(cells.kind, np.arange(len(missing) + 1)).astype(np.int64)
        self.rest = np.zeros(len(missing), dtype=np.int64)
        np.add.at(self.rest, cells.kind, cells.n)

    def deal(self, kind: NDArray[np.int64], start: int, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """(R, K) values of incomplete rows of these kinds (R,), at places (R,) after row `start` of the table."""
        out = np.empty(len(kind), dtype=np.int64)
        if len(kind):
            u = row_uniforms(self.seed, self.imputation, start, int(place[-1]) + 1, 1)[place, 0]
            if deal_cells(np.ascontiguousarray(u), kind, self.first, self.left, self.rest, out) >= 0:
                raise DataError(
                    "The table has changed since its rows were counted: there are more rows of some kind. Make the "
                    "model again, and leave the files alone until the tables are completed."
                )
        return self.y[out]

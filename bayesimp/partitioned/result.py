"""`PartitionedImputations`: draws of the parameters, and completed tables that are made part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xarray as xr

from bayesimp.diagnostics.convergence import Summary
from bayesimp.federated.posterior import PosteriorRun
from bayesimp.partitioned.completion import Completion
from bayesimp.partitioned.model import PartitionedNormal
from bayesimp.partitioned.parts import CompletedParts, Filled, missing_by_variable
from bayesimp.partitioned.rows import part_rows
from bayesimp.table.partitions import PartitionedData

if TYPE_CHECKING:
    from bayesimp.report.parts import PartsRun

__all__ = ["PartitionedImputations"]


@dataclass(frozen=True)
class PartitionedImputations(CompletedParts, PosteriorRun):
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
        return self.diagnosed(self.tree)

    @cached_property
    def completion(self) -> Completion:
        """What completes rows of any partition."""
        codes = self.model.moments.codes
        return Completion.of(self.working, codes, self.draws, self.places, self.seed)

    @property
    def _about(self) -> PartsRun:
        """What a report reads."""
        from bayesimp.report.parts import PartsRun

        moments, names = self.model.moments, self.names[0]
        rows = np.bincount(
            moments.cell_cluster, moments.products[:, 0, 0], minlength=len(moments.codes)
        ).round()
        missing = missing_by_variable(moments.seen, rows.astype(np.int64), names, ["normal"] * len(names))
        priors = self.model.agreement.checked_priors.name
        more = {"sampler": "gibbs", "priors_name": priors, "clusters": len(moments.codes)}
        return PartsRun(self, "JointNormal", repr(self.model), missing, self.attrs | more, False, names)

    @property
    def source(self) -> PartitionedData:
        """The incomplete table."""
        return self.model.data

    def completed_kind(self, kind: pa.DataType) -> pa.DataType:
        """Whole numbers become floating point."""
        return kind if pa.types.is_floating(kind) else pa.float64()

    def batches(self, imputations: Sequence[int]) -> Iterator[tuple[int, int, pa.RecordBatch, Filled]]:
        """Number of the part, number of the first row, rows, and their missing values in these imputations.

        Raises
        ------
        DataError
            The table has changed since the model was made.
        """
        data, agreement, start = self.model.data, self.model.agreement, 0
        needed = [data.cluster, *agreement.responses, *agreement.parsed.variables]
        for part in range(data.parts):
            for batch in data.batches(part=part):
                rows = part_rows(batch.select(needed), agreement, start)
                place, values = self.completion.values(rows, start)
                filled: Filled = {}
                for k, name in enumerate(agreement.responses):
                    missing = rows.missing(name)
                    own = values[:, missing[place], k]
                    filled[name] = missing, [pa.array(own[i]) for i in imputations]
                yield part, start, batch, filled
                start += batch.num_rows
        self.check_rows(start, self.model.moments.rows)

    def _said(self) -> str:
        sampled = f"{self.draws.chains} chains x {self.draws.draws} draws, seed {self.seed}"
        clusters = self.working.statistics.clusters
        return self.in_words(self.model.agreement.formula, self.model.moments.rows, clusters, sampled)

"""The results of a study: estimates from every replicate, failures and events, and summaries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bayesimp.errors import DataError
from bayesimp.kinds import checks_arguments
from bayesimp.layout import Printed
from bayesimp.studies import parts
from bayesimp.studies.summaries import compare, summarise

__all__ = ["StudyResult", "read"]


@checks_arguments
@dataclass(frozen=True)
class StudyResult(Printed):
    """Results of a `Study`.

    Attributes
    ----------
    table
        One row for each scenario, replicate and method (`bayesimp.studies.parts`).
    description
        Description of the study.
    complete
        Whether the results include everything that was requested.
    """

    table: pa.Table
    description: dict[str, Any]
    complete: bool = True

    @property
    def units(self) -> pd.DataFrame:
        """One row for each scenario, replicate and method: error, seconds, cpu, tables, singular, unconverged."""
        return self.table.drop_columns(["estimates", "events"]).to_pandas()

    @property
    def estimates(self) -> pd.DataFrame:
        """One row for each estimate: scenario, replicate, method, term, estimate, se, df, intervals, truth."""
        frame = parts.exploded(self.table, "estimates")
        truth = {
            (name, term): value
            for name, s in self.description["scenarios"].items()
            for term, value in s["truth"].items()
        }
        pairs = zip(frame["scenario"], frame["term"], strict=True)
        return frame.assign(truth=[truth.get(pair, np.nan) for pair in pairs])

    @property
    def events(self) -> pd.DataFrame:
        """Events and warnings: scenario, replicate, method, kind, where, message, count."""
        return parts.exploded(self.table, "events")

    @property
    def failures(self) -> pd.DataFrame:
        """Units in which a method failed, with its error."""
        units = self.units
        return units.loc[units["error"].notna(), [*parts.KEY, "error"]].reset_index(drop=True)

    def summary(self) -> pd.DataFrame:
        """Bias, RMSE, standard errors and coverage with Monte Carlo standard errors; see `summarise`."""
        return self._labelled(summarise(self.estimates, self.units))

    def compare(self, method: str, other: str) -> pd.DataFrame:
        """`method` less `other` on the same data sets; see `bayesimp.studies.compare`."""
        return self._labelled(compare(self.estimates, method, other))

    def event_counts(self) -> pd.DataFrame:
        """By scenario, method and kind of event: the number of data sets with such events, and their total count."""
        by = self.events.groupby(["scenario", "method", "kind"], sort=False)
        return by.agg(data_sets=("replicate", "nunique"), count=("count", "sum")).reset_index()

    def _labelled(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table with the labels of the scenarios as columns after their names."""
        labels = {name: s["labels"] for name, s in self.description["scenarios"].items()}
        columns = list(dict.fromkeys(key for each in labels.values() for key in each))
        for k, key in enumerate(columns):
            frame.insert(1 + k, key, [labels[name].get(key) for name in frame["scenario"]])
        return frame

    def _said(self) -> str:
        units = self.units
        failed = int(units["error"].notna().sum())
        sets = len(units[["scenario", "replicate"]].drop_duplicates())
        return (
            f"StudyResult: {units['scenario'].nunique()} scenarios, {sets:,} data sets, methods "
            f"{', '.join(units['method'].unique())}; {failed} of {len(units):,} failed"
            + ("" if self.complete else "; not complete")
        )


def read(out: str | Path) -> StudyResult:
    """Read the results from a folder, whether or not the run has ended.

    Raises
    ------
    DataError
        If the folder has no study.
    """
    folder = Path(out)
    description = parts.read_description(folder)
    if description is None:
        raise DataError(f"There is no study in {folder}: it has no {parts.DESCRIPTION}.")
    table = parts.ordered(parts.read_parts(folder), description["scenarios"], description["methods"])
    return StudyResult(table, description)

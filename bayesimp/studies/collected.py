"""What simulations found, as tables that can be stored and put together: a study is spread over folders or machines.

The estimates of every data set take megabytes; these tables do not, and all that a report shows is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bayesimp.errors import DataError
from bayesimp.studies.result import StudyResult

__all__ = ["Collected", "collect", "join", "read_collected", "write_collected"]

SUMMARY, RUNS, EVENTS = "summary.parquet", "runs.csv", "events.csv"
COUNTS = ["scenarios", "data_sets", "units", "failed", "cpu"]


@dataclass(frozen=True)
class Collected:
    """Summaries of simulations.

    Attributes
    ----------
    summary
        `StudyResult.summary` of all simulations, with the name of each in the column "run".
    runs
        run, scenarios, data_sets (of all scenarios together), least and most (data sets of a scenario), units, failed,
        cpu (seconds), complete, made_by (the command, or several).
    events
        run, method, kind, data_sets (with such events), count.
    """

    summary: pd.DataFrame
    runs: pd.DataFrame
    events: pd.DataFrame


def collect(results: Mapping[str, StudyResult], made_by: str = "") -> Collected:
    """The tables of simulations that have been run, by name, and the command that ran them."""
    summaries, runs, events = [], [], []
    for name, result in results.items():
        summary = result.summary()
        summary.insert(0, "run", name)
        summaries.append(summary)
        units = result.units
        sets = units.groupby("scenario")["replicate"].nunique()
        runs.append({
            "run": name, "scenarios": len(sets), "data_sets": sets.sum(), "least": sets.min(), "most": sets.max(),
            "units": len(units), "failed": units["error"].notna().sum(), "cpu": units["cpu"].sum(),
            "complete": result.complete, "made_by": made_by,
        })  # fmt: skip
        counts = result.event_counts().groupby(["method", "kind"], sort=False)[["data_sets", "count"]].sum()
        events.append(counts.reset_index().assign(run=name))
    columns = ["run", "method", "kind", "data_sets", "count"]
    return Collected(
        pd.concat(summaries, ignore_index=True),
        pd.DataFrame(runs),
        pd.concat(events, ignore_index=True)[columns],
    )


def write_collected(collected: Collected, out: Path) -> None:
    """Write summary.parquet, runs.csv and events.csv."""
    collected.summary.to_parquet(out / SUMMARY, index=False)
    collected.runs.to_csv(out / RUNS, index=False)
    collected.events.to_csv(out / EVENTS, index=False)


def read_collected(folders: Sequence[str | Path]) -> Collected:
    """The tables of folders in which `bayesimp reproduce` has written its results, put together.

    Raises
    ------
    DataError
        If a folder has no such tables, or two folders have results of the same scenario and method.
    """
    read = []
    for folder in map(Path, folders):
        missing = [name for name in (SUMMARY, RUNS, EVENTS) if not (folder / name).exists()]
        if missing:
            raise DataError(
                f"{folder} has no results of `bayesimp reproduce`: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} not there."
            )
        runs = pd.read_csv(folder / RUNS).fillna({"made_by": ""})
        read.append(
            (str(folder), Collected(pd.read_parquet(folder / SUMMARY), runs, pd.read_csv(folder / EVENTS)))
        )
    return join(read)


def join(parts: Sequence[tuple[str, Collected]]) -> Collected:
    """Tables of several folders, given with their names; counts of simulations with one name are added up."""
    seen: dict[tuple[str, str, str], str] = {}
    for folder, part in parts:
        keys = part.summary[["run", "scenario", "method"]].drop_duplicates()
        for key in keys.itertuples(index=False, name=None):
            if key in seen:
                raise DataError(
                    f"Both {seen[key]} and {folder} have results of {key[2]} in '{key[1]}'; results of different "
                    "data sets cannot be told from results of the same ones, so leave one of the folders out."
                )
            seen[key] = folder
    summary = pd.concat([part.summary for _, part in parts], ignore_index=True)
    runs = pd.concat([part.runs for _, part in parts]).groupby("run", sort=False)
    how = {**dict.fromkeys(COUNTS, "sum"), "least": "min", "most": "max", "complete": "all", "made_by": _each}
    merged = runs.agg(how)
    events = pd.concat([part.events for _, part in parts]).groupby(["run", "method", "kind"], sort=False)
    columns = list(parts[0][1].runs.columns)
    return Collected(summary, merged.reset_index()[columns], events.sum().reset_index())


def _each(commands: pd.Series) -> str:
    return "; ".join(command for command in commands.unique() if command)

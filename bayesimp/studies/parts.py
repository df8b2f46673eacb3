"""Results of a study on disk: one row for each scenario, replicate and method, in Parquet parts that are never partial.

A part is written under another name and renamed, so that a killed run leaves only complete parts. Units that are in no
part are run again with the same random numbers; those in two parts count once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bayesimp.errors import DataError
from bayesimp.studies.records import Estimate

__all__ = ["SCHEMA", "as_table", "read_description", "read_parts", "write_description", "write_part"]

NUMBERS = [name for name in Estimate._fields if name != "term"]
SCHEMA = pa.schema([
    ("scenario", pa.string()), ("replicate", pa.int64()), ("method", pa.string()), ("error", pa.string()),
    ("seconds", pa.float64()), ("cpu", pa.float64()),
    ("tables", pa.int64()), ("singular", pa.int64()), ("unconverged", pa.int64()),
    ("estimates", pa.list_(pa.struct([("term", pa.string()), *((name, pa.float64()) for name in NUMBERS)]))),
    ("events", pa.list_(pa.struct([
        ("kind", pa.string()), ("where", pa.string()), ("message", pa.string()), ("count", pa.int64()),
    ]))),
])  # fmt: skip
KEY = ["scenario", "replicate", "method"]
DESCRIPTION, FOLDER = "study.json", "parts"


def as_table(units: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Results of units, one per row, with the columns of a part."""
    return pa.Table.from_pylist(list(units), schema=SCHEMA)


def write_part(out: Path, units: Sequence[Mapping[str, Any]]) -> None:
    """Append units; afterwards either all of them are on disk, or none."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid4().hex
    unfinished = folder / f"{name}.unfinished"
    with unfinished.open("wb") as file:
        pq.write_table(as_table(units), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / f"{name}.parquet")


def read_parts(out: Path) -> pa.Table:
    """All units on disk, each once; for a unit that failed and was tried again, the success."""
    paths = sorted((out / FOLDER).glob("*.parquet"))
    tables = [pq.read_table(path, schema=SCHEMA) for path in paths]
    return each_once(pa.concat_tables(tables)) if tables else SCHEMA.empty_table()


def each_once(table: pa.Table) -> pa.Table:
    """Each unit once: a success in preference to a failure, and the latest of several."""
    keys = table.select([*KEY, "error"]).to_pandas()
    keys["failed"] = keys["error"].notna()
    keys["place"] = range(len(keys))
    kept = keys.sort_values([*KEY, "failed", "place"]).drop_duplicates(KEY)["place"]
    return table.take(pa.array(kept.to_numpy()))


def done(table: pa.Table, retry_failed: bool) -> set[tuple[str, int, str]]:
    """Keys of the units that need not be run again."""
    keys = table.select([*KEY, "error"]).to_pandas()
    if retry_failed:
        keys = keys[keys["error"].isna()]
    return set(keys[KEY].itertuples(index=False, name=None))


def ordered(table: pa.Table, scenarios: Iterable[str], methods: Iterable[str]) -> pa.Table:
    """Units of these scenarios and methods, in the order of the study rather than that in which they were run."""
    place = {name: k for k, name in enumerate(scenarios)}
    rank = {name: k for k, name in enumerate(methods)}
    keys = table.select(KEY).to_pandas()
    keys["scenario"], keys["method"] = keys["scenario"].map(place), keys["method"].map(rank)
    keys = keys.dropna().sort_values(KEY)
    return table.take(pa.array(keys.index.to_numpy(), pa.int64()))


def write_description(out: Path, description: Mapping[str, Any]) -> None:
    """Write the description of the study, completely or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{DESCRIPTION}.unfinished"
    unfinished.write_text(json.dumps(description, indent=1) + "\n")
    unfinished.replace(out / DESCRIPTION)


def read_description(out: Path) -> dict[str, Any] | None:
    """The description of the study in a folder; None if there is none."""
    path = out / DESCRIPTION
    if not path.exists():
        if any((out / FOLDER).glob("*.parquet")):
            raise DataError(f"{out} has parts of a study but no {DESCRIPTION}; use another folder.")
        return None
    return json.loads(path.read_text())


def exploded(units: pa.Table, column: str) -> pd.DataFrame:
    """A table with one row for each element of a list column, and the keys of its unit."""
    lists = units[column].combine_chunks()
    parents = pa.compute.list_parent_indices(lists)
    inner = pa.Table.from_struct_array(lists.flatten()).to_pandas()
    keys = units.select(KEY).take(parents).to_pandas()
    return pd.concat([keys, inner], axis=1)

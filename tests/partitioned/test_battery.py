"""The checks of `tests/test_models.py` that apply to tables in partitions, whose results have no run to extend or save.

Federated runs withhold the cells of so small a table: tests/federated/test_posterior.py.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesimp as bi
from tests import test_models as battery

PLAIN = {"chains": 2, "tune": 4, "draws": 6, "thin": 2}


@dataclass
class Tables:
    """Completed tables, read like those of `bayesimp.Imputations`."""

    tables: list[pd.DataFrame]
    missing: dict[str, np.ndarray]
    events: pd.DataFrame
    tree: Any

    @property
    def m(self) -> int:
        return len(self.tables)

    @property
    def imputed_columns(self) -> list[str]:
        return list(self.missing)

    responses = imputed_columns

    def values(self, name: str) -> np.ndarray:
        columns = [
            made[name] if made[name].dtype.kind == "f" else made[name] == "high" for made in self.tables
        ]
        return np.stack([column.to_numpy(float)[self.missing[name]] for column in columns])

    def frame(self, k: int) -> pd.DataFrame:
        return self.tables[k]

    def extend(self, further: int) -> "Tables":
        return self  # these engines make as many imputations as were asked for


@dataclass(frozen=True, eq=False)
class Elsewhere(battery.Case):
    """An engine that reads the table from a folder; `make`: (frame, folder, options) -> `Tables`."""

    folder: list = field(default_factory=list)  # where the files of this session are

    def run(self, frame: pd.DataFrame | None = None, **changed: Any) -> Tables:
        frame = battery.table() if frame is None else frame
        place = self.folder[0] / str(len(self.folder))
        self.folder.append(place)
        return self.make(frame, place, {"m": 4, "seed": 7, "progress": False} | self.options | changed)


def discrete(frame):
    """y and w as "high" and "low", x rounded."""
    binary = {n: frame[n].map(lambda v: None if np.isnan(v) else "high" if v > 0 else "low") for n in "yw"}
    return frame.assign(**binary, x=frame["x"].round())


def partitioned(engine, frame, folder, options):
    """By three files."""
    folder.mkdir()
    for k, rows in enumerate(np.array_split(np.arange(len(frame)), 3)):
        frame.iloc[rows].to_parquet(folder / f"part-{k}.parquet", index=False)
    made = engine(bi.IncompleteData.from_parquet(folder, "g")).impute(**options)
    missing = {name: frame[name].isna().to_numpy() for name in ("y", "w")}
    tables = [pd.concat(made.frames(k)) for k in range(made.m)]
    return Tables(tables, missing, made.events, made.tree)


def counts(frame, folder, options):
    return partitioned(
        lambda data: bi.PartitionedFCS(data, ["x", "y", "w"]), discrete(frame), folder, options
    )


normal = partial(partitioned, lambda data: bi.PartitionedNormal(data, "y + w ~ x + (1 | g)"))
CASES = {
    "PartitionedNormal": Elsewhere(normal, PLAIN),
    "PartitionedFCS": Elsewhere(counts, {"cycles": 4}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def folder(tmp_path):
    for case in CASES.values():
        case.folder[:] = [tmp_path / str(id(case))]
        case.folder[0].mkdir()


@every_case
@pytest.mark.parametrize("name", ["seed", "workers", "executor"])
def test_property(case, name):
    battery.CHECKS[name](case)


def test_other_labels_give_the_same():
    """Not by chained equations, which draw kinds of rows in the order of their values, labels included."""
    battery.CHECKS["labels"](CASES["PartitionedNormal"])


@every_case
def test_no_cell_is_missing_and_events_are_a_table(case):
    frame = discrete(battery.table()) if case is CASES["PartitionedFCS"] else battery.table()
    made = case.run()
    battery.check_complete(made, frame)
    assert list(made.events.columns) == ["kind", "where", "message", "count"]


@every_case
def test_progress(case, monkeypatch):
    battery.check_progress(case, monkeypatch)

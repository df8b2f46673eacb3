"""`bayesimp replay DIR`: repeat a run from the plan and table in its folder, and compare the results number by number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.durable import checksum
from bayesimp.errors import DataError, SpecificationError
from bayesimp.imputation.result import Imputations
from bayesimp.imputation.storage import load
from bayesimp.layout import Printed
from bayesimp.workflow.environment import environment, environment_differences
from bayesimp.workflow.folder import Folder, earlier_record
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.prepare import Prepared, prepare
from bayesimp.workflow.run import run
from bayesimp.workflow.trail import checked_log, enter

__all__ = ["Comparison", "Replay", "compare_arrays", "replay_folder"]

PLAN, IMPUTATIONS = "plan.toml", "imputations.nc"
POOLED = ("pooled_*.csv", "components_*.csv", "mnar.csv", "mnar_tipping.csv")


@dataclass(frozen=True)
class Comparison(Printed):
    """Comparison of numbers of one kind, then and now.

    Attributes
    ----------
    what
        ``"completed table 1, y"``, ``"posterior, beta"``, ``"pooled_main.csv, estimate"``.
    count
        How many numbers differ.
    size
        Number of values compared.
    absolute, relative
        The largest difference, and the largest in units of the number then; infinite where one of them is not a number
        or a text differs.
    fault
        Why they cannot be compared number by number; "" if they can.
    """

    what: str
    count: int
    size: int
    absolute: float = 0.0
    relative: float = 0.0
    fault: str = ""

    @property
    def equal(self) -> bool:
        """Whether all are equal in every bit."""
        return not self.count and not self.fault

    def _said(self) -> str:
        if self.fault:
            return f"DIFFERS    {self.what}: {self.fault}"
        if self.equal:
            return f"bit-equal  {self.what} ({self.size:,})"
        return (
            f"DIFFERS    {self.what}: {self.count:,} of {self.size:,}, by at most {self.absolute:.3g}, "
            f"relatively {self.relative:.3g}"
        )


@dataclass(frozen=True)
class Replay(Printed):
    """All comparisons of a run with the same run again."""

    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether everything is equal in every bit."""
        return bool(self.comparisons) and all(each.equal for each in self.comparisons)

    def _said(self) -> str:
        differ = sum(not each.equal for each in self.comparisons)
        size = sum(each.size for each in self.comparisons)
        end = (
            f"Bit-equal: {size:,} numbers in {len(self.comparisons)} comparisons."
            if self.equal
            else f"NOT bit-equal: {differ} of {len(self.comparisons)} comparisons differ."
        )
        parts = [each._said() for each in self._merged()]
        return "\n".join([*(f"Note: {note}" for note in self.notes), *parts, end])

    def _merged(self) -> Iterator[Comparison]:
        """The comparisons, with those of a table's columns merged if all are equal."""
        tables: dict[str, list[Comparison]] = {}
        for each in self.comparisons:
            table = each.what if each.what.startswith("posterior") else each.what.partition(", ")[0]
            tables.setdefault(table, []).append(each)
        for table, columns in tables.items():
            if all(each.equal for each in columns):
                yield Comparison(table, 0, sum(each.size for each in columns))
            else:
                yield from columns


def replay_folder(folder: Path, stored_table: bool = False) -> Replay:
    """Repeat a folder's plan in a temporary folder, compare, and enter the result in its log.

    Raises
    ------
    SpecificationError, DataError
        The folder has no complete run, its files are altered, or the table has changed.
    """
    record = earlier_record(folder)
    if not record or record.get("status") not in ("complete", "incomplete"):
        ended = f"ended as {record.get('status')!r}" if record else "holds no run.json"
        raise SpecificationError(f"{folder} {ended}. Give the folder of a run that was not interrupted.")
    log = checked_log(folder)
    before = load(folder / IMPUTATIONS)
    ready, notes = _prepared(folder, record, before, stored_table)
    if log is None:
        notes.append(f"{folder} has no log, so there is no evidence that its files are as the run left them.")
    else:
        differs = environment_differences(log.run[0]["environment"], environment())
        notes += [f"the environment differs: {line}" for line in differs]
    with tempfile.TemporaryDirectory(prefix="bayesimp-replay-") as name:
        again = Path(name) / "again"
        run(ready, Folder.make(again, False), lambda text: None, command="replay")
        compared = (*_imputations(before, load(again / IMPUTATIONS)), *_tables(folder, again))
    result = Replay(compared, tuple(notes))
    if log is not None:
        words = "bit-equal" if result.equal else f"{sum(not c.equal for c in compared)} comparisons differ"
        inputs = {file: checksum(folder / file) for file in (PLAN, IMPUTATIONS)}
        if remark := enter(folder, "replay", inputs, {}, result=words, environment=environment()):
            result = replace(result, notes=(*result.notes, remark))
    return result


def _prepared(
    folder: Path, record: dict[str, Any], before: Imputations, stored: bool
) -> tuple[Prepared, list[str]]:
    """The plan with the table of the run: from its file if unchanged, otherwise as stored with the results."""
    plan = read_plan(folder / PLAN, with_table=False)
    plan = replace(plan, output=replace(plan.output, figures=False, completed=False))
    source = record.get("data", {})
    if "file" not in source:
        return prepare(plan), []
    file = Path(source["file"])
    if stored or not file.is_file():
        why = "as requested" if stored else f"{file} does not exist"
        ready = prepare(plan, before.data.frame)
        ready = replace(
            ready, plan=replace(plan, data=replace(plan.data, file=None))
        )  # which is not looked for
        return ready, [f"the table is the one stored in {IMPUTATIONS}: {why}."]
    if (now := checksum(file)) != source["sha256"]:
        raise DataError(
            f"{file} is not the table of this run: SHA-256 {now}, was {source['sha256']}. Restore it, or use "
            f"--stored-table to take the table stored in {IMPUTATIONS}."
        )
    return prepare(replace(plan, data=replace(plan.data, file=file))), []


def compare_arrays(what: str, then: Any, now: Any) -> Comparison:
    """Two arrays bit by bit: NaN equals NaN, 0.0 does not equal -0.0; texts and other objects by their texts."""
    then, now = np.asarray(then), np.asarray(now)
    if then.shape != now.shape:
        return Comparison(what, 0, then.size, fault=f"shape {now.shape}, was {then.shape}")
    if then.dtype.kind not in "biuf" or now.dtype.kind not in "biuf":
        differs = np.array(
            [str(a) != str(b) for a, b in zip(then.ravel(), now.ravel(), strict=True)], dtype=bool
        )
        worst = np.inf if differs.any() else 0.0
        return Comparison(what, int(differs.sum()), then.size, worst, worst)
    if then.dtype != now.dtype:
        return Comparison(what, 0, then.size, fault=f"type {now.dtype}, was {then.dtype}")
    nan = np.isnan(then) & np.isnan(now) if then.dtype.kind == "f" else np.zeros(then.shape, dtype=bool)
    differs = (
        (then != now) | (np.signbit(then) != np.signbit(now) if then.dtype.kind == "f" else False)
    ) & ~nan
    a, b = then[differs].astype(float), now[differs].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.abs(a - b)
        gap = np.where(np.isnan(gap), np.inf, gap)
        relative = np.where(gap > 0, gap / np.abs(a), 0.0)
        relative = np.where(np.isnan(relative), np.inf, relative)
    return Comparison(
        what, int(differs.sum()), then.size, float(gap.max(initial=0)), float(relative.max(initial=0))
    )


def _imputations(then: Imputations, now: Imputations) -> Iterator[Comparison]:
    if (then.m, then.imputed_columns) != (now.m, now.imputed_columns):
        yield Comparison("completed tables", 0, then.m, fault=f"{now.m} of {now.imputed_columns}")
        return
    for k in range(then.m):
        a, b = then.frame(k), now.frame(k)
        for name in then.columns:
            yield compare_arrays(f"completed table {k + 1}, {name}", a[name].array, b[name].array)
    posteriors = then.tree["posterior"].to_dataset(), now.tree["posterior"].to_dataset()
    for name in dict.fromkeys([*posteriors[0].data_vars, *posteriors[1].data_vars]):
        if not all(name in posterior for posterior in posteriors):
            yield Comparison(f"posterior, {name}", 0, 0, fault="is in only one of the two")
        else:
            yield compare_arrays(f"posterior, {name}", *(posterior[name].values for posterior in posteriors))


def _tables(folder: Path, again: Path) -> Iterator[Comparison]:
    names = {path.name for place in (folder, again) for pattern in POOLED for path in place.glob(pattern)}
    for name in sorted(names):
        if not all((place / name).is_file() for place in (folder, again)):
            yield Comparison(name, 0, 0, fault="was written by only one of the two runs")
            continue
        then, now = (pd.read_csv(place / name, dtype=str, keep_default_na=False) for place in (folder, again))
        if list(then.columns) != list(now.columns):
            yield Comparison(name, 0, 0, fault=f"columns {list(now.columns)}, were {list(then.columns)}")
            continue
        for column in then.columns:
            yield compare_arrays(f"{name}, {column}", _numbers(then[column]), _numbers(now[column]))


def _numbers(texts: pd.Series) -> np.ndarray:
    """Texts as numbers if all are numbers; an empty cell is NaN. Python's float is exact in every version."""
    try:
        return np.array([float(text) if text else np.nan for text in texts])
    except ValueError:
        return texts.to_numpy(object)

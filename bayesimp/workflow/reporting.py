"""`bayesimp report DIR`: a report on the folder of a run, with its analyses repeated from its imputations and plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayesimp.durable import checksum, one_writer, remove_unfinished, write_text
from bayesimp.errors import SpecificationError
from bayesimp.imputation.storage import load
from bayesimp.report.facts import SensitivityTable
from bayesimp.report.make import report
from bayesimp.workflow.folder import RECORD, earlier_record
from bayesimp.workflow.plan import read_plan
from bayesimp.workflow.trail import checked_log, enter

if TYPE_CHECKING:
    from bayesimp.workflow.plan_records import Plan

__all__ = ["report_folder", "write_report"]

TITLE = "Multiple imputation: report"
PLAN, IMPUTATIONS, SHIFTED = "plan.toml", "imputations.nc", "mnar.csv"
PRIORS, PRIORS_WORDS = "sensitivity.csv", "sensitivity.txt"


def report_folder(folder: Path, out: Path | None, figures: bool, say: Callable[[str], None] = print) -> Path:
    """Write the report of a run's folder, into that folder as report.html unless `out` says otherwise.

    Raises
    ------
    SpecificationError
        The folder holds no run, the run did not get as far as its imputations, or it has not ended.
    DataError
        A file, or the log, is not as the run left it.
    """
    path = folder / "report.html" if out is None else out
    with one_writer(folder) if folder.is_dir() else nullcontext():
        return write_report(folder, path, figures, say)


def write_report(folder: Path, path: Path, figures: bool, say: Callable[[str], None]) -> Path:
    """`report_folder` for a folder that is already reserved."""
    record = earlier_record(folder)
    log = checked_log(folder, replaced=path)
    lacks = [name for name in (PLAN, IMPUTATIONS) if not (folder / name).is_file()]
    if not record or lacks:
        absent = RECORD if not record else " and no ".join(lacks)
        raise SpecificationError(
            f"{folder} has no {absent}. Give the folder of a run, bayesimp run PLAN --out {folder}, that got at least as "
            "far as its imputations."
        )
    remove_unfinished(folder)
    plan = read_plan(folder / PLAN, with_table=False)
    imputations = load(folder / IMPUTATIONS)
    stated = {"prespecified": _prespecified(record)} | (plan.report.stated if plan.report else {})
    made = report(
        imputations, path, analysis=_analyses(plan, imputations.data.cluster), title=plan.title or TITLE,
        mnar=_shifted(folder), sensitivity=_under_priors(folder), stated=stated, plan=plan.text, figures=figures,
    )  # fmt: skip
    if log is None:
        _remember(folder, record, made)
    elif remark := _enter(folder, made):
        say(f"Note: {remark}")
    return made


def _analyses(plan: Plan, cluster: str) -> dict[str, Any] | None:
    """The analyses of the plan with their options, by name; None if there are none."""
    return {
        each.name: {"analysis": str(each.formula), **each.options(cluster)} for each in plan.analyses
    } or None


def _shifted(folder: Path) -> SensitivityTable | None:
    """The table of the not-at-random analyses of the run."""
    if not (folder / SHIFTED).is_file():
        return None
    words = (
        "Imputed values were shifted as the plan states; tipping points are in mnar_tipping.csv of the run.",
    )
    return SensitivityTable(pd.read_csv(folder / SHIFTED), words)


def _under_priors(folder: Path) -> SensitivityTable | None:
    """The pooled answers of the run under several priors, and what moves most."""
    if not (folder / PRIORS).is_file():
        return None
    words = (folder / PRIORS_WORDS).read_text(encoding="utf-8").splitlines()
    return SensitivityTable(pd.read_csv(folder / PRIORS), tuple(words))


def _prespecified(record: dict[str, Any]) -> str:
    """The statement in the record on when the plan was fixed."""
    lock = record.get("lock")
    if lock:
        read = "the table had been read by then" if lock["table"] == "read" else "the table had not been read"
        how = (
            f'deviating from the lock for the stated reason "{lock["despite"]}": {"; ".join(lock["changes"])}'
            if lock["changes"]
            else "as it was locked"
        )
        return (
            f"in the plan file below, locked at {lock['locked']} ({read}; SHA-256 of the lock {lock['sha256']}) and "
            f"carried out at {record.get('started', 'an unknown time')}, {how}"
        )
    return (
        f"in the plan file below, carried out unchanged at {record.get('started', 'an unknown time')}; whether it was "
        "written before the data were seen is not recorded"
    )


def _remember(folder: Path, record: dict[str, Any], path: Path) -> None:
    """Record a report that lies in the run's folder, so that a run that replaces the results removes it."""
    if path.resolve().parent != folder.resolve() or path.name in record.get("files", []):
        return
    record["files"] = [*record.get("files", []), path.name]
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def _enter(folder: Path, path: Path) -> str:
    """Enter the report in the log of the folder, with the hashes of the files it was made from."""
    inputs = {
        name: checksum(folder / name)
        for name in (PLAN, IMPUTATIONS, SHIFTED, PRIORS, PRIORS_WORDS)
        if (folder / name).is_file()
    }
    if path.resolve().parent == folder.resolve():
        return enter(folder, "report", inputs, {path.name: checksum(path)})
    return enter(
        folder, "report", inputs, {}, written={"file": str(path.absolute()), "sha256": checksum(path)}
    )

"""`bayesimp report DIR`: a report of what a run has left, its analyses made again from its imputations and its plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayesimp.errors import SpecificationError
from bayesimp.imputation.storage import load
from bayesimp.report.facts import SensitivityTable
from bayesimp.report.make import report
from bayesimp.workflow.folder import RECORD, earlier_record
from bayesimp.workflow.plan import read_plan

if TYPE_CHECKING:
    from bayesimp.workflow.plan_records import Plan

__all__ = ["report_folder"]

TITLE = "Multiple imputation: report"
PLAN, IMPUTATIONS, SHIFTED = "plan.toml", "imputations.nc", "mnar.csv"
PRIORS, PRIORS_WORDS = "sensitivity.csv", "sensitivity.txt"


def report_folder(folder: Path, out: Path | None, figures: bool) -> Path:
    """Write the report of a run's folder, into that folder as report.html unless `out` says otherwise.

    Raises
    ------
    SpecificationError
        The folder holds no run, or the run did not get as far as its imputations.
    """
    record = earlier_record(folder)
    lacks = [name for name in (PLAN, IMPUTATIONS) if not (folder / name).is_file()]
    if not record or lacks:
        absent = RECORD if not record else " and no ".join(lacks)
        raise SpecificationError(
            f"{folder} holds no {absent}: give the folder of a run, bayesimp run PLAN --out {folder}, that got as far "
            "as its imputations."
        )
    plan = read_plan(folder / PLAN, with_table=False)
    imputations = load(folder / IMPUTATIONS)
    path = folder / "report.html" if out is None else out
    stated = {"prespecified": _prespecified(record)} | (plan.report.stated if plan.report else {})
    made = report(
        imputations, path, analysis=_analyses(plan, imputations.data.cluster), title=plan.title or TITLE,
        mnar=_shifted(folder), sensitivity=_under_priors(folder), stated=stated, plan=plan.text, figures=figures,
    )  # fmt: skip
    _remember(folder, record, made)
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
        "Imputed values were shifted as the plan says; tipping points are in mnar_tipping.csv of the run.",
    )
    return SensitivityTable(pd.read_csv(folder / SHIFTED), words)


def _under_priors(folder: Path) -> SensitivityTable | None:
    """The pooled answers of the run under several priors, and what moves most."""
    if not (folder / PRIORS).is_file():
        return None
    words = (folder / PRIORS_WORDS).read_text(encoding="utf-8").splitlines()
    return SensitivityTable(pd.read_csv(folder / PRIORS), tuple(words))


def _prespecified(record: dict[str, Any]) -> str:
    return (
        f"in the plan file below, carried out unchanged at {record.get('started', 'an unknown time')}; whether it was "
        "written before the data were seen is not recorded"
    )


def _remember(folder: Path, record: dict[str, Any], path: Path) -> None:
    """Enter a report that lies in the folder of the run into its record, so that a run that replaces it removes it."""
    if path.resolve().parent != folder.resolve() or path.name in record.get("files", []):
        return
    record["files"] = [*record.get("files", []), path.name]
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

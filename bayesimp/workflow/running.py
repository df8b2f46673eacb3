"""A run in progress: its steps are timed, its warnings collected as notes, its record written at the end."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from textwrap import fill
from typing import Any

import pandas as pd

from bayesimp.diagnostics.convergence import Summary
from bayesimp.durable import checksum
from bayesimp.errors import StatisticalWarning
from bayesimp.imputation.result import Imputations
from bayesimp.progress import waiting
from bayesimp.workflow.folder import Folder, versions
from bayesimp.workflow.lock import LockCheck
from bayesimp.workflow.plan_records import AnalysisPlan
from bayesimp.workflow.prepare import Prepared
from bayesimp.workflow.words import in_plan_words

__all__ = ["Captions", "Running"]


class Captions:
    """The text between the tables; `bayesimp.workflow.demo` has more."""

    def missing(self, ready: Prepared) -> str:
        """Heading of the summary of missing values."""
        return "What is missing"

    def imputing(self, ready: Prepared) -> str:
        """Heading of the imputation."""
        return "The imputation model"

    def convergence(self, summary: Summary) -> str:
        """Heading of the diagnostics."""
        return "Convergence"

    def pooled(self, analysis: AnalysisPlan, table: pd.DataFrame, rows: tuple[int, int]) -> str:
        """Heading of an analysis."""
        return f"Analysis '{analysis.name}': {analysis.formula}"

    def files(self, folder: Folder) -> str:
        """Which files were written, and where."""
        return fill(f"Written to {folder.root}: {', '.join(folder.files)}", 100, break_on_hyphens=False)


@dataclass
class Running:
    """A run in progress: its plan, its folder, and how it reports."""

    ready: Prepared
    folder: Folder
    say: Callable[[str], None]
    captions: Captions
    lock: LockCheck | None = None
    notes: list[str] = field(default_factory=list)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def caption(self, text: str) -> None:
        """Print a heading."""
        self.say(f"\n{text}\n")

    @cached_property
    def source(self) -> dict[str, Any]:
        """The source of the table, with its hash when the run started."""
        data = self.ready.plan.data
        if data.file is None:
            return {"example": data.example}
        return {"file": str(data.file), "sha256": checksum(data.file)}

    def record(self, status: str, command: str, imputations: Imputations | None) -> None:
        """Write the record of the run: how it ended, from which plan, table and versions."""
        plan, data, source = self.ready.plan, self.ready.data, self.source
        self.folder.record({
            "bayesimp": version("bayesimp"), "command": command, "status": status, "started": self.started,
            "title": plan.title, "plan": str(plan.path), "seed": plan.impute.seed,
            "m": None if imputations is None else imputations.m, "m_planned": plan.impute.m,
            "data": {**source, "rows": len(data), "clusters": len(data.clusters)},
            "versions": versions(), "lock": None if self.lock is None else self.lock.record(), "notes": self.notes,
        })  # fmt: skip

    @contextmanager
    def step(self, name: str, wait: str = "", aloud: bool = True) -> Iterator[None]:
        """Time a step, show that it is running, and collect its warnings as notes."""
        with self.folder.timed(name), warnings.catch_warnings(record=True) as caught, waiting(wait):
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", StatisticalWarning)
            yield
        for warning in caught:
            self.note(str(warning.message), aloud)

    def note(self, text: str, aloud: bool = True) -> None:
        """Keep a note for the record, once, and print it."""
        text = in_plan_words(text)
        if text not in self.notes:
            self.notes.append(text)
            if aloud:
                self.say(f"Note: {text}")

"""Requirement -> check -> outcomes with numbers, and the function that checks all requirements."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bayesimp.layout import Printed
from bayesimp.markup import shown

__all__ = ["Checked", "Outcome", "Requirement", "Verification", "verify"]


@dataclass(frozen=True)
class Outcome(Printed):
    """One comparison.

    Attributes
    ----------
    what
        What was compared with what.
    statistic
        The number found; NaN fails.
    limit
        The largest number allowed.
    at_least
        Whether `limit` is the smallest number allowed instead, as for a variant that is wrong on purpose.
    """

    what: str
    statistic: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the statistic keeps the limit."""
        return bool(self.statistic >= self.limit if self.at_least else self.statistic <= self.limit)

    def _said(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.what}: {shown(self.statistic)} ({sign} {shown(self.limit)})"


@dataclass(frozen=True)
class Requirement:
    """What the package must do.

    Attributes
    ----------
    key
        Its id, which does not change: ``"V-01"``.
    text
        The requirement, one sentence.
    source
        Where it comes from: paper and equation, document, other software with its version.
    check
        Function of whether to check thoroughly (True) or quickly; returns outcomes.
    """

    key: str
    text: str
    source: str
    check: Callable[[bool], Sequence[Outcome]]


@dataclass(frozen=True)
class Checked(Printed):
    """A requirement with its outcomes.

    Attributes
    ----------
    requirement
        The requirement as declared.
    outcomes
        In the order of the check.
    error
        What stopped the check; "" if it was completed.
    seconds
        Duration of the check.
    """

    requirement: Requirement
    outcomes: tuple[Outcome, ...]
    error: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the check was completed, gave an outcome, and all outcomes keep their limits."""
        return not self.error and bool(self.outcomes) and all(each.passed for each in self.outcomes)

    def _said(self) -> str:
        head = f"{'passed' if self.passed else 'FAILED'}  {self.requirement.key}  {self.requirement.text}"
        lines = [f"    {each._said()}" for each in self.outcomes]
        return "\n".join([head, *lines, *([f"    ended by {self.error}"] if self.error else [])])


@dataclass(frozen=True)
class Verification(Printed):
    """The outcomes of all requirements on one machine.

    Attributes
    ----------
    checked
        In the order of their ids.
    environment
        Versions, sources, processor and BLAS, by name.
    began
        Start time, UTC.
    full
        Whether checks were thorough.
    """

    checked: tuple[Checked, ...]
    environment: dict[str, str]
    began: str
    full: bool

    @property
    def passed(self) -> bool:
        """Whether there are requirements and all are met."""
        return bool(self.checked) and all(each.passed for each in self.checked)

    def record(self) -> dict[str, Any]:
        """The verification for a JSON file."""
        rows = [
            {
                "id": each.requirement.key, "requirement": each.requirement.text, "source": each.requirement.source,
                "passed": each.passed, "error": each.error, "seconds": round(each.seconds, 2),
                "outcomes": [_plain(outcome) for outcome in each.outcomes],
            }
            for each in self.checked
        ]  # fmt: skip
        return {
            "bayesimp verification": 1, "began": self.began, "full": self.full, "passed": self.passed,
            "environment": self.environment, "requirements": rows,
        }  # fmt: skip

    def _said(self) -> str:
        met = sum(each.passed for each in self.checked)
        seconds = sum(each.seconds for each in self.checked)
        end = f"{met} of {len(self.checked)} requirements are met on this machine ({seconds:.0f} s)."
        return "\n".join([end, *(each._said() for each in self.checked)])


def _plain(outcome: Outcome) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    record = asdict(outcome) | {"passed": outcome.passed}
    for name in ("statistic", "limit"):
        value = float(record[name])
        record[name] = value if abs(value) < float("inf") else str(value)
    return record


def verify(
    requirements: Sequence[Requirement],
    full: bool = False,
    environment: dict[str, str] | None = None,
    report: Callable[[Checked], None] | None = None,
) -> Verification:
    """Check requirements one after the other; an error stops the check of one requirement, which then fails.

    Parameters
    ----------
    full
        Whether checks are thorough, which takes about ten times as long.
    environment
        The environment of this process, as from `bayesimp.workflow.environment`.
    report
        Called with each requirement once it has been checked.
    """
    began = datetime.now(UTC).isoformat(timespec="seconds")
    made = []
    for requirement in requirements:
        start = time.perf_counter()
        outcomes: tuple[Outcome, ...] = ()
        error = ""
        try:
            outcomes = tuple(requirement.check(full))
        except Exception as problem:  # whatever the error is, the requirement is not met
            where = traceback.extract_tb(problem.__traceback__)[-1]
            error = f"{type(problem).__name__} at {where.name}, line {where.lineno}: {problem}"
        checked = Checked(requirement, outcomes, error, time.perf_counter() - start)
        made.append(checked)
        if report is not None:
            report(checked)
    return Verification(tuple(made), dict(environment or {}), began, full)

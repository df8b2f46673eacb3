"""A verification as one HTML file, written as reports are: requirement, check, result."""

from __future__ import annotations

import pandas as pd

from bayesimp.markup import shown
from bayesimp.report.document import Bullets, Code, Document, Paragraph, ReportSection, Tabulated
from bayesimp.report.html import as_html
from bayesimp.verification.records import Checked, Verification

__all__ = ["as_page"]

SAYS = (
    "Each requirement was checked by the installed package itself, on this machine. Outcomes marked as wrong variants "
    "are deliberately wrong; they must exceed the limit that the correct version keeps, which shows that the check can "
    "fail.",
    "This supports installation and operational qualification: the package computes here what it computes where it was "
    "built. It does not certify anything. Fitness for an intended use, and control of changes, remain the user's "
    "responsibility.",
)
UNCHECKED = (
    "Engines and methods not named above: they are checked by the repository's tests, which are not part of the "
    "package.",
    "Whether values are missing at random, or whether a model fits a table: no software check can show this.",
    "Speed, and tables that do not fit into memory.",
)


def as_page(made: Verification) -> str:
    """The contents of the file."""
    met = sum(each.passed for each in made.checked)
    overview = pd.DataFrame({
        "id": [each.requirement.key for each in made.checked],
        "requirement": [each.requirement.text for each in made.checked],
        "result": ["met" if each.passed else "NOT MET" for each in made.checked],
        "seconds": [round(each.seconds, 1) for each in made.checked],
    })  # fmt: skip
    verdict = f"{met} of {len(made.checked)} requirements are met."
    sections = (
        ReportSection("result", "Result", (Paragraph(verdict), Tabulated(overview, "Requirements and results"))),
        ReportSection("checks", "Checks", parts=tuple(_section(each) for each in made.checked)),
        ReportSection("meaning", "What this says", tuple(Paragraph(text) for text in SAYS)),
        ReportSection("unchecked", "What was not checked", (Bullets(UNCHECKED),)),
        ReportSection("environment", "Environment", (Code("\n".join(f"{k}: {v}" for k, v in made.environment.items())),)),
    )  # fmt: skip
    kind = "thorough checks (--full)" if made.full else "the subset that takes minutes"
    version = made.environment.get("bayesimp", "")
    return as_html(Document(f"Verification of bayesimp {version}".strip(), f"{made.began}, {kind}", sections))


def _section(each: Checked) -> ReportSection:
    own = each.requirement
    outcomes = pd.DataFrame({
        "comparison": [outcome.what for outcome in each.outcomes],
        "found": [shown(outcome.statistic) or "not a number" for outcome in each.outcomes],
        "limit": [f"{'at least' if o.at_least else 'at most'} {shown(o.limit)}" for o in each.outcomes],
        "result": ["passed" if outcome.passed else "FAILED" for outcome in each.outcomes],
    })  # fmt: skip
    result = "Met" if each.passed else "NOT MET"
    ended = (Paragraph(f"The check was ended by {each.error}"),) if each.error else ()
    about = Paragraph(f"{result}. Source: {own.source}. Check: {own.check.__module__}.{own.check.__name__}.")
    blocks = (about, *ended, *([Tabulated(outcomes, "Numbers and limits")] if each.outcomes else []))
    return ReportSection(own.key.lower(), f"{own.key}  {own.text}", blocks)

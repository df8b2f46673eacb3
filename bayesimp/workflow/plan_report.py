"""The report of a run in a plan.

    [report]
    file = "report.html"               # or several: ["report.html", "report.docx"]; .html, .md, .docx (by pandoc)
    figures = true

    [report.stated]                    # what only you know; omitted items are marked "not stated" in the checklist
    reasons = "Marks are missing where pupils were ill."
    "missing at random" = "Illness is not related to ability, given gender."

The report is that of ``bayesimp report DIR``, written at the end of the run.
"""

from __future__ import annotations

from pathlib import Path
from shutil import which

from bayesimp.sections import Section, possible
from bayesimp.workflow.plan_records import ReportPlan

__all__ = ["read_report"]

# as in bayesimp.report, which would load the engines; a test compares them
ENDINGS = (".html", ".md", ".docx")
STATED = ("question", "prespecified", "deviations", "reasons", "flow", "missing at random", "interpretation")


def read_report(top: Section, problems: list[str]) -> ReportPlan | None:
    """The section [report] of a plan; None if there is none."""
    top.known.append("report")
    if "report" not in top.record:
        return None
    section = Section(top.record["report"], "report", problems)
    one = isinstance(section.record.get("file", ""), str)
    files = (section.text("file", "report.html"),) if one else section.list_of_texts("file")
    for file in files:
        _check_file(section, file)
    stated = section.table("stated", {})
    for key, text in stated.items():
        if key not in STATED:
            section.note(f"stated.{key}", f"is not known; {possible(key, STATED)}")
        elif not isinstance(text, str):
            section.note(f"stated.{key}", f"must be text, not {text!r}")
    plan = ReportPlan(files, stated, section.flag("figures", True))
    section.done()
    return plan


def _check_file(section: Section, file: str | None) -> None:
    if file is None:
        return  # noted already
    ending = Path(file).suffix.lower()
    if Path(file).name != file or ending not in ENDINGS:
        section.note(
            "file", f"{file!r} must be a name in the folder of the run that ends in {', '.join(ENDINGS)}"
        )
    elif ending == ".docx" and which("pandoc") is None:
        section.note(
            "file", f"{file!r} is written by pandoc, which is not installed (or not on PATH); use .html"
        )

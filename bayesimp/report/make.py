"""`report`: the whole document and its files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayesimp.analysis.named import check_options
from bayesimp.durable import replacing, write_text
from bayesimp.errors import SpecificationError, must_be
from bayesimp.report.assumptions import assumptions, sensitivity_sections
from bayesimp.report.checklist import checklist
from bayesimp.report.document import Document, Paragraph, ReportSection, Tabulated
from bayesimp.report.facts import ReportFacts, gather
from bayesimp.report.html import as_html
from bayesimp.report.markdown import as_markdown
from bayesimp.report.methods import methods
from bayesimp.report.sections import convergence, missingness, model, plan, results
from bayesimp.report.values import imputed
from bayesimp.report.versions import versions

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = ["ENDINGS", "check_path", "document", "events", "of_versions", "report", "subtitle", "write"]

ENDINGS = (".html", ".md", ".docx")


def report(
    imputations: Imputations,
    path: str | os.PathLike[str],
    *,
    analysis: Any = None,
    title: str = "Multiple imputation: report",
    sensitivity: Any = None,
    mnar: Any = None,
    overimputation: Any = None,
    replicates: Any = None,
    stated: Mapping[str, str] | None = None,
    plan: str | None = None,
    level: float = 0.95,
    figures: bool = True,
    **options: Any,
) -> Path:
    """Write a report of a run; see `Imputations.report`."""
    must_be(imputations, "Imputations", "report")
    check_options(options, report, analysis)
    path = check_path(path)
    facts = gather(
        imputations, analysis=analysis, sensitivity=sensitivity, mnar=mnar, overimputation=overimputation,
        replicates=replicates, stated=stated, plan=plan, level=level, figures=figures, options=options,
    )  # fmt: skip
    write(document(facts, title), path)
    return path


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path of a report, whose ending determines the format.

    Raises
    ------
    SpecificationError
        The ending is not known, or pandoc is needed and not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise SpecificationError(
            f"report: {path.name!r} must end in one of {', '.join(ENDINGS)}, which determines the format."
        )
    if path.suffix.lower() == ".docx":
        _pandoc()
    return path


def subtitle() -> str:
    """Version, time, and whose steps the sections are."""
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"bayesimp {version('bayesimp')}, {made}; the steps are those of TARMOS (Lee et al. 2021)"


def document(facts: ReportFacts, title: str) -> Document:
    """All sections in order."""
    sections = (
        plan(facts), missingness(facts), assumptions(facts), model(facts), convergence(facts), imputed(facts),
        results(facts), *sensitivity_sections(facts), events(facts), methods(facts), checklist(facts),
        of_versions(facts),
    )  # fmt: skip
    return Document(title, subtitle(), sections)


def events(facts: ReportFacts) -> ReportSection:
    """Everything that was not done as specified."""
    if facts.events.empty:
        return ReportSection("events", "Events", (Paragraph("None: everything was done as specified."),))
    say = "What could not be done as specified, or what readers should know, as recorded by the run."
    return ReportSection(
        "events", "Events", (Paragraph(say), Tabulated(facts.events, f"{len(facts.events)} events"))
    )


def of_versions(facts: ReportFacts) -> ReportSection:
    """Versions at imputation and now."""
    then = {name: value for name, value in facts.imputations.attrs.items() if str(name).endswith("_version")}
    rows = [
        (f"{str(name).removesuffix('_version')} (imputation)", str(value)) for name, value in then.items()
    ]
    rows += [(f"{name} (this report)", value) for name, value in versions().items()]
    return ReportSection(
        "versions", "Versions", (Tabulated(pd.DataFrame(rows, columns=["what", "version"]), "Versions"),)
    )


def write(made: Document, path: Path) -> None:
    """Write a document in the format of its ending; figures of Markdown go into a folder next to it."""
    ending = path.suffix.lower()
    if ending == ".html":
        write_text(path, as_html(made))
    elif ending == ".md":
        folder = f"{path.stem}_figures"
        text, figures = as_markdown(made, folder)
        if figures:
            (path.parent / folder).mkdir(exist_ok=True)
        for name, png in figures.items():
            (path.parent / folder / name).write_bytes(png)
        write_text(path, text)
    else:
        with replacing(path) as unfinished:
            _write_docx(made, unfinished)


def _write_docx(made: Document, path: Path) -> None:
    """Write a Word file from HTML, which contains the figures and refers to no file or address."""
    command = [_pandoc(), "--from=html", "--to=docx", f"--output={path}"]
    done = subprocess.run(command, input=as_html(made).encode(), capture_output=True, check=False)
    if done.returncode:
        raise SpecificationError(
            f"report: pandoc could not write {path.name}: {done.stderr.decode().strip()}"
        )


def _pandoc() -> str:
    found = which("pandoc")
    if found is None:
        raise SpecificationError(
            "report: Word files are written by pandoc, which is not installed (or not on PATH). Install it, "
            "or use a path that ends in .html, which Word opens, or in .md."
        )
    return found

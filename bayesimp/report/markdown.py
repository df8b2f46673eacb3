"""A report as Markdown, with its figures as files in a folder."""

from __future__ import annotations

import re

from bayesimp.markup import shown
from bayesimp.report.document import (
    Block,
    Bullets,
    Code,
    Document,
    Drawn,
    Paragraph,
    ReportSection,
    Tabulated,
)

__all__ = ["as_markdown"]

SPECIAL = re.compile(
    r"([\\`*_{}\[\]<>#|~$])"
)  # what Markdown, or pandoc's, would read as more than a character


def as_markdown(document: Document, folder: str) -> tuple[str, dict[str, bytes]]:
    """The text, and its figures by name; links lead to `folder`."""
    figures: dict[str, bytes] = {}
    lines = [f"# {_escaped(document.title)}", _escaped(document.subtitle)]
    for part in document.sections:
        lines += _section(part, 2, folder, figures)
    return "\n\n".join(lines) + "\n", figures


def _section(part: ReportSection, depth: int, folder: str, figures: dict[str, bytes]) -> list[str]:
    lines = [f"{'#' * depth} {_escaped(part.title)}"]
    lines += [_block(each, folder, figures) for each in part.blocks]
    for each in part.parts:
        lines += _section(each, min(depth + 1, 4), folder, figures)
    return lines


def _block(each: Block, folder: str, figures: dict[str, bytes]) -> str:
    match each:
        case Paragraph(text):
            return _escaped(text)
        case Bullets(items):
            return "\n".join(f"- {_escaped(item)}" for item in items)
        case Code(text):
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
            return f"{fence}\n{text}\n{fence}"
        case Drawn(png, caption):
            name = f"figure_{len(figures) + 1}.png"
            figures[name] = png
            return f"![{_escaped(caption)}]({folder}/{name})"
        case Tabulated(frame, caption):
            head = [_escaped(str(name)) for name in frame.columns]
            rows = [
                [_escaped(shown(value)) for value in row] for row in frame.itertuples(index=False, name=None)
            ]
            table = [head, ["---"] * len(head), *rows]
            return f"{_escaped(caption)}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table)


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))

"""A report as records: sections of blocks, which the writers turn into HTML and Markdown.

Sections are computed once and written by both, so that the numbers in all formats are the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bayesimp.errors import BayesimpError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Block",
    "Bullets",
    "Code",
    "Document",
    "Drawn",
    "Tabulated",
    "Paragraph",
    "ReportSection",
    "drawing",
]

DOTS = 110  # per inch of figures


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Text with its line breaks: equations, a printed model, a plan."""

    text: str


@dataclass(frozen=True, eq=False)
class Tabulated:
    """A table with a caption.

    Attributes
    ----------
    folded
        Whether it is shown only when its caption is clicked (HTML).
    """

    frame: pd.DataFrame
    caption: str
    folded: bool = False


@dataclass(frozen=True)
class Drawn:
    """A figure as PNG, with a caption that says how to read it."""

    png: bytes
    caption: str


Block = Paragraph | Bullets | Code | Tabulated | Drawn


@dataclass(frozen=True)
class ReportSection:
    """A heading, its blocks and its subsections.

    Attributes
    ----------
    key
        Anchor within the document: letters and hyphens.
    """

    key: str
    title: str
    blocks: tuple[Block, ...] = ()
    parts: tuple[ReportSection, ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    subtitle: str
    sections: tuple[ReportSection, ...] = field(default=())


def drawing(draw: Callable[[], Any], caption: str) -> Block:
    """A figure or, if it cannot be drawn, a paragraph with the reason.

    draw: returns a figure or axes.
    """
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    try:
        with plt.rc_context({"figure.facecolor": "white", "savefig.facecolor": "white"}):
            drawn = draw()
            figure = drawn if hasattr(drawn, "savefig") else drawn.figure
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=DOTS, bbox_inches="tight", metadata={"Software": None})
    except BayesimpError as error:  # nothing imputed, every parameter fixed, no standard errors
        return Paragraph(f"Not drawn: {caption.partition('.')[0]}. {error}")
    finally:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
    return Drawn(buffer.getvalue(), caption)

"""A report read back: the tables and texts of each of its sections."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"img", "meta", "br"}


@dataclass
class Part:
    """Tables, each a list of rows of cells, and all texts of a section, those of its subsections excluded."""

    tables: list[list[list[str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def rows(self, k: int = 0) -> dict[str, dict[str, str]]:
        """Table k by its first column: column -> text."""
        head, *body = self.tables[k]
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in body}


class Reader(HTMLParser):
    """Sections by id; tags and attributes as they come."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.parts: dict[str, Part] = {"": Part()}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.style, self._open, self._sections, self._cell = "", [], [""], False
        self.feed(text)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    @property
    def part(self) -> Part:
        return self.parts[self._sections[-1]]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self._open.append(tag)
        if tag == "section":
            self._sections.append(dict(attrs)["id"])
            self.parts[self._sections[-1]] = Part()
        elif tag == "table":
            self.part.tables.append([])
        elif tag == "tr":
            self.part.tables[-1].append([])
        elif tag in ("td", "th"):
            self.part.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, tag
        if tag == "section":
            self._sections.pop()
        elif tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            self.style += data
        elif self._cell:
            self.part.tables[-1][-1][-1] += data
        else:
            self.part.texts.append(data)

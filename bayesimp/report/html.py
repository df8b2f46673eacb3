"""A report as one HTML file: with styles and figures inside, so that reading it fetches nothing; light and dark
themes."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from bayesimp.markup import block, folded, paragraph, table
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

__all__ = ["as_html"]

# default-src 'none': whatever a cell of the table may contain, a browser loads and runs nothing
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #5b6470; --line: #d5dae0; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181d; --ink: #e4e8ec; --soft: #a2abb5; --line: #39424d; --link: #7db7f0; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1.2rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.6rem 0 0.2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 2.4rem 0 0.6rem; border-bottom: 2px solid var(--line); padding-bottom: 0.2rem; }
h3 { font-size: 1.08rem; margin: 1.6rem 0 0.4rem; overflow-wrap: anywhere; }
a { color: var(--link); }
.subtitle, figcaption, .caption { color: var(--soft); font-size: 0.92rem; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); }
pre { border-left: 3px solid var(--line); padding-left: 0.8rem; }
summary { cursor: pointer; color: var(--soft); font-size: 0.92rem; }
table { font-size: 0.9rem; font-variant-numeric: tabular-nums; }
nav ol { columns: 2; font-size: 0.95rem; }
@media print { nav { display: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def as_html(document: Document) -> str:
    """The whole HTML file."""
    entries = "".join(
        f'<li><a href="#{escape(part.key)}">{escape(part.title)}</a></li>' for part in document.sections
    )
    sections = "".join(_section(part, 2) for part in document.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(document.title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        f'<h1>{escape(document.title)}</h1><p class="subtitle">{escape(document.subtitle)}</p>\n'
        f"<nav><ol>{entries}</ol></nav>\n{sections}</main></body></html>\n"
    )


def _section(part: ReportSection, depth: int) -> str:
    inside = "\n".join(_block(each) for each in part.blocks)
    below = "".join(_section(each, min(depth + 1, 4)) for each in part.parts)
    return f'<section id="{escape(part.key)}"><h{depth}>{escape(part.title)}</h{depth}>\n{inside}\n{below}</section>\n'


def _block(each: Block) -> str:
    match each:
        case Paragraph(text):
            return paragraph(text)
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Code(text):
            return block(text)
        case Drawn(png, caption):
            source = b64encode(png).decode("ascii")
            said = escape(caption)
            image = f'<img alt="{said}" src="data:image/png;base64,{source}">'
            return f"<figure>{image}<figcaption>{said}</figcaption></figure>"
        case Tabulated(frame, caption, True):
            return folded(caption, table(frame))
        case Tabulated(frame, caption):
            return f'<p class="caption">{escape(caption)}</p>{table(frame)}'

"""HTML for notebooks and the report: tables, blocks of text and the frame around them.

All text is escaped. Colours are those of the page, with translucent lines, so that light and dark themes both work;
nothing external is loaded. Styles are attributes of elements, because notebooks strip style sheets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["block", "folded", "framed", "paragraph", "printed", "shown", "table"]

LINE = "border-bottom: 1px solid rgba(128, 128, 128, 0.35);"
CELL = "padding: 0.2em 0.7em; text-align: {align}; vertical-align: top; background: transparent; white-space: {space};"
PRE = (
    "white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.3em 0; background: transparent; color: inherit; "
    "font-size: 0.9em;"
)


def shown(value: Any) -> str:
    """A cell as text: four significant digits, thousands separated, empty if missing.

    >>> [shown(x) for x in (0.123456, 12345, float("nan"), True, "a")]
    ['0.1235', '12,345', '', 'yes', 'a']
    """
    if value is None:
        return ""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return "" if math.isnan(float(value)) else f"{float(value):.4g}"
    return str(value)


def table(frame: pd.DataFrame, *, index: bool = False, most: int | None = None, level: str = "col") -> str:
    """A table with numbers aligned right and text left; `index`: row labels become the first columns.

    most: the largest number of rows shown; a note below the table counts the others.
    """
    frame = frame.reset_index() if index else frame
    rows = frame if most is None else frame.head(most)
    numeric = [_is_numeric(frame[name]) for name in frame.columns] if len(frame.columns) else []
    head = "".join(
        _cell("th", name, number, f' scope="{level}"')
        for name, number in zip(frame.columns, numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(_cell("td", value, number) for value, number in zip(row, numeric, strict=True))
        + "</tr>"
        for row in rows.itertuples(index=False, name=None)
    )
    more = len(frame) - len(rows)
    note = paragraph(f"and {more:,} more rows") if more else ""
    return (
        '<div style="overflow-x: auto;"><table style="border-collapse: collapse; color: inherit; margin: 0.4em 0;">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def _is_numeric(column: pd.Series) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype))


def _cell(tag: str, value: Any, number: bool, more: str = "") -> str:
    text = shown(value)
    style = (
        CELL.format(
            align="right" if number else "left",
            space="nowrap" if len(text) <= 30 and tag == "td" else "normal",
        )
        + LINE
    )
    return f'<{tag}{more} style="{style}">{escape(text)}</{tag}>'


def paragraph(text: str, strong: bool = False) -> str:
    """One paragraph, emphasised if `strong`."""
    inside = f"<b>{escape(text)}</b>" if strong else escape(text)
    return f'<p style="margin: 0.3em 0;">{inside}</p>'


def block(text: str) -> str:
    """Preformatted text whose long lines wrap."""
    return f'<pre style="{PRE}">{escape(text)}</pre>'


def folded(title: str, *parts: str, is_open: bool = False) -> str:
    """A section that opens when its title is clicked."""
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{''.join(parts)}</details>"
    )


def framed(title: str, parts: Sequence[str]) -> str:
    """A result: its title, then its parts."""
    return (
        f'<div style="color: inherit; margin: 0.4em 0;">{paragraph(title, strong=True)}{"".join(parts)}</div>'
    )


def printed(text: str) -> str:
    """Printed text as a result, with the first line as its title."""
    title, _, rest = text.partition("\n")
    return framed(title, [block(rest)] if rest.strip() else [])

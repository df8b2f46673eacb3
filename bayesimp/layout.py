"""Text in lines of at most `WIDTH` characters: paragraphs and formulas that wrap, wide tables in blocks, records.

Nothing is cut: a long line continues, indented, in the next one, and a long name within its column. What is printed can
be copied: names in backticks, texts in quotes and levels in brackets stay in one line, and formulas break between
terms, so that a wrapped formula is read as the same model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesimp.markup import printed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WIDTH", "Printed", "Record", "as_call", "ruled", "tabulated", "wrapped"]

WIDTH = 100  # of printed lines, in characters
HANG = 4  # indentation of the lines in which a long one continues
# Of a table that does not fit:
LABELS, LEAST_LABELS, MOST_LABELS = 44, 22, 2  # characters of its row labels; columns of text that are labels
CELL, HEADING = 40, 14  # greatest width of other texts, and of the headings of narrow columns
GAP = "  "

NAME = r"""`(?:[^`\\]|\\.)*`|\["(?:[^"\\]|\\.)*"\]|\[[^\]\n]*\]"""
QUOTED = r"""(?<!\w)'(?:[^'\\\n]|\\.)*'(?!\w)|(?<!\w)"(?:[^"\\\n]|\\.)*"(?!\w)"""
WORD = rf"(?:{NAME}|{QUOTED}|\S)+"
RANDOM = rf"\((?:{NAME}|[^()`|\[])*\|(?:{NAME}|[^()`\[])*\)"
# What stays in one line, from the whole term of a formula down to a word between blanks; what is longer than a line
# is split by the next pattern.
PARTS = tuple(
    re.compile(rf"(\s*)((?:[-+*] )?(?:{part}))", re.DOTALL)
    for part in (
        rf"{RANDOM}|{WORD}(?: \|\|? {WORD})*",
        rf"(?:{RANDOM}|{WORD})+",
        rf"(?:{RANDOM}|{NAME}|\S)+",
        rf"(?:{NAME}|[^\s,:;/(])+[,:;/(]*|[,:;/(]+",
        r"\S+",
    )
)
TICK = re.compile(r"(?<!\\)`")


def wrapped(text: str, width: int = WIDTH, hang: int = HANG) -> str:
    """The text in lines of at most `width` characters; a long one continues with its indentation and `hang` more.

    Left as they are: a word that is longer than a line, and a line with half of a name in backticks, which contains a
    line break.
    """
    return "\n".join(
        line if len(line) <= width or len(TICK.findall(line)) % 2 else _folded(line, width, hang)
        for line in text.split("\n")
    )


def _folded(line: str, width: int, hang: int) -> str:
    own = len(line) - len(line.lstrip(" "))
    lines = [" " * own]
    for blank, part in _parts(line[own:], width - own - hang):
        is_empty = not lines[-1].strip()
        if not is_empty and len(lines[-1]) + len(blank) + len(part) > width:
            lines.append(" " * (own + hang) + part)
        else:
            lines[-1] += part if is_empty else blank + part
    return "\n".join(lines)


def _parts(text: str, room: int, level: int = 0) -> list[tuple[str, str]]:
    """The parts of a line, each with the blanks before it; those longer than `room` are taken apart."""
    out: list[tuple[str, str]] = []
    for blank, part in (found.groups() for found in PARTS[level].finditer(text)):
        if len(part) <= room or level + 1 == len(PARTS):
            out.append((blank, part))
        else:
            first, *rest = _parts(part, room, level + 1)
            out += [(blank, first[1]), *rest]
    return out


class _Column(NamedTuple):
    """A column as text."""

    heading: str
    cells: list[str]
    is_text: bool

    @property
    def width(self) -> int:
        return max(map(len, (self.heading, *self.cells)))

    @property
    def width_in_blocks(self) -> int:
        """Its width in a table that does not fit, where texts and headings wrap."""
        if self.is_text:
            return min(self.width, CELL)
        return min(self.width, max(HEADING, *map(len, self.cells), 0))


def tabulated(
    frame: pd.DataFrame,
    *,
    index: bool = False,
    number: Callable[[float], str] = "{:.4g}".format,
    formats: Mapping[str, Callable[[Any], str]] | None = None,
    missing: str = "NaN",
) -> str:
    """A table as text: as pandas prints it if it fits, else in blocks of columns that repeat the labels of the rows.

    Parameters
    ----------
    frame
        The table. Its index, or the columns of text at its left, label the rows.
    index
        Whether the index is shown.
    number, formats
        How decimal numbers are written, and how the values of certain columns are.
    missing
        What is written for a missing value.
    """
    formats = dict(formats or {})
    plain = frame.to_string(index=index, float_format=number, formatters=formats, na_rep=missing)
    if max(map(len, plain.split("\n"))) <= WIDTH:
        return plain
    levels = range(frame.index.nlevels) if index else ()
    columns = [_column(frame.index.names[k], frame.index.get_level_values(k), str, missing) for k in levels]
    for position, name in enumerate(frame.columns):

        def write(value: Any, own: Callable[[Any], str] | None = formats.get(str(name))) -> str:
            return own(value) if own else number(value) if isinstance(value, float) else str(value)

        columns.append(_column(name, frame.iloc[:, position], write, missing))
    texts = next((k for k, column in enumerate(columns) if not column.is_text), len(columns))
    labels = len(levels) or max(min(texts, MOST_LABELS), 1)
    return "\n\n".join(_blocks(columns[:labels], columns[labels:]))


def ruled(rows: Sequence[Sequence[str]], texts: int) -> str:
    """A table of texts, the first row its heading, with a line below that; the first `texts` columns are aligned left.

    The first column labels the rows of a table that does not fit.
    """
    columns = [
        _Column(heading, list(cells), k < texts)
        for k, (heading, *cells) in enumerate(zip(*rows, strict=True))
    ]
    widths = [column.width for column in columns]
    if sum(widths) + len(GAP) * (len(widths) - 1) <= WIDTH:
        return _block(columns, widths, ruled=True)
    return "\n\n".join(_blocks(columns[:1], columns[1:], ruled=True))


def _column(name: Any, values: Any, write: Callable[[Any], str], missing: str) -> _Column:
    from pandas import isna
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    heading = "" if name is None else ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
    is_text = not is_numeric_dtype(values.dtype) or is_bool_dtype(values.dtype)
    return _Column(heading, [missing if isna(value) else write(value) for value in values], is_text)


def _blocks(labels: Sequence[_Column], columns: Sequence[_Column], ruled: bool = False) -> list[str]:
    """Blocks of as many columns as fit next to the labels; one block, if all fit next to narrow labels."""
    beside = sum(column.width_in_blocks + len(GAP) for column in columns)
    left = WIDTH - beside - len(GAP) * (len(labels) - 1)
    widths = _shared([column.width for column in labels], left if left >= LEAST_LABELS else LABELS)
    room = WIDTH - sum(widths) - len(GAP) * len(labels)
    blocks: list[list[_Column]] = [[]]
    left = room
    for column in columns:
        need = column.width_in_blocks + len(GAP)
        if blocks[-1] and need > left + len(GAP):
            blocks.append([])
            left = room
        blocks[-1].append(column)
        left -= need
    return [
        _block([*labels, *block], [*widths, *(column.width_in_blocks for column in block)], ruled)
        for block in blocks
    ]


def _shared(widths: Sequence[int], room: int) -> list[int]:
    """Widths that take at most `room` in all: the widest become narrower, all of them equally."""
    most = max(widths)
    while sum(min(width, most) for width in widths) > room:
        most -= 1
    return [min(width, most) for width in widths]


def _block(columns: Sequence[_Column], widths: Sequence[int], ruled: bool = False) -> str:
    rows = zip(*([column.heading, *column.cells] for column in columns), strict=True)
    lines: list[str] = []
    for k, row in enumerate(rows):
        if ruled and k == 1:
            lines.append("-" * (sum(widths) + len(GAP) * (len(widths) - 1)))
        cells = [_cell(text, width) for text, width in zip(row, widths, strict=True)]
        for line in zip_longest(*cells, fillvalue=""):
            parts = [
                text.ljust(width) if column.is_text else text.rjust(width)
                for text, width, column in zip(line, widths, columns, strict=True)
            ]
            lines.append(GAP.join(parts).rstrip())
    return "\n".join(lines)


def _cell(text: str, width: int) -> list[str]:
    """The lines of a cell; a word longer than its column continues in the next line."""
    lines = wrapped(text, width, hang=min(2, width - 1)).split("\n")
    return [line[at : at + width] for line in lines for at in range(0, max(len(line), 1), width)]


class Printed:
    """An object that is printed as `_said`, in lines that fit; in HTML, with the first line as the title."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "_said" in vars(cls) and "__repr__" not in vars(cls):
            cls.__repr__ = _in_lines  # type: ignore[assignment,method-assign]  # else `dataclass` writes its own

    def _said(self) -> str:
        """The printed text, before long lines are wrapped."""
        return repr(self)

    def _repr_html_(self) -> str:
        return printed(self._said())


def _in_lines(shown: Printed) -> str:
    return wrapped(shown._said())


class Record(Printed):
    """A frozen record, printed as the call that makes it; in one line, or an argument in each if that is too long."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):
            cls.__repr__ = _as_call  # type: ignore[assignment,method-assign]  # else `dataclass` writes its own


def _as_call(record: Any) -> str:
    return _expression(record, 0, 0)


def as_call(name: str, arguments: Mapping[str, Any]) -> str:
    """``name(a=1, b='x')``, in one line or with an argument in each; long texts become several, as Python reads them."""
    return _expression(_Call(name, arguments), 0, 0)


class _Call(NamedTuple):
    name: str
    arguments: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


def _expression(value: Any, indent: int, before: int) -> str:
    """`value` as Python reads it, at an indentation, with so many characters before it and perhaps a comma after it."""
    if isinstance(value, np.ndarray):
        room = WIDTH - indent - before - 1
        return np.array_repr(value, room).replace("\n", "\n" + " " * (indent + before))
    value = _call_of(value)
    plain = repr(value)
    fits = max(map(len, plain.split("\n"))) + indent + before + (before > 0) <= WIDTH
    if fits and ("\n" not in plain or not isinstance(value, _Call | dict | list | tuple)):
        return plain.replace("\n", "\n" + " " * (indent + HANG))
    ends: Sequence[str]
    if isinstance(value, _Call):
        ends, items = (f"{value.name}(", ")"), [(f"{key}=", each) for key, each in value.arguments.items()]
    elif isinstance(value, dict):
        ends, items = ("{", "}"), [(f"{key!r}: ", each) for key, each in value.items()]
    elif isinstance(value, list | tuple):
        ends, items = ("()" if isinstance(value, tuple) else "[]"), [("", each) for each in value]
    elif isinstance(value, str):
        literals = [repr(part) for part in re.findall(r".{1,60}(?:\s+|$)|\S+\s*", value, re.DOTALL)]
        return _between("()", literals, indent)
    else:
        return wrapped(plain, WIDTH - indent - before).replace("\n", "\n" + " " * (indent + HANG))
    inner = [f"{head}{_expression(each, indent + HANG, len(head))}," for head, each in items]
    return _between(ends, inner, indent)


def _between(ends: Sequence[str], lines: Sequence[str], indent: int) -> str:
    """Lines, indented, between brackets."""
    inside = "".join(" " * (indent + HANG) + line + "\n" for line in lines)
    return f"{ends[0]}\n{inside}{' ' * indent}{ends[1]}"


def _call_of(value: Any) -> Any:
    """A record, or a function with some of its arguments, as a call."""
    if isinstance(value, Record) and type(value).__repr__ is _as_call:
        own = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}  # type: ignore[arg-type]
        return _Call(type(value).__qualname__, own)
    if isinstance(value, partial):
        arguments = {f"argument {k + 1}": each for k, each in enumerate(value.args)} | value.keywords
        return _Call(f"partial {getattr(value.func, '__name__', value.func)}", arguments)
    return value

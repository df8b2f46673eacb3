"""The expression tree of a formula (names, numbers, texts, operators, calls) and its text.

`read` (formulas/syntax.py) parses the output of `write` to the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = [
    "Call",
    "Dot",
    "Level",
    "Minus",
    "Name",
    "Node",
    "Number",
    "Op",
    "SIGN",
    "Text",
    "column_names",
    "label",
    "replaced",
    "walk",
    "write",
]

SIGN = 5
PLAIN = re.compile(r"[^\W\d_]\w*(\.\w+)*")  # names that need no backticks


@dataclass(frozen=True)
class Name:
    """The name of a column."""

    name: str


@dataclass(frozen=True)
class Number:
    """A number."""

    value: int | float


@dataclass(frozen=True)
class Text:
    """A quoted text."""

    value: str


@dataclass(frozen=True)
class Minus:
    """A node with a minus sign in front."""

    argument: Node


@dataclass(frozen=True)
class Op:
    """Two nodes joined by an operator."""

    symbol: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    """A function with its arguments."""

    function: str
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True)
class Level:
    """One of the columns of a factor (or of another term with several columns): ``sex[M]``."""

    factor: Node
    level: str


@dataclass(frozen=True)
class Dot:
    """The terms of the default formula, in a formula that edits it."""


Node = Name | Number | Text | Minus | Op | Call | Level | Dot


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node
        nodes += _children(node)[::-1]


@lru_cache(maxsize=10_000)
def column_names(node: Node) -> tuple[str, ...]:
    """Names of columns in a tree; options of functions, such as ``Treatment`` or ``True``, do not count."""
    match node:
        case Name(name):
            return (name,)
        case Call(_, arguments, _):
            inner = arguments[:1]
        case _:
            inner = _children(node)
    return tuple(name for part in inner for name in column_names(part))


def replaced(node: Node, by: Callable[[Node], Node | None]) -> Node:
    """The tree with nodes replaced where ``by`` returns one; innermost first, and not in options of functions."""
    match node:
        case Minus(argument):
            node = Minus(replaced(argument, by))
        case Op(symbol, left, right):
            node = Op(symbol, replaced(left, by), replaced(right, by))
        case Call(function, arguments, keywords):
            node = Call(function, (*(replaced(a, by) for a in arguments[:1]), *arguments[1:]), keywords)
        case Level(factor, level):
            node = Level(replaced(factor, by), level)
    other = by(node)
    return node if other is None else other


def label(node: Node) -> str:
    """The name of a column in results: the text of its term without backticks or, except in calls, parentheses."""
    return write(node, False)


def write(node: Node, brackets: bool = True) -> str:
    """Canonical text, with every nested operation in parentheses so that the grouping is unambiguous.

    With ``brackets=False``, without parentheses, as formulae writes the names of columns.
    """
    match node:
        case Name(name):
            return name if PLAIN.fullmatch(name) or not brackets else _quoted(name, "`")
        case Number(value):
            # positional notation, because formulae reads 1e-3 as 1
            return str(value) if isinstance(value, int) else np.format_float_positional(value, trim="0")
        case Text(value):
            return _quoted(value, '"')
        case Dot():
            return "."
        case Minus(argument):
            return f"-{_inner(argument, brackets)}"
        case Op(symbol, left, right):
            space = "" if symbol == ":" else " "
            return f"{_inner(left, brackets)}{space}{symbol}{space}{_inner(right, brackets)}"
        case Call(function, arguments, keywords):
            parts = [write(a, brackets) for a in arguments] + [
                f"{k}={write(v, brackets)}" for k, v in keywords
            ]
            return f"{function}({', '.join(parts)})"
        case Level(factor, level):
            odd = brackets and ("]" in level or level.startswith('"'))
            return f"{write(factor, brackets)}[{_quoted(level, '"') if odd else level}]"
    raise TypeError(node)


def _quoted(text: str, quote: str) -> str:
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{escaped}{quote}"


def _inner(node: Node, brackets: bool) -> str:
    text = write(node, brackets)
    return f"({text})" if brackets and isinstance(node, Op | Minus) else text


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Minus(argument):
            return (argument,)
        case Op(_, left, right):
            return (left, right)
        case Call(_, arguments, keywords):
            return (*arguments, *(value for _, value in keywords))
        case Level(factor, _):
            return (factor,)
    return ()

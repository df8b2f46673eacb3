"""Text of a formula to a small tree and back: names, numbers, texts, operators and calls; runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayesimp.errors import SpecificationError

__all__ = ["Call", "Minus", "Name", "Node", "Number", "Op", "Text", "error", "read", "walk", "write"]

# Binding powers. Outside calls the operators make terms, inside calls they are arithmetic as in Python.
FORMULA = {"|": 1, "||": 1, "+": 2, "-": 2, "*": 3, "/": 3, ":": 4, "**": 6}
ARITHMETIC = dict.fromkeys(("==", "!=", "<=", ">=", "<", ">"), 1) | {"+": 2, "-": 2, "*": 3, "/": 3, "**": 6}
SIGN = 5
DEEPEST, LONGEST = 50, 20_000  # nesting and characters: far above any formula, far below the stack

TOKEN = re.compile(
    r"""(?P<name>[^\W\d_]\w*(?:\.\w+)*|_\w*) | `(?P<quoted>[^`]+)`
      | "(?P<double>[^"']*)" | '(?P<single>[^"']*)' | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<op>\*\*|\|\||==|!=|<=|>=|[-+*/:|(),=<>])""",
    re.VERBOSE,
)
ADVICE = {
    "~": "a formula has one ~",
    "^": "write powers as I(x**2)",
    "%": "operators with % are not known; make the column in the table",
    "[": "lists are not possible; give df= instead of knots=, C(x, Treatment('level')) instead of levels=",
    "{": "write I(...) instead of {...}",
    ".": "'.' for all other columns is not known; name the columns",
}


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Number:
    value: int | float


@dataclass(frozen=True)
class Text:
    value: str


@dataclass(frozen=True)
class Minus:
    argument: Node


@dataclass(frozen=True)
class Op:
    symbol: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[Node, ...]
    keywords: tuple[tuple[str, Node], ...] = ()


Node = Name | Number | Text | Minus | Op | Call


def error(text: str, what: str) -> SpecificationError:
    """The error for a formula, ready to be raised."""
    return SpecificationError(f"Formula {text.strip()!r}: {what}.")


def read(text: str, whole: str | None = None) -> Node:
    """Tree of one side of a formula; ``whole`` is the formula to quote in messages."""
    parser = _Parser(text, whole or text)
    node = parser.expression(FORMULA)
    if parser.position < len(parser.tokens):
        raise error(parser.whole, f"'{parser.here()}' is not expected after '{write(node)}'")
    return node


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node
        nodes += _children(node)[::-1]


def write(node: Node, brackets: bool = True) -> str:
    """Canonical text: every operation below another one in parentheses, so that no reader can regroup it.

    With ``brackets=False``, as formulae spells the names of columns: without any.
    """
    match node:
        case Name(name):
            return name if re.fullmatch(r"[^\W\d_]\w*(\.\w+)*", name) or not brackets else f"`{name}`"
        case Number(value):
            # positional: formulae reads 1e-3 as 1
            return str(value) if isinstance(value, int) else np.format_float_positional(value, trim="0")
        case Text(value):
            return f'"{value}"'
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
    raise TypeError(node)


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
    return ()


class _Parser:
    """Precedence climbing over a list of (kind, value)."""

    def __init__(self, text: str, whole: str):
        self.whole, self.position, self.depth = whole, 0, 0
        if len(text) > LONGEST:
            raise error(text[:80] + "...", f"longer than {LONGEST} characters")
        self.tokens = list(_tokens(text, whole))

    def here(self) -> str:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else "the end"

    def take(self, *symbols: str) -> str:
        """The next token, if it is one of these operators, and step over it."""
        kind, value = self.tokens[self.position] if self.position < len(self.tokens) else ("op", "")
        if kind != "op" or value not in symbols:
            return ""
        self.position += 1
        return value

    def expect(self, symbol: str) -> None:
        if not self.take(symbol):
            raise error(self.whole, f"'{symbol}' is missing before '{self.here()}'")

    def expression(self, powers: dict[str, int], minimum: int = 0) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise error(self.whole, f"more than {DEEPEST} levels of nesting")
        sign = self.take("+", "-")
        left = self.expression(powers, SIGN) if sign else self.primary(powers)
        left = Minus(left) if sign == "-" else left
        while symbol := self.take(*(s for s, power in powers.items() if power > minimum)):
            # ** binds to the right, the others to the left
            left = Op(symbol, left, self.expression(powers, powers[symbol] - (symbol == "**")))
        self.depth -= 1
        return left

    def primary(self, powers: dict[str, int]) -> Node:
        if self.take("("):
            node = self.expression(powers)
            self.expect(")")
            return node
        kind, value = self.tokens[self.position] if self.position < len(self.tokens) else ("op", "the end")
        if kind == "op":
            raise error(self.whole, f"a name is missing before '{value}'")
        self.position += 1
        match kind:
            case "name" if self.take("("):
                return self.call(value)
            case "name" | "quoted":
                return Name(value)
            case "number":
                return Number(int(value) if value.isdigit() else float(value))
        return Text(value)

    def call(self, function: str) -> Call:
        arguments: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        while not self.take(")"):
            if arguments or keywords:
                self.expect(",")
            node = self.expression(ARITHMETIC)
            if isinstance(node, Name) and self.take("="):
                keywords.append((node.name, self.expression(ARITHMETIC)))
            elif keywords:
                raise error(self.whole, f"{function}(): '{write(node)}' comes after a keyword argument")
            else:
                arguments.append(node)
        return Call(function, tuple(arguments), tuple(keywords))


def _tokens(text: str, whole: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = TOKEN.match(text, position)
        if match is None:
            sign = text[position]
            raise error(
                whole, f"'{sign}' is not possible; " + ADVICE.get(sign, "quote column names with `...`")
            )
        kind = str(match.lastgroup)
        yield ("text" if kind in ("double", "single") else kind), match[kind]
        position = match.end()

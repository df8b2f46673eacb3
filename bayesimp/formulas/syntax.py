"""Text of a formula to a small tree and back: names, numbers, texts, operators and calls; runs nothing.

A name that is more than letters, digits and dots is written in backticks, as in R: `` `blood pressure` ``; a backtick or
backslash in it has a backslash before it. ``c[level]`` is the column of one level of a factor, or one column of a
spline or polynomial; a level with a bracket in it is written in quotes: ``c["a]b"]``. What `write` writes, `read`
reads as the same tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bayesimp.errors import SpecificationError

__all__ = [
    "ADVICE", "Call", "Dot", "Level", "Minus", "Name", "Node", "Number", "Op", "Text", "column_names", "error", "label",
    "read", "read_sides", "replaced", "walk", "write",
]  # fmt: skip

# Binding powers. Outside calls the operators make terms, inside calls they are arithmetic as in Python.
FORMULA = {"|": 1, "||": 1, "+": 2, "-": 2, "*": 3, "/": 3, ":": 4, "**": 6}
ARITHMETIC = dict.fromkeys(("==", "!=", "<=", ">=", "<", ">"), 1) | {
    "+": 2, "-": 2, "*": 3, "/": 3, ":": 4, "**": 6,
}  # fmt: skip
SIGN = 5
DEEPEST, LONGEST = 50, 20_000  # nesting and characters: far above any formula, far below the stack

TOKEN = re.compile(
    r"""(?P<name>[^\W\d_]\w*(?:\.\w+)*|_\w*) | `(?P<quoted>(?:[^`\\]|\\.)*)`
      | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)'
      | \["(?P<quoted_level>(?:[^"\\]|\\.)*)"\] | \[(?P<level>[^\]]*)\]
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?) | (?P<dot>\.)
      | (?P<op>\*\*|\|\||==|!=|<=|>=|[-+*/:|(),=<>~])""",
    re.VERBOSE | re.DOTALL,
)
PLAIN = re.compile(r"[^\W\d_]\w*(\.\w+)*")  # names without backticks
KINDS = {"double": "text", "single": "text", "quoted_level": "level"}
ADVICE = {
    "~": "a formula has one ~",
    "^": "write powers as I(x**2)",
    "%": "operators with % are not known; make the column in the table",
    "[": "lists are not supported; give df= instead of knots=, C(x, Treatment('level')) instead of levels=",
    "{": "write I(...) instead of {...}",
    ".": "'.' for all other columns is not known here; name them (in predictors= of FCS '~ . + x' adds to the default)",
    "`": "the second ` of a name is missing",
    '"': 'the second " of a text is missing',
    "'": "the second ' of a text is missing",
}


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


def error(text: str, what: str) -> SpecificationError:
    """The error for a formula, ready to be raised."""
    return SpecificationError(f"Formula {text.strip()!r}: {what}.")


def read(text: str, whole: str | None = None) -> Node:
    """Tree of one side of a formula; ``whole`` is the formula to quote in messages."""
    whole = whole or text
    return _whole(_Parser(_tokens(text, whole), whole))


def read_sides(text: str) -> tuple[Node | None, Node]:
    """Trees of the left (None: empty) and right side of ``left ~ right``."""
    tokens = _tokens(text, text)
    tilde = [k for k, token in enumerate(tokens) if token == ("op", "~")]
    if len(tilde) != 1:
        raise SpecificationError(
            f"{text[:200]!r} is not a formula: write 'responses ~ columns + (1 | cluster)', with one ~."
        )
    left, right = tokens[: tilde[0]], tokens[tilde[0] + 1 :]
    tree = _whole(_Parser(right, text))
    if isinstance(tree, Op) and tree.symbol in ("|", "||") and right[-1] != ("op", ")"):
        raise error(text, f"put the random term in parentheses: ({write(tree)})")
    return _whole(_Parser(left, text)) if left else None, tree


def _whole(parser: _Parser) -> Node:
    node = parser.expression(FORMULA)
    if parser.position < len(parser.tokens):
        if parser.tokens[parser.position][0] == "level":
            raise error(parser.whole, f"{ADVICE['[']}; a level, c[level], follows a name or C(name)")
        raise error(parser.whole, f"'{parser.here()}' is not expected after '{write(node)}'")
    return node


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        yield node
        nodes += _children(node)[::-1]


def column_names(node: Node) -> Iterator[str]:
    """Names of columns in a tree; options of functions, ``Treatment`` or ``True``, do not count."""
    match node:
        case Name(name):
            yield name
        case Call(_, arguments, _):
            for argument in arguments[:1]:
                yield from column_names(argument)
        case _:
            for inner in _children(node):
                yield from column_names(inner)


def replaced(node: Node, by: Callable[[Node], Node | None]) -> Node:
    """The tree with other nodes where ``by`` gives one; innermost first, and not among the options of functions."""
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
    """Canonical text: every operation below another one in parentheses, so that it cannot be read in another grouping.

    With ``brackets=False``, as formulae spells the names of columns: without any.
    """
    match node:
        case Name(name):
            return name if PLAIN.fullmatch(name) or not brackets else _quoted(name, "`")
        case Number(value):
            # positional: formulae reads 1e-3 as 1
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


def _unquoted(text: str, quote: str) -> str:
    return re.sub(rf"\\([\\{quote}])", r"\1", text)


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


class _Parser:
    """Precedence climbing over a list of (kind, value)."""

    def __init__(self, tokens: list[tuple[str, str]], whole: str) -> None:
        self.tokens, self.whole, self.position, self.depth = tokens, whole, 0, 0

    def here(self) -> str:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else "the end"

    def is_level(self) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position][0] == "level"

    def take(self, *symbols: str) -> str:
        """The next token, if it is one of these operators, and step over it."""
        kind, value = self.tokens[self.position] if self.position < len(self.tokens) else ("op", "")
        if kind != "op" or value not in symbols:
            return ""
        self.position += 1
        return value

    def expect(self, symbol: str) -> None:
        if not self.take(symbol):
            if self.here() in ("~", "."):
                raise error(self.whole, f"'{self.here()}' is not possible here; {ADVICE[self.here()]}")
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
        if kind == "level":
            raise error(self.whole, ADVICE["["])
        if kind == "op":
            what = ADVICE["~"] if value == "~" else f"a name is missing before '{value}'"
            raise error(self.whole, what)
        self.position += 1
        match kind:
            case "name" | "quoted":
                node = self.call(value) if kind == "name" and self.take("(") else Name(value)
                if self.is_level():
                    self.position += 1
                    node = Level(node, self.tokens[self.position - 1][1])
                return node
            case "number":
                return Number(int(value) if value.isdigit() else float(value))
            case "dot":
                return Dot()
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


def _tokens(text: str, whole: str) -> list[tuple[str, str]]:
    """(kind, value), the values of names, texts and levels without their quotes."""
    if len(text) > LONGEST:
        raise error(text[:80] + "...", f"longer than {LONGEST} characters")
    tokens: list[tuple[str, str]] = []
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
        quote = {"quoted": "`", "single": "'", "double": '"', "quoted_level": '"'}.get(kind)
        value = match[kind] if quote is None else _unquoted(match[kind], quote)
        tokens.append((KINDS.get(kind, kind), value))
        position = match.end()
    return tokens

"""Parse the text of a formula to a small tree of names, numbers, texts, operators and calls; nothing is executed.

A name with characters other than letters, digits and dots is written in backticks, as in R: `` `blood pressure` ``; a
backtick or backslash in it is preceded by a backslash. ``c[level]`` is the column of one level of a factor, or one
column of a spline or polynomial; a level that contains a bracket is quoted: ``c["a]b"]``. `read` parses the output of
`write` to the same tree.
"""

from __future__ import annotations

import re

from bayesimp.errors import SpecificationError
from bayesimp.formulas.nodes import (
    SIGN,
    Call,
    Dot,
    Level,
    Minus,
    Name,
    Node,
    Number,
    Op,
    Text,
    column_names,
    label,
    replaced,
    walk,
    write,
)

__all__ = [
    "ADVICE", "Call", "Dot", "Level", "Minus", "Name", "Node", "Number", "Op", "Text", "column_names", "error", "label",
    "read", "read_sides", "replaced", "walk", "write",
]  # fmt: skip

# Binding powers. Outside calls operators combine terms; inside calls they are arithmetic, as in Python.
FORMULA = {"|": 1, "||": 1, "+": 2, "-": 2, "*": 3, "/": 3, ":": 4, "**": 6}
ARITHMETIC = dict.fromkeys(("==", "!=", "<=", ">=", "<", ">"), 1) | {
    "+": 2, "-": 2, "*": 3, "/": 3, ":": 4, "**": 6,
}  # fmt: skip
DEEPEST, LONGEST = (
    50,
    20_000,
)  # limits of nesting and length: far above any formula, far below the stack limit

TOKEN = re.compile(
    r"""(?P<name>[^\W\d_]\w*(?:\.\w+)*|_\w*) | `(?P<quoted>(?:[^`\\]|\\.)*)`
      | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)'
      | \["(?P<quoted_level>(?:[^"\\]|\\.)*)"\] | \[(?P<level>[^\]]*)\]
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?) | (?P<dot>\.)
      | (?P<op>\*\*|\|\||==|!=|<=|>=|[-+*/:|(),=<>~])""",
    re.VERBOSE | re.DOTALL,
)
KINDS = {"double": "text", "single": "text", "quoted_level": "level"}
ADVICE = {
    "~": "a formula has one ~",
    "^": "write powers as I(x**2)",
    "%": "operators with % are not supported; make the column in the table",
    "[": "lists are not supported; give df= instead of knots=, C(x, Treatment('level')) instead of levels=",
    "{": "write I(...) instead of {...}",
    ".": "'.' for all other columns is not allowed here; name them (predictors= of FCS takes '~ . + x', too)",
    "`": "the second ` of a name is missing",
    '"': 'the second " of a text is missing',
    "'": "the second ' of a text is missing",
}


def error(text: str, what: str) -> SpecificationError:
    """The exception for a formula, ready to be raised."""
    return SpecificationError(f"Formula {text.strip()!r}: {what}.")


def read(text: str, whole: str | None = None) -> Node:
    """The tree of one side of a formula; ``whole`` is the formula to quote in messages."""
    whole = whole or text
    return _whole(_Parser(_tokens(text, whole), whole))


def read_sides(text: str) -> tuple[Node | None, Node]:
    """The trees of the left (None: empty) and right sides of ``left ~ right``."""
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
        raise error(parser.whole, f"'{parser.here()}' is unexpected after '{write(node)}'")
    return node


def _unquoted(text: str, quote: str) -> str:
    return re.sub(rf"\\([\\{quote}])", r"\1", text)


class _Parser:
    """A precedence-climbing parser of (kind, value) tokens."""

    def __init__(self, tokens: list[tuple[str, str]], whole: str) -> None:
        self.tokens, self.whole, self.position, self.depth = tokens, whole, 0, 0

    def here(self) -> str:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else "the end"

    def is_level(self) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position][0] == "level"

    def take(self, *symbols: str) -> str:
        """Consume and return the next token if it is one of these operators; otherwise ""."""
        kind, value = self.tokens[self.position] if self.position < len(self.tokens) else ("op", "")
        if kind != "op" or value not in symbols:
            return ""
        self.position += 1
        return value

    def expect(self, symbol: str) -> None:
        if not self.take(symbol):
            if self.here() in ("~", "."):
                raise error(self.whole, f"'{self.here()}' is not allowed here; {ADVICE[self.here()]}")
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
    """Tokens (kind, value); values of names, texts and levels are without quotes."""
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
                whole, f"'{sign}' is not allowed; " + ADVICE.get(sign, "quote column names with `...`")
            )
        kind = str(match.lastgroup)
        quote = {"quoted": "`", "single": "'", "double": '"', "quoted_level": '"'}.get(kind)
        value = match[kind] if quote is None else _unquoted(match[kind], quote)
        tokens.append((KINDS.get(kind, kind), value))
        position = match.end()
    return tokens

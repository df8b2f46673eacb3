"""Formulas in lme4 style: ``y1 + y2 ~ 1 + sex + log(age) + (1 + age | school)``.

A formula may come from a plan file, which is data and never code. It is parsed by `syntax`, may use only the functions
in `terms`, and is passed to formulae in one canonical spelling. This also refuses what formulae 0.9 would accept but
silently misread:

    x**2            formulae reads x                      here: an error that suggests I(x**2)
    x z             formulae drops z                      here: an error
    I(-x**2)        formulae reads (-x)**2                here: as in Python, -(x**2)
    offset(x)       formulae adds a column to X           here: an error

The right-hand side, and the left side of a bar, include an intercept, as in R; ``0 +`` or ``- 1`` removes it.
``cluster_mean(x)``, ``within(x)`` and ``cluster_size()`` are over the rows of the cluster, ``c[level]`` is one level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from bayesimp.errors import SpecificationError
from bayesimp.formulas.syntax import (
    Call,
    Level,
    Minus,
    Name,
    Node,
    Number,
    Op,
    Text,
    error,
    read,
    read_sides,
    walk,
    write,
)
from bayesimp.formulas.terms import CLUSTER, FACTOR, STATEFUL, check_names, check_term
from bayesimp.layout import Record

if TYPE_CHECKING:
    from bayesimp.formulas.arithmetic import Expression

__all__ = ["Formula", "RandomTerm", "has_intercept", "parse", "plain_terms", "product_text", "signed"]


@dataclass(frozen=True)
class RandomTerm(Record):
    """One ``(columns | group)``.

    Attributes
    ----------
    columns
        Right-hand-side text of the columns of Z: ``"1 + age"``.
    group
        Grouping column, or columns joined by ``:`` (``"school:class"``). ``(1 | a/b)`` is read as in lme4:
        two terms, with groups ``"a"`` and ``"a:b"``. Written as in a formula, with backticks where needed.
    correlated
        False for ``(1 + age || group)``.
    """

    columns: str
    group: str
    correlated: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the grouping columns in the table."""
        return tuple(node.name for node in walk(read(self.group)) if isinstance(node, Name))

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the table's columns with random slopes."""
        return tuple(node.name for node in walk(read(self.columns)) if isinstance(node, Name))

    @property
    def label(self) -> str:
        """The group as written in names of variance components, without backticks."""
        return ":".join(self.names)


@dataclass(frozen=True)
class Formula(Record):
    """The parts of a formula, made by `parse`.

    Attributes
    ----------
    text
        As the user wrote it.
    responses
        Names on the left of ``~``; empty for a one-sided formula.
    fixed
        Right-hand-side text of the columns of X, with an explicit intercept: ``"1 + sex + age"``.
    random
        The random terms in order; empty if there are none.
    cluster_of_means
        Cluster column over which `cluster_mean` and the like are taken, if the random terms do not determine it.
    bases
        Terms that would need all rows, each with its columns as functions of one row (`fixed_basis`).
    """

    text: str
    responses: tuple[str, ...]
    fixed: str
    random: tuple[RandomTerm, ...] = ()
    cluster_of_means: str | None = None
    bases: tuple[tuple[Call, tuple[tuple[Node, Expression], ...]], ...] = ()

    def __str__(self) -> str:
        return self.text

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of all columns on the right of a bar."""
        return tuple(dict.fromkeys(name for term in self.random for name in term.names))

    @property
    def cluster(self) -> str | None:
        """The grouping column if there is exactly one; otherwise None."""
        return self.groups[0] if len(self.groups) == 1 else None

    @property
    def single_grouping(self) -> bool:
        """Whether there is exactly one random term, grouped by one column, as some models require."""
        return len(self.random) == 1 and self.cluster is not None

    @property
    def independent(self) -> bool:
        """Whether any random term was written with ``||``."""
        return any(not term.correlated for term in self.random)

    @cached_property
    def uses(self) -> dict[str, frozenset[str]]:
        """Columns on the right of ``~`` (without grouping columns), in order of appearance, and their uses.

        ``"column"``: unchanged; ``"number"``: inside a function or arithmetic; ``"factor"``: inside C, T, S or
        compared with a text; ``"averaged"``: over the rows of a cluster.
        """
        uses: dict[str, set[str]] = {}
        for _, term in (pair for tree in self._trees() for pair in signed(tree)):
            for name, use in _uses(term, "column"):
                uses.setdefault(name, set()).add(use)
        return {name: frozenset(kinds) for name, kinds in uses.items()}

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns on the right of ``~`` (without grouping columns), in order of appearance."""
        return tuple(self.uses)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that the formula needs: responses, variables, groups, and the cluster of its means."""
        means = [self.cluster_of_means] if self.over_clusters and self.cluster_of_means else []
        return tuple(dict.fromkeys((*self.responses, *self.variables, *self.groups, *means)))

    @property
    def stateful(self) -> bool:
        """Whether a column of X or Z depends on all rows at once."""
        return bool(self.over_rows)

    @property
    def over_rows(self) -> list[Call]:
        """Calls of functions that need all rows, scale, center, poly and splines, except those in `bases`."""
        nodes = (node for tree in self._trees() for node in walk(tree))
        calls = (node for node in nodes if isinstance(node, Call) and node.function in STATEFUL)
        known = [call for call, _ in self.bases]
        return [call for call in dict.fromkeys(calls) if call not in known]

    @property
    def over_clusters(self) -> bool:
        """Whether a column is computed from the rows of each cluster: cluster_mean, cluster_sum, within, cluster_size."""
        nodes = (node for tree in self._trees() for node in walk(tree))
        return any(isinstance(node, Call) and node.function in CLUSTER for node in nodes)

    def _trees(self) -> list[Node]:
        return [read(text) for text in (self.fixed, *(term.columns for term in self.random))]


def parse(text: str) -> Formula:
    """Read a formula.

    The caller decides whether a random term is needed and how many are allowed: an analysis may have crossed or nested
    terms, while some imputation models need `Formula.single_grouping`.

    Raises
    ------
    SpecificationError
        The text is not a formula; the message shows the place and says what to write instead.
    """
    if not isinstance(text, str):
        raise SpecificationError(
            f"{str(text)[:200]!r} is not a formula: write 'responses ~ columns + (1 | cluster)', with one ~."
        )
    try:
        return _parse(text)
    except RecursionError:
        raise error(text[:80] + "...", "nested too deeply; make some of the columns in the table") from None


def plain_terms(terms: list[tuple[str, Node]]) -> tuple[bool, tuple[str, ...]] | None:
    """The intercept and names of a right-hand side that has plain columns only; otherwise None."""
    if any(sign == "-" or not isinstance(node, Name | Number) for sign, node in terms):
        return None
    names = (node.name for _, node in terms if isinstance(node, Name))
    return has_intercept(terms), tuple(dict.fromkeys(names))


def _parse(text: str) -> Formula:
    left, tree = read_sides(text)
    responses = _responses(left, text)
    fixed, random = [], []
    for sign, node in signed(tree):
        if isinstance(node, Op) and node.symbol in ("|", "||"):
            if sign == "-":
                raise error(text, "a random term cannot be removed; leave it out")
            random += _random_terms(node, text)
        else:
            fixed.append((sign, node))
    formula = Formula(text.strip(), responses, _columns(fixed, text), tuple(random))
    both = [name for name in responses if name in formula.variables + formula.groups]
    if both:
        raise error(text, f"'{both[0]}' is on both sides of ~; remove it from one of them")
    return formula


def _responses(left: Node | None, text: str) -> tuple[str, ...]:
    if left is None:
        return ()
    terms = signed(left)
    for sign, node in terms:
        if sign == "-" or not isinstance(node, Name):
            raise error(
                text,
                f"'{write(node)}' on the left of ~ is not a column; make it in the table and name it here",
            )
    names = [node.name for _, node in terms if isinstance(node, Name)]
    if len(set(names)) < len(names):
        raise error(text, f"a response is named twice: {', '.join(names)}")
    return tuple(names)


def signed(node: Node) -> list[tuple[str, Node]]:
    """The signed terms of a sum, in order; not recursive, because formulas can have 1,000 terms."""
    terms: list[tuple[str, Node]] = []
    while isinstance(node, Op) and node.symbol in ("+", "-"):
        terms = ([("-", node.right)] if node.symbol == "-" else signed(node.right)) + terms
        node = node.left
    first = (
        ("-", node.argument) if isinstance(node, Minus) and isinstance(node.argument, Number) else ("+", node)
    )
    return [first, *terms]


def has_intercept(terms: list[tuple[str, Node]]) -> bool:
    """Whether there is an intercept; by R's rule, unless 0 or -1 comes last."""
    last = [(sign == "+") == (node.value == 1) for sign, node in terms if isinstance(node, Number)]
    return last[-1] if last else True


def _columns(terms: list[tuple[str, Node]], text: str) -> str:
    """The canonical right-hand side, after checks."""
    written = ["1" if has_intercept(terms) else "0"]
    for sign, node in terms:
        if isinstance(node, Number) and node.value in (0, 1):
            continue
        check_term(node, text)
        written.append(f"{sign} {write(node) if not isinstance(node, Op) else product_text(node)}")
    check_names(terms, text)
    return " ".join(written)


def product_text(node: Node) -> str:
    """The text of a term without the parentheses that ``write`` puts around each factor of a product."""
    if isinstance(node, Op) and node.symbol in ("*", ":"):
        left, right = (product_text(side) for side in (node.left, node.right))
        plain = all(
            not isinstance(side, Op) or side.symbol == node.symbol for side in (node.left, node.right)
        )
        return f"{left}{node.symbol if node.symbol == ':' else ' * '}{right}" if plain else write(node)
    return write(node)


def _random_terms(node: Op, text: str) -> list[RandomTerm]:
    columns, correlated = _columns(signed(node.left), text), node.symbol == "|"
    names: list[Node] = []
    symbol, group = set(), node.right
    while isinstance(group, Op):
        symbol.add(group.symbol)
        names.insert(0, group.right)
        group = group.left
    names.insert(0, group)
    if not all(isinstance(name, Name) for name in names) or not (symbol <= {":"} or symbol <= {"/"}):
        raise error(
            text, f"'{write(node.right)}' is not a group; write a column, a:b (crossed) or a/b (nested)"
        )
    joined = [":".join(write(name) for name in names[:k]) for k in range(1, len(names) + 1)]
    return [RandomTerm(columns, group, correlated) for group in (joined if symbol == {"/"} else joined[-1:])]


def _uses(node: Node, use: str) -> Iterator[tuple[str, str]]:
    match node:
        case Name(name):
            yield name, use
        case Level(factor, _):
            yield from _uses(factor, use)
        case Call(function, arguments, _):
            kind = "factor" if function in FACTOR else "averaged" if function in CLUSTER else "number"
            for argument in arguments[:1]:
                yield from _uses(argument, kind)
        case Op(_, left, right):
            compared = isinstance(left, Text) or isinstance(right, Text)
            for side in (left, right):
                yield from _uses(side, "factor" if compared else use)
        case Minus(argument):
            yield from _uses(argument, use)

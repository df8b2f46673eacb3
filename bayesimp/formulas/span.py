"""Columns of formulas as polynomials of variables, to test whether those of one formula contain those of another.

A column is a sum of products of atoms with known coefficients. An atom is a variable, a cluster mean, or a function
that is not expanded:

    I((x + 2 * w)**2)       x x + 4 w x + 4 w w
    within(x):w             w x - w cluster_mean(x)
    log(x)                  an atom
    scale(x)                x + an unknown constant
    poly(x, 3)              x, x x, x x x

So ``within(x) + cluster_mean(x)`` contains ``x``, and ``x * w`` contains ``scale(x):w``. Any function of a two-valued
variable is linear in it, and a factor gives columns for all its levels except the first. In ``sex:x`` without ``x`` it
has all of them (R's rule), so ``x`` is contained; this is not recognised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from bayesimp.formulas.formula import signed
from bayesimp.formulas.predictors import Term, terms_of
from bayesimp.formulas.syntax import (
    Call,
    Level,
    Minus,
    Name,
    Node,
    Number,
    Op,
    column_names,
    read,
    replaced,
    write,
)
from bayesimp.formulas.terms import FACTOR, WITHIN

__all__ = [
    "CONSTANT",
    "Atom",
    "Monomial",
    "Polynomial",
    "Reader",
    "contains",
    "lacking",
    "spelled",
    "terms",
    "times",
    "written",
]

ANY = 0.6180339887498949  # replaces constants that depend on the data; unlikely to cancel by accident
CENTRED = ("center", "scale", "standardize")
HIGHEST = 6  # highest power that is expanded


@dataclass(frozen=True, order=True)
class Atom:
    """A factor of products.

    Attributes
    ----------
    text
        Its text in a formula.
    names
        Columns of the table from which it is computed.
    kind
        ``"variable"``, ``"mean"`` (of clusters) or ``"function"``.
    """

    text: str
    names: frozenset[str] = field(compare=False, default=frozenset())
    kind: str = field(compare=False, default="function")


Monomial = tuple[Atom, ...]  # sorted, each atom repeated according to its power; () is the constant
Polynomial = Mapping[Monomial, float]
CONSTANT: Polynomial = {(): 1.0}


def terms(text: str) -> list[Term]:
    """The products of atoms in a right-hand side, each once, in order of appearance, without the intercept."""
    found: dict[frozenset[Node], Term] = {}
    for sign, node in signed(read(text)):
        for term in [] if isinstance(node, Number) else terms_of(node):
            if sign == "-":
                found.pop(frozenset(term), None)
            else:
                found.setdefault(frozenset(term), term)
    return list(found.values())


def written(term: Term) -> str:
    """A term as written in formulas, without the parentheses of a sum: ``x:I(w ** 2)``."""
    return ":".join(write(atom) for atom in term)


def spelled(monomial: Monomial) -> str:
    """A product of atoms as a term of a formula: ``I(x ** 2):w``."""
    parts = [
        atom.text if power == 1 else f"I({atom.text} ** {power})" for atom, power in Counter(monomial).items()
    ]
    return ":".join(parts) or "1"


class Reader:
    """Converts terms of formulas to polynomials.

    Parameters
    ----------
    derived
        Derived column -> definition, in order of computation.
    linear
        Two-valued variables and factors: any function of one of them lies in the span of its columns.
    by_cluster
        Whether columns are compared within clusters, as in random parts, where a cluster mean is constant.
    """

    def __init__(
        self, derived: Mapping[str, str], linear: Collection[str] = (), by_cluster: bool = False
    ) -> None:
        self.linear, self.by_cluster = frozenset(linear), by_cluster
        self.derived: dict[str, Node] = {}
        for name, source in derived.items():
            whole = read(f"I({source})")
            assert isinstance(whole, Call)
            self.derived[name] = self._resolved(whole.arguments[0])

    def part(self, text: str) -> list[Polynomial]:
        """The constant and all columns of a right-hand side."""
        return [CONSTANT, *(column for term in terms(text) for column in self.columns(term))]

    def columns(self, term: Term) -> list[Polynomial]:
        """The columns of one term; a factor counts as one."""
        return [self.times(*choice) for choice in product(*(self._atom(node) for node in term))]

    def variable(self, name: str) -> Polynomial:
        """A column of the table, or its definition."""
        if name in self.derived:
            return self._arithmetic(self.derived[name])
        return {(Atom(write(Name(name)), frozenset({name}), "variable"),): 1.0}

    def times(self, *columns: Polynomial) -> Polynomial:
        """A product in which powers of two-valued variables are reduced to the variables."""
        result = times(*columns)
        reduced: dict[Monomial, float] = {}
        for monomial, number in result.items():
            kept: list[Atom] = []
            for atom in monomial:
                if not (atom in kept and atom.kind == "variable" and atom.names <= self.linear):
                    kept.append(atom)
            reduced[tuple(kept)] = reduced.get(tuple(kept), 0.0) + number
        return reduced

    def mean(self, column: Polynomial) -> Polynomial:
        """The mean of a column over the rows of the cluster."""
        if self.by_cluster:
            return {(): ANY}
        found: dict[Monomial, float] = {}
        for monomial, number in column.items():
            still = tuple(atom for atom in monomial if atom.kind == "mean")  # one value in each cluster
            moving = [atom for atom in monomial if atom.kind != "mean"]
            inner = " * ".join(
                a.text if n == 1 else f"I({a.text} ** {n})" for a, n in Counter(moving).items()
            )
            names = frozenset().union(*(atom.names for atom in moving))
            mean = (Atom(f"cluster_mean({inner})", names, "mean"),) if moving else ()
            found[tuple(sorted((*still, *mean)))] = number
        return found

    def _resolved(self, node: Node) -> Node:
        """The node with derived columns replaced by their definitions, and without ``I()`` and ``np.``."""

        def by(inner: Node) -> Node | None:
            match inner:
                case Name(name):
                    return self.derived.get(name)
                case Call("I", (argument,), ()):
                    return argument
                case Call(function, arguments, keywords):
                    return Call(function.removeprefix("np."), arguments, keywords)
            return None

        return replaced(node, by)

    def _atom(self, node: Node) -> list[Polynomial]:
        match node:
            case Level(factor, _):
                return self._atom(factor)
            case Call("poly", (argument, *options), keywords):
                degree = next(
                    (o.value for o in (*options, *(v for _, v in keywords)) if isinstance(o, Number)), 1
                )
                base = self._arithmetic(argument)
                return [self.times(*[base] * power) for power in range(1, int(degree) + 1)]
        return [self._arithmetic(node)]

    def _arithmetic(self, node: Node) -> Polynomial:
        match node:
            case Name(name):
                return self.variable(name)
            case Number(value):
                return {(): float(value)}
            case Level(factor, _):
                return self._arithmetic(factor)
            case Minus(argument):
                return self.times({(): -1.0}, self._arithmetic(argument))
            case Op("+" | "-" as sign, left, right):
                return _sum(self._arithmetic(left), self._arithmetic(right), 1.0 if sign == "+" else -1.0)
            case Op("*" | ":", left, right):
                return self.times(self._arithmetic(left), self._arithmetic(right))
            case Op("/", left, Number(value)) if value:
                return self.times({(): 1.0 / value}, self._arithmetic(left))
            case Op("/", left, right) if left != Number(1):
                return self.times(self._arithmetic(left), self._function(Op("/", Number(1), right)))
            case Op("**", base, Number(power)) if isinstance(power, int) and 1 <= power <= HIGHEST:
                return self.times(*[self._arithmetic(base)] * power)
            case Call("I", (argument,), ()):
                return self._arithmetic(argument)
            case Call(function, (argument, *_), _) if function in CENTRED:
                return _sum(self._arithmetic(argument), {(): ANY}, 1.0)
            case Call("cluster_mean", (argument,), ()):
                return self.mean(self._arithmetic(argument))
            case Call("cluster_sum", (argument,), ()):
                return self.times(
                    self.mean(self._arithmetic(argument)), self._arithmetic(Call("cluster_size", ()))
                )
            case Call("cluster_size", (), ()):
                return {(): ANY} if self.by_cluster else {(Atom("cluster_size()", kind="mean"),): 1.0}
            case Call(function, (argument,), ()) if function == WITHIN:
                inner = self._arithmetic(argument)
                return _sum(inner, self.mean(inner), -1.0)
        return self._function(node)

    def _function(self, node: Node) -> Polynomial:
        """An atom for a function that is not expanded."""
        resolved = self._resolved(node)
        names = frozenset(column_names(resolved))
        if len(names) == 1 and names <= self.linear:
            return self.variable(next(iter(names)))
        if isinstance(node, Call) and node.function in FACTOR and isinstance(resolved, Call):
            resolved = Call("C", resolved.arguments[:1])  # contrasts do not change what a factor contains
        text = write(resolved)
        return {(Atom(text if isinstance(resolved, Call) else f"I({text})", names),): 1.0}


def times(*columns: Polynomial) -> dict[Monomial, float]:
    """The product of polynomials."""
    result: dict[Monomial, float] = {(): 1.0}
    for column in columns:
        made: dict[Monomial, float] = {}
        for (a, x), (b, y) in product(result.items(), column.items()):
            key = tuple(sorted((*a, *b)))
            made[key] = made.get(key, 0.0) + x * y
        result = made
    return result


def contains(span: Sequence[Polynomial], column: Polynomial) -> bool:
    """Whether a column is a linear combination of others, whatever the values of the variables."""
    free = {key for each in span if len(each) == 1 for key, number in each.items() if number}
    column = {key: number for key, number in column.items() if key not in free}
    if not column:
        return True
    span = [{k: v for k, v in each.items() if k not in free} for each in span if len(each) > 1]
    places = {key: j for j, key in enumerate(dict.fromkeys(k for each in (*span, column) for k in each))}
    rows = [*span, column]
    matrix = np.zeros((len(rows), len(places)))
    for i, each in enumerate(rows):
        for key, number in each.items():
            matrix[i, places[key]] = number
    matrix /= np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-300)
    if len(rows) == 1:
        return False
    left = matrix[-1] - matrix[:-1].T @ np.linalg.lstsq(matrix[:-1].T, matrix[-1], rcond=None)[0]
    return bool(np.abs(left).max() < 1e-9)


def lacking(span: Sequence[Polynomial], columns: Iterable[Polynomial]) -> list[Monomial]:
    """The products of atoms that are missing from the span, for columns that are not contained in it."""
    found: dict[Monomial, None] = {}
    for column in columns:
        if not contains(span, column):
            found |= dict.fromkeys(m for m in column if m and not contains(span, {m: 1.0}))
    return list(found)


def _sum(left: Polynomial, right: Polynomial, sign: float) -> Polynomial:
    keys = dict.fromkeys((*left, *right))
    return {key: left.get(key, 0.0) + sign * right.get(key, 0.0) for key in keys}

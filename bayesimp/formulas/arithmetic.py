"""Arithmetic on columns: ``weight / height**2``, ``log(income)``, ``(score > 10)``, ``x - cluster_mean(x)``.

Expressions are read by the formula parser and evaluated by walking its tree; text is never executed. Everything except
`OverCluster` is computed row by row. Anything computed from a missing value, including a comparison, is missing.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

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
    label,
    read,
    replaced,
    walk,
    write,
)
from bayesimp.formulas.terms import CLUSTER, ELEMENTWISE, WITHIN, check_term, possible

__all__ = ["Expression", "Indicator", "OverCluster", "Product", "as_product", "expression",
           "over_clusters", "split_clusters"]  # fmt: skip

ROUND_OFF = 1e-12  # share of the largest value below which the mean of a column is round-off

OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """A function of columns, called with arrays by name. Comparisons give 0 and 1.

    The logarithm of a negative value is NaN and division by 0 infinite, without warnings; the caller checks. source:
    the expression as written, if `node` has other names.
    """

    node: Node
    source: Node | None = None

    def __call__(self, values: Mapping[str, NDArray[np.float64]], *_: object) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            return np.asarray(_compute(self.node, values), dtype=np.float64)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns that it uses, in order of appearance."""
        return tuple(dict.fromkeys(node.name for node in walk(self.node) if isinstance(node, Name)))

    def __str__(self) -> str:
        return write(self.node if self.source is None else self.source)


@dataclass(frozen=True)
class OverCluster:
    """A function of the rows of each row's cluster: `cluster_mean`, `cluster_sum` or `cluster_size`.

    It is called with the values of the rows, their clusters (n,) and, if not all rows count, a mask (n,) of those that
    do. The result is NaN in all rows of a cluster that has NaN in a counted row.
    """

    function: str
    of: Expression | None

    def __call__(
        self,
        values: Mapping[str, NDArray[np.float64]],
        codes: NDArray[np.integer],
        counted: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        if self.of is None:
            return over_clusters(np.ones(len(codes)), codes, sum=True)
        x = np.broadcast_to(self.of(values), codes.shape)
        return over_clusters(x, codes, counted, sum=self.function == "cluster_sum")

    @property
    def names(self) -> tuple[str, ...]:
        """The columns from which it is computed."""
        return () if self.of is None else self.of.names

    def __str__(self) -> str:
        return f"{self.function}({self.of or ''})"


@dataclass(frozen=True)
class Product:
    """The product of columns, as in ``y2:x``."""

    names: tuple[str, ...]

    def __call__(self, values: Mapping[str, NDArray[np.float64]], *_: object) -> NDArray[np.float64]:
        result = values[self.names[0]]
        for name in self.names[1:]:
            result = result * values[name]
        return result

    def __str__(self) -> str:
        return " * ".join(write(Name(name)) for name in self.names)


@dataclass(frozen=True)
class Indicator:
    """Whether a column equals a value: 1 or 0, NaN where it is missing.

    tolerance: allows for the rounding error of values that are rescaled between visits.
    """

    name: str
    value: float
    tolerance: float

    def __call__(self, values: Mapping[str, NDArray[np.float64]], *_: object) -> NDArray[np.float64]:
        x = values[self.name]
        return np.where(np.isnan(x), np.nan, np.abs(x - self.value) < self.tolerance)

    def __str__(self) -> str:
        return f"{write(Name(self.name))} == {self.value:g}"


def expression(source: str | Node, text: str, changing: bool = True) -> Expression:
    """An expression from its text or tree; ``text`` is quoted in messages.

    Parameters
    ----------
    changing
        Whether it is recomputed in every cycle of an imputation; for messages.

    Raises
    ------
    SpecificationError
        The expression is not arithmetic on columns.
    """
    if isinstance(source, str):
        inside = read(f"I({source})", text)  # inside a call, operators are arithmetic
        if not isinstance(inside, Call) or inside.function != "I":
            raise error(text, f"'{source}' is not arithmetic on columns")
        check_term(inside, text)
        source = inside.arguments[0]
    elif not isinstance(source, Op):
        check_term(source, text)
    for node in walk(source):
        if isinstance(node, Level):
            raise error(text, f"'{write(node)}' is not allowed here; make a column of 0 and 1 in the table")
        if isinstance(node, Text):
            raise error(text, "text cannot be used in computations; make a column of 0 and 1 in the table")
        if isinstance(node, Call) and not _is_row_by_row(node):
            why = "changes in every cycle" if changing else "is computed row by row"
            raise error(
                text,
                f"{node.function}() needs all rows or gives several columns, but '{write(source)}' {why}; possible "
                f"functions are {possible(('row', 'cluster'))}",
            )
    return Expression(source)


def split_clusters(given: Expression) -> tuple[Expression, dict[str, OverCluster]]:
    """The expression with a name instead of each cluster mean, sum or size, and name -> these.

    ``within(x)`` is ``x - cluster_mean(x)``, so its mean is one of them.
    """
    found: dict[str, OverCluster] = {}

    def name(node: Node) -> Node | None:
        if not isinstance(node, Call) or node.function not in CLUSTER:
            return None
        if node.function == WITHIN:
            mean = name(Call("cluster_mean", node.arguments))
            return None if mean is None else Op("-", as_product(node.arguments[0]), mean)
        of = Expression(as_product(node.arguments[0])) if node.arguments else None
        found[label(node)] = OverCluster(node.function, of)
        return Name(label(node))

    node = replaced(given.node, name)
    return (Expression(node, given.node) if found else given), found


def over_clusters(
    x: NDArray[np.float64],
    codes: NDArray[np.integer],
    counted: NDArray[np.bool_] | None = None,
    sum: bool = False,
) -> NDArray[np.float64]:
    """Mean or sum (n,) of x over the rows of each row's cluster; NaN if one of these is NaN.

    Parameters
    ----------
    codes
        (n,) cluster of each row, from 0.
    counted
        (n,) rows over which means and sums are taken (all rows in clusters without such rows); None: all.
    """
    m = int(codes.max(initial=-1)) + 1
    there = np.ones(len(codes)) if counted is None else counted.astype(float)
    there[np.bincount(codes, there, m)[codes] == 0] = 1.0
    used, count = np.where(there > 0, x, 0.0), np.maximum(np.bincount(codes, there, m), 1.0)
    total = np.bincount(codes, used, m)
    # columns that are already centred leave only rounding error, which must not become a column
    total[np.abs(total / count) <= ROUND_OFF * np.abs(used[np.isfinite(used)]).max(initial=0.0)] = 0.0
    return (total if sum else total / count)[codes]


def as_product(node: Node) -> Node:
    """``a:b`` as ``a * b``."""
    return replaced(
        node, lambda n: Op("*", n.left, n.right) if isinstance(n, Op) and n.symbol == ":" else None
    )


def _is_row_by_row(node: Call) -> bool:
    name = node.function.removeprefix("np.")
    return name in ELEMENTWISE or node.function in ("I", *CLUSTER)


def _compute(node: Node, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | np.float64:
    match node:
        case Name(name):
            return values[name]
        case Number(value):
            return np.float64(value)
        case Minus(argument):
            return -_compute(argument, values)
        case Op(symbol, left, right):
            a, b = _compute(left, values), _compute(right, values)
            result = np.float64(1) * OPERATORS[symbol](a, b)
            return np.where(np.isnan(a) | np.isnan(b), np.nan, result)  # NaN > 1 is False, NaN**0 is 1
        case Call("I", (argument,), _):
            return _compute(argument, values)
        case Call(function, (argument,), _):
            return getattr(np, function.removeprefix("np."))(_compute(argument, values))
    raise TypeError(node)

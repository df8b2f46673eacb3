"""Arithmetic on columns, row by row: ``weight / height**2``, ``log(income)``, ``(score > 10)``.

Read by the parser of formulas and computed by walking its tree: text is never executed.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.spec.syntax import Call, Minus, Name, Node, Number, Op, Text, error, read, walk, write
from bayesimp.spec.terms import ELEMENTWISE, check_term

__all__ = ["Expression", "Indicator", "Product", "expression"]

OPERATORS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Expression:
    """A function of columns: call it with arrays by name. Comparisons give 0 and 1.

    A logarithm of a negative value is NaN, a division by 0 infinite, without warnings: the caller checks.
    """

    node: Node

    def __call__(self, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            return np.asarray(_compute(self.node, values), dtype=np.float64)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns that it reads, in order of appearance."""
        return tuple(dict.fromkeys(node.name for node in walk(self.node) if isinstance(node, Name)))

    def __str__(self) -> str:
        return write(self.node)


@dataclass(frozen=True)
class Product:
    """The product of columns, as ``y2:x`` means it."""

    names: tuple[str, ...]

    def __call__(self, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        result = values[self.names[0]]
        for name in self.names[1:]:
            result = result * values[name]
        return result

    def __str__(self) -> str:
        return " * ".join(self.names)


@dataclass(frozen=True)
class Indicator:
    """Whether a column has a value: 1, 0, NaN where it is missing.

    tolerance: values are computed with between visits, and come back with round-off.
    """

    name: str
    value: float
    tolerance: float

    def __call__(self, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        x = values[self.name]
        return np.where(np.isnan(x), np.nan, np.abs(x - self.value) < self.tolerance)

    def __str__(self) -> str:
        return f"{self.name} == {self.value:g}"


def expression(source: str | Node, text: str) -> Expression:
    """An expression from its text or tree; ``text`` is quoted in messages.

    Raises
    ------
    SpecificationError
        Not arithmetic on columns.
    """
    if isinstance(source, str):
        inside = read(f"I({source})", text)  # inside a call, operators are arithmetic
        if not isinstance(inside, Call) or inside.function != "I":
            raise error(text, f"'{source}' is not arithmetic on columns")
        check_term(inside, text)
        source = inside.arguments[0]
    else:
        check_term(source, text)
    for node in walk(source):
        if isinstance(node, Text):
            raise error(text, "text cannot be computed with; make a column of 0 and 1 in the table")
        if (
            isinstance(node, Call)
            and node.function != "I"
            and node.function.removeprefix("np.") not in ELEMENTWISE
        ):
            raise error(
                text,
                f"{node.function}() needs all rows or gives several columns, and '{write(source)}' changes in every "
                f"cycle; possible are I and {', '.join(ELEMENTWISE)}",
            )
    return Expression(source)


def _compute(node: Node, values: Mapping[str, NDArray[np.float64]]):
    match node:
        case Name(name):
            return values[name]
        case Number(value):
            return np.float64(value)
        case Minus(argument):
            return -_compute(argument, values)
        case Op(symbol, left, right):
            return np.float64(1) * OPERATORS[symbol](_compute(left, values), _compute(right, values))
        case Call("I", (argument,), _):
            return _compute(argument, values)
        case Call(function, (argument,), _):
            return getattr(np, function.removeprefix("np."))(_compute(argument, values))
    raise TypeError(node)

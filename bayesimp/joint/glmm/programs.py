"""Columns of factors as programs for the kernels (kernels/factors/columns.py), and how they depend on each variable.

A column is independent of a variable, linear in it, or neither; what a missing cell's conditional distribution looks like
follows from that. Functions whose argument could leave their domain are refused before anything is sampled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.formulas.arithmetic import Expression, Indicator, Product
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, PART, Column
from bayesimp.formulas.syntax import Call, Minus, Name, Node, Number, Op, error, write
from bayesimp.kernels.factors.columns import CONSTANT, FUNCTIONS, MEAN, OPERATORS, VARIABLE, Programs
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Compiler", "degree"]

Token = tuple[int, float]
NONLINEAR = 2  # degree of anything that is not linear
LOGARITHMS = ("log", "log2", "log10")


@dataclass
class Compiler:
    """Compiles columns to programs; keeps those requested so far.

    Attributes
    ----------
    data, base
        The table, and the base columns of the formulas.
    variables
        Base columns that programs read, in the order in which kernels keep them.
    means
        Programs of terms averaged over clusters, and whether each is a sum.
    named
        Columns by their names in functions of them.
    """

    data: IncompleteData
    base: BaseColumns
    variables: list[str] = field(default_factory=list)
    means: dict[tuple[tuple[Token, ...], bool], int] = field(default_factory=dict)
    named: dict[str, Column] = field(default_factory=dict)

    def column(self, column: Column, text: str) -> tuple[Token, ...]:
        """The program of a column; ``text`` is the formula, for messages."""
        tokens = self._base(column.base, text)
        if column.function is not None:
            self.named |= {f"{PART}{part.name}": part for part in column.parts}
            own = tuple(self._tokens(column.function.node, text))
            return own if column.base == INTERCEPT else (*tokens, *own, _operator("*"))
        for part in column.parts:
            tokens = (*tokens, *self.column(part, text), _operator("*"))
        if column.within:
            return (*tokens, (MEAN, float(self._mean(tokens, False))), _operator("-"))
        if column.over is None:
            return tokens
        inner = self._product(column.over, text)
        mean = (MEAN, float(self._mean(inner, column.sum)))
        return (mean,) if column.base == INTERCEPT else (*tokens, mean, _operator("*"))

    def register(self, name: str) -> int:
        """Position of a base column among the variables."""
        if name not in self.variables:
            self.variables.append(name)
        return self.variables.index(name)

    def _mean(self, tokens: tuple[Token, ...], sum: bool) -> int:
        return self.means.setdefault((tokens, sum), len(self.means))

    def _product(self, names: Sequence[str], text: str) -> tuple[Token, ...]:
        factors = [self._base(name, text) for name in names if name != INTERCEPT]
        if not factors:
            return ((CONSTANT, 1.0),)
        tokens = factors[0]
        for factor in factors[1:]:
            tokens = (*tokens, *factor, _operator("*"))
        return tokens

    def _base(self, name: str, text: str) -> tuple[Token, ...]:
        if name == INTERCEPT:
            return ((CONSTANT, 1.0),)
        derived = self.base.derived.get(name)
        if derived is None:
            return ((VARIABLE, float(self.register(name))),)
        evaluate = derived.evaluate
        match evaluate:
            case Product():
                return self._product(evaluate.names, text)
            case Indicator():
                return (
                    *self._base(evaluate.name, text), (CONSTANT, evaluate.value), _operator("-"), _function("abs"),
                    (CONSTANT, evaluate.tolerance), _operator("<"),
                )  # fmt: skip
            case Expression():
                return tuple(self._tokens(evaluate.node, text))
        raise SpecificationError(f"Formula '{text}': '{name}' cannot be a column of a joint GLMM.")

    def _tokens(self, node: Node, text: str) -> Iterator[Token]:
        match node:
            case Name(name) if name in self.named:
                yield from self.column(self.named[name], text)
            case Name(name):
                yield from self._base(name, text)
            case Number(value):
                yield CONSTANT, float(value)
            case Minus(argument):
                yield from self._tokens(argument, text)
                yield _function("minus")
            case Op(symbol, left, right):
                self._check_operator(node, text)
                yield from self._tokens(left, text)
                yield from self._tokens(right, text)
                yield _operator(symbol)
            case Call("I", (argument,), _):
                yield from self._tokens(argument, text)
            case Call(function, (argument,), _):
                name = function.removeprefix("np.")
                self._check_function(name, node, argument, text)
                yield from self._tokens(argument, text)
                yield _function(name)
            case _:
                raise SpecificationError(
                    f"Formula '{text}': '{write(node)}' cannot be a column of a joint GLMM."
                )

    def _check_operator(self, node: Op, text: str) -> None:
        """Refuse quotients and powers of incomplete terms that may be 0 or negative."""
        if node.symbol == "/" and self._moves(node.right) and not self._above(node.right, 0.0):
            raise self._outside(node, text, "may be divided by 0")
        if node.symbol != "**":
            return
        if self._moves(node.right):
            if not self._above(node.left, 0.0):
                raise self._outside(
                    node, text, "has an imputed exponent of a number that may be 0 or negative"
                )
        elif self._moves(node.left):
            power = node.right.value if isinstance(node.right, Number) else -1.0
            whole = power >= 0 and float(power).is_integer()
            if not whole and not self._above(node.left, 0.0, or_equal=power > 0):
                raise self._outside(
                    node, text, f"has no value {'below 0' if power > 0 else 'at 0 and below'}"
                )

    def _check_function(self, name: str, node: Call, argument: Node, text: str) -> None:
        if not self._moves(argument):
            return
        if name in LOGARITHMS and not self._above(argument, 0.0):
            raise self._outside(node, text, "has no value at 0 and below")
        if name == "log1p" and not self._above(argument, -1.0):
            raise self._outside(node, text, "has no value at -1 and below")
        if name == "sqrt" and not self._above(argument, 0.0, or_equal=True):
            raise self._outside(node, text, "has no value below 0")

    def _moves(self, node: Node) -> bool:
        return any(self._roots(name) for name in _names(node))

    def _roots(self, name: str) -> frozenset[str]:
        """The incomplete variables behind a name in an expression."""
        if name not in self.named:
            return self.base.roots(name)
        column = self.named[name]
        return frozenset().union(*(self.base.roots(inner) for inner in (column.base, *(column.over or ()))))

    def _above(self, node: Node, bound: float, or_equal: bool = False) -> bool:
        """Whether every value that can be imputed is above a bound, or equal to it if `or_equal`."""
        least = self._least(node)
        if least is None:
            return False
        value, open = least
        return value > bound or (value == bound and (open or or_equal))

    def _least(self, node: Node) -> tuple[float, bool] | None:
        """A lower bound of all values, and whether none equals it; None: no bound is known."""
        match node:
            case Number(value):
                return float(value), False
            case Name(name):
                return self._least_of_variable(name)
            case Op(symbol, left, right):
                return _least_of_two(symbol, self._least(left), self._least(right), right)
            case Call("I", (argument,), _):
                return self._least(argument)
            case Call(function, (argument,), _):
                name, least = function.removeprefix("np."), self._least(argument)
                if name == "abs":
                    return least if least is not None and least[0] >= 0 else (0.0, False)
                if name in ("exp", "expm1"):
                    return (0.0 if name == "exp" else -1.0), True
                if name in ("sqrt", "log1p") and least is not None and least[0] >= 0:
                    return 0.0, least > (0.0, False)
        return None

    def _least_of_variable(self, name: str) -> tuple[float, bool] | None:
        if name in self.named:  # a mean, or a sum of one or more numbers, is above what all of them are above
            over = [inner for inner in self.named[name].over or () if inner != INTERCEPT]
            least = self._least_of_variable(over[0]) if len(over) == 1 else None
            return least if least is None or least[0] >= 0 or not self.named[name].sum else None
        if name not in self.base.incomplete:
            known = self.base.complete.get(name)
            return None if known is None else (float(np.min(known)), False)
        family = self.data.variable(name).distribution
        if family.support.is_positive:
            return 0.0, True
        if family.is_coded:
            return float(self.data.level_values(name).min()), False
        return (0.0, False) if family.is_count else None

    def _outside(self, node: Node, text: str, why: str) -> SpecificationError:
        names = sorted({root for name in _names(node) for root in self._roots(name)})
        name, written = names[0], re.sub(f"`{PART}([^`]*)`", r"\1", write(node))
        centred = [
            self.named[own].name for own in _names(node) if own in self.named and self.named[own].within
        ]
        if centred:
            raise error(
                text,
                f"'{written}' {why}, and '{centred[0]}' can have such values; use a function that has a value "
                f"everywhere, such as I({centred[0]}**2) or abs({centred[0]})",
            )
        cure = (
            f"Put {written} into the table as a column and impute that, or declare a family without them "
            f"(families={{'{name}': 'lognormal'}} or 'gamma' for positive numbers)."
            if self._least_of_variable(name) is None
            else f"Add a number that keeps it inside, as in log({write(Name(name))} + 1), or put {written} into the "
            "table as a column and impute that."
        )
        return SpecificationError(
            f"Formula '{text}': '{written}' {why}, and '{name}' is imputed as {self.data.families[name]}, which can have "
            f"such values. {cure}"
        )

    def programs(self, columns: Sequence[tuple[Token, ...]]) -> Programs:
        """Programs concatenated."""
        tokens = [token for column in columns for token in column]
        start = np.concatenate([[0], np.cumsum([len(column) for column in columns])])
        return Programs(
            np.array([code for code, _ in tokens], dtype=np.int64),
            np.array([argument for _, argument in tokens], dtype=np.float64),
            start.astype(np.int64),
        )

    @property
    def averaged(self) -> list[tuple[Token, ...]]:
        """Programs of the means, in order."""
        return [tokens for tokens, _ in self.means]


def degree(tokens: Sequence[Token], variable: int, of_mean: Callable[[int], int]) -> int:
    """0 if a column does not depend on a variable, 1 if it is linear in it, otherwise `NONLINEAR`.

    of_mean: degree of a mean over the cluster.
    """
    stack: list[int] = []
    for code, argument in tokens:
        if code == VARIABLE:
            stack.append(int(argument == variable))
        elif code == CONSTANT:
            stack.append(0)
        elif code == MEAN:
            stack.append(of_mean(int(argument)))
        elif code in OPERATORS.values():
            b, a = stack.pop(), stack.pop()
            stack.append(_combined(code, a, b))
        else:
            a = stack.pop()
            stack.append(a if a == 0 or code == FUNCTIONS["minus"] else NONLINEAR)
    return stack[0]


def _combined(code: int, a: int, b: int) -> int:
    if code in (OPERATORS["+"], OPERATORS["-"]):
        return max(a, b)
    if code == OPERATORS["*"]:
        return min(a + b, NONLINEAR)
    if code == OPERATORS["/"] and b == 0:
        return a
    return NONLINEAR if a or b else 0


def _least_of_two(
    symbol: str, a: tuple[float, bool] | None, b: tuple[float, bool] | None, right: Node
) -> tuple[float, bool] | None:
    """The lower bound of a result (see `Compiler._least`) from those of both operands."""
    zero = (0.0, False)
    if symbol == "**":
        if a is not None and a > zero:
            return 0.0, True
        even = isinstance(right, Number) and right.value > 0 and right.value % 2 == 0
        return zero if even or (a is not None and a >= zero) else None
    if symbol == "-" and a is not None and isinstance(right, Number):
        return a[0] - right.value, a[1]
    if a is None or b is None:
        return None
    if symbol == "+":
        return a[0] + b[0], a[1] or b[1]
    if symbol in "*/" and a >= zero and b >= zero:
        if symbol == "/":
            return (0.0, a > zero) if b > zero else None
        return a[0] * b[0], (a[1] and b > zero) or (b[1] and a > zero)
    return None


def _operator(symbol: str) -> Token:
    return OPERATORS[symbol], 0.0


def _function(name: str) -> Token:
    return FUNCTIONS[name], 0.0


def _names(node: Node) -> Iterator[str]:
    from bayesimp.formulas.syntax import walk

    return (inner.name for inner in walk(node) if isinstance(inner, Name))

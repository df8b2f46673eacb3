"""Columns of a joint GLMM on PyTensor variables: symbolic execution of the programs that kernels run.

Both samplers read one definition of the columns, `bayesimp.kernels.factors.columns`. A column of complete variables
stays an array of numbers and adds no node to the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from bayesimp.kernels.factors.columns import CONSTANT, FUNCTIONS, MEAN, OPERATORS, VARIABLE, Programs

__all__ = ["Column", "column"]

Column = Any  # (n,) numbers: an array if they are known, a variable if they belong to the model


def column(
    programs: Programs, t: int, variable: Callable[[int], Column], mean: Callable[[int], Column]
) -> Column:
    """Column t in some rows.

    Parameters
    ----------
    programs
        In reverse Polish notation; see `bayesimp.kernels.factors.columns`.
    t
        Number of the column.
    variable, mean
        Functions from the number of a variable, or of a mean over clusters, to its values (n,) in these rows.
    """
    stack: list = []
    for at in range(programs.start[t], programs.start[t + 1]):
        code, argument = int(programs.code[at]), float(programs.argument[at])
        if code == VARIABLE:
            stack.append(variable(int(argument)))
        elif code == CONSTANT:
            stack.append(np.float64(argument))
        elif code == MEAN:
            stack.append(mean(int(argument)))
        elif code in BINARY:
            b, a = stack.pop(), stack.pop()
            stack.append(_applied(BINARY[code], a, b))
        else:
            stack.append(_applied(UNARY[code], stack.pop()))
    return stack[0]


def _applied(pair: tuple[Any, Any], *arguments: Column) -> Column:
    """A function of arrays, or of PyTensor variables if at least one argument is a variable."""
    of_numbers, of_variables = pair
    if any(isinstance(a, Variable) for a in arguments):
        return of_variables(*(pt.as_tensor_variable(a) for a in arguments))
    with np.errstate(all="ignore"):
        return np.asarray(of_numbers(*arguments), dtype=float)


def _power(a: Column, b: Column) -> Column:
    square = isinstance(b, np.float64) and b == 2.0
    return a * a if square else np.power(a, b)


def _symbolic_power(a: Column, b: Column) -> Column:
    constant = getattr(b, "data", None)
    return a * a if constant is not None and np.ndim(constant) == 0 and constant == 2.0 else a**b


def _as_number(compare: Callable) -> Callable:
    return lambda a, b: pt.cast(compare(a, b), "float64")


BINARY: dict[int, tuple[Any, Any]] = {OPERATORS[symbol]: pair for symbol, pair in {
    "+": (np.add, pt.add), "-": (np.subtract, pt.sub), "*": (np.multiply, pt.mul), "/": (np.divide, pt.true_div),
    "**": (_power, _symbolic_power), "==": (np.equal, _as_number(pt.eq)), "!=": (np.not_equal, _as_number(pt.neq)),
    "<": (np.less, _as_number(pt.lt)), "<=": (np.less_equal, _as_number(pt.le)),
    ">": (np.greater, _as_number(pt.gt)), ">=": (np.greater_equal, _as_number(pt.ge)),
}.items()}  # fmt: skip
UNARY: dict[int, tuple[Any, Any]] = {FUNCTIONS[name]: pair for name, pair in {
    "minus": (np.negative, pt.neg), "log": (np.log, pt.log), "log1p": (np.log1p, pt.log1p),
    "log2": (np.log2, pt.log2), "log10": (np.log10, pt.log10), "exp": (np.exp, pt.exp),
    "expm1": (np.expm1, pt.expm1), "sqrt": (np.sqrt, pt.sqrt), "abs": (np.abs, pt.abs),
}.items()}  # fmt: skip

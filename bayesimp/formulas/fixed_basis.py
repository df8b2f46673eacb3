"""Columns that depend on all rows, such as ``bs(x, df=4)`` and ``scale(x)``, of a variable that is imputed.

What they depend on (mean, sd, knots) comes from the values of the argument that are observed, so each column is one
function of x, the same whatever is imputed. On an interval without knots it is a polynomial, so with u = (x - a) / h and
knots kappa_k, for degree d,

    b(x) = sum_{j <= d'} c_j u^j  +  sum_k e_k (u - kappa_k)_+^d,        (t)_+ = (t + |t|) / 2

    center, scale, standardize      d' = 1, no knots
    poly                            d' = its degree, no knots
    bs                              d' = d, its inner knots: beyond the outer ones the outermost polynomials go on
    cr                              d' = 1, d = 3, all its knots: beyond the outer ones it is linear

(the truncated power basis: de Boor 2001, A Practical Guide to Splines, chapter VIII). c and e are those with which the
function equals the columns that the package formulae makes; if there are none, the term is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.formulas.arithmetic import Expression
from bayesimp.formulas.syntax import Call, Minus, Name, Node, Number, Op, replaced, write

__all__ = ["fixed_basis"]

Array = NDArray[np.float64]
OPTIONS = {  # further arguments, in order
    "poly": ("degree", "raw"),
    "bs": ("df", "knots", "degree", "intercept", "lower_bound", "upper_bound", "center"),
    "cr": ("df", "knots", "lower_bound", "upper_bound", "center"),
}
LINEAR = ("center", "scale", "standardize")
CLOSE = 1e-7  # largest difference from the columns of formulae, as a share of the largest number


def fixed_basis(atom: Call, x: Array, text: str) -> list[tuple[Node, Expression]]:
    """The columns of a term as functions of its argument: the term of each, ``bs(x, df=4)[0]``, and the function.

    Parameters
    ----------
    atom
        A call of a function that needs all rows.
    x
        (n,) the observed values of its argument.
    text
        The formula, for messages.

    Raises
    ------
    SpecificationError
        formulae cannot build the term from these values; or its columns are no such functions: ``cc``, ``tp``, a spline
        with coinciding knots or of degree 0.
    """
    x = np.sort(x)  # so that nothing depends on the order of the rows
    if atom.function not in (*LINEAR, *OPTIONS):
        raise SpecificationError(
            f"Formula {text!r}: '{write(atom)}' of a variable that is imputed cannot be computed row by row; use "
            f"{' or '.join(OPTIONS)}."
        )
    if not len(x) or not x[0] < x[-1]:
        raise SpecificationError(
            f"Formula {text!r}: '{write(atom)}' needs at least two different observed values; there are "
            f"{len(np.unique(x))}. Leave the term out."
        )
    a, h = float(x[0]), float(x[-1] - x[0])
    points = np.linspace(-0.5, 1.5, 401)
    columns, nodes = _by_formulae(atom, x, a + h * points, text)
    for powers, degree, knots in _forms(atom, x, len(nodes)):
        kappa = (knots - a) / h
        T = np.column_stack([_powers(points, powers), _truncated(points, degree, kappa)])
        weights = np.linalg.lstsq(T, columns, rcond=None)[0]
        if np.abs(T @ weights - columns).max() <= CLOSE * np.abs(columns).max():
            u = Op("/", Op("-", atom.arguments[0], _number(a)), _number(h))
            made = [_written(u, w[: powers + 1], degree, kappa, w[powers + 1 :]) for w in weights.T]
            return [(node, Expression(own, node)) for node, own in zip(nodes, made, strict=True)]
    raise SpecificationError(
        f"Formula {text!r}: '{write(atom)}' of a variable that is imputed cannot be computed row by row: knots coincide, "
        "or its degree is 0. Use a smaller df, or poly."
    )


def _by_formulae(atom: Call, x: Array, points: Array, text: str) -> tuple[Array, list[Node]]:
    """The term's columns at some points, as they are determined by the values x, and the term of each."""
    from bayesimp.formulas.by_formulae import by_formulae  # loads formulae

    argument = atom.arguments[0]
    own = Call(atom.function, (Name("x"), *atom.arguments[1:]), atom.keywords)
    frame = pd.DataFrame({"x": np.concatenate([x, points])})
    counted = np.arange(len(frame)) < len(x)
    matrix, nodes = by_formulae([("+", Number(0)), ("+", own)], frame, text, write(atom), counted)
    back = [replaced(node, lambda n: argument if n == Name("x") else None) for node in nodes]
    return matrix[~counted], back


def _forms(atom: Call, x: Array, columns: int) -> Iterator[tuple[int, int, Array]]:
    """d', d and the knots that the term may have: with and without the column that centring takes away."""
    given = dict(zip(OPTIONS.get(atom.function, ()), atom.arguments[1:], strict=False)) | dict(atom.keywords)
    none = np.empty(0)
    if atom.function in LINEAR:
        yield 1, 1, none
    elif atom.function == "poly":
        yield columns, 1, none
    elif atom.function == "bs":
        degree = int(_value(given.get("degree"), 3))
        for inner in (columns - degree, columns - degree - 1):
            if inner >= 0 and degree > 0:
                yield degree, degree, np.percentile(x, 100 * np.linspace(0, 1, inner + 2)[1:-1])
    else:
        ends = [_value(given.get(f"{side}_bound"), end) for side, end in (("lower", x[0]), ("upper", x[-1]))]
        there = np.unique(x[(x >= ends[0]) & (x <= ends[1])])
        for inner in (columns - 1, columns - 2):
            if inner >= 0 and len(there):
                between = np.quantile(there, np.linspace(0, 1, inner + 2)[1:-1])
                yield 1, 3, np.concatenate([ends[:1], between, ends[1:]])


def _value(option: Node | None, otherwise: float) -> float:
    match option:
        case Number(value):
            return value
        case Minus(Number(value)):
            return -value
    return otherwise


def _powers(u: Array, most: int) -> Array:
    return u[:, None] ** np.arange(most + 1)


def _truncated(u: Array, degree: int, kappa: Array) -> Array:
    return np.maximum(u[:, None] - kappa, 0.0) ** degree


def _written(u: Node, c: Array, degree: int, kappa: Array, e: Array) -> Node:
    """b as arithmetic on u: the polynomial by Horner's rule, and the truncated powers."""
    polynomial: Node = _number(c[-1])
    for own in c[-2::-1]:
        polynomial = Op("+", _number(own), Op("*", u, polynomial))
    for knot, weight in zip(kappa, e, strict=True):
        t = Op("-", u, _number(knot))
        twice: Node = Op("+", t, Call("abs", (t,)))  # 2 (t)_+
        power = twice if degree == 1 else Op("**", twice, Number(degree))
        polynomial = Op("+", polynomial, Op("*", _number(weight / 2.0**degree), power))
    return polynomial


def _number(value: float) -> Number:
    return Number(float(value))

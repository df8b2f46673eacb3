"""Columns of Z minus the columns they contain: the centre at which priors of Psi are given (priors/centred.py).

A product contains its factors, a power the lower powers, and every column the intercept: its margins M(l). At another
origin of x the column x w becomes x w + c w and x^2 becomes x^2 + 2 c x + c^2; the remainder of a column,
given its margins, stays the same. With g the least-squares fit,

    z_cl = z_l - sum_{j in M(l)} g_jl z_j,    Z_c = Z C,    b = C b_c

For x itself this is x minus its mean. Columns that do not contain each other are left alone, however correlated they are,
so that the order of a formula does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.formulas.columns import INTERCEPT
from bayesimp.formulas.syntax import Call, Minus, Node, Number, Op, Text, read, write

__all__ = ["centred_columns", "margins"]

Array = NDArray[np.float64]


def margins(texts: Sequence[str]) -> list[list[int]]:
    """For each column, as a formula spells it, which others it contains: ``x:sex[M]``, ``I(x**2)``, ``Intercept``."""
    contents = [Counter() if text == INTERCEPT else _contents(read(text)) for text in texts]
    return [[j for j, part in enumerate(contents) if part < whole] for whole in contents]


def _contents(node: Node) -> Counter:
    """How often each factor is in a term; the content of I(...) counts, and I(...) as a whole counts once more."""
    match node:
        case Op(":" | "*" | "/", left, right):
            return _contents(left) + _contents(right)
        case Op("+" | "-", left, right):
            return _contents(left) | _contents(right)
        case Op("**", base, Number(int() as power)):
            return Counter({factor: power * n for factor, n in _contents(base).items()})
        case Minus(argument):
            return _contents(argument)
        case Call("I", (argument,)):
            return _contents(argument) + Counter([write(node)])
        case Number() | Text():
            return Counter()
    return Counter([write(node)])


def centred_columns(
    Z: Array, names: Sequence[str], times: NDArray[np.int64] | None = None
) -> tuple[Array, Array]:
    """Z_c (N, q) and C (q, q) of the module; names (q,), as a formula spells them: `INTERCEPT` is a constant column.

    times (N,): how often each row counts; None: once.
    """
    root = np.ones(len(Z)) if times is None else np.sqrt(times)
    Z_c, C = np.array(Z, dtype=float), np.eye(Z.shape[1])
    inside = margins(names)
    for l in sorted(range(len(names)), key=lambda l: len(inside[l])):
        for j in (j for j in inside[l] if names[j] == INTERCEPT):
            mean = (Z_c[:, l].mean() if times is None else np.average(Z_c[:, l], weights=times)) / Z[0, j]
            Z_c[:, l] -= mean * Z[0, j]
            C[j, l] -= mean
        others = [j for j in inside[l] if names[j] != INTERCEPT]
        if others:
            g = np.linalg.lstsq(root[:, None] * Z_c[:, others], root * Z_c[:, l], rcond=None)[0]
            Z_c[:, l] -= Z_c[:, others] @ g
            C[:, l] -= C[:, others] @ g
    return Z_c, C

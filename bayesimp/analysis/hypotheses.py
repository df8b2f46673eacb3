"""Linear combinations of coefficients, ``"x + 2*z"``, hypotheses, ``"x = z"``, and Satterthwaite's degrees of freedom.

A combination l'beta of a linear mixed model has the variance V = l' cov(beta) l, which depends on the estimated variance
parameters theta. Matching the mean and variance of V to a chi-squared gives (Satterthwaite 1946; Giesbrecht & Burns 1985)

    df = 2 V^2 / var(V),      var(V) = g' Var(theta) g = sum_k (l' spread_k l)^2,      g = dV / d theta

with spread_k from `bayesimp.kernels.lmm.components.covariance_spread`. For r combinations jointly, with cov(L beta) = P
D P' and nu_j the df of row j of P'L (Fai & Cornelius 1996),

    E = sum_j nu_j / (nu_j - 2) over nu_j > 2,      df = 2 E / (E - r) if E > r, else 0
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.formulas.syntax import Minus, Node, Number, Op, label, read
from bayesimp.messages import suggestion
from bayesimp.notation import Array, Matrix, Stack, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["as_texts", "combinations", "hypotheses", "joint_satterthwaite", "satterthwaite"]

QUOTED = re.compile(r"`[^`]*`|\[[^\]]*\]|\"[^\"]*\"")  # parts of a text where "=" belongs to a name


def satterthwaite(cov: Stack, spread: Array, L: Matrix) -> Array:
    """Degrees of freedom (M, r) of L beta, with L (r, k), cov (M, k, k) and spread (M, K, k, k); inf where V is known."""
    V = np.einsum("ra,mab,rb->mr", L, cov, L)
    moves = np.einsum("ra,mkab,rb->mkr", L, spread, L, optimize=True)
    with np.errstate(divide="ignore"):
        return 2 * V**2 / np.sum(moves**2, axis=1)


def joint_satterthwaite(cov: Stack, spread: Array, L: Matrix) -> Vector:
    """Denominator degrees of freedom (M,) of an F test of L beta, with L (r, k) of full rank."""
    out = np.empty(len(cov))
    for t, (C, S) in enumerate(zip(cov, spread, strict=True)):
        rotated = np.linalg.eigh(L @ C @ L.T)[1].T @ L
        nu = satterthwaite(C[None], S[None], rotated)[0]
        if np.isinf(nu).any():
            out[t] = nu.min()
            continue
        E = np.sum(nu[nu > 2] / (nu[nu > 2] - 2))
        out[t] = 2 * E / (E - len(L)) if E > len(L) else 0.0
    return out


def combinations(
    asked: str | Sequence[str] | Mapping[str, str], fits: Fits
) -> tuple[tuple[str, ...], Matrix]:
    """Labels and L (r, k) of combinations such as ``"x - z"``.

    Raises
    ------
    SpecificationError
        A text is not a linear combination of the coefficients.
    """
    named = {text: text for text in as_texts(asked)} if not isinstance(asked, Mapping) else dict(asked)
    rows = []
    for text in as_texts(list(named.values())):
        if len(_sides(text)) > 1:
            raise SpecificationError(
                f"{text!r} is a hypothesis: use fits.test({text!r}). A contrast has no '='."
            )
        row, constant = _linear(read(text), text, fits.names)
        if constant:
            raise SpecificationError(f"{text!r}: a contrast has no constant; remove {constant:g}.")
        rows.append(row)
    if not rows:
        raise SpecificationError("no combination was given. Write, for example, fits.contrasts('x - z').")
    return tuple(named), np.array(rows)


def hypotheses(asked: str | Sequence[str], fits: Fits) -> tuple[tuple[str, ...], Matrix, Vector]:
    """Labels, L (r, k) and values (r,) of hypotheses L beta = values, such as ``"x + z = 1"``; without ``=``, values 0.

    Raises
    ------
    SpecificationError
        A text is not a linear hypothesis, or hypotheses follow from or contradict each other.
    """
    texts = as_texts(asked)
    rows, values = [], []
    for text in texts:
        sides = _sides(text)
        if len(sides) > 2:
            raise SpecificationError(f"{text!r}: a hypothesis has one '='; give several as a list.")
        left, constant = _linear(read(sides[0]), text, fits.names)
        right, other = _linear(read(sides[1]), text, fits.names) if len(sides) == 2 else (0.0 * left, 0.0)
        rows.append(left - right)
        values.append(other - constant)
    L = np.array(rows).reshape(len(rows), len(fits.names))
    if not len(L) or np.linalg.matrix_rank(L) < len(L):
        listed = ", ".join(map(repr, texts)) or "none"
        raise SpecificationError(
            f"the hypotheses {listed} are not independent: one does not involve the coefficients or follows from the "
            "others."
        )
    return tuple(texts), L, np.array(values)


def as_texts(asked: str | Sequence[str]) -> list[str]:
    """One or several texts as a list.

    Raises
    ------
    SpecificationError
        An entry is not text.
    """
    texts = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, Sequence) else [asked]
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise SpecificationError(
            "a combination of coefficients is a text such as 'x - z', and a hypothesis a text such as 'x = z'; got "
            f"{type(wrong[0]).__name__}."
        )
    return texts


def _sides(text: str) -> list[str]:
    """The texts between the "=" signs."""
    hidden = QUOTED.sub(lambda match: "_" * len(match[0]), text)
    ends = [-1, *(k for k, sign in enumerate(hidden) if sign == "="), len(text)]
    return [text[a + 1 : b] for a, b in pairwise(ends)]


def _linear(node: Node, text: str, names: Sequence[str]) -> tuple[Vector, float]:
    """Coefficients (k,) of the estimates and the constant in an expression tree."""
    if label(node) in names:
        return np.eye(len(names))[list(names).index(label(node))], 0.0
    nothing = np.zeros(len(names))
    match node:
        case Number(value):
            return nothing, float(value)
        case Minus(argument):
            row, constant = _linear(argument, text, names)
            return -row, -constant
        case Op("+" | "-" as symbol, left, right):
            sign = 1.0 if symbol == "+" else -1.0
            (a, c), (b, d) = _linear(left, text, names), _linear(right, text, names)
            return a + sign * b, c + sign * d
        case Op("*" | "/" as symbol, left, right):
            (a, c), (b, d) = _linear(left, text, names), _linear(right, text, names)
            if not b.any() and (symbol == "*" or d != 0):
                factor = d if symbol == "*" else 1 / d
                return factor * a, factor * c
            if not a.any() and symbol == "*":
                return c * b, c * d
            raise SpecificationError(f"{text!r}: '{label(node)}' is not linear in the coefficients.")
    raise SpecificationError(
        f"{text!r}: there is no coefficient '{label(node)}'. {suggestion(label(node), names)}"
    )

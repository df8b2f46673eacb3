"""Design matrices built by the package formulae: interactions of factors, splines, polynomials, functions.

All columns are renamed first, so that formulae cannot misread a name. Importing this module loads formulae (0.6 s),
which most formulas do not need.
"""

from __future__ import annotations

import re
from itertools import combinations, product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from formulae import design_matrices
from formulae.environment import Environment
from formulae.model_description import model_description
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import has_intercept, product_text
from bayesimp.formulas.syntax import (
    Call,
    Level,
    Name,
    Node,
    Number,
    Op,
    Text,
    error,
    label,
    replaced,
    walk,
    write,
)
from bayesimp.formulas.terms import ELEMENTWISE, STATEFUL

if TYPE_CHECKING:
    from formulae.matrices import CommonEffectsMatrix

__all__ = ["by_formulae"]


def by_formulae(
    terms: list[tuple[str, Node]],
    columns: pd.DataFrame,
    whole: str,
    part: str,
    counted: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], list[Node]]:
    """The matrix for the signed terms of a right-hand side, and the term of each column.

    Parameters
    ----------
    columns
        A table with the columns named in the terms.
    whole, part
        The formula and the right-hand side, for messages.
    counted
        (n,) rows that determine the knots of splines, the centre of `center` and the like; None: all rows. The columns
        of the other rows follow from them, beyond the outer knots of a spline by its outermost polynomials.

    Raises
    ------
    SpecificationError
        formulae cannot build a term, or would leave out columns of it.
    """
    used = dict.fromkeys(n.name for _, term in terms for n in walk(term) if isinstance(n, Name))
    ids = {name: f"v{k}_" for k, name in enumerate(used) if name in columns}
    names = {new: name for name, new in ids.items()}
    own = [(sign, replaced(node, lambda n: _renamed(n, ids))) for sign, node in terms]
    _check_texts(own, whole)
    text = " ".join(
        ["1" if has_intercept(own) else "0"]
        + [f"{sign} {product_text(node)}" for sign, node in own if not isinstance(node, Number)]
    )
    if not any(isinstance(n, Call) and n.function in STATEFUL for _, node in own for n in walk(node)):
        counted = None
    try:
        common, matrix = _built(text, columns[list(ids)].set_axis(list(names), axis=1), counted)
    except Exception as problem:
        said = re.sub(r"v\d+_", lambda match: names.get(match[0], match[0]), str(problem))
        raise SpecificationError(
            f"Formula {whole!r}: '{part}' could not be built ({type(problem).__name__}: {said}). "
            "Check the arguments of its functions; for factors, write a*b, or a + a:b in this order."
        ) from problem
    atoms = {label(atom): atom for _, node in own for atom in _atoms(node)}
    nodes = [node for term in common.terms.values() for node in _columns(term, atoms)]
    nodes = [replaced(node, lambda n: _renamed(n, names)) for node in nodes]
    parts = [part for term in common.terms.values() for part in getattr(term, "components", ())]
    factors = {component.name for component in parts if component.kind == "categoric"}
    lacking = [atoms[name] for name in _lacking(model_description(text).common_terms, factors)]
    if lacking or len(nodes) != matrix.shape[1]:
        back = [replaced(node, lambda n: _renamed(n, names)) for node in lacking]
        raise SpecificationError(
            f"Formula {whole!r}: '{part}' has an interaction of factors without the interactions that "
            f"it contains; write {' * '.join(map(write, back)) or 'a * b instead of a:b'}."
        )
    return matrix, nodes


def _built(
    text: str, frame: pd.DataFrame, counted: NDArray[np.bool_] | None
) -> tuple[CommonEffectsMatrix, NDArray[np.float64]]:
    """The terms as formulae builds them, and the matrix of all rows."""
    functions = {name: getattr(np, name) for name in ELEMENTWISE}
    # a closed environment, so that nothing is looked up in a caller's frame
    environment = Environment([{**functions, "np": SimpleNamespace(**functions)}])
    # a logarithm of 0 is reported later, by name
    with np.errstate(all="ignore"):
        if counted is None:
            common = design_matrices(text, frame, na_action="error", env=environment).common
            return common, common.design_matrix.astype(np.float64)
        common = design_matrices(text, frame[counted], na_action="error", env=environment).common
        matrix = np.empty((len(frame), common.design_matrix.shape[1]))
        matrix[counted] = common.design_matrix
        if not counted.all():
            matrix[~counted] = common.evaluate_new_data(frame[~counted]).design_matrix
        return common, matrix


def _renamed(node: Node, names: dict[str, str]) -> Node | None:
    return Name(names[node.name]) if isinstance(node, Name) and node.name in names else None


def _check_texts(terms: list[tuple[str, Node]], whole: str) -> None:
    """Refuse quotation marks in texts, because formulae ends a text at any of them."""
    for node in (n for _, term in terms for n in walk(term)):
        if isinstance(node, Text) and set(node.value) & set("\"'\\"):
            raise error(
                whole,
                f"{write(node)}: a text cannot have quotation marks or backslashes; write c[level] for a level",
            )


def _atoms(node: Node) -> list[Node]:
    """The atoms of a term."""
    if isinstance(node, Op):
        return [*_atoms(node.left), *_atoms(node.right)]
    return [node]


def _columns(term: Any, atoms: dict[str, Node]) -> list[Node]:
    """The columns of a term built by formulae."""
    if term.kind == "intercept":
        return [Name("Intercept")]
    choices = []
    for component in term.components:
        atom, n = atoms[component.name], len(component.name)
        choices.append(
            [atom if text == component.name else Level(atom, text[n + 1 : -1]) for text in component.labels]
        )
    nodes = []
    for first, *rest in product(*choices):
        for other in rest:
            first = Op(":", first, other)
        nodes.append(first)
    return nodes


def _lacking(terms: list, factors: set[str]) -> list[str]:
    """An interaction of three or more factors from which formulae 0.9 would omit columns.

    It does so if the interactions within it are not in the formula.
    """
    sets = [frozenset(p.name for p in getattr(term, "components", ())) & factors for term in terms]
    for names in sets:
        if len(names) > 2 and not all(frozenset(c) in sets for c in combinations(names, len(names) - 1)):
            return sorted(names)
    return []

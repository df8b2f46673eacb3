"""Formulas of conditional models, taken apart into products: ``y1 ~ y2 * x + cluster_mean(y2) + (1 + y2 | study)``.

As in `formula`, with ``cluster_mean(y2)``, ``cluster_mean(x * y2)`` and ``cluster_sum(...)`` besides: the mean or sum
over the rows of the cluster, of the variable completed by the current imputation. And ``within(y2)``, y2 less that mean,
which may have a random slope.
"""

from __future__ import annotations

from dataclasses import dataclass

from bayesimp.spec.formula import Formula, parse
from bayesimp.spec.syntax import Call, Minus, Name, Node, Number, Op, error, read, walk
from bayesimp.spec.terms import FACTOR, STATEFUL

__all__ = ["CLUSTER", "WITHIN", "Part", "Predictors", "over", "predictors"]

CLUSTER = ("cluster_mean", "cluster_sum")
WITHIN = "within"
OF_CLUSTERS = (*CLUSTER, WITHIN)
Term = tuple[Node, ...]


@dataclass(frozen=True)
class Part:
    """Columns of X* or Z*: an intercept or none, and products of names and calls."""

    intercept: bool
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Predictors:
    """A formula with at most one random term."""

    formula: Formula
    fixed: Part
    random: Part | None

    @property
    def text(self) -> str:
        return self.formula.text


def predictors(text: str) -> Predictors:
    """Read the formula of a conditional model; the left side may be empty.

    Raises
    ------
    SpecificationError
        Not a formula, several random terms, or ``||``.
    """
    formula = parse(text, OF_CLUSTERS)
    if len(formula.random) > 1:
        raise error(text, f"{len(formula.random)} random terms; one, (1 + x | cluster), is possible here")
    if formula.independent:
        raise error(text, "|| is not a formula matter here; give Psi the prior priors.Diagonal(...) instead")
    random = _part(formula.random[0].columns, text) if formula.random else None
    for term in random.terms if random else ():
        if any(isinstance(atom, Call) and atom.function in CLUSTER for atom in term):
            raise error(
                text, "a cluster mean is one value by cluster and has no random slope; take it out of (... |"
            )
    return Predictors(formula, _part(formula.fixed, text), random)


def over(atom: Node, text: str) -> tuple[Node, ...]:
    """What `cluster_mean(...)` averages the product of: one column or two; the one that `within(...)` centres.

    A column is a name, or a function of columns: ``log1p(y2)``.

    Raises
    ------
    SpecificationError
        Anything else than a column or ``a * b``.
    """
    assert isinstance(atom, Call)
    match atom.arguments[0]:
        case Op("*", left, right) if atom.function != WITHIN and _is_column(left) and _is_column(right):
            return (left, right)
        case node if _is_column(node):
            return (node,)
    what = "a column" if atom.function == WITHIN else "a column or a product of two"
    raise error(text, f"{atom.function}() takes {what}; make others with derived={{'name': '...'}} first")


def _is_column(node: Node) -> bool:
    return isinstance(node, Name) or (
        isinstance(node, Call) and node.function not in (*STATEFUL, *FACTOR, *OF_CLUSTERS)
    )


def _part(text: str, whole: str) -> Part:
    """Signed sums to products of atoms, each once, in the order of R: as written."""
    terms: dict[frozenset[Node], Term] = {}
    intercept = True
    for sign, node in _signed(read(text)):
        if isinstance(node, Number):
            intercept = (sign == "+") == (node.value == 1)
            continue
        for term in _expand(node):
            if sign == "-":
                terms.pop(frozenset(term), None)
            else:
                terms.setdefault(frozenset(term), term)
    for term in terms.values():
        for atom in term:
            for inner in list(walk(atom))[1:]:
                if isinstance(inner, Call) and inner.function in OF_CLUSTERS:
                    alone = "" if inner.function == WITHIN else f" or in a product (x:{inner.function}(y))"
                    raise error(whole, f"{inner.function}() stands alone{alone}")
    return Part(intercept, tuple(terms.values()))


def _signed(node: Node) -> list[tuple[str, Node]]:
    terms: list[tuple[str, Node]] = []
    while isinstance(node, Op) and node.symbol in ("+", "-"):
        terms.insert(0, ("+" if node.symbol == "+" else "-", node.right))
        node = node.left
    first = ("-", node.argument) if isinstance(node, Minus) else ("+", node)
    return [first, *terms]


def _expand(node: Node) -> list[Term]:
    """Products of atoms: a * b is a + b + a:b, (a + b)**2 all products of up to two."""
    match node:
        case Op("+", left, right):
            return _expand(left) + _expand(right)
        case Op(":", left, right):
            return _cross(_expand(left), _expand(right))
        case Op("*", left, right):
            a, b = _expand(left), _expand(right)
            return a + b + _cross(a, b)
        case Op("**", inner, Number(power)):
            base = _expand(inner)
            result = base
            for _ in range(min(int(power), len(base)) - 1):
                result = result + _cross(result, base)
            return list({frozenset(term): term for term in result}.values())
    return [(node,)]


def _cross(left: list[Term], right: list[Term]) -> list[Term]:
    return [tuple(dict.fromkeys((*a, *b))) for a in left for b in right]

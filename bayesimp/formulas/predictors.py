"""Formulas of conditional models, expanded into products: ``y1 ~ y2 * x + cluster_mean(y2) + (1 + y2 | study)``.

``cluster_mean(y2)``, ``cluster_mean(x * y2)`` and ``cluster_sum(...)`` are the mean or sum, over the rows of the
cluster, of the variable as completed by the current imputation; ``within(y2)`` is y2 minus that mean, and may have a
random slope.

A default formula is edited by ``~ . + x``, ``~ . - x`` and ``~ . + (1 + x | study)``: `Edit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bayesimp.errors import SpecificationError
from bayesimp.formulas.formula import Formula, RandomTerm, parse, signed
from bayesimp.formulas.syntax import (
    Call,
    Dot,
    Level,
    Name,
    Node,
    Number,
    Op,
    error,
    read,
    read_sides,
    walk,
    write,
)
from bayesimp.formulas.terms import CLUSTER as OF_CLUSTERS
from bayesimp.formulas.terms import FACTOR, SEVERAL, STATEFUL, WITHIN

__all__ = [
    "MEANS",
    "Edit",
    "Part",
    "Predictors",
    "addition",
    "edit",
    "larger",
    "over",
    "predictors",
    "terms_of",
    "with_own_line",
]

MEANS = ("cluster_mean", "cluster_sum")
SPLINES = frozenset(SEVERAL) - frozenset(FACTOR)  # functions that give several columns of one variable
Term = tuple[Node, ...]


@dataclass(frozen=True)
class Part:
    """Columns of X* or Z*: an intercept, if there is one, and products of names and calls."""

    intercept: bool
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Predictors:
    """A formula with its parts.

    Attributes
    ----------
    formula
        As it was read.
    fixed, random
        Columns of X* and of the effects of the primary clusters, None without these.
    further
        Random terms of other grouping factors.
    slopes
        Their columns.
    """

    formula: Formula
    fixed: Part
    random: Part | None
    further: tuple[RandomTerm, ...] = ()
    slopes: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        """The formula as written."""
        return self.formula.text

    def contains(self, other: Predictors) -> bool:
        """Whether it has all fixed and random terms of another."""
        further = dict(zip((term.label for term in self.further), self.slopes, strict=True))
        return (
            _is_part_of(other.fixed, self.fixed)
            and _is_part_of(other.random, self.random)
            and all(
                _is_part_of(part, further.get(term.label))
                for term, part in zip(other.further, other.slopes, strict=True)
            )
        )


def _is_part_of(part: Part | None, whole: Part | None) -> bool:
    if part is None or whole is None:
        return part is None
    terms = {frozenset(term) for term in whole.terms}
    return part.intercept <= whole.intercept and terms.issuperset(map(frozenset, part.terms))


def larger(a: Predictors, b: Predictors, response: str) -> Predictors:
    """That of two analyses with the same response which contains the other.

    Raises
    ------
    SpecificationError
        Neither does.
    """
    if a.contains(b) or b.contains(a):
        return a if a.contains(b) else b
    raise SpecificationError(
        f"Two analyses have the response '{response}': '{a.text}' and '{b.text}'. It can have one model only, and "
        "neither contains the other; give one formula with the terms of both."
    )


def several_random(terms: int) -> str:
    """What to say where a model has one random term at most."""
    return (
        f"{terms} random terms; one, (1 + x | cluster), is possible here. Several grouping factors are in "
        "bi.JointNormal(data, 'y1 + y2 ~ x + (1 | school) + (1 | class)'), in bi.JointGLMM, and in conditional models by "
        "'bayes', bi.FCS(data, predictors={'y': '~ x + (1 | school) + (1 | class)'})"
    )


def predictors(
    text: str, cluster: str | None = None, *, of_clusters: bool = False, slopes: bool = False
) -> Predictors:
    """Read the formula of a conditional model; the left side may be empty.

    Parameters
    ----------
    cluster
        Column of the primary clusters, where there may be random terms of other grouping factors; None: one random term
        at most.
    of_clusters
        Whether the response has one value per cluster, and hence effects of other grouping factors at most.
    slopes
        Whether random terms of other grouping factors may have slopes.

    Raises
    ------
    SpecificationError
        The text is not a formula, has ``||``, or random terms that are not possible.
    """
    formula = parse(text)
    if len(formula.random) > 1 and cluster is None:
        raise error(text, several_random(len(formula.random)))
    if formula.independent:
        raise error(text, "|| is not supported; use priors.Diagonal(...) as the prior of Psi")
    primary, further = _by_factor(formula, cluster, of_clusters, slopes)
    random = _part(primary.columns) if primary else None
    for term in random.terms if random else ():
        if any(map(_of_means_alone, term)):
            raise error(
                text,
                "a cluster mean has one value per cluster and cannot have a random slope; remove it from (... |",
            )
    parts = tuple(_part(term.columns) for term in further)
    return Predictors(formula, _part(formula.fixed), random, further, parts)


def _of_means_alone(atom: Node) -> bool:
    """Whether all columns in an atom are averaged over clusters."""
    if isinstance(atom, Call) and atom.function in MEANS:
        return True
    names = Counter(node.name for node in walk(atom) if isinstance(node, Name))
    means = [node for node in walk(atom) if isinstance(node, Call) and node.function in MEANS]
    averaged = Counter(node.name for mean in means for node in walk(mean) if isinstance(node, Name))
    return bool(averaged) and names == averaged


def _by_factor(
    formula: Formula, cluster: str | None, of_clusters: bool, slopes: bool
) -> tuple[RandomTerm | None, tuple[RandomTerm, ...]]:
    """The random term of the primary clusters, or the only one, and those of further grouping factors."""
    if len(formula.random) < 2 and not of_clusters:
        return (formula.random[0] if formula.random else None), ()
    own = [term for term in formula.random if term.names == (cluster,)]
    further = tuple(term for term in formula.random if term not in own)
    if len(own) != 1 and not (of_clusters and not own):
        raise error(
            formula.text,
            f"{len(own)} random terms of '{cluster}', the primary clusters of the data; write one, (1 + x | {cluster}), "
            "and one, (1 | class), for each other grouping factor",
        )
    for term in further:
        if term.columns != "1" and not slopes:
            raise error(
                formula.text,
                f"({term.columns} | {term.group}): random slopes are those of '{cluster}' here, and '{term.label}' has "
                f"an intercept, (1 | {term.group}). bi.JointNormal, bi.JointLatent and bi.JointGLMM have "
                f"slopes of every factor; or make '{term.label}' the primary clusters",
            )
    return (own[0] if own else None), further


@dataclass(frozen=True)
class Edit:
    """Changes to a default formula: ``~ . + x - z + (1 + x | study)``.

    Attributes
    ----------
    terms
        Signed terms besides the dot.
    random
        Random terms with their signs: one of a group takes the place of the default one, or leaves it out.
    """

    text: str
    responses: tuple[str, ...]
    terms: tuple[tuple[str, Node], ...]
    random: tuple[tuple[str, Op], ...] = ()


def edit(text: str) -> Edit | None:
    """The changes that a formula with a dot describes; None for a formula without one.

    Raises
    ------
    SpecificationError
        The dot is not a term of the sum; two random terms of one group.
    """
    left, right = read_sides(text)
    if not any(isinstance(node, Dot) for node in walk(right)):
        return None
    terms = [(sign, node) for sign, node in signed(right) if (sign, node) != ("+", Dot())]
    if any(isinstance(inner, Dot) for _, node in terms for inner in walk(node)):
        raise error(
            text,
            "'.', the default predictors, must be a term of a sum: ~ . + x, ~ . - x, ~ . + (1 + x | cluster)",
        )
    bars = [(sign, node) for sign, node in terms if isinstance(node, Op) and node.symbol in ("|", "||")]
    groups = [(sign, node.right) for sign, node in bars]
    for group in groups:
        if groups.count(group) > 1:
            raise error(text, f"two random terms of {write(group[1])}; write one")
    responses = [node.name for _, node in signed(left) if isinstance(node, Name)] if left else []
    fixed = tuple(term for term in terms if term not in bars)
    return Edit(text.strip(), tuple(responses), fixed, tuple(bars))


def terms_of(node: Node) -> list[Term]:
    """The products of atoms in a term: ``a * b`` is a, b and a:b."""
    return _expand(node)


def addition(terms: Sequence[str], slopes: Sequence[str], random: str, group: str) -> str:
    """Text that adds further terms and random slopes to a formula: ``x:w + (1 + x | school)``.

    Parameters
    ----------
    random
        Columns of the present random part, to which the slopes are added.

    >>> addition(["x:w"], ["x"], "1", "school")
    'x:w + (1 + x | school)'
    """
    return " + ".join([*terms, *([f"({' + '.join([random, *slopes])} | {group})"] if slopes else [])])


def with_own_line(terms: Sequence[str]) -> list[str]:
    """Variables of which added terms contain a multiple themselves, so that a model cannot contain both.

    >>> with_own_line(["bs(w, df=4)", "log(p)", "x:w"])
    ['w']
    """
    calls = [read(term) for term in terms]
    return [
        node.arguments[0].name
        for node in calls
        if isinstance(node, Call) and node.function in SPLINES and isinstance(node.arguments[0], Name)
    ]


def over(atom: Node, text: str) -> tuple[Node, ...]:
    """The one or two columns whose product `cluster_mean(...)` averages, or the one that `within(...)` centres.

    A column is a name, a level ``sex[M]``, a function of columns ``log1p(y2)``, or a product of these, ``x:sex[M]``.

    Raises
    ------
    SpecificationError
        The argument is neither a column nor ``a * b``.
    """
    assert isinstance(atom, Call)
    match atom.arguments[0]:
        case Op("*", left, right) if atom.function != WITHIN and _is_column(left) and _is_column(right):
            return (left, right)
        case node if _is_column(node):
            return (node,)
    what = "a column" if atom.function == WITHIN else "a column or a product of two"
    raise error(text, f"{atom.function}() takes {what}; define others first by derived={{'name': '...'}}")


def _is_column(node: Node) -> bool:
    if isinstance(node, Op):
        return node.symbol == ":" and _is_column(node.left) and _is_column(node.right)
    return isinstance(node, Name | Level) or (
        isinstance(node, Call) and node.function not in (*STATEFUL, *FACTOR, *OF_CLUSTERS)
    )


def _part(text: str) -> Part:
    """The products of atoms in a signed sum, each once, in order of appearance, as in R."""
    terms: dict[frozenset[Node], Term] = {}
    intercept = True
    for sign, node in signed(read(text)):
        if isinstance(node, Number):
            intercept = (sign == "+") == (node.value == 1)
            continue
        for term in _expand(node):
            if sign == "-":
                terms.pop(frozenset(term), None)
            else:
                terms.setdefault(frozenset(term), term)
    return Part(intercept, tuple(terms.values()))


def _expand(node: Node) -> list[Term]:
    """Products of atoms: a * b is a + b + a:b, and (a + b)**2 all products of up to two."""
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

"""Changes to default formulas: ``~ . + x``, ``~ . - x``, ``~ . + (1 + x | study)``.

``.`` stands for the default predictors of a variable. A random term replaces the default one of its group, or joins them;
``- (1 | class)`` leaves that of a further grouping factor out. A predictor is removed with its cluster mean; cluster
means are added in the same way as to a default formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.formula import RandomTerm, has_intercept, signed
from bayesimp.formulas.predictors import MEANS, Edit, Predictors, predictors, terms_of
from bayesimp.formulas.syntax import Call, Name, Node, Number, Op, column_names, error, read, write
from bayesimp.formulas.terms import ELEMENTWISE, FACTOR
from bayesimp.messages import listing

__all__ = ["Given", "edited"]

Term = tuple[Node, ...]


@dataclass(frozen=True)
class Given:
    """The formula of a block.

    Attributes
    ----------
    explicit
        Whether the user wrote the whole formula.
    without
        Cluster means, ``cluster_mean(x)``, that must not be added.
    asked
        Terms that the user added to a default formula.
    """

    formula: Predictors
    explicit: bool
    notes: tuple[str, ...] = ()
    without: tuple[Call, ...] = ()
    asked: tuple[Term, ...] = ()


def edited(
    change: Edit,
    name: str,
    default: Given,
    base: BaseColumns,
    responses: tuple[str, ...],
    every: bool = False,
) -> tuple[Given, set[str], set[str]]:
    """A default formula after a change, the terms to remove that it lacks, and those that were removed.

    Parameters
    ----------
    every
        Whether the change is for all variables. Then a term that contains the response is left out of its formula, as
        is a random term for methods without one.

    Raises
    ------
    SpecificationError
        A term to remove is not there (unless ``every``).
    """
    own = {*responses, *(d for d in base.users if base.roots(d) & set(responses))}
    formula = default.formula.formula
    before = signed(read(formula.fixed))
    terms = {frozenset(t): t for _, node in before if not isinstance(node, Number) for t in terms_of(node)}
    shown = ", ".join(_spelled(term) for term in terms.values())
    made = _Changed(terms)
    for sign, term in _terms(change):
        if every and not own.isdisjoint(n for atom in term for n in column_names(atom)):
            made.skipped += [_spelled(term)] if sign == "+" else []
        else:
            made.take(sign, term)
    if made.absent and not every:
        raise error(
            change.text,
            f"{listing(sorted(made.absent))} cannot be removed: the default predictors of '{name}' are {shown}",
        )
    numbers = [term for term in change.terms if isinstance(term[1], Number)]
    parts = ["1" if has_intercept(numbers or before) else "0", *(_spelled(term) for term in terms.values())]
    cluster = base.data.cluster
    random, skipped = _random(change, formula.random, cluster, own, every)
    skipped = made.skipped + skipped
    left = " + ".join(write(Name(response)) for response in responses)
    notes = (f"{change.text!r} without terms that contain it: {', '.join(skipped)}",) if skipped else ()
    given = Given(
        predictors(f"{left} ~ {' + '.join(parts)}{random}", cluster),
        default.explicit,
        (*default.notes, *notes),
        tuple(made.without),
        tuple(made.asked),
    )
    return given, made.absent, made.lost


@dataclass
class _Changed:
    """Terms during a change, those removed, and those that were not there."""

    terms: dict[frozenset[Node], Term]
    without: list[Call] = field(default_factory=list)
    asked: list[Term] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)

    def take(self, sign: str, term: Term) -> None:
        if sign == "+":
            self.terms.setdefault(frozenset(term), term)
            self.asked.append(term)
        elif key := _stands_for(term, self.terms):
            del self.terms[key]
            self.lost.add(_spelled(term))
        elif len(term) == 1 and isinstance(term[0], Call) and term[0].function in MEANS:
            self.without.append(term[0])
        else:
            self.absent.add(_spelled(term))


def _terms(change: Edit) -> list[tuple[str, Term]]:
    return [(sign, t) for sign, node in change.terms if not isinstance(node, Number) for t in terms_of(node)]


def _stands_for(term: Term, terms: dict[frozenset[Node], Term]) -> frozenset[Node] | None:
    """The default term to which a term refers: the same, or ``log1p(x)`` or ``C(x)`` for x."""
    if frozenset(term) in terms:
        return frozenset(term)
    for key, (first, *rest) in terms.items():
        if not rest and isinstance(first, Call) and first.function in (*ELEMENTWISE, *FACTOR):
            if first.arguments == term:
                return key
    return None


def _random(
    change: Edit, default: Sequence[RandomTerm], cluster: str, own: set[str], every: bool
) -> tuple[str, list[str]]:
    """The random part, and its terms that are left out because they contain the response."""
    if not default and every:  # a method without
        return "", [write(node) for _, node in change.random]
    terms, skipped = {term.group: f"({term.columns} | {term.group})" for term in default}, []
    for sign, bar in change.random:
        group = write(bar.right)
        if sign == "-" and group == write(Name(cluster)):
            raise error(
                change.text,
                "a random term of the clusters cannot be removed; another, + (1 | cluster), takes its place",
            )
        if sign == "-":
            if terms.pop(group, None) is None and not every:
                raise error(
                    change.text, f"{write(bar)} cannot be removed: by default there is no term of {group}"
                )
            continue
        kept = []
        for inner, node in signed(bar.left):
            if not every or own.isdisjoint(column_names(node)):
                kept.append(f"{inner} {write(node)}")
            else:
                skipped.append(write(node))
        columns = " ".join(kept or ["1"]).removeprefix("+ ")
        terms[group] = f"({columns} {bar.symbol} {group})"
    return "".join(f" + {term}" for term in terms.values()), skipped


def _spelled(term: Term) -> str:
    return ":".join(write(atom) if not isinstance(atom, Op) else f"({write(atom)})" for atom in term)

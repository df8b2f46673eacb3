"""Terms of formulas to base columns and columns of X*, Z*.

A term without incomplete variables becomes complete columns, built and named as in `design`; an incomplete variable
is a base column itself; any other term with incomplete variables, ``log(y2)`` or ``y2:gender[M]``, is derived. A
factor in an interaction has all its levels where the term without it is not in the formula (R's rule).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bayesimp.data.derived import read_derived
from bayesimp.data.design import design
from bayesimp.data.generic import varies_within
from bayesimp.data.incomplete import IncompleteData
from bayesimp.data.where import suggestion
from bayesimp.errors import SpecificationError
from bayesimp.spec.arithmetic import Indicator, Product, expression
from bayesimp.spec.conditional import INTERCEPT, Column, Derived, cluster_column
from bayesimp.spec.formula import Formula
from bayesimp.spec.predictors import CLUSTER, WITHIN, Part, over
from bayesimp.spec.syntax import Call, Name, Node, error, walk, write
from bayesimp.spec.terms import FACTOR, STATEFUL

__all__ = ["BaseColumns"]

Array = NDArray[np.float64]


class BaseColumns:
    """The base columns that formulas have asked for so far.

    Parameters
    ----------
    incomplete
        Variables that are imputed.
    idle
        Incomplete variables that are not, and so cannot be used.
    derived
        The user's definitions, column -> expression.
    """

    def __init__(
        self,
        data: IncompleteData,
        incomplete: tuple[str, ...],
        idle: tuple[str, ...] = (),
        derived: Mapping[str, str] | None = None,
    ) -> None:
        self.data, self.incomplete, self.idle = data, incomplete, idle
        self.complete: dict[str, Array] = {INTERCEPT: np.ones(len(data))}
        self.derived: dict[str, Derived] = read_derived(derived or {}, data)
        self.users = tuple(self.derived)
        self.defaults: tuple[list[str], tuple[str, ...]] | None = None  # kept by `predictor_table`
        self._terms: dict[frozenset[str], str] = {}  # ingredients of a product -> its name
        self._built: dict[str, tuple[str, ...]] = {}  # right-hand side -> names of its columns
        for record in self.derived.values():
            for name in record.ingredients:
                self._ingredient(name, f"{record.name} = {record.evaluate}")

    def columns(self, part: Part, text: str) -> tuple[Column, ...]:
        """Columns of one part of a formula; ``text`` is the formula, for messages."""
        for node in (node for term in part.terms for atom in term for node in walk(atom)):
            if isinstance(node, Name) and node.name not in ("Treatment", "Sum", "True", "False", "None"):
                self._check_name(node.name, text)
        still = [term for term in part.terms if not any(self._moves(atom) for atom in term)]
        names = self._design(["1" if part.intercept else "0", *(_spell(term) for term in still)], text)
        columns = [Column(name, name) for name in names]
        for term in part.terms:
            if term not in still:
                columns += self._moving(term, part, text)
        return tuple(dict.fromkeys(columns))

    def roots(self, name: str) -> frozenset[str]:
        """The incomplete variables behind a base column."""
        if name not in self.derived:
            return frozenset({name} & set(self.incomplete))
        return frozenset().union(*(self.roots(inner) for inner in self.derived[name].ingredients))

    def _moves(self, atom: Node) -> bool:
        """Whether an atom depends on incomplete variables, or on the cluster's rows."""
        if isinstance(atom, Call) and atom.function in (*CLUSTER, WITHIN):
            return True
        names = {node.name for node in walk(atom) if isinstance(node, Name)}
        return not names.isdisjoint(self.incomplete) or not names.isdisjoint(self.derived)

    def _moving(self, term: tuple[Node, ...], part: Part, text: str) -> list[Column]:
        within = [atom for atom in term if isinstance(atom, Call) and atom.function == WITHIN]
        if within:
            return [self._within(within[0], term, text)]
        means = [atom for atom in term if isinstance(atom, Call) and atom.function in CLUSTER]
        others = tuple(atom for atom in term if atom not in means)
        bases = self._product(others, term, part, text) if others else [INTERCEPT]
        if not means:
            return [Column(self._label(base), base) for base in bases]
        if len(means) > 1:
            raise error(text, f"'{_spell(term)}' multiplies two cluster means; one is possible in a term")
        inner = [self._averaged(node, text) for node in over(means[0], text)]
        first, second = (INTERCEPT, *inner)[-2:]
        return [cluster_column(base, (first, second), means[0].function == "cluster_sum") for base in bases]

    def _averaged(self, node: Node, text: str) -> str:
        """The base column of what is averaged, or centred."""
        if isinstance(node, Name):
            self._ingredient(node.name, text)
            return node.name
        (name,) = self._atom(node, True, text)
        return name

    def _within(self, atom: Call, term: tuple[Node, ...], text: str) -> Column:
        if len(term) > 1:
            raise error(text, f"'{_spell(term)}': {WITHIN}() stands alone; it has no products here")
        name = self._averaged(over(atom, text)[0], text)
        if name not in self.derived:
            values = self.complete[name] if name in self.complete else self.data.column_values(name)
            if not varies_within(values, self.data.codes).any():
                raise error(
                    text, f"'{name}' is one value in every cluster, and {WITHIN}({name}) zero; take it out"
                )
        return Column(f"{WITHIN}({name})", name, within=True)

    def _product(self, atoms: tuple[Node, ...], term: tuple[Node, ...], part: Part, text: str) -> list[str]:
        """Base columns of a product of atoms."""
        choices = [self._atom(atom, self._beside(atom, term, part), text) for atom in atoms]
        return [self._times(names) for names in product(*choices)]

    def _beside(self, atom: Node, term: tuple[Node, ...], part: Part) -> bool:
        """Whether the term without this atom is in the formula, so that a factor needs one level less."""
        rest = frozenset(other for other in term if other != atom)
        return rest in {frozenset(other) for other in part.terms} if rest else part.intercept

    def _atom(self, atom: Node, reduced: bool, text: str) -> list[str]:
        """Base columns of one factor of a product."""
        if not self._moves(atom):
            names = self._design(["1" if reduced else "0", write(atom)], text)
            return [name for name in names if name != INTERCEPT]
        factor = atom.arguments[0] if isinstance(atom, Call) and atom.function in FACTOR else atom
        if isinstance(factor, Name) and self.data.families.get(factor.name) in ("ordinal", "categorical"):
            return self._indicators(factor.name, write(atom), reduced)
        if isinstance(atom, Name):
            return [atom.name]
        assert isinstance(atom, Call)
        if atom.function in (*STATEFUL, *FACTOR):
            raise error(text, _advice(atom))
        evaluate = expression(atom, text)
        for name in evaluate.names:
            self._ingredient(name, text)
        name = write(atom, brackets=False)
        self.derived.setdefault(name, Derived(name, evaluate.names, evaluate))
        return [name]

    def _indicators(self, name: str, spelled: str, reduced: bool) -> list[str]:
        """Derived columns of 0 and 1, one for each level of an incomplete factor, without the first if `reduced`."""
        levels, values = self.data.levels(name), self.data.level_values(name)
        tolerance = np.diff(np.sort(values)).min(initial=1.0) / 2
        names = []
        for level, value in list(zip(levels, values, strict=True))[1 if reduced else 0 :]:
            column = f"{spelled}[{level}]"
            self.derived.setdefault(column, Derived(column, (name,), Indicator(name, value, tolerance)))
            names.append(column)
        return names

    def _label(self, base: str) -> str:
        """The name of a column; of a variable with two values that are no numbers, with the second of them."""
        if base not in self.incomplete or self.data.families[base] != "bernoulli":
            return base
        level = self.data.levels(base)[-1]
        return f"{base}[{level}]" if isinstance(level, str) else base

    def _times(self, names: tuple[str, ...]) -> str:
        if len(names) == 1:
            return names[0]
        key = frozenset(names)
        if key not in self._terms:
            name = ":".join(names)
            self._terms[key] = name
            self.derived[name] = Derived(name, names, Product(names))
        return self._terms[key]

    def _design(self, terms: list[str], text: str) -> tuple[str, ...]:
        """Complete columns of a right-hand side, kept under their names."""
        right = " + ".join(terms)
        if right not in self._built:
            formula = Formula(text, (), right)
            made = design(formula, self.data.frame, codes=self.data.codes, labels=self.data.clusters)
            for name, values in zip(made.fixed, made.X.T, strict=True):
                self._keep(name, values, text)
            self._built[right] = made.fixed
        return self._built[right]

    def _keep(self, name: str, values: Array, text: str) -> None:
        known = self.complete.setdefault(name, values)
        if not np.array_equal(known, values):
            raise error(text, f"two different columns have the name '{name}'; rename one in the table")

    def _ingredient(self, name: str, text: str) -> None:
        """Make sure that a column that is computed with is a base column of numbers."""
        self._check_name(name, text)
        if name in self.derived or name in self.complete:
            return
        family, incomplete = self.data.families[name], name in self.incomplete
        number = not _is_text(self.data, name) or (incomplete and family not in ("ordinal", "categorical"))
        if family == "categorical" or not number:
            raise error(
                text,
                f"'{name}' is a factor, with which nothing can be computed; make a column of 0 and 1 for each "
                "level that matters in the table, and use that",
            )
        if not incomplete:
            self.complete[name] = self.data.frame[name].to_numpy(np.float64)

    def _check_name(self, name: str, text: str) -> None:
        if name in self.incomplete or name in self.derived:
            return
        if name == self.data.cluster:
            raise error(text, f"'{name}' is the cluster; write (1 | {name})")
        if name not in self.data.variables:
            known = [*self.data.variables, *self.users]
            raise SpecificationError(
                f"Formula {text!r}: the table has no column '{name}'. {suggestion(name, known)}"
            )
        if name == INTERCEPT:
            raise error(text, f"a column cannot have the name '{INTERCEPT}'; rename it in the table")
        if self.data.families[name] == "none":
            raise error(
                text,
                f"'{name}' has family 'none' ({self.data.frame[name].dtype}) and cannot be a predictor; turn it "
                "into numbers or a category",
            )
        if name in self.idle:
            raise error(
                text,
                f"'{name}' is incomplete and not imputed, so it cannot be a predictor; give it a method or take "
                "it out of the formula",
            )


def _is_text(data: IncompleteData, name: str) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    dtype = data.frame[name].dtype
    return not (is_numeric_dtype(dtype) or is_bool_dtype(dtype))


def _spell(term: tuple[Node, ...]) -> str:
    return ":".join(write(atom) for atom in term)


def _advice(atom: Call) -> str:
    text = write(atom)
    if atom.function in FACTOR:
        return (
            f"'{text}' makes a factor of an incomplete variable that is imputed as a number; declare it: "
            "families={'...': 'categorical'} or 'ordinal'"
        )
    return (
        f"'{text}' depends on all rows, and would mean something else in every cycle; centre and scale the column "
        "in the table, or write powers as I(x**2)"
    )

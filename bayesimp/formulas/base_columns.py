"""From terms of formulas to base columns and columns of X*, Z*.

A term without incomplete variables becomes complete columns, built and named as in `design`; an incomplete variable is
itself a base column; any other term with incomplete variables, such as ``log(y2)`` or ``y2:gender[M]``, is derived. A
factor in an interaction has all its levels if the term without it is not in the formula (R's rule).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.formulas.arithmetic import Expression, Indicator, Product, expression
from bayesimp.formulas.columns import INTERCEPT, PART, Column, Derived, cluster_column
from bayesimp.formulas.design import design
from bayesimp.formulas.fixed_basis import fixed_basis
from bayesimp.formulas.formula import Formula, product_text
from bayesimp.formulas.predictors import MEANS, Part, over
from bayesimp.formulas.syntax import (
    Call,
    Level,
    Name,
    Node,
    Op,
    column_names,
    error,
    label,
    replaced,
    walk,
    write,
)
from bayesimp.formulas.terms import FACTOR, STATEFUL, WITHIN
from bayesimp.messages import listing, suggestion
from bayesimp.table.clusters import varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = ["BaseColumns"]

Array = NDArray[np.float64]


class BaseColumns:
    """The base columns that formulas have needed so far.

    Parameters
    ----------
    incomplete
        Imputed variables.
    idle
        Incomplete variables that are not imputed, so they cannot be used.
    derived
        Columns defined by the user (`read_derived`).
    products
        Whether a term may multiply `within()` by other columns, and several cluster means.
    counted
        (n,) rows that determine the knots of splines, the centre of `center` and the like; None: all.

    Attributes
    ----------
    written
        Name -> spelling of base columns and labels in formulas.
    """

    def __init__(
        self,
        data: IncompleteData,
        incomplete: tuple[str, ...],
        idle: tuple[str, ...] = (),
        derived: Mapping[str, Derived] | None = None,
        *,
        products: bool = False,
        counted: NDArray[np.bool_] | None = None,
    ) -> None:
        self.data, self.incomplete, self.idle, self.products = data, incomplete, idle, products
        self.counted = counted
        self.complete: dict[str, Array] = {INTERCEPT: np.ones(len(data))}
        self.derived: dict[str, Derived] = dict(derived or {})
        self.users = tuple(name for name, record in self.derived.items() if record.column is not None)
        self.written = {name: write(Name(name)) for name in (*incomplete, *self.users)}
        self.defaults: tuple[list[str], tuple[str, ...]] | None = None  # cache of `specification.predictors`
        self._terms: dict[frozenset[str], str] = {}  # ingredients of a product -> its name
        self._built: dict[str, tuple[str, ...]] = {}  # right-hand side -> names of its columns
        for record in self.derived.values():
            for name in record.ingredients:
                self.need(name, f"{record.name} = {record.evaluate}")

    def columns(self, part: Part, text: str) -> tuple[Column, ...]:
        """Columns of one part of a formula; ``text`` is the formula, for messages."""
        for name in (name for term in part.terms for atom in term for name in column_names(atom)):
            self._check_name(name, text)
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
        """Whether an atom depends on incomplete variables or on the cluster's rows."""
        if _over_rows(atom):
            return True
        names = set(column_names(atom))
        return not names.isdisjoint(self.incomplete) or not names.isdisjoint(self.derived)

    def _moving(self, term: tuple[Node, ...], part: Part, text: str) -> list[Column]:
        inside = [atom for atom in term if isinstance(atom, Call) and atom.function in (*MEANS, WITHIN)]
        others = tuple(atom for atom in term if atom not in inside and not _over_rows(atom))
        functions = [self._function(atom, text) for atom in term if atom not in inside and _over_rows(atom)]
        if functions and len(term) == 1:
            return functions
        centred = any(atom.function == WITHIN for atom in inside)
        if centred and len(term) == 1:
            return [self._within(inside[0], text)]
        if (centred or len(inside) > 1) and not self.products:
            raise error(text, _one_by_one(term, centred))
        bases = self._product(others, term, part, text) if others else [INTERCEPT]
        if not (inside or functions):
            return [Column(self._label(base), base) for base in bases]
        if centred or functions or len(inside) > 1:
            parts = functions + [column for atom in inside for column in self._moving((atom,), part, text)]
            return [_product_column(base, parts) for base in bases]
        inner = [self._averaged(node, text) for node in over(inside[0], text)]
        first, second = (INTERCEPT, *inner)[-2:]
        return [cluster_column(base, (first, second), inside[0].function == "cluster_sum") for base in bases]

    def _function(self, atom: Node, text: str) -> Column:
        """The column of a function of cluster means and centred columns, ``I(within(x)**2)``."""
        calls = [
            inner for inner in walk(atom) if isinstance(inner, Call) and inner.function in (*MEANS, WITHIN)
        ]
        if not self.products:
            raise error(text, _by_itself(calls[0], atom))
        if isinstance(atom, Call) and atom.function in STATEFUL:
            what = f"'{write(atom)}': {atom.function}() of a cluster mean or centred column is not possible"
            raise error(text, f"{what}; write powers as I({write(calls[0])}**2)")
        parts = {inner: self._moving((inner,), Part(False, ()), text)[0] for inner in calls}
        node = replaced(atom, lambda n: Name(f"{PART}{parts[n].name}") if n in parts else None)
        evaluate = Expression(expression(node, text).node, atom)
        column = Column(label(atom), INTERCEPT, parts=tuple(dict.fromkeys(parts.values())), function=evaluate)
        for name in column.plain:
            self.need(name, text)
        return column

    def _averaged(self, node: Node, text: str) -> str:
        """The base column that is averaged or centred."""
        if isinstance(node, Op):  # a:b
            if not self._moves(node):
                names = self._design(["0", product_text(node)], text)
                if len(names) > 1:
                    raise error(
                        text, f"'{write(node)}' is {len(names)} columns; name a level, as in x:sex[M]"
                    )
                return names[0]
            return self._times((self._averaged(node.left, text), self._averaged(node.right, text)))
        if isinstance(node, Name):
            if self._is_pair(node.name):
                return self._design(["1", write(node)], text)[-1]
            self.need(node.name, text)
            return node.name
        (name,) = self._atom(node, True, text)
        return name

    def _is_pair(self, name: str) -> bool:
        """Whether a complete column is text or a category with two levels, which count as 0 and 1."""
        complete = name in self.data.variables and name not in (*self.incomplete, *self.idle, *self.derived)
        return complete and _is_text(self.data, name) and self.data.frame[name].nunique() == 2

    def _within(self, atom: Call, text: str) -> Column:
        name = self._averaged(over(atom, text)[0], text)
        if name not in self.derived:
            values = self.complete[name] if name in self.complete else self.data.column_values(name)
            if not varies_within(values, self.data.codes).any():
                raise error(
                    text, f"'{name}' has one value in every cluster, so {WITHIN}({name}) is zero; remove it"
                )
        return Column(f"{WITHIN}({name})", name, within=True)

    def _product(self, atoms: tuple[Node, ...], term: tuple[Node, ...], part: Part, text: str) -> list[str]:
        """Base columns of a product of atoms."""
        choices = [self._atom(atom, self._beside(atom, term, part), text) for atom in atoms]
        return [self._times(names) for names in product(*choices)]

    def _beside(self, atom: Node, term: tuple[Node, ...], part: Part) -> bool:
        """Whether the term without this atom is in the formula, so that a factor needs one level fewer."""
        rest = frozenset(other for other in term if other != atom)
        return rest in {frozenset(other) for other in part.terms} if rest else part.intercept

    def _atom(self, atom: Node, reduced: bool, text: str) -> list[str]:
        """Base columns for one factor of a product."""
        if not self._moves(atom):
            names = self._design(["1" if reduced else "0", write(atom)], text)
            return [name for name in names if name != INTERCEPT]
        if isinstance(atom, Level):
            return [self._level(atom, text)]
        factor = atom.arguments[0] if isinstance(atom, Call) and atom.function in FACTOR else atom
        if isinstance(factor, Name) and self._is_factor(factor.name):
            return self._indicators(factor.name, atom, reduced)
        if isinstance(atom, Name):
            return [atom.name]
        assert isinstance(atom, Call)
        if atom.function in STATEFUL:
            return [self._derive(record, written, text) for record, written in self._fixed(atom, text)]
        if atom.function in FACTOR:
            raise error(text, _advice(atom))
        evaluate = expression(atom, text)
        for name in evaluate.names:
            self.need(name, text)
        return [self._derive(Derived(label(atom), evaluate.names, evaluate), write(atom), text)]

    def _fixed(self, atom: Call, text: str) -> list[tuple[Derived, str]]:
        """The columns of a function of all rows, which are determined by the observed values of its argument."""
        argument = expression(atom.arguments[0], text)
        for name in argument.names:
            self.need(name, text)
        x = argument({name: self._observed(name) for name in argument.names})
        there = np.isfinite(x) if self.counted is None else np.isfinite(x) & self.counted
        return [
            (Derived(label(node), argument.names, evaluate), write(node))
            for node, evaluate in fixed_basis(atom, x[there], text)
        ]

    def _observed(self, name: str) -> Array:
        """(n,) a base column, NaN where anything that it is computed from is missing."""
        if name in self.complete:
            return self.complete[name]
        if name in self.derived:
            record = self.derived[name]
            values = {inner: self._observed(inner) for inner in record.ingredients}
            return np.asarray(record.evaluate(values, self.data.codes, self.counted))
        return self.data.column_values(name)

    def _derive(self, record: Derived, written: str, text: str) -> str:
        """Store the column for a term of a formula."""
        known = self.derived.setdefault(record.name, record)
        if known != record or record.name in (*self.complete, *self.incomplete):
            raise _two_columns(record.name, text)
        self.written[record.name] = written
        return record.name

    def _level(self, atom: Level, text: str) -> str:
        """The base column of one level of an incomplete factor, or one column of a spline or polynomial."""
        if isinstance(atom.factor, Call) and atom.factor.function in STATEFUL:
            made = self._fixed(atom.factor, text)
            for record, written in made:
                if written == write(atom):
                    return self._derive(record, written, text)
            raise error(text, f"'{write(atom)}': its columns are {listing([own for _, own in made], 20)}")
        factor = atom.factor.arguments[0] if isinstance(atom.factor, Call) else atom.factor
        assert isinstance(factor, Name)
        name, levels = factor.name, [str(level) for level in self._levels_of(factor.name)]
        if isinstance(atom.factor, Call) and (
            atom.factor.function not in FACTOR or not self._is_factor(name)
        ):
            raise error(text, _advice(atom.factor))
        if atom.level not in levels:
            what = f"its levels are {listing(levels, 20)}" if levels else "it is a number and has none"
            raise error(text, f"'{write(atom)}' is not a level of '{name}'; {what}")
        if self.data.variable(name).distribution.is_two_valued and atom.level == levels[-1]:
            return name
        return self._indicators(name, atom.factor, False)[levels.index(atom.level)]

    def _levels_of(self, name: str) -> tuple:
        """Levels of an incomplete factor; none if it is a number that is not declared as a factor."""
        coded = name in self.data.families and self.data.variable(name).is_coded
        levels = self.data.levels(name) if coded else ()
        return levels if self._is_factor(name) or all(isinstance(level, str) for level in levels) else ()

    def _is_factor(self, name: str) -> bool:
        """Whether a variable is represented by a 0/1 column for each level."""
        return name in self.data.families and self.data.variable(name).distribution.is_factor

    def _indicators(self, name: str, atom: Node, reduced: bool) -> list[str]:
        """Derived columns of 0 and 1, one for each level of an incomplete factor, without the first if `reduced`."""
        levels, values = self.data.levels(name), self.data.level_values(name)
        tolerance = np.diff(np.sort(values)).min(initial=1.0) / 2
        names = []
        for level, value in list(zip(levels, values, strict=True))[1 if reduced else 0 :]:
            node = Level(atom, str(level))
            record = Derived(label(node), (name,), Indicator(name, value, tolerance))
            names.append(self._derive(record, write(node), write(atom)))
        return names

    def _label(self, base: str) -> str:
        """The name of a column, with the second level if the variable has two values that are not numbers."""
        if base not in self.incomplete or not self.data.variable(base).distribution.is_two_valued:
            return base
        level = self.data.levels(base)[-1]
        if not isinstance(level, str):
            return base
        node = Level(Name(base), level)
        self.written[label(node)] = write(node)
        return label(node)

    def _times(self, names: tuple[str, ...]) -> str:
        if len(names) == 1:
            return names[0]
        key = frozenset(names)
        if key not in self._terms:
            name = ":".join(names)
            self._terms[key] = name
            written = ":".join(self.written.get(n, n) for n in names)
            self._derive(Derived(name, names, Product(names)), written, written)
        return self._terms[key]

    def _design(self, terms: list[str], text: str) -> tuple[str, ...]:
        """Complete columns of a right-hand side, stored under their names."""
        right = " + ".join(terms)
        if right not in self._built:
            formula = Formula(text, (), right)
            made = design(formula, self.data.frame, clusters=self.data.grouping, counted=self.counted)
            for name, values, term in zip(made.fixed, made.X.T, made.terms, strict=True):
                self._keep(name, values, text)
                self.written[name] = term
            self._built[right] = made.fixed
        return self._built[right]

    def _keep(self, name: str, values: Array, text: str) -> None:
        known = self.complete.setdefault(name, values)
        if not np.array_equal(known, values) or name in self.incomplete or name in self.derived:
            raise _two_columns(name, text)

    def need(self, name: str, text: str) -> None:
        """Ensure that a column used in a computation is a numeric base column."""
        self._check_name(name, text)
        if name in self.derived or name in self.complete:
            return
        family, incomplete = self.data.variable(name).distribution, name in self.incomplete
        number = not _is_text(self.data, name) or (incomplete and not family.is_factor)
        if (family.is_factor and not family.is_ordered) or not number:
            raise error(
                text,
                f"'{name}' is a factor and cannot be used in computations; make a column of 0 and 1 for each level "
                "that matters in the table, and use these (in cluster_mean() and within() a level can be named, "
                f"{write(Name(name))}[level])",
            )
        if not incomplete:
            self._keep(name, self.data.frame[name].to_numpy(np.float64), text)
            self.written[name] = write(Name(name))

    def _check_name(self, name: str, text: str) -> None:
        if name in self.incomplete or name in self.derived:
            return
        if name == self.data.cluster:
            raise error(text, f"'{name}' is the cluster; write (1 | {write(Name(name))})")
        if name not in self.data.variables:
            known = [*self.data.variables, *self.users]
            raise SpecificationError(
                f"Formula {text!r}: the table has no column '{name}'. {suggestion(name, known)}"
            )
        if name == INTERCEPT:
            raise error(text, f"a column cannot have the name '{INTERCEPT}'; rename it in the table")
        if not self.data.variable(name).distribution.is_imputable:
            raise error(
                text,
                f"'{name}' has family 'none' ({self.data.frame[name].dtype}) and cannot be a predictor; convert it "
                "into numbers or a category",
            )
        if name in self.idle:
            raise error(
                text,
                f"'{name}' is incomplete and not imputed, so it cannot be a predictor; give it a method or remove "
                "it from the formula",
            )


def _two_columns(name: str, text: str) -> SpecificationError:
    return error(text, f"two different columns have the name '{name}'; rename one in the table")


def _is_text(data: IncompleteData, name: str) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    dtype = data.frame[name].dtype
    return not (is_numeric_dtype(dtype) or is_bool_dtype(dtype))


def _spell(term: tuple[Node, ...]) -> str:
    return ":".join(write(atom) for atom in term)


def _product_column(base: str, parts: list[Column]) -> Column:
    """``base * parts``, in the same order however the term is written."""
    ordered = tuple(sorted(parts, key=lambda part: part.name))
    name = ":".join([*([] if base == INTERCEPT else [base]), *(part.name for part in ordered)])
    return Column(name, base, parts=ordered)


def _over_rows(atom: Node) -> bool:
    """Whether a cluster mean, a cluster sum or a centred column is in an atom."""
    return any(isinstance(node, Call) and node.function in (*MEANS, WITHIN) for node in walk(atom))


def _by_itself(inner: Call, atom: Node) -> str:
    """Why FCS does not take a function of a cluster mean, and what does."""
    alone = "" if inner.function == WITHIN else f" or in a product (x:{inner.function}(y))"
    return (
        f"{inner.function}() must be a term by itself{alone}; for a function of it define a column in bi.FCS: "
        f"derived={{'name': '{write(atom)}'}}. As part of an analysis bi.JointGLMM takes the function as it is"
    )


def _one_by_one(term: tuple[Node, ...], centred: bool) -> str:
    """Why FCS does not take a product, and what does."""
    what = (
        f"'{_spell(term)}': {WITHIN}() must be a term by itself, without products"
        if centred
        else f"'{_spell(term)}' multiplies two cluster means; a term can have one"
    )
    first = next(atom for atom in term if isinstance(atom, Call) and atom.function in (*MEANS, WITHIN))
    return (
        f"{what}. Define a column, derived={{'name': '{write(first)}'}}, and multiply it; as part of an analysis "
        "bi.JointGLMM takes the product as it is"
    )


def _advice(atom: Call) -> str:
    return (
        f"'{write(atom)}' makes a factor of an incomplete variable that is imputed as a number; declare its family, "
        "families={'...': 'categorical'} or 'ordinal'"
    )

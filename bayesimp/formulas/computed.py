"""Columns that are computed before the design matrix of a formula: ``c[level]``, ``cluster_mean(x)`` and the like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.formulas.arithmetic import Expression, as_product, expression, over_clusters
from bayesimp.formulas.syntax import Call, Level, Name, Node, Number, Op, error, label, replaced, walk, write
from bayesimp.formulas.terms import CLUSTER, WITHIN
from bayesimp.messages import listing
from bayesimp.table.clusters import varies_within

__all__ = ["Computed"]

Array = NDArray[np.float64]


class Computed:
    """The columns of a formula, with new names for those that are computed.

    Parameters
    ----------
    columns
        The complete columns named in the formula, n rows.
    text
        The formula, for messages.
    clusters
        (n,) cluster of each row, from 0; None if there are no clusters.
    counted
        (n,) rows over which cluster means, sums and sizes are taken (all rows in clusters without such rows), and that
        determine the knots of splines and the like; None: all.
    bases
        Terms with several columns that are functions of one row, and these (`Formula.bases`).
    """

    def __init__(
        self,
        columns: pd.DataFrame,
        text: str,
        clusters: NDArray[np.integer] | None,
        counted: NDArray[np.bool_] | None = None,
        bases: Sequence[tuple[Call, Sequence[tuple[Node, Expression]]]] = (),
    ) -> None:
        self.columns, self.text, self.clusters, self.counted = columns, text, clusters, counted
        self.bases = dict(bases)
        self._source: dict[str, Node] = {}  # name -> the node that it replaces
        self._known: dict[Node, Node] = {}

    def named(self, node: Node) -> Node:
        """The term with names in place of what is computed here."""
        return replaced(node, self._compute) if any(map(self._is_computed, walk(node))) else node

    def written(self, node: Node) -> Node:
        """The original term."""
        return replaced(node, lambda n: self._source.get(n.name) if isinstance(n, Name) else None)

    def _compute(self, node: Node) -> Node | None:
        if not self._is_computed(node):
            return None
        if node not in self._known:
            if isinstance(node, Level):
                one = self._one_of(node)
                self._known[node] = self._keep(node, self._level(node)) if one is None else one
            elif node in self.bases:
                parts = [self._keep(own, self._of_row(function)) for own, function in self.bases[node]]
                self._known[node] = reduce(lambda left, right: Op("+", left, right), parts)
            else:
                self._known[node] = self._keep(node, self._over_clusters(node))
        return self._known[node]

    def _is_computed(self, node: Node) -> TypeGuard[Level | Call]:
        of_clusters = isinstance(node, Call) and (node.function in CLUSTER or node in self.bases)
        return isinstance(node, Level) or of_clusters

    def _one_of(self, node: Level) -> Node | None:
        """One column of a term in `bases`, which its factor, replaced before, is the sum of."""
        for name in walk(node.factor):
            own = self._source.get(name.name) if isinstance(name, Name) else None
            if isinstance(own, Level) and own.level == node.level and own.factor in self.bases:
                return name
        return None

    def _keep(self, node: Node, values: Array) -> Node:
        """A new column; returns its name."""
        name = f"\0{len(self._source)}"
        while name in self.columns:
            name += "\0"
        self._source[name] = self.written(node)
        self.columns = self.columns.assign(**{name: values})
        return Name(name)

    def _of_row(self, function: Expression) -> Array:
        return function({name: self._number(name, str(function)) for name in function.names})

    def _level(self, node: Level) -> Array:
        """The indicator of one level of a factor, or one column of a term that has several."""
        if not isinstance(node.factor, Name):
            from bayesimp.formulas.by_formulae import by_formulae

            for intercept in (1, 0):  # the first level has a column only without an intercept
                terms: list[tuple[str, Node]] = [("+", Number(intercept)), ("+", node.factor)]
                factor = write(self.written(node.factor))
                matrix, nodes = by_formulae(terms, self.columns, self.text, factor, self.counted)
                if node in nodes:
                    return matrix[:, nodes.index(node)]
            raise self._no_level(node, [n.level for n in nodes if isinstance(n, Level)])
        column = self.columns[node.factor.name]
        levels = _levels(column)
        if levels is None:
            raise error(
                self.text,
                f"'{write(node)}': '{node.factor.name}' is a number; write C({write(node.factor)})[{node.level}]",
            )
        if [str(level) for level in levels].count(node.level) != 1:
            raise self._no_level(node, levels)
        level = next(level for level in levels if str(level) == node.level)
        return (column == level).to_numpy(np.float64)

    def _no_level(self, node: Level, levels: list) -> Exception:
        factor = self.written(node.factor)
        return error(
            self.text,
            f"'{write(factor)}' has no level or column {node.level!r}; it has {listing(levels, 20)}",
        )

    def _over_clusters(self, node: Call) -> Array:
        shown = label(self.written(node))
        if self.clusters is None:
            raise error(
                self.text,
                f"{shown} is over the rows of a cluster, but the formula does not name the cluster; add (1 | cluster) "
                "or, for a model without random effects, cluster='...'",
            )
        if not node.arguments:
            return over_clusters(np.ones(len(self.clusters)), self.clusters, self.counted, sum=True)
        of = expression(as_product(node.arguments[0]), self.text, changing=False)
        x = of({name: self._number(name, shown) for name in of.names})
        if not np.isfinite(x).all():
            raise DataError(
                f"Formula {self.text!r}: '{shown}' has no finite value in "
                f"{int((~np.isfinite(x)).sum()):,} of {len(x):,} rows. Is there a logarithm of 0 or a division by 0?"
            )
        if node.function != WITHIN:
            return over_clusters(x, self.clusters, self.counted, sum=node.function == "cluster_sum")
        if not varies_within(x, self.clusters).any():
            inner = label(self.written(node.arguments[0]))
            raise error(self.text, f"'{inner}' has one value in every cluster, so {shown} is zero; remove it")
        return x - over_clusters(x, self.clusters, self.counted)

    def _number(self, name: str, shown: str) -> Array:
        """A column as numbers; for a factor with two levels, the indicator of the second."""
        column = self.columns[name]
        levels = _levels(column)
        if levels is None:
            return column.to_numpy(np.float64)
        if len(levels) != 2:
            raise error(
                self.text,
                f"{shown}: '{name}' is a factor with {len(levels)} levels; name one of them, "
                f"{write(Level(Name(name), str(levels[-1])))}",
            )
        return (column == levels[1]).to_numpy(np.float64)


def _levels(column: pd.Series) -> list | None:
    """Levels of text and categories; None for numbers."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return None
    return sorted(column.unique())

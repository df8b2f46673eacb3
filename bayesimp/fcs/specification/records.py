"""Records of what FCS fits: base columns, columns computed from them, and blocks in order.

A base column is complete (a column of ``X``), incomplete (an imputed variable) or derived from others, row by row.
`bayesimp.formulas.columns` describes the columns that X* and Z* of a block may contain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.formulas.columns import INTERCEPT, Column, Derived
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.methods import Method
from bayesimp.table.clusters import Clusters

__all__ = [
    "ConditionalModel",
    "Conditionals",
    "formula_text",
    "random_text",
    "summed",
    "text",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ConditionalModel:
    """Variables imputed jointly by one model.

    Attributes
    ----------
    fixed, random
        Columns of X* and Z*, shared by the responses; ``random`` is empty for single-level methods.
    notes
        Default choices and their reasons.
    family
        Family of the responses: ``"normal"``, or that of the single response.
    levels
        Numbers that represent its levels in the base column, in order (`IncompleteData.level_values`); empty for
        numbers.
    trials
        Base column of binomial trials.
    contextual
        Cluster means whose coefficients are shrunk (`bayesimp.priors.Contextual`), each with the bound of its
        coefficient for each response, in the units of the data.
    factors
        Grouping factors, that of the primary clusters first; empty where there are no others.
    groups
        Of the factor in each group of which the response has one value (`Method.group`), if there is one.
    """

    name: str
    responses: tuple[str, ...]
    fixed: tuple[Column, ...]
    random: tuple[Column, ...]
    method: Method
    notes: tuple[str, ...] = ()
    family: str = "normal"
    levels: tuple[float, ...] = ()
    trials: str | None = None
    contextual: tuple[tuple[Column, tuple[float, ...]], ...] = ()
    factors: tuple[GroupingFactor, ...] = ()
    groups: Clusters | None = None

    @property
    def further(self) -> tuple[GroupingFactor, ...]:
        """Grouping factors other than the primary clusters, each with a random intercept."""
        return self.factors[1:]

    @property
    def bounds(self) -> Array:
        """Bounds (p, responses) of contextual effects; inf for other columns."""
        known = dict(self.contextual)
        return np.array([known.get(column, (np.inf,) * len(self.responses)) for column in self.fixed])

    @property
    def predictors(self) -> int:
        """The number r of linear predictors: K - 1 for a categorical variable with K levels, else one per response."""
        return self.distribution.predictors(len(self.levels)) * len(self.responses)

    @property
    def distribution(self) -> Family:
        """The record of its family."""
        return family_of(self.family)


@dataclass(frozen=True)
class Conditionals:
    """All conditional models.

    Attributes
    ----------
    complete, X
        Names of the complete base columns and their values (N, p), with rows as in the table; the first is the
        Intercept, which is 1.
    incomplete
        Imputed variables, in the table's order.
    derived
        Derived columns, in order of computation.
    blocks
        Blocks in the order of visits; a block may occur twice.
    written
        Name of a base column or level -> its spelling in formulas.
    exact
        Imputed columns that hold whole numbers (empty array) or certain values only: levels or, for methods that match,
        the observed values.
    analyses
        Response -> analysis from which its values are drawn (specification/analyses.py).
    drawn
        Blocks whose values are drawn given analyses: those of the responses and of the covariates.
    """

    complete: tuple[str, ...]
    X: Array
    incomplete: tuple[str, ...]
    derived: tuple[Derived, ...]
    blocks: tuple[ConditionalModel, ...]
    exact: Mapping[str, Array] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    analyses: Mapping[str, str] = field(default_factory=dict)
    drawn: tuple[str, ...] = ()


def formula_text(block: ConditionalModel, cluster: str, written: Mapping[str, str] | None = None) -> str:
    """The formula of a block as fitted: ``y1 ~ 1 + y2 + (1 | study)``.

    ``written``: as in `Conditionals`.
    """
    left = " + ".join(write(Name(name)) for name in block.responses)
    return f"{left} ~ {summed(block.fixed, written or {})}{random_text(block, cluster, written or {})}"


def random_text(block: ConditionalModel, cluster: str, written: Mapping[str, str]) -> str:
    """The random part of the formula of a block: `` + (1 | school) + (1 | class)``; empty if it has none."""
    own = f" + ({summed(block.random, written)} | {write(Name(cluster))})" if block.random else ""
    return own + "".join(f" + (1 | {factor.term.group})" for factor in block.further)


def _method(block: ConditionalModel) -> str:
    family = "" if block.distribution.is_normal else f" [{block.family}{_link(block)}]"
    return f"{block.method.name}{family}"


def _link(block: ConditionalModel) -> str:
    several = len(block.distribution.links) > 1
    return f", {block.method.link}" if several else ""


def text(conditionals: Conditionals, cluster: str) -> str:
    """A line for each block and derived column, then the notes, each with the variables that it concerns."""
    blocks = {block.name: block for block in conditionals.blocks}
    methods = {name: _method(block) for name, block in blocks.items()}
    width = max(map(len, methods.values()), default=0)
    written = conditionals.written
    lines = [f"  {methods[name]:<{width}}  {formula_text(b, cluster, written)}" for name, b in blocks.items()]
    for derived in conditionals.derived:
        if derived.column is not None:
            lines.append(f"  {'=':<{width}}  {derived.column} = {derived.evaluate}")
    visits = [block.name for block in conditionals.blocks]
    if len(visits) > 1:
        lines.append(f"  visited in the order {', '.join(visits)}")
    about: dict[str, list[str]] = {}
    for block in blocks.values():
        for note in block.notes:
            about.setdefault(note, []).append(block.name)
    for note, names in about.items():
        who = "all" if len(names) == len(blocks) > 1 else ", ".join(names)
        lines.append(f"  note ({who}): {note}")
    return "\n".join(lines)


def summed(columns: tuple[Column, ...], written: Mapping[str, str]) -> str:
    """Columns as the right-hand side of a formula, with 1 or 0 for the intercept."""
    names = ["1" if column.name == INTERCEPT else _text(column, written) for column in columns]
    return " + ".join(names if "1" in names else ["0", *names])


def _text(column: Column, written: Mapping[str, str]) -> str:
    """A column as written in a formula."""
    if column.name in written or (column.over is None and not column.within):
        return written.get(column.name, column.name)
    base = written.get(column.base, column.base)
    if column.within:
        return f"within({base})"
    inner = " * ".join(written.get(name, name) for name in column.over or () if name != INTERCEPT)
    mean = f"cluster_{'sum' if column.sum else 'mean'}({inner})"
    return mean if column.base == INTERCEPT else f"{base}:{mean}"

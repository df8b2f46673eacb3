"""The factors of a joint GLMM: which variables have one, their order, and their predictors.

    p(y_1, .., y_K | complete variables)  =  prod_k p(y_k | y_1 .. y_k-1, complete variables)

The factor of an analysis's response is the analysis. Every other incomplete variable has a factor too: covariates of
an analysis come before it, all others after it, so the relation that an analysis describes is in no other factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bayesimp import notation as nt
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, Column
from bayesimp.formulas.formula import parse
from bayesimp.formulas.predictors import Predictors, larger, predictors
from bayesimp.joint.glmm.default_formula import default_formula
from bayesimp.joint.glmm.groups import check_level, check_levels, further_groups, levels_by_default
from bayesimp.joint.glmm.order import order_of
from bayesimp.joint.glmm.request import Request
from bayesimp.joint.levels.factors import GroupingFactor
from bayesimp.messages import listing, suggestion
from bayesimp.priors import Priors
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Factor", "made_factor", "read_factors", "read_formula"]


@dataclass(frozen=True)
class Factor:
    """One factor: a multilevel generalised linear model of a response.

    Attributes
    ----------
    response
        Name of the response.
    formula
        Fixed and random terms, as printed.
    is_analysis
        Whether it is one of the user's analyses.
    family_name
        Family of the response, as in `IncompleteData.families`.
    code
        Code of family and link in kernels.
    levels
        Values that the positions 0, 1, .. represent; empty for numbers.
    fixed, random
        Columns of the fixed part, and those with effects of the clusters.
    at_cluster
        Whether the response has a single value in each cluster.
    left_out
        Complete variables left out of the default formula because they are combinations of others where the response is
        observed.
    further
        Columns with effects of each grouping factor besides the clusters; empty where it has none.
    without
        Why the default formula has no effects of a further grouping factor, in words.
    """

    response: str
    formula: str
    is_analysis: bool
    family_name: str
    code: int
    levels: tuple
    fixed: tuple[Column, ...]
    random: tuple[Column, ...]
    at_cluster: bool
    left_out: tuple[str, ...] = ()
    further: tuple[tuple[Column, ...], ...] = ()
    without: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """The record of its family."""
        return family_of(self.family_name)

    @property
    def predictors(self) -> int:
        """r, the number of linear predictors."""
        return self.family.predictors(len(self.levels))

    @property
    def effects(self) -> int:
        """Number of cluster effects."""
        return self.predictors * len(self.random)

    @property
    def by_level(self) -> tuple[tuple[Column, ...], ...]:
        """Columns with effects of the clusters (0), and of the s-th further grouping factor."""
        return self.random, *self.further

    @cached_property
    def grouped(self) -> tuple[Column, ...]:
        """Columns with effects of any grouping factor, each once, those with effects of clusters first."""
        return tuple(dict.fromkeys(column for columns in self.by_level for column in columns))

    @cached_property
    def places(self) -> tuple[list[int], ...]:
        """By level: where its columns are among `grouped`."""
        return tuple([self.grouped.index(column) for column in columns] for columns in self.by_level)

    def has_level(self, level: int) -> bool:
        """Whether it has effects of clusters (0), or of the s-th further grouping factor."""
        return len(self.by_level[level]) > 0

    def effect_names(self, level: int) -> list[str]:
        """Names of its effects at a level: ``"y:Intercept"``, or ``"y[level]:Intercept"`` with a predictor per level."""
        names = [self.response]
        if self.family.predictor_per_level:
            names = [f"{self.response}[{level}]" for level in self.levels[1:]]
        return nt.effect_names(names, [column.name for column in self.by_level[level]])


def read_factors(
    data: IncompleteData, request: Request, priors: Priors
) -> tuple[tuple[Factor, ...], BaseColumns, tuple[GroupingFactor, ...], list[Event]]:
    """All factors in order, the base columns that their formulas use, the grouping factors besides the clusters, and
    events about what their effects rest on.

    Raises
    ------
    SpecificationError
        A formula is invalid or cannot be a factor; formulas form a circle; a name is not a column.
    """
    formulas = _formulas(data, request)
    order = order_of(data, request.order, formulas)
    further = further_groups(data, list(formulas.values()))
    events = _given_levels(data, formulas, order, further, priors)
    left_out: dict[str, tuple[str, ...]] = {}
    without: dict[str, tuple[str, ...]] = {}
    for name in order:
        if name not in formulas:
            levels, notes = levels_by_default(data, name, further, priors)
            without[name] = tuple(notes)
            text, left_out[name] = default_formula(data, name, order, formulas, levels)
            formulas[name] = predictors(text, data.cluster, of_clusters=of_clusters(data, name), slopes=True)
    incomplete = tuple(name for name in order if data.missing(name).any())
    idle = tuple(name for name in data.variables if data.missing(name).any() and name not in incomplete)
    base = BaseColumns(data, incomplete, idle, products=True)
    analyses = {parse(text).responses[0] for text in request.analyses}
    _check_links(data, request.links, order)
    links = dict.fromkeys(order, "") | dict(request.links)
    used = {term.label for name in order for term in formulas[name].further}
    further = tuple(factor for factor in further if factor.label in used)
    factors = (
        replace(
            made_factor(data, name, formulas[name], base, name in analyses, links[name]),
            left_out=left_out.get(name, ()),
            without=without.get(name, ()),
            further=further_columns(data, name, formulas[name], base, further),
        )
        for name in order
    )
    return tuple(factors), base, further, events


def further_columns(
    data: IncompleteData,
    name: str,
    formula: Predictors,
    base: BaseColumns,
    further: Sequence[GroupingFactor],
) -> tuple[tuple[Column, ...], ...]:
    """The columns on which a response has effects of each further grouping factor.

    Raises
    ------
    SpecificationError
        A column has a single value in every group, so that its slope and the intercept are the same effect; or it varies
        within clusters, and the response does not.
    """
    parts = {term.label: part for term, part in zip(formula.further, formula.slopes, strict=True)}
    out = []
    for factor in further:
        part = parts.get(factor.label)
        columns = () if part is None else base.columns(part, formula.text)
        if of_clusters(data, name):
            _check_between(data, formula, columns, base)
        for column in columns:
            values = base.complete.get(column.base)
            if column.base == INTERCEPT or values is None or column.is_over_rows:
                continue
            if not factor.groups.varying(values).any():
                raise SpecificationError(
                    f"'{formula.text}': '{column.name}' has a single value in each '{factor.label}', so its slope cannot "
                    f"vary between them: that is what (1 | {factor.label}) is for. Remove it from (.. | {factor.label})."
                )
        out.append(columns)
    return tuple(out)


def _given_levels(
    data: IncompleteData,
    formulas: Mapping[str, Predictors],
    order: Sequence[str],
    further: Sequence[GroupingFactor],
    priors: Priors,
) -> list[Event]:
    """Check the grouping factors of the user's formulas; events about what rests on the prior."""
    events: dict[Event, None] = {}
    for factor in further:
        check_levels(data, factor, order)
        for name, formula in formulas.items():
            if factor.label not in {term.label for term in formula.further}:
                continue
            try:
                events |= dict.fromkeys(check_level(data, name, factor, priors))
            except (DataError, SpecificationError) as refused:
                raise type(refused)(f"Formula '{formula.text}': {refused}") from None
    return list(events)


def _check_links(data: IncompleteData, links: Mapping[str, str], order: Sequence[str]) -> None:
    for name, link in links.items():
        if name not in order:
            raise SpecificationError(f"links: '{name}' has no factor; {suggestion(name, order)}")
        known = data.variable(name).distribution.links
        if link not in known:
            raise SpecificationError(
                f"links: '{name}' is {data.families[name]}, whose link is {' or '.join(map(repr, known))}, not {link!r}."
            )


def _formulas(data: IncompleteData, request: Request) -> dict[str, Predictors]:
    """Response -> formula given by the user."""
    given: dict[str, Predictors] = {}
    for text in request.analyses:
        name, formula = read_formula(data, text, None, several=True)
        given[name] = larger(given[name], formula, name) if name in given else formula
    for name, text in request.factors.items():
        if name in given:
            raise SpecificationError(
                f"factors: '{name}' is the response of the analysis '{given[name].text}', which already is its factor."
            )
        if name not in data.variables:
            raise SpecificationError(
                f"factors: '{name}' is not a variable. {suggestion(name, data.variables)}"
            )
        given[name] = read_formula(data, text, name, several=True)[1]
    return given


def read_formula(
    data: IncompleteData, text: str, response: str | None, *, several: bool = False
) -> tuple[str, Predictors]:
    """Response and formula of an analysis, or of the factor of a response; several: whether it may have several grouping
    factors.

    Raises
    ------
    SpecificationError
        The formula has no response, several or the wrong one, an unknown column, its response on both sides, or other
        groups.
    """
    left = response or ", ".join(parse(text).responses)
    known = several and left in data.variables and data.variable(left).distribution.is_imputable
    formula = predictors(
        text, data.cluster if several else None, of_clusters=known and of_clusters(data, left), slopes=True
    )
    found = formula.formula.responses
    if response is not None and found and found != (response,):
        raise SpecificationError(
            f"factors: the formula of '{response}', '{text}', has another response, {listing(found)}."
        )
    name = response or (found[0] if len(found) == 1 else "")
    if not name:
        raise SpecificationError(
            f"Analysis '{text}': it needs one response on the left of ~, such as 'y ~ x + (1 | {data.cluster})'; it has "
            f"{len(found) or 'none'}."
        )
    unknown = [v for v in (name, *formula.formula.variables) if v not in data.variables and v != data.cluster]
    if unknown:
        raise SpecificationError(
            f"Formula '{text}': the table has no column '{unknown[0]}'. {suggestion(unknown[0], data.variables)}"
        )
    if name in formula.formula.variables:
        raise SpecificationError(f"Formula '{text}': '{name}' is on both sides of ~; remove it from one.")
    own = [term.label for term in formula.formula.random]
    if formula.random is not None and data.cluster not in own:
        raise SpecificationError(
            f"Formula '{text}' groups by '{own[0]}' but the data by '{data.cluster}'; they must be the same."
            + (f" Or add (1 | {data.cluster})." if own[0] in data.cluster_columns else "")
        )
    return name, formula


def made_factor(
    data: IncompleteData, name: str, formula: Predictors, base: BaseColumns, is_analysis: bool, link: str
) -> Factor:
    """The factor of a response with this formula.

    Raises
    ------
    SpecificationError
        The family has no compiled density, or the formula does not suit a cluster-level variable.
    """
    record = data.variable(name)
    family = family_of(record.family)
    if not family.has_kernel and not family.has_normal_errors:
        raise SpecificationError(
            f"'{name}': the joint model needs a compiled density of its family, and {record.family} has none."
        )
    at_cluster = of_clusters(data, name)
    if at_cluster and family.is_censored:
        raise SpecificationError(
            f"'{name}' is {record.family} and has a single value in each cluster; limits of cluster-level variables are "
            "not supported. Omit it, or write your own PyMC model for it (bi.FromPyMC)."
        )
    if at_cluster and formula.random is not None:
        raise SpecificationError(
            f"'{formula.text}': '{name}' has a single value in each cluster, so its model has no cluster effects; remove "
            "the random part."
        )
    fixed = base.columns(formula.fixed, formula.text)
    random = base.columns(formula.random, formula.text) if formula.random is not None else ()
    if at_cluster:
        _check_between(data, formula, fixed, base)
    levels = record.levels if family.is_coded else ()
    code = family.code(family.link(link))
    return Factor(name, formula.text, is_analysis, record.family, code, levels, fixed, random, at_cluster)


def _check_between(
    data: IncompleteData, formula: Predictors, fixed: tuple[Column, ...], base: BaseColumns
) -> None:
    """Refuse a formula of a cluster-level variable whose columns vary within clusters."""
    for column in fixed:
        names = (
            column.base,
            *column.plain,
            *(name for part in column.parts for name in (part.base, *part.plain)),
        )
        moving = [v for name in names for v in base.roots(name) if not of_clusters(data, v)]
        known = [base.complete[name] for name in names if name in base.complete]
        varies = any(data.grouping.varying(values).any() for values in known)
        if moving or varies or column.is_centred:
            cure = "remove it" if column.is_centred or column.parts else f"write cluster_mean({column.name})"
            raise SpecificationError(
                f"'{formula.text}': the response has a single value in each cluster, but '{column.name}' varies within "
                f"clusters; {cure}."
            )

"""The factors of a joint GLMM: which variables have one, their order, and their predictors.

    p(y_1, .., y_K | complete variables)  =  prod_k p(y_k | y_1 .. y_k-1, complete variables)

The factor of an analysis's response is the analysis. Every other incomplete variable has a factor too: covariates of
an analysis come before it, all others after it, so the relation that an analysis describes is in no other factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.families.record import Family
from bayesimp.families.registry import family_of
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import Column
from bayesimp.formulas.design import TOLERANCE
from bayesimp.formulas.formula import parse
from bayesimp.formulas.predictors import Predictors, predictors
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.glmm.order import order_of
from bayesimp.joint.glmm.request import Request
from bayesimp.messages import listing, suggestion
from bayesimp.table.cluster_level import of_clusters
from bayesimp.table.ids import names_rows
from bayesimp.table.incomplete import IncompleteData

__all__ = ["Factor", "made_factor", "read_factors", "read_formula"]

MOST_LEVELS = 10  # a complete factor with at most this many is a predictor by default


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
        Columns of the fixed and the random part.
    at_cluster
        Whether the response has a single value in each cluster.
    left_out
        Complete variables left out of the default formula because they are combinations of others where the response is
        observed.
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


def read_factors(data: IncompleteData, request: Request) -> tuple[tuple[Factor, ...], BaseColumns]:
    """All factors in order, and the base columns that their formulas use.

    Raises
    ------
    SpecificationError
        A formula is invalid or cannot be a factor; formulas form a circle; a name is not a column.
    """
    formulas = _formulas(data, request)
    order = order_of(data, request.order, formulas)
    left_out: dict[str, tuple[str, ...]] = {}
    for name in order:
        if name not in formulas:
            text, left_out[name] = _default(data, name, order, formulas)
            formulas[name] = predictors(text)
    incomplete = tuple(name for name in order if data.missing(name).any())
    idle = tuple(name for name in data.variables if data.missing(name).any() and name not in incomplete)
    base = BaseColumns(data, incomplete, idle)
    analyses = {parse(text).responses[0] for text in request.analyses}
    _check_links(data, request.links, order)
    links = dict.fromkeys(order, "") | dict(request.links)
    factors = (
        replace(
            made_factor(data, name, formulas[name], base, name in analyses, links[name]),
            left_out=left_out.get(name, ()),
        )
        for name in order
    )
    return tuple(factors), base


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
        name, formula = read_formula(data, text, None)
        if name in given:
            raise SpecificationError(
                f"Two analyses have the response '{name}': '{given[name].text}' and '{text}'. One factor cannot be both; "
                "give the larger one, which contains the other."
            )
        given[name] = formula
    for name, text in request.factors.items():
        if name in given:
            raise SpecificationError(
                f"factors: '{name}' is the response of the analysis '{given[name].text}', which already is its factor."
            )
        if name not in data.variables:
            raise SpecificationError(
                f"factors: '{name}' is not a variable. {suggestion(name, data.variables)}"
            )
        given[name] = read_formula(data, text, name)[1]
    return given


def read_formula(data: IncompleteData, text: str, response: str | None) -> tuple[str, Predictors]:
    """Response and formula of an analysis, or of the factor of a response.

    Raises
    ------
    SpecificationError
        The formula has no response, several or the wrong one, an unknown column, its response on both sides, or other
        groups.
    """
    formula = predictors(text)
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
    group = formula.formula.cluster
    if formula.random is not None and group != data.cluster:
        raise SpecificationError(
            f"Formula '{text}' groups by '{group}' but the data by '{data.cluster}'; they must be the same."
        )
    return name, formula


def _default(
    data: IncompleteData, name: str, order: Sequence[str], formulas: Mapping[str, Predictors]
) -> tuple[str, tuple[str, ...]]:
    """Default formula of a variable, and the complete variables left out as redundant.

    The formula has the complete variables, the responses of earlier factors, and a random intercept.
    """
    at_cluster = of_clusters(data, name)
    used = {v for formula in formulas.values() for v in formula.formula.variables}
    others = [v for v in data.variables if v != name and (not at_cluster or _one_value(data, v))]
    complete = [v for v in others if v not in order and _is_default_predictor(data, v, v in used)]
    # variables of analyses come first, so that they are not the ones left out as redundant
    kept = _independent(data, name, sorted(complete, key=lambda v: v not in used), at_cluster)
    terms = []
    for other in others:
        if other in kept:
            terms.append(write(Name(other)))
        elif other in order and order.index(other) < order.index(name):
            terms.append(_as_predictor(other, data.variable(other).distribution))
    right = " + ".join(terms or ["1"])
    random = "" if at_cluster else f" + (1 | {write(Name(data.cluster))})"
    return f"{write(Name(name))} ~ {right}{random}", tuple(v for v in complete if v not in kept)


def _is_default_predictor(data: IncompleteData, name: str, used: bool) -> bool:
    """Whether a variable is complete, varies, and has few levels; a variable of an analysis only has to vary."""
    record = data.variable(name)
    if record.missing.any() or not record.distribution.is_imputable or data.frame[name].nunique() < 2:
        return False
    few = not record.distribution.is_factor or len(record.levels) <= MOST_LEVELS
    return used or (few and not names_rows(data, name))


def _independent(
    data: IncompleteData, name: str, candidates: Sequence[str], at_cluster: bool
) -> frozenset[str]:
    """Complete variables that are not combinations of the intercept and the variables before them.

    Only rows in which the variable `name` is observed count, one per cluster if it is cluster-level.
    """
    rows = np.flatnonzero(~data.missing(name))
    if at_cluster:
        rows = rows[np.unique(data.codes[rows], return_index=True)[1]]
    basis, kept = np.full((len(rows), 1), max(len(rows), 1) ** -0.5), []
    for candidate in candidates:
        record = data.variable(candidate)
        values = record.values[rows].astype(float)
        if record.is_coded:
            values = (values[:, None] == np.unique(record.values)[1:]).astype(float)
        new = values.reshape(len(values), -1)
        grown = basis
        for column in new.T:
            rest = column / max(np.linalg.norm(column), 1e-300)
            for _ in range(2):
                rest = rest - grown @ (grown.T @ rest)
            left = np.linalg.norm(rest)
            if left <= TOLERANCE or grown.shape[1] == len(rest):
                break
            grown = np.column_stack([grown, rest / left])
        else:
            basis = grown
            kept.append(candidate)
    return frozenset(kept)


def _one_value(data: IncompleteData, name: str) -> bool:
    """Whether a variable has a single value in each cluster, complete or not."""
    record = data.variable(name)
    if not record.distribution.is_imputable:
        return False
    return of_clusters(data, name) or not data.grouping.varying(record.values).any()


def _as_predictor(name: str, family: Family) -> str:
    text = write(Name(name))
    return f"{family.as_predictor}({text})" if family.as_predictor else text


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
        if column.over is not None and column.base == "Intercept":
            continue
        roots = base.roots(column.base)
        moving = [v for v in roots if not of_clusters(data, v)]
        values = base.complete.get(column.base)
        varies = values is not None and data.grouping.varying(values).any()
        if moving or varies or column.within:
            raise SpecificationError(
                f"'{formula.text}': the response has a single value in each cluster, but '{column.name}' varies within "
                f"clusters; write cluster_mean({column.name})."
            )

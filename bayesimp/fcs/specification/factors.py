"""Grouping factors of conditional models besides the primary clusters: which models have them, and are they identified?

    g(E y) = X* beta + Z* b_i + sum_s u_s,g(s),     b_i ~ N(0, Psi),     u_sg ~ N(0, tau_s^2) for the groups g of factor s

Without a formula from the user, a model has a random intercept for every cluster column of the table, unless the method
or the observed values of the variable do not support one, which is noted.
"""

from __future__ import annotations

from collections.abc import Sequence

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.families.registry import family_of
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.formula import Formula, parse
from bayesimp.formulas.predictors import Predictors
from bayesimp.formulas.syntax import Name, write
from bayesimp.joint.levels.factors import GroupingFactor, check_factors, grouping_factors
from bayesimp.methods import Method
from bayesimp.priors import default
from bayesimp.priors import read as read_priors
from bayesimp.table.incomplete import IncompleteData

__all__ = ["block_factors", "check_block_factors", "factors_by_default", "without_factors"]


def without_factors(
    method: Method, responses: Sequence[str], data: IncompleteData, drawn: bool
) -> str | None:
    """Why a model cannot have factors besides the primary clusters, or None; `drawn`: values are drawn given analyses."""
    if drawn:
        return f"is drawn as an analysis or by limits, with effects of '{data.cluster}' only"
    if method.group:
        return f"has one value in each group of '{method.group}', and effects of '{data.cluster}' besides"
    if not method.several_factors:
        own = " with residual='cluster'" if method.residual == "cluster" else ""
        return f"is imputed by method '{method.name}'{own}, which has effects of '{data.cluster}' only"
    if len(responses) > 1:
        return f"is a block of several variables, which has effects of '{data.cluster}' only"
    family = family_of(data.families[responses[0]])
    if family.predictor_per_level:
        return f"is {family.name}: its levels have effects of '{data.cluster}' only"
    return None


def factors_by_default(
    data: IncompleteData, responses: Sequence[str], method: Method, drawn: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cluster columns, besides the primary one, with random intercepts in a default model; and notes about the others.

    Raises
    ------
    DataError
        Two columns have the same groups, or the ids in one start again in every primary cluster.
    """
    others = data.cluster_columns[1:]
    if not others or method.random != "required":
        return (), ()
    cannot = without_factors(method, responses, data, drawn)
    if method.group and set(others) == {method.group}:  # the method's note says so
        return (), ()
    if cannot is not None:
        return (), (f"no effects of {', '.join(others)}: it {cannot}",)
    primary, *factors = grouping_factors(_formula(data, others), data)
    kept, notes = [], []
    for factor in factors:
        try:
            check_factors(data, [primary, factor], responses, method.priors or default())
        except DataError as refused:
            notes.append(f"no effects of {factor.label}: {refused}")
        else:
            kept.append(factor.label)
    return tuple(kept), tuple(notes)


def block_factors(
    formula: Predictors,
    name: str,
    responses: Sequence[str],
    method: Method,
    data: IncompleteData,
    drawn: bool,
) -> tuple[GroupingFactor, ...]:
    """The grouping factors of a formula, that of the primary clusters first; none if it has no others.

    Raises
    ------
    SpecificationError
        The method, family or block supports effects of the primary clusters only, or a prior is for a factor that the
        formula does not have.
    DataError
        As for `bayesimp.joint.levels.factors.grouping_factors`.
    """
    factors = grouping_factors(formula.formula, data) if formula.further else ()
    labels = tuple(factor.label for factor in factors)
    if method.priors is not None:
        read_priors(method.priors, labels)
    if factors and (cannot := without_factors(method, responses, data, drawn)):
        raise SpecificationError(
            f"Formula {formula.text!r}: '{name}' {cannot}. Take (1 | {labels[1]}) out, or impute it on its own by "
            "'bayes', which has several grouping factors for all families but nominal variables."
        )
    return factors


def check_block_factors(block: ConditionalModel, data: IncompleteData) -> list[Event]:
    """Refuse factors about which the fitted rows say nothing, and note what rests on the prior.

    Raises
    ------
    DataError
        As for `bayesimp.joint.levels.factors.check_factors`.
    """
    factors = [GroupingFactor(f.label, f.term, data.groups(f.term.names)) for f in block.factors]
    try:
        return check_factors(data, factors, block.responses, block.method.priors or default())
    except DataError as refused:
        raise DataError(f"Formula of '{block.name}': {refused}") from None


def _formula(data: IncompleteData, others: Sequence[str]) -> Formula:
    random = " + ".join(f"(1 | {write(Name(name))})" for name in (data.cluster, *others))
    return parse(f"~ 1 + {random}")

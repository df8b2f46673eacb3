"""From the formula of a block to the columns of its model, before automatic additions and removals."""

from __future__ import annotations

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import trials
from bayesimp.fcs.specification.factors import block_factors
from bayesimp.fcs.specification.feedback import computed_from_itself
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, Column, cluster_column
from bayesimp.formulas.predictors import Predictors
from bayesimp.methods import Method

__all__ = ["draft"]


def draft(
    name: str,
    responses: tuple[str, ...],
    method: Method,
    formula: Predictors,
    explicit: bool,
    notes: tuple[str, ...],
    base: BaseColumns,
    drawn: bool = False,
) -> Draft:
    """The columns named in a formula, checked against the method, the clusters and the block's own variables.

    Parameters
    ----------
    name, responses
        The block, and the variables imputed in it.
    method
        Its method.
    formula, explicit
        Its predictors, and whether the user wrote them.
    notes
        Notes on default choices.
    base
        Base columns, to which those of the formula are added.
    drawn
        Whether its values are drawn given analyses or between limits.

    Raises
    ------
    SpecificationError
        Method and formula do not match, or a column depends on a variable of the block.
    """
    cluster = base.data.cluster
    if method.random == "required" and formula.random is None:
        raise SpecificationError(
            f"Formula {formula.text!r}: method '{method.name}' needs a random part, at least + (1 | {cluster}); "
            "methods 'norm', 'pmm', 'glm', '2stage', 'sti' and '2lonly' do without."
        )
    if method.random == "none" and formula.random is not None:
        raise SpecificationError(
            f"Formula {formula.text!r}: method '{method.name}' does not take a random part; remove it, or use "
            "'bayes', 'iw', 'ml', 'mlmi' or 'pymc'."
        )
    if formula.random is not None and not formula.further and formula.formula.cluster != cluster:
        raise SpecificationError(
            f"Formula {formula.text!r} groups by '{formula.formula.random[0].label}', but the data by '{cluster}'; they "
            f"must be the same. Other grouping factors come in addition: (1 | {cluster}) + (1 | class)."
        )
    fixed = base.columns(formula.fixed, formula.text)
    random = base.columns(formula.random, formula.text) if formula.random else ()
    if formula.random is not None and not random:
        raise SpecificationError(
            f"Formula {formula.text!r}: the random part has no column; write (1 | {cluster})."
        )
    own_priors = method.priors is not None and len(method.priors.Psi_of) > 0
    several = len(formula.further) > 0 or own_priors
    factors = block_factors(formula, name, responses, method, base.data, drawn) if several else ()
    _check_cycle(name, responses, (*fixed, *random), base)
    for column in fixed:
        mean = cluster_column(INTERCEPT, (INTERCEPT, column.base))
        if column.within and mean in fixed and any(c.base == column.base and not c.within for c in fixed):
            raise SpecificationError(
                f"Formula {formula.text!r}: {column.name} is '{column.base}' minus {mean.name}; remove one of the "
                "three."
            )
    return Draft(
        ConditionalModel(
            name,
            responses,
            fixed,
            random,
            method,
            notes,
            *_of_family(responses[0], method, base),
            factors=factors,
            groups=base.data.groups((method.group,)) if method.group else None,
        ),
        explicit,
    )


def _of_family(name: str, method: Method, base: BaseColumns) -> tuple[str, tuple[float, ...], str | None]:
    """Family, levels and trials of a block."""
    data, variable = base.data, base.data.variable(name)
    family = variable.distribution
    if family.is_normal or method.matches:  # observed values are matched as numbers
        return "normal", (), None
    column = trials(variable.family)
    if column:
        base.need(column, f"trials of {name}")
    levels = tuple(data.level_values(name).tolist()) if family.is_coded else ()
    return family.name, levels, column or None


def _check_cycle(
    name: str, responses: tuple[str, ...], columns: tuple[Column, ...], base: BaseColumns
) -> None:
    for column in columns:
        for part in (column.base, *(column.over or ())):
            own = base.roots(part) & set(responses)
            if not own:
                continue
            which = min(own)
            if part == which:
                raise SpecificationError(
                    f"Block '{name}' imputes '{which}', which therefore cannot be a predictor (column "
                    f"'{column.name}'); remove it from the formula."
                )
            derived = tuple(base.derived.values())
            raise SpecificationError(
                computed_from_itself(name, which, part, derived, part in base.data.variables)
            )

"""The user's specification of FCS, completed by defaults, as `Conditionals`: the fitted models in their order.

The defaults for an incomplete variable y_k are Bayes, unless it is a cluster-level variable
(fcs/specification/defaults.py); all complete columns and all other incomplete variables as predictors; (1 | cluster);
and cluster means if there are enough clusters (`compatible`). Each default is noted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import trials
from bayesimp.fcs.specification.analyses import Analyses, check_drawn, check_options, read_analyses
from bayesimp.fcs.specification.automatic_columns import (
    Seen,
    check_compatible,
    with_contextual,
    with_means,
    without_collinear,
    without_combined_means,
    without_unseen,
    without_unseen_levels,
)
from bayesimp.fcs.specification.derived import read_derived
from bayesimp.fcs.specification.feedback import (
    computed_circles,
    computed_from_itself,
    drawn_by_logs,
    feeding_back,
    note,
    unlimited,
)
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.predictor_edits import Given
from bayesimp.fcs.specification.predictors import default_predictors, read_predictors
from bayesimp.fcs.specification.records import ConditionalModel, Conditionals
from bayesimp.fcs.specification.values import filled, observed
from bayesimp.fcs.specification.visits import read_blocks, read_methods, visits
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT, Column, cluster_column
from bayesimp.formulas.predictors import Part, Predictors
from bayesimp.messages import listing
from bayesimp.methods import Method
from bayesimp.table.incomplete import IncompleteData

__all__ = ["conditionals"]

Array = NDArray[np.float64]


def conditionals(
    data: IncompleteData,
    methods: Any = None,
    predictors: Any = None,
    order: str | Sequence[str] | None = None,
    blocks: Mapping[str, Sequence[str]] | None = None,
    derived: Mapping[str, str] | None = None,
    compatible: bool | None = None,
    ignore: NDArray[np.bool_] | None = None,
    analysis: str | Sequence[str] | None = None,
    bounded: Collection[str] = (),
) -> Conditionals:
    """The conditional models of FCS.

    Parameters
    ----------
    methods
        A method (`bayesimp.methods`) or its name for all, or a dict by variable or block. A variable with None is neither
        imputed nor a predictor. The default depends on family, level and observed clusters (`data.choice`).
    predictors
        By variable or block: a formula ``"y1 ~ y2 + cluster_mean(y2) + x + (1 + y2 | study)"``, with or without its
        left-hand side (``within(y2)``: y2 less its mean in the cluster), or a list of names. A dot stands for the default
        formula: ``"~ . + x"``, ``"~ . - x"`` (with its cluster mean), ``"~ . + (1 + x | study)"``; such a text alone,
        or in a list of formulas, applies to all variables that have no other. Also possible: a list of formulas; a
        square table of 0 and 1 (rows: variables imputed); a predictor matrix of R mice (`methods.from_mice`),
        recognised by its codes -2, 2, 3, 4. Variables that are not mentioned have the default.
    order
        None: the table's order; ``"monotone"`` (fewest missing first), ``"revmonotone"``, ``"roman"`` (the table's
        order), ``"arabic"`` (from the last to the first); or a list of names, in which a name may occur twice.
    blocks
        Variables that are imputed together, by the name of the block.
    derived
        Columns computed from others in every cycle: ``{"bmi": "weight / height**2"}``. A column of the table is filled
        where it is missing; any other column is new.
    compatible
        Whether cluster means of the other variables are predictors (see `data.compatible`), unless the method says so.
        None: in models without a formula, if their coefficients are shrunk (`priors.Contextual`, the default of models of
        normal variables without slopes) or there are at least 5 clusters for each mean. A mean that is a combination of
        other columns, where the response is observed, is left out and noted. True is refused for methods that the user
        chose and that have no random effects to match.
    ignore
        (N,) bool: rows that models are not fitted to.
    analysis, bounded
        Analyses that values are drawn given (specification/analyses.py); variables with bounds, which they exclude.

    Raises
    ------
    SpecificationError, DataError
        The message says what is wrong, for which variable, and what to do.
    """
    user = dict(derived or {})
    analyses = read_analyses(analysis, data)
    check_options(analyses, blocks, user, ignore)
    records = read_derived(user, data)
    grouped = read_blocks(blocks, data, user)
    method_of, why = read_methods(methods, data, grouped, user, analyses)
    incomplete = tuple(n for n in data.variables if any(n in grouped.get(b, (b,)) for b in method_of))
    _require_something(tuple(n for n in incomplete if data.missing(n).any()), data)
    if INTERCEPT in (*incomplete, *user, *grouped):
        raise SpecificationError(
            f"'{INTERCEPT}' is the name of the constant column of all models; rename the variable or block."
        )
    idle = tuple(n for n in data.variables if data.missing(n).any() and n not in incomplete and n not in user)
    base = BaseColumns(data, incomplete, idle, records)
    responses = {name: grouped.get(name, (name,)) for name in method_of}
    imputed = {n: method for n, method in method_of.items() if data.missing(responses[n][0]).any()}
    logs = drawn_by_logs(data, {v: method for n, method in imputed.items() for v in responses[n]})
    given = _given(predictors, base, responses, method_of, logs, analyses)
    drafts = []
    for name, method in method_of.items():
        notes = (why[name], *given[name].notes) if why.get(name) else given[name].notes
        notes = (*notes, *_drawn_given(analyses, name))
        drafts.append(
            _draft(name, responses[name], method, given[name].formula, given[name].explicit, notes, base)
        )
    made = _with_automatic_columns(drafts, base, given, why, logs, compatible, ignore, analyses)
    drawn = tuple(name for name in made if name in analyses or name in analyses.covariates)
    for name in drawn:
        check_drawn(made[name], analyses, base, bounded)
    used = _used(made.values(), base)
    complete = [name for name in base.complete if name in used]
    exact = {name: _exact(data, name, method_of.get(name)) for name in incomplete}
    return Conditionals(
        tuple(complete),
        np.column_stack([base.complete[name] for name in complete]),
        incomplete,
        tuple(record for name, record in base.derived.items() if name in used),
        tuple(made[name] for name in visits(order, responses, data)),
        {name: values for name, values in exact.items() if values is not None},
        dict(base.written),
        analyses.texts,
        drawn,
    )


def _given(
    predictors: Any,
    base: BaseColumns,
    responses: Mapping[str, tuple[str, ...]],
    method_of: Mapping[str, Method],
    logs: Mapping[str, str],
    analyses: Analyses,
) -> dict[str, Given]:
    """The predictors of every block, from the user, from an analysis, or by default."""
    multilevel = {name: method.random == "required" for name, method in method_of.items()}

    def by_default(name: str) -> Given:
        if name in analyses:
            return Given(analyses.formulas[name], True, ("its model is the analysis that was given",))
        taken = logs if unlimited(base.data.families[responses[name][0]], method_of[name]) else {}
        after = analyses.after(name)
        return default_predictors(base, name, responses[name], multilevel[name], taken, after)

    return read_predictors(predictors, base, responses, multilevel, by_default, analyses.texts)


def _with_automatic_columns(
    drafts: Sequence[Draft],
    base: BaseColumns,
    given: Mapping[str, Given],
    why: Mapping[str, str],
    logs: Mapping[str, str],
    compatible: bool | None,
    ignore: NDArray[np.bool_] | None,
    analyses: Analyses,
) -> dict[str, ConditionalModel]:
    """The blocks with the columns that their methods add and without those that the data cannot support, noted."""
    data = base.data
    # the base columns are known only now, after all formulas
    values = filled(data, base.complete, base.incomplete, base.derived.values())
    drafts = [d.block.method.columns(d, data, values) for d in drafts]
    fitted = np.ones(len(data), dtype=bool) if ignore is None else ~ignore
    if compatible:
        drafts = [d if d.block.name in analyses else check_compatible(d, why) for d in drafts]
    asked = {d.block.name: _asked(given[d.block.name], base) for d in drafts}
    drafts = [without_unseen_levels(d, data, base, fitted, asked[d.block.name]) for d in drafts]
    drafts = [without_collinear(d, data, base, fitted, asked[d.block.name]) for d in drafts]
    seen = Seen.of(data, base, fitted)
    drafts = [without_unseen(d, seen, asked[d.block.name]) for d in drafts]
    drafts = [_with_note(d, drafts, logs, data) for d in drafts]
    drafts = _with_circles(drafts, base, values)
    made = {
        d.block.name: d.block if d.block.name in analyses else with_means(d, data, values, compatible, fitted)
        for d in drafts
    }
    added = {d.block.name: set(made[d.block.name].fixed) - set(d.block.fixed) for d in drafts}
    there = observed(data, base.complete, base.incomplete, base.derived.values())
    made = {
        name: block if name in analyses else with_contextual(block, there, data.codes, fitted)
        for name, block in made.items()
    }
    made = {name: without_combined_means(b, seen, added[name]) for name, b in made.items()}
    return {name: _without(block, given[name], base) for name, block in made.items()}


def _drawn_given(analyses: Analyses, name: str) -> list[str]:
    """The note of a covariate of analyses."""
    if not (texts := analyses.of(name)):
        return []
    left = sorted(analyses.after(name))
    times = " times ".join(f"'{text}'" for text in texts)
    are = "are" if len(left) > 1 else "is"
    return [
        f"drawn from its own model times the analysis {times}: {listing(left)} {are} not among its predictors"
    ]


def _asked(given: Given, base: BaseColumns) -> tuple[Column, ...]:
    """The columns that the user added to a default formula."""
    return base.columns(Part(False, given.asked), given.formula.text) if given.asked else ()


def _without(block: ConditionalModel, given: Given, base: BaseColumns) -> ConditionalModel:
    """The block without the cluster means that the user removed; its columns get unique names."""
    columns = list(block.fixed)
    for atom in given.without:
        (mean,) = base.columns(Part(False, ((atom,),)), given.formula.text)
        if mean not in columns:
            means = [c.name for c in columns if c.over is not None]
            raise SpecificationError(
                f"'{mean.name}' cannot be taken off the predictors of '{block.name}': it is not added to them "
                f"({listing(means) or 'no cluster mean is'})."
            )
        columns.remove(mean)
    names = [column.name for column in columns]
    for name in (name for k, name in enumerate(names) if name in names[:k]):
        raise SpecificationError(
            f"'{name}' is a column of the table and another term of the formula of '{block.name}'; rename the column."
        )
    return replace(block, fixed=tuple(columns))


def _with_note(draft: Draft, drafts: Sequence[Draft], logs: Mapping[str, str], data: IncompleteData) -> Draft:
    """Note a variable drawn through a log link that predicts one of its own predictors (`feedback`)."""
    block = draft.block
    notes = [
        note(name, data.families[name], others, logs)
        for name in block.responses
        if unlimited(data.families[name], block.method)
        and (others := feeding_back(name, [d.block for d in drafts], logs))
    ]
    return replace(draft, block=replace(block, notes=(*block.notes, *notes)))


def _with_circles(drafts: Sequence[Draft], base: BaseColumns, values: Mapping[str, Array]) -> list[Draft]:
    """Note derived columns that drive the variables from which they are derived (`feedback`)."""
    about: dict[str, list[str]] = {}
    users = [base.derived[name] for name in base.users]
    for column, behind, ahead in computed_circles([d.block for d in drafts], users, values):
        for name in behind:
            about.setdefault(name, []).append(
                f"'{column}' is computed from {listing(behind)} and predicts {listing(ahead)}, and back: a circle "
                f"in which imputed values can run away. Stable are bounds= on {listing(behind)}, or formulas without "
                f"{listing(ahead)} for these, or without '{column}' for the others"
            )
    return [
        replace(d, block=replace(d.block, notes=(*d.block.notes, *notes)))
        for d in drafts
        for notes in [[n for name in d.block.responses for n in about.get(name, ())]]
    ]


def _exact(data: IncompleteData, name: str, method: Method | None) -> Array | None:
    """The values that a variable can have; empty for counts, None for continuous variables."""
    family = data.variable(name).distribution
    if family.is_coded:
        return data.level_values(name)
    if method is not None and method.matches:
        return np.unique(data.numeric(name)[~data.missing(name)])
    return np.empty(0) if family.is_count else None


def _used(blocks: Collection[ConditionalModel], base: BaseColumns) -> set[str]:
    """Base columns that blocks or the user's derived columns need; always the intercept."""
    columns = [column for block in blocks for column in (*block.fixed, *block.random)]
    waiting = [
        INTERCEPT,
        *base.users,
        *(c.base for c in columns),
        *(n for c in columns for n in c.over or ()),
        *(block.trials for block in blocks if block.trials),
    ]
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += base.derived[name].ingredients if name in base.derived else ()
    return used


def _draft(
    name: str,
    responses: tuple[str, ...],
    method: Method,
    formula: Predictors,
    explicit: bool,
    notes: tuple[str, ...],
    base: BaseColumns,
) -> Draft:
    cluster = base.data.cluster
    if method.random == "required" and formula.random is None:
        raise SpecificationError(
            f"Formula {formula.text!r}: method '{method.name}' needs a random part, + (1 | {cluster}) at the least; "
            "methods 'norm', 'pmm', 'glm', '2stage', 'sti' and '2lonly' do without."
        )
    if method.random == "none" and formula.random is not None:
        raise SpecificationError(
            f"Formula {formula.text!r}: method '{method.name}' has no random part; take it out, or use 'bayes', 'iw', "
            "'ml', 'mlmi' or 'pymc'."
        )
    if formula.random is not None and formula.formula.cluster != cluster:
        raise SpecificationError(
            f"Formula {formula.text!r} groups by '{formula.formula.random[0].label}', the data by '{cluster}'; they "
            "must be the same, and there is one level of clusters."
        )
    fixed = base.columns(formula.fixed, formula.text)
    random = base.columns(formula.random, formula.text) if formula.random else ()
    if formula.random is not None and not random:
        raise SpecificationError(
            f"Formula {formula.text!r}: the random part has no column; write (1 | {cluster})."
        )
    _check_cycle(name, responses, (*fixed, *random), base)
    for column in fixed:
        mean = cluster_column(INTERCEPT, (INTERCEPT, column.base))
        if column.within and mean in fixed and any(c.base == column.base and not c.within for c in fixed):
            raise SpecificationError(
                f"Formula {formula.text!r}: {column.name} is '{column.base}' less {mean.name}; take one of the three out."
            )
    return Draft(
        ConditionalModel(
            name, responses, fixed, random, method, notes, *_of_family(responses[0], method, base)
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
        base._ingredient(column, f"trials of {name}")
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
                    f"Block '{name}': '{which}' is imputed in it and cannot be a predictor (column '{column.name}'); "
                    "take it out of the formula."
                )
            derived = tuple(base.derived.values())
            raise SpecificationError(
                computed_from_itself(name, which, part, derived, part in base.data.variables)
            )


def _require_something(incomplete: tuple[str, ...], data: IncompleteData) -> None:
    if not incomplete:
        unread = [
            name
            for name in data.variables
            if data.missing(name).any() and not data.variable(name).distribution.is_imputable
        ]
        why = f" {listing(unread)}: neither number, text nor category (family 'none')." if unread else ""
        raise SpecificationError(
            "There is nothing to impute: no variable with missing cells has a method."
            f"{why} Variables: {listing(data.variables, 30)}."
        )
    data.require_observed(incomplete)

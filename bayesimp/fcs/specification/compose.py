"""The user's specification of FCS, completed by defaults, as `Conditionals`: the models to fit, in order.

The defaults for an incomplete variable y_k are: method Bayes, unless it is a cluster-level variable
(fcs/specification/defaults.py); all complete columns and all other incomplete variables as predictors; (1 | cluster);
and cluster means if there are enough clusters (`compatible`). Each default is noted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.specification.analyses import Analyses, check_drawn, check_limited, read_analyses
from bayesimp.fcs.specification.completion import completed
from bayesimp.fcs.specification.derived import read_derived
from bayesimp.fcs.specification.drafts import draft
from bayesimp.fcs.specification.factors import factors_by_default
from bayesimp.fcs.specification.feedback import drawn_by_logs, unlimited
from bayesimp.fcs.specification.levels import Draft
from bayesimp.fcs.specification.predictor_edits import Given
from bayesimp.fcs.specification.predictors import default_predictors, read_predictors
from bayesimp.fcs.specification.records import ConditionalModel, Conditionals
from bayesimp.fcs.specification.visits import Visits, read_visits
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.columns import INTERCEPT
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
        A method (`bayesimp.methods`) or its name for all, or a mapping by variable or block. A variable with None is
        neither imputed nor a predictor. The default depends on family, level and observed clusters
        (specification/defaults.py).
    predictors
        For each variable or block, a formula ``"y1 ~ y2 + cluster_mean(y2) + x + (1 + y2 | study)"``, with or without
        its left-hand side (``within(y2)``: y2 minus its mean in the cluster), or a list of names. A dot stands for the
        default formula: ``"~ . + x"``, ``"~ . - x"`` (with its cluster mean), ``"~ . + (1 + x | study)"``; such a text
        alone, or in a list of formulas, applies to all variables without another formula. Also possible are a list of
        formulas; a square table of 0 and 1 (rows: variables imputed); and a predictor matrix of R's mice
        (`methods.from_mice`), recognised by its codes -2, 2, 3, 4. Variables that are not mentioned have the default.
    order
        None: the table's order; ``"monotone"`` (fewest missing first), ``"revmonotone"``, ``"roman"`` (the table's
        order), ``"arabic"`` (last to first); or a list of names, in which a name may occur twice.
    blocks
        Name of a block -> variables imputed jointly.
    derived
        Columns computed from others in every cycle: ``{"bmi": "weight / height**2"}``. A column of the table is filled
        where it is missing; any other column is new.
    compatible
        Whether cluster means of the other variables are predictors (specification/cluster_means.py), unless the method
        decides. None: in models without a formula, if their coefficients are shrunk (`priors.Contextual`, the default
        for normal variables without slopes) or there are at least 5 clusters for each mean. A mean that is a
        combination of other columns where the response is observed is left out and noted. True is refused for methods
        that the user chose and that have no random effects to match.
    ignore
        (N,) bool: rows to which models are not fitted.
    analysis, bounded
        Analyses given which values are drawn (specification/analyses.py), and the variables with bounds, which they
        exclude.

    Raises
    ------
    SpecificationError, DataError
        The message says what is wrong, for which variable, and what to do.
    """
    user = dict(derived or {})
    analyses = read_analyses(analysis, data, blocks, user, ignore)
    records = read_derived(user, data)
    visits = read_visits(methods, blocks, order, data, user, analyses)
    base = BaseColumns(data, visits.incomplete, _idle(data, visits, user), records)
    logs = drawn_by_logs(data, _drawn(data, visits))
    drawn_given = {
        name for name in visits.methods
        if any(v in analyses or v in analyses.covariates or data.variable(v).distribution.is_censored
               for v in visits.responses[name])
    }  # fmt: skip
    given = _given(predictors, base, visits, logs, analyses, drawn_given)
    drafts = [
        _draft(name, visits, given[name], analyses, base, name in drawn_given) for name in visits.methods
    ]
    made = completed(drafts, base, given, visits.why, logs, compatible, ignore, analyses)
    limited = [name for name in made if made[name].distribution.is_censored]
    drawn = tuple(n for n in made if n in analyses or n in analyses.covariates or n in limited)
    for name in drawn:
        check_drawn(made[name], analyses, base, bounded)
    for name in limited:
        check_limited(made[name], base, ignore)
    used = _used(made.values(), base)
    complete = [name for name in base.complete if name in used]
    exact = {name: _exact(data, name, visits.methods.get(name)) for name in visits.incomplete}
    return Conditionals(
        tuple(complete),
        np.column_stack([base.complete[name] for name in complete]),
        visits.incomplete,
        tuple(record for name, record in base.derived.items() if name in used),
        tuple(made[name] for name in visits.order),
        {name: values for name, values in exact.items() if values is not None},
        dict(base.written),
        analyses.texts,
        drawn,
    )


def _idle(data: IncompleteData, visits: Visits, derived: Mapping[str, str]) -> tuple[str, ...]:
    """Incomplete variables that are neither imputed nor derived, and hence not predictors."""
    missing = (name for name in data.variables if data.missing(name).any())
    return tuple(name for name in missing if name not in visits.incomplete and name not in derived)


def _drawn(data: IncompleteData, visits: Visits) -> dict[str, Method]:
    """Variable with missing cells -> its method."""
    blocks = (n for n in visits.methods if data.missing(visits.responses[n][0]).any())
    return {variable: visits.methods[n] for n in blocks for variable in visits.responses[n]}


def _draft(
    name: str, visits: Visits, given: Given, analyses: Analyses, base: BaseColumns, drawn: bool
) -> Draft:
    """The columns that the formula of a block names, with notes about its defaults."""
    why = [visits.why[name]] if visits.why.get(name) else []
    notes = (*why, *given.notes, *_drawn_given(analyses, name))
    return draft(
        name, visits.responses[name], visits.methods[name], given.formula, given.explicit, notes, base, drawn
    )


def _given(
    predictors: Any,
    base: BaseColumns,
    visits: Visits,
    logs: Mapping[str, str],
    analyses: Analyses,
    drawn: Collection[str],
) -> dict[str, Given]:
    """The predictors of every block, from the user, from an analysis, or by default; drawn: given analyses or limits."""
    responses, method_of = visits.responses, visits.methods
    multilevel = {name: method.random == "required" for name, method in method_of.items()}

    @cache
    def factors(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        several = len(base.data.cluster_columns) > 1
        return (
            factors_by_default(base.data, responses[name], method_of[name], name in drawn)
            if several
            else ((), ())
        )

    def by_default(name: str) -> Given:
        if name in analyses:
            return Given(analyses.formulas[name], True, ("its model is the given analysis",))
        taken = logs if unlimited(base.data.families[responses[name][0]], method_of[name]) else {}
        after = analyses.after(name)
        labels, notes = factors(name)
        made = default_predictors(base, name, responses[name], multilevel[name], taken, after, labels)
        return replace(made, notes=(*made.notes, *notes))

    return read_predictors(
        predictors, base, responses, multilevel, by_default, analyses.texts, lambda name: factors(name)[0]
    )


def _drawn_given(analyses: Analyses, name: str) -> list[str]:
    """The note on a covariate of analyses."""
    if not (texts := analyses.of(name)):
        return []
    left = sorted(analyses.after(name))
    times = " times ".join(f"'{text}'" for text in texts)
    are = "are" if len(left) > 1 else "is"
    return [
        f"drawn from its own model times the analysis {times}, so {listing(left)} {are} not among its predictors"
    ]


def _exact(data: IncompleteData, name: str, method: Method | None) -> Array | None:
    """The possible values of a variable; empty for counts, None for continuous variables."""
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

"""Predictors as formulas, from the user's input (formulas, lists, tables, mice's matrix) or by default."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from bayesimp.errors import SpecificationError
from bayesimp.families.columns import stored_as_text
from bayesimp.fcs.specification.defaults import MOST_LEVELS
from bayesimp.fcs.specification.predictor_edits import Given, edited
from bayesimp.fcs.specification.values import BaseValues, dependent
from bayesimp.formulas.base_columns import BaseColumns
from bayesimp.formulas.formula import signed
from bayesimp.formulas.predictors import Edit, Part, edit, predictors
from bayesimp.formulas.syntax import Name, read, read_sides, write
from bayesimp.messages import listing, suggestion
from bayesimp.methods.mice import from_mice
from bayesimp.table.ids import names_rows
from bayesimp.table.incomplete import IncompleteData

__all__ = ["default_predictors", "read_predictors"]


def read_predictors(
    given: Any,
    base: BaseColumns,
    responses: Mapping[str, tuple[str, ...]],
    multilevel: Mapping[str, bool],
    default: Callable[[str], Given],
    analyses: Mapping[str, str],
    factors: Callable[[str], Sequence[str]],
) -> dict[str, Given]:
    """Block -> formula; that of ``default`` if ``given`` does not mention the block.

    analyses: responses whose formula is an analysis, returned by `default`; the user must not give another. factors: for
    a block, the cluster columns besides the primary one for which a list of predictors gets random intercepts.

    Raises
    ------
    SpecificationError
        A name is not imputed, a formula or its left-hand side does not match, a table does not contain codes, or a
        default formula cannot be changed as requested.
    """
    data, found = base.data, {}
    entries, every = _entries(given, data, responses)
    for key, value in entries.items():
        name = _key(key, data, responses)
        if name in analyses:
            raise SpecificationError(
                f"predictors: '{name}' is the response of the analysis '{analyses[name]}', which is its model; remove "
                "its predictors."
            )
        change = edit(value) if isinstance(value, str) and "~" in value else None
        if change is not None:
            _check_left(change.responses, name, responses)
            found[name] = edited(change, name, default(name), base, responses[name])[0]
            continue
        text, explicit, notes = _as_formula(name, value, data, multilevel[name], factors)
        formula = predictors(text, data.cluster)
        _check_left(formula.formula.responses, name, responses)
        asked = () if explicit else formula.fixed.terms  # from a list or a row of a table
        found[name] = Given(formula, explicit, notes, asked=asked)
    rest = [name for name in responses if name not in found]
    if every is None:
        return found | {name: default(name) for name in rest}
    found |= {name: default(name) for name in rest if name in analyses}
    return found | _every(every, [n for n in rest if n not in analyses], base, responses, default)


def _every(
    change: Edit,
    names: Sequence[str],
    base: BaseColumns,
    responses: Mapping[str, tuple[str, ...]],
    default: Callable[[str], Given],
) -> dict[str, Given]:
    """Apply one change to the default formulas of several blocks."""
    found, absent, lost = {}, set(), set()
    for name in names:
        found[name], not_there, there = edited(change, name, default(name), base, responses[name], every=True)
        absent |= not_there
        lost |= there
    if absent - lost:
        raise SpecificationError(
            f"Formula {change.text!r}: {listing(sorted(absent - lost))} cannot be removed because no default formula "
            f"has it ({', '.join(found)})."
        )
    return found


def _check_left(left: tuple[str, ...], name: str, responses: Mapping[str, tuple[str, ...]]) -> None:
    if left and left != (name,) and set(left) != set(responses[name]):
        raise SpecificationError(
            f"predictors: the formula of '{name}' has {' + '.join(left)} on its left side; several variables are "
            "imputed together by blocks={'name': [...]}."
        )


def default_predictors(
    base: BaseColumns,
    name: str,
    responses: tuple[str, ...],
    multilevel: bool,
    logs: Mapping[str, str],
    without: Collection[str] = (),
    factors: Sequence[str] = (),
) -> Given:
    """All complete columns, all other incomplete variables and all derived columns that do not depend on the response,
    except constants, combinations of others, and factors with very many levels. logs: incomplete variables that enter
    through a function (`feedback`); without: variables that are left out; factors: cluster columns that have a random
    intercept besides the primary clusters."""
    data = base.data
    complete, notes = _complete_predictors(base)
    others = [v for v in base.incomplete if v not in responses and v not in without]
    derived = [d for d in base.users if not base.roots(d) & set(responses)]
    derived, more = _independent(base, derived, [*complete, *others])
    taken = {v: f"{logs[v]}({write(Name(v))})" for v in others if v in logs}
    terms = ["1", *(taken.get(v) or _term(v, data) for v in (*complete, *others, *derived))]
    if taken:
        why = "with untransformed counts and positive variables, imputed values can run away"
        more += (f"{', '.join(taken.values())}: {why}",)
    random = "".join(f" + (1 | {write(Name(c))})" for c in (data.cluster, *factors)) if multilevel else ""
    text = f"{' + '.join(write(Name(r)) for r in responses)} ~ {' + '.join(terms)}{random}"
    return Given(predictors(text, data.cluster), False, (*notes, *more))


def _complete_predictors(base: BaseColumns) -> tuple[list[str], tuple[str, ...]]:
    """Complete variables that can be predictors, and notes about the others."""
    if base.defaults is not None:
        return base.defaults
    data = base.data
    names, notes = [], []
    kept = base.complete["Intercept"][:, None]
    for name in data.variables:
        if not data.variable(name).distribution.is_imputable and name not in base.derived:
            notes.append(
                f"'{name}' has type {data.frame[name].dtype} (family 'none') and is neither imputed nor a predictor"
            )
            continue
        if name in base.incomplete or data.missing(name).any() or name in base.derived:
            continue
        levels = data.frame[name].nunique()
        if levels < 2:
            notes.append(f"'{name}' is constant, so it is not a predictor")
            continue
        if what := names_rows(data, name):
            notes.append(
                f"'{name}' looks like {what}, so it is not a predictor by default; to use it, write it in a formula"
            )
            continue
        number = is_numeric_dtype(data.frame[name].infer_objects().dtype)  # also in object columns
        factor = _term(name, data) != write(Name(name)) or not number
        if factor and levels > MOST_LEVELS:
            hint = stored_as_text(data.frame[name])
            advice = (
                f"{hint}: pandas.to_numeric(table['{name}'], errors='coerce') makes it numbers, and anything else "
                "missing"
                if hint
                else "to use it, write it in a formula"
            )
            notes.append(f"'{name}' has {levels} levels, so it is not a predictor by default; {advice}")
            continue
        columns = base.columns(Part(True, ((read(_term(name, data)),),)), name)
        new = np.column_stack([base.complete[c.base] for c in columns if c.base != "Intercept"])
        if dependent(np.hstack([kept, new]))[kept.shape[1] :].any():
            notes.append(
                f"'{name}' is a combination of the complete variables before it, so it is not a predictor"
            )
            continue
        if _like_ids(data, name):
            notes.append(
                f"'{name}' may number the rows, but is a predictor: it holds whole numbers that do not repeat within "
                f"a cluster. families={{'{name}': 'none'}} excludes it"
            )
        kept = np.hstack([kept, new])
        names.append(name)
    base.defaults = names, tuple(notes)
    return base.defaults


def _like_ids(data: IncompleteData, name: str) -> bool:
    """Whether a column has whole numbers that do not repeat within clusters, and too many for occasions."""
    column = data.frame[name]
    if not is_numeric_dtype(column.dtype) or column.nunique() <= 2 * data.sizes.max():
        return False
    values = column.to_numpy(float)
    pairs = np.unique(np.column_stack([data.codes, values]), axis=0)
    return (
        bool((values == np.floor(values)).all())
        and len(pairs) == len(values)
        and len(data.clusters) < len(values)
    )


def _independent(
    base: BaseColumns, derived: list[str], others: list[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Derived columns that are not linear in their ingredients or in other predictors."""
    if not derived:
        return [], ()
    values = BaseValues.of(base).filled
    known = [v for name in others for v in ([name] if name in values else _levels(base, name))]
    matrix = np.column_stack([values[v] for v in ("Intercept", *known, *derived)])
    usable = np.isfinite(matrix).all(axis=1)
    out = dependent(matrix[usable])[-len(derived) :]
    left = [d for d, is_out in zip(derived, out, strict=True) if is_out]
    notes = (f"combination of other predictors, left out: {listing(left)}",) if left else ()
    return [d for d in derived if d not in left], notes


def _term(name: str, data: IncompleteData) -> str:
    """A main effect as a formula term; numbers declared as categories become a factor."""
    factor = name in data.families and data.variable(name).distribution.is_factor
    declared = factor and is_numeric_dtype(data.frame[name].dtype)
    return f"C({write(Name(name))})" if declared else write(Name(name))


def _levels(base: BaseColumns, name: str) -> list[str]:
    columns = base.columns(Part(True, ((read(_term(name, base.data)),),)), name)
    return [c.base for c in columns if c.base != "Intercept"]


def _entries(
    given: Any, data: IncompleteData, responses: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, Any], Edit | None]:
    """Variable or block -> formula or list of names, and a change to all other formulas."""
    if given is None:
        return {}, None
    if isinstance(given, str):
        given = [given]
    if isinstance(given, pd.DataFrame) or _is_table(given):
        return _from_table(given, data, responses), None
    if isinstance(given, Mapping):
        return dict(given), None
    if not isinstance(given, Sequence) or not all(isinstance(f, str) for f in given):
        raise SpecificationError(
            f"predictors must be formulas, lists of names by variable, or a table of codes; got {type(given).__name__}."
        )
    entries: dict[str, Any] = {}
    every: Edit | None = None
    for text in given:
        change = edit(text)
        if change is not None and not change.responses:
            if every is not None:
                raise SpecificationError(
                    "predictors: there are two changes to all formulas; combine them into one, '~ . + x - z'."
                )
            every = change
            continue
        left = _left(text)
        whole = [name for name, members in responses.items() if left and set(left) == set(members)]
        if len(left) != 1 and not whole:
            raise SpecificationError(
                f"predictors: {text!r} must have the variable (or block) on its left side; '~ . + x' alone adds x to "
                "all default formulas."
            )
        key = whole[0] if whole else left[0]
        if key in entries:
            raise SpecificationError(f"predictors: there are two formulas for '{key}'; give one.")
        entries[key] = text
    return entries, every


def _left(text: str) -> tuple[str, ...]:
    """Names on the left side of a formula."""
    left = read_sides(text)[0]
    return tuple(node.name for _, node in signed(left) if isinstance(node, Name)) if left else ()


def _is_table(given: Any) -> bool:
    return (
        isinstance(given, Mapping) and len(given) > 0 and all(hasattr(row, "items") for row in given.values())
    )


def _from_table(given: Any, data: IncompleteData, responses: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """Read the rows of a table of codes, which is mice's if it has codes other than 0 and 1."""
    rows = {
        str(name): {str(column): value for column, value in row.items()}
        for name, row in (given.iterrows() if isinstance(given, pd.DataFrame) else given.items())
    }
    codes = {value for row in rows.values() for value in row.values()}
    used: dict[str, Any] = {}
    if codes <= {0, 1}:  # or True and False
        used = {name: [column for column, value in row.items() if value] for name, row in rows.items()}
    else:
        used = from_mice(rows, data)
    unknown = [name for name in rows if name not in (*data.frame.columns, *responses)]
    if unknown:
        raise SpecificationError(
            f"predictors: row '{unknown[0]}' is not a variable. {suggestion(unknown[0], [*data.variables, *responses])}"
        )
    return {name: value for name, value in used.items() if name in responses}  # the others are not imputed


def _key(key: Any, data: IncompleteData, responses: Mapping[str, tuple[str, ...]]) -> str:
    if key in responses:
        return str(key)
    inside = [name for name, members in responses.items() if key in members]
    if inside:
        raise SpecificationError(
            f"predictors: '{key}' is in block '{inside[0]}'; give the predictors to the block."
        )
    if key in data.variables:
        why = "not imputed (its method is None, or it is derived)" if data.missing(key).any() else "complete"
        raise SpecificationError(f"predictors: '{key}' is {why}; remove its predictors.")
    raise SpecificationError(f"predictors: {key!r} is not a variable. {suggestion(key, responses)}")


def _as_formula(
    name: str, value: Any, data: IncompleteData, multilevel: bool, factors_of: Callable[[str], Sequence[str]]
) -> tuple[str, bool, tuple[str, ...]]:
    """A formula, with notes and whether the user wrote it."""
    if isinstance(value, str):
        if "~" not in value:
            raise SpecificationError(
                f"predictors: {value!r} for '{name}' is not a formula; write '~ {value}' or ['...']."
            )
        return value, True, ()
    if not isinstance(value, Sequence | pd.Index | np.ndarray) or not all(isinstance(v, str) for v in value):
        raise SpecificationError(f"predictors: '{name}' needs a formula or a list of names, got {value!r}.")
    factors = factors_of(name)
    names = [v for v in value if v != data.cluster and v not in factors]
    if name in names:
        raise SpecificationError(f"predictors: '{name}' predicts itself; remove it from its own list.")
    notes = (
        (f"'{data.cluster}' is the cluster, so it is not a predictor",)
        if len(names) < len(value) and not multilevel
        else ()
    )
    left = write(Name(name)) if name in data.variables else ""
    terms = " + ".join(["1", *(_term(v, data) for v in names)])
    random = "".join(f" + (1 | {write(Name(c))})" for c in (data.cluster, *factors)) if multilevel else ""
    return f"{left} ~ {terms}{random}", False, notes

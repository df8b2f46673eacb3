"""Responses that do not fit the family of an analysis: refused, or reported, with the call that fits.

text or category of two levels      family="bernoulli" models the probability of the second
of more levels                      family="ordinal" if they are ordered; or one of them against the others
two values, counts, scores          may be analysed as normal, which is an event
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from bayesimp.errors import DataError
from bayesimp.events import Event
from bayesimp.families.columns import stored_as_text
from bayesimp.families.registry import family_of
from bayesimp.formulas.formula import Formula
from bayesimp.messages import listing
from bayesimp.table.incomplete import IncompleteData

__all__ = ["check_response", "of_family"]


def check_response(frame: pd.DataFrame, formula: Formula, family: str, two: bool, imputed: Any) -> None:
    """Refuse a response without numbers where the family needs them, with the call that can analyse it.

    Parameters
    ----------
    frame
        The first completed table.
    two
        Whether the family takes a text or category of two levels.
    imputed
        What is analysed, for the call.

    Raises
    ------
    DataError
    """
    name = formula.responses[0]
    column = frame.get(name)
    if column is None or is_numeric_dtype(column.dtype) or is_bool_dtype(column.dtype):
        return
    levels = _levels(column)
    if two and len(levels) <= 2:
        return
    needs = "two" if two else "numbers"
    what = (
        f"has {len(levels)} levels"
        if two or not is_datetime64_any_dtype(column.dtype)
        else f"has type {column.dtype}"
    )
    raise DataError(
        f"the response {name!r} {what} ({listing(map(_plain, levels), most=3)}); a {family} model needs {needs}. "
        f"{_advice(column, levels, formula, imputed)}"
    )


def _levels(column: pd.Series) -> list[Hashable]:
    """Values in the order of the category, without those that no row has unless there are two; else sorted."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return sorted(column.dropna().unique().tolist(), key=str)
    categories = list(column.cat.categories)
    return categories if len(categories) == 2 else [level for level in categories if (column == level).any()]


def _advice(column: pd.Series, levels: list[Hashable], formula: Formula, imputed: Any) -> str:
    name = formula.responses[0]
    if stored_as_text(column):
        return (
            f"{stored_as_text(column).capitalize()}: table[{name!r}] = pandas.to_numeric(table[{name!r}], "
            "errors='coerce') before imputing makes them numbers, and anything else missing."
        )
    if is_datetime64_any_dtype(column.dtype):
        return f"Use a number, before imputing: table[{name!r}] = (table[{name!r}] - table[{name!r}].min()).dt.days."
    if len(levels) == 2:
        return f"family='bernoulli' models the probability of {levels[1]!r}: {_call(imputed, formula)}."
    one = f"nalyse one of them against the others: {_call(imputed, formula, levels[-1])}"
    if getattr(column.dtype, "ordered", False):
        call = _call(imputed, formula, family="ordinal")
        return f"family='ordinal' models the odds of higher levels: {call}. Or a{one}."
    return (
        "If they have an order, declare it before imputing (pandas.Categorical(..., ordered=True)) and give "
        f"family='ordinal'. Otherwise a{one}; or give a function of a table that fits a multinomial model (statsmodels' "
        "MNLogit)."
    )


def _call(imputed: Any, formula: Formula, level: Hashable | None = None, family: str = "bernoulli") -> str:
    """The call that analyses the response with another family; level: as whether it has this value."""
    own, cluster = hasattr(imputed, "analyse"), getattr(getattr(imputed, "data", None), "cluster", None)
    if level is None:
        call = "imp.analyse(" if own else "bayesimp.fit_each(tables, "
        return f"{call}{formula.text!r}, family={family!r})"
    name = formula.responses[0]
    tables = (
        f"[t.assign(**{{{name!r}: t[{name!r}] == {_plain(level)!r}}}) for t in {'imp' if own else 'tables'}]"
    )
    of = f", cluster={cluster!r}" if own and cluster else ""
    return f"bayesimp.fit_each({tables}, {formula.text!r}, family={family!r}{of})"


def _plain(level: Any) -> Any:
    """A Python value for a NumPy one; a date as text."""
    return (
        level.item()
        if hasattr(level, "item")
        else str(level.date())
        if isinstance(level, pd.Timestamp)
        else level
    )


def of_family(imputed: Any, frame: pd.DataFrame, formula: Formula) -> tuple[Event, ...]:
    """An event if a normal analysis has a response that is bool, or is imputed as two-valued, a count or ordinal."""
    name = formula.responses[0]
    data = getattr(imputed, "data", None)
    families: Mapping[str, str] = data.families if isinstance(data, IncompleteData) else {}
    record = family_of(families[name]) if name in families else None
    if is_bool_dtype(frame[name].dtype) or (record is not None and record.is_two_valued):
        high = frame[name].max()
        zero_one = is_bool_dtype(frame[name].dtype) or set(frame[name].unique()) <= {0, 1}
        text = (
            f"'{name}' has two values and is analysed as normal, with one residual variance: coefficients are "
            f"differences of its mean. For log odds: {_call(imputed, formula, None if zero_one else high)}"
        )
    elif record is not None and record.is_count:
        text = (
            f"'{name}' is imputed as {record.name} and analysed as normal. For the logarithm of its mean: "
            f"{_call(imputed, formula, family='poisson')}"
        )
    elif record is not None and record.is_ordered:
        text = (
            f"'{name}' is imputed as ordinal and analysed as the numbers themselves, as if these were "
            f"equally far apart. For cumulative log odds: {_call(imputed, formula, family='ordinal')}"
        )
    else:
        return ()
    return (Event("family", name, text, 1),)

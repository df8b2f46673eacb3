"""Checks made before sensitivity analyses sample, and how they read warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping

from bayesimp.errors import SpecificationError, StatisticalWarning
from bayesimp.events import Event
from bayesimp.formulas.formula import parse
from bayesimp.imputation.result import Imputations
from bayesimp.table.incomplete import IncompleteData

__all__ = ["as_events", "check_analysis", "interrupted", "names_of"]


def interrupted(imputations: Mapping[str, Imputations]) -> bool:
    """Whether the user has stopped one of the runs."""
    return any(event.kind == "interrupted" for imp in imputations.values() for event in imp.log)


def check_analysis(analysis: str | Callable, data: IncompleteData, made: Iterable[str] = ()) -> None:
    """Refuse a formula with columns that completed tables lack; `made` are the columns that the model computes."""
    if callable(analysis):
        return
    formula = parse(analysis)
    known = [*data.frame.columns, *made]
    for name in (*formula.responses, *formula.variables, *formula.groups):
        if name not in known:
            raise SpecificationError(
                f"analysis {analysis!r}: the table has no column {name!r}; it has {names_of(known)}."
            )


def as_events(caught: list[warnings.WarningMessage]) -> list[Event]:
    """Turn statistical warnings into events; other warnings are passed on."""
    events = []
    for warning in caught:
        if issubclass(warning.category, StatisticalWarning):
            events.append(Event("warning", "analysis", str(warning.message)))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return events


def names_of(names: Iterable) -> str:
    """``'a', 'b'``, for messages."""
    return ", ".join(repr(str(name)) for name in names)

"""Columns that the user derives from others: ``derived={"bmi": "weight / height**2"}``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.specification.records import Conditionals
from bayesimp.fcs.specification.values import evaluated
from bayesimp.formulas.arithmetic import Expression, expression, split_clusters
from bayesimp.formulas.columns import Derived
from bayesimp.messages import where
from bayesimp.table.incomplete import IncompleteData

__all__ = ["check_derived", "read_derived"]

Array = NDArray[np.float64]


def read_derived(definitions: Mapping[str, str], data: IncompleteData) -> dict[str, Derived]:
    """Column -> record, in order of computation; cluster means, sums and sizes have separate records.

    Raises
    ------
    SpecificationError
        A definition is not arithmetic, a column is the cluster, complete or not numeric, or definitions form a circle.
    """
    expressions = {}
    for name, source in definitions.items():
        if not isinstance(name, str) or not isinstance(source, str):
            raise SpecificationError(
                f"derived: {name!r}: {source!r} must be column: 'expression', both text."
            )
        _check_column(name, data)
        expressions[name] = expression(source, f"{name} = {source}")
    records: dict[str, Derived] = {}
    for name in _ordered(expressions):
        row, means = split_clusters(expressions[name])
        for label, mean in means.items():
            made = Derived(label, mean.names, mean)
            if label in data.frame.columns or label in definitions:
                raise SpecificationError(
                    f"derived: {name} = {definitions[name]}: another column is called '{label}'; rename that column."
                )
            records[label] = made
        records[name] = Derived(name, row.names, row, name)
    return records


def _check_column(name: str, data: IncompleteData) -> None:
    if name == data.cluster:
        raise SpecificationError(f"derived: '{name}' is the cluster; choose another name.")
    if name not in data.variables:
        return
    if not data.missing(name).any():
        raise SpecificationError(
            f"derived: '{name}' is complete in the table, so there is nothing to fill; remove it from derived="
        )
    dtype = data.frame[name].dtype
    if not (is_numeric_dtype(dtype) or is_bool_dtype(dtype) or data.missing(name).all()):
        raise SpecificationError(
            f"derived: '{name}' has type {dtype} in the table, but a derived column must be numeric."
        )


def _ordered(expressions: Mapping[str, Expression]) -> list[str]:
    """The names in order of computation."""
    ordered: list[str] = []
    while len(ordered) < len(expressions):
        left = [name for name in expressions if name not in ordered]
        ready = [n for n in left if not any(inner in left for inner in expressions[n].names)]
        if not ready:
            circle = _circle(left[0], left, expressions)
            raise SpecificationError(
                f"derived: {' -> '.join(repr(name) for name in circle)} form a circle; define one of them by "
                "columns that are not derived from it."
            )
        ordered += ready
    return ordered


def _circle(start: str, left: list[str], expressions: Mapping[str, Expression]) -> list[str]:
    path = [start]
    while path[-1] not in path[:-1]:
        path.append(next(inner for inner in expressions[path[-1]].names if inner in left))
    return path[path.index(path[-1]) :]


def check_derived(conditionals: Conditionals, data: IncompleteData, values: dict[str, Array]) -> list[Event]:
    """Refuse derived columns that are not finite; note those that contradict the table. ``values``: base columns."""
    events = []
    known = dict(values)  # cluster means only where clusters are complete
    for record in conditionals.derived:
        made = evaluated(record, values, data.codes)
        bad = ~np.isfinite(made)
        for name in record.ingredients:
            bad &= np.isfinite(values[name])
        if bad.any():
            place = where(bad, data.codes, data.clusters, data.frame.index)
            raise DataError(
                f"'{record.name}' has no finite value {place}. Is there a logarithm of 0 or a division by 0? Correct "
                "these values or use another transformation."
            )
        known[record.name] = np.broadcast_to(record.evaluate(known, data.codes), made.shape)
        if record.column in data.variables:
            events += _against_table(str(record.column), known[record.name], data)
            known[record.name] = values[record.name]
    return events


def _against_table(name: str, made: Array, data: IncompleteData) -> list[Event]:
    """Events for cells of the table that differ from the definition; models use the table's values."""
    there = data.frame[name].to_numpy(np.float64, na_value=np.nan)
    both = np.isfinite(there) & np.isfinite(made)
    gap = np.abs(there - made)[both]
    off = gap > 1e-6 * np.abs(there[both]).max(initial=0.0)
    events = []
    if off.any():
        text = (
            f"'{name}' differs from its definition in {int(off.sum()):,} of {int(both.sum()):,} rows (by up to "
            f"{gap.max():.3g}); the table's values are kept."
        )
        events.append(Event("derived", name, text, int(off.sum())))
    only = np.isfinite(there) & ~np.isfinite(made)
    if only.any():
        text = (
            f"'{name}' is observed in {int(only.sum()):,} rows where its ingredients are not; the imputed "
            "ingredients will not agree with it there."
        )
        events.append(Event("derived", name, text, int(only.sum())))
    return events

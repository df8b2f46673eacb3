"""The printed form of `IncompleteData`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.layout import ruled, wrapped
from bayesimp.markup import framed, paragraph, table

if TYPE_CHECKING:
    from bayesimp.table.incomplete import IncompleteData

__all__ = ["html", "summary", "text"]

SHORT_SCALE = 10  # a whole-number variable with at most this many values may be a count or a scale


def summary(data: IncompleteData) -> pd.DataFrame:
    """Family, complete, sporadic and systematic clusters, missing cells and their share, by variable."""
    kind = data.missingness.to_numpy()
    missing = data.counts.to_numpy().sum(axis=1)
    table = {"family": [data.families[name] for name in data.variables]}
    table |= {word: (kind == word).sum(axis=1) for word in ("complete", "sporadic", "systematic")}
    table |= {"missing": missing, "share": missing / len(data)}
    return pd.DataFrame(table, index=pd.Index(data.variables, name="variable"))


def text(data: IncompleteData) -> str:
    """The table as plain text."""
    rows = [list(_header()), *_rows(data)]
    return wrapped("\n".join([_headline(data), "", ruled(rows, texts=2), *_notes(data)]))


def html(data: IncompleteData) -> str:
    """The table as HTML, for notebooks."""
    rows = pd.DataFrame(_rows(data), columns=list(_header()))
    notes = [paragraph(note) for note in _notes(data) if note]
    return framed(_headline(data), [table(rows), *notes])


def _headline(data: IncompleteData) -> str:
    parts = []
    for name, groups in data.groupings.items():
        sizes = groups.sizes
        parts.append(
            f"{len(groups):,} clusters of '{name}' (rows each: {sizes.min():,} to {sizes.max():,}, median "
            f"{np.median(sizes):g})"
        )
    return f"IncompleteData: {len(data):,} rows in {'; '.join(parts)}"


def _header() -> tuple[str, ...]:
    return ("variable", "family", "complete", "sporadic", "systematic", "% missing")


def _rows(data: IncompleteData) -> list[list[str]]:
    asked = {name for name in data.variables if _short_scale(data, name)}
    return [
        [str(name), row.family + "*" * (name in asked), f"{row.complete:,}", f"{row.sporadic:,}",
         f"{row.systematic:,}", _percent(row.share)]
        for name, row in zip(data.variables, summary(data).itertuples(), strict=True)
    ]  # fmt: skip


def _percent(share: float) -> str:
    """A percentage with one decimal; 0 and 100 appear only if they are exact."""
    if share in (0, 1):
        return f"{100 * share:.0f}"
    return f"{min(max(100 * share, 0.1), 99.9):.1f}"


def _notes(data: IncompleteData) -> list[str]:
    notes = [
        "",
        "Numbers of clusters: complete, missing in some rows (sporadic), missing in all (systematic).",
    ]
    if any(_short_scale(data, name) for name in data.variables):
        notes.append(
            "* whole numbers with few values, treated as normal; use families={...: 'poisson'} or 'ordinal' if "
            "they are counts or a scale."
        )
    for name in data.variables:
        if count := int(data.variable(name).censored.sum()):
            notes.append(
                f"{name}: {count:,} values are known only to lie beyond a limit; they are counted as missing."
            )
    notes += [f"{event.message}." for event in data.missing_codes()]
    empty = [name for name in data.variables if data.missing(name).all()]
    if empty:
        notes.append(f"No observed values, cannot be used in a model: {', '.join(empty)}.")
    return notes


def _short_scale(data: IncompleteData, name: str) -> bool:
    column = data.frame[name]
    if not data.variable(name).distribution.is_normal or not pd.api.types.is_numeric_dtype(column.dtype):
        return False
    values = column.dropna().to_numpy(np.float64)
    head = np.unique(values[:1000])
    if len(values) == 0 or len(head) > SHORT_SCALE or head[0] < 0 or np.any(head != np.floor(head)):
        return False
    values = np.unique(values)
    return bool(len(values) <= SHORT_SCALE and values[0] >= 0 and np.all(values == np.floor(values)))

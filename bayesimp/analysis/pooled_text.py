"""Printed tables of pooled estimates."""

from __future__ import annotations

import pandas as pd

from bayesimp.events import WIDTH
from bayesimp.messages import shortened

__all__ = ["as_text", "shown_columns"]

LEAST_NAME = 12  # names are never shortened below this many characters
SHOWN = {
    "term": "", "value": "value", "value.low": "2.5%", "value.high": "97.5%", "estimate": "estimate",
    "std.error": "std.error", "conf.low": "2.5%", "conf.high": "97.5%", "df": "df", "p.value": "p.value", "fmi": "fmi",
    "mc.error": "mc.error",
    "cc.estimate": "| complete rows:", "cc.std.error": "std.error", "cc.value": "| complete rows:",
}  # fmt: skip


def as_text(table: pd.DataFrame) -> str:
    """A table of pooled estimates as text, in lines of at most `WIDTH` characters.

    Long names lose their middle, unless two of them would then be the same.
    """
    rows = shown_columns(table)
    text = _written(rows)
    excess = max(map(len, text.splitlines()), default=0) - WIDTH
    if excess <= 0:
        return text
    first = rows.columns[0]
    short = shortened(rows[first], max(LEAST_NAME, max(map(len, rows[first])) - excess))
    return _written(rows.assign(**{first: short}))


def shown_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The most important columns of a table of pooled estimates, under their printed names."""
    hidden: tuple[str, ...] = (
        ("estimate", "std.error", "conf.low", "conf.high", "df") if "value" in table else ()
    )
    hidden += ("df", "p.value") if "cc.rows" in table else ()
    names = [name for name in SHOWN if name in table and name not in hidden]
    return table[names].set_axis([SHOWN[name] for name in names], axis=1)


def _written(rows: pd.DataFrame) -> str:
    return rows.to_string(index=False, float_format=lambda x: f"{x:.4g}", na_rep="")

"""Printed tables of pooled estimates."""

from __future__ import annotations

import pandas as pd

from bayesimp.layout import tabulated

__all__ = ["as_text", "shown_columns"]

SHOWN = {
    "term": "", "value": "value", "value.low": "2.5%", "value.high": "97.5%", "estimate": "estimate",
    "std.error": "std.error", "conf.low": "2.5%", "conf.high": "97.5%", "df": "df", "p.value": "p.value", "fmi": "fmi",
    "mc.error": "mc.error",
    "cc.estimate": "| complete rows:", "cc.std.error": "std.error", "cc.value": "| complete rows:",
}  # fmt: skip


def as_text(table: pd.DataFrame) -> str:
    """A table of pooled estimates as text."""
    return tabulated(shown_columns(table), missing="")


def shown_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The most important columns of a table of pooled estimates, under their printed names."""
    hidden: tuple[str, ...] = (
        ("estimate", "std.error", "conf.low", "conf.high", "df") if "value" in table else ()
    )
    hidden += ("df", "p.value") if "cc.rows" in table else ()
    names = [name for name in SHOWN if name in table and name not in hidden]
    return table[names].set_axis([SHOWN[name] for name in names], axis=1)

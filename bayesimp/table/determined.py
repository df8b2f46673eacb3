"""Incomplete variables that another column determines: the same answers under another name, a score cut into classes.

Unlike a column that numbers groups of rows, such a column has the same values in many clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayesimp.events import Event
from bayesimp.table.incomplete import IncompleteData

__all__ = ["determined"]

WRITTEN = 6  # a recoding of more values is not written out


def determined(data: IncompleteData, name: str, constant_in: Sequence[str]) -> Event | None:
    """An event if a column determines a variable in the whole table.

    Parameters
    ----------
    constant_in
        Columns in whose values, within every cluster, the variable has a single value, other than by chance.
    """
    frame, best = data.frame, None
    for other in constant_in:
        both = frame[[name, other]].notna().all(axis=1).to_numpy()
        pairs = frame.loc[both, [other, name]].astype(object).drop_duplicates()
        if pairs[other].duplicated().any() or not _recurs(frame.loc[both, other], data.codes[both]):
            continue
        if best is None or len(pairs) < len(best[1]):
            best = other, pairs, both
    return None if best is None else _event(data, name, *best)


def _recurs(values: pd.Series, clusters: np.ndarray) -> bool:
    """Whether most rows have a value that occurs in several clusters: no column that numbers groups."""
    key = values.astype(object).to_numpy()
    several = pd.Series(clusters).groupby(key).nunique() > 1
    return bool(several.reindex(key).mean() > 0.5)


def _event(data: IncompleteData, name: str, other: str, pairs: pd.DataFrame, both: np.ndarray) -> Event:
    frame, missing = data.frame, data.missing(name)
    known = int((missing & frame[other].isin(pairs[other]).to_numpy()).sum())
    recoding = dict(sorted(zip(pairs[other], pairs[name], strict=True), key=lambda pair: str(pair[0])))
    code = repr({_plain(k): _plain(v) for k, v in recoding.items()}) if len(pairs) <= WRITTEN else "..."
    made = f"table[{name!r}] = table[{other!r}].map({code})"
    text = (
        f"'{other}' determines '{name}' in all {int(both.sum()):,} rows in which both are observed. Imputed as a "
        "variable of its own, it will contradict that, and the two may not mix. "
    )
    if known:
        text += f"{known:,} of its {int(missing.sum()):,} missing values follow from '{other}'. "
    text += f"Leave '{name}' out of the table that is imputed, and compute it in the completed tables: {made}"
    return Event("determined", name, text, int(missing.sum()))


def _plain(value: object) -> object:
    """A Python value for a NumPy one, which is printed without its type; whole numbers without a decimal point."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value

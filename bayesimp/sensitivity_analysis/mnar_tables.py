"""Tables of a not-at-random analysis: pooled estimates and summaries of the imputed values, by scenario.

The seed is the same in every scenario, so imputation k of one is compared with imputation k of another:

    mc.change = sd_k(Q_k - Q_k^o) / (sqrt(m) std.error^o)      Monte Carlo error of `change`; o: values at random

which is far below the Monte Carlo errors of the two estimates themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayesimp.analysis.fit import Fits
from bayesimp.imputation.result import Imputations
from bayesimp.sensitivity_analysis.deltas import AT_RANDOM, Axis, DeltaScenario
from bayesimp.sensitivity_analysis.tables import pooled_table
from bayesimp.table.incomplete import IncompleteData

__all__ = ["ALL", "estimates", "imputed_values"]

ALL = "all"


def estimates(
    fits: Mapping[str, Mapping[str, Fits]],
    scenarios: Sequence[DeltaScenario],
    axes: Sequence[Axis],
    level: float,
) -> pd.DataFrame:
    """Pooled estimates of every analysis, with the columns described in `NotAtRandom`."""
    parts = []
    for analysis in fits[AT_RANDOM]:
        of = {name: by_analysis[analysis] for name, by_analysis in fits.items()}
        table = pooled_table(of, AT_RANDOM, level).rename(columns={"prior": "scenario"})
        table.insert(table.columns.get_loc("mc.error"), "mc.change", _paired_errors(table, of))
        parts.append(table.assign(analysis=analysis))
    values = {scenario.name: scenario.values for scenario in scenarios}
    table = pd.concat(parts, ignore_index=True)
    for k, axis in enumerate(axes):
        table[f"delta {axis.label}"] = [values[name][k] for name in table["scenario"]]
    first = ["analysis", "scenario", *(f"delta {axis.label}" for axis in axes)]
    return table[[*first, *(name for name in table if name not in first)]]


def _paired_errors(table: pd.DataFrame, fits: Mapping[str, Fits]) -> np.ndarray:
    """(rows,) Monte Carlo error of `change`; nan for variance components."""
    origin = fits[AT_RANDOM]
    unit = table[(table["scenario"] == AT_RANDOM) & (table["part"] == "fixed effect")].set_index("term")[
        "std.error"
    ]
    out = np.full(len(table), np.nan)
    for row, (scenario, part, term) in enumerate(
        zip(table["scenario"], table["part"], table["term"], strict=True)
    ):
        if part == "fixed effect":
            k, m = origin.names.index(term), min(len(origin), len(fits[scenario]))
            moved = fits[scenario].estimates[:m, k] - origin.estimates[:m, k]
            out[row] = moved.std(ddof=1) / np.sqrt(m) / unit[term] if m > 1 else np.nan
    return out


def imputed_values(
    imputations: Mapping[str, Imputations], data: IncompleteData, variables: Sequence[str], by: str | None
) -> pd.DataFrame:
    """The imputed values in every scenario, with the columns described in `NotAtRandom`.

    data: the table before imputation; variables: those with deltas, which are shown by group.
    """
    rows: list[dict[str, Any]] = []
    for name in imputations[AT_RANDOM].imputed_columns:
        if name not in data.frame.columns:
            continue
        grouped = by is not None and name in variables
        for group, where in _groups(data, by if grouped else None).items():
            rows += _of_group(imputations, data, name, group, where)
    table = pd.DataFrame(rows)
    key = ["variable", "group", "quantity"]
    origin = table[table["scenario"] == AT_RANDOM].set_index(key)["imputed"]
    table["moved"] = (
        table["imputed"].to_numpy() - origin.reindex(pd.MultiIndex.from_frame(table[key])).to_numpy()
    )
    return table


def _groups(data: IncompleteData, by: str | None) -> dict[Any, np.ndarray]:
    """Value of the grouping column -> (n,) its rows; a single group of all rows if there is no grouping column."""
    if by is None:
        return {ALL: np.ones(len(data), dtype=bool)}
    column = np.asarray(data.clusters[data.codes] if by == data.cluster else data.frame[by], dtype=object)
    return {value: column == value for value in sorted(set(column), key=str)}


def _of_group(
    imputations: Mapping[str, Imputations], data: IncompleteData, name: str, group: Any, where: np.ndarray
) -> list[dict[str, Any]]:
    """Rows of the table for a variable in a group: its mean, or the share of each level."""
    seen = data.numeric(name)[where]
    seen = seen[~np.isnan(seen)]
    levels = data.levels(name)
    measures = {f"share of {level}": k for k, level in enumerate(levels)} if levels else {"mean": None}
    rows = []
    for scenario, imp in imputations.items():
        inside = where[imp.rows(name)]
        values = imp.values(name)[:, inside]
        if not inside.any():
            continue
        for quantity, k in measures.items():
            shown = [part if k is None else part == k for part in (values, seen)]
            rows.append({
                "scenario": scenario, "variable": name, "group": group, "quantity": quantity,
                "rows": int(inside.sum()), "imputed": float(shown[0].mean()),
                "observed": float(shown[1].mean()) if len(seen) else np.nan,
                "observed.sd": float(seen.std(ddof=1)) if k is None and len(seen) > 1 else np.nan,
            })  # fmt: skip
    return rows

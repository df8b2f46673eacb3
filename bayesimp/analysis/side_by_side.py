"""Compare one analysis under several treatments of missing values, as in Jolani (2025), table 5.

reference        the table before values were removed (simulations only)
complete cases   rows that are complete in the columns of the analysis
imputed          every completed table, pooled by Rubin's rules
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesimp.analysis.bases import SomeRows
from bayesimp.analysis.fit import Fits, fit_each
from bayesimp.analysis.named import check_options
from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.formula import parse
from bayesimp.table.incomplete import IncompleteData
from bayesimp.table.reading import as_pandas

if TYPE_CHECKING:
    from bayesimp.analysis.pool import Pooled

__all__ = ["complete_cases", "side_by_side"]


def complete_cases(table: Any, analysis: str, **options: Any) -> Fits:
    """Fit the analysis to the rows that are complete in its columns.

    Parameters
    ----------
    table
        `IncompleteData`, or a pandas, polars or Arrow table; a complete table gives the reference analysis.
    analysis
        A formula.
    options
        See `fit_each`.

    Returns
    -------
    `Fits` of one table, which prints estimates, standard errors and intervals; ``[0].to_frame()`` is that table.

    Raises
    ------
    DataError
        No row is complete.
    """
    check_options(options, complete_cases)
    frame = table.frame if isinstance(table, IncompleteData) else as_pandas(table)[0]
    if isinstance(table, IncompleteData):
        options.setdefault("cluster", table.cluster)
    formula = parse(analysis)
    extra = [options[name] for name in ("trials", "weights", "offset") if options.get(name)]
    columns = dict.fromkeys((*formula.columns, *extra))
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise SpecificationError(f"Formula {analysis!r}: the table has no column '{absent[0]}'.")
    rows = frame.dropna(subset=list(columns))
    if rows.empty:
        missing = frame[list(columns)].isna().mean().sort_values(ascending=False)
        raise DataError(
            f"No row is complete in {', '.join(columns)}, so nothing can be analysed without imputing. "
            f"'{missing.index[0]}' is missing in {missing.iloc[0]:.0%} of {len(frame):,} rows."
        )
    return fit_each(SomeRows(rows, frame), analysis, **options)


def side_by_side(
    analysis: str, results: Mapping[str, Any], *, components: str = "median", **options: Any
) -> pd.DataFrame:
    """Estimates of one analysis under several methods, in one table.

    Parameters
    ----------
    analysis
        A formula, as for `fit_each`.
    results
        Label -> `Imputations` or a list of completed tables (analysed and pooled), `Fits` (pooled), or `IncompleteData`
        or a table (`complete_cases`; a complete table gives the reference).
    components
        Scale on which variance components are pooled; see `pool_components`. They are shown as standard deviations and
        correlations, or as variances if pooled as such.
    options
        See `fit_each`: family, link, ...

    Returns
    -------
    DataFrame with a row for each coefficient and variance component and columns (label, ``estimate`` or ``std.error``).
    Standard errors of components are nan if their scale has none. ``attrs["rows"]``: label -> number of rows analysed.
    """
    if not isinstance(results, Mapping):
        raise SpecificationError(
            "side_by_side takes a mapping label -> result, {'imputed': imp, 'complete cases': data}; got "
            f"{type(results).__name__}."
        )
    check_options(options, side_by_side)
    columns, rows = {}, {}
    for label, result in results.items():
        if not isinstance(result, Fits | IncompleteData | Iterable) and not hasattr(result, "frame"):
            raise SpecificationError(
                f"side_by_side cannot analyse {label!r}, which is {type(result).__name__}: give imputations, fits "
                "(imp.analyse(...), before pooling), IncompleteData or a table."
            )
        fits, rows[label] = _fits(result, analysis, options)
        table = _estimates(fits, components)
        columns[label, "estimate"], columns[label, "std.error"] = table["estimate"], table["std.error"]
    out = pd.DataFrame(columns)
    order = dict.fromkeys(name for column in columns.values() for name in column.index)
    out = out.reindex(list(order))
    out.index.name = "term"
    out.attrs["rows"] = rows
    return out


def _fits(result: Any, analysis: str, options: dict) -> tuple[Fits, int]:
    """Fits, and the number of rows analysed in each table (-1 if unknown)."""
    if isinstance(result, Fits):
        return result, -1
    imputations = hasattr(result, "frame") and hasattr(result, "m")
    if isinstance(result, IncompleteData) or (hasattr(result, "columns") and not imputations):
        frame = result.frame if isinstance(result, IncompleteData) else as_pandas(result)[0]
        fits = complete_cases(result, analysis, **options)
        used = list(parse(analysis).columns)
        return fits, int(frame[used].notna().all(axis=1).sum())
    if not imputations:
        result = list(result)
        return fit_each(result, analysis, **options), len(result[0])
    return fit_each(result, analysis, **options), len(result.frame(0))


def _estimates(fits: Fits, scale: str) -> pd.DataFrame:
    if len(fits) == 1:
        with np.errstate(invalid="ignore"):
            se = np.sqrt(np.diag(fits.covariances[0]))
        parts = [pd.DataFrame({"estimate": fits.estimates[0], "std.error": se}, index=list(fits.names))]
    else:
        parts = [_frame(fits.pool())]
    if fits.component_names and len(fits) == 1:
        values = [
            np.tanh(value) if name.startswith("cor(") else np.exp(value)
            for name, value in zip(fits.component_names, fits.components[0], strict=True)
        ]
        parts.append(
            pd.DataFrame({"estimate": values, "std.error": np.nan}, index=list(fits.component_names))
        )
    elif fits.component_names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nan marks components without a standard error
            parts.append(_frame(fits.pool_components(scale)))
    return pd.concat(parts)


def _frame(pooled: Pooled) -> pd.DataFrame:
    table = pooled.to_frame()
    return table.set_index("term")[["estimate", "std.error"]]

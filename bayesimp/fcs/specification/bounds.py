"""Read and check bounds of imputed values: one pair per variable, or one per row (detection limits).

A bounded value is drawn from its conditional distribution given that it lies within the bounds: the truncated normal,
for normal variables imputed one at a time. Matched values respect bounds because all observed values do.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.families.registry import family_of
from bayesimp.fcs.specification.records import ConditionalModel, Conditionals
from bayesimp.messages import listing, suggestion, where
from bayesimp.table.incomplete import IncompleteData, check_index

__all__ = ["checked_bounds", "limits"]

Bound = float | NDArray[np.float64] | None


def checked_bounds(data: IncompleteData, bounds: Any, spec: Conditionals) -> dict[str, tuple[Bound, Bound]]:
    """Variable -> (lower, upper): numbers, None, or (n,) by row of the table, infinite where there is no bound.

    Raises
    ------
    SpecificationError
        A variable or method cannot have bounds, a value is not a pair, or an interval is empty.
    DataError
        Observed values are outside the bounds.
    """
    if not isinstance(bounds, Mapping | None):
        raise SpecificationError(f"bounds takes {{variable: (lower, upper)}}, got {type(bounds).__name__}.")
    found = {}
    for name, pair in (bounds or {}).items():
        if name not in spec.incomplete:
            raise SpecificationError(f"bounds: '{name}' is not imputed. {suggestion(name, spec.incomplete)}")
        block = next(block for block in spec.blocks if name in block.responses)
        _check_pair(name, pair)
        found[name] = (_bound(name, pair, 0, data), _bound(name, pair, 1, data))
        by_row = any(isinstance(bound, np.ndarray) for bound in found[name])
        _check_model(name, block, data.families[name], by_row)
        low, high = limits(found[name], len(data.frame))
        _check_values(name, pair, low, high, data, by_row)
        if block.method.level == "cluster" and by_row:
            _check_clusters(name, low, high, data)
    return found


def limits(pair: tuple[Bound, Bound], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds, (n,) each, infinite where there is no bound."""
    low, high = (
        np.full(n, none) if bound is None else np.broadcast_to(np.asarray(bound, dtype=float), n)
        for bound, none in zip(pair, (-np.inf, np.inf), strict=True)
    )
    return low, high


def _check_pair(name: str, pair: Any) -> None:
    if isinstance(pair, str | Mapping | pd.DataFrame) or not hasattr(pair, "__len__") or len(pair) != 2:
        raise SpecificationError(
            f"bounds['{name}'] must be (lower, upper), each a number, None, or one number per row; got {pair!r}."
        )


def _bound(name: str, pair: Any, side: int, data: IncompleteData) -> Bound:
    """One of the two bounds; nan in an array means no bound."""
    bound = pair[side]
    what = f"bounds['{name}']"
    if bound is None:
        return None
    if isinstance(bound, Real) and not isinstance(bound, bool | np.bool_):
        if np.isnan(float(bound)):
            raise SpecificationError(f"{what}: nan is not a bound; give None for no bound.")
        return float(bound)
    n = len(data.frame)
    check_index(data, bound, what)
    try:
        series = pd.Series(bound) if np.ndim(bound) == 1 else None
        values = None if series is None else pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        values = None
    if values is None or len(values) != n:
        shape = f"shape {np.shape(bound)}" if np.ndim(bound) else repr(bound)
        raise SpecificationError(
            f"{what} must be (lower, upper), each a number, None, or {n:,} numbers, one per row of the table; "
            f"got {shape}."
        )
    return np.where(np.isnan(values), (-np.inf, np.inf)[side], values)


def _check_model(name: str, block: ConditionalModel, family: str, by_row: bool) -> None:
    """Refuse bounds unless values are drawn one by one from a normal distribution or matched."""
    what, method = f"bounds['{name}']", block.method
    if len(block.responses) > 1:
        raise SpecificationError(
            f"{what}: '{name}' is imputed jointly with others (block '{block.name}'), but bounds are for variables "
            "imputed one by one. Remove it from the block."
        )
    if "bounds" not in method.options and (method.own_model or method.may_bound):
        raise SpecificationError(f"{what}: {method.refusal('bounds', name)}")
    matched = method.matches
    coded = family_of(family).is_coded
    if coded or not (block.distribution.is_normal or matched):
        raise SpecificationError(
            f"{what}: bounds are for normal variables, but it is {family}. Change the drawn values by "
            f"post={{'{name}': ...}}"
            + ("." if coded else f", or use matching: methods={{'{name}': 'pmm'}} imputes observed values.")
        )
    if matched and by_row:
        raise SpecificationError(
            f"{what}: '{method.name}' uses values of other rows, which may be outside the bounds of a row. Give one "
            f"pair for all rows, or use a method that draws: methods={{'{name}': 'bayes'}}."
        )


def _check_values(
    name: str, pair: Any, low: NDArray, high: NDArray, data: IncompleteData, by_row: bool
) -> None:
    what = f"bounds['{name}']"
    empty = ~(low < high) | (low == np.inf) | (high == -np.inf)
    if empty.any():
        if not by_row:
            raise SpecificationError(
                f"{what}: {tuple(pair)} is empty; give (lower, upper), None for no bound."
            )
        first = int(np.argmax(empty))
        raise SpecificationError(
            f"{what}: no value is between {low[first]:g} and {high[first]:g} {where(empty, index=data.frame.index)}; "
            "give a lower and a higher number, nan for no bound."
        )
    y = data.numeric(name)
    outside = (y < low) | (y > high)
    if not outside.any():
        return
    count = int(outside.sum())
    if by_row:
        raise DataError(
            f"{what}: observed values are outside their row's bounds {where(outside, index=data.frame.index)}. Are the "
            "rows in the order of the table? To bound only cells to be imputed, give nan in the other rows."
        )
    raise DataError(
        f"{what} = {tuple(pair)}: {count} observed value{'s are' if count > 1 else ' is'} outside. Widen the bounds, "
        "or correct the values."
    )


def _check_clusters(name: str, low: NDArray, high: NDArray, data: IncompleteData) -> None:
    """Refuse bounds of a cluster-level variable that no value can satisfy in all rows of some cluster."""
    y, m = data.numeric(name), len(data.clusters)
    lower, upper = np.full(m, -np.inf), np.full(m, np.inf)
    np.maximum.at(lower, data.codes, low)
    np.minimum.at(upper, data.codes, high)
    known = np.full(m, np.nan)
    known[data.codes[~np.isnan(y)]] = y[~np.isnan(y)]
    bad = ~(lower < upper) | (known < lower) | (known > upper)
    if bad.any():
        c = int(np.argmax(bad))
        raise SpecificationError(
            f"bounds['{name}']: '{name}' has a single value in each cluster, but no value (or not the observed one) is "
            f"between {lower[c]:g} and {upper[c]:g}, the bounds of all rows of cluster {listing([data.clusters[c]])}."
        )

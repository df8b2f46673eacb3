"""The response of an ordinal analysis: its levels in order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from bayesimp.analysis.linear import check_complete
from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.formula import Formula
from bayesimp.messages import listing
from bayesimp.notation import IntVector, Vector

__all__ = ["ordered_levels"]

FEWEST, MOST = 3, 50


def ordered_levels(
    response: pd.Series, starts: IntVector, formula: Formula, fixed: tuple[str, ...]
) -> tuple[Vector, tuple, tuple[str, ...]]:
    """Places (N,) of a response among its levels, the levels, and the names of the thresholds between them.

    The levels are those of an ordered category that occur, or whole numbers. fixed: names of the columns of X, of which
    the first is the intercept, whose place the thresholds take.

    Raises
    ------
    DataError, SpecificationError
        The response has no order, or fewer than three or too many levels; the formula has no intercept.
    """
    name = response.name
    complete = response.notna().to_numpy()
    if pd.api.types.is_numeric_dtype(response):
        complete = np.isfinite(response.to_numpy(dtype=float, na_value=np.nan))
    check_complete(name, complete, starts)
    if not fixed or fixed[0] != "Intercept":
        raise SpecificationError(
            f"{formula.text!r}: thresholds take the place of the intercept; remove 0 + (or - 1) from the formula."
        )
    values = response
    if isinstance(response.dtype, pd.CategoricalDtype):
        if not response.cat.ordered:
            raise DataError(_without_order(name, list(response.cat.categories)))
        present = set(response)
        levels = [level for level in response.cat.categories if level in present]
    else:
        if not pd.api.types.is_numeric_dtype(response):
            raise DataError(_without_order(name, sorted(map(str, response.unique()))))
        values = response.astype(float)
        if (values != np.floor(values)).any():
            raise DataError(
                f"the response {name!r} has values such as {values[values != np.floor(values)].iloc[0]:g}; family "
                "'ordinal' needs an ordered category or whole numbers. If they were imputed, declare the family before "
                f"imputing: families={{{name!r}: 'ordinal'}}."
            )
        levels = [int(level) for level in np.sort(values.unique())]
    if len(levels) < FEWEST:
        raise DataError(
            f"the response {name!r} has {len(levels)} levels ({listing(levels)}); an ordinal model needs three or more. "
            "Give family='bernoulli' for two."
        )
    if len(levels) > MOST:
        raise DataError(
            f"the response {name!r} has {len(levels)} levels, and an ordinal model one threshold fewer. Analyse it as a "
            "number (family='normal'), or join levels."
        )
    place = {level: l for l, level in enumerate(levels)}
    y = values.map(place).to_numpy(dtype=float)
    return y, tuple(levels), tuple(f"{a}|{b}" for a, b in pairwise(levels))


def _without_order(name: object, levels: list) -> str:
    shown = ", ".join(repr(level) for level in levels[:4]) + (", .." if len(levels) > 4 else "")
    return (
        f"the response {name!r} has levels without an order ({listing(levels)}). Give them one before imputing, "
        f"table[{name!r}] = pandas.Categorical(table[{name!r}], [{shown}], ordered=True), from the lowest level to the "
        "highest."
    )

"""Refuse factors without fixed levels: C(x) for a variable that was imputed as continuous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayesimp.errors import DataError
from bayesimp.formulas.formula import Formula

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables

__all__ = ["check_levels"]


def check_levels(tables: Tables, formula: Formula) -> None:
    """Refuse C(x) if x has fractional values that occur in only one of the first two completed tables.

    Raises
    ------
    DataError
        The levels of a factor differ between tables; the message says how to impute the variable instead.
    """
    names = [name for name, uses in formula.uses.items() if "factor" in uses]
    if tables.m < 2 or not names:
        return
    first, second = tables.frame(0), tables.frame(1)
    for name in names:
        if any(name not in t or not pd.api.types.is_float_dtype(t[name].dtype) for t in (first, second)):
            continue
        one, other = (t[name].to_numpy(float, na_value=np.nan) for t in (first, second))
        apart = np.setxor1d(one[np.isfinite(one)], other[np.isfinite(other)])
        fractions = apart[apart != np.floor(apart)]
        if len(fractions):
            raise DataError(
                f"{formula.text!r}: '{name}' is used as a factor, and {len(fractions):,} of its values, such as "
                f"{fractions[0]:.4g}, are in one of the first two completed tables only: it was imputed as continuous, "
                f"and levels differ between tables. Declare its family, families={{'{name}': 'ordinal'}} (or "
                f"'categorical'), and impute again; or use it as a number, '{name}' alone."
            )

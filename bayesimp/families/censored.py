"""The censored normal family: some values are known only to lie below or above a limit.

    censored(c)    y = eta + e,    e ~ N(0, sigma^2)

    c = "none"     y is observed                       contributes the density  p(y | eta)
    c = "left"     y is below the number given         contributes  P(y <= limit | eta)
    c = "right"    y is above the number given         contributes  P(y >= limit | eta)

The column of the variable holds its value or its limit, as in R's survival and brms, so that each study or laboratory
may have its own limit; the column c says which it is. c takes these words only, because -1 is "left" in brms and
"right" in nlmixr2, and TRUE is left-censored in NADA and right-censored in survival.

The parameters are those of the normal family. They are drawn given completed values, with censored values drawn within
their limits (Tobin 1958; Chib 1992), which is exact for the probabilities above.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError
from bayesimp.families.normal import log_normal, simulate_normal
from bayesimp.families.record import REAL, Family
from bayesimp.kernels.families import codes
from bayesimp.messages import listing

__all__ = ["CENSORED", "CENSORING", "censored_cells", "check_censoring"]

CENSORING = ("left", "none", "right")

CENSORED = Family(
    "censored", "numbers, some known only to lie beyond a limit", REAL, {"identity": codes.NORMAL}, spare_rows=5,
    is_censored=True, log_density=log_normal, simulate=simulate_normal,
)  # fmt: skip


def check_censoring(
    name: str, column: pd.Series, flags: pd.Series, words: Callable[[NDArray[np.bool_]], str]
) -> None:
    """Refuse a column that does not say for each value whether it is observed or a limit.

    Parameters
    ----------
    name
        Name of the variable.
    column, flags
        (n,) its values or limits, and the words that say which.
    words
        Describes rows in words.

    Raises
    ------
    DataError
        An entry is not one of the words, or a value has none.
    """
    there = flags.notna().to_numpy()
    strange = there & ~flags.isin(CENSORING).to_numpy()
    if strange.any():
        found = listing(pd.unique(flags[strange].astype(object)), 5)
        raise DataError(
            f"'{flags.name}', which says how '{name}' is censored, has {found} {words(strange)}. It takes 'none' "
            "(observed), 'left' (below the limit given) and 'right' (above it). Numbers and True mean "
            "different things in different programs; write words, for example "
            f"table['{flags.name}'] = table['{flags.name}'].map({{True: 'left', False: 'none'}})."
        )
    lacking = column.notna().to_numpy() & ~there
    if lacking.any():
        raise DataError(
            f"'{flags.name}' is missing {words(lacking)} where '{name}' is a number; say whether this is its value "
            "('none') or a limit ('left', 'right')."
        )


def censored_cells(column: pd.Series, flags: pd.Series) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each cell is left-censored, and right-censored, (n,) each; missing cells are neither."""
    there = column.notna().to_numpy()
    return there & (flags == "left").to_numpy(bool, na_value=False), there & (flags == "right").to_numpy(
        bool, na_value=False
    )

"""Design matrices of new rows: the columns of a model, at rows that its table does not have.

The new rows are put below the rows of the table, and one design is built of both, so that factors have the levels and
columns of the table. Means, sums and sizes of a known cluster stay those of the table: they are its covariates, with the
values from which the model has learnt. Those of a new cluster are over its new rows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
from bayesimp.formulas.terms import STATEFUL
from bayesimp.messages import listing
from bayesimp.table.new_rows import NewRows

__all__ = ["joined_column", "new_design"]

Array = NDArray[np.float64]


def new_design(formula: Formula, known: DesignMatrices, new: NewRows) -> tuple[Array, Array]:
    """X (n, p) and Z (n, q) of new rows.

    Parameters
    ----------
    formula
        The formula of the model.
    known
        The design matrices of its table, ``new.training``.
    new
        The new rows.

    Raises
    ------
    SpecificationError
        The formula has a function whose columns depend on all rows of the table, or the new rows lack a column.
    DataError
        Missing or infinite covariates; levels that the table does not have; another type than in the table.
    """
    if formula.stateful:
        raise SpecificationError(
            f"Formula {formula.text!r}: new rows cannot be completed, because columns of {', '.join(STATEFUL)} depend on "
            "all rows of the table. Make these columns in the table, with numbers that you know again for new rows."
        )
    names = list(formula.variables)
    new.require(names, "covariate")
    new.require_complete(names)
    n = len(new.training)
    both = pd.DataFrame(
        {name: joined_column(name, formula.uses[name], new) for name in names}, index=range(n + len(new))
    )
    codes = new.codes_beside_table
    made = design(formula, both, codes=codes, counted=np.arange(len(both)) < n)
    same = made.fixed == known.fixed and made.random == known.random
    if not (same and np.array_equal(made.X[:n], known.X) and np.array_equal(made.Z[:n], known.Z)):
        raise SpecificationError(
            f"Formula {formula.text!r}: with the new rows its columns differ from those that the run has learnt from "
            f"({listing(made.fixed, 8)} instead of {listing(known.fixed, 8)}). Make the columns of its functions in the "
            "table."
        )
    return made.X[n:], made.Z[n:]


def joined_column(name: str, uses: frozenset[str], new: NewRows) -> pd.Series:
    """A complete column of the table, with that of the new rows below it, in the type of the table's.

    uses: as `Formula.uses` has them.

    Raises
    ------
    DataError
        A level that the table does not have; no number where the table has numbers.
    """
    theirs, ours = new.training.frame[name], new.frame[name]
    category = isinstance(theirs.dtype, pd.CategoricalDtype)
    text = category or not pd.api.types.is_numeric_dtype(theirs.infer_objects().dtype)
    if text or "factor" in uses:
        levels = theirs.cat.remove_unused_categories().cat.categories if category else theirs.unique()
        unknown = ~ours.astype(object).isin(list(levels)).to_numpy()
        if unknown.any():
            raise DataError(
                f"'{name}' has levels that the table of the run does not have, "
                f"{listing(pd.unique(ours[unknown].astype(object)))}, {new.grouping.where(unknown)}: the model knows no "
                f"effect of them. Its levels are {listing(levels, 20)}."
            )
        return pd.concat([theirs, ours.astype(object).astype(theirs.dtype)], ignore_index=True)
    kind = pd.api.types.infer_dtype(ours, skipna=True)
    if kind not in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
        raise DataError(
            f"'{name}' is {kind}, of type {ours.dtype}, in the new table ({listing(pd.unique(ours)[:6], 3)}; "
            f"{len(ours):,} rows) and a number ({theirs.dtype}) in the table of the run. Turn it into numbers: "
            f"pandas.to_numeric(new[{name!r}])."
        )
    return pd.Series(np.concatenate([np.asarray(theirs, np.float64), np.asarray(ours, np.float64)]))

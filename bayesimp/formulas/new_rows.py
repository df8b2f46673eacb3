"""Design matrices of new rows, which are not in the table of a model.

The new rows are put below those of the table and one design is built for both, so that factors have the levels and
columns of the table. Means, sums and sizes of a known cluster remain those of the table, because these are the
covariate values to which the model was fitted. Those of a new cluster are over its new rows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.design import DesignMatrices, design
from bayesimp.formulas.formula import Formula
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
        The new rows lack a column, or the columns of the formula differ with them.
    DataError
        Covariates are missing or infinite, have levels that are not in the table, or have a different type.
    """
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
            f"Formula {formula.text!r}: with the new rows its columns differ from those of the run "
            f"({listing(made.fixed, 8)} instead of {listing(known.fixed, 8)}). Compute the columns of its functions "
            "in the table."
        )
    return made.X[n:], made.Z[n:]


def joined_column(name: str, uses: frozenset[str], new: NewRows) -> pd.Series:
    """A complete column of the table with that of the new rows below it, in the type of the table's column.

    uses: as in `Formula.uses`.

    Raises
    ------
    DataError
        A level is not in the table, or the table has numbers and the new rows do not.
    """
    theirs, ours = new.training.frame[name], new.frame[name]
    category = isinstance(theirs.dtype, pd.CategoricalDtype)
    text = category or not pd.api.types.is_numeric_dtype(theirs.infer_objects().dtype)
    if text or "factor" in uses:
        levels = theirs.cat.remove_unused_categories().cat.categories if category else theirs.unique()
        unknown = ~ours.astype(object).isin(list(levels)).to_numpy()
        if unknown.any():
            raise DataError(
                f"'{name}' has levels that are not in the table of the run, "
                f"{listing(pd.unique(ours[unknown].astype(object)))}, {new.grouping.where(unknown)}, so the model has "
                f"no effects for them. Its levels are {listing(levels, 20)}."
            )
        return pd.concat([theirs, ours.astype(object).astype(theirs.dtype)], ignore_index=True)
    kind = pd.api.types.infer_dtype(ours, skipna=True)
    if kind not in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
        raise DataError(
            f"'{name}' is {kind}, with type {ours.dtype}, in the new table ({listing(pd.unique(ours)[:6], 3)}; "
            f"{len(ours):,} rows) but a number ({theirs.dtype}) in the table of the run. Convert it to numbers: "
            f"pandas.to_numeric(new[{name!r}])."
        )
    return pd.Series(np.concatenate([np.asarray(theirs, np.float64), np.asarray(ours, np.float64)]))

"""The arm of a trial's rows, one for each patient and visit, as a factor that changes at drop-out.

In a model of the outcome with an effect of each patient,

    eta_ik = x_ik'beta + alpha_v(k) + d_a(ik) + u_i          a(ik): the level of this column, d_reference = 0

a(ik) is "arm and visit" wherever the outcome was observed, so that d are the differences between arms at each visit.
After the last observed visit L it is

    jump to reference               the reference arm            d_a = 0
    copy increments in reference    arm and visit at L           d_a = d_(arm, L); the reference if nothing was observed

The patient's own effect u_i stays: given the patient's observed values it says how far the patient is above or below the
mean of the arm (Keene, Roger, Hartley & Kenward 2014 with gamma effects for counts). Rows with an observed outcome have
their own arm, so parameters and effects have the posterior of values missing at random, in any engine and for any family.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayesimp.arguments import chosen
from bayesimp.errors import DataError, SpecificationError
from bayesimp.messages import listing
from bayesimp.table.reading import as_pandas, check_columns

__all__ = ["arm_by_visit"]

JUMP, INCREMENTS, COPY = "jump to reference", "copy increments in reference", "copy reference"


def arm_by_visit(
    table: Any, outcome: str, *, arm: str, reference: Any, patient: str, visit: str, how: str = JUMP
) -> pd.Series:
    """A column by which the missing values after drop-out are imputed as in a reference arm, for every family.

    Add it to the table and put it in place of the arm in the model of the outcome; analyse by the arm itself.

    Parameters
    ----------
    table
        One row for each patient and planned visit (pandas, polars or Arrow), with rows for the visits after drop-out.
    outcome
        The column that is missing after drop-out.
    arm, patient, visit
        Complete columns; a category of visits is in its own order, other visits are sorted.
    reference
        The arm that other arms resemble after drop-out.
    how
        ``"jump to reference"`` or ``"copy increments in reference"``.

    Returns
    -------
    Series of categories: the reference arm first, then "<arm> <visit>". It has the index of a pandas table.

    Raises
    ------
    SpecificationError
        A column does not exist, no row is of the reference arm, or `how` is "copy reference", for which a column is not
        enough: the patient's effect given the observed values would be another, too.
    DataError
        Arms, patients or visits are missing, a patient has several arms, or a visit has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.DataFrame({"id": [1, 1, 2, 2], "week": [4, 8, 4, 8], "arm": ["drug"] * 2 + ["placebo"] * 2,
    ...                   "falls": [3, None, 5, 4]})
    >>> columns = {"arm": "arm", "reference": "placebo", "patient": "id", "visit": "week"}
    >>> list(arm_by_visit(t, "falls", **columns))
    ['drug 4', 'placebo', 'placebo', 'placebo']
    >>> list(arm_by_visit(t, "falls", how="copy increments in reference", **columns))
    ['drug 4', 'drug 4', 'placebo', 'placebo']
    """
    frame = as_pandas(table)[0]
    check_columns(frame, [patient])
    _check(frame, outcome, arm, reference, patient, visit, how)
    order = frame[visit].cat.categories if hasattr(frame[visit], "cat") else np.sort(frame[visit].unique())
    place = pd.Index(order).get_indexer(frame[visit])
    seen = frame[outcome].notna().to_numpy()
    last = (
        pd.Series(np.where(seen, place, -1))
        .groupby(pd.factorize(frame[patient])[0])
        .transform("max")
        .to_numpy()
    )
    at = place if how == JUMP else np.minimum(place, last)
    in_reference = (frame[arm] == reference).to_numpy() | (at < 0) | ((how == JUMP) & (place > last))
    arms = [a for a in _levels(frame[arm]) if a != reference]
    names = {(a, k): f"{a} {v}" for a in arms for k, v in enumerate(order)}
    rows = zip(frame[arm], at, in_reference, strict=True)
    values = [str(reference) if own else names[a, k] for a, k, own in rows]
    used = set(values)
    levels = [str(reference), *(name for name in names.values() if name in used)]
    return pd.Series(pd.Categorical(values, levels), frame.index, name=f"{arm} by {visit}")


def _levels(column: pd.Series) -> list:
    return list(column.cat.categories) if hasattr(column, "cat") else sorted(column.unique())


def _check(
    frame: pd.DataFrame, outcome: str, arm: str, reference: Any, patient: str, visit: str, how: str
) -> None:
    if how == COPY:
        raise SpecificationError(
            f"how = {COPY!r}: patients would be imputed as if always in the reference arm, so their own effect, given "
            "what was observed, would be another, which a column cannot say. For visits side by side (one row for each "
            "patient) of normal, binary, ordinal or nominal outcomes: bi.ReferenceBased."
        )
    chosen(how, "how", (JUMP, INCREMENTS))
    for name in (outcome, arm, patient, visit):
        if name not in frame:
            raise SpecificationError(
                f"the table has no column {name!r}; it has {listing(frame.columns, 12)}."
            )
    for name in (arm, patient, visit):
        if lacking := int(frame[name].isna().sum()):
            raise DataError(
                f"{name!r} is missing in {lacking:,} rows; without it their arm at a visit is unknown."
            )
    if not (frame[arm] == reference).any():
        raise SpecificationError(
            f"reference: no row has {arm} = {reference!r}; there are {listing(frame[arm].unique(), 12)}."
        )
    arms = frame.groupby(patient, observed=True)[arm].nunique()
    if (arms > 1).any():
        raise DataError(f"{patient} {listing(arms.index[arms > 1][:1])} has rows in several arms of {arm!r}.")
    twice = frame.duplicated([patient, visit])
    if twice.any():
        who, when = (listing(frame.loc[twice, name].iloc[:1]) for name in (patient, visit))
        raise DataError(f"{patient} {who} has several rows at {visit} {when}; give one for each visit.")

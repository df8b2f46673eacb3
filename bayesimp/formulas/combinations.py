"""Variables that are exact combinations of others: the total of a questionnaire, a class numbered within its school.

No model can impute such a variable together with the others: either nothing is left to estimate, or imputed values
contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.formulas.syntax import Name, write
from bayesimp.messages import listing
from bayesimp.table.incomplete import IncompleteData

__all__ = ["combinations", "contradiction", "refuse_combinations", "written_sum"]

COLLINEAR = 1e-6  # smallest singular value of columns of length one


def combinations(
    data: IncompleteData, names: Sequence[str], given: Sequence[str] = (), *, within: bool = False
) -> list[str]:
    """Numeric variables that are linear combinations of the intercept, `given` and the variables before them, complete
    ones first.

    Variables with levels do not count, because their latent values are never determined by others.

    Parameters
    ----------
    within
        Of a constant for every cluster instead of the intercept.
    """
    numbers, basis = (
        [name for name in some if not data.variable(name).distribution.is_coded] for some in (names, given)
    )
    numbers.sort(key=lambda name: -int((~data.missing(name)).sum()))
    found: list[str] = []
    for name in numbers:
        columns = np.column_stack([data.numeric(other) for other in [*basis, name]])
        rows = ~np.isnan(columns).any(axis=1)
        groups = data.codes[rows] if within else np.zeros(rows.sum(), np.int64)
        (found if _is_combination(columns[rows], groups) else basis).append(name)
    return found


def _is_combination(columns: NDArray[np.float64], groups: NDArray[np.int64]) -> bool:
    """Whether the last column is a combination of the others and of constants of groups (n,)."""
    n = np.maximum(np.bincount(groups), 1)
    means = np.column_stack([np.bincount(groups, column) / n for column in columns.T])
    largest = np.abs(columns).max(axis=0, initial=0.0)
    columns = columns - means[groups] if len(columns) else columns
    length = np.linalg.norm(columns, axis=0)
    varying = length > 1e-12 * largest * max(len(columns), 1) ** 0.5
    columns, free = columns[:, varying] / length[varying], len(columns) - len(np.unique(groups))
    if not varying[-1] or free < columns.shape[1]:
        return False
    return bool(np.linalg.svd(columns, compute_uv=False)[-1] < COLLINEAR)


def written_sum(data: IncompleteData, name: str, names: Sequence[str]) -> str:
    """A variable that is an exact combination of others, written as one: ``"a + b + c"``.

    Its coefficients are those of least squares in the rows where all are observed, to six digits; empty if these do not
    give the variable.
    """
    others = [other for other in names if other != name]
    columns = np.column_stack([data.numeric(other) for other in (*others, name)])
    columns = columns[~np.isnan(columns).any(axis=1)]
    X, y = np.column_stack([columns[:, :-1], np.ones(len(columns))]), columns[:, -1]
    c = np.array([float(f"{x:.6g}") for x in np.linalg.lstsq(X, y)[0]])
    moves = np.append(X[:, :-1].std(axis=0), 1.0)  # what a unit of each coefficient contributes
    c = np.where(np.abs(c) * moves < COLLINEAR * y.std(), 0.0, c)
    if np.abs(X @ c - y).max() > 1e-4 * y.std():
        return ""
    terms = [(x, write(Name(other))) for x, other in zip(c[:-1], others, strict=True) if x]
    parts = [
        f"{'-' if x < 0 else '+'} {term if abs(x) == 1 else f'{abs(x):g} * {term}'}" for x, term in terms
    ]
    parts += [f"{'-' if c[-1] < 0 else '+'} {abs(c[-1]):g}"] if c[-1] else []
    return " ".join(parts).removeprefix("+ ")


def contradiction(data: IncompleteData, name: str) -> str:
    """The refusal of a variable that is an exact combination of others, such as the total of a questionnaire."""
    families = {v: data.variable(v).distribution for v in data.variables}
    numbers = [v for v, family in families.items() if family.is_imputable and not family.is_coded]
    text = written_sum(data, name, numbers)
    what = f"equals {text}" if text else "is a linear combination of others"
    return (
        f"'{name}' {what} in all rows where these are observed: imputed together with them, it would contradict "
        f"them. Compute it instead, with derived={{'{name}': '{text or '...'}'}} of chained equations (it stays in the "
        "table), or leave it out."
    )


def refuse_combinations(data: IncompleteData, names: Sequence[str]) -> None:
    """Refuse variables with one residual covariance matrix, some of them incomplete, if one is a combination of others.

    Raises
    ------
    SpecificationError
        A variable is a combination of the others, or differs from one by a constant of each cluster.
    """
    if not any(data.missing(name).any() for name in names):
        return
    for name in combinations(data, names):
        raise SpecificationError(contradiction(data, name))
    for name in combinations(data, names, within=True):
        others = [other for other in names if other != name]
        raise SpecificationError(
            f"'{name}' is a linear combination of {listing(others)} and a constant of each cluster: no variance is left "
            "for it within clusters. Leave one of them out."
        )

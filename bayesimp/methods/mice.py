"""R mice's predictor matrix as formulas.

Rows are the variables imputed, columns their predictors, codes are those of mice (2l.pan, 2l.norm, 2l.lmer):

    -2   the cluster                          1   fixed effect
     0   not used                             2   fixed effect and random slope
                                              3   fixed effect and cluster mean
                                              4   fixed effect, random slope and cluster mean

mitml uses other codes (-2 cluster, 1 imputed, 2 fixed, 3 random); its types are not a predictor matrix.
"""

from __future__ import annotations

from typing import Any

from bayesimp.errors import SpecificationError
from bayesimp.formulas.syntax import Name, write

__all__ = ["from_mice"]

CODES = (-2, 0, 1, 2, 3, 4)


def from_mice(matrix: Any, data: Any) -> dict[str, str]:
    """Formulas by variable from a predictor matrix of R mice.

    Parameters
    ----------
    matrix
        DataFrame with the names of variables as index and columns, or dict of dicts (row -> column -> code).
        Codes are listed in the module's docstring. Rows of complete variables are ignored, as in mice.
    data
        The `IncompleteData`; its cluster must be the column with code -2, where there is one.

    Returns
    -------
    dict variable -> formula, for ``predictors=``. A row with a cluster gets a random intercept, as in mice; a row without
    one is meant for methods that ignore the clusters.

    Raises
    ------
    SpecificationError
        A name is not a column, a code is unknown, the cluster differs from that of the data, or a variable predicts
        itself.
    """
    given = list(matrix.iterrows() if hasattr(matrix, "iterrows") else getattr(matrix, "items", list)())
    if not given or not all(hasattr(row, "items") for _, row in given):
        raise SpecificationError(
            "A predictor matrix is a table with the names of variables as index and columns, or a dict of dicts, "
            f"variable -> predictor -> code; got {type(matrix).__name__}."
        )
    rows = {
        str(name): {str(column): _code(code, name, column) for column, code in row.items()}
        for name, row in given
    }
    columns = set(data.variables) | {data.cluster}
    for name, row in rows.items():
        unknown = [other for other in (name, *row) if other not in columns]
        if unknown:
            raise SpecificationError(
                f"Predictor matrix: '{unknown[0]}' is not a column of the table; leave it out of the matrix."
            )
    return {
        name: _formula(name, row, data.cluster)
        for name, row in rows.items()
        if name != data.cluster and data.missing(name).any()
    }


def _code(code: Any, name: Any, column: Any) -> int:
    if code not in CODES:
        raise SpecificationError(
            f"Predictor matrix: code {code!r} (row '{name}', column '{column}') is not one of mice's -2, 0, 1, 2, "
            "3, 4. (-1, -3 and others belong to other packages: write a formula instead.)"
        )
    return int(code)


def _formula(name: str, row: dict[str, int], cluster: str) -> str:
    groups = [column for column, code in row.items() if code == -2]
    if [g for g in groups if g != cluster]:
        raise SpecificationError(
            f"Predictor matrix: row '{name}' has the cluster (-2) {', '.join(map(repr, groups))}, but the data have "
            f"'{cluster}'; they must be the same."
        )
    used = {column: code for column, code in row.items() if code > 0}
    if cluster in used:
        raise SpecificationError(
            f"Predictor matrix: row '{name}' uses the cluster '{cluster}' as a predictor (code {used[cluster]}); "
            "set it to -2 or 0."
        )
    if name in used:
        raise SpecificationError(f"Predictor matrix: '{name}' predicts itself; set its diagonal cell to 0.")
    spelled = {column: write(Name(column)) for column in used}
    fixed = [spelled[c] for c in used]
    means = [f"cluster_mean({spelled[c]})" for c, code in used.items() if code in (3, 4)]
    slopes = [spelled[c] for c, code in used.items() if code in (2, 4)]
    if not groups and (means or slopes):
        raise SpecificationError(
            f"Predictor matrix: row '{name}' has random slopes or cluster means (2, 3, 4), but no cluster; set column "
            f"'{cluster}' to -2."
        )
    random = [f"({' + '.join(['1', *slopes])} | {write(Name(cluster))})"] if groups else []
    return f"{write(Name(name))} ~ {' + '.join(['1', *fixed, *means, *random])}"

"""Design matrices: X for the fixed part, Z for the random part, and checks that they are usable.

Columns are as in formulae (treatment contrasts, ``"gender[M]"``), for each part from its own right-hand side; a group
is represented by codes, never by dummies. Levels of text are sorted, those of a category are in its order, as in R and
in imputation; ``C(x, Treatment("b"))`` chooses the reference. Categories without rows have no column. formulae gets
renamed columns, whatever the names in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.computed import Computed
from bayesimp.formulas.formula import Formula, plain_terms, product_text, signed
from bayesimp.formulas.syntax import Level, Name, Node, label, read
from bayesimp.messages import suggestion, where
from bayesimp.table.clusters import Clusters

__all__ = ["DesignMatrices", "check_rank", "design"]

MOST_LEVELS = 20  # most levels of a factor if some are fractions
LEAST, MOST = (
    1e-145,
    1e145,
)  # limits for the largest number of a column, so that sums of squares can be computed
Place = Callable[[NDArray[np.bool_]], str]  # describes rows in words (`bayesimp.messages.where`)
TOLERANCE = 1e-7  # as in R's lm: part of a unit-length column that the other columns must leave unexplained


@dataclass(frozen=True)
class DesignMatrices:
    """Design matrices of a formula.

    Attributes
    ----------
    X, Z
        (n, p) and (n, q) float64, with rows as in the table.
    fixed, random
        Names of the columns of X and Z: ``"Intercept"``, ``"gender[M]"``.
    terms, random_terms
        The columns of X and Z as written in a formula: `` `blood pressure`:gender[M] ``.
    """

    X: NDArray[np.float64]
    Z: NDArray[np.float64]
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    terms: tuple[str, ...] = ()
    random_terms: tuple[str, ...] = ()


def design(
    formula: Formula,
    frame: pd.DataFrame,
    *,
    clusters: Clusters | None = None,
    codes: NDArray[np.integer] | None = None,
    counted: NDArray[np.bool_] | None = None,
    independent: bool = True,
) -> DesignMatrices:
    """Design matrices of a formula with at most one random term.

    Parameters
    ----------
    formula
        Result of `bayesimp.formulas.formula.parse`. Responses and group are ignored.
    frame
        The table, n rows.
    clusters
        The clusters of the rows, for `cluster_mean` and the like and for messages.
    codes
        (n,) cluster of each row, from 0, for `cluster_mean` and the like, if the rows come from several tables.
    counted
        (n,) rows over which `cluster_mean` and the like are taken (all rows in clusters without such rows), and that
        determine the knots of splines, the centre of `center` and the like, unless `Formula.bases` does; None: all.
    independent
        Whether columns must be linearly independent. False for a part of a table, in which a column may be constant.

    Raises
    ------
    SpecificationError
        A name is not a column, there are several random terms, or formulae cannot build a term.
    DataError
        Covariates are missing or infinite, a transformation is not finite, columns are constant or collinear, or there
        are fewer rows than columns.
    """
    if len(formula.random) > 1:
        raise SpecificationError(
            f"Formula {formula.text!r} has {len(formula.random)} random terms; only one is allowed here. Join "
            "terms on the same group as (1 + x || group) or (1 + x | group)."
        )
    unknown = [name for name in formula.variables if name not in frame.columns]
    if unknown:
        hint = suggestion(unknown[0], frame.columns)
        raise SpecificationError(f"Formula {formula.text!r}: the table has no column '{unknown[0]}'. {hint}")
    columns = frame[list(formula.variables)]
    place = clusters.where if clusters is not None else partial(where, index=frame.index)
    _check_complete(columns, formula, place)
    columns = pd.DataFrame(
        {name: _plain(columns[name], formula.uses[name]) for name in columns}, index=frame.index
    )

    _check_levels(columns, formula, intercept=formula.fixed.split()[0] == "1")
    computed = Computed(
        columns, formula.text, codes if clusters is None else clusters.codes, counted, formula.bases
    )
    X, fixed = _matrix(formula.fixed, computed, formula)
    Z: NDArray[np.float64] = np.empty((len(frame), 0))
    random: list[Node] = []
    if formula.random:
        Z, random = _matrix(formula.random[0].columns, computed, formula)
    labels_X, labels_Z = (tuple(label(node) for node in part) for part in (fixed, random))
    for matrix, names, part in ((X, labels_X, "fixed part"), (Z, labels_Z, "random part")):
        _check_labels(names, formula)
        _check_finite(matrix, names, formula, place)
        if independent:
            check_rank(matrix, names, f"{part} of {formula.text!r}")
    terms_X, terms_Z = (tuple(product_text(node) for node in part) for part in (fixed, random))
    return DesignMatrices(X, Z, labels_X, labels_Z, terms_X, terms_Z)


def check_rank(
    matrix: NDArray[np.float64], names: Sequence[str], what: str = "X", tolerance: float = TOLERANCE
) -> None:
    """Refuse a design matrix without full column rank.

    Columns are scaled to length 1. A column counts as a combination of others if these leave less than ``tolerance`` of
    it unexplained (pivoted QR; the default is that of R's lm).

    Parameters
    ----------
    matrix
        (n, p), finite.
    names
        (p,) names of the columns.
    what
        Name of the matrix for messages.

    Raises
    ------
    DataError
        There are fewer rows than columns, or a column is zero, constant besides an intercept, or a combination of
        others. The message names the columns.
    """
    n, p = matrix.shape
    if n < p:
        raise DataError(f"The {what} has {p} columns but only {n} rows; remove terms from the formula.")
    if p == 0:
        return
    length = np.linalg.norm(matrix, axis=0)
    empty = [name for name, value in zip(names, length, strict=True) if value == 0]
    if empty:
        raise DataError(
            f"The {what}: column '{empty[0]}' is 0 in all {n:,} rows; remove it from the formula."
        )
    scaled = matrix / length
    # eigenvalues of the Gram matrix bound the unexplained part from below, which settles the usual case cheaply
    if np.linalg.eigvalsh(scaled.T @ scaled)[0] > 1e-6:
        return
    from scipy.linalg import qr, solve_triangular  # loaded for the message only

    R, order = qr(scaled, mode="r", pivoting=True, check_finite=False)
    rank = int(np.sum(np.abs(np.diag(R)) > tolerance))
    if rank == p:
        return
    weights = solve_triangular(R[:rank, :rank], R[:rank, rank])  # of the first dependent column on others
    involved = sorted([*order[:rank][np.abs(weights) > 100 * tolerance], order[rank]])
    last, others = names[involved[-1]], [f"'{names[j]}'" for j in involved[:-1]]
    if others == ["'Intercept'"]:
        value, range_ = matrix[0, involved[-1]], np.ptp(matrix[:, involved[-1]])
        how = f"constant ({value:g} in all {n:,} rows)"
        advice = "remove it from the formula"
        if range_ > 0:
            how, advice = (
                f"constant except for {range_:.2g} (about {value:g})",
                "subtract its mean in the table",
            )
        raise DataError(
            f"The {what}: column '{last}' is {how}, which the intercept already represents; {advice}."
        )
    raise DataError(
        f"The {what}: column '{last}' is a combination of {', '.join(others)} (rank {rank} of {p} columns, "
        f"tolerance {tolerance:g}); remove one of them from the formula."
    )


def _check_complete(columns: pd.DataFrame, formula: Formula, place: Place) -> None:
    for name in columns:
        missing = columns[name].isna().to_numpy()
        if missing.any():
            left = " + ".join([*formula.responses, str(name)])
            raise DataError(
                f"Covariate '{name}' is missing {place(missing)}. In an imputation model, move it to the left side of "
                f"~ so that it is imputed ('{left} ~ ...'); for an analysis, impute it first; or leave these rows out."
            )
        if pd.api.types.is_float_dtype(columns[name].dtype):
            infinite = np.isinf(columns[name].to_numpy(np.float64))
            if infinite.any():
                raise DataError(
                    f"Covariate '{name}' is infinite {place(infinite)}; "
                    "correct these values or set them to missing."
                )


def _plain(column: pd.Series, uses: frozenset[str]) -> pd.Series:
    """A complete column in a dtype that formulae handles correctly: float64, or str / category.

    Integers become float because their powers would overflow silently. As a factor a number keeps its dtype, from which
    names of levels are made: ``C(grade)[2]``.
    """
    if isinstance(column.dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    name, column = column.name, column.infer_objects() if column.dtype == object else column
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if "number" in uses:
            raise DataError(
                f"'{name}' is a category; a formula cannot compute with it. Write '{name}' alone."
            )
        return column.cat.remove_unused_categories().cat.as_ordered()  # otherwise formulae sorts the levels
    number, text = pd.api.types.is_numeric_dtype(dtype), pd.api.types.is_string_dtype(column)
    if not (number or text) or pd.api.types.is_complex_dtype(dtype):
        raise DataError(
            f"Covariate '{name}' has type {dtype} or mixed types; convert it to numbers or a category."
        )
    if text and "number" in uses:
        raise DataError(
            f"'{name}' is text; a formula cannot compute with it. Convert it to numbers, or write '{name}' alone."
        )
    if text:
        return column
    if "factor" not in uses:
        return column.astype(np.float64)
    plain = dtype if isinstance(dtype, np.dtype) else dtype.numpy_dtype
    return pd.Series(column.to_numpy(plain), column.index)


def _check_levels(columns: pd.DataFrame, formula: Formula, intercept: bool) -> None:
    """Refuse factors with one level, which the intercept would absorb, and continuous variables used as factors."""
    for name in columns:
        column, uses = columns[name], formula.uses[name]
        category = isinstance(column.dtype, pd.CategoricalDtype)
        if (column.dtype == np.float64 and "factor" not in uses) or len(column) == 0:
            continue
        levels = column.cat.categories if category else column.iloc[:1]
        if intercept and len(levels) == 1 and (category or (column == levels.iloc[0]).all()):
            raise DataError(
                f"Formula {formula.text!r}: '{name}' has one level ({next(iter(levels))}) in all {len(column):,} rows, "
                "which the intercept already represents; remove it from the formula."
            )
        if (
            pd.api.types.is_float_dtype(column.dtype)
            and (column != np.floor(column)).any()
            and column.nunique() > MOST_LEVELS
        ):
            raise DataError(
                f"Formula {formula.text!r}: '{name}' as a factor has {column.nunique():,} levels, some of them "
                f"fractions. If it was imputed as continuous, declare its family (families={{'{name}': 'ordinal'}}) "
                f"and impute again, or use it as a number, '{name}' alone."
            )


def _matrix(text: str, computed: Computed, formula: Formula) -> tuple[NDArray[np.float64], list[Node]]:
    """The columns of one right-hand side, and the term of each."""
    named = [(sign, computed.named(node)) for sign, node in signed(read(text))]
    terms = [pair for sign, node in named for pair in (signed(node) if sign == "+" else [(sign, node)])]
    plain, columns = plain_terms(terms), computed.columns
    if plain and all(_is_simple(columns[name], plain[0]) for name in plain[1]):
        parts: list = [np.ones(len(columns))] * plain[0]
        nodes: list[Node] = [Name("Intercept")] * plain[0]
        for name in plain[1]:
            _append(columns[name], parts, nodes)
        matrix = np.column_stack(parts) if parts else np.empty((len(columns), 0))
    else:
        from bayesimp.formulas.by_formulae import by_formulae  # loads formulae

        matrix, nodes = by_formulae(terms, columns, formula.text, text, computed.counted)
    return matrix, [computed.written(node) for node in nodes]


def _is_simple(column: pd.Series, intercept: bool) -> bool:
    """Whether a main effect can be built here as formulae would: numbers, and text with an intercept."""
    if column.dtype == np.float64:
        return True
    levels = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return intercept and pd.api.types.is_string_dtype(levels)


def _append(column: pd.Series, parts: list, nodes: list[Node]) -> None:
    """Append numbers unchanged, and text as indicators of all levels except the first (sorted, or in given order)."""
    name = Name(str(column.name))
    if column.dtype == np.float64:
        parts.append(column.to_numpy())
        nodes.append(name)
        return
    category = isinstance(column.dtype, pd.CategoricalDtype)
    levels = list(column.cat.categories) if category else sorted(column.unique())
    for level in levels[1:]:
        parts.append((column == level).to_numpy(np.float64))
        nodes.append(Level(name, str(level)))


def _check_labels(names: Sequence[str], formula: Formula) -> None:
    """Refuse columns that would have the same name in results."""
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        what = "the constant column of all models" if twice[0] == "Intercept" else "another column or term"
        raise SpecificationError(
            f"Formula {formula.text!r}: '{twice[0]}' is also the name of {what}; rename the column in the table, or "
            "remove one of them from the formula."
        )


def _check_finite(matrix: NDArray[np.float64], names: Sequence[str], formula: Formula, place: Place) -> None:
    finite = np.isfinite(matrix)
    if not finite.all():
        j = int(np.argmin(finite.all(axis=0)))
        raise DataError(
            f"Formula {formula.text!r}: '{names[j]}' has no finite value {place(~finite[:, j])}; "
            "is there a logarithm of 0 or a division by 0? Correct these values or use another transformation."
        )
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    odd = (largest >= MOST) | ((largest > 0) & (largest <= LEAST))
    if odd.any():
        j = int(np.argmax(odd))
        large = largest[j] >= MOST
        what, cure = ("large", "Divide") if large else ("small", "Multiply")
        rows = np.abs(matrix[:, j]) >= MOST if large else matrix[:, j] != 0
        raise DataError(
            f"Formula {formula.text!r}: '{names[j]}' has numbers so {what} ({largest[j]:.3g}) that their squares "
            f"overflow or underflow, {place(rows)}. {cure} the column by a constant, or use another unit."
        )

"""Predictions of an analysis for rows of a table, with derivatives by the parameters of a fit.

    eta = offset + x'beta,      mu = g^-1(eta)                     at cluster effects of zero
                                mu = E g^-1(eta + z'b)             averaged over effects b ~ N(0, Psi)

The parameters are beta and, for averages, also phi, the log standard deviations and Fisher's z of the effects. With D =
diag(sd) and R the correlations,

    s2 = z'D R D z,                                 d s2 / d log sd_a = 2 z_a sd_a sum_b R_ab sd_b z_b
                                                    d s2 / d zeta_ab = 2 z_a z_b sd_a sd_b (1 - R_ab^2)

Design matrices of new rows are built with these rows below those of the completed table, so that levels and reference
levels of factors, cluster means, and the knots of splines are those of the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from bayesimp.analysis.links import mean_at, mean_over
from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.design import design
from bayesimp.formulas.formula import Formula
from bayesimp.messages import listing, suggestion
from bayesimp.notation import Array, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fit import Tables
    from bayesimp.analysis.fits import Fits

__all__ = [
    "FormulaRows",
    "RowModel",
    "RowPredictions",
    "effects_covariance",
    "effects_variance",
    "parameters_covariance",
]


class RowPredictions(NamedTuple):
    """values (n,); gradient (n, K) by the parameters; extra (n, n), variance not due to the parameters, or None.

    Probabilities of the L levels of an ordinal response: (n L,), those of each row together.
    """

    values: Vector
    gradient: Matrix
    extra: Matrix | None = None


class RowModel(Protocol):
    """What `bayesimp.analysis.estimands` needs to know of the rows of an analysis."""

    @property
    def tables(self) -> Tables:
        """The completed tables."""

    @property
    def link(self) -> str:
        """The link; "" if it is not one of `bayesimp.analysis.links.LINKS`."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns that a row needs."""

    @property
    def averages(self) -> bool:
        """Whether there are cluster effects to average over."""

    @property
    def levels(self) -> tuple[Any, ...]:
        """Levels of an ordinal response, each with a probability of its own; () for other responses."""

    @property
    def counts(self) -> str | None:
        """The column that says how many rows each row of a table stands for; None: one."""

    def is_factor(self, name: str, column: pd.Series) -> bool:
        """Whether a column enters as a factor."""

    def predicted(self, fits: Fits, k: int, new: pd.DataFrame, scale: str, effects: str) -> RowPredictions:
        """Predictions of new rows by the fit of table k."""


@dataclass(frozen=True)
class FormulaRows:
    """Row predictions for an analysis given as a formula.

    Attributes
    ----------
    tables
        The completed tables.
    formula
        The formula of the analysis.
    family, link
        The family and link of the analysis; ``link`` is "" if it is not one of `bayesimp.analysis.links.LINKS`.
    columns
        Names (or None) of the columns of trials, weights and offset.
    levels
        Levels of an ordinal response; () for other responses.
    counts
        The column that says how many rows each row of a table stands for; None: one.
    """

    tables: Tables
    formula: Formula
    family: str
    link: str
    columns: dict[str, str | None]
    levels: tuple[Any, ...] = ()
    counts: str | None = None

    @property
    def averages(self) -> bool:
        """Whether averaging over cluster effects changes the mean."""
        return bool(self.formula.random) and self.link != "identity"

    @property
    def offset(self) -> str | None:
        """Column of the offset."""
        return self.columns.get("offset")

    @property
    def variables(self) -> tuple[str, ...]:
        """Columns that a row needs for a prediction."""
        return self.formula.variables + ((self.offset,) if self.offset else ())

    def is_factor(self, name: str, column: pd.Series) -> bool:
        """Whether a column enters as a factor: text, categories, bool, C(x)."""
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        return not numeric or "factor" in self.formula.uses.get(name, ())

    def matrices(self, k: int, new: pd.DataFrame, names: tuple[str, ...]) -> tuple[Matrix, Matrix, Vector]:
        """X (n, p), Z (n, q) and the offset (n,) of new rows, as in the fit of table k.

        Raises
        ------
        SpecificationError
            Columns are absent, or the formula has columns that cannot be computed for new rows.
        DataError
            A level is not in the table, or values are missing.
        """
        formula, table = self.formula, self.tables.frame(k)
        lacking = [name for name in self.variables if name not in new]
        if lacking:
            raise SpecificationError(
                f"{formula.text!r}: the new rows have no column {lacking[0]!r}. {suggestion(lacking[0], new.columns)}"
            )
        joined = pd.DataFrame({name: _below(table[name], new[name], self) for name in formula.variables})
        n = len(table)
        joined.index = pd.RangeIndex(n + len(new))
        codes, counted = self._clusters(table, new), np.arange(n + len(new)) < n
        if not formula.variables:
            joined = pd.DataFrame(index=pd.RangeIndex(n + len(new)))
        made = design(replace(formula, random=formula.random[:1]), joined, codes=codes, counted=counted)
        if made.fixed != names:
            raise SpecificationError(
                f"{formula.text!r}: the columns of the fit ({', '.join(names)}) differ from those of new rows "
                f"({', '.join(made.fixed)}), so predictions are not possible with this engine."
            )
        offset = np.zeros(len(new))
        if self.offset is not None:
            offset = new[self.offset].to_numpy(dtype=float, na_value=np.nan)
            if not np.isfinite(offset).all():
                raise DataError(f"the offset {self.offset!r} is missing or infinite in the new rows.")
        return made.X[n:], made.Z[n:], offset

    def own_matrices(self, k: int) -> tuple[Matrix, list[Matrix]]:
        """X (n, p), and Z (n, q) of each random term, for the rows of table k."""
        formula, table = self.formula, self.tables.frame(k)
        codes = None
        if formula.over_clusters and formula.cluster_of_means is not None:
            codes = pd.factorize(table[formula.cluster_of_means])[0]
        X = design(replace(formula, random=()), table, codes=codes).X
        return X, [
            design(replace(formula, fixed="1", random=(term,)), table, codes=codes).Z
            for term in formula.random
        ]

    def mean_response(self, k: int) -> float:
        """Mean of the response in table k."""
        return float(self.tables.frame(k)[self.formula.responses[0]].astype(float).mean())

    def _clusters(self, table: pd.DataFrame, new: pd.DataFrame) -> np.ndarray | None:
        """The cluster of each row, for cluster means, which are those of the table; None if there are none."""
        formula = self.formula
        if not formula.over_clusters:
            return None
        name = formula.cluster_of_means
        if name is None or name not in new:
            raise SpecificationError(
                f"{formula.text!r} has cluster means, but the clusters of the new rows are unknown. Give the column "
                f"{name!r}, average over the rows of the tables, or store the means in a column of the table."
            )
        known = pd.Index(table[name].unique())
        unknown = ~new[name].isin(known)
        if unknown.any():
            raise DataError(
                f"{int(unknown.sum())} new rows belong to clusters that are not in the tables "
                f"({listing(new[name][unknown].unique())}), so they lack the cluster means in {formula.text!r}."
            )
        return known.get_indexer(pd.concat([table[name], new[name]], ignore_index=True))

    def predicted(self, fits: Fits, k: int, new: pd.DataFrame, scale: str, effects: str) -> RowPredictions:
        """Predictions of new rows by the fit of table k.

        scale: ``"link"`` or ``"response"``; effects: ``"zero"``, ``"integrated"`` or ``"cluster"``.
        """
        X, Z, offset = self.matrices(k, new, fits.names)
        if effects == "cluster":
            from bayesimp.analysis.cluster_rows import at_clusters

            return at_clusters(self, fits, k, new, X, Z, offset, scale)
        eta = offset + X @ fits.estimates[k]
        integrated = effects == "integrated"
        c = len(fits.component_names) if integrated else 0
        if scale == "link" or self.link == "identity":
            return RowPredictions(eta, np.hstack([X, np.zeros((len(X), c))]))
        if not integrated:
            mu, slope = mean_at(self.link, eta)
            return RowPredictions(mu, slope[:, None] * X)
        s2, by_components = effects_variance(fits, k, Z)
        mu, slope, by_s2 = mean_over(self.link, eta, s2)
        return RowPredictions(mu, np.hstack([slope[:, None] * X, by_s2[:, None] * by_components]))


def effects_covariance(fits: Fits, k: int, q: int) -> tuple[Vector, Matrix]:
    """Standard deviations (q,) and correlations (q, q) of the effects of the first random term in table k.

    The order is that of `bayesimp.analysis.linear.component_names`: all standard deviations, then correlations by
    columns.
    """
    values, names = fits.components[k], fits.component_names
    sd, R = np.exp(values[:q]), np.eye(q)
    z = [v for name, v in zip(names, values, strict=True) if name.startswith("cor(")]
    if z:
        below = [(a, b) for b in range(q) for a in range(b + 1, q)]
        for (a, b), each in zip(below, z, strict=True):
            R[a, b] = R[b, a] = np.tanh(each) if not np.isnan(each) else 0.0  # nan: a standard deviation is 0
    return sd, R


def effects_variance(fits: Fits, k: int, Z: Matrix) -> tuple[Vector, Matrix]:
    """s2 = z'Psi z (n,), and its derivatives by the components (n, c)."""
    q, names = Z.shape[1], fits.component_names
    sd, R = effects_covariance(fits, k, q)
    scaled = Z * sd
    by = np.zeros((len(Z), len(names)))
    by[:, :q] = 2 * scaled * (scaled @ R)
    if any(name.startswith("cor(") for name in names):
        below = [(a, b) for b in range(q) for a in range(b + 1, q)]
        for j, (a, b) in enumerate(below, start=q):
            by[:, j] = 2 * scaled[:, a] * scaled[:, b] * (1 - R[a, b] ** 2)
    return np.sum(scaled * (scaled @ R), axis=1), by


def _below(column: pd.Series, new: pd.Series, rows: FormulaRows) -> Any:
    """A column of the table with that of new rows below it, with the levels of the table."""
    name = str(column.name)
    if rows.is_factor(name, column):
        known = pd.Index(column.unique())
        unknown = ~new.isin(known)
        if unknown.any():
            raise DataError(
                f"{name!r} has no level {listing(new[unknown].unique())} in the completed tables; its levels are "
                f"{listing(known, 20)}."
            )
        if isinstance(column.dtype, pd.CategoricalDtype):
            new = new.astype(column.dtype)
        return pd.concat([column, new.astype(column.dtype)], ignore_index=True)
    if not pd.api.types.is_numeric_dtype(new):
        raise DataError(
            f"{name!r} is a number in the completed tables, but has type {new.dtype} in the new rows."
        )
    return pd.concat([column.astype(float), new.astype(float)], ignore_index=True)


def parameters_covariance(fits: Fits, effects: str) -> Array:
    """Covariance (M, K, K) of beta, or of (beta, phi) if predictions are averaged over effects.

    A standard deviation of zero and a correlation at its bound are treated as known, because they do not change the
    average to first order: it is even in the former, and s2 is stationary in Fisher's z at its bound.

    Raises
    ------
    SpecificationError
        A component inside its bounds has no standard error, so an average over effects has none.
    """
    if effects != "integrated":
        return fits.covariances
    V, W, C = fits.covariances, fits.components_cov, fits.cross
    (M, p), c = fits.estimates.shape, len(fits.component_names)
    inside = np.isfinite(fits.components)
    lacks = (inside & ~np.isfinite(np.einsum("kcc->kc", W))).any(axis=1) if c else np.zeros(M, bool)
    if lacks.any() or (c and C is None):
        raise SpecificationError(
            f"{fits.analysis!r}: in {int(lacks.sum()) or M} of {M} tables the variance components have no standard "
            "errors, so predictions averaged over cluster effects have none. Give random_effects='zero'."
        )
    out = np.zeros((M, p + c, p + c))
    out[:, :p, :p] = V
    if c and C is not None:
        out[:, p:, p:] = np.where(inside[:, :, None] & inside[:, None], W, 0.0)
        out[:, :p, p:] = np.where(inside[:, None], C, 0.0)
        out[:, p:, :p] = np.swapaxes(out[:, :p, p:], 1, 2)
    return out

"""The scale on which the samplers work, and the order in which they process the table.

Scale. With T (p, p) such that X T has orthogonal columns of mean square 1, beta_0 the least-squares fit of each
response on X, s the standard deviations of the responses, Z C the centred columns of Z and u their standard deviations,

    Y_w = (Y - X beta_0) / s,    X_w = X T,    Z_w = Z C / u
    beta  = T (beta_w + offset) diag(s),   offset = T^-1 beta_0 diag(1/s)
    Sigma = diag(s) Sigma_w diag(s),       Psi = E Psi_w E',   E = (I_r kron C) diag(e),   e_{kq+l} = s_k / u_l

Sums of squares then lose no digits to large means, and the sampler's input does not depend on units or origins. Columns
of Z are centred because priors are (priors/centred.py): their means are subtracted if Z has an intercept, and products
and powers have the columns that they contain subtracted (scale/margins.py).

Order. The order of clusters and of the rows to be imputed depends on values alone, not on labels or on the order of the
table, so the same seed gives the same imputations however the table is arranged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.kernels.normal.statistics import SufficientStatistics, collect, pattern_codes
from bayesimp.scale.effects import EffectScale
from bayesimp.scale.margins import centred_columns
from bayesimp.scale.order import KEY_DIGITS, cluster_order, row_order

__all__ = ["IncompleteRows", "Scale", "Working", "canonical_rows", "prepare", "working_columns"]

Array = NDArray[np.float64]
# sine of the angle between a column of X and the others below which they count as dependent
DEPENDENT = 1e-10


@dataclass(frozen=True)
class Scale(EffectScale):
    """The way back from the working scale: T (p, p), offset (p, r), s (r,), u (q,), C (q, q); see the module's
    docstring."""

    T: Array
    offset: Array
    s: Array
    u: Array
    C: Array
    intercept: ClassVar[int] = 0  # its position among the fixed columns
    contextual: ClassVar[Array | None] = (
        None  # joint models have no contextual effects (`bayesimp.priors.Contextual`)
    )

    @property
    def effects(self) -> Array:  # type: ignore[override]
        """e (r q,), the unit of each cluster effect."""
        return (self.s[:, None] / self.u[None, :]).ravel()

    def beta(self, beta_w: Array) -> Array:
        """Fixed effects (..., p, r) in the units of the data, from working units."""
        return self.T @ (beta_w + self.offset) * self.s

    def Sigma(self, Sigma_w: Array) -> Array:
        """Sigma (..., r, r) in the units of the data, from working units."""
        return Sigma_w * np.outer(self.s, self.s)

    def working_beta(self, beta: Array) -> Array:
        """Fixed effects (..., p, r) in working units, from those in the units of the data."""
        return np.linalg.solve(self.T, beta / self.s) - self.offset

    def working_Sigma(self, Sigma: Array) -> Array:
        """Sigma (r, r) in working units, from the units of the data."""
        return Sigma / np.outer(self.s, self.s)


@dataclass(frozen=True)
class IncompleteRows:
    """Rows with missing cells, or all rows, in canonical order.

    row (R,): position in the table; cluster (R,): canonical code; pattern (R,); X (R, p), Z (R, q), Y (R, r): on the
    working scale, Y with NaN where missing; fixed (R, r): X_w offset, which was subtracted from Y / s.
    """

    row: NDArray[np.int64]
    cluster: NDArray[np.int64]
    pattern: NDArray[np.int64]
    X: Array
    Z: Array
    Y: Array
    fixed: Array


@dataclass(frozen=True)
class Working:
    """A sampler's input: statistics and incomplete rows on the working scale, and the way back.

    order (m,): the table's cluster at each canonical position; start (p, r): least squares.
    """

    statistics: SufficientStatistics
    rows: IncompleteRows
    scale: Scale
    order: NDArray[np.int64]
    start: Array


def prepare(
    X: Array,
    Z: Array,
    Y: Array,
    codes: NDArray[np.integer],
    clusters: int,
    responses: Sequence[str],
    fixed: Sequence[str],
    random: Sequence[str] | None = None,
    *,
    flat: bool = True,
    orthogonal: bool = True,
    latent: NDArray[np.bool_] | None = None,
    also: Array | None = None,
) -> Working:
    """Convert a table to the working scale.

    Parameters
    ----------
    X, Z, Y
        (N, p), (N, q), (N, r) float; NaN in Y where missing.
    codes, clusters
        (N,) cluster of each row, and their number.
    responses, fixed
        Names of the columns of Y and X, for messages.
    random
        Names of the columns of Z, which show what the columns contain (`margins`). None: only the intercept.
    flat
        Whether beta has a flat prior and must therefore be estimable from the observed rows.
    orthogonal
        False: T is diagonal and nothing is subtracted (offset 0), so that independent priors of the entries of beta
        remain independent.
    latent
        (r,) whether a column of Y has levels, so that its unit is that of a latent variable: it is neither scaled
        nor centred. If given, `rows` are those of the whole table.
    also
        (N, k) further columns that order the clusters.

    Raises
    ------
    DataError
        A response has no observed values, or is constant.
    SpecificationError
        The observed rows of a response do not identify a fixed effect.
    """
    missing = np.isnan(Y)
    moments = _moments(Y, missing)
    of_numbers = np.ones(len(responses), dtype=bool) if latent is None else ~latent
    if of_numbers.all():  # copying the columns would change the last digits
        s = _standard_deviations(moments, responses, len(Y))
    else:
        s, names = np.ones(len(responses)), [n for n, k in zip(responses, of_numbers, strict=True) if k]
        own = _moments(Y[:, of_numbers], missing[:, of_numbers])
        s[of_numbers] = _standard_deviations(own, names, len(Y))
    T = (
        _orthogonal_basis(X, Y, missing, moments)
        if orthogonal
        else np.diag(1.0 / np.sqrt((X**2).mean(axis=0)))
    )
    X_w = X @ T
    offset = np.zeros((X.shape[1], Y.shape[1]))
    for k, name in enumerate(responses):
        if not of_numbers[k]:
            continue
        seen = ~missing[:, k]
        offset[:, k], _, rank, _ = np.linalg.lstsq(X_w[seen], Y[seen, k] / s[k], rcond=1e-9)
        if rank < X.shape[1] and flat:
            raise SpecificationError(_not_identified(X[seen], name, fixed))
    start = np.zeros_like(offset)
    if not orthogonal:
        start, offset = offset, start
    Z_w, u, C = working_columns(Z, random)
    Y_w = Y / s - X_w @ offset
    keys = Y if also is None else np.hstack([Y, also])
    order = cluster_order(keys, [X_w, Z_w], codes, clusters)
    place = np.empty(clusters, dtype=np.int64)
    place[order] = np.arange(clusters)
    codes_w = place[codes]
    statistics = collect(X_w, Z_w, Y_w, codes_w, clusters)
    row = np.flatnonzero(missing.any(1)) if latent is None else np.arange(len(Y))
    rows = canonical_rows(row, X_w, Z_w, Y_w, Y, codes_w, missing, statistics, offset)
    return Working(statistics, rows, Scale(T, offset, s, u, C), order, start)


def _moments(Y: Array, missing: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Array, Array]:
    """Rows observed, means and sums of squares about them (r,) of the observed values of each response; nan without."""
    seen = len(Y) - np.array([np.count_nonzero(column) for column in missing.T], dtype=np.int64)
    with np.errstate(invalid="ignore"):
        mean = np.where(missing, 0.0, Y).sum(0) / seen
    return seen, mean, np.where(missing, 0.0, (Y - mean) ** 2).sum(0)


def _standard_deviations(
    moments: tuple[NDArray[np.int64], Array, Array], responses: Sequence[str], rows: int
) -> Array:
    seen, mean, squares = moments
    for k, name in enumerate(responses):
        if seen[k] == 0:
            raise DataError(
                f"'{name}' has no observed value in any of the {rows} rows: there is nothing to learn its "
                "distribution from. Remove it from the left side of the formula."
            )
        if not squares[k] > (1e-14 * abs(mean[k])) ** 2 * seen[k]:
            raise DataError(
                f"'{name}' is constant ({mean[k]:g} in all {seen[k]} observed rows): a normal model has no "
                "variance to estimate. Remove it from the left side of the formula."
            )
    return np.sqrt(squares / np.maximum(seen - 1, 1))


def _orthogonal_basis(
    X: Array, Y: Array, missing: NDArray[np.bool_], moments: tuple[NDArray[np.int64], Array, Array]
) -> Array:
    """T with (X T)'(X T) = N I. Signs follow the association with the responses, so that 0/1 and 1/0 agree.

    Dependent columns have no such basis; they are only scaled to mean square 1.
    """
    N, p = X.shape
    length = np.sqrt((X**2).sum(axis=0))
    length = np.where(length > 0, length, 1.0)
    Q, R = np.linalg.qr(X)
    if N < p or (np.abs(np.diag(R)) / length).min() < DEPENDENT:
        return np.diag(np.sqrt(N) / length)
    T = np.linalg.solve(R, np.eye(p)) * np.sqrt(N)
    signs = np.sign(np.diag(R))
    seen, mean, squares = moments
    spread = np.sqrt(squares / np.maximum(seen, 1))  # 0 for a level that is never observed
    centred = np.where(missing, 0.0, Y - mean) / np.where(spread > 0, spread, 1.0)
    association = (Q * signs).T @ centred.sum(1)
    ones = np.abs(Q.T @ np.ones(N)) > 1e-8 * np.sqrt(N)  # intercept-like columns keep the sign of R
    return T * np.where(ones | (association >= 0), signs, -signs)


def working_columns(Z: Array, random: Sequence[str] | None) -> tuple[Array, Array, Array]:
    """Z_w (N, q), the centred columns of Z in units u (q,), and C (q, q); random (q,): what the columns are called."""
    Z_c, C = _centre(Z, random)
    u = _column_sds(Z_c)
    return Z_c / u, u, C


def _column_sds(Z: Array) -> Array:
    """Unit of each column of Z: its standard deviation; its root mean square if it is constant."""
    sd = Z.std(axis=0)
    rms = np.sqrt((Z**2).mean(axis=0))
    return np.where(sd > 1e-10 * rms, sd, np.where(rms > 0, rms, 1.0))


def _centre(Z: Array, random: Sequence[str] | None) -> tuple[Array, Array]:
    """Centred columns Z C, and C (q, q)."""
    names = [f"z{l}" for l in range(Z.shape[1])] if random is None else list(random)
    for l in np.flatnonzero((np.ptp(Z, axis=0) == 0) & (Z[:1] != 0).all(axis=0))[:1]:
        names[l] = INTERCEPT
    return centred_columns(Z, names)


def _not_identified(X: Array, name: str, fixed: Sequence[str]) -> str:
    R = np.linalg.qr(X / np.maximum(np.abs(X).max(axis=0), 1e-300), mode="r")
    weak = [
        column for column, d in zip(fixed, np.abs(np.diag(R)), strict=False) if d < 1e-8 * np.sqrt(len(X))
    ]
    weak = weak or list(fixed[min(X.shape) :])
    return (
        f"The fixed effects of '{name}' are not identified: in the {len(X)} rows where it is observed, "
        f"{', '.join(map(repr, weak))} is constant or a combination of the other columns of X. Remove "
        f"{'it' if len(weak) == 1 else 'them'} from the formula, or give beta a normal prior "
        "(priors.Normal), which makes the effect estimable."
    )


def canonical_rows(
    row: NDArray[np.int64],
    X_w: Array,
    Z_w: Array,
    Y_w: Array,
    Y: Array,
    codes_w: NDArray[np.int64],
    missing: NDArray[np.bool_],
    statistics: SufficientStatistics,
    offset: Array,
) -> IncompleteRows:
    """Some rows of Y (N, r) in an order that depends on values alone.

    X_w, Z_w, Y_w and the clusters codes_w are on the working scale; missing (N, r): cells without a value.
    """
    A, codes_of_patterns = len(statistics.patterns), pattern_codes(~statistics.patterns)
    by_code = np.argsort(codes_of_patterns)
    pattern = by_code[np.searchsorted(codes_of_patterns[by_code], pattern_codes(missing[row]))]
    # the last observed response is the first key in which rows of one cluster and pattern differ
    last = np.array([np.flatnonzero(seen)[-1] if seen.any() else -1 for seen in statistics.patterns])[pattern]
    first = np.where(last >= 0, Y[row, last], 0.0)

    def keys(at: NDArray[np.int64]) -> list[Array]:
        known = [np.round(columns[row[at]], KEY_DIGITS) for columns in (X_w, Z_w)]
        return [*known[0].T, *known[1].T, *Y[row[at]].T]

    order = row_order(codes_w[row] * A + pattern, statistics.clusters * A, first, keys)
    row, pattern = row[order], pattern[order]
    X = X_w[row]
    return IncompleteRows(row, codes_w[row], pattern, X, Z_w[row], Y_w[row], X @ offset)

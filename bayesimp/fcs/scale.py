"""One conditional model on the working scale: its columns, its cells, and the transformation to the data's units.

With w = (D - c) / s for each base column (fcs/table.py), a conditional model y = X* beta + Z* b + e has

    t = a_t t_w + h_t    for each of its columns,    y = s_y y_w + c_y
    beta_t = s_y beta_tw / a_t,        beta_0 = s_y beta_0w + c_y - sum_t beta_t h_t
    sigma^2 = s_y^2 sigma^2_w,         Psi = E Psi_w E',  E = (I_r kron C) diag(e),  e_l = s_y / a_l

where h_t is nonzero only if an intercept absorbs it, in the fixed part and in the random part, where C_0l = -h_l
(priors/centred.py; slopes on products and powers: scale/margins.py). h_t is a mean of observed values, the same in
every cycle. Products with cluster means are centred in the same way in models with slopes, which need all of them, and
in generalised models, whose beta has a prior (scale/products.py); then K^-1 diag(1/a) replaces the matrix built from a
and h.

A generalised model has s_y = 1 and c_y = 0 because its linear predictor has no unit. Positive responses with a log
link, however, are divided by their mean, so c_y is the log of that mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.fcs.specification.bounds import limits
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.formulas.columns import INTERCEPT, Column
from bayesimp.joint.levels.table import GroupingScale
from bayesimp.kernels.chained.moments import BlockArrays, Terms
from bayesimp.priors.centred import centring
from bayesimp.scale.coefficients import CoefficientScale
from bayesimp.scale.effects import EffectScale
from bayesimp.scale.products import centrable, expansion

if TYPE_CHECKING:
    from bayesimp.fcs.specification.bounds import Bound
    from bayesimp.fcs.table import ChainedTable

__all__ = ["BlockScale", "ChainedBlock", "Rows", "chained_block", "factor_scale"]

Array = NDArray[np.float64]
MOST_RESPONSES = 62  # most responses of a block, because a pattern of missing values is one 64-bit integer


@dataclass(frozen=True)
class BlockScale(CoefficientScale, EffectScale):
    """The transformation between the working scale and that of the data for one block; see the module docstring.

    s, c (r,): for the responses, or the linear predictors of a generalised model; a, h (p*,): for the fixed columns; e
    (r q,): units of the effects; C (q, q); intercept: its position among the fixed columns, or -1; K (p*, p*) or None;
    contextual (p*, r): bounds of contextual effects, inf for other columns, or None (`bayesimp.priors.Contextual`).
    """

    s: Array
    c: Array
    a: Array
    h: Array
    e: Array
    C: Array
    intercept: int
    K: Array | None = None
    contextual: Array | None = None

    @property
    def effects(self) -> Array:  # type: ignore[override]
        """The units of the cluster effects, (r q,)."""
        return self.e

    @property
    def T(self) -> Array:  # type: ignore[override]
        """T (p*, p*) with beta = T beta_w diag(s) + (c in the intercept's row)."""
        T = np.diag(1.0 / self.a)
        if self.K is not None:
            return np.linalg.solve(self.K, T)
        if self.intercept >= 0:
            T[self.intercept] -= self.h / self.a
        return T

    def Sigma(self, Sigma_w: Array) -> Array:
        """Convert Sigma (..., r, r) from working units to those of the data."""
        return Sigma_w * np.outer(self.s, self.s)

    def coefficients_covariance(self, Psi_w: Array, columns: list[int]) -> Array:
        """Covariance between clusters of the coefficients of some fixed columns (two-stage models)."""
        T = self.T[np.ix_(columns, columns)] * self.s[0]
        return T @ Psi_w @ T.T


def factor_scale(s: Array) -> GroupingScale:
    """Units of the random intercepts of a further grouping factor; s (1,): of the response."""
    return GroupingScale(np.array(s[:1]), np.eye(1))


@dataclass(frozen=True)
class ChainedBlock:
    """One conditional model in the form that kernels use; columns: positions of its responses among base columns."""

    block: ConditionalModel
    terms: Terms
    arrays: BlockArrays
    scale: BlockScale
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """The table on the working scale: W (N, d), nan where missing; canonical codes; and masks of the rows to use."""

    W: Array
    codes: NDArray[np.int64]
    fitted: NDArray[np.bool_]
    averaged: NDArray[np.bool_]
    clusters: int


def _grams(W: Array, index: NDArray[np.int64], count: int) -> Array:
    """D'D (count, d, d) of the rows with each index, with missing cells as zeros; rows with index -1 are left out."""
    D = np.nan_to_num(W)
    gram = np.zeros((count, W.shape[1], W.shape[1]))
    order = np.argsort(index, kind="stable")
    ends = np.searchsorted(index[order], np.arange(count + 1))
    for c in range(count):
        part = D[order[ends[c] : ends[c + 1]]]
        gram[c] = part.T @ part
    return gram


def chained_block(
    table: ChainedTable, block: ConditionalModel, rows: Rows, bounds: Mapping[str, tuple[Bound, Bound]]
) -> ChainedBlock:
    """Build a block for a `ChainedTable` that has none yet.

    bounds: variable -> (lower, upper) (fcs/specification/bounds.py).
    """
    at = {name: k for k, name in enumerate(table.names)}
    columns = tuple(at[name] for name in block.responses)
    r, clusters = len(columns), rows.clusters
    if r > MOST_RESPONSES:
        raise SpecificationError(
            f"Block '{block.name}' has {r} variables; {MOST_RESPONSES} at most can be imputed jointly. Split it."
        )
    powers = 1 << np.arange(r)
    row_bits = ~np.isnan(rows.W[:, columns]) @ powers
    # the fully observed pattern comes first
    kinds = sorted({*np.unique(row_bits).tolist(), int(powers.sum())}, reverse=True)
    patterns = np.array([[bool(b & k) for k in powers] for b in kinds])
    row_pattern = np.searchsorted(-np.array(kinds), -row_bits)
    # the block's own cells: fitted rows with something observed, by cluster and pattern
    used = rows.fitted & (row_bits > 0)
    key = rows.codes * len(kinds) + row_pattern
    own, row_cell = np.unique(key[used], return_inverse=True)
    index = np.full(len(rows.W), -1)
    index[used] = row_cell
    own_cluster, own_pattern = own // len(kinds), own % len(kinds)
    pattern_rows = np.bincount(row_pattern[used], minlength=len(kinds)).astype(np.int64)
    cluster_rows = np.bincount(rows.codes[used], minlength=clusters).astype(np.int64)
    fitted_patterns = patterns
    if block.method.residual == "cluster":  # each cluster has its own pattern
        fitted_patterns, pattern_rows = np.ones((clusters, 1), dtype=bool), cluster_rows
        own_pattern = own_cluster
    first = table.row[table.cells.start[:-1]]  # the first row of each cell of the table
    cell_pattern = row_pattern[first]
    order = np.argsort(index[first], kind="stable")
    ends = np.searchsorted(index[first][order], np.arange(len(own) + 1))
    missing_cell = np.flatnonzero(cell_pattern > 0)
    arrays = BlockArrays(
        np.array([len(block.fixed), len(block.random), r, clusters], dtype=np.int64), fitted_patterns, pattern_rows,
        np.searchsorted(own_cluster, np.arange(clusters + 1)).astype(np.int64), own_pattern.astype(np.int64),
        _grams(rows.W, index, len(own)), (ends - ends[0]).astype(np.int64), order[ends[0] :].astype(np.int64),
        patterns, missing_cell.astype(np.int64), cell_pattern[missing_cell].astype(np.int64),
        *_bounds(table, block, columns, bounds),
    )  # fmt: skip
    terms, scale = _terms(table, block, at, rows)
    return ChainedBlock(block, terms, arrays, scale, columns)


def _bounds(
    table: ChainedTable,
    block: ConditionalModel,
    columns: Sequence[int],
    bounds: Mapping[str, tuple[Bound, Bound]],
) -> tuple[Array, Array]:
    """Bounds (R,) of the response on the working scale, rounded so that values respect them on the data scale."""
    pair = bounds.get(block.responses[0])
    if pair is None or len(columns) > 1:
        return np.empty(0), np.empty(0)
    c, s = table.center[columns[0]], table.scale[columns[0]]
    out = []
    for bound, sign in zip(limits(pair, len(table.full)), (1.0, -1.0), strict=True):
        bound = bound[table.row]
        with np.errstate(over="ignore"):
            working = (bound - c) / s
        finite = np.isfinite(working)
        step = np.finfo(float).eps * np.maximum(abs(c), np.abs(bound)) / s
        while (passed := finite & (sign * (c + s * working) < sign * bound)).any():
            working = working + np.where(passed, sign * step, 0.0)
        out.append(working)
    return np.minimum(*out), out[1]


def _terms(
    table: ChainedTable, block: ConditionalModel, at: Mapping[str, int], rows: Rows
) -> tuple[Terms, BlockScale]:
    """Fixed, random and response columns of a block on the working scale, and the transformation back."""
    c, s = table.center, table.scale
    fixed_intercept, random_intercept = _intercept(block.fixed), _intercept(block.random)
    has_intercept = fixed_intercept >= 0
    columns = [*block.fixed, *block.random]
    T, p = len(columns) + len(block.responses), len(block.fixed)
    size = np.bincount(rows.codes[rows.averaged], minlength=rows.clusters)
    base, u, v = np.zeros(T, dtype=np.int64), np.full(T, -1, dtype=np.int64), np.full(T, -1, dtype=np.int64)
    offset, ou, ov, divisor = np.zeros(T), np.zeros(T), np.zeros(T), np.ones((T, rows.clusters))
    a, h, within = np.ones(len(columns)), np.zeros(len(columns)), np.zeros(T, dtype=np.bool_)
    K = np.eye(p) if any(column.base in table.residuals for column in block.fixed) else None
    centred = centrable(block.fixed) if len(block.random) > 1 or not block.distribution.is_normal else []
    for k, column in enumerate(columns):
        b = base[k] = at[column.base]
        absorbed = (
            has_intercept if k < p else random_intercept >= 0
        )  # the intercept absorbs a constant added to the column
        if column.within:  # it has a unit but no origin
            a[k], within[k], u[k], v[k], divisor[k] = s[b], True, 0, b, size
            continue
        if column.over is None:
            a[k] = s[b]
            h[k], offset[k] = (c[b], 0.0) if absorbed else (0.0, c[b] / s[b])
            continue
        u[k], v[k] = sorted(at[name] for name in column.over)
        divisor[k] = size.mean() if column.sum else size
        a[k] = s[b] * s[u[k]] * s[v[k]] * (size.mean() if column.sum else 1.0)
        if b == 0 and u[k] == 0 and not column.sum and absorbed:
            h[k] = c[v[k]]
        elif k in centred:
            K = np.eye(p) if K is None else K
        else:
            offset[k], ou[k], ov[k] = c[b] / s[b], c[u[k]] / s[u[k]], c[v[k]] / s[v[k]]
    places = [at[name] for name in block.responses]
    s_y, c_y = s[places].copy(), c[places].copy()
    base[len(columns) :] = places
    if not block.distribution.is_standardised:
        s_y, c_y = np.ones(block.predictors), np.zeros(block.predictors)
        if block.distribution.is_divided_by_mean and has_intercept:
            c_y[:] = np.log(np.nanmean(table.full[rows.fitted, places[0]]))
    elif not has_intercept:
        offset[len(columns) :], c_y = c_y / s_y, np.zeros(len(places))
    e = (s_y[:, None] / a[None, p:]).ravel()
    terms = Terms(base, offset, u, v, ou, ov, divisor, within, *_totals(table, rows, u, v, ou, ov))
    if K is not None:
        K[fixed_intercept] += h[:p]
        for k in centred:
            K[:, k] = expansion(block.fixed, k, dict(zip(table.names, c, strict=True)))
        K = K @ np.linalg.inv(_beside(table, block.fixed))
    C = _beside(table, block.random) @ centring(h[p:], random_intercept)
    bounds = block.bounds if block.contextual else None
    return terms, BlockScale(s_y, c_y, a[:p], h[:p], e, C, fixed_intercept, K, bounds)


def _beside(table: ChainedTable, part: tuple[Column, ...]) -> Array:
    """M (q, q) with Z_r = Z M, where Z_r are the columns minus their margins (scale/margins.py); b = M b_r."""
    made = [table.residuals.get(column.base) for column in part]
    own = [column.base if r is None else r.names[0] for column, r in zip(part, made, strict=True)]
    M = np.eye(len(own))
    for l, residual in enumerate(made):
        if residual is not None:
            M[[own.index(name) for name in residual.names], l] = residual.weights
    return M


def _totals(
    table: ChainedTable, rows: Rows, u: NDArray[np.int64], v: NDArray[np.int64], ou: Array, ov: Array
) -> tuple[Array, NDArray, NDArray]:
    """For averaged columns, cluster totals over complete rows, and the cells of averaged rows with missing values."""
    known, lists = np.zeros((len(u), rows.clusters)), []
    first = table.row[table.cells.start[:-1]]
    for t in range(len(u)):
        if u[t] < 0:
            lists.append(np.empty(0, dtype=np.int64))
            continue
        product = (rows.W[:, u[t]] + ou[t]) * (rows.W[:, v[t]] + ov[t])
        hole = np.isnan(product)
        there = rows.averaged & ~hole
        known[t] = np.bincount(rows.codes[there], weights=product[there], minlength=rows.clusters)
        lists.append(np.flatnonzero((rows.averaged & hole)[first]))
    ends = np.concatenate([[0], np.cumsum([len(cells) for cells in lists])]).astype(np.int64)
    return known, ends, np.concatenate(lists).astype(np.int64)


def _intercept(part: tuple[Column, ...]) -> int:
    """The position of the intercept, or -1."""
    return next((k for k, column in enumerate(part) if _is_constant(column)), -1)


def _is_constant(column: Column) -> bool:
    return column.base == INTERCEPT and column.over is None

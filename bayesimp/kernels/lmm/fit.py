"""Linear mixed models with one grouping factor, fitted by (RE)ML: one table, or many imputations of one.

    y_i = X_i beta + Z_i b_i + e_i,   e_i ~ N(0, sigma^2 I),   b_i ~ N(0, Psi),   Psi = sigma^2 Lambda Lambda'

The deviance is in kernels/lmm/deviance.py, the search in kernels/lmm/search.py. At its optimum,

    cov beta   = sigma^2 (R R')^-1                              Bates et al. 2015, sec. 3, 5
    modes      = Lambda H_i^-1 Lambda' Z_i'(y_i - X_i beta)     E(b_i | y; estimates)
    mode_cov   = sigma^2 Lambda H_i^-1 Lambda'                  Var(b_i | y; estimates)

with H_i = I + Lambda' Z_i'Z_i Lambda.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesimp.errors import DataError, SpecificationError
from bayesimp.kernels.lmm.components import components_of, covariance_spread
from bayesimp.kernels.lmm.curvature import second_derivatives
from bayesimp.kernels.lmm.identifiability import Labels, check_identified
from bayesimp.kernels.lmm.search import (
    Descent,
    PreparedTables,
    SearchableTables,
    prepare_tables,
    search,
)
from bayesimp.notation import IntMatrix, IntVector, Matrix, Stack, Vector

__all__ = [
    "LinearMixedFit",
    "Units",
    "fit_at",
    "fit_mixed_model",
    "fit_mixed_models",
    "log_likelihood",
    "refuse_exact",
]

Array = NDArray[np.float64]
# share of the residual mean square of X alone below which rounding shows in standard errors
NO_RESIDUAL = 1e-11


@dataclass(frozen=True)
class LinearMixedFit:
    """A fitted linear mixed model; from `fit_mixed_models`, every array has a leading axis of tables.

    Attributes
    ----------
    beta, cov
        (p,) fixed effects, unit of y / unit of X; (p, p) their covariance, with Psi and sigma2 taken as known.
    cov_spread
        (d + 1, p, p) derivatives of cov, see `bayesimp.kernels.lmm.components.covariance_spread`.
    Psi, sigma2
        (q, q) covariance of the random effects; residual variance.
    modes, mode_cov
        (m, q) conditional means of the random effects and (m, q, q) their conditional covariances; a cluster
        without rows has 0 and Psi. Empty if not requested.
    loglik
        Log-likelihood; under REML the restricted one, in lme4's convention (it depends on the units of X).
    theta
        (d,) lower triangle of Lambda by columns, within blocks; lme4's ``theta``.
    components, components_cov
        (k,) log standard deviations of the random effects, Fisher's z = atanh of their correlations (by
        columns of the lower triangle), log sigma; (k, k) their covariance from the observed information. A variance of
        zero gives -inf, a correlation at its bound -inf or inf, a correlation with a variance of zero nan; their
        covariances are nan.
    gradient_norm
        Largest derivative of the deviance with respect to theta for orthonormal Z: dimensionless.
    converged, singular
        Whether the search ended at a stationary point; whether Lambda has a diagonal element of zero.
    n, clusters, reml
        Number of rows; number of clusters with rows; whether the criterion is REML.
    """

    beta: Array
    cov: Array
    cov_spread: Array
    Psi: Array
    sigma2: Array
    modes: Array
    mode_cov: Array
    loglik: Array
    theta: Array
    components: Array
    components_cov: Array
    gradient_norm: Array
    converged: NDArray[np.bool_]
    singular: NDArray[np.bool_]
    n: NDArray[np.int64]
    clusters: NDArray[np.int64]
    reml: NDArray[np.bool_]

    def __getitem__(self, k: int) -> LinearMixedFit:
        """Fit of table k."""
        return LinearMixedFit(*(getattr(self, field.name)[k] for field in fields(self)))

    def __len__(self) -> int:
        """Number of tables."""
        return len(self.beta)


def fit_mixed_model(
    y: ArrayLike, X: ArrayLike, Z: ArrayLike, codes: ArrayLike, **options: Any
) -> LinearMixedFit:
    """Fit one table: y (n,), X (n, p), Z (n, q), codes (n,). Options as for `fit_mixed_models`."""
    return fit_mixed_models(y, X, Z, codes, [0, len(np.asarray(y))], **options)[0]


def fit_mixed_models(
    y: ArrayLike, X: ArrayLike, Z: ArrayLike, codes: ArrayLike, starts: ArrayLike, *,
    clusters: int | None = None, blocks: ArrayLike | None = None, reml: bool = True,
    start: ArrayLike | None = None, modes: bool = True, labels: Labels | None = None,
) -> LinearMixedFit:  # fmt: skip
    """Fit every table of a stack; each search begins at the optimum of the previous one.

    Parameters
    ----------
    y, X, Z, codes
        (N,), (N, p), (N, q), (N,): stacked tables; codes 0..clusters-1, rows in any order.
    starts
        (M + 1,) first row of each table, then N.
    blocks
        (q,) block of every column of Z: effects of columns in different blocks are uncorrelated, so ``(1 + x || g)``
        is [0, 1]. None: one block.
    start
        (d,) initial theta, from a fit of similar data.
    modes
        Whether to compute the conditional modes and their covariances, M m q^2 numbers.
    labels
        Names of the columns and of the group, for messages.

    Raises
    ------
    DataError
        A value is not finite, or X alone or together with the random effects reproduces y exactly.
    SpecificationError
        Columns of X or Z are linearly dependent, there are no more rows than columns of X, or the variance components
        are not identified (`bayesimp.kernels.lmm.identifiability`).
    """
    y, X, Z = (np.ascontiguousarray(a, dtype=float) for a in (y, X, Z))
    codes, starts = np.ascontiguousarray(codes, dtype=np.int64), np.asarray(starts, dtype=np.int64)
    _check(y, X, Z, codes, starts)
    m = int(codes.max()) + 1 if clusters is None else clusters
    (p, q), M, n = (X.shape[1], Z.shape[1]), len(starts) - 1, np.diff(starts)
    block = np.zeros(q, dtype=np.int64) if blocks is None else np.asarray(blocks, dtype=np.int64)
    free = np.array([(a, b) for b in range(q) for a in range(b, q) if block[a] == block[b]], dtype=np.int64)
    A, B, c = np.zeros((M, m, q, q)), np.zeros((M, m, q, p)), np.zeros((M, m, q))
    units = Units(np.zeros((M, p, p)), np.zeros((M, q, q)), np.zeros((M, p)), np.zeros(M))
    wrong = np.zeros(M, dtype=np.int64)
    prepare_tables(
        y, X, Z, codes, starts, block, A, B, c, units.Tx, units.Tz, units.alpha, units.scale, wrong
    )
    _refuse(wrong, p, M, labels)
    for k in range(M):
        check_identified(A[k], B[k], int(n[k]), free, units.Tz[k], labels, _table(k, M))
    prepared = PreparedTables(A, B, c, n, free, reml)
    begin = np.full((M, len(free)), np.nan)
    if start is not None:
        begin[0] = units.theta(np.asarray(start, dtype=float), free)
    end, singular = search(prepared, begin)
    refuse_exact(end.scalars[:, 1], "cluster" if labels is None else f"'{labels.group}'", M)
    rows = np.bincount(np.repeat(np.arange(M), n) * m + codes, minlength=M * m).reshape(M, m)
    fit = fit_at(end, prepared, units, singular, (rows > 0).sum(axis=1))
    if modes:
        b, cov = _modes(_signed(end.theta, free, q), prepared, end.beta, units.Tz, fit.sigma2, units.scale)
        return replace(fit, modes=b, mode_cov=cov)
    return fit


class Units(NamedTuple):
    """The transformation to orthonormal columns: X = Q_x Tx, Z = Q_z Tz, y = Q_x alpha + scale * residual.

    Tx (M, p, p), Tz (M, q, q), alpha (M, p), scale (M,).
    """

    Tx: Array
    Tz: Array
    alpha: Array
    scale: Array

    def theta(self, theta: Array, free: IntMatrix) -> Array:
        """theta (d,) for the columns of Z, converted to that for the columns of Q_z, in the first table."""
        Lambda = _lower(theta[None], free, self.Tz.shape[1])[0]
        return (self.Tz[0] @ Lambda)[free[:, 0], free[:, 1]]


def fit_at(
    end: Descent, prepared: SearchableTables, units: Units, singular: NDArray[np.bool_], clusters: IntVector
) -> LinearMixedFit:
    """Fits at the ends of the searches, in the tables' units and without modes; clusters (M,): those with rows.

    For one grouping factor, or for several, whose blocks are on the diagonal of Lambda.
    """
    (M, q), p, free, n = units.Tz.shape[:2], units.Tx.shape[1], prepared.free, prepared.n
    signs = _signs(_lower(end.theta, free, q))
    Lambda_q = _signed(end.theta, free, q)
    sigma2 = end.scalars[:, 1] * units.scale**2
    into_beta = np.linalg.inv(units.Tx)
    root = into_beta @ np.swapaxes(np.linalg.inv(np.tril(end.R)), 1, 2)
    Lambda = np.linalg.solve(units.Tz, Lambda_q)
    Psi = sigma2[:, None, None] * Lambda @ np.swapaxes(Lambda, 1, 2)
    loglik = -0.5 * end.value - (n - p if prepared.reml else n) * np.log(units.scale)
    if prepared.reml:
        loglik -= np.log(np.einsum("kaa->ka", units.Tx)).sum(axis=1)
    hessian, slopes = second_derivatives(prepared, end)
    cov = sigma2[:, None, None] * root @ np.swapaxes(root, 1, 2)
    slopes = into_beta[:, None] @ slopes @ np.swapaxes(into_beta, 1, 2)[:, None] * sigma2[:, None, None, None]
    components, components_cov = components_of(Lambda, sigma2, free, units.Tz, signs, hessian, end.theta)
    return LinearMixedFit(
        beta=np.einsum("kab,kb->ka", into_beta, units.alpha + units.scale[:, None] * end.beta),
        cov=cov,
        cov_spread=covariance_spread(cov, slopes, free, hessian, end.theta),
        Psi=Psi, sigma2=sigma2, modes=np.zeros((M, 0, q)), mode_cov=np.zeros((M, 0, q, q)), loglik=loglik,
        theta=Lambda[:, free[:, 0], free[:, 1]], components=components, components_cov=components_cov,
        gradient_norm=np.abs(end.gradient).max(axis=1), converged=end.converged, singular=singular,
        n=n, clusters=clusters, reml=np.full(M, prepared.reml),
    )  # fmt: skip


def log_likelihood(
    y: ArrayLike,
    X: ArrayLike,
    Z: ArrayLike,
    codes: ArrayLike,
    clusters: int,
    beta: ArrayLike,
    Psi: ArrayLike,
    sigma2: float,
) -> float:
    """log p(y; beta, Psi, sigma^2), marginal over the random effects; Psi may be singular.

    With r = y - X beta, Psi = W W', H_i = I + W'Z_i'Z_i W / sigma^2 and v_i = W'Z_i'r_i / sigma^2,

        -2 log p = n log(2 pi sigma^2) + sum log|H_i| + r'r / sigma^2 - sum v_i'H_i^-1 v_i
    """
    y, X, Z, codes = np.asarray(y, float), np.asarray(X, float), np.asarray(Z, float), np.asarray(codes)
    r = y - X @ np.asarray(beta)
    values, vectors = np.linalg.eigh(np.asarray(Psi))
    ZW = Z @ (vectors * np.sqrt(np.maximum(values, 0.0)))  # rounding only: Psi is a covariance matrix
    q = Z.shape[1]
    H, v = np.zeros((clusters, q, q)), np.zeros((clusters, q))
    np.add.at(H, codes, ZW[:, :, None] * ZW[:, None, :] / sigma2)
    np.add.at(v, codes, ZW * r[:, None] / sigma2)
    H += np.eye(q)
    explained = np.einsum("ia,ia->", v, np.linalg.solve(H, v[..., None])[..., 0])
    twice = len(y) * np.log(2 * np.pi * sigma2) + np.linalg.slogdet(H)[1].sum() + r @ r / sigma2 - explained
    return float(-0.5 * twice)


def _check(y: Array, X: Array, Z: Array, codes: IntVector, starts: IntVector) -> None:
    N = len(y)
    if (
        X.ndim != 2
        or Z.ndim != 2
        or not len(X) == len(Z) == len(codes) == N
        or starts[0] != 0
        or starts[-1] != N
    ):
        raise ValueError(
            f"shapes do not fit: y {y.shape}, X {X.shape}, Z {Z.shape}, codes {codes.shape}, "
            f"starts from {starts[0]} to {starts[-1]}"
        )
    if N and codes.min() < 0:
        raise DataError(f"{int((codes < 0).sum())} rows have no cluster; remove them or assign them to one.")
    for name, a in (("response", y), ("fixed effects", X), ("random effects", Z)):
        if not np.isfinite(a).all():
            raise DataError(f"{name}: {int((~np.isfinite(a)).sum())} values are missing or infinite.")
    if np.diff(starts).min(initial=N) <= X.shape[1]:
        raise SpecificationError(
            f"{int(np.diff(starts).min())} rows are too few for {X.shape[1]} fixed effects; use fewer columns."
        )


def _refuse(wrong: IntVector, p: int, M: int, labels: Labels | None) -> None:
    if not wrong.any():
        return
    k = int(np.flatnonzero(wrong)[0])
    where = _table(k, M)
    if wrong[k] == 1 + p:
        raise DataError(
            f"{where}the fixed effects reproduce the response exactly; there is nothing to estimate."
        )
    kind, column = ("fixed", wrong[k] - 1) if wrong[k] > 0 else ("random", -1 - wrong[k])
    called = f"column {column} (counted from 0)"
    if labels is not None:
        called = f"'{(labels.fixed if kind == 'fixed' else labels.random)[column]}'"
    raise SpecificationError(
        f"{where}{called} of the {kind}-effects design is constant zero or a linear combination of later columns; remove "
        "a term."
    )


def refuse_exact(share: Array, group: str, M: int) -> None:
    """Refuse tables without a residual; share (M,): sigma^2 relative to the residual mean square of X alone."""
    exact = np.flatnonzero(share < NO_RESIDUAL)
    if len(exact):
        raise DataError(
            f"{_table(int(exact[0]), M)}the fixed effects and the random effects of {group} reproduce the response "
            "exactly, and nothing is left for a residual variance. If the response is constant within clusters, "
            "analyse a table with one row per cluster."
        )


def _table(k: int, M: int) -> str:
    return f"table {k + 1} of {M}: " if M > 1 else ""


def _lower(theta: Array, free: IntMatrix, q: int) -> Array:
    """(M, q, q) Lambda with theta (M, d) at its free entries."""
    Lambda = np.zeros((len(theta), q, q))
    Lambda[:, free[:, 0], free[:, 1]] = theta
    return Lambda


def _signs(Lambda: Array) -> Array:
    """(M, 1, q) signs that make the first nonzero element of every column of Lambda positive."""
    first = np.argmax(Lambda != 0, axis=1)
    element = np.take_along_axis(Lambda, first[:, None, :], axis=1)
    return np.where(element < 0, -1.0, 1.0)


def _signed(theta: Array, free: IntMatrix, q: int) -> Array:
    """(M, q, q) Lambda with corrected column signs."""
    Lambda = _lower(theta, free, q)
    return Lambda * _signs(Lambda)


def _modes(
    Lambda_q: Array, prepared: PreparedTables, delta: Matrix, Tz: Stack, sigma2: Vector, scale: Vector
) -> tuple[Array, Array]:
    """Modes (M, m, q) and their covariances (M, m, q, q), in the units of Z."""
    A, B, c = prepared.A, prepared.B, prepared.c
    q = A.shape[-1]
    H = np.eye(q) + np.einsum("kba,kibc,kcd->kiad", Lambda_q, A, Lambda_q, optimize=True)
    Lambda = np.linalg.solve(Tz, Lambda_q)
    half = np.linalg.solve(H, np.swapaxes(Lambda, 1, 2)[:, None])  # H_i^-1 Lambda'
    residual = c - np.einsum("kiab,kb->kia", B, delta)
    right = np.einsum("kba,kib->kia", Lambda_q, residual)[..., None]
    b = Lambda[:, None] @ np.linalg.solve(H, right) * scale[:, None, None, None]
    return b[..., 0], sigma2[:, None, None, None] * (Lambda[:, None] @ half)

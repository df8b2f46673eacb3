"""Predictions for clusters of the table, at the conditional modes of their effects.

With b = L u, Psi = L L', and u_hat the mode of u given the rows of the cluster and the estimates
(kernels/glmm/modes.py),

    s_j = d log p(y_j | eta_j) / d eta,   C_j = -d^2 log p / d eta^2,   H = I + L'Z'C Z L,   K = L H^-1 L'
    b_hat = L u_hat,     Var(b | y, beta) = K,     d b_hat / d beta = -K Z'C X =: -P

A new row (x, z) of the cluster has eta = x'beta + z'b_hat, with derivative x - P'z by beta and the variance

    (x - P'z)' Var(beta) (x - P'z) + z'K z              Henderson 1975; Psi and sigma^2 taken as known, as in lme4

For a normal response, C = 1 / sigma^2 and one Newton step reaches the mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from bayesimp.analysis.generalised_tables import stack_tables
from bayesimp.analysis.groups import column_codes
from bayesimp.analysis.linear import normal_rows
from bayesimp.analysis.links import mean_at
from bayesimp.analysis.row_model import FormulaRows, RowPredictions, effects_covariance
from bayesimp.errors import DataError, SpecificationError
from bayesimp.messages import listing
from bayesimp.notation import IntVector, Matrix, Vector

if TYPE_CHECKING:
    from bayesimp.analysis.fits import Fits

__all__ = ["ClusterRows", "at_clusters", "mode_of"]

MOST_ROWS = 3_000
STEPS, SMALL = 100, 1e-20  # most Newton steps; squared length of a step below which they stop


class ClusterRows(NamedTuple):
    """Observed rows: y, trials, weight, offset, codes (n,), X (n, p), Z (n, q)."""

    y: Vector
    trials: Vector
    weight: Vector
    offset: Vector
    codes: IntVector
    X: Matrix
    Z: Matrix

    def of(self, cluster: int) -> ClusterRows:
        """The rows of one cluster."""
        return ClusterRows(*(values[self.codes == cluster] for values in self))


def at_clusters(
    model: FormulaRows,
    fits: Fits,
    k: int,
    new: pd.DataFrame,
    X: Matrix,
    Z: Matrix,
    offset: Vector,
    scale: str,
) -> RowPredictions:
    """Predictions of new rows of known clusters, with the covariance of their effects."""
    formula = model.formula
    if not formula.single_grouping or ":" in formula.random[0].group:
        raise SpecificationError(
            f"{formula.text!r}: predictions for clusters need exactly one grouping factor; give random_effects='zero' "
            "or 'integrated'."
        )
    if len(X) > MOST_ROWS:
        raise SpecificationError(
            f"predictions for clusters: there are {len(X):,} rows, but their covariance is stored for "
            f"at most {MOST_ROWS:,}; give newdata= with the rows of interest."
        )
    rows, codes = _observed(model, k), _codes(model, k, new)
    sd, R = effects_covariance(fits, k, Z.shape[1])
    L = sd[:, None] * _root(R)
    sigma2 = float(np.exp(2 * fits.components[k, -1])) if model.link == "identity" else 1.0
    eta, gradient = offset + X @ fits.estimates[k], X.copy()
    extra = np.zeros((len(X), len(X)))
    for cluster in np.unique(codes):
        at = np.flatnonzero(codes == cluster)
        b, K, P = mode_of(model.link, rows.of(int(cluster)), fits.estimates[k], L, sigma2)
        eta[at] += Z[at] @ b
        gradient[at] -= Z[at] @ P
        extra[np.ix_(at, at)] = Z[at] @ K @ Z[at].T
    if scale == "link":
        return RowPredictions(eta, gradient, extra)
    mu, slope = mean_at(model.link, eta)
    return RowPredictions(mu, slope[:, None] * gradient, extra * slope[:, None] * slope)


def mode_of(
    link: str, rows: ClusterRows, beta: Vector, L: Matrix, sigma2: float
) -> tuple[Vector, Matrix, Matrix]:
    """b_hat (q,), K (q, q) and P (q, p) for one cluster."""
    q, fixed, ZL = len(L), rows.offset + rows.X @ beta, rows.Z @ L

    def height(u: Vector) -> float:
        return _log_likelihood(link, fixed + ZL @ u, rows, sigma2) - 0.5 * float(u @ u)

    u = np.zeros(q)
    for _ in range(STEPS):
        score, C = _derivatives(link, fixed + ZL @ u, rows, sigma2)
        H = np.eye(q) + ZL.T @ (C[:, None] * ZL)
        step = np.linalg.solve(H, ZL.T @ score - u)
        while height(u + step) < height(u) - 1e-12 and step @ step > SMALL:
            step = step / 2
        u = u + step
        if step @ step < SMALL:
            break
    C = _derivatives(link, fixed + ZL @ u, rows, sigma2)[1]
    H = np.eye(q) + ZL.T @ (C[:, None] * ZL)
    K = L @ np.linalg.solve(H, L.T)
    return L @ u, K, K @ rows.Z.T @ (C[:, None] * rows.X)


def _log_likelihood(link: str, eta: Vector, rows: ClusterRows, sigma2: float) -> float:
    """Log-likelihood, up to terms that do not depend on eta."""
    y, n, w = rows.y, rows.trials, rows.weight
    if link == "identity":
        return float(-0.5 * np.sum(w * (y - eta) ** 2) / sigma2)
    if link == "log":
        return float(np.sum(w * (y * eta - np.exp(eta))))
    if link == "probit":
        return float(np.sum(w * (y * special.log_ndtr(eta) + (n - y) * special.log_ndtr(-eta))))
    return float(np.sum(w * (y * eta - n * np.logaddexp(0.0, eta))))


def _derivatives(link: str, eta: Vector, rows: ClusterRows, sigma2: float) -> tuple[Vector, Vector]:
    """First and minus second derivatives of the log-likelihood by eta, (n,) each."""
    y, n, w = rows.y, rows.trials, rows.weight
    if link == "identity":
        return w * (y - eta) / sigma2, w / sigma2
    if link == "probit":
        log_density = -0.5 * eta**2 - 0.5 * np.log(2 * np.pi)
        a, b = np.exp(log_density - special.log_ndtr(eta)), np.exp(log_density - special.log_ndtr(-eta))
        return w * (y * a - (n - y) * b), w * (y * a * (a + eta) + (n - y) * b * (b - eta))
    mu, slope = mean_at(link, eta)
    n = np.ones_like(y) if link == "log" else n
    return w * (y - n * mu), w * n * slope


def _root(R: Matrix) -> Matrix:
    """A square root of a correlation matrix, which may be singular."""
    values, vectors = np.linalg.eigh(R)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _observed(model: FormulaRows, k: int) -> ClusterRows:
    """The rows that the fit of table k used."""
    frame, formula = model.tables.frame(k)[list(dict.fromkeys(
        [*model.formula.columns, *filter(None, model.columns.values())]
    ))], model.formula  # fmt: skip
    if model.link == "identity":
        y, weight, X, Z, codes = normal_rows(
            frame, formula, model.columns["weights"], model.columns["offset"]
        )
        return ClusterRows(y, np.ones_like(y), weight, np.zeros_like(y), codes, X, Z)
    made = stack_tables(frame, [len(frame)], formula, model.family, model.columns)
    return ClusterRows(made.y, made.trials, made.weight, made.offset, made.codes, made.X, made.Z)


def _codes(model: FormulaRows, k: int, new: pd.DataFrame) -> IntVector:
    """The cluster of each new row, numbered as in the fit."""
    name, table = model.formula.groups[0], model.tables.frame(k)
    if name not in new:
        raise SpecificationError(
            f"{model.formula.text!r}: predictions for clusters need the column {name!r} in the new rows."
        )
    codes = column_codes(table, name)[0]
    known = pd.Series(codes, index=pd.Index(table[name])).groupby(level=0, observed=True).first()
    unknown = ~new[name].isin(known.index)
    if unknown.any():
        raise DataError(
            f"{int(unknown.sum())} new rows belong to clusters that are not in the tables "
            f"({listing(new[name][unknown].unique())}). For a new cluster give random_effects='integrated'."
        )
    return known.loc[list(new[name])].to_numpy()

"""Records of latent variables and rows of the joint model on latent normals, as its kernels read them.

NUMBER      y = y*                                                                 a normal variable
THRESHOLD   y = l  where  c_l-1 < y* <= c_l,  c_-1 = -inf, c_0 = 0, c_K-1 = inf    binary (K = 2) and ordinal
UTILITY     y = the largest of 0, y*_1, .., y*_K-1; 0 the reference level          one column for each further level
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from bayesimp.kernels.covariance.update import CovarianceUpdate
    from bayesimp.kernels.latent.residual import ResidualPrior

__all__ = [
    "NUMBER",
    "THRESHOLD",
    "UTILITY",
    "Kept",
    "LatentColumns",
    "LatentRows",
    "LatentState",
    "LatentLevel",
    "MissingCells",
    "SamplerPriors",
]

NUMBER, THRESHOLD, UTILITY = range(3)


class LatentColumns(NamedTuple):
    """The r latent variables; those of one variable are adjacent.

    kind (r,): one of the codes; first (r,), width (r,): the columns of the same variable; cut (r + 1,): the cutpoints of
    column k are cutpoints[cut[k] : cut[k + 1]], the first of which is 0.
    """

    kind: np.ndarray
    first: np.ndarray
    width: np.ndarray
    cut: np.ndarray


class LatentRows(NamedTuple):
    """The rows of the table, in the sampler's order.

    cluster (N,): index of a row's effects B (of its combination of groups, if there are several factors); pattern (N,);
    cell (N,): cell of the moments, -1 where nothing is observed; X (N, p), Z (N, q);
    level (N, r): observed level of the column's variable, -1 where it is missing or a number.
    """

    cluster: np.ndarray
    pattern: np.ndarray
    cell: np.ndarray
    X: np.ndarray
    Z: np.ndarray
    level: np.ndarray


class MissingCells(NamedTuple):
    """The cells to impute, by variable v = 1..V, and how they are reported.

    row (R,): rows with something missing; place (R, V): position of the cell among all imputed ones, -1 where it is
    observed; column (V,): first column of each variable; unit (V,), fixed (R, V): a number is unit (y* + fixed);
    value: numbers that represent levels, value[start[v] : start[v + 1]] for variable v; shift (R, r): added to y*;
    cluster (R,): the cluster for which the row's cells are summarised.
    """

    row: np.ndarray
    place: np.ndarray
    column: np.ndarray
    unit: np.ndarray
    fixed: np.ndarray
    value: np.ndarray
    start: np.ndarray
    shift: np.ndarray
    cluster: np.ndarray


class LatentLevel(NamedTuple):
    """Rows of the table (w = r columns), or its clusters (w = rq + s columns: effects, then cluster-level variables).

    rows, columns, cells; patterns (A, w) bool: whether a column is observed (always True for effects); counts (A,): rows
    of each pattern in which anything is observed.
    """

    rows: LatentRows
    columns: LatentColumns
    cells: MissingCells
    patterns: np.ndarray
    counts: np.ndarray


class SamplerPriors(NamedTuple):
    """All priors on the working scale.

    free_Sigma, restricted_Sigma: for Sigma without and with fixed entries; the one not in use has kind FIXED or KNOWN.
    free_Psi, restricted_Psi: the same for Psi. Q0 (r p, r p), t0 (r p,): precision, and precision times mean, of
    vec(beta); zero if flat. Q0_clusters (w p_2, w p_2), t0_clusters: the same for vec(gamma), w = rq + s, zero for
    effects. rate: of the exponential increments between cutpoints; spread: of the half-normal (2 / a)^1/2.
    """

    free_Sigma: CovarianceUpdate
    restricted_Sigma: ResidualPrior
    free_Psi: CovarianceUpdate
    restricted_Psi: ResidualPrior
    Q0: np.ndarray
    t0: np.ndarray
    Q0_clusters: np.ndarray
    t0_clusters: np.ndarray
    rate: float
    spread: float


class LatentState(NamedTuple):
    """Current state of a chain.

    Y (N, r): observed numbers and latent values of observed levels, zeros elsewhere; cutpoints (c,); beta (p, r);
    B (m, q, r); Sigma (r, r); Psi (w, w); V (m, w): effects and values of cluster-level variables, zeros where missing;
    cluster_cutpoints (c_2,); gamma (p_2, w): their coefficients, zero for effects; residuals (G, r, r): Sigma itself, or
    one residual covariance per cluster; likeness (1,): a of kernels/latent/cluster_residuals.py.
    """

    Y: np.ndarray
    cutpoints: np.ndarray
    beta: np.ndarray
    B: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    V: np.ndarray
    cluster_cutpoints: np.ndarray
    gamma: np.ndarray
    residuals: np.ndarray
    likeness: np.ndarray


class Kept(NamedTuple):
    """Arrays for D kept states, and for the imputed cells of every `stride`-th of them.

    beta (D, p, r), Sigma (D, r, r), Psi (D, w, w), cutpoints (D, c), gamma (D, p_2, w), cluster_cutpoints (D, c_2),
    likeness (D, 1), residuals (D, G, r, r) or (0, ...) if they are not wanted; mean, sd (D, m, V), cluster_mean,
    cluster_sd (D, m, V_2); cells (D / stride, cells): those of rows, then those of clusters. B (D, m, q, r), or (0, ...)
    if effects are not wanted.
    """

    beta: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    cutpoints: np.ndarray
    gamma: np.ndarray
    cluster_cutpoints: np.ndarray
    likeness: np.ndarray
    residuals: np.ndarray
    B: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    cluster_mean: np.ndarray
    cluster_sd: np.ndarray
    cells: np.ndarray

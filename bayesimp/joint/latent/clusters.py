"""Cluster-level variables in the joint model on latent normals: the cluster level as read by the sampler.

    v_i = gamma' g_i + e_i,    (vec(B_i), e_i) ~ N(0, Psi)

g_i are the columns of X that are constant within every cluster. To the kernels clusters are rows whose columns are the
r q effects, always present, followed by the latent variables of the cluster-level variables. Scaling is as in
joint/scale.py: numbers minus their least-squares fit on g have standard deviation 1 between clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.contract import Shift
from bayesimp.errors import SpecificationError
from bayesimp.formulas.design import DesignMatrices
from bayesimp.joint.latent.cells import latent_columns, missing_cells, values_of
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.scale import IncompleteRows, Scale, prepare
from bayesimp.kernels.latent.records import NUMBER, LatentLevel, LatentRows
from bayesimp.scale.effects import EffectScale
from bayesimp.table.clusters import Clusters, varies_within
from bayesimp.table.incomplete import IncompleteData

__all__ = [
    "ClusterTable",
    "EffectsAndVariables",
    "cluster_shift",
    "cluster_table",
    "cluster_values",
    "of_new_clusters",
]

Array = NDArray[np.float64]


class EffectsAndVariables(EffectScale):
    """The scale of (vec(B_i), v_i): effects (w,), and C (w, w), the identity for cluster-level variables."""

    def __init__(self, scale: EffectScale, s: Array) -> None:
        self.effects = np.concatenate([scale.effects, s])
        n = len(scale.effects)
        self.C = np.eye(n + len(s))
        self.C[:n, :n] = np.kron(np.eye(n // len(scale.C)), scale.C)


@dataclass(frozen=True)
class ClusterTable:
    """Clusters as rows.

    Attributes
    ----------
    variables
        Cluster-level variables, in the order of the formula.
    G, fixed, terms
        (m, p_2) the columns of X that are constant within clusters, by cluster of the table; their names, and their
        spelling in the formula.
    level
        The clusters as read by kernels, in the sampler's order.
    V
        (m, w) observed numbers, zeros elsewhere.
    scale
        Scale of the cluster-level variables: T (p_2, p_2), offset (p_2, s), s (s,).
    incomplete
        Incomplete variables, each with the clusters of the table in which it is missing.
    """

    variables: tuple[LatentVariable, ...]
    G: Array
    fixed: tuple[str, ...]
    terms: tuple[str, ...]
    level: LatentLevel
    V: Array
    scale: Scale
    incomplete: tuple[tuple[LatentVariable, NDArray[np.int64]], ...]

    @property
    def labels(self) -> list[str]:
        """(s,) names of the latent variables."""
        return [label for variable in self.variables for label in variable.labels]

    @property
    def counted(self) -> int:
        """The number of values to impute, one per cluster."""
        return sum(len(clusters) for _, clusters in self.incomplete)


def cluster_values(data: IncompleteData, name: str, clusters: Clusters | None = None) -> Array:
    """(m,) the value of each cluster, NaN if no row has one; clusters None: the primary ones."""
    clusters = data.grouping if clusters is None else clusters
    y = data.numeric(name)
    seen = np.flatnonzero(~np.isnan(y))
    out = np.full(len(clusters), np.nan)
    out[clusters.codes[seen]] = y[seen]
    return out


def cluster_table(
    data: IncompleteData, design: DesignMatrices, variables: tuple[LatentVariable, ...], effects: int,
    order: NDArray[np.int64], shift: Shift, *, flat: bool, clusters: Clusters | None = None,
) -> ClusterTable:  # fmt: skip
    """The cluster level; effects: r q; order (m,): cluster of the table at each position of the sampler's order.

    clusters: None for the primary ones; the groups of any other factor are clusters of their variables.

    Raises
    ------
    SpecificationError
        No column of X is constant within clusters, or coefficients are not identified.
    """
    clusters = data.grouping if clusters is None else clusters
    m, labels = len(order), [label for variable in variables for label in variable.labels]
    constant = [
        k for k in range(design.X.shape[1]) if not varies_within(design.X[:, k], clusters.codes).any()
    ]
    if variables and not constant:
        raise SpecificationError(
            f"{variables[0].name!r} has a single value in each cluster, but no column of the fixed part is constant "
            "within clusters, not even an intercept, so its mean cannot be modelled. Add 1 to the right side."
        )
    constant = constant if variables else []
    G = np.empty((m, len(constant)))
    G[clusters.codes] = design.X[:, constant]
    names = tuple(design.fixed[k] for k in constant)
    values = {variable.name: cluster_values(data, variable.name, clusters) for variable in variables}
    rows, scale = _working(G, variables, values, labels, names, order, flat=flat)
    terms = tuple(design.terms[k] for k in constant)
    shifts = {variable.name: cluster_shift(shift, data, variable.name, clusters) for variable in variables}
    return _assembled(G, names, terms, variables, values, rows, scale, effects, shifts)


def cluster_shift(shift: Shift, data: IncompleteData, name: str, clusters: Clusters | None = None) -> Array:
    """(m, w) numbers added to the latent values of a cluster-level variable, by cluster.

    Raises
    ------
    SpecificationError
        The shift depends on a column that varies within clusters.
    """
    clusters = data.grouping if clusters is None else clusters
    shift.check_constant(name, data, clusters)
    of_rows = shift.rows(name, data)
    out = np.zeros((len(clusters), of_rows.shape[1]))
    out[clusters.codes] = of_rows
    return out


def of_new_clusters(
    known: ClusterTable,
    G: Array,
    values: dict[str, Array],
    order: NDArray[np.int64],
    effects: int,
    shifts: Mapping[str, Array],
) -> ClusterTable:
    """Other clusters on the scale of those of a run: G (k, p_2), values and shifts by variable, (k,) and (k, w).

    order: as in `cluster_table`.
    """
    scale, k, none = known.scale, len(order), np.empty((len(order), 0))
    places = np.zeros(k, dtype=np.int64)
    columns = [values_of(v, values[v.name]) for v in known.variables]
    X = G[order] @ scale.T if columns else none
    fixed = X @ scale.offset if columns else none
    Y = np.column_stack(columns)[order] / scale.s - fixed if columns else none
    rows = IncompleteRows(order, np.arange(k), places, X, none, Y, fixed)
    return _assembled(G, known.fixed, known.terms, known.variables, values, rows, scale, effects, shifts)


def _assembled(
    G: Array, names: tuple[str, ...], terms: tuple[str, ...], variables: tuple[LatentVariable, ...],
    values: dict[str, Array], rows: IncompleteRows, scale: Scale, effects: int, shifts: Mapping[str, Array],
) -> ClusterTable:  # fmt: skip
    lacking = [(v, np.flatnonzero(np.isnan(values[v.name]))) for v in variables]
    incomplete = tuple((v, clusters) for v, clusters in lacking if len(clusters))
    latent = np.array([v.kind != NUMBER for v in variables for _ in v.labels], dtype=bool)
    V = np.hstack([np.zeros((len(rows.Y), effects)), np.where(np.isnan(rows.Y) | latent, 0.0, rows.Y)])
    level = _level(rows, variables, values, scale, incomplete, shifts, effects)
    return ClusterTable(variables, G, names, terms, level, V, scale, incomplete)


def _working(
    G: Array, variables: Sequence[LatentVariable], values: dict[str, Array], labels: list[str], names: Sequence[str],
    order: NDArray[np.int64], *, flat: bool,
) -> tuple[IncompleteRows, Scale]:  # fmt: skip
    """Clusters in the sampler's order on the working scale."""
    m = len(order)
    if not variables:
        none, nothing = np.empty((m, 0)), np.zeros(m, dtype=np.int64)
        scale = Scale(np.empty((0, 0)), np.empty((0, 0)), np.empty(0), np.ones(1), np.eye(1))
        return IncompleteRows(order, np.arange(m), nothing, none, none, none, none), scale
    columns = np.column_stack([values_of(v, values[v.name]) for v in variables])
    latent = np.array([v.kind != NUMBER for v in variables for _ in v.labels])
    of_prepare = prepare(
        G, np.ones((m, 1)), columns, np.arange(m), m, labels, names, flat=flat, latent=latent
    )
    rows = of_prepare.rows
    at = np.argsort(rows.row)[order]
    return IncompleteRows(
        order, np.arange(m), rows.pattern[at], rows.X[at], np.empty((m, 0)), rows.Y[at], rows.fixed[at]
    ), of_prepare.scale


def _level(
    rows: IncompleteRows, variables: tuple[LatentVariable, ...], values: dict[str, Array], scale: Scale,
    incomplete: tuple[tuple[LatentVariable, NDArray[np.int64]], ...], shifts: Mapping[str, Array], effects: int,
) -> LatentLevel:  # fmt: skip
    m, s = rows.Y.shape
    seen = np.hstack([np.ones((m, effects), dtype=bool), ~np.isnan(rows.Y)])
    patterns, pattern = np.unique(seen, axis=0, return_inverse=True)
    pattern = pattern.ravel().astype(np.int64)
    level = np.full((m, effects + s), -1, dtype=np.int64)
    for v in variables:
        if v.kind != NUMBER:
            own = np.nan_to_num(values[v.name], nan=-1.0).astype(np.int64)[rows.row]
            level[:, effects + v.columns.start : effects + v.columns.stop] = own[:, None]
    of_clusters = LatentRows(
        np.arange(m), pattern, pattern, np.ascontiguousarray(rows.X), np.empty((m, 0)), level
    )
    cells = missing_cells(rows.row, np.arange(m), rows.fixed, scale.s, incomplete, shifts, effects)
    return LatentLevel(
        of_clusters, latent_columns(variables, effects), cells, np.ascontiguousarray(patterns),
        np.bincount(pattern, minlength=len(patterns)).astype(np.int64),
    )  # fmt: skip

"""Log likelihood, replicates and effects of the joint normal model with several grouping factors at posterior draws.

    connected rows i    log p(y_i,obs | beta, Sigma, Psi_1 .. Psi_S), effects integrated out
    by row              log p(y_ij,obs | beta, Sigma, b)       given effects b ~ p(b | parameters, y_obs) (effects.py)
    replicates          y_rep,ij ~ N(x_ij'beta + z_ij'b, Sigma)      these effects or, of new groups, b_g ~ N(0, Psi_s)

Rows depend on each other if their groups are connected: with classes in schools those of a school, with crossed factors
mostly all rows. With d_j = y_j - x_j'beta, W, Z_a and P as in effects.py, and n_i observed cells (Searle, Casella &
McCulloch 1992, sec. 7.4: |V| = |R| |G| |P|, V^-1 = R^-1 - R^-1 Z P^-1 Z'R^-1),

    -2 log p(y_i,obs) = n_i log 2 pi + sum_j log|Sigma_jj| + sum_g log|Psi_g| + log|P_i|
                        + sum_j d_j'W_j d_j - t_i'P_i^-1 t_i,          t_i = sum_j z_j kron W_j d_j

Densities refer to the observed values in the units of the data; their sum over i is log p(y_obs | beta, Sigma, Psi).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SamplingError
from bayesimp.imputation.tree import cluster_labels
from bayesimp.joint.levels.effects import EffectsGiven, EffectsLaw, RowsOfGroups, weights
from bayesimp.joint.levels.table import working_designs
from bayesimp.joint.pointwise import (
    EFFECTS,
    LOG_2PI,
    REPLICATES,
    generator,
    log_normal_rows,
    of_rows,
    replicated,
    row_patterns,
)
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    from bayesimp.joint.levels.run import LevelsRun

__all__ = ["pointwise"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RowsOfTable:
    """All rows of the table on the working scale: X (N, p), Y (N, r) with NaN where missing, and groups."""

    X: Array
    Y: Array
    groups: RowsOfGroups

    @cached_property
    def patterns(self) -> list[tuple[NDArray[np.bool_], Ints]]:
        """As `row_patterns`."""
        return row_patterns(~np.isnan(self.Y))

    @cached_property
    def part(self) -> Ints:
        """(C,) number of the connected part of each column of `RowsOfGroups.design`."""
        Z = abs(self.groups.design)
        there = sparse.csr_array((np.ones(Z.nnz), Z.indices, Z.indptr), shape=Z.shape)
        return connected_components(there.T @ there, directed=False)[1]


@dataclass(frozen=True)
class DrawnParameters:
    """Parameters of one draw on the working scale, and its place in the result, (chain, draw), and number."""

    beta: Array
    Sigma: Array
    laws: list[EffectsLaw]
    place: tuple[int, int]
    number: int

    def effects(self, rows: RowsOfTable) -> EffectsGiven:
        """The distribution of the effects given these parameters."""
        try:
            return EffectsGiven(rows.groups, self.Sigma, self.laws)
        except np.linalg.LinAlgError:
            raise SamplingError(
                f"Chain {self.place[0]}, draw {self.number}: Sigma or Psi is not positive definite."
            ) from None

    def drawn_effects(self, rows: RowsOfTable, seed: int) -> Array:
        """(C, r) effects given the observed values."""
        given = self.effects(rows)
        z = generator(seed, EFFECTS, self.place[0], self.number).standard_normal(given.normals)
        return given.draw(z, rows.Y - rows.X @ self.beta)


def pointwise(run: LevelsRun, what: str, request: TreeRequest) -> xr.Dataset:
    """``log_likelihood``, ``posterior_predictive`` or ``cluster_effects`` at the draws of `request`.

    Raises
    ------
    SamplingError
        A draw of Sigma or Psi is not positive definite.
    """
    make = {
        "log_likelihood": _by_row if request.by == "row" else _by_part,
        "posterior_predictive": _replicates,
        "cluster_effects": _effects,
    }
    return make[what](run, _rows(run), request)


def _rows(run: LevelsRun) -> RowsOfTable:
    several, model = run.grouping, run.model
    scale = several.table.working.scale
    X = several.design.X @ scale.T
    Z, _ = working_designs(several.designs, scale.s)
    data = np.column_stack([model.data.numeric(name) for name in model.responses])
    Y = data / scale.s - X @ scale.offset
    patterns, pattern = np.unique(~np.isnan(Y), axis=0, return_inverse=True)
    groups = RowsOfGroups(
        Z, several.table.factors.column, np.column_stack([f.groups.codes for f in several.factors]).astype(np.int64),
        np.array([len(f.groups) for f in several.factors], dtype=np.int64), pattern.ravel().astype(np.int64), patterns,
    )  # fmt: skip
    return RowsOfTable(X, Y, groups)


def _draws(run: LevelsRun, request: TreeRequest) -> Iterator[DrawnParameters]:
    h, factors = run.history, run.grouping.table.factors
    r = h.Sigma.shape[-1]
    sizes = r * np.diff(factors.column)
    for c in range(h.chains):
        for at, d in enumerate(range(request.thin - 1, h.draws, request.thin)):
            own = [
                h.Psi[c, d, factors.psi_at[s] : factors.psi_at[s + 1]].reshape(n, n)
                for s, n in enumerate(sizes)
            ]
            laws = [EffectsLaw.centred(Psi, int(G)) for Psi, G in zip(own, factors.number, strict=True)]
            yield DrawnParameters(h.beta[c, d], h.Sigma[c, d], laws, (c, at), d)


def _shape(run: LevelsRun, request: TreeRequest) -> tuple[int, int]:
    return run.history.chains, run.history.draws // request.thin


# --- log likelihood -----------------------------------------------------------------------------------------


def _by_part(run: LevelsRun, rows: RowsOfTable, request: TreeRequest) -> xr.Dataset:
    """``y_obs`` (chain, draw, connected part), of the parts in which something is observed."""
    observed, part = ~np.isnan(rows.Y), rows.part
    of_rows = part[rows.groups.design.indices[rows.groups.design.indptr[:-1]]]
    parts = int(part.max()) + 1
    cells = np.zeros((parts, observed.shape[1]))
    np.add.at(cells, of_rows, observed)
    units = np.log(run.grouping.table.working.scale.s)
    out = np.empty((*_shape(run, request), parts))
    for draw in _draws(run, request):
        out[draw.place] = _log_density(draw, rows, of_rows, parts)
    seen = cells.any(axis=1)
    dim, labels = _names_of_parts(run, of_rows, parts)
    value = (out - 0.5 * LOG_2PI * cells.sum(axis=1) - cells @ units)[..., seen]
    made = xr.DataArray(value, dims=(nt.CHAIN, nt.DRAW, dim), coords={dim: labels[seen]})
    return xr.Dataset({"y_obs": made}, attrs={"effects": nt.INTEGRATED})


def _log_density(draw: DrawnParameters, rows: RowsOfTable, of_rows: Ints, parts: int) -> Array:
    """(parts,) log p(y_i,obs) on the working scale, without 2 pi."""
    given, groups, part = draw.effects(rows), rows.groups, rows.part
    d = np.nan_to_num(rows.Y - rows.X @ draw.beta)  # 0 where missing
    W = weights(draw.Sigma, groups.patterns)
    weighted, of_row = np.empty_like(d), np.zeros(len(d))
    for a, seen in enumerate(groups.patterns):
        own = groups.pattern == a
        weighted[own] = d[own] @ W[a]
        of_row[own] = np.linalg.slogdet(draw.Sigma[np.ix_(seen, seen)])[1]
    total = np.bincount(of_rows, of_row + (d * weighted).sum(axis=1), parts)
    first = 0
    for s, law in enumerate(draw.laws):
        q = int(given.widths[s])
        own = part[first : first + len(law.mean) * q : q]
        total += np.bincount(own, np.linalg.slogdet(law.covariance)[1][law.which], parts)
        first += len(law.mean) * q
    t = (groups.design.T @ weighted).ravel()
    of_effect = np.repeat(part, len(draw.Sigma))
    total += np.bincount(of_effect, given.log_pivots - t * given.factor.solve(t), parts)
    return -0.5 * total


def _names_of_parts(run: LevelsRun, of_rows: Ints, parts: int) -> tuple[str, np.ndarray]:
    """Dimension and labels of connected parts: those of a factor whose groups they are, or numbers."""
    for s, factor in enumerate(run.grouping.factors):
        if len(factor.groups) == parts:
            labels = np.empty(parts, dtype=object)
            labels[of_rows] = cluster_labels(factor.groups.labels)[factor.groups.codes]
            return (nt.group_dimension(factor.label) if s else nt.CLUSTER), labels.astype(str)
    return "connected", np.arange(parts)


def _by_row(run: LevelsRun, rows: RowsOfTable, request: TreeRequest) -> xr.Dataset:
    """``y_obs`` (chain, draw, row), of the rows in which something is observed."""
    observed = ~np.isnan(rows.Y)
    units = np.log(run.grouping.table.working.scale.s)
    out = np.empty((*_shape(run, request), len(observed)))
    for draw in _draws(run, request):
        mean = rows.X @ draw.beta + rows.groups.of_rows(draw.drawn_effects(rows, request.seed))
        out[draw.place] = log_normal_rows(rows.Y - mean, draw.Sigma, rows.patterns) - observed @ units
    seen = np.flatnonzero(observed.any(axis=1))
    return of_rows(run.model, seen, out[..., seen])


# --- replicates, effects ------------------------------------------------------------------------------------


def _replicates(run: LevelsRun, rows: RowsOfTable, request: TreeRequest) -> xr.Dataset:
    """Replicates of the observed cells: response -> (chain, draw, row_<response>)."""
    model, scale = run.model, run.grouping.table.working.scale
    observed = ~np.isnan(rows.Y)
    out = np.empty((*_shape(run, request), *rows.Y.shape))
    fixed = rows.X @ scale.offset
    for draw in _draws(run, request):
        rng = generator(request.seed, REPLICATES, draw.place[0], draw.number)
        if request.new_clusters:
            b = np.vstack([rows.groups.by_column(s, _new(rng, law)) for s, law in enumerate(draw.laws)])
        else:
            b = draw.drawn_effects(rows, request.seed)
        e = rng.standard_normal(rows.Y.shape) @ np.linalg.cholesky(draw.Sigma).T
        out[draw.place] = (rows.X @ draw.beta + rows.groups.of_rows(b) + e + fixed) * scale.s
    return replicated(
        model, [(own, out[..., own, k]) for k, own in enumerate(map(np.flatnonzero, observed.T))]
    )


def _new(rng: np.random.Generator, law: EffectsLaw) -> Array:
    """(G, n) effects of new groups."""
    return rng.standard_normal(law.mean.shape) @ np.linalg.cholesky(law.covariance[0]).T


def _effects(run: LevelsRun, rows: RowsOfTable, request: TreeRequest) -> xr.Dataset:
    """``B_<factor>`` (chain, draw, group, effect), drawn given the parameters and the observed values."""
    several = run.grouping
    units = [of_all(scale.C, len(scale.effects)) * scale.effects for scale in several.table.scales]
    shape, names = _shape(run, request), [nt.in_tree(label) for label in several.labels]
    out = [np.empty((*shape, int(G), len(E))) for G, E in zip(rows.groups.number, units, strict=True)]
    for draw in _draws(run, request):
        b = draw.drawn_effects(rows, request.seed)
        for s, E in enumerate(units):
            out[s][draw.place] = rows.groups.of_factor(b, s) @ E.T
    variables: dict[str, tuple] = {}
    coords: dict[str, Any] = {}
    for s, (name, factor) in enumerate(zip(names, several.factors, strict=True)):
        group = nt.group_dimension(factor.label) if s else nt.CLUSTER
        coords |= {group: cluster_labels(factor.groups.labels), f"effect_{name}": several.effects(s)}
        variables[f"B_{name}"] = (nt.CHAIN, nt.DRAW, group, f"effect_{name}"), out[s]
    return xr.Dataset(variables, coords=coords)

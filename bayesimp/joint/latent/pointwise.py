"""Log likelihood, log prior, replicates and cluster effects of the model on latent normals at posterior draws.

    log likelihood    log p(y_ij,obs | B), a row's observed numbers and levels together, given the effects of its groups
                        (joint/latent/observed.py); of the variables of a group in the same way log p(v_g,obs | B_g)
    log prior         log p(beta), log p(s, R) of Sigma and Psi at their fixed entries (up to a constant),
                      log p(increments between cutpoints), log p(h), h = (2 / a)^1/2, if residual="cluster"
    replicates        y*_rep ~ N(X beta + Z B, Sigma), cut into levels; B of the draw or, in new groups, N(0, Psi)

Densities of numbers refer to the units of the data. The posterior of (theta, B) is proportional to the product of
likelihood, prior (models/joint_latent.py) and N(B_g | 0, Psi), which belongs to neither of the others. `OneFactorDraws`
says how draws are read with one grouping factor, joint/latent/levels/pointwise.py with several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.imputation.tree import cluster_labels
from bayesimp.joint.latent.observed import Draw, LevelDraw, Side, side_of_groups, side_of_rows
from bayesimp.joint.latent.prior import log_coefficients
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.latent.working_priors import SPREAD
from bayesimp.joint.pointwise import REPLICATES, generator
from bayesimp.kernels.latent.records import NUMBER
from bayesimp.notation import Array, IntVector

if TYPE_CHECKING:
    from bayesimp.joint.latent.run import LatentRun

__all__ = [
    "FactorDraws",
    "ObservedLevels",
    "OneFactorDraws",
    "given_effects",
    "log_of_cutpoints",
    "pointwise",
]


@dataclass(frozen=True)
class ObservedLevels:
    """The observed rows and groups of a run, in the sampler's order, and where they are in the table.

    Attributes
    ----------
    rows, groups
        The rows, and the groups of every factor.
    position
        (N,) row of the table of each of `rows`.
    covariance
        (N,) index of the covariance of each of `rows`.
    places, order
        For every factor: (N,) its group, among `groups`, of each row of the table; (G,) the number, in the table, of each
        of `groups`.
    dims, labels
        For every factor: the dimension of its groups, and their labels (G,) in the order of the table.
    """

    rows: Side
    groups: tuple[Side, ...]
    position: IntVector
    covariance: IntVector
    places: tuple[IntVector, ...]
    order: tuple[IntVector, ...]
    dims: tuple[str, ...]
    labels: tuple[NDArray, ...]


class FactorDraws(Protocol):
    """The draws of a run, whatever the number of grouping factors."""

    def observed(self) -> ObservedLevels:
        """What they are compared with."""
        ...

    def draws(self, request: TreeRequest, *, new: bool = False) -> Iterator[Draw]:
        """The draws of the request; new: with effects of new groups, drawn from N(0, Psi)."""
        ...

    def effects(self, request: TreeRequest) -> xr.Dataset:
        """The kept effects, in the units of the data."""
        ...

    def log_prior(self, request: TreeRequest) -> dict[str, Array]:
        """Log density (chain, draw) of each parameter; 0 for flat priors and known matrices."""
        ...


def pointwise(run: LatentRun, of: FactorDraws, what: str, request: TreeRequest) -> xr.Dataset:
    """One of the above, or ``cluster_effects``, at the draws of `request`.

    Raises
    ------
    SpecificationError
        Effects or residual covariances of these draws were not kept, or a prior has no density.
    SamplingError
        A draw of Sigma or Psi is not positive definite.
    """
    if what == "log_prior":
        values = of.log_prior(request)
        return xr.Dataset({name: ((nt.CHAIN, nt.DRAW), value) for name, value in values.items()})
    _require_kept(run, what, request)
    if what == "log_likelihood":
        return _log_likelihood(run, of, request)
    if what == "posterior_predictive":
        return _replicates(run, of, request)
    return of.effects(request)


def _require_kept(run: LatentRun, what: str, request: TreeRequest) -> None:
    own, new = run.model.residual == "cluster", what == "posterior_predictive" and request.new_clusters
    if new and own:
        raise SpecificationError(
            f"{what}: with residual='cluster', replicates are of the clusters of the table, whose residual covariances "
            "the run has; use new_clusters=False."
        )
    if new:
        return
    options = [] if run.effects else ["keep_effects=True"]
    if own and not run.residuals and what != "cluster_effects":
        options.append("clusters=True")
    if options:
        raise SpecificationError(
            f"{what}: this is defined given the cluster effects"
            + (" and each cluster's residual covariance" if own else "")
            + f", which the run did not keep. Impute with {', '.join(options)}"
            + ("." if own or what != "posterior_predictive" else ", or use new_clusters=True.")
        )


def _shape(run: LatentRun, request: TreeRequest) -> tuple[int, int]:
    return run.history.chains, run.history.draws // request.thin


# --- log likelihood, replicates -----------------------------------------------------------------------------


def _log_likelihood(run: LatentRun, of: FactorDraws, request: TreeRequest) -> xr.Dataset:
    """``y_obs`` (chain, draw, row), of rows with anything observed; ``clusters_obs`` and ``group_<factor>_obs``, of
    groups with observed variables."""
    seen = of.observed()
    levels = [(seen.rows, seen.rows.groups(seen.covariance))]
    for side in seen.groups:
        levels.append((side, side.groups(np.zeros(len(side.Y), dtype=np.int64)) if side.variables else []))
    out = [np.empty((*_shape(run, request), len(side.Y))) for side, _ in levels]
    error = 0.0
    for draw in of.draws(request):
        for (side, groups), one, value in zip(levels, (draw.rows, *draw.groups), out, strict=True):
            try:
                value[draw.place], largest = side.log_density(groups, one.mu, one.Sigma, one.cutpoints)
            except np.linalg.LinAlgError as failed:
                raise SamplingError(
                    f"Chain {draw.place[0]}, draw {draw.number}: Sigma or Psi is not positive definite, so the "
                    "likelihood cannot be computed."
                ) from failed
            error = max(error, largest)
    kept = np.argsort(seen.position)
    kept = kept[seen.rows.seen[kept].any(axis=1)]
    coords: dict[str, object] = {nt.ROW: seen.position[kept]}
    if not any(
        side.variables for side in seen.groups
    ):  # az.psense stacks variables: they need the same coordinates
        labels = cluster_labels(run.model.data.clusters)
        coords[nt.CLUSTER_OF_ROW] = nt.ROW, labels[run.model.data.codes[seen.position[kept]]]
    made = {"y_obs": xr.DataArray(out[0][..., kept], dims=(nt.CHAIN, nt.DRAW, nt.ROW), coords=coords)}
    for s, side in enumerate(seen.groups):
        if side.variables:
            dim, order = seen.dims[s], np.argsort(seen.order[s])
            order = order[side.seen[order].any(axis=1)]
            made["clusters_obs" if s == 0 else f"{dim}_obs"] = xr.DataArray(
                out[1 + s][..., order],
                dims=(nt.CHAIN, nt.DRAW, dim),
                coords={dim: seen.labels[s][seen.order[s][order]]},
            )
    return xr.Dataset(made, attrs={"largest_error": error})


def _replicates(run: LatentRun, of: FactorDraws, request: TreeRequest) -> xr.Dataset:
    """Replicates of the observed cells: response -> (chain, draw, row_<response>)."""
    model, data, found = run.model, run.model.data, of.observed()
    back = np.argsort(found.position)
    seen = {name: np.flatnonzero(~data.missing(name)) for name in model.responses}
    level = {v.name: v.kind != NUMBER for v in model.variables}
    out = {
        name: np.empty((*_shape(run, request), len(own)), np.int64 if level[name] else np.float64)
        for name, own in seen.items()
    }
    for draw in of.draws(request, new=request.new_clusters):
        rng = generator(request.seed, REPLICATES, draw.place[0], draw.number)
        L = np.linalg.cholesky(draw.rows.Sigma)
        own = L[found.covariance if len(L) > 1 else np.zeros(len(back), dtype=np.int64)]
        noise = np.einsum("nrs,ns->nr", own, rng.standard_normal(draw.rows.mu.shape))
        made = found.rows.values(draw.rows.mu + noise, draw.rows.cutpoints)
        values = {name: y[back] for name, y in made.items()}
        for side, one, at in zip(found.groups, draw.groups, found.places, strict=True):
            if side.variables:
                noise = rng.standard_normal(one.mu.shape) @ np.linalg.cholesky(one.Sigma[0]).T
                values |= {name: y[at] for name, y in side.values(one.mu + noise, one.cutpoints).items()}
        for name, places in seen.items():
            out[name][draw.place] = values[name][places]
    names, labels, variables = nt.tree_names(model.responses), cluster_labels(data.clusters)[data.codes], {}
    for column, y in out.items():
        dim = nt.row_dimension(names[column])
        coords = {dim: seen[column], nt.cluster_coordinate(names[column]): (dim, labels[seen[column]])}
        variables[names[column]] = xr.DataArray(
            y, dims=(nt.CHAIN, nt.DRAW, dim), coords=coords, attrs={"column": column}
        )
    return xr.Dataset(variables)


# --- one grouping factor ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneFactorDraws:
    """`FactorDraws` of a run with one grouping factor."""

    run: LatentRun

    def observed(self) -> ObservedLevels:
        """See `FactorDraws`."""
        model, table = self.run.model, self.run.model.table
        rows, order = table.working.rows, table.working.order
        own = model.residual == "cluster"
        return ObservedLevels(
            side_of_rows(table.variables, table.rows.level, rows.Y, rows.fixed, table.working.scale),
            (side_of_groups(table.of_clusters),), rows.row,
            table.rows.cluster if own else np.zeros(len(rows.row), dtype=np.int64),
            (np.argsort(order)[model.data.codes],), (order,), (nt.CLUSTER,), (cluster_labels(model.data.clusters),),
        )  # fmt: skip

    def draws(self, request: TreeRequest, *, new: bool = False) -> Iterator[Draw]:
        """See `FactorDraws`."""
        h, table = self.run.history, self.run.model.table
        rows, G = table.rows, table.of_clusters.level.rows.X
        m, n = table.clusters, len(table.labels) * table.rows.Z.shape[1]
        for c in range(h.chains):
            for at, d in enumerate(range(request.thin - 1, h.draws, request.thin)):
                Psi, Sigma = h.Psi[c, d], h.Sigma[c, d][None]
                if new:
                    rng = generator(request.seed, REPLICATES, c, d, 1)
                    b = rng.standard_normal((m, n)) @ np.linalg.cholesky(Psi[:n, :n]).T
                    B = b.reshape(m, -1, rows.Z.shape[1]).transpose(0, 2, 1)
                else:
                    B = h.B[c, d]
                    b = B.transpose(0, 2, 1).reshape(m, n)
                    Sigma = h.residuals[c, d] if self.run.model.residual == "cluster" else Sigma
                mu = rows.X @ h.beta[c, d] + np.einsum("nq,nqr->nr", rows.Z, B[rows.cluster])
                of_clusters = given_effects(G @ h.gamma[c, d][:, n:], b, Psi, h.cluster_cutpoints[c, d])
                yield Draw((c, at), d, LevelDraw(mu, Sigma, h.cutpoints[c, d]), (of_clusters,))

    def effects(self, request: TreeRequest) -> xr.Dataset:
        """See `FactorDraws`."""
        dims, B = self.run.effects_kept()
        coords = {
            nt.CLUSTER: cluster_labels(self.run.model.data.clusters),
            dims[1]: self.run.factor.effects()[: B.shape[-1]],
        }
        return xr.Dataset({"B": ((nt.CHAIN, nt.DRAW, *dims), request.of(B))}, coords=coords)

    def log_prior(self, request: TreeRequest) -> dict[str, Array]:
        """See `FactorDraws`."""
        model, table, h = self.run.model, self.run.model.table, self.run.history
        scale, clusters, priors = table.working.scale, table.of_clusters, self.run.factor.priors
        Sigma, Psi = scale.Sigma(request.of(h.Sigma)), self.run.factor.scale.Psi(request.of(h.Psi))
        out = {
            "beta": log_coefficients(request.of(h.beta), priors.Q0, priors.t0, scale, table.variables),
            "Sigma": model.parameter_priors["Sigma"].log_density(Sigma, "Sigma"),
            "Psi": model.parameter_priors["Psi"].log_density(Psi, "Psi"),
        }
        if clusters.variables:
            own = len(clusters.labels)
            size = own * len(clusters.fixed)
            Q0, t0 = priors.Q0_clusters[-size:, -size:], priors.t0_clusters[-size:]
            gamma = request.of(h.gamma)[..., -own:]
            out["beta_clusters"] = log_coefficients(gamma, Q0, t0, clusters.scale, clusters.variables)
        out |= log_of_cutpoints(table.variables, request.of(h.cutpoints))
        out |= log_of_cutpoints(clusters.variables, request.of(h.cluster_cutpoints))
        if model.residual == "cluster":
            square = 2.0 / request.of(h.likeness)[..., 0]
            out["likeness"] = 0.5 * np.log(2.0 / np.pi) - np.log(SPREAD) - 0.5 * square / SPREAD**2
        return out


def given_effects(mean: Array, b: Array, Psi: Array, cutpoints: Array) -> LevelDraw:
    """Variables of groups given their effects b (G, n), the first n rows of Psi; mean (G, v): without effects."""
    n = b.shape[1]
    gain = np.linalg.solve(Psi[:n, :n], Psi[:n, n:])
    return LevelDraw(mean + b @ gain, (Psi[n:, n:] - Psi[n:, :n] @ gain)[None], cutpoints)


def log_of_cutpoints(variables: tuple[LatentVariable, ...], drawn: Array) -> dict[str, Array]:
    """Log densities of the increments between cutpoints (..., all of the variables): exponential with mean 1."""
    out, start = {}, 0
    for v in variables:
        if v.cutpoints > 1:  # the increments add up to c_K-1 - c_0, and c_0 = 0
            out[f"cutpoints_{nt.in_tree(v.name)}"] = -drawn[..., start + v.cutpoints - 1]
        start += v.cutpoints
    return out

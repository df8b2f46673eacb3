"""Log likelihood, log prior, replicates and cluster effects of the model on latent normals at posterior draws.

    log likelihood    log p(y_ij,obs | B_i), a row's observed numbers and levels together, given its cluster's effects:
                        log N(numbers | X beta + Z B_i, Sigma) + log P(levels | numbers)
                      the second a box of the latent normals given the numbers (kernels/normal/boxes.py), for a nominal
                      variable at level l of the contrasts y*_l, y*_l - y*_k, or -y*_k if l is the first;
                      of cluster-level variables in the same way log p(v_i,obs | B_i), by cluster
    log prior         log p(beta), log p(s, R) of Sigma and Psi at their fixed entries (up to a constant),
                      log p(increments between cutpoints), log p(h), h = (2 / a)^1/2, if residual="cluster"
    replicates        y*_rep ~ N(X beta + Z B_i, Sigma), cut into levels; B_i of the draw or, in new clusters, N(0, Psi)

Densities of numbers refer to the units of the data. The posterior of (theta, B) is proportional to the product of
likelihood, prior (models/joint_latent.py) and N(B_i | 0, Psi), which belongs to neither of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.imputation.tree import cluster_labels
from bayesimp.joint.latent.prior import log_coefficients
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.latent.working_priors import SPREAD
from bayesimp.joint.pointwise import LOG_2PI, REPLICATES, generator
from bayesimp.joint.scale import Scale
from bayesimp.kernels.latent.records import NUMBER, UTILITY
from bayesimp.kernels.normal.boxes import log_boxes
from bayesimp.notation import Array, BoolMatrix, IntMatrix, IntVector

if TYPE_CHECKING:
    from bayesimp.joint.latent.run import LatentRun

__all__ = ["pointwise"]

ROWS, CLUSTERS = "y_obs", "clusters_obs"


def pointwise(run: LatentRun, what: str, request: TreeRequest) -> xr.Dataset:
    """One of the above, or ``cluster_effects``, at the draws of `request`.

    Raises
    ------
    SpecificationError
        Effects or residual covariances of these draws were not kept, or a prior has no density.
    SamplingError
        A draw of Sigma or Psi is not positive definite.
    """
    if what == "log_prior":
        return _log_prior(run, request)
    _require_kept(run, what, request)
    if what == "log_likelihood":
        return _log_likelihood(run, request)
    if what == "posterior_predictive":
        return _replicates(run, request)
    dims, B = run.effects_kept()
    coords = {nt.CLUSTER: cluster_labels(run.model.data.clusters), dims[1]: run.model.effects[: B.shape[-1]]}
    return xr.Dataset({"B": ((nt.CHAIN, nt.DRAW, *dims), request.of(B))}, coords=coords)


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


# --- one level: rows, or clusters ---------------------------------------------------------------------------


class Group(NamedTuple):
    """Rows with the same observed cells and levels of nominal variables, in the same group of covariances.

    rows (n,); numbers: their columns; A (w, r): y* -> latent components; lower, upper (n, w): positions of the bounds in
    [-inf, cutpoints, inf, 0], of all variables; group: index of the covariance.
    """

    rows: IntVector
    numbers: IntVector
    A: Array
    lower: IntMatrix
    upper: IntMatrix
    group: int


@dataclass(frozen=True)
class Side:
    """The rows of the table, or its clusters, as their density reads them.

    Attributes
    ----------
    variables, first
        Variables, and the first cutpoint of each.
    level
        (n, r) observed levels, -1 where there is none.
    Y
        (n, r) numbers on the working scale.
    fixed, s
        (n, r), (r,): a number is s (y* + fixed).
    seen
        (n, r) which cells are observed.
    """

    variables: Sequence[LatentVariable]
    first: Sequence[int]
    level: IntMatrix
    Y: Array
    fixed: Array
    s: Array
    seen: BoolMatrix

    def groups(self, group: IntVector) -> list[Group]:
        """The rows in which anything is observed; group (n,): index of the covariance of each."""
        nominal = [self.level[:, v.first] for v in self.variables if v.kind == UTILITY]
        key = np.column_stack([group, self.seen, *nominal])
        _, of = np.unique(key, axis=0, return_inverse=True)
        of = of.ravel()
        every = (np.flatnonzero(of == k) for k in range(of.max() + 1))
        return [self._group(rows, int(group[rows[0]])) for rows in every if self.seen[rows[0]].any()]

    def _group(self, rows: IntVector, group: int) -> Group:
        r, seen, last = self.Y.shape[1], self.seen[rows[0]], self._cuts
        unit = np.eye(r)
        numbers = [v.first for v in self.variables if v.kind == NUMBER and seen[v.first]]
        A, lower, upper = [], [], []
        for v, start in zip(self.variables, self.first, strict=True):
            level = self.level[rows, v.first]
            if v.kind == NUMBER or not seen[v.first]:
                continue
            if v.kind == UTILITY:
                made = _contrasts(unit[v.columns], int(level[0]))
                A += list(made)
                lower += [np.full(len(rows), last + 2)] * len(made)
                upper += [np.full(len(rows), last + 1)] * len(made)
                continue
            A.append(unit[v.first])
            lower.append(np.where(level > 0, start + level, 0))
            upper.append(np.where(level < v.cutpoints, start + level + 1, last + 1))
        n = len(rows)
        low, high = (np.array(x, dtype=np.int64).reshape(-1, n).T for x in (lower, upper))
        return Group(rows, np.array(numbers, dtype=np.int64), np.array(A).reshape(-1, r), low, high, group)

    @property
    def _cuts(self) -> int:
        return sum(v.cutpoints for v in self.variables)

    def log_density(
        self, groups: list[Group], mu: Array, covariances: Array, cutpoints: Array
    ) -> tuple[Array, float]:
        """(n,) log density of what is observed, and the largest error; mu (n, r), covariances (G, r, r)."""
        out, error = np.zeros(len(mu)), 0.0
        bounds = np.concatenate([[-np.inf], cutpoints, [np.inf, 0.0]])
        for g in groups:
            S, o, A = covariances[g.group], g.numbers, g.A
            mean, cov = mu[g.rows] @ A.T, A @ S @ A.T
            if len(o):
                L = np.linalg.cholesky(S[np.ix_(o, o)])
                e = np.linalg.solve(L, (self.Y[np.ix_(g.rows, o)] - mu[np.ix_(g.rows, o)]).T)
                constant = np.log(np.diagonal(L)).sum() + np.log(self.s[o]).sum() + 0.5 * len(o) * LOG_2PI
                out[g.rows] = -0.5 * (e**2).sum(axis=0) - constant
                G = np.linalg.solve(L, S[o] @ A.T)
                mean, cov = mean + e.T @ G, cov - G.T @ G
            if len(A):
                log_p, errors = log_boxes(mean, cov, bounds[g.lower], bounds[g.upper])
                out[g.rows] += log_p
                error = max(error, float(errors.max()))
        return out, error

    def values(self, y: Array, cutpoints: Array) -> dict[str, Array]:
        """Variable -> (n,) numbers in the units of the data, or levels from 0, of latent values y (n, r)."""
        out = {}
        for v, start in zip(self.variables, self.first, strict=True):
            own = y[:, v.columns]
            if v.kind == NUMBER:
                out[v.name] = self.s[v.first] * (own[:, 0] + self.fixed[:, v.first])
            elif v.kind == UTILITY:
                out[v.name] = np.where(own.max(axis=1) > 0, own.argmax(axis=1) + 1, 0)
            else:
                out[v.name] = np.searchsorted(cutpoints[start : start + v.cutpoints], own[:, 0])
        return out


def _contrasts(unit: Array, level: int) -> Array:
    """(K - 1, r) combinations of utilities, unit (K - 1, r), that are positive if the variable has this level."""
    if not level:
        return -unit
    chosen = unit[level - 1]
    return np.array([one if k == level - 1 else chosen - one for k, one in enumerate(unit)])


def _side(
    variables: Sequence[LatentVariable],
    level: IntMatrix,
    Y: Array,
    fixed: Array,
    scale: Scale,
    seen: BoolMatrix,
) -> Side:
    first = np.cumsum([0, *(v.cutpoints for v in variables)])[:-1]
    return Side(variables, [int(k) for k in first], level, Y, fixed, scale.s, seen)


def _sides(run: LatentRun) -> tuple[Side, Side]:
    """The rows, and the clusters, in the sampler's order."""
    table, clusters = run.model.table, run.model.table.of_clusters
    n = clusters.V.shape[1] - len(clusters.labels)
    working = table.working
    number = np.array([v.kind == NUMBER for v in table.variables for _ in v.labels])
    seen = np.where(number, ~np.isnan(working.rows.Y), table.rows.level >= 0)
    rows = _side(table.variables, table.rows.level, table.Y, working.rows.fixed, working.scale, seen)
    level = clusters.level
    G, patterns = level.rows.X, level.patterns[level.rows.pattern]
    fixed = G @ clusters.scale.offset if clusters.variables else np.empty((len(G), 0))
    of_clusters = _side(
        clusters.variables, level.rows.level[:, n:], clusters.V[:, n:], fixed, clusters.scale, patterns[:, n:]
    )
    return rows, of_clusters


# --- draws --------------------------------------------------------------------------------------------------


class Draw(NamedTuple):
    """One draw on the working scale: of rows and clusters, means given the effects, covariances and cutpoints.

    place: (chain, position) in the result; number: of the draw in its chain.
    """

    place: tuple[int, int]
    number: int
    mu: Array
    Sigma: Array
    cutpoints: Array
    cluster_mu: Array
    cluster_Sigma: Array
    cluster_cutpoints: Array


def _draws(run: LatentRun, request: TreeRequest, *, new: bool = False) -> Iterator[Draw]:
    """The draws of the request; new: with effects of new clusters, drawn from N(0, Psi)."""
    h, table = run.history, run.model.table
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
                Sigma = h.residuals[c, d] if run.model.residual == "cluster" else Sigma
            gain = np.linalg.solve(Psi[:n, :n], Psi[:n, n:])  # of cluster-level variables on the effects
            yield Draw(
                (c, at), d, rows.X @ h.beta[c, d] + np.einsum("nq,nqr->nr", rows.Z, B[rows.cluster]), Sigma,
                h.cutpoints[c, d], G @ h.gamma[c, d][:, n:] + b @ gain, Psi[n:, n:] - Psi[n:, :n] @ gain,
                h.cluster_cutpoints[c, d],
            )  # fmt: skip


def _log_likelihood(run: LatentRun, request: TreeRequest) -> xr.Dataset:
    """``y_obs`` (chain, draw, row), of rows with anything observed; with cluster-level variables ``clusters_obs``."""
    model, table = run.model, run.model.table
    rows, clusters = _sides(run)
    own = table.rows.cluster if model.residual == "cluster" else np.zeros(len(rows.Y), dtype=np.int64)
    groups, of_clusters = rows.groups(own), []
    if clusters.variables:
        of_clusters = clusters.groups(np.zeros(len(clusters.Y), dtype=np.int64))
    shape = run.history.chains, run.history.draws // request.thin
    out, out_2 = np.empty((*shape, len(rows.Y))), np.empty((*shape, len(clusters.Y)))
    error = 0.0
    for draw in _draws(run, request):
        try:
            out[draw.place], first = rows.log_density(groups, draw.mu, draw.Sigma, draw.cutpoints)
            out_2[draw.place], second = clusters.log_density(
                of_clusters, draw.cluster_mu, draw.cluster_Sigma[None], draw.cluster_cutpoints
            )
        except np.linalg.LinAlgError as failed:
            raise SamplingError(
                f"Chain {draw.place[0]}, draw {draw.number}: Sigma or Psi is not positive definite, so the likelihood "
                "cannot be computed."
            ) from failed
        error = max(error, first, second)
    position, labels = table.working.rows.row, cluster_labels(model.data.clusters)
    kept = np.argsort(position)
    kept = kept[rows.seen[kept].any(axis=1)]
    coords: dict[str, object] = {nt.ROW: position[kept]}
    if not clusters.variables:  # az.psense stacks variables, which must then have the same coordinates
        coords[nt.CLUSTER_OF_ROW] = nt.ROW, labels[model.data.codes[position[kept]]]
    made = {ROWS: xr.DataArray(out[..., kept], dims=(nt.CHAIN, nt.DRAW, nt.ROW), coords=coords)}
    if clusters.variables:
        order = np.argsort(table.working.order)
        order = order[clusters.seen[order].any(axis=1)]
        made[CLUSTERS] = xr.DataArray(
            out_2[..., order], dims=(nt.CHAIN, nt.DRAW, nt.CLUSTER),
            coords={nt.CLUSTER: labels[table.working.order[order]]},
        )  # fmt: skip
    return xr.Dataset(made, attrs={"largest_error": error})


def _replicates(run: LatentRun, request: TreeRequest) -> xr.Dataset:
    """Replicates of the observed cells: response -> (chain, draw, row_<response>)."""
    model, table, data = run.model, run.model.table, run.model.data
    rows, clusters = _sides(run)
    position = table.working.rows.row
    seen = {name: np.flatnonzero(~data.missing(name)) for name in model.responses}
    shape = run.history.chains, run.history.draws // request.thin
    level = {v.name: v.kind != NUMBER for v in model.variables}
    out = {
        name: np.empty((*shape, len(own)), np.int64 if level[name] else np.float64)
        for name, own in seen.items()
    }
    # place of each row's cluster in the sampler's order
    at = np.argsort(table.working.order)[data.codes]
    for draw in _draws(run, request, new=request.new_clusters):
        rng = generator(request.seed, REPLICATES, draw.place[0], draw.number)
        L = np.linalg.cholesky(draw.Sigma)
        own = L[table.rows.cluster if len(L) > 1 else np.zeros(len(position), dtype=np.int64)]
        noise = np.einsum("nrs,ns->nr", own, rng.standard_normal(draw.mu.shape))
        values = {
            name: y[np.argsort(position)] for name, y in rows.values(draw.mu + noise, draw.cutpoints).items()
        }
        if clusters.variables:
            noise = rng.standard_normal(draw.cluster_mu.shape) @ np.linalg.cholesky(draw.cluster_Sigma).T
            of_clusters = clusters.values(draw.cluster_mu + noise, draw.cluster_cutpoints)
            values |= {name: y[at] for name, y in of_clusters.items()}
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


# --- prior --------------------------------------------------------------------------------------------------


def _log_prior(run: LatentRun, request: TreeRequest) -> xr.Dataset:
    """One variable (chain, draw) for each parameter; 0 for flat priors and known matrices."""
    model, table, h = run.model, run.model.table, run.history
    scale, clusters, priors = table.working.scale, table.of_clusters, run.factor.priors
    Sigma, Psi = scale.Sigma(request.of(h.Sigma)), run.factor.scale.Psi(request.of(h.Psi))
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
    for variables, drawn in ((table.variables, h.cutpoints), (clusters.variables, h.cluster_cutpoints)):
        start = 0
        for v in variables:
            if (
                v.cutpoints > 1
            ):  # increments are exponential with mean 1, so their log density is -(c_K-1 - c_0)
                last = request.of(drawn)[..., start + v.cutpoints - 1]
                out[f"cutpoints_{nt.in_tree(v.name)}"] = -last
            start += v.cutpoints
    if model.residual == "cluster":
        square = 2.0 / request.of(h.likeness)[..., 0]
        out["likeness"] = 0.5 * np.log(2.0 / np.pi) - np.log(SPREAD) - 0.5 * square / SPREAD**2
    return xr.Dataset({name: ((nt.CHAIN, nt.DRAW), value) for name, value in out.items()})

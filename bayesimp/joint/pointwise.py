"""Log likelihood, log prior, replicates and cluster effects of the joint normal model at posterior draws.

    by cluster    log p(y_i,obs | beta, Sigma, Psi)               cluster effects integrated out
    by row        log p(y_ij,obs | beta, Sigma, B_i)              given effects B_i ~ p(B_i | beta, Sigma, Psi, y_i,obs)
    log prior     log p(beta), log p(s_Sigma, R_Sigma), log p(s_Psi, R_Psi)      S = diag(s) R diag(s)
    replicates    y_rep,ij ~ N(x_ij'beta + z_ij'B_i, Sigma)       B_i as above, or B_i ~ N(0, Psi) in new clusters

Densities refer to the observed values in the units of the data: those of y_w = y / s - .. on the working scale, with
-log s_k added for each observed cell of response k. The sum over clusters is log p(y_obs | beta, Sigma, Psi), the density
that is sampled (models/joint_normal.py). The sum over rows is not that density; its effects have the prior N(0, Psi).
Psi in the log prior is that of the effects at centred columns, if the prior is stated there (priors/centred.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SamplingError
from bayesimp.imputation.tree import cluster_labels
from bayesimp.kernels.normal.effects import draw_effects, moments, pattern_weights
from bayesimp.kernels.normal.marginal import log_likelihood_by_cluster
from bayesimp.notation import Array
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    from bayesimp.joint.normal import JointNormal
    from bayesimp.joint.run import JointRun

__all__ = ["generator", "log_normal_rows", "of_rows", "pointwise", "replicated", "row_patterns"]

EFFECTS, REPLICATES = 4, 5  # first number of spawn keys; 0 to 3 belong to chains, imputations and NUTS
LOG_2PI = np.log(2 * np.pi)


class ParameterDraws(NamedTuple):
    """beta (chains, D, p, r), Sigma (.., r, r), Psi (.., rq, rq) in the units of the data; numbers (D,) of the draws."""

    beta: Array
    Sigma: Array
    Psi: Array
    numbers: list[int]


def pointwise(run: JointRun, what: str, request: TreeRequest) -> xr.Dataset:
    """One of the four quantities (see the module's docstring) at the draws of `request`.

    Raises
    ------
    SpecificationError
        A prior has no density.
    SamplingError
        A draw of Sigma or Psi is not positive definite.
    """
    d = run.draws
    beta, Sigma, Psi = (request.of(a) for a in (d.beta, d.Sigma, d.Psi))
    draws = ParameterDraws(beta, Sigma, Psi, list(range(request.thin - 1, d.draws, request.thin)))
    make = {
        "log_likelihood": _by_row if request.by == "row" else _by_cluster,
        "log_prior": _log_prior,
        "posterior_predictive": _replicates,
        "cluster_effects": _effects,
    }
    return make[what](run.model, draws, request)


def _by_cluster(model: JointNormal, draws: ParameterDraws, request: TreeRequest) -> xr.Dataset:
    """``log_likelihood`` (chain, draw, cluster), of the clusters in which something is observed."""
    working = model.grouping.only.working
    scale = working.scale
    theta = (
        scale.working_beta(draws.beta), scale.working_Sigma(draws.Sigma), scale.working_Psi(draws.Psi),
    )  # fmt: skip
    value = log_likelihood_by_cluster(*theta, working.statistics)[..., np.argsort(working.order)]
    observed = ~np.isnan(_responses(model))
    cells = np.zeros((len(model.data.clusters), observed.shape[1]))
    np.add.at(cells, model.data.codes, observed)
    value = value - cells @ np.log(scale.s)
    seen = cells.any(axis=1)
    made = xr.DataArray(
        value[..., seen], dims=(nt.CHAIN, nt.DRAW, nt.CLUSTER), coords={nt.CLUSTER: _clusters(model)[seen]}
    )
    return xr.Dataset({"y_obs": made})


def _by_row(model: JointNormal, draws: ParameterDraws, request: TreeRequest) -> xr.Dataset:
    """``log_likelihood`` (chain, draw, row), of the rows in which something is observed."""
    Y = _responses(model)
    observed = ~np.isnan(Y)
    rows = np.flatnonzero(observed.any(axis=1))
    patterns = row_patterns(observed[rows])
    out = np.empty((*draws.beta.shape[:2], len(rows)))
    B = _drawn_effects(model, draws, request.seed)
    for c, d in np.ndindex(*out.shape[:2]):
        residual = Y[rows] - _means(model, draws.beta[c, d], B[c, d])[rows]
        out[c, d] = log_normal_rows(residual, draws.Sigma[c, d], patterns)
    return of_rows(model, rows, out)


def of_rows(model: JointNormal, rows: NDArray[np.int64], value: Array) -> xr.Dataset:
    """``y_obs`` (chain, draw, row) from the values (chains, D, n) of n rows."""
    coords = {nt.ROW: rows, nt.CLUSTER_OF_ROW: (nt.ROW, _clusters(model)[model.data.codes[rows]])}
    return xr.Dataset({"y_obs": xr.DataArray(value, dims=(nt.CHAIN, nt.DRAW, nt.ROW), coords=coords)})


def row_patterns(observed: NDArray[np.bool_]) -> list[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
    """Missingness patterns: (r,) which responses are observed, and the rows of `observed` (n, r) with this pattern."""
    patterns, pattern = np.unique(observed, axis=0, return_inverse=True)
    return [(seen, np.flatnonzero(pattern.ravel() == a)) for a, seen in enumerate(patterns)]


def log_normal_rows(
    residual: Array, Sigma: Array, patterns: list[tuple[NDArray[np.bool_], NDArray[np.int64]]]
) -> Array:
    """(n,) log N(e_j,obs | 0, Sigma_obs) of rows e_j of `residual` (n, r), with their patterns (`row_patterns`)."""
    out = np.empty(len(residual))
    for seen, own in patterns:
        L = np.linalg.cholesky(Sigma[np.ix_(seen, seen)])
        z = np.linalg.solve(L, residual[own][:, seen].T)
        out[own] = -0.5 * (z**2).sum(axis=0) - np.log(np.diagonal(L)).sum() - 0.5 * seen.sum() * LOG_2PI
    return out


def _log_prior(model: JointNormal, draws: ParameterDraws, request: TreeRequest) -> xr.Dataset:
    """``beta``, ``Sigma``, ``Psi`` (chain, draw); 0 for a flat prior of beta and for a known matrix."""
    priors, beta = model.parameter_priors, draws.beta
    density = priors["beta"].density(*beta.shape[2:])
    of_beta = np.array([density(one)[0] for one in beta.reshape(-1, *beta.shape[2:])])
    values = {
        "beta": of_beta.reshape(beta.shape[:2]),
        "Sigma": priors["Sigma"].log_density(draws.Sigma, "Sigma"),
        "Psi": priors["Psi"].log_density(draws.Psi, "Psi"),
    }
    return xr.Dataset({name: ((nt.CHAIN, nt.DRAW), value) for name, value in values.items()})


def _replicates(model: JointNormal, draws: ParameterDraws, request: TreeRequest) -> xr.Dataset:
    """Replicates of the observed cells: response -> (chain, draw, row_<response>)."""
    observed = ~np.isnan(_responses(model))
    rows = [np.flatnonzero(seen) for seen in observed.T]
    out = [np.empty((*draws.beta.shape[:2], len(own))) for own in rows]
    B = None if request.new_clusters else _drawn_effects(model, draws, request.seed)
    shape = len(model.data.clusters), draws.Psi.shape[-1]
    for c, d in np.ndindex(*draws.beta.shape[:2]):
        rng = generator(request.seed, REPLICATES, c, draws.numbers[d])
        if B is None:
            b = rng.standard_normal(shape) @ np.linalg.cholesky(draws.Psi[c, d]).T
        else:
            b = B[c, d]
        noise = rng.standard_normal(observed.shape) @ np.linalg.cholesky(draws.Sigma[c, d]).T
        y = _means(model, draws.beta[c, d], b) + noise
        for k, own in enumerate(rows):
            out[k][c, d] = y[own, k]
    return replicated(model, list(zip(rows, out, strict=True)))


def replicated(model: JointNormal, parts: Sequence[tuple[NDArray[np.int64], Array]]) -> xr.Dataset:
    """Response -> (chain, draw, row_<response>), from the rows (n,) and replicates (chains, D, n) of each."""
    clusters, names = _clusters(model)[model.data.codes], nt.tree_names(model.responses)
    variables = {}
    for column, (own, y) in zip(model.responses, parts, strict=True):
        dim = nt.row_dimension(names[column])
        coords = {dim: own, nt.cluster_coordinate(names[column]): (dim, clusters[own])}
        variables[names[column]] = xr.DataArray(
            y, dims=(nt.CHAIN, nt.DRAW, dim), coords=coords, attrs={"column": column}
        )
    return xr.Dataset(variables)


def _effects(model: JointNormal, draws: ParameterDraws, request: TreeRequest) -> xr.Dataset:
    """``B`` (chain, draw, cluster, effect), drawn given the parameters and the observed values."""
    B = _drawn_effects(model, draws, request.seed)
    coords = {nt.CLUSTER: _clusters(model), nt.EFFECT: [nt.shown(name) for name in model.effects]}
    return xr.Dataset({"B": xr.DataArray(B, dims=(nt.CHAIN, nt.DRAW, nt.CLUSTER, nt.EFFECT), coords=coords)})


def _drawn_effects(model: JointNormal, draws: ParameterDraws, seed: int) -> Array:
    """(chains, D, m, r q) effects of the table's columns of Z, by the table's clusters; effect k*q + l."""
    working = model.grouping.only.working
    scale = working.scale
    m, place = moments(working.statistics), np.argsort(working.order)
    E = of_all(scale.C, len(scale.effects)) * scale.effects
    clusters, q, r = working.statistics.clusters, working.statistics.q, working.statistics.r
    out, drawn = np.empty((*draws.beta.shape[:2], clusters, r * q)), np.empty((clusters, q, r))
    for c, d in np.ndindex(*out.shape[:2]):
        beta, Sigma, Psi = (
            np.ascontiguousarray(x) for x in (scale.working_beta(draws.beta[c, d]),
                                              scale.working_Sigma(draws.Sigma[c, d]),
                                              scale.working_Psi(draws.Psi[c, d]))
        )  # fmt: skip
        W, fine = pattern_weights(Sigma, m.patterns)
        rng = generator(seed, EFFECTS, c, draws.numbers[d])
        if not fine or not draw_effects(rng, W, np.linalg.inv(Psi), m, beta, drawn):
            raise SamplingError(
                f"Chain {c}, draw {draws.numbers[d]}: Sigma or Psi is not positive definite, so cluster effects "
                "cannot be drawn."
            )
        out[c, d] = drawn[place].transpose(0, 2, 1).reshape(clusters, r * q) @ E.T
    return out


def _means(model: JointNormal, beta: Array, B: Array) -> Array:
    """X beta + Z B_i (N, r); B (m, r q)."""
    X, Z = model.design.X, model.design.Z
    b = B.reshape(len(B), beta.shape[1], Z.shape[1])[model.data.codes]
    return np.asarray(X @ beta + np.einsum("nl,nkl->nk", Z, b), dtype=np.float64)


def _responses(model: JointNormal) -> Array:
    return np.column_stack([model.data.numeric(name) for name in model.responses])


def _clusters(model: JointNormal) -> np.ndarray:
    return cluster_labels(model.data.clusters)


def generator(seed: int, *key: int) -> np.random.Generator:
    """The generator of one draw: key is EFFECTS or REPLICATES, the chain, the draw."""
    words = np.random.SeedSequence(seed, spawn_key=tuple(int(k) for k in key))
    return np.random.Generator(np.random.PCG64(words))

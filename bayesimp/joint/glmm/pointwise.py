"""Log likelihood, log prior and replicates of a joint GLMM at posterior draws.

    log likelihood    log p_k(y_kij | eta_kij)      of each factor k, in every row where y_k is observed, given cluster
                                                    effects, with the missing cells of other variables as drawn;
                                                    log P_k(y_kij beyond its limit | eta_kij) where y_k is censored
    log prior         log p(beta_k), log p(sigma_k), log p(s, R) of Psi = diag(s) R diag(s) at centred columns,
                      log p(shape_k^-1/2), log p(increments of cutpoints_k)
    replicates        y_rep,1 .. y_rep,K factor by factor, each given those before it; effects of the draw, or of
                      new clusters, b_i ~ N(0, Psi)

Densities refer to the observed values in the units of the data. The posterior is proportional to the product of
likelihood and prior with N(b_i | 0, Psi) and the factors of missing cells, which belong to neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import log_ndtr

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.imputation.tree import cluster_labels
from bayesimp.joint.glmm.blocks import tree_name
from bayesimp.joint.glmm.cells import is_censored
from bayesimp.joint.glmm.chain import ChainState, numbers
from bayesimp.joint.glmm.posterior import posterior
from bayesimp.joint.glmm.prior import beta_of, layout_of, resolved_Psi, resolved_variance
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.joint.pointwise import REPLICATES, generator
from bayesimp.kernels.factors.columns import all_columns, all_means
from bayesimp.kernels.factors.density import log_densities
from bayesimp.kernels.families.codes import NORMAL
from bayesimp.kernels.families.responses import draw_rows

if TYPE_CHECKING:
    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.joint.glmm.run import GLMMRun

__all__ = ["drawn_responses", "log_density_of", "pointwise"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


def pointwise(run: GLMMRun, what: str, request: TreeRequest) -> xr.Dataset:
    """One of the above, or ``cluster_effects``, at the draws of `request`.

    Raises
    ------
    SpecificationError
        Effects or missing cells of these draws were not kept, or a prior has no density.
    SamplingError
        A replicate is out of range.
    """
    if what == "log_prior":
        return _log_prior(run, request)
    if what == "log_likelihood":
        _require_effects(run, what)
        _require_cells(run, what, request)
        return _log_likelihood(run, request)
    if what == "posterior_predictive":
        if not request.new_clusters:
            _require_effects(run, what)
        return _replicates(run, request)
    _require_effects(run, what)
    variables, coords = posterior(run.model, run.history)
    kept = {name: (dims, request.of(a)) for name, (dims, a) in variables.items() if name.startswith("B")}
    kept = {name: ((nt.CHAIN, nt.DRAW, *dims), a) for name, (dims, a) in kept.items() if nt.CLUSTER in dims}
    used = {dim for dims, _ in kept.values() for dim in dims}
    labels = {nt.CLUSTER: cluster_labels(run.model.data.clusters), **coords}
    return xr.Dataset(kept, coords={name: label for name, label in labels.items() if name in used})


def _require_effects(run: GLMMRun, what: str) -> None:
    there = sum(factor.effects for factor in run.model.factors)
    if there and not any(B.shape[1] and B.shape[-1] for B in run.history.B):
        raise SpecificationError(
            f"{what}: this is defined given the cluster effects, which the run did not keep. Impute with "
            "keep_effects=True" + (", or use new_clusters=True." if what == "posterior_predictive" else ".")
        )


def _require_cells(run: GLMMRun, what: str, request: TreeRequest) -> None:
    if run.stride > 1 and run.history.cells.shape[-1] and request.thin % run.stride:
        raise SpecificationError(
            f"{what}: missing cells were kept for only one in {run.stride} draws, to save memory. Use "
            f"thin={run.stride}, or a multiple of that."
        )


def _chains(
    run: GLMMRun, request: TreeRequest, cells: bool
) -> Iterator[tuple[tuple[int, int], int, ChainState]]:
    """Position of a draw in the result, its number, and its chain; cells: with the missing cells it had."""
    h, table = run.history, run.model.table
    K = len(table.factors)
    for c in range(h.chains):
        for at, d in enumerate(range(request.thin - 1, h.draws, request.thin)):
            V, Y, first = table.V.copy(), table.Y.copy(), 0
            for k, rows in enumerate(table.missing):
                if cells and len(rows):
                    Y[rows, k] = h.cells[c, (d + 1) // run.stride - 1, first : first + len(rows)]
                    V[rows, table.arrays.variable[k]] = numbers(table, k, Y[rows, k])
                first += len(rows)
            beta, aux, Psi = (
                [np.ascontiguousarray(x[c, d]) for x in part] for part in (h.beta, h.aux, h.Psi)
            )
            B = [x[c, d].copy() if x.shape[1] else np.zeros(x.shape[2:]) for x in h.B]
            tallies = np.zeros((K, 5, 2), dtype=np.int64)
            rng = generator(request.seed, REPLICATES, c, d)
            yield (c, at), d, ChainState(
                V, Y, beta, aux, h.sd[c, d].copy(), Psi, B, rng, tallies, np.ones(K), np.zeros((K, 2), np.int64)
            )  # fmt: skip


def _log_likelihood(run: GLMMRun, request: TreeRequest) -> xr.Dataset:
    """Response -> (chain, draw, row_<response>), or (chain, draw, cluster_<response>) of a cluster-level variable."""
    model, table = run.model, run.model.table
    layout = layout_of(table, model.separate)
    rows = [_observed(model, k) for k in range(len(model.factors))]
    shape = run.history.chains, run.history.draws // request.thin
    out = [np.empty((*shape, len(own))) for own in rows]
    for place, d, chain in _chains(run, request, cells=True):
        sampler = Sampler(table, layout, chain, f"Draw {d}")
        for k, own in enumerate(rows):
            value = log_density_of(sampler, k, own)
            _censored(table, k, own, sampler, value)
            out[k][place] = value
    return _dataset(model, rows, out)


def log_density_of(sampler: Sampler, k: int, rows: Rows) -> Array:
    """(n,) log p_k(y | eta) of the responses of factor k in these rows, in the units of the data."""
    a, state = sampler.table.arrays, sampler.state
    value, last = np.empty(len(rows)), np.int64(a.level[k + 1] - a.level[k] - 1)
    log_densities(
        a.family[k], np.ascontiguousarray(sampler.table.Y[rows, k]), np.ascontiguousarray(a.trials[rows, k]),
        sampler.predictors(k, rows), state.shape[k], state.cuts, np.int64(k), last, value,
    )  # fmt: skip
    return value - np.log(a.unit[k])


def drawn_responses(sampler: Sampler, k: int, rows: Rows, rng: np.random.Generator) -> Array:
    """(n,) responses of factor k drawn in these rows, as the model has them; NaN where no number can be drawn."""
    a, chain, eta = sampler.table.arrays, sampler.chain, sampler.predictors(k, rows)
    if sampler.table.factors[k].code == NORMAL:
        return eta[:, 0] + chain.sd[k] * rng.standard_normal(len(rows))
    y = np.empty(len(rows))
    draw_rows(rng, a.family[k], np.ascontiguousarray(a.trials[rows, k]), eta, chain.aux[k], y)
    return y


def _censored(table: FactorTable, k: int, own: Rows, sampler: Sampler, value: Array) -> None:
    """value (n,) <- log P(y below an upper limit, or above a lower one) where a cell holds a limit."""
    lower, upper = (limit[own] for limit in table.limits[k])
    a, sd = table.arrays, sampler.state.shape[k]
    for at, limit, side in ((np.isfinite(upper), upper, 1.0), (np.isfinite(lower), lower, -1.0)):
        if at.any():
            z = (limit[at] - a.center[k]) / a.unit[k] - sampler.predictors(k, own[at])[:, 0]
            value[at] = log_ndtr(side * z / sd)


def _observed(model: JointGLMM, k: int) -> Rows:
    """Rows of factor k in which its response is observed or censored, in the order of the table; of a cluster-level
    variable, the first row of each cluster, in the order of clusters."""
    table = model.table
    known = ~np.isnan(table.Y[:, k]) | is_censored(table.limits[k])
    rows = np.flatnonzero(table.arrays.used[:, k] & known)
    key = table.order[table.arrays.cluster[rows]] if model.factors[k].at_cluster else table.row[rows]
    return rows[np.argsort(key)]


def _dataset(model: JointGLMM, rows: list[Rows], values: list[Array]) -> xr.Dataset:
    """Values at `_observed` rows, with their labels."""
    table, names = model.table, nt.tree_names(factor.response for factor in model.factors)
    labels, variables = cluster_labels(model.data.clusters), {}
    for factor, own, value in zip(model.factors, rows, values, strict=True):
        name = names[factor.response]
        row, cluster = nt.row_dimension(name), nt.cluster_coordinate(name)
        # no further coordinates: az.psense stacks variables, which must then have the same
        if factor.at_cluster:
            dim, coords = cluster, {cluster: labels[table.order[table.arrays.cluster[own]]]}
        else:
            dim, coords = row, {row: table.row[own]}
        variables[name] = xr.DataArray(
            value, dims=(nt.CHAIN, nt.DRAW, dim), coords=coords, attrs={"column": factor.response}
        )
    return xr.Dataset(variables)


def _log_prior(run: GLMMRun, request: TreeRequest) -> xr.Dataset:
    """One variable (chain, draw) for each parameter; 0 for flat priors and known matrices."""
    model, table, h = run.model, run.model.table, run.history
    out: dict[str, Array] = {}
    for k, factor in enumerate(model.factors):
        end, scale = tree_name(factor), table.scales[k]
        out[f"beta_{end}"] = _log_normal(model, k, request.of(h.beta[k]))
        if factor.family.has_normal_errors:
            variance = (request.of(h.sd[:, :, k]) * scale.s[0]) ** 2
            prior = resolved_variance(model.priors, table, k)
            out[f"sigma2_{end}"] = prior.log_density(
                variance[..., None, None], f"sigma2 of '{factor.response}'"
            )
        aux = request.of(h.aux[k])
        if aux.shape[-1]:
            for auxiliary in factor.family.auxiliaries:
                if auxiliary.log_prior is not None:
                    out[f"{auxiliary.name}_{end}"] = auxiliary.log_prior(aux)
    for b, block in enumerate(model.blocks):
        if block.size:
            name = f"Psi{block.end}"
            prior, joint = resolved_Psi(model.priors, table, block, model.data.cluster)
            out[name] = prior.log_density(joint.Psi(request.of(h.Psi[b])), name)
    return xr.Dataset({name: ((nt.CHAIN, nt.DRAW), value) for name, value in out.items()})


def _log_normal(model: JointGLMM, k: int, beta_w: Array) -> Array:
    """log p(beta_k) (chain, draw) of coefficients in the units of the data: beta = T beta_w diag(s), + c."""
    scale, (p, r) = model.table.scales[k], beta_w.shape[-2:]
    precision, shifted = beta_of(model.table, model.priors, k)
    if not precision.any():
        return np.zeros(beta_w.shape[:2])
    # uses the precision, which is far from singular even if the covariance of x and x^2 far from 0 is not
    root = np.linalg.cholesky(precision)
    vec = np.swapaxes(beta_w, -1, -2).reshape(-1, r * p)
    z = (vec - np.linalg.solve(precision, shifted)) @ root
    log_p = np.log(np.diagonal(root)).sum() - 0.5 * (r * p * np.log(2 * np.pi) + (z**2).sum(axis=1))
    jacobian = r * np.linalg.slogdet(scale.T)[1] + p * np.log(scale.s).sum()
    return np.reshape(log_p, beta_w.shape[:2]) - jacobian


def _replicates(run: GLMMRun, request: TreeRequest) -> xr.Dataset:
    """Replicates of the observed cells: response -> (chain, draw, row_<response>)."""
    model, data = run.model, run.model.data
    for factor in model.factors:
        if factor.family.is_censored:
            raise SpecificationError(
                f"posterior_predictive: values of '{factor.response}' beyond limits are not observed, so "
                "replicates, which have no limits, would differ from observed values even under the true model. Use "
                "log_likelihood, or compare imputed values with your own replicates."
            )
    rows = [np.flatnonzero(~data.missing(factor.response)) for factor in model.factors]
    shape = run.history.chains, run.history.draws // request.thin
    out = [np.empty((*shape, len(own))) for own in rows]
    for place, d, chain in _chains(run, request, cells=False):
        if request.new_clusters:
            for Psi, B in zip(chain.Psi, chain.B, strict=True):
                B[:] = chain.rng.standard_normal(B.shape) @ np.linalg.cholesky(Psi).T if len(Psi) else 0.0
        y = _replicate(model, chain, f"Chain {place[0]}, draw {d}")
        for k, own in enumerate(rows):
            out[k][place] = run.in_units(k, y[own, k])
    names = nt.tree_names(factor.response for factor in model.factors)
    labels, variables = cluster_labels(data.clusters)[data.codes], {}
    for factor, own, value in zip(model.factors, rows, out, strict=True):
        name = names[factor.response]
        row = nt.row_dimension(name)
        if not factor.family.is_continuous:
            value = value.astype(np.int64)  # ArviZ plots whole numbers as discrete
        coords = {row: own, nt.cluster_coordinate(name): (row, labels[own])}
        variables[name] = xr.DataArray(
            value, dims=(nt.CHAIN, nt.DRAW, row), coords=coords, attrs={"column": factor.response}
        )
    return xr.Dataset(variables)


def _replicate(model: JointGLMM, chain: ChainState, label: str) -> Array:
    """(n, K) one replicate of all responses as models see them, rows in the order of the table."""
    table, a = model.table, model.table.arrays
    every, firsts = np.arange(len(table.row)), a.first[:-1]
    for k, rows in enumerate(table.missing):  # not used before they are replicated, but columns need numbers
        if len(rows):
            chain.Y[rows, k] = table.observed[k][0]
            chain.V[rows, a.variable[k]] = numbers(table, k, chain.Y[rows, k])
    sampler = Sampler(table, layout_of(table, model.separate), chain, label)
    state = sampler.state
    for k, factor in enumerate(model.factors):
        rows = firsts if factor.at_cluster else every
        y = drawn_responses(sampler, k, rows, chain.rng)
        if not np.isfinite(y).all():
            raise SamplingError(
                f"{label}: replicates of '{factor.response}' are out of range in {(~np.isfinite(y)).sum():,} rows, "
                "because no count can follow their log "
                "mean. Priors with lighter tails, or a larger thin, may avoid such draws."
            )
        chain.Y[:, k] = y[a.cluster] if factor.at_cluster else y
        chain.V[:, a.variable[k]] = numbers(table, k, chain.Y[:, k])
        if not table.leaf[k]:
            all_means(table.means, table.divisor, chain.V, a.first, state.M)
            all_columns(table.programs, chain.V, state.M, a.cluster, every, state.X)
    out = np.empty_like(chain.Y)
    out[table.row] = chain.Y
    return out

"""Further groups and variables for the tree of a result, computed from its draws on request.

A run's `pointwise` computes the three groups that ArviZ's model checks use (`bayesimp.contract.Run`); standard
deviations and correlations follow from the posterior alone, whatever the engine:

    <name>_sd_k = S_kk^1/2        <name>_correlation_jk = S_jk / (S_jj S_kk)^1/2        sigma_<y> = sigma2_<y>^1/2
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.errors import SpecificationError

if TYPE_CHECKING:
    from bayesimp.imputation.result import Imputations

__all__ = ["WHAT", "tree_with"]

GROUPS = "log_likelihood", "log_prior", "posterior_predictive"
VARIABLES = "cluster_effects", "standard_deviations", "correlations"
WHAT = GROUPS + VARIABLES
MOST_NUMBERS = 250_000_000  # most numbers in a group with a number for each observed cell or row: 2 GB
VARIANCE = "sigma2"  # prefix of the names of residual variances


def tree_with(imputations: Imputations, what: Sequence[str], request: TreeRequest) -> xr.DataTree:
    """See `Imputations.tree_with`."""
    _check(what, request)
    tree, run = imputations.tree.copy(), imputations.run
    wanted = [name for name in what if name in (*GROUPS, "cluster_effects")]
    if wanted and run is None:
        raise SpecificationError(
            f"{', '.join(wanted)}: these imputations do not carry the model and draws from which it would be computed."
        )
    draws = tree["posterior"].sizes[nt.DRAW]
    if request.thin > draws:
        raise SpecificationError(
            f"thin = {request.thin}, but a chain has {draws:,} draws; use a smaller number."
        )
    chosen = slice(request.thin - 1, None, request.thin)
    for name in ("posterior", "sample_stats", "imputed_stats"):
        if name in tree.children:
            tree[name] = xr.DataTree(tree[name].to_dataset().isel({nt.DRAW: chosen}))
    posterior = tree["posterior"].to_dataset()
    for name in wanted:
        _check_size(imputations, posterior, request, name)
    for name in wanted:
        assert run is not None
        made = run.pointwise(name, request)
        if name == "cluster_effects":
            posterior = posterior.merge(_on_draws(made, posterior), compat="override", join="exact")
            continue
        tree[name] = xr.DataTree(_on_draws(made, posterior))
        if name == "posterior_predictive":
            tree["observed_data"] = xr.DataTree(_observed(imputations, made))
    if "standard_deviations" in what:
        posterior = posterior.assign(standard_deviations(posterior))
    if "correlations" in what:
        posterior = posterior.assign(correlations(posterior))
    tree["posterior"] = xr.DataTree(posterior)
    return tree


def _check(what: Sequence[str], request: TreeRequest) -> None:
    if not what:
        raise SpecificationError(f"tree_with: name what to add to the tree: {', '.join(WHAT)}.")
    for name in what:
        if name not in WHAT:
            raise SpecificationError(f"tree_with: {name!r} is not one of {', '.join(WHAT)}.")
    if isinstance(request.thin, bool) or not isinstance(request.thin, int | np.integer) or request.thin < 1:
        raise SpecificationError(f"thin must be a whole number of at least 1, got {request.thin!r}.")
    if request.by not in ("cluster", "row"):
        raise SpecificationError(f"by must be 'cluster' or 'row', got {request.by!r}.")


def _check_size(imputations: Imputations, posterior: xr.Dataset, request: TreeRequest, what: str) -> None:
    """Refuse a group that would not fit into memory; the log likelihood of cells, or of rows, which are fewer."""
    run = imputations.run
    by_cluster = request.by == "cluster" and run is not None and run.likelihood_by_cluster
    if what not in ("posterior_predictive", "log_likelihood") or (what == "log_likelihood" and by_cluster):
        return
    data, draws = imputations.data, posterior.sizes[nt.CHAIN] * posterior.sizes[nt.DRAW]
    cells = sum(int((~data.missing(name)).sum()) for name in imputations.responses if name in data.families)
    if cells * draws > MOST_NUMBERS:
        thin = request.thin * -(-cells * draws // MOST_NUMBERS)
        raise SpecificationError(
            f"{what}: {draws:,} draws of {cells:,} observed cells do not fit into memory. Use "
            f"thin={thin} or more"
            + ("; az.plot_ppc_dist shows 50 draws." if what == "posterior_predictive" else ".")
        )


def _on_draws(made: xr.Dataset, posterior: xr.Dataset) -> xr.Dataset:
    """The same with the chain and draw coordinates of the posterior, by which ArviZ aligns groups."""
    return made.assign_coords({name: posterior[name] for name in (nt.CHAIN, nt.DRAW)})


def _observed(imputations: Imputations, predictive: xr.Dataset) -> xr.Dataset:
    """The observed cells that `predictive` replicates."""
    out = {}
    for name, replicated in predictive.data_vars.items():
        column, (dim,) = replicated.attrs["column"], replicated.dims[2:]
        rows = predictive[dim]
        y = imputations.data.numeric(column)[rows.values].astype(replicated.dtype)
        out[name] = xr.DataArray(y, dims=(dim,), coords={dim: rows}, attrs={"column": column})
    kept = {c: x for c, x in predictive.coords.items() if not {nt.CHAIN, nt.DRAW} & set(x.dims)}
    return xr.Dataset(out).assign_coords(kept)


def _matrices(posterior: xr.Dataset) -> list[str]:
    """Covariance matrices of the posterior: variables over a dimension and its copy."""
    return [
        str(name)
        for name, v in posterior.data_vars.items()
        if v.ndim == 4 and str(v.dims[3]) == f"{v.dims[2]}_2"
    ]


def standard_deviations(posterior: xr.Dataset) -> dict[str, xr.DataArray]:
    """Square roots of all variances, name -> (chain, draw, ...)."""
    out: dict[str, xr.DataArray] = {}
    for name in _matrices(posterior):
        v = posterior[name]
        roots = np.sqrt(np.diagonal(v.values, axis1=2, axis2=3))
        dim = str(v.dims[2])
        out[f"{name}_sd"] = xr.DataArray(roots, dims=v.dims[:3], coords={dim: posterior[dim]})
    matrices = _matrices(posterior)
    for label, variance in posterior.data_vars.items():
        if str(label).startswith(VARIANCE) and str(label) not in matrices:
            out[f"sigma{str(label).removeprefix(VARIANCE)}"] = variance**0.5
    return out


def correlations(posterior: xr.Dataset) -> dict[str, xr.DataArray]:
    """Correlations in all covariance matrices, name -> (chain, draw, pair); a matrix with one variance has none."""
    out = {}
    for name in _matrices(posterior):
        S: np.ndarray = posterior[name].values
        dim = str(posterior[name].dims[2])
        labels = [str(label) for label in posterior[dim].values]
        pairs = list(combinations(range(len(labels)), 2))
        if not pairs:
            continue
        j, k = np.array(pairs).T
        made = S[..., j, k] / np.sqrt(S[..., j, j] * S[..., k, k])
        pair = f"{dim}_pair"
        names = [f"{labels[a]}, {labels[b]}" for a, b in pairs]
        out[f"{name}_correlation"] = xr.DataArray(made, dims=(nt.CHAIN, nt.DRAW, pair), coords={pair: names})
    return out

"""Convert the arrays of a run to the `xarray.DataTree` of its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp import notation as nt
from bayesimp.table.incomplete import IncompleteData

__all__ = ["build_tree", "cells_and_observed", "cluster_labels", "tree_of_rows"]


def build_tree(
    data: IncompleteData,
    posterior: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    imputed_stats: Mapping[str, np.ndarray],
    imputed: Mapping[str, tuple[np.ndarray, np.ndarray]],
    observed: Mapping[str, np.ndarray],
    coords: Mapping[str, list],
    attrs: Mapping[str, Any],
    sample_stats: Mapping[str, np.ndarray] | None = None,
    warmup: int = 0,
) -> xr.DataTree:
    """The arrays as a DataTree, with the groups that `Imputations` describes.

    posterior: name -> (dims, array); imputed_stats: name -> (chain, draw, cluster, response); imputed: response ->
    (rows (c,), values (m, c)); observed: response -> (n,); warmup: number of first draws, which go to separate groups.
    """
    clusters = cluster_labels(data.clusters)
    coords = {name: [nt.shown(label) for label in labels] for name, labels in coords.items()}
    sample = (nt.CHAIN, nt.DRAW)
    draws = {d: np.arange(next(iter(posterior.values()))[1].shape[axis]) for axis, d in enumerate(sample)}
    used = {dim for dims, _ in posterior.values() for dim in dims}
    groups = {
        "posterior": xr.Dataset(
            {name: ((*sample, *dims), array) for name, (dims, array) in posterior.items()},
            coords={**draws, **{k: v for k, v in {nt.CLUSTER: clusters, **coords}.items() if k in used}},
        ),
        "imputed_stats": xr.Dataset(
            {
                name: ((*sample, nt.RESPONSE, nt.CLUSTER), np.moveaxis(a, -1, -2))
                for name, a in imputed_stats.items()
            },
            coords={**draws, nt.RESPONSE: coords[nt.RESPONSE], nt.CLUSTER: clusters},
        ),
    }
    if warmup:  # the first draws, under ArviZ's names for warm-up
        for name in ("posterior", "imputed_stats"):
            groups[f"warmup_{name}"] = groups[name].isel({nt.DRAW: slice(None, warmup)})
            groups[name] = groups[name].isel({nt.DRAW: slice(warmup, None)})
    if sample_stats:
        groups["sample_stats"] = xr.Dataset(
            {name: (sample, _without_objects(array)) for name, array in sample_stats.items()}, coords=draws
        )
    groups |= cells_and_observed(data, imputed, observed)
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    tree.attrs.update(attrs)
    return tree


def _without_objects(array: np.ndarray) -> np.ndarray:
    """Texts of a sampler, with "" for None, which files cannot hold."""
    if array.dtype != object:
        return array
    texts = ["" if x is None else str(x) for x in array.ravel()]
    return np.array(texts, dtype=str).reshape(array.shape)


def tree_of_rows(
    data: Any, cells: Mapping[str, tuple[np.ndarray, np.ndarray]], attrs: Mapping[str, Any]
) -> xr.DataTree:
    """The tree of rows that were completed without chains of their own: new rows, or the rows of a site."""
    observed = {name: data.numeric(name) for name in attrs["responses"]}
    tree = xr.DataTree.from_dict(cells_and_observed(data, cells, observed))
    tree.attrs.update(attrs)
    return tree


def cells_and_observed(
    data: IncompleteData,
    imputed: Mapping[str, tuple[np.ndarray, np.ndarray]],
    observed: Mapping[str, np.ndarray],
) -> dict[str, xr.Dataset]:
    """The groups ``imputed`` and ``observed_data``."""
    clusters = cluster_labels(data.clusters)
    names = nt.tree_names([*observed, *(name for name in imputed if name not in observed)])
    cells = xr.Dataset(
        {names[name]: _cells(data, name, names[name], *cells, clusters) for name, cells in imputed.items()}
    )
    seen = xr.Dataset(
        {names[name]: (nt.ROW, y, {"column": name}) for name, y in observed.items()},
        coords={nt.ROW: np.arange(len(data.codes)), nt.CLUSTER_OF_ROW: (nt.ROW, clusters[data.codes])},
    )
    return {"imputed": cells, "observed_data": seen}


def _cells(
    data: IncompleteData, column: str, name: str, rows: np.ndarray, values: np.ndarray, clusters: np.ndarray
) -> xr.DataArray:
    """The imputed values of a column, as the variable `name` of the tree."""
    dim = nt.row_dimension(name)
    coords = {
        nt.IMPUTATION: np.arange(len(values)), dim: rows,
        nt.cluster_coordinate(name): (dim, clusters[data.codes[rows]]),
    }  # fmt: skip
    attrs = {"column": column}
    if column in data.families and data.variable(column).is_coded:
        attrs["levels"] = ", ".join(nt.shown(level) for level in data.levels(column))
    return xr.DataArray(values, dims=(nt.IMPUTATION, dim), coords=coords, attrs=attrs)


def cluster_labels(clusters: Iterable) -> np.ndarray:
    """Cluster labels as a coordinate: numbers remain numbers, anything else becomes text."""
    labels = pd.Series(list(clusters)).to_numpy()  # NumPy would turn labels that are tuples into a matrix
    return labels if labels.dtype.kind in "iu" else np.asarray([nt.shown(c) for c in clusters])

"""Draws of a run of chained equations on the scale of the data: imputed cells, and the groups of the tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.families.registry import family_of
from bayesimp.fcs.blocks.base import FREE, Chain
from bayesimp.fcs.history import History
from bayesimp.fcs.scale import ChainedBlock
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.imputation.tree import build_tree
from bayesimp.notation import effect_names
from bayesimp.table.variables import without_round_off

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.fcs.model import FCS
    from bayesimp.fcs.specification.records import Conditionals

__all__ = ["block_names", "imputed_cells", "run_tree"]


def imputed_cells(model: FCS, chains: Sequence[Chain]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Column -> (rows, values (m, cells)), rows in the order of the table."""
    data = model.data
    out = {}
    for name in model.spec.incomplete:
        rows = np.flatnonzero(model.masked.missing(name) & model.filled(name))
        if len(rows):
            out[name] = rows, _values(model, chains, name, rows)
    for derived in model.spec.derived:
        column = derived.column
        if column is None:
            continue
        every = column not in data.frame.columns  # all rows, if the column is not in the table
        rows = np.flatnonzero(model.filled(column) & (every or data.missing(column)))
        out[column] = rows, _values(model, chains, derived.name, rows)
    return out


def _values(model: FCS, chains: Sequence[Chain], name: str, rows: np.ndarray) -> np.ndarray:
    """Values (m, len(rows)) of a completed base column in rows of the table, on the scale of the data."""
    table = model.table
    k = table.names.index(name)
    place = np.full(len(table.full), -1)
    place[table.row] = np.arange(len(table.row))
    at = place[rows]
    values = np.tile(table.full[rows, k], (len(chains), 1))
    V = np.stack([chain.V[at[at >= 0], k - table.p] for chain in chains])
    values[:, at >= 0] = table.on_data_scale(k, V)
    if name in model.data.variables:
        lower, upper = model.masked.limits(name)
        values = without_round_off(values, lower[rows], upper[rows], name)
    if not family_of(model.data.families.get(name, "normal")).is_coded:
        return values
    levels = model.data.level_values(name)
    order = np.argsort(levels)  # from the levels' numbers in the loop to their positions
    return order[np.searchsorted(levels[order], values)].astype(float)


def run_tree(model: FCS, h: History, tune: int, cells: dict, attrs: dict) -> xr.DataTree:
    """The tree of a run (`Imputations.tree`): posterior by cycle, imputed values with their statistics, observed values.

    Parameters
    ----------
    model, h
        The model and the kept cycles.
    tune
        Number of warm-up cycles; ignored if a run has no others.
    cells, attrs
        The result of `imputed_cells`, and attributes of the tree.
    """
    table = model.table
    place = np.argsort(table.order)
    posterior: dict[str, tuple] = {}
    coords: dict[str, list] = {nt.RESPONSE: list(model.spec.incomplete)}
    names = block_names(model.spec)
    for chained, kept in zip(table.blocks, h.blocks, strict=True):
        block = chained.block
        levels = model.data.levels(block.name)[1:] if block.distribution.predictor_per_level else ()
        texts = [str(level) for level in levels]
        part, dims = _posterior(chained, names[block.name], kept, place, texts)
        posterior |= part
        coords |= dims
    r = len(model.spec.incomplete)
    s, c = table.scale[table.p : table.p + r], table.center[table.p : table.p + r]
    stats = {"mean": h.mean[:, :, place] * s + c, "sd": h.sd[:, :, place] * s}
    observed = {name: model.masked.numeric(name) for name in model.spec.incomplete}
    return build_tree(
        model.data, posterior, stats, cells, observed, coords, attrs, warmup=tune if h.cycles > tune else 0,
    )  # fmt: skip


def block_names(spec: Conditionals) -> dict[str, str]:
    """Block -> its name in the tree, with "_" appended if that is taken.

    The second dimensions of "y" have the names of the first dimensions of "y_2", which may differ from them.
    """
    blocks = {block.name: block for block in spec.blocks}
    names: dict[str, str] = {}
    for name in sorted(blocks, key=lambda name: (len(name), name)):
        block, first = blocks[name], blocks.get(name.removesuffix("_2"), blocks[name])
        of_factors = {f"{nt.in_tree(f.label)}_{names[b]}" for b in names for f in blocks[b].further}
        differ = block.random != first.random or max(block.predictors, first.predictors) > 1
        safe = nt.in_tree(name) + ("_" if first is not block and differ else "")
        while safe in names.values() or safe in of_factors:
            safe += "_"
        names[name] = safe
    return names


def _posterior(
    chained: ChainedBlock,
    name: str,
    kept: dict[str, np.ndarray],
    place: NDArray[np.int64],
    levels: Sequence[str],
) -> tuple[dict, dict]:
    """Posterior variables of a block on the scale of the data, name -> (dims, array), and their coordinates.

    name: the block's name in the tree; levels: those of a categorical response except the first, each with a linear
    predictor.
    """
    block, scale = chained.block, chained.scale
    responses = list(levels or block.responses)
    dim = f"level_{name}" if levels else f"response_{name}"
    coords: dict[str, list] = {}
    out: dict[str, tuple] = {}
    for key, a in kept.items():
        if key.startswith(FREE):  # variables of a user-defined model; shapes and cutpoints
            own = f"{key.removeprefix(FREE)}_{name}"
            out[own] = tuple(f"{own}_{axis}" for axis in range(a.ndim - 2)), a
    for label in (nt.in_tree(factor.label) for factor in block.further):
        dims = f"effect_{label}_{name}", f"effect_{label}_{name}_2"
        coords |= {dim: [INTERCEPT] for dim in dims}
        out[f"Psi_{label}_{name}"] = dims, out[f"Psi_{label}_{name}"][1]
    if "beta" in kept:
        beta, fixed = scale.beta(kept["beta"]), f"fixed_{name}"
        coords[fixed] = [c.name for c in block.fixed]
        one = len(responses) == 1
        out[f"beta_{name}"] = ((fixed,), beta[..., 0]) if one else ((fixed, dim), beta)
        if not one:
            coords[dim] = responses
    if "Sigma" in kept:
        Sigma = scale.Sigma(kept["Sigma"])
        if len(responses) > 1:
            coords[f"{dim}_2"] = responses
            out[f"Sigma_{name}"] = (dim, f"{dim}_2"), Sigma[:, :, 0]
        else:
            by_cluster = Sigma.shape[2] > 1
            sigma2 = Sigma[..., 0, 0]
            out[f"sigma2_{name}"] = (
                ((nt.CLUSTER,), sigma2[..., place]) if by_cluster else ((), sigma2[..., 0])
            )
    if "Psi" in kept:
        random, effect = [c.name for c in block.random], f"effect_{name}"
        names = random if len(responses) == 1 else effect_names(responses, random)
        coords |= {effect: names, f"{effect}_2": names}
        if block.method.fits_each_cluster:
            places = [block.fixed.index(column) for column in block.random]
            Psi = scale.coefficients_covariance(kept["Psi"], places)
        else:
            Psi = scale.Psi(kept["Psi"])
        out[f"Psi_{name}"] = (effect, f"{effect}_2"), Psi
    return out, coords

"""A run of the joint model on latent normals that can be continued: from its chains to `Imputations`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest, plain
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.latent.clusters import cluster_values
from bayesimp.joint.latent.gibbs import LatentChain, LatentDraws
from bayesimp.joint.latent.reference import by_reference
from bayesimp.joint.strided import read_state, run_state
from bayesimp.joint.strided_run import StridedRun
from bayesimp.kernels.latent.records import Kept, LatentState
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.joint.latent.one_factor import OneLatentFactor
    from bayesimp.joint.latent.variables import LatentVariable
    from bayesimp.kernels.latent.records import LatentColumns
    from bayesimp.table.new_rows import NewRows

__all__ = ["LatentRun", "cutpoints_by_name"]


@dataclass
class LatentRun(StridedRun):
    """The current states of the chains and the draws so far, on the working scale."""

    model: JointLatent
    residuals: bool = False
    effects: bool = False
    costly_likelihood: ClassVar[bool] = True

    @property
    def task(self) -> Any:
        """The task of running iterations, for executors."""
        return self.model.grouping.task(self.thin, self.stride, self.residuals, self.effects)

    @property
    def factor(self) -> OneLatentFactor:
        """The grouping factor."""
        return cast("OneLatentFactor", self.model.grouping)

    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        drawn, found, first = self._drawn(m), {}, 0
        if self.model.reference is not None:
            drawn = by_reference(self, drawn)
        for variable, rows in self.model.table.incomplete:
            found[variable.name] = rows, drawn[:, first : first + len(rows)]
            first += len(rows)
        found |= self._cells_of_clusters(drawn[:, first:])
        return {name: found[name] for name in self.model.responses if name in found}

    def _cells_of_clusters(self, drawn: NDArray) -> dict[str, tuple[NDArray, NDArray]]:
        """Drawn cluster-level values (m, c), copied to all rows in which they are missing."""
        data, first, out = self.model.data, 0, {}
        for table, clusters in self.model.grouping.cluster_tables:
            lacking = {v.name: own for v, own in table.incomplete}
            for variable in table.variables:
                own = lacking.get(variable.name, np.empty(0, dtype=np.int64))
                values = np.tile(cluster_values(data, variable.name, clusters), (len(drawn), 1))
                values[:, own] = drawn[:, first : first + len(own)]
                first += len(own)
                rows = np.flatnonzero(data.missing(variable.name))
                if len(rows):
                    out[variable.name] = rows, values[:, clusters.codes[rows]]
        return out

    def _posterior(self) -> tuple[dict[str, tuple], dict[str, list]]:
        """Variables of the posterior that clusters have, name -> (dims, array), and their coordinates."""
        model, h, factor = self.model, self.history, self.factor
        clusters, scale = factor.table.of_clusters, factor.table.working.scale
        out: dict[str, tuple] = {"Psi": (("effect", "effect_2"), factor.scale.Psi(h.Psi))}
        coords = factor.effect_coords()
        if clusters.variables:
            own = h.gamma[..., -len(clusters.labels) :]
            out["beta_clusters"] = ("fixed_clusters", "latent_clusters"), clusters.scale.beta(own)
            coords |= {"fixed_clusters": list(clusters.fixed), "latent_clusters": clusters.labels}
        if model.residual == "cluster":
            out["likeness"] = (), h.likeness[..., 0]
        if self.residuals:
            place = np.argsort(factor.table.working.order)
            out["Sigma_clusters"] = (nt.CLUSTER, "latent", "latent_2"), scale.Sigma(h.residuals[:, :, place])
        if self.effects:
            dims, B = self.effects_kept()
            out["B"] = dims, B
            coords[dims[1]] = factor.effects()[: B.shape[-1]]
        before = clusters.V.shape[1] - len(clusters.labels)
        out |= cutpoints_by_name(clusters.variables, h.cluster_cutpoints, clusters.level.columns, before)
        return out, coords

    def effects_kept(self) -> tuple[tuple[str, str], NDArray]:
        """Names of the two last dimensions, and B (chains, draws, m, r q), clusters in the order of the table."""
        scale, h = self.model.table.working.scale, self.history
        place = np.argsort(self.model.table.working.order)
        B = np.swapaxes(h.B[:, :, place], -1, -2).reshape(*h.B.shape[:3], -1) * scale.effects
        further = self.model.table.of_clusters.variables
        return (nt.CLUSTER, "effect_of_rows" if further else nt.EFFECT), B @ of_all(
            scale.C, len(scale.effects)
        ).T

    def _of_clusters(self) -> tuple[NDArray, NDArray]:
        """Means and standard deviations (chains, D, m, V) of imputed cluster-level variables."""
        return self.history.cluster_mean, self.history.cluster_sd

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h, table = self.model, self.history, self.model.table
        scale, place = table.working.scale, np.argsort(table.working.order)
        of_clusters, coords = self._posterior()
        variables = {
            "beta": (("fixed", "latent"), scale.beta(h.beta)),
            "Sigma": (("latent", "latent_2"), scale.Sigma(h.Sigma)),
        } | of_clusters | cutpoints_by_name(table.variables, h.cutpoints, table.columns, 0)  # fmt: skip
        mean, sd = self._of_clusters()
        stats = {
            "mean": np.concatenate([h.mean, mean], axis=-1)[:, :, place],
            "sd": np.concatenate([h.sd, sd], axis=-1)[:, :, place],
        }
        names = [variable.name for variable, _ in table.incomplete]
        for of_table, _ in model.grouping.cluster_tables:
            names += [variable.name for variable, _ in of_table.incomplete]
        coords |= dict.fromkeys(("latent", "latent_2"), table.labels)
        coords |= {"fixed": list(model.design.fixed), nt.RESPONSE: names}
        observed = {name: model.data.numeric(name) for name in model.responses}
        return build_tree(model.data, variables, stats, cells, observed, coords, attrs)

    def _declaration(self) -> dict[str, Any]:
        model = self.model
        return {
            "model": "JointLatent", "formula": str(model.formula), "responses": list(model.responses),
            "priors_name": model.priors.name, "specification": json.dumps(model.specification(), default=plain),
        }  # fmt: skip

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """Log likelihood, log prior, replicates or effects at the draws so far (joint/latent/pointwise.py)."""
        from bayesimp.joint.latent.pointwise import OneFactorDraws, pointwise

        return pointwise(self, OneFactorDraws(self), what, request)

    def transform(self, new: NewRows, m: int, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """The missing values of new rows, by a Gibbs sampler at fixed parameters (joint/latent/new_rows.py)."""
        from bayesimp.joint.latent.new_rows import complete_new_rows

        return complete_new_rows(self, new, m, seed)

    def state(self) -> xr.Dataset:
        """The states of the chains and the kept draws."""
        return run_state(self, Kept._fields, LatentState._fields).assign_attrs(
            residuals=int(self.residuals), effects=int(self.effects)
        )

    @classmethod
    def restore(cls, model: JointLatent, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run restored from a file, with chains and draws."""
        if "kept_B" not in state:  # files of earlier versions
            none = np.empty((*state["kept_beta"].shape[:1], 0, 0, 0, 0))
            state = state.assign(kept_B=(tuple(f"kept_B_{axis}" for axis in range(5)), none))
        draws, chains = read_state(state, LatentDraws, Kept._fields, LatentChain, LatentState._fields)
        own = {
            "residuals": bool(int(state.attrs["residuals"])), "effects": bool(int(state.attrs.get("effects", 0))),
        }  # fmt: skip
        return cls._restored(model, tree, state, draws, chains, **own)


def cutpoints_by_name(
    variables: Sequence[LatentVariable], drawn: NDArray, columns: LatentColumns, before: int
) -> dict[str, tuple]:
    """Variables of the posterior, name -> (dims, array), for ordinal variables with several cutpoints.

    drawn (chains, D, c): cutpoints of all columns; before: columns before those of the variables.
    """
    out: dict[str, tuple] = {}
    for variable in variables:
        if variable.cutpoints > 1:
            name, k = f"cutpoints_{nt.in_tree(variable.name)}", before + variable.first
            out[name] = (f"{name}_0",), drawn[..., columns.cut[k] : columns.cut[k + 1]]
    return out

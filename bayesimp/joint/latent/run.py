"""A run of the joint model on latent normals that can be continued: from its chains to `Imputations`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest, plain
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.latent.clusters import cluster_values
from bayesimp.joint.latent.gibbs import LatentChain, LatentDraws, LatentTask
from bayesimp.joint.latent.reference import by_reference
from bayesimp.joint.strided import read_state, run_state
from bayesimp.joint.strided_run import StridedRun
from bayesimp.kernels.latent.records import Kept, LatentState
from bayesimp.scale.effects import of_all

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.latent.clusters import ClusterTable
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.table.clusters import Clusters
    from bayesimp.table.new_rows import NewRows

__all__ = ["LatentRun"]


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
        return LatentTask(
            self.model.table, self.model.working_priors, self.thin, self.stride, self.residuals, self.effects
        )

    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        drawn, found, first = self._drawn(m), {}, 0
        if self.model.reference is not None:
            drawn = by_reference(self, drawn)
        for variable, rows in self.model.table.incomplete:
            found[variable.name] = rows, drawn[:, first : first + len(rows)]
            first += len(rows)
        found |= self._cells_of_clusters(drawn[:, first:])
        return {name: found[name] for name in self.model.responses if name in found}

    @property
    def cluster_tables(self) -> list[tuple[ClusterTable, Clusters]]:
        """The clusters as the sampler and the table have them."""
        return [(self.model.table.of_clusters, self.model.data.grouping)]

    def _cells_of_clusters(self, drawn: NDArray) -> dict[str, tuple[NDArray, NDArray]]:
        """Drawn cluster-level values (m, c), copied to all rows in which they are missing."""
        data, first, out = self.model.data, 0, {}
        for table, clusters in self.cluster_tables:
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
        """Variables of the posterior in the units of the data, name -> (dims, array), and their coordinates."""
        model, h, scale = self.model, self.history, self.model.table.working.scale
        clusters = model.table.of_clusters
        labels, effects = model.table.labels, model.effects
        out: dict[str, tuple] = {
            "beta": (("fixed", "latent"), scale.beta(h.beta)),
            "Sigma": (("latent", "latent_2"), scale.Sigma(h.Sigma)),
            "Psi": (("effect", "effect_2"), model.effect_scale.Psi(h.Psi)),
        }
        coords = {
            "latent": labels, "latent_2": labels, "fixed": list(model.design.fixed), "effect": effects,
            "effect_2": effects,
        }  # fmt: skip
        if clusters.variables:
            own = h.gamma[..., -len(clusters.labels) :]
            out["beta_clusters"] = ("fixed_clusters", "latent_clusters"), clusters.scale.beta(own)
            coords |= {"fixed_clusters": list(clusters.fixed), "latent_clusters": clusters.labels}
        if model.residual == "cluster":
            out["likeness"] = (), h.likeness[..., 0]
        if self.residuals:
            place = np.argsort(model.table.working.order)
            out["Sigma_clusters"] = (nt.CLUSTER, "latent", "latent_2"), scale.Sigma(h.residuals[:, :, place])
        if self.effects:
            dims, B = self.effects_kept()
            out["B"] = dims, B
            coords[dims[1]] = effects[: B.shape[-1]]
        columns = model.table.columns, clusters.level.columns
        before = 0, clusters.V.shape[1] - len(clusters.labels)
        parts = (model.table.variables, h.cutpoints), (clusters.variables, h.cluster_cutpoints)
        for (variables, drawn), of, start in zip(parts, columns, before, strict=True):
            for variable in variables:
                if variable.cutpoints > 1:
                    name, k = f"cutpoints_{nt.in_tree(variable.name)}", start + variable.first
                    out[name] = (f"{name}_0",), drawn[..., of.cut[k] : of.cut[k + 1]]
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

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h = self.model, self.history
        variables, coords = self._posterior()
        table, place = model.table, np.argsort(model.table.working.order)
        stats = {
            "mean": np.concatenate([h.mean, h.cluster_mean], axis=-1)[:, :, place],
            "sd": np.concatenate([h.sd, h.cluster_sd], axis=-1)[:, :, place],
        }
        names = [variable.name for variable, _ in (*table.incomplete, *table.of_clusters.incomplete)]
        observed = {name: model.data.numeric(name) for name in model.responses}
        return build_tree(model.data, variables, stats, cells, observed, coords | {nt.RESPONSE: names}, attrs)

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

"""A run of `JointLatent` with several grouping factors that can be continued: from its chains to `Imputations`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.latent.levels.gibbs import LatentLevelsChain, LatentLevelsDraws
from bayesimp.joint.latent.levels.model import SeveralLatentFactors
from bayesimp.joint.latent.levels.pointwise import SeveralFactorsDraws, kept_effects
from bayesimp.joint.latent.run import LatentRun
from bayesimp.joint.strided import read_state, run_state
from bayesimp.kernels.latent.level_records import LevelsKept, LevelsState

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.contract import TreeRequest
    from bayesimp.joint.latent.clusters import ClusterTable
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.table.clusters import Clusters
    from bayesimp.table.new_rows import NewRows

__all__ = ["LatentLevelsRun"]


@dataclass
class LatentLevelsRun(LatentRun):
    """The current states of the chains and the draws so far, on the working scale."""

    @property
    def several(self) -> SeveralLatentFactors:
        """The grouping factors."""
        assert self.model.several is not None
        return self.model.several

    @property
    def task(self) -> Any:
        """The task of running iterations, for executors."""
        return self.several.task(self.thin, self.stride, effects=self.effects)

    @property
    def cluster_tables(self) -> list[tuple[ClusterTable, Clusters]]:
        """The groups of every factor as the sampler and the table have them."""
        tables = self.several.table.groups.tables
        return [(table, factor.groups) for table, factor in zip(tables, self.several.factors, strict=True)]

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h, table = self.model, self.history, self.several.table
        variables, coords = self.several.posterior(h)
        if self.effects:
            kept, of_effects = kept_effects(self)
            variables, coords = variables | kept, coords | of_effects
        place = np.argsort(table.working.order)
        stats = {
            "mean": np.concatenate([h.mean, h.group_mean], axis=-1)[:, :, place],
            "sd": np.concatenate([h.sd, h.group_sd], axis=-1)[:, :, place],
        }
        names = [v.name for v, _ in table.incomplete] + [v.name for _, v, _ in table.groups.incomplete]
        observed = {name: model.data.numeric(name) for name in model.responses}
        return build_tree(model.data, variables, stats, cells, observed, coords | {nt.RESPONSE: names}, attrs)

    def transform(self, new: NewRows, m: int, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """The missing values of new rows, by a Gibbs sampler at fixed parameters (joint/latent/levels/new_rows.py)."""
        from bayesimp.joint.latent.levels.new_rows import complete_new_rows

        return complete_new_rows(self, new, m, seed)

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """Log likelihood, log prior, replicates or effects at the draws so far (joint/latent/pointwise.py)."""
        from bayesimp.joint.latent.pointwise import pointwise

        return pointwise(self, SeveralFactorsDraws(self), what, request)

    def state(self) -> xr.Dataset:
        """The states of the chains and the kept draws."""
        state = run_state(self, LevelsKept._fields, LevelsState._fields)
        return state.assign_attrs(effects=int(self.effects))

    @classmethod
    def restore(cls, model: JointLatent, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run restored from a file, with chains and draws."""
        if "kept_b" not in state:  # files of earlier versions
            none = np.empty((len(state["kept_beta"]), 0, 0))
            state = state.assign(kept_b=(tuple(f"kept_b_{axis}" for axis in range(3)), none))
        draws, chains = read_state(
            state, LatentLevelsDraws, LevelsKept._fields, LatentLevelsChain, LevelsState._fields
        )
        return cls._restored(
            model, tree, state, draws, chains, effects=bool(int(state.attrs.get("effects", 0)))
        )

"""A run of `JointLatent` with several grouping factors that can be continued: from its chains to `Imputations`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.latent.levels.gibbs import LatentLevelsChain, LatentLevelsDraws
from bayesimp.joint.latent.levels.pointwise import SeveralFactorsDraws, kept_effects
from bayesimp.joint.latent.run import LatentRun
from bayesimp.joint.strided import read_state, run_state
from bayesimp.kernels.latent.level_records import LevelsKept, LevelsState

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.contract import TreeRequest
    from bayesimp.joint.latent.levels.model import SeveralLatentFactors
    from bayesimp.joint.latent.model import JointLatent
    from bayesimp.table.new_rows import NewRows

__all__ = ["LatentLevelsRun"]


@dataclass
class LatentLevelsRun(LatentRun):
    """The current states of the chains and the draws so far, on the working scale."""

    @property
    def several(self) -> SeveralLatentFactors:
        """The grouping factors."""
        return cast("SeveralLatentFactors", self.model.grouping)

    def _posterior(self) -> tuple[dict[str, tuple], dict[str, list]]:
        variables, coords = self.several.posterior(self.history)
        if not self.effects:
            return variables, coords
        kept, of_effects = kept_effects(self)
        return variables | kept, coords | of_effects

    def _of_clusters(self) -> tuple[NDArray, NDArray]:
        return self.history.group_mean, self.history.group_sd

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

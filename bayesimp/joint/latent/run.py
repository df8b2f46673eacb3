"""A run of the joint model on latent normals that can go on: from its chains to `Imputations`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import Run, TreeRequest, plain
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.glmm.run import GLMMRun
from bayesimp.joint.latent.gibbs import LatentTask
from bayesimp.joint.latent.storage import draws_and_chains, latent_state

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.table.new_rows import NewRows

__all__ = ["LatentRun"]


@dataclass
class LatentRun(GLMMRun):
    """Chains at their present state and the draws so far, on the working scale; they go on as those of a joint GLMM."""

    model: Any
    kept: Any = None
    chains: Any = field(default_factory=list)

    @property
    def history(self) -> Any:
        """Draws so far, once the run has started."""
        assert self.kept is not None
        return self.kept

    @property
    def task(self) -> Any:
        """Iterations, as executors run them."""
        return LatentTask(self.model.table, self.model.working_priors, self.thin, self.stride)

    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        h = self.history
        k = np.arange(m)
        drawn = h.cells[k % h.chains, ((k // h.chains + 1) * self.spacing) // self.stride - 1]
        out, first = {}, 0
        for variable, rows in self.model.table.incomplete:
            out[variable.name] = rows, drawn[:, first : first + len(rows)]
            first += len(rows)
        return out

    def _posterior(self) -> tuple[dict[str, tuple], dict[str, list]]:
        """Variables of the posterior in the units of the data, name -> (dims, array), and their coordinates."""
        model, h, scale = self.model, self.history, self.model.table.working.scale
        labels, effects = model.table.labels, model.effects
        out: dict[str, tuple] = {
            "beta": (("fixed", "latent"), scale.beta(h.beta)),
            "Sigma": (("latent", "latent_2"), scale.Sigma(h.Sigma)),
            "Psi": (("effect", "effect_2"), scale.Psi(h.Psi)),
        }
        coords = {
            "latent": labels, "latent_2": labels, "fixed": list(model.design.fixed), "effect": effects,
            "effect_2": effects,
        }  # fmt: skip
        cut = model.table.columns.cut
        for variable in model.table.variables:
            if variable.cutpoints > 1:
                name = f"cutpoints_{nt.in_tree(variable.name)}"
                part = h.cutpoints[..., cut[variable.first] : cut[variable.first + 1]]
                out[name] = (f"{name}_0",), part
        return out, coords

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h = self.model, self.history
        variables, coords = self._posterior()
        place = np.argsort(model.table.working.order)
        stats = {"mean": h.mean[:, :, place], "sd": h.sd[:, :, place]}
        names = [variable.name for variable, _ in model.table.incomplete]
        observed = {name: model.data.numeric(name) for name in model.responses}
        return build_tree(model.data, variables, stats, cells, observed, coords | {nt.RESPONSE: names}, attrs)

    def _attrs(self, m: int) -> dict:
        model, h = self.model, self.history
        return {
            "model": "JointLatent", "formula": str(model.formula), "responses": list(model.responses),
            "priors_name": model.priors.name, "specification": json.dumps(model.specification(), default=plain),
            "sampler": "gibbs", "seed": self.seed, "thin": self.thin, "spacing": self.spacing, "m": m, "chains": h.chains,
            "draws": h.draws, "seconds": round(self.seconds, 4), "bayesimp_version": version("bayesimp"),
            "numpy_version": np.__version__,
        }  # fmt: skip

    def _chain_events(self) -> list[Event]:
        return []

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """Refused: the probability of a row's levels is an integral over its latent values, which is not computed.

        Raises
        ------
        SpecificationError
        """
        raise SpecificationError(
            f"{what}: JointLatent does not compute it, because it needs probabilities of several levels together, "
            f"which are "
            "integrals over latent normals. bi.JointGLMM has it for the same families."
        )

    def transform(self, new: NewRows, m: int, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """Refused: see `bayesimp.contract.Run.transform`.

        Raises
        ------
        SpecificationError
        """
        return Run.transform(self, new, m, seed)

    def state(self) -> xr.Dataset:
        """Where the chains are, and the draws kept (joint/latent/storage.py)."""
        return latent_state(self)

    @classmethod
    def restore(cls, model: Any, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run of a file, chains and draws."""
        attrs = tree.attrs
        draws, chains = draws_and_chains(state)
        return cls(
            model, int(attrs["seed"]), int(attrs["thin"]), int(attrs["spacing"]), int(state.attrs["stride"]),
            chains=chains, kept=draws, events=tuple(Event(**e) for e in json.loads(state.attrs["run_events"])),
            seconds=float(attrs["seconds"]),
        )  # fmt: skip

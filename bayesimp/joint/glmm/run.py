"""A run of the joint GLMM that can be continued: from its chains to `Imputations`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp import contract
from bayesimp.contract import plain
from bayesimp.events import Event
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.glmm.chain import ChainState
from bayesimp.joint.glmm.gibbs import FactorTask, JointHistory
from bayesimp.joint.glmm.posterior import posterior
from bayesimp.joint.glmm.storage import glmm_state, history_and_chains
from bayesimp.joint.strided_run import StridedRun
from bayesimp.kernels.glmm.gibbs import TALLIES
from bayesimp.table.variables import without_round_off

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.glmm.model import JointGLMM
    from bayesimp.table.new_rows import NewRows

__all__ = ["GLMMRun"]

FEW_ACCEPTED = 0.1  # of Metropolis steps; with fewer, parameters hardly move


@dataclass
class GLMMRun(StridedRun):
    """The current states of the chains and the draws so far, on the working scale."""

    model: JointGLMM
    chains: list[ChainState] = field(default_factory=list)
    kept: JointHistory | None = None
    effects: bool = False
    sample_stats: dict[str, NDArray] | None = None  # NUTS only

    @property
    def task(self) -> FactorTask:
        """The task of running sweeps, for executors."""
        model = self.model
        return FactorTask(
            model.table, model.priors, model.separate, model.data.cluster, self.thin, self.stride, self.effects
        )  # fmt: skip

    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        table, drawn = self.model.table, self._drawn(m)
        out, first = {}, 0
        for f, factor in enumerate(table.factors):
            rows = table.row[table.missing[f]]
            values = drawn[:, first : first + len(rows)]
            first += len(rows)
            column = np.flatnonzero(self.model.data.missing(factor.response))
            if not len(column):
                continue
            place = np.full(len(table.row), -1)
            place[rows] = np.arange(len(rows))
            made = np.tile(self._known(f)[column], (m, 1))
            drawn_here = place[column] >= 0
            made[:, drawn_here] = self.in_units(f, values[:, place[column[drawn_here]]])
            lower, upper = self.model.data.limits(factor.response)
            out[factor.response] = (
                column, without_round_off(made, lower[column], upper[column], factor.response)
            )  # fmt: skip
        return out

    def _known(self, f: int) -> NDArray:
        """(n,) responses of factor f as a table has them (positions of levels), where the data determine them."""
        table = self.model.table
        y = np.empty(len(table.row))
        y[table.row] = self.in_units(f, table.Y[:, f])
        return y

    def in_units(self, f: int, y: NDArray) -> NDArray:
        """Responses in the units of the data; positions of levels are unchanged."""
        table = self.model.table
        if table.factors[f].family.is_coded:
            return y
        values = table.arrays.center[f] + table.arrays.unit[f] * y
        return np.rint(values) if table.factors[f].family.is_count else values

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h, table = self.model, self.history, self.model.table
        variables, coords = posterior(model, h)
        incomplete = [k for k, rows in enumerate(table.missing) if len(rows)]
        names = [table.factors[k].response for k in incomplete]
        place = np.argsort(table.order)
        stats = {name: a[:, :, place][..., incomplete] for name, a in (("mean", h.mean), ("sd", h.spread))}
        return build_tree(
            model.data, variables, stats, cells, {f.response: model.data.numeric(f.response) for f in table.factors},
            coords | {"response": names}, attrs, self.sample_stats,
        )  # fmt: skip

    def _declaration(self) -> dict[str, Any]:
        model = self.model
        return {
            "model": "JointGLMM", "formula": "; ".join(f.formula for f in model.factors),
            "responses": [f.response for f in model.factors], "priors_name": model.priors.name,
            "specification": json.dumps(model.specification(), default=plain),
        }  # fmt: skip

    def _chain_events(self) -> list[Event]:
        """Events about the acceptance of Metropolis steps and about cells that could not be drawn."""
        tallies = sum((chain.tallies for chain in self.chains), np.zeros_like(self.chains[0].tallies))
        out = []
        for factor, counts in zip(self.model.factors, tallies, strict=True):
            tally = dict(zip(TALLIES, counts, strict=True))
            kinds = [
                kind for kind in ("cluster effects", "fixed effects", "scales of effects") if tally[kind][0]
            ]
            if not kinds:
                continue
            shares = [f"{tally[kind][1] / tally[kind][0]:.0%} of {kind}" for kind in kinds]
            text = f"accepted by Metropolis steps: {', '.join(shares)}"
            out.append(Event("acceptance", factor.response, text, 1))
            slow = [kind for kind in kinds if tally[kind][1] < FEW_ACCEPTED * tally[kind][0]]
            if slow:
                text = (
                    f"fewer than {FEW_ACCEPTED:.0%} of the steps of {' and '.join(slow)} were accepted, so they "
                    "hardly moved: see summary(). Merge levels, leave out predictors, or take many more draws"
                )
                out.append(Event("slow mixing", factor.response, text, 1))
        failed = sum(chain.failed for chain in self.chains)
        if failed:
            text = (
                "draws of missing cells, or of effects with missing cells summed out, whose distribution had no finite "
                "value: they kept their current values"
            )
            out.append(Event("cells kept", ", ".join(f.response for f in self.model.factors), text, failed))
        return out

    def pointwise(self, what: str, request: contract.TreeRequest) -> xr.Dataset:
        """Log likelihood, log prior, replicates or cluster effects (joint/glmm/pointwise.py)."""
        from bayesimp.joint.glmm.pointwise import pointwise

        return pointwise(self, what, request)

    def transform(
        self, new: NewRows, m: int, seed: int
    ) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The missing values of new rows, by a Gibbs sampler at fixed parameters (joint/glmm/new_rows.py)."""
        from bayesimp.joint.glmm.new_rows import complete_new_rows

        return complete_new_rows(self, new, m, seed)

    def state(self) -> xr.Dataset:
        """The states of the chains and the kept draws (joint/glmm/storage.py)."""
        return glmm_state(self)

    @classmethod
    def restore(cls, model: JointGLMM, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run restored from a file, with chains and draws."""
        history, chains = history_and_chains(model, state)
        stats = tree["sample_stats"].data_vars.items() if "sample_stats" in tree.children else ()
        if tree.attrs["sampler"] == "nuts":
            from bayesimp.joint.glmm.nuts import GLMMNutsRun

            cls = cast(type[Self], GLMMNutsRun)
        return cls._restored(
            model, tree, state, history, chains, effects=bool(int(state.attrs["effects"])),
            sample_stats={str(name): v.values for name, v in stats} or None,
        )  # fmt: skip

"""A run of `JointNormal` with several grouping factors that can be continued: from its chains to `Imputations`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from bayesimp import notation as nt
from bayesimp.contract import TreeRequest
from bayesimp.imputation.tree import build_tree
from bayesimp.joint.levels.gibbs import LevelsChain, LevelsDraws
from bayesimp.joint.storage import specification_state
from bayesimp.joint.strided import read_state, run_state
from bayesimp.joint.strided_run import StridedRun
from bayesimp.priors.records import priors_to_dict

if TYPE_CHECKING:
    import xarray as xr

    from bayesimp.joint.levels.model import SeveralFactors
    from bayesimp.joint.normal import JointNormal
    from bayesimp.table.new_rows import NewRows

__all__ = ["LevelsRun"]

KEPT = "beta", "Sigma", "Psi", "mean", "sd", "cells"
NOW = "Sigma", "Psi", "b"


@dataclass
class LevelsRun(StridedRun):
    """The current states of the chains and the draws so far, on the working scale."""

    model: JointNormal
    costly_likelihood = True
    likelihood_by_cluster = True

    @property
    def grouping(self) -> SeveralFactors:
        """The grouping factors."""
        return cast("SeveralFactors", self.model.grouping)

    @property
    def task(self) -> Any:
        """The task of running iterations, for executors."""
        return self.grouping.task(self.thin, self.stride)

    def _cells(self, m: int) -> dict[str, tuple[NDArray, NDArray]]:
        table, drawn = self.grouping.table, self._drawn(m)
        missing, cells = table.missing, {}
        place = np.cumsum(missing).reshape(missing.shape) - 1  # position of each cell in a draw
        by_row = np.argsort(table.row)
        for v, name in enumerate(self.model.responses):
            order = by_row[missing[by_row, v]]
            if len(order):
                moved = self.model.shift.rows(name, self.model.data)[table.row[order], 0]
                values = drawn[:, place[order, v]] * table.working.scale.s[v] + moved
                cells[name] = table.row[order], values
        return cells

    def _tree(self, cells: dict, attrs: dict) -> xr.DataTree:
        model, h, grouping = self.model, self.history, self.grouping
        working = grouping.table.working
        variables = {
            "beta": (("fixed", "response"), working.scale.beta(h.beta)),
            "Sigma": (("response", "response_2"), working.scale.Sigma(h.Sigma)),
        } | grouping.Psi(h.Psi)
        place = np.argsort(working.order)
        stats = {
            "mean": h.mean[:, :, place] * working.scale.s + model.mean_shift,
            "sd": h.sd[:, :, place] * working.scale.s,
        }
        observed = {name: model.data.numeric(name) for name in model.responses}
        return build_tree(model.data, variables, stats, cells, observed, grouping.coords(), attrs)

    def _declaration(self) -> dict[str, Any]:
        model = self.model
        return {
            "model": "JointNormal", "formula": str(model.formula), "responses": list(model.responses),
            "priors_name": model.priors.name, "priors": json.dumps(priors_to_dict(model.priors)),
        }  # fmt: skip

    def pointwise(self, what: str, request: TreeRequest) -> xr.Dataset:
        """See joint/levels/pointwise.py."""
        if what == "log_prior":
            return self._log_prior(request)
        from bayesimp.joint.levels.pointwise import pointwise

        return pointwise(self, what, request)

    def _log_prior(self, request: TreeRequest) -> xr.Dataset:
        """log p(beta), log p(s, R) of Sigma and of the Psi of every factor (chain, draw); 0 for flat priors."""
        import xarray as xr

        h, several = self.history, self.grouping
        scale, priors = several.table.working.scale, several.parameter_priors
        beta = scale.beta(request.of(h.beta))
        density = priors["beta"].density(*beta.shape[2:])
        values = {
            "beta": np.array([density(one)[0] for one in beta.reshape(-1, *beta.shape[2:])]).reshape(
                beta.shape[:2]
            ),
            "Sigma": priors["Sigma"].log_density(scale.Sigma(request.of(h.Sigma)), "Sigma"),
        }
        for name, (_, Psi) in several.Psi(request.of(h.Psi)).items():
            values[name] = priors[name].log_density(Psi, name)
        return xr.Dataset({name: ((nt.CHAIN, nt.DRAW), value) for name, value in values.items()})

    def transform(self, new: NewRows, m: int, seed: int) -> dict[str, tuple[NDArray[np.int64], NDArray]]:
        """The missing values of new rows, by exact draws (joint/levels/new_rows.py)."""
        from bayesimp.joint.levels.new_rows import complete_new_rows

        return complete_new_rows(self, new, m, seed)

    def state(self) -> xr.Dataset:
        """The states of the chains, the kept draws, and the specification of the model."""
        state = run_state(self, KEPT, NOW)
        return state.assign_attrs(specification_state(self.model))

    @classmethod
    def restore(cls, model: JointNormal, tree: xr.DataTree, state: xr.Dataset) -> Self:
        """The run restored from a file, with chains and draws."""
        return cls._restored(model, tree, state, *read_state(state, LevelsDraws, KEPT, LevelsChain, NOW))

"""Blocks of the loop for variables of clusters: one value a cluster, the same in all its rows.

The model has one row for every cluster, with the means of the others' completed columns (kernels/cluster_level.py). Where
some rows of a cluster lack a value that others have, it is filled in from these, once.
"""

from __future__ import annotations

import numpy as np

from bayesimp.data.chained import ChainedTable
from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.kernels.cluster_level import (
    TOO_LARGE,
    WORDS,
    ClusterLevelState,
    cluster_level_step,
    initial_cluster_level_state,
)
from bayesimp.kernels.design_rows import cluster_values
from bayesimp.kernels.glm import NORMAL
from bayesimp.kernels.stratified import RegressionState
from bayesimp.samplers.fcs import Chain, Parameters, summed
from bayesimp.samplers.glmm import GeneralisedBlock
from bayesimp.samplers.single_level import FATAL, fatal

__all__ = ["ClusterLevelBlock"]


class ClusterLevelBlock(GeneralisedBlock):
    """`methods.ClusterLevel`."""

    words = {(-code if code >= FATAL else code): ("failed" if code >= FATAL else "weak prior", text)
             for code, text in WORDS.items()}  # fmt: skip

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        block, m = self.chained.block, table.clusters
        self.levels = max(len(block.levels), 2)
        at = self.chained.scale.intercept
        self.columns = [at, *(t for t in range(self.p) if t != at)] if at >= 0 else list(range(self.p))
        # values of rows that are not fitted are known, too, but teach nothing
        row_cluster = table.cells.cluster[table.row_cell]
        seen = ~self.rows.holes
        self.known = np.full(m, np.nan)
        self.known[row_cluster[seen]] = self.rows._read(table.start[seen, self.rows.column])
        self.y = np.full(m, np.nan)
        self.y[self.rows.cluster] = self.rows.y
        self.known[self.rows.cluster] = self.rows.y
        self.empty = np.isnan(self.known)
        self.filled = int((~self.empty[self.rows.hole_cluster]).sum())
        fitted = self.y[~np.isnan(self.y)]
        self.location, self.scale = (
            float(fitted.mean()),
            float(fitted.std(ddof=1)) if len(fitted) > 1 else 1.0,
        )

    def init(self, chain: Chain) -> Parameters:
        theta = super().init(chain)
        state = initial_cluster_level_state(self.code, self.p, self.levels)
        theta.own |= state.regression._asdict() | {"sigma2": state.sigma2, "accepted": np.zeros(2)}
        if self.code == NORMAL:
            theta.Sigma = np.ones((1, 1, 1))
        donors = self.y[~np.isnan(self.y)]
        self._put(chain, chain.rng.choice(donors, int(self.empty.sum())))
        return theta

    def _put(self, chain: Chain, values: np.ndarray) -> None:
        every = self.known.copy()
        every[self.empty] = values
        self.rows.put(chain.V, every[self.rows.hole_cluster])

    def step(self, chain: Chain, theta: Parameters) -> int:
        own = theta.own
        X = np.empty((self.table.clusters, self.p))
        cluster_values(self.rows.factors(chain.V), X)
        X = np.ascontiguousarray(X[:, self.columns])
        fitted = ~np.isnan(self.y)
        use = fitted | self.empty  # clusters of ignored rows have their value, and are not fitted
        state = ClusterLevelState(
            RegressionState(*(own[name] for name in RegressionState._fields)), own["sigma2"]
        )
        donors = getattr(self.chained.block.method, "donors", None) or 0
        draw = cluster_level_step(
            chain.rng, self.code, X[use], self.y[use], fitted[use], state, self.levels, self.location,
            self.scale, donors,
        )  # fmt: skip
        if draw.code & TOO_LARGE:
            raise SamplingError(
                f"'{self.chained.block.name}': {WORDS[TOO_LARGE]}. The cluster means of a predictor have too "
                "wide a range: take its logarithm, or leave it out."
            )
        if draw.code >= FATAL:
            return fatal(draw.code)
        theta.beta[self.columns] = draw.beta
        if self.code == NORMAL:
            theta.Sigma[0, 0, 0] = draw.sigma2
        if self.aux:
            own["aux"] = draw.aux.copy()
            self._keep_aux(theta)
        if np.isfinite(draw.accepted):
            own["accepted"] += draw.accepted, 1.0
        self._put(chain, draw.values)
        return int(draw.code)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        name, out = self.chained.block.name, []
        if self.filled:
            text = "rows filled in with the value that other rows of their cluster have"
            out.append(Event("known in the cluster", name, text, self.filled))
        accepted = summed(thetas, "accepted")
        if accepted[1]:
            text = f"accepted by Metropolis steps: {accepted[0] / accepted[1]:.0%} of regressions"
            out.append(Event("acceptance", name, text, 1))
        return out

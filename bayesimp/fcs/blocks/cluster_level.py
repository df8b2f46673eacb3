"""Blocks for cluster-level variables, which have the same value in all rows of a cluster.

The model has one row per cluster, with cluster means of the other variables' completed columns
(kernels/glm/cluster_level.py). If only some rows of a cluster lack the value, it is filled in once from the others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import BEYOND, Chain, Parameters, summed, without_limits
from bayesimp.fcs.blocks.glmm import GeneralisedBlock
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.blocks.single_level import FATAL, fatal
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.rows import cluster_values
from bayesimp.kernels.glm.cluster_level import (
    TOO_LARGE,
    WORDS,
    ClusterLevelState,
    cluster_level_step,
    initial_cluster_level_state,
)
from bayesimp.kernels.glm.density import NORMAL
from bayesimp.kernels.glm.regression import RegressionState

__all__ = ["ClusterLevelBlock"]


class ClusterLevelBlock(GeneralisedBlock):
    """`methods.ClusterLevel`."""

    words = {
        **{(-code if code >= FATAL else code): ("failed" if code >= FATAL else "weak prior", text)
           for code, text in WORDS.items()},
        **GeneralisedBlock.words,
    }  # fmt: skip

    no_prior = "its weak priors are fixed (location and scale of the observed values), and their density is not computed"

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why clusters have none."""
        if self.method.donors:
            return "it imputes values of donors and has no distribution of the response"
        return without_limits(self.chained)

    @cached_property
    def fitted_rows(self) -> BlockRows:  # type: ignore[override]
        """The first row of the table in each cluster where the value is observed."""
        cluster = self.rows.cluster
        order = np.lexsort([self.rows.places()[: len(cluster)], cluster])
        return self.rows.restricted(order[np.unique(cluster[order], return_index=True)[1]])

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Linear predictors (clusters with a value, r); of a normal variable also the residual sd."""
        rows = self.fitted_rows
        eta = self._cluster_columns(chain)[rows.cluster] @ theta.beta
        return rows, eta, np.full(len(eta), np.sqrt(theta.Sigma[0, 0, 0])) if self.code == NORMAL else None

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """The same parameters, because clusters have no effects in a model of clusters."""
        return theta

    def _cluster_columns(self, chain: Chain) -> np.ndarray:
        X = np.empty((self.table.clusters, self.p))
        cluster_values(self.rows.factors(chain.V), X)
        return X

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        block, m = self.chained.block, table.clusters
        self.levels = max(len(block.levels), 2)
        at = self.chained.scale.intercept
        self.columns = [at, *(t for t in range(self.p) if t != at)] if at >= 0 else list(range(self.p))
        # values in rows that are not fitted are also known, but not used in the fit
        row_cluster = table.cells.cluster[table.row_cell]
        seen = ~self.rows.holes
        self.known = np.full(m, np.nan)
        self.known[row_cluster[seen]] = self.rows.read(table.start[seen, self.rows.column])
        self.y = np.full(m, np.nan)
        self.y[self.rows.cluster] = self.rows.y
        self.known[self.rows.cluster] = self.rows.y
        self.empty = np.isnan(self.known)
        self.filled = int((~self.empty[self.rows.hole_cluster]).sum())
        self.trials = np.ones(m)
        self.trials[self.rows.cluster], self.trials[self.rows.hole_cluster] = (
            self.rows.trials,
            self.rows.hole_trials,
        )
        self.location, self.scale = self._location_and_scale(self.y[~np.isnan(self.y)])
        self.between = None
        if self.bounds is not None:  # a cluster's value respects the bounds of all its rows
            lower, upper = np.full(m, -np.inf), np.full(m, np.inf)
            np.maximum.at(lower, self.rows.hole_cluster, self.bounds[0])
            np.minimum.at(upper, self.rows.hole_cluster, self.bounds[1])
            self.between = lower[self.empty], upper[self.empty]
        # rows to be imputed whose value is drawn; the others take the value of their cluster
        self.drawn = np.zeros(len(self.rows.holes), dtype=bool)
        self.drawn[np.flatnonzero(self.rows.holes)[self.empty[self.rows.hole_cluster]]] = True

    def _location_and_scale(self, y: np.ndarray) -> tuple[float, float]:
        """Location and scale for priors of families with an identity or log link; otherwise 0 and 1."""
        family = self.chained.block.distribution
        if not (family.is_standardised or family.has_log_link):
            return 0.0, 1.0
        logs = family.has_log_link
        seen = np.log(y + 0.5 * family.is_count) if logs else y
        sd = float(seen.std(ddof=1)) if len(seen) > 1 else 0.0
        mean = float(np.log(max(y.mean(), 0.5 / len(y))) if logs else y.mean())
        return mean, sd if sd > 0 else 1.0

    def init(self, chain: Chain) -> Parameters:
        """The initial regression; empty clusters get values drawn from the observed ones."""
        theta = super().init(chain)
        state = initial_cluster_level_state(self.code, self.p, self.levels)
        theta.own |= state.regression._asdict()
        theta.own |= {"sigma2": state.sigma2, "coefficients": state.beta, "accepted": np.zeros(2)}
        if self.code == NORMAL:
            theta.Sigma = np.ones((1, 1, 1))
        donors = self.y[~np.isnan(self.y)]
        self._put(chain, chain.rng.choice(donors, int(self.empty.sum())))
        return theta

    def _put(self, chain: Chain, values: np.ndarray) -> None:
        every = self.known.copy()
        every[self.empty] = values
        self.rows.put(chain.V, every[self.rows.hole_cluster])

    def _shift_of_clusters(self) -> np.ndarray | float:
        """The shift of clusters without a known value, (clusters, r); it is the same in all rows of a cluster."""
        if isinstance(self.shift, float):
            return self.shift
        of_cluster = np.zeros((self.table.clusters, self.shift.shape[1]))
        of_cluster[self.rows.hole_cluster] = self.shift
        return of_cluster[self.empty]

    def _present(self, chain: Chain) -> np.ndarray:
        """The current values of clusters without a known value."""
        rows, now = self.rows, np.full(self.table.clusters, np.nan)
        now[rows.hole_cluster] = rows.read(chain.V[np.flatnonzero(rows.holes), rows.column])
        return now[self.empty]

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A regression with one row per cluster, then draws for clusters without a value."""
        own = theta.own
        X = np.ascontiguousarray(self._cluster_columns(chain)[:, self.columns])
        fitted = ~np.isnan(self.y)
        use = fitted | self.empty  # clusters of ignored rows have a value but are not fitted
        regression = RegressionState(*(own[name] for name in RegressionState._fields))
        state = ClusterLevelState(regression, own["sigma2"], own["coefficients"])
        donors = self.method.donors or 0
        draw = cluster_level_step(
            chain.rng, self.code, X[use], self.y[use], fitted[use], state, self.levels, self.location,
            self.scale, donors, trials=self.trials[use], bounds=self.between, shift=self._shift_of_clusters(),
        )  # fmt: skip
        too_large = bool(draw.code & TOO_LARGE)
        if too_large and (
            draw.code & ~TOO_LARGE >= FATAL or not chain.passing(self.chained.block.name, True)
        ):
            raise SamplingError(
                f"'{self.chained.block.name}': {WORDS[TOO_LARGE]}. The range of a predictor's cluster means is too "
                "wide. Take its logarithm, or leave it out."
            )
        if draw.code & ~TOO_LARGE >= FATAL:
            return fatal(draw.code)
        theta.beta[self.columns] = draw.beta
        if self.code == NORMAL:
            theta.Sigma[0, 0, 0] = draw.sigma2
        if self.aux:
            own["aux"] = draw.aux.copy()
            self._keep_aux(theta)
        if np.isfinite(draw.accepted):
            own["accepted"] += draw.accepted, 1.0
        self._put(
            chain,
            np.where(np.isfinite(draw.values), draw.values, self._present(chain))
            if too_large
            else draw.values,
        )
        return BEYOND | int(draw.code & ~TOO_LARGE) if too_large else int(draw.code)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Rows whose value was known from their cluster, and the acceptance rate of the Metropolis steps."""
        name, out = self.chained.block.name, []
        if self.filled:
            text = "rows filled in with the value of other rows in their cluster"
            out.append(Event("known in the cluster", name, text, self.filled))
        accepted = summed(thetas, "accepted")
        if accepted[1]:
            text = f"accepted by Metropolis steps: {accepted[0] / accepted[1]:.0%} of regressions"
            out.append(Event("acceptance", name, text, 1))
        return out

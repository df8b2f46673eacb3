"""Blocks for two-stage imputation (2STG): a regression in every cluster, then a meta-analysis of these.

The computation is in kernels/two_stage/draw.py. If too few clusters can be fitted separately in a visit, the block
draws from one regression of all clusters with weak normal priors (kernels/glm/regression.py), and counts this. Events
name the clusters that could not be fitted separately.
"""

from __future__ import annotations

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import Chain, Parameters, summed, without_limits
from bayesimp.fcs.blocks.glmm import GeneralisedBlock
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.moments import Terms
from bayesimp.kernels.chained.regression import match
from bayesimp.kernels.glm.density import NORMAL
from bayesimp.kernels.glm.regression import initial_regression_state, single_level_glm
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.two_stage.cluster_fits import FITTED
from bayesimp.kernels.two_stage.draw import (
    FAILED,
    TOO_FEW,
    VARIANCES,
    WORDS,
    TwoStageDraw,
    TwoStageState,
    initial_state,
    two_stage_step,
)
from bayesimp.kernels.two_stage.meta_analysis import MOMENTS, REML, SINGULAR
from bayesimp.messages import listing
from bayesimp.methods import TwoStage

__all__ = ["TwoStageBlock"]

TOGETHER = 1024  # code besides those of the kernel


class TwoStageBlock(GeneralisedBlock):
    """`methods.TwoStage`. Columns that vary only between clusters belong to the second stage."""

    # equal residual variances are not an event
    words = {
        code: ("meta-analysis", text)
        for code, text in WORDS.items()
        if code not in (TOO_FEW, VARIANCES * SINGULAR)
    }
    words |= GeneralisedBlock.words
    words[-TOO_FEW] = "failed", WORDS[TOO_FEW]
    no_prior = "its parameters come from a meta-analysis of regressions, without a prior"
    words[TOGETHER] = (
        "clusters together",
        "too few clusters could be fitted separately, or cluster-level columns were dependent: drawn from one "
        "regression of all clusters, with weak normal priors. 'bayes' fits them jointly and lets them differ",
    )
    method: TwoStage

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        block, rows = self.chained.block, self.rows
        within = [t for t, column in enumerate(block.fixed) if column in block.random]
        between = [t for t in range(self.p) if t not in within]
        self.advice = (
            f"Each cluster has {len(within)} separate coefficients and needs more rows than that in which all "
            "predictors vary. Leave out predictors, or use 'bayes', which fits all clusters jointly."
        )
        # the kernel expects the intercept first
        at = self.chained.scale.intercept
        within.remove(at)
        within.insert(0, at)
        random = [c for c in block.fixed if c in block.random]
        self.place = np.array([random.index(block.fixed[t]) for t in within])
        self.within, self.between = np.array(within), np.array(between, dtype=np.int64)
        self.terms, self.cluster_terms = self._terms(self.within), self._terms(self.between)
        # rows where the response is observed, then those to be imputed; one row for each cluster
        self.source = np.concatenate([rows.source, rows.hole_source])
        self.cluster = np.concatenate([rows.cluster, rows.hole_cluster])
        self.clusters, self.one = np.unique(self.cluster, return_index=True)
        self._none = np.empty((len(rows.y), 0))

    def _terms(self, which: np.ndarray) -> Terms:
        terms = self.chained.terms
        return terms._replace(base=terms.base[which])

    def init(self, chain: Chain) -> Parameters:
        """Initial parameters: zero coefficients, and the initial state of fits and meta-analysis."""
        m, p = self.table.clusters, len(self.within)
        Sigma = np.ones((m, 1, 1)) if self.code == NORMAL else np.zeros((0, 0, 0))
        own = {
            "aux": np.ones(0), "failed": np.zeros((m, len(FAILED)), dtype=np.int64), "accepted": np.zeros(2),
            **initial_state(m, p)._asdict(),
        }  # fmt: skip
        return Parameters(np.zeros((self.p, 1)), Sigma, np.zeros((p, p)), np.zeros((m, p, 1)), own)

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why rows have none."""
        if self.method.donors is not None:
            return "it imputes values of donors and has no distribution of the response"
        return without_limits(self.chained)

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Linear predictors (n, 1) from each cluster's coefficients; of a normal variable also the residual sd."""
        rows = self.rows
        _, Z = rows.observed(chain.V, rows.factors(chain.V))
        eta = np.einsum("jx,jx->j", Z, theta.B[rows.cluster, :, 0])[:, None]
        return rows, eta, np.sqrt(theta.Sigma[rows.cluster, 0, 0]) if self.code == NORMAL else None

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """Refused: coefficients of new clusters are not drawn."""
        raise SpecificationError("coefficients of new clusters are not drawn; use new_clusters=False")

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A fit in each cluster, a meta-analysis, draws for each cluster, then draws of the missing values."""
        f = self.rows.factors(chain.V)
        own = theta.own
        X = self._columns(chain.V, f, self.within, self.terms, self.source, self.cluster)
        T = np.zeros((self.table.clusters, len(self.between)))
        if len(self.between):
            T[self.clusters] = self._columns(
                chain.V, f, self.between, self.cluster_terms, self.source[self.one], self.clusters
            )
        n = len(self.rows.y)
        rows = GlmmRows(
            self.code, self.rows.y, self.rows.trials, *self._constants, X[:n], self._none, self.rows.first
        )
        state = TwoStageState(own["fits"], own["effects"], own["log_sigma2"])
        method = REML if self.method.estimator == "reml" else MOMENTS
        draw = two_stage_step(chain.rng, rows, T, state, method, self.method.published)
        if draw.status.max() > FITTED:
            for k, status in enumerate(FAILED):
                own["failed"][:, k] += draw.status == status
        if np.isfinite(draw.accepted):
            own["accepted"] += draw.accepted, 1.0
        if draw.code & TOO_FEW:
            together = self._together(chain, rows, T, draw.status)
            if together is None:
                return -TOO_FEW
            draw = together
        theta.beta[self.within, 0] = draw.beta[: len(self.within)]
        theta.beta[self.between, 0] = draw.beta[len(self.within) :]
        theta.Psi[self.place[:, None], self.place] = draw.L @ draw.L.T
        theta.B[:, self.place, 0] = draw.coefficients
        if self.code == NORMAL:
            theta.Sigma[:, 0, 0] = draw.sigma2
        return int(draw.code) | self._impute(chain, theta, rows, X[n:], draw)

    def _together(
        self, chain: Chain, rows: GlmmRows, T: np.ndarray, status: np.ndarray
    ) -> TwoStageDraw | None:
        """Draws from one regression of all clusters, in the form of the two stages; None if it fails."""
        p, m = rows.X.shape[1], len(T)
        whole = rows._replace(X=np.ascontiguousarray(np.hstack([rows.X, T[self.rows.cluster]])))
        made = single_level_glm(chain.rng, whole, 2, initial_regression_state(self.code, whole.X.shape[1]))
        if not made.drawn:
            return None
        drawn, estimated = (
            np.tile(beta[:p, 0], (m, 1)) + np.eye(1, p) * (T @ beta[p:])
            for beta in (made.beta, made.estimated_beta)
        )
        sigma2 = np.full(m if self.code == NORMAL else 0, made.sigma2)
        none = np.empty(0)
        return TwoStageDraw(
            drawn, sigma2, estimated, status, np.nan, made.beta[:, 0], np.zeros((p, p)), none, TOGETHER
        )

    def _columns(
        self,
        V: np.ndarray,
        f: np.ndarray,
        which: np.ndarray,
        terms: Terms,
        source: np.ndarray,
        cluster: np.ndarray,
    ) -> np.ndarray:
        return self.rows.columns(V, np.ascontiguousarray(f[:, which]), terms, source, cluster)

    def _impute(
        self, chain: Chain, theta: Parameters, rows: GlmmRows, X: np.ndarray, draw: TwoStageDraw
    ) -> int:
        coefficients = draw.coefficients[self.rows.hole_cluster]
        eta = np.einsum("jx,jx->j", X, coefficients)[:, None]
        if self.code != NORMAL:
            return self.draw(chain, theta, X, eta, coefficients, self.within)
        if self.method.donors is None:
            drawn = self.draw_normal(chain, eta[:, 0], np.sqrt(draw.sigma2)[self.rows.hole_cluster])
        else:
            drawn = np.empty(len(X))
            predicted = (rows.X * draw.estimated[self.rows.cluster]).sum(axis=1)
            match(chain.rng, predicted, rows.y, eta[:, 0] + self.mean_shift, self.method.donors, drawn)
        self.rows.put(chain.V, drawn)
        return 0

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Events that name the clusters that could not be fitted separately, and an acceptance rate."""
        name, data = self.chained.block.name, []
        failed = summed(thetas, "failed")
        labels = self.table.grouping.labels
        then = (
            "drawn as if without observed values, as published"
            if self.method.published
            else "drawn from their rows and the other clusters"
        )
        for k, why in enumerate(FAILED.values()):
            where = np.flatnonzero(failed[:, k])
            if len(where):
                clusters = listing([labels[self.table.order[i]] for i in where], 40)
                data.append(
                    Event("cluster not fitted", name, f"{clusters}: {why}; {then}", int(failed[:, k].sum()))
                )
        accepted = summed(thetas, "accepted")
        if accepted[1]:
            text = f"accepted by Metropolis steps: {accepted[0] / accepted[1]:.0%} of effects of clusters not fitted"
            data.append(Event("acceptance", name, text, 1))
        return data

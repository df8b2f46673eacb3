"""Blocks for regressions with fixed cluster terms, or without cluster terms.

These are stratified imputation (STI) and single-level generalised models: kernels/glm/regression.py.
"""

from __future__ import annotations

import numpy as np

from bayesimp.errors import SpecificationError
from bayesimp.fcs.blocks.base import Chain, Parameters, without_limits
from bayesimp.fcs.blocks.glmm import GeneralisedBlock
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.regression import match
from bayesimp.kernels.glm.density import NORMAL
from bayesimp.kernels.glm.regression import (
    WEAK,
    WORDS,
    RegressionState,
    initial_regression_state,
    single_level_glm,
    stratified_step,
)

__all__ = ["FATAL", "SingleLevelBlock", "StratifiedBlock", "fatal"]

FATAL = 4  # codes of at least this mean that nothing was drawn


def fatal(code: int) -> int:
    """The first reason why nothing was drawn, as a negative code."""
    reasons = int(code) & -FATAL
    return -(reasons & -reasons)


class SingleLevelBlock(GeneralisedBlock):
    """`methods.SingleLevel`, which has no cluster terms."""

    words = {
        **{(-code if code >= FATAL else code): ("failed" if code >= FATAL else "weak prior", text)
           for code, text in WORDS.items()},
        **GeneralisedBlock.words,
    }  # fmt: skip
    holds = frozenset(-code for code in WORDS if code >= FATAL)
    stratified = False
    no_prior = (
        "its parameters are drawn around a fit, under a flat prior or a weak one where there is no other"
    )

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why rows have none."""
        if self.donors is not None:
            return "it imputes values of donors and has no distribution of the response"
        return without_limits(self.chained)

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Linear predictors (n, r); of a normal variable, means on the working scale and the residual sd."""
        rows = self.rows
        X, _ = rows.observed(chain.V, rows.factors(chain.V))
        eta = X @ theta.beta + theta.B[rows.cluster, 0]
        return rows, eta, np.full(len(eta), np.sqrt(theta.Sigma[0, 0, 0])) if self.code == NORMAL else None

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """Not of stratified models, whose clusters have no distribution."""
        if self.stratified:
            raise SpecificationError("its clusters have fixed effects, and new clusters have none")
        return theta

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.donors = self.method.donors
        self.levels = max(len(self.chained.block.levels), 2)
        at = self.chained.scale.intercept
        self.columns = [at, *(t for t in range(self.p) if t != at)] if at >= 0 else list(range(self.p))

    def init(self, chain: Chain) -> Parameters:
        """The initial regression, with an intercept per cluster if stratified."""
        theta = super().init(chain)
        m = self.table.clusters
        state = initial_regression_state(self.code, self.p, self.levels, m if self.stratified else 0)
        theta.own |= state._asdict()
        theta.B = np.zeros((m, 1, self.r))
        if self.code == NORMAL:
            theta.Sigma = np.ones((1, 1, 1))
        return theta

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A draw of the regression, then draws of the missing values."""
        f, own = self.rows.factors(chain.V), theta.own
        rows = self.observed(chain.V, f)
        rows = rows._replace(X=np.ascontiguousarray(rows.X[:, self.columns]))
        state = RegressionState(*(own[name] for name in RegressionState._fields))
        draw = (stratified_step if self.stratified else single_level_glm)(chain.rng, rows, self.levels, state)
        if not draw.drawn:
            return fatal(draw.code)
        theta.beta[self.columns], theta.B = draw.beta, draw.B
        if self.aux:
            own["aux"] = draw.aux.copy()
            self._keep_aux(theta)
        X, _ = self.rows.missing(chain.V, f)
        X = np.ascontiguousarray(X[:, self.columns])
        eta = X @ draw.beta + draw.B[self.rows.hole_cluster, 0]
        if self.code != NORMAL:
            return int(draw.code & WEAK) | self.draw(chain, theta, X, eta, draw.beta[:, 0], self.columns)
        theta.Sigma[0, 0, 0] = draw.sigma2
        if self.donors is None:
            drawn = self.draw_normal(chain, eta[:, 0], np.sqrt(draw.sigma2))
        else:
            drawn = np.empty(len(eta))
            predicted = rows.X @ draw.estimated_beta[:, 0] + draw.estimated_B[self.rows.cluster, 0, 0]
            match(chain.rng, predicted, rows.y, eta[:, 0] + self.mean_shift, self.donors, drawn)
        self.rows.put(chain.V, drawn)
        return int(draw.code & WEAK)


class StratifiedBlock(SingleLevelBlock):
    """`methods.Stratified`, with a fixed effect for every cluster."""

    stratified = True

"""Blocks of variables that are not normal with effects of several grouping factors (fcs/blocks/levels.py).

Other families have one update of kernels/glmm/gibbs.py for each factor in turn, the effects of the others being offsets.
Its moves draw (u_s | beta), (beta | u_s), and move beta and u_s together with X beta + u_s unchanged: for crossed factors
the intercept is centred again with every factor, which the sampler of Papaspiliopoulos, Roberts & Zanella (2020) does by
integrating it out. For a factor s nested in t, what the data see is little more than the sum of both, so that an exact
move shifts between their intercepts (kernels/levels/nested.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesimp.fcs.blocks.base import Chain, Parameters
from bayesimp.fcs.blocks.glmm import BayesGlmm
from bayesimp.fcs.blocks.levels import FactorBlock
from bayesimp.fcs.table import ChainedTable
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.kernels.chained.rows import linear_predictors
from bayesimp.kernels.glmm.gibbs import glmm_step
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.kernels.levels.nested import parents, shift_between

__all__ = ["LevelsGlmm"]

Array = NDArray[np.float64]


class LevelsGlmm(FactorBlock, BayesGlmm):
    """A variable of another family with one linear predictor (`methods.Gibbs`)."""

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        groups = self.factors.rows
        self.order = [np.argsort(codes, kind="stable") for codes in groups.observed.T]
        self.first = [
            np.searchsorted(codes[order], np.arange(n + 1)).astype(np.int64)
            for codes, order, n in zip(groups.observed.T, self.order, groups.numbers, strict=True)
        ]
        self.all_priors = [self.prior, *(self.prior._replace(Psi=u) for u in self.factors.updates)]
        self.ones = np.ones((len(self.rows.y), 1))
        names = [column.name for column in self.chained.block.random]
        self.intercept = names.index(INTERCEPT) if INTERCEPT in names else -1
        factors = self.chained.block.factors
        self.nested = [
            (s, t, parents(groups.observed[:, s], groups.observed[:, t], groups.numbers[s]))
            for s, child in enumerate(factors)
            for t, parent in enumerate(factors)
            if s != t and child.groups.within(parent.groups) and (self.intercept >= 0 or 0 not in (s, t))
        ]

    def merged(self, V: Array, f: Array) -> GlmmRows:
        """The rows as they are: their offsets differ."""
        return self.observed(V, f)

    def init(self, chain: Chain) -> Parameters:
        """The start of a model with the primary clusters; no effects of other factors."""
        self.rows.start(chain)
        theta = super().init(chain)
        self.factors.start(chain, theta)
        return theta

    def _state(self, theta: Parameters) -> tuple[list[Array], list[Array]]:
        """Psi and effects by factor; changed in place."""
        S = range(1, len(self.order))
        return [theta.Psi, *(theta.own[f"Psi_{s}"] for s in S)], [
            theta.B, *(theta.own[f"effects_{s}"] for s in S)
        ]  # fmt: skip

    def step(self, chain: Chain, theta: Parameters) -> int:
        """Updates of every factor given the others, then a fill."""
        f = self.rows.factors(chain.V)
        X, Z = self.rows.observed(chain.V, f)
        given = [self._sorted(s, X, Z if s == 0 else self.ones) for s in range(len(self.order))]
        Psis, effects = self._state(theta)
        for _ in range(self.updates):
            for s, (prior, rows, order) in enumerate(zip(self.all_priors, given, self.order, strict=True)):
                others = self._others(theta, s, Z)[order]
                code = glmm_step(
                    chain.rng, rows._replace(offset=others), 1, prior, theta.beta, theta.own["aux"], Psis[s], effects[s],
                    theta.own["tallies"],
                )  # fmt: skip
                if code:
                    return -code
            self._shift_between(chain, Psis, effects)
        self._keep_aux(theta)
        self.factors.keep(theta)
        return self.fill(chain, theta, f)

    def _sorted(self, s: int, X: Array, Z: Array) -> GlmmRows:
        order, (ones, zeros) = self.order[s], self._constants
        rows = self.rows
        return GlmmRows(
            self.code, rows.y[order], rows.trials[order], ones, zeros, X[order], Z[order], self.first[s]
        )

    def _others(self, theta: Parameters, s: int, Z: Array) -> Array:
        """(n,) what the effects of all factors but s add to the rows, sorted by primary cluster."""
        codes = self.factors.rows.observed
        added = self.factors.added(theta, codes, without=s)
        return added if s == 0 else added + np.einsum("jl,jl->j", Z, theta.B[codes[:, 0], :, 0])

    def _shift_between(self, chain: Chain, Psis: Sequence[Array], effects: Sequence[Array]) -> None:
        """The exact move between the intercepts of nested factors."""
        for s, t, parent in self.nested:
            at = (self.intercept if s == 0 else 0), (self.intercept if t == 0 else 0)
            moved = effects[s][:, :, 0], effects[t][:, :, 0]
            shift_between(chain.rng, (Psis[s], Psis[t]), moved, at, parent)

    def fill(self, chain: Chain, theta: Parameters, f: Array) -> int:
        """Draw the missing values from the model at theta; 0 or `BEYOND`."""
        X, Z = self.rows.missing(chain.V, f)
        eta = linear_predictors(X, Z, self.rows.hole_cluster, theta.beta, theta.B)
        return self.draw(chain, theta, X, eta + self.factors.added(theta, self.factors.rows.missing)[:, None])

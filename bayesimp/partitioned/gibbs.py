"""Gibbs chains that keep the imputed means and standard deviations of the whole table instead of every cluster.

With n_i missing values in cluster i, mean a_i and standard deviation s_i drawn for them, n = sum_i n_i,

    a = sum_i n_i a_i / n,    s^2 = (sum_i (n_i - 1) s_i^2 + sum_i n_i (a_i - a)^2) / (n - 1)

The chains are those of `bayesimp.joint.gibbs.GibbsTask`, number for number; 10,000 clusters would need 160 kB a draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from bayesimp.joint.gibbs import GibbsTask, JointDraws, NormalChainState
from bayesimp.joint.scale import Scale
from bayesimp.notation import Array

__all__ = ["WholeTableTask", "on_data_scale"]

NUMBERS = 1_000_000  # numbers of clusters kept at a time


class WholeTableTask(GibbsTask):
    """Iterations of the Gibbs sampler; mean and sd of the draws are (chains, D, 1, r)."""

    @cached_property
    def missing(self) -> Array:
        """(m, r) missing values of each cluster and response."""
        st = self.working.statistics
        out = np.zeros((st.clusters, st.r))
        np.add.at(out, st.cell_cluster, ~st.patterns[st.cell_pattern] * st.cell_rows[:, None])
        return out

    def room(self, chains: Sequence[NormalChainState], iterations: int) -> JointDraws:
        """Arrays for the draws of these chains."""
        st, shape = self.working.statistics, (len(chains), iterations // self.every)
        rq = st.r * st.q
        shapes = [(st.p, st.r), (st.r, st.r), (rq, rq), (1, st.r), (1, st.r)]
        return JointDraws(*(np.empty((*shape, *each)) for each in shapes))

    def advance(
        self, chain: NormalChainState, number: int, into: JointDraws | None, place: int, start: int, stop: int
    ) -> None:
        """Run iterations start .. stop-1 of a chain in place, some at a time."""
        if into is None:
            super().advance(chain, number, None, place, start, stop)
            return
        step = max(NUMBERS // self.missing.size, 1) * self.every
        for first in range(start, stop, step):
            last = min(first + step, stop)
            piece = super().room([chain], last - first)
            super().advance(chain, number, piece, 0, 0, last - first)
            self.put(into, place, first, self._whole(piece))

    def _whole(self, piece: JointDraws) -> JointDraws:
        n = self.missing
        total = n.sum(axis=0)
        some = n > 0
        a, s = np.where(some, piece.mean, 0.0), np.where(n > 1, piece.sd, 0.0)
        mean = (n * a).sum(axis=2, keepdims=True) / np.maximum(total, 1)
        squares = (np.maximum(n - 1, 0) * s**2 + n * (a - mean) ** 2).sum(axis=2, keepdims=True)
        sd = np.sqrt(squares / np.maximum(total - 1, 1))
        there = total > 0
        return JointDraws(
            piece.beta, piece.Sigma, piece.Psi, np.where(there, mean, np.nan), np.where(there, sd, np.nan)
        )


def on_data_scale(draws: JointDraws, scale: Scale) -> JointDraws:
    """The draws in the units of the data."""
    beta, Sigma, Psi = scale.beta(draws.beta), scale.Sigma(draws.Sigma), scale.Psi(draws.Psi)
    return JointDraws(beta, Sigma, Psi, draws.mean * scale.s, draws.sd * scale.s)

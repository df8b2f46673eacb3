"""Chained equations on cells, as a task of `bayesimp.sampling.executors`: one chain for each imputation.

    theta_k, B_k ~ g~_k( . | y_k observed, the others)     one transition of kernels/glmm/gibbs.py, on sums
    y_k missing  ~ g_k( . | the others, theta_k, B_k)      split of the cells

which is the loop of `bayesimp.fcs.loop` on counts. A cycle costs the same for any number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.fcs.blocks.base import Parameters
from bayesimp.fcs.history import History
from bayesimp.kernels.glmm.gibbs import FAILURES, glmm_start, glmm_step, new_tallies
from bayesimp.notation import Array
from bayesimp.partitioned.blocks import CountBlock, CountTable
from bayesimp.partitioned.cells import CountCells, merged, moments, split_by_shares
from bayesimp.sampling.chains import chain_rng

__all__ = ["CountChain", "CountCycles"]


@dataclass
class CountChain:
    """One imputation in progress: its cells and, for each visit, the parameters of the block."""

    rng: np.random.Generator
    cells: CountCells
    theta: list[Parameters]
    cycles: int = 0


@dataclass(frozen=True)
class CountCycles:
    """Cycles of chained equations on a table of counts."""

    counts: CountTable
    seed: int

    @property
    def light(self) -> bool:
        """Most of a step is Python below some thousand cells, and threads would wait for each other."""
        return len(self.counts.cells.n) < 5_000

    def start(self, number: int) -> CountChain:
        """Chain `number`: missing values from the observed ones of the cluster; a dispersed start of parameters."""
        counts, rng = self.counts, chain_rng(self.seed, number)
        cells = counts.cells
        for k in range(counts.missing.shape[1]):
            cells = _from_observed(counts, rng, cells, k)
        made: dict[str, Parameters] = {}
        for block in counts.blocks:
            if block.name not in made:
                made[block.name] = _started(counts, block, rng, cells)
        return CountChain(rng, cells, [made[block.name] for block in counts.blocks])

    def room(self, chains: Sequence[CountChain], iterations: int) -> History:
        """Arrays for these cycles; mean and sd of imputed values are those of all clusters, (chains, cycles, 1, K)."""
        n, K = len(chains), self.counts.missing.shape[1]
        blocks = [
            {name: np.empty((n, iterations, *value.shape)) for name, value in theta.kept().items()}
            for theta in chains[0].theta
        ]
        return History(blocks, np.empty((n, iterations, 1, K)), np.empty((n, iterations, 1, K)))

    def advance(
        self, chain: CountChain, number: int, into: History, place: int, start: int, stop: int
    ) -> None:
        """Run cycles start .. stop-1 of a chain, in place."""
        counts = self.counts
        for t in range(start, stop):
            for b, (block, theta) in enumerate(zip(counts.blocks, chain.theta, strict=True)):
                rows = block.rows(counts, chain.cells)
                code = glmm_step(
                    chain.rng, rows, block.updates, block.prior, theta.beta, theta.own["aux"], theta.Psi, theta.B,
                    theta.own["tallies"],
                )  # fmt: skip
                if code:
                    raise SamplingError(
                        f"Imputation {number}, cycle {chain.cycles + 1}, '{block.name}': {FAILURES[code]}."
                    )
                chain.cells = block.fill(counts, chain.rng, chain.cells, theta.beta, theta.B)
                for name, value in theta.kept().items():
                    into.blocks[b][name][place, t] = value
            for k in range(counts.missing.shape[1]):
                own = chain.cells.some(counts.missing[chain.cells.kind, k])
                mean, sd = moments(own, counts.values(k, own.y[:, k]))
                into.mean[place, t, 0, k], into.sd[place, t, 0, k] = mean, sd
            chain.cycles += 1

    def put(self, into: History, place: int, start: int, piece: History) -> None:
        """Copy the cycles of one chain into the history of all."""
        into.put(place, start, piece)


def _from_observed(counts: CountTable, rng: np.random.Generator, cells: CountCells, k: int) -> CountCells:
    """Missing values of variable k drawn from the observed ones of their cluster, of all if it has none."""
    holes = counts.missing[cells.kind, k]
    if not holes.any():
        return cells
    observed = counts.cells.some(~counts.missing[:, k])
    shares: Array = np.zeros((counts.table.clusters, int(observed.y[:, k].max()) + 1))
    np.add.at(shares, (counts.cluster[observed.kind], observed.y[:, k]), observed.n)
    shares[shares.sum(axis=1) == 0] = shares.sum(axis=0)
    shares /= shares.sum(axis=1, keepdims=True)
    open_ = merged(cells.some(holes), k)
    drawn = split_by_shares(rng, open_, k, shares[counts.cluster[open_.kind]])
    return cells.some(~holes).joined(drawn)


def _started(
    counts: CountTable, block: CountBlock, rng: np.random.Generator, cells: CountCells
) -> Parameters:
    p, q = len(block.chained.block.fixed), len(block.chained.block.random)
    known = block.Psi.known_value
    own = {"aux": np.zeros(0), "tallies": new_tallies()}
    theta = Parameters(
        np.zeros((p, 1)), Psi=np.zeros((q, q)) if known is None else known.copy(),
        B=np.zeros((counts.table.clusters, q, 1)), own=own,
    )  # fmt: skip
    code = glmm_start(rng, block.rows(counts, cells), block.prior, theta.beta, own["aux"], theta.Psi, theta.B)
    if code:
        raise SamplingError(f"'{block.name}', at the start: {FAILURES[code]}.")
    return theta

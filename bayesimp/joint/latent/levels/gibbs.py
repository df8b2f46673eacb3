"""Chains of the joint model on latent normals with several grouping factors as tasks of an executor, and their draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.gibbs import failed
from bayesimp.joint.latent.gibbs import starting_cutpoints
from bayesimp.joint.latent.levels.table import LatentLevelsTable
from bayesimp.joint.strided import StridedDraws, StridedTask
from bayesimp.kernels.latent.level_records import LevelsKept, LevelsPriors, LevelsState
from bayesimp.kernels.latent.levels import latent_levels_gibbs
from bayesimp.sampling.chains import chain_rng

__all__ = ["LatentLevelsChain", "LatentLevelsDraws", "LatentLevelsTask", "WorkingPriors"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WorkingPriors:
    """Priors on the working scale, as read by the kernel, and starting values of chains.

    Sigma_start (r, r) and one Psi_start (w_s, w_s) per factor: known values, nan where a chain starts at random.
    """

    for_kernel: LevelsPriors
    Sigma_start: Array
    Psi_start: tuple[Array, ...]


@dataclass
class LatentLevelsChain:
    """The state of a chain, sufficient to continue it exactly: `LevelsState`, on the working scale, and its generator."""

    Y: Array
    cutpoints: Array
    beta: Array
    b: Array
    Sigma: Array
    Psi: Array
    V: Array
    group_cutpoints: Array
    gamma: Array
    rng: np.random.Generator

    @property
    def state(self) -> LevelsState:
        """The part that the kernel changes in place."""
        return LevelsState(*(getattr(self, name) for name in LevelsState._fields))


@dataclass(frozen=True)
class LatentLevelsDraws(StridedDraws):
    """Kept draws on the working scale, chains first: the arrays of `bayesimp.kernels.latent.level_records.LevelsKept`.

    mean and sd of the missing values by primary cluster and incomplete variable, and cells, are in the units of the data.
    """

    beta: Array
    Sigma: Array
    Psi: Array
    cutpoints: Array
    gamma: Array
    group_cutpoints: Array
    mean: Array
    sd: Array
    group_mean: Array
    group_sd: Array
    b: Array
    cells: Array


@dataclass(frozen=True)
class LatentLevelsTask(StridedTask):
    """Iterations of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    table, priors
        The table and priors as read by the sampler.
    every
        One in `every` iterations is kept.
    stride
        Cells are kept for one in `stride` kept draws.
    effects
        Whether the effects of all groups are kept.
    """

    table: LatentLevelsTable
    priors: WorkingPriors
    every: int = 1
    stride: int = 1
    effects: bool = False

    @property
    def counted(self) -> int:
        """The number of missing cells."""
        return self.table.counted

    def start(self, seed: int, chain: int) -> LatentLevelsChain:
        """Chain `chain` at its dispersed start: no effects, no correlations, random scales."""
        rng, table = chain_rng(seed, chain), self.table
        r, groups = table.Y.shape[1], table.groups
        known = self.priors.Sigma_start
        Sigma = np.where(np.isnan(known), np.diag(np.exp(rng.normal(0.0, 0.5, r))), known)
        Psi = []
        for own in self.priors.Psi_start:
            drawn = np.diag(np.exp(rng.normal(-1.5, 1.0, len(own))))
            Psi.append(np.ravel(np.where(np.isnan(own), drawn, own)))
        record = groups.record
        return LatentLevelsChain(
            table.Y.copy(), starting_cutpoints(table.variables, table.rows.level, 0),
            np.zeros((table.rows.X.shape[1], r)), np.zeros(int(table.factors.effect_at[-1])), Sigma, np.concatenate(Psi),
            groups.V.copy(), starting_cutpoints(groups.variables, record.level.rows.level, groups.before),
            np.zeros(record.coefficient.shape), rng,
        )  # fmt: skip

    def room(self, chains: Sequence[LatentLevelsChain], iterations: int) -> LatentLevelsDraws:
        """Arrays for the draws of these chains."""
        table, D, c = self.table, iterations // self.every, len(chains)
        r, m, groups = table.Y.shape[1], int(table.factors.number[0]), table.groups
        V, V2 = len(table.incomplete), len(groups.incomplete)
        of_rows, of_groups = int(table.columns.cut[-1]), int(groups.record.level.columns.cut[-1])
        shapes = (
            (D, table.rows.X.shape[1], r), (D, r, r), (D, int(table.factors.psi_at[-1])), (D, of_rows),
            (D, *groups.record.coefficient.shape), (D, of_groups), (D, m, V), (D, m, V), (D, m, V2), (D, m, V2),
            (D if self.effects else 0, int(table.factors.effect_at[-1])), (D // self.stride, table.counted),
        )  # fmt: skip
        return LatentLevelsDraws(*(np.empty((c, *shape)) for shape in shapes))

    def advance(
        self, chain: LatentLevelsChain, number: int, into: LatentLevelsDraws | None, place: int, start: int, stop: int
    ) -> None:  # fmt: skip
        """Run iterations start .. stop - 1 of a chain in place; without `into` (warm-up) nothing is kept.

        Raises
        ------
        SamplingError
            The chain reached a state from which it cannot continue; the message says what failed.
        """
        every, slots = self.slots(chain, into, place, start, stop)
        table, m = self.table, self.table.moments
        # the latent part belongs to the chain
        own = m._replace(XY=m.XY.copy(), YY=m.YY.copy(), ZY=m.ZY.copy())
        code = latent_levels_gibbs(
            chain.rng, stop - start, every, self.stride, own, table.level, table.groups.record, table.factors,
            table.chains, self.priors.for_kernel, chain.state, LevelsKept(*slots),
        )  # fmt: skip
        if code:
            raise failed(code, number, into is None, start, stop)

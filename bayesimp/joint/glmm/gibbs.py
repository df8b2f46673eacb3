"""Chains of the joint GLMM as tasks of an executor, and the draws that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp.joint.glmm.chain import ChainState, numbers, start_chain
from bayesimp.joint.glmm.prior import FactorPriors, factor_priors
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.joint.glmm.table import FactorTable
from bayesimp.kernels.factors.moments import keep_cells
from bayesimp.kernels.families.responses import aux_size
from bayesimp.priors import Priors

__all__ = ["FactorTask", "JointHistory"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class JointHistory:
    """Kept draws, on the working scale, chains first.

    Attributes
    ----------
    beta, aux
        By factor: (chains, D, p, r), (chains, D, a).
    sd
        (chains, D, K).
    Psi
        By block: (chains, D, d, d).
    B
        By block: (chains, D, m, d), or (chains, 0, m, d) where effects are not kept; m: number of clusters or groups.
    mean, spread
        (chains, D, m, K): mean and standard deviation of the imputed values by cluster; NaN where there are none.
    cells
        (chains, C, c): imputed values every `spacing` draws, factor by factor.
    """

    beta: list[Array]
    aux: list[Array]
    sd: Array
    Psi: list[Array]
    B: list[Array]
    mean: Array
    spread: Array
    cells: Array

    @property
    def chains(self) -> int:
        """The number of chains."""
        return self.sd.shape[0]

    @property
    def draws(self) -> int:
        """The number of draws kept in each chain."""
        return self.sd.shape[1]

    @property
    def arrays(self) -> list[Array]:
        """All arrays except the cells."""
        return [*self.beta, *self.aux, self.sd, *self.Psi, *self.B, self.mean, self.spread]

    def like(self, arrays: Sequence[Array], cells: Array) -> JointHistory:
        """The same record with other arrays, in the order of `arrays`."""
        parts = iter(arrays)
        take = lambda count: [next(parts) for _ in range(count)]  # noqa: E731
        beta, aux, (sd,) = take(len(self.beta)), take(len(self.aux)), take(1)
        Psi, B, (mean,), (spread,) = take(len(self.Psi)), take(len(self.B)), take(1), take(1)
        return JointHistory(beta, aux, sd, Psi, B, mean, spread, cells)

    def truncated(self, draws: int, spacing: int) -> JointHistory:
        """The first draws of every chain."""
        return self.like([a[:, :draws] for a in self.arrays], self.cells[:, : draws // spacing])

    def __add__(self, later: JointHistory) -> JointHistory:
        """The same chains, continued."""
        pairs = zip(self.arrays, later.arrays, strict=True)
        joined = [np.concatenate(pair, axis=1) for pair in pairs]
        return self.like(joined, np.concatenate([self.cells, later.cells], axis=1))


@dataclass(frozen=True)
class FactorTask:
    """Sweeps of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    table, priors
        The table as the sampler reads it; the priors of the model.
    separate
        Whether the effects of each factor are independent of those of others.
    cluster
        Label of the clusters, for priors by grouping factor.
    every
        One in `every` sweeps is kept.
    spacing
        Cells are kept for one in `spacing` kept draws.
    effects
        Whether cluster effects are kept.
    """

    table: FactorTable
    model_priors: Priors
    separate: bool = False
    cluster: str = ""
    every: int = 1
    spacing: int = 1
    effects: bool = False

    @cached_property
    def priors(self) -> FactorPriors:
        """Priors as kernels read them."""
        return factor_priors(self.table, self.model_priors, self.separate, cluster=self.cluster)

    @cached_property
    def counted(self) -> int:
        """Number of cells that are imputed, over all factors."""
        return sum(len(rows) for rows in self.table.missing)

    @cached_property
    def _samplers(self) -> dict[int, Sampler]:
        """The samplers of the chains, kept from one chunk of sweeps to the next; in processes, chains are new objects."""
        return {}

    @cached_property
    def _holes(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """By factor: clusters with imputed values, and where those of each begin and the last end."""
        out = []
        for rows in self.table.missing:
            own, first = np.unique(self.table.arrays.cluster[rows], return_index=True)
            out.append((own, np.append(first, len(rows))))
        return out

    def start(self, seed: int, chain: int) -> ChainState:
        """Chain `chain` of this task at its dispersed start."""
        return start_chain(self.table, self.priors, seed, chain)

    def room(self, chains: Sequence[ChainState], iterations: int) -> JointHistory:
        """Arrays for the draws of these chains."""
        c, D, m, K = len(chains), iterations // self.every, self.table.clusters, len(self.table.factors)
        kept, number = D if self.effects else 0, self.table.number
        factors, blocks = self.table.factors, self.priors.blocks
        return JointHistory(
            [np.empty((c, D, len(f.fixed), f.predictors)) for f in factors],
            [np.empty((c, D, aux_size(f.code, len(f.levels)))) for f in factors],
            np.empty((c, D, K)), [np.empty((c, D, b.size, b.size)) for b in blocks],
            [np.empty((c, kept, number(b.level), b.size)) for b in blocks],
            np.empty((c, D, m, K)), np.empty((c, D, m, K)),
            np.empty((c, D // self.spacing, self.counted)),
        )  # fmt: skip

    def advance(
        self, chain: ChainState, number: int, into: JointHistory | None, place: int, start: int, stop: int
    ) -> None:
        """Run sweeps start .. stop - 1 of a chain in place; without `into` (warm-up) nothing is kept.

        Raises
        ------
        SamplingError
            The chain reached a state from which it cannot continue.
        """
        sampler = self._samplers.get(number)
        if sampler is None or sampler.chain is not chain:
            sampler = self._samplers[number] = Sampler(self.table, self.priors, chain, f"Chain {number}")
        for iteration in range(start, stop):
            sampler.sweep(tune=into is None)
            if into is not None and (iteration + 1) % self.every == 0:
                self._keep(sampler, into, place, (iteration + 1) // self.every - 1)

    def _keep(self, sampler: Sampler, into: JointHistory, place: int, draw: int) -> None:
        chain = sampler.chain
        for k in range(len(self.table.factors)):
            into.beta[k][place, draw] = chain.beta[k]
            into.aux[k][place, draw] = chain.aux[k]
        into.sd[place, draw] = chain.sd
        for b in range(len(chain.Psi)):
            into.Psi[b][place, draw] = chain.Psi[b]
            if self.effects:
                into.B[b][place, draw] = chain.B[b]
        row = (draw + 1) // self.spacing - 1
        kept = into.cells[place, row] if (draw + 1) % self.spacing == 0 else np.empty(0)
        self._keep_cells(sampler.completed(), kept, into.mean[place, draw], into.spread[place, draw])

    def _keep_cells(self, values: list[Array], kept: Array, mean: Array, spread: Array) -> None:
        """Keep the imputed values, and mean and sd of those of each variable by cluster."""
        mean.fill(np.nan)
        spread.fill(np.nan)
        at = 0
        for k, (y, (own, first)) in enumerate(zip(values, self._holes, strict=True)):
            if len(own):
                v, stop = numbers(self.table, k, y), at + len(y)
                keep_cells(y, v, own, first, np.int64(k), mean, spread, kept[at:stop])
                at = stop

    def put(self, into: JointHistory, place: int, start: int, piece: JointHistory) -> None:
        """Copy the draws of one chain into those of all."""
        first = start // self.every
        for a, b in zip(into.arrays, piece.arrays, strict=True):
            if b.shape[1]:
                a[place, first : first + b.shape[1]] = b[0]
        at = first // self.spacing
        into.cells[place, at : at + piece.cells.shape[1]] = piece.cells[0]

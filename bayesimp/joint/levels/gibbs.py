"""Chains of the joint normal model with several grouping factors as tasks of an executor, and the draws that they
keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.joint.gibbs import failed
from bayesimp.joint.levels.table import LevelsTable
from bayesimp.joint.strided import StridedDraws, StridedTask
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.kernels.levels.gibbs import levels_gibbs
from bayesimp.kernels.levels.records import PsiPriors
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update
from bayesimp.sampling.chains import chain_rng

__all__ = ["LevelsChain", "LevelsDraws", "LevelsTask", "psi_priors"]

Array = NDArray[np.float64]


@dataclass
class LevelsChain:
    """The state of a chain on the working scale, sufficient to continue it exactly.

    Sigma (r, r); Psi, b: flat, for all factors (kernels/levels/records.py).
    """

    Sigma: Array
    Psi: Array
    b: Array
    rng: np.random.Generator


@dataclass(frozen=True)
class LevelsDraws(StridedDraws):
    """Kept draws on the working scale, chains first.

    beta (chains, D, p, r), Sigma (chains, D, r, r), Psi (chains, D, flat); mean, sd (chains, D, m, r): of the missing
    values by primary cluster; cells (chains, D / stride, c): missing cells, row by row.
    """

    beta: Array
    Sigma: Array
    Psi: Array
    mean: Array
    sd: Array
    cells: Array


def psi_priors(updates: Sequence[CovarianceUpdate], sizes: Sequence[int] | NDArray[np.int64]) -> PsiPriors:
    """The priors of Psi_1 .. Psi_S as the kernel reads them; sizes: n_s, their rows."""
    return PsiPriors(
        np.array([u.kind for u in updates], dtype=np.int64), np.array([u.nu for u in updates], dtype=np.float64),
        np.concatenate([np.ravel(u.scale) for u in updates]), np.concatenate([u.sd for u in updates]),
        np.cumsum([0, *sizes]).astype(np.int64),
    )  # fmt: skip


@dataclass(frozen=True)
class LevelsTask(StridedTask):
    """Iterations of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    table
        The table as read by the sampler.
    beta
        Prior of the fixed effects, in the units of the data.
    Sigma, Psi
        Priors on the working scale; one Psi prior per factor.
    labels
        Labels of the factors, for messages.
    every
        One in `every` iterations is kept.
    stride
        Cells are kept for one in `stride` kept draws.
    """

    table: LevelsTable
    beta: pr.CoefficientPrior
    Sigma: pr.CovariancePrior
    Psi: tuple[pr.CovariancePrior, ...]
    labels: tuple[str, ...]
    every: int = 1
    stride: int = 1

    @property
    def counted(self) -> int:
        """The number of missing cells."""
        return self.table.counted

    @cached_property
    def priors(self) -> tuple[CovarianceUpdate, PsiPriors, Array, Array]:
        """Priors of Sigma and of all Psi as read by the kernel; Q0 and t0 of vec(beta).

        Raises
        ------
        SpecificationError
            A posterior is improper, or a prior has no Gibbs step.
        """
        table = self.table
        r, rows = table.rows.Y.shape[1], int(table.moments.pattern_rows.sum())
        Sigma = covariance_update(self.Sigma, r)
        check_proper(Sigma, rows, r, "Sigma", "rows")
        updates = []
        sizes = r * np.diff(table.factors.column)
        for prior, label, n, groups in zip(self.Psi, self.labels, sizes, table.factors.number, strict=True):
            updates.append(covariance_update(prior, int(n)))
            check_proper(updates[-1], int(groups), int(n), f"Psi_{label}", "groups")
        return Sigma, psi_priors(updates, sizes), *beta_prior(self.beta, table.working.scale, r)

    def start(self, seed: int, chain: int) -> LevelsChain:
        """Chain `chain` at its dispersed start: no effects, no correlations, random scales."""
        rng, table = chain_rng(seed, chain), self.table
        r = table.rows.Y.shape[1]
        known = self.Sigma.known_value
        Sigma = np.diag(np.exp(rng.normal(0.0, 0.5, r))) if known is None else known.copy()
        Psi = []
        for prior, n in zip(self.Psi, r * np.diff(table.factors.column), strict=True):
            drawn = np.diag(np.exp(rng.normal(-1.5, 1.0, int(n))))
            Psi.append(np.ravel(drawn if prior.known_value is None else prior.known_value))
        return LevelsChain(Sigma, np.concatenate(Psi), np.zeros(int(table.factors.effect_at[-1])), rng)

    def room(self, chains: Sequence[LevelsChain], iterations: int) -> LevelsDraws:
        """Arrays for the draws of these chains."""
        table, D, c = self.table, iterations // self.every, len(chains)
        r, m = table.rows.Y.shape[1], int(table.factors.number[0])
        shapes = (table.moments.XX.shape[1], r), (r, r), (int(table.factors.psi_at[-1]),), (m, r), (m, r)
        beta, Sigma, Psi, mean, sd = (np.empty((c, D, *shape)) for shape in shapes)
        return LevelsDraws(beta, Sigma, Psi, mean, sd, np.empty((c, D // self.stride, table.counted)))

    def advance(
        self, chain: LevelsChain, number: int, into: LevelsDraws | None, place: int, start: int, stop: int
    ) -> None:
        """Run iterations start .. stop - 1 of a chain in place; without `into` (warm-up) nothing is kept.

        Raises
        ------
        SamplingError
            The chain reached a state from which it cannot continue; the message says what failed.
        """
        every, slots = self.slots(chain, into, place, start, stop)
        Sigma, Psi, Q0, t0 = self.priors
        table = self.table
        code = levels_gibbs(
            chain.rng, stop - start, every, self.stride, table.moments, table.factors, table.chains, Sigma, Psi, Q0, t0,
            table.rows, chain.Sigma, chain.Psi, chain.b, *slots,
        )  # fmt: skip
        if code:
            raise failed(code, number, into is None, start, stop)

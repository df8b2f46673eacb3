"""Chains of the joint model on latent normals as tasks of an executor, and the draws that they keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesimp.joint.gibbs import failed
from bayesimp.joint.latent.table import LatentTable
from bayesimp.joint.latent.variables import LatentVariable
from bayesimp.joint.strided import StridedDraws, StridedTask
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.kernels.latent.gibbs import latent_gibbs
from bayesimp.kernels.latent.records import Kept, LatentState, SamplerPriors
from bayesimp.kernels.latent.residual import ResidualPrior
from bayesimp.sampling.chains import chain_rng

__all__ = ["LatentChain", "LatentDraws", "LatentPriors", "LatentTask", "starting_cutpoints"]

Array = NDArray[np.float64]
RATE = 1.0  # of the exponential prior of increments between cutpoints, as for all ordinal variables


@dataclass(frozen=True)
class LatentPriors:
    """Priors on the working scale, as read by the kernel, and starting values of chains.

    Q0 (r p, r p), t0 (r p,) of vec(beta); Q0_clusters (w p_2, w p_2), t0_clusters of vec(gamma), w = rq + s, zero for
    effects; Sigma and Psi free and restricted; Sigma_start (r, r), Psi_start (w, w): known values, nan where a chain
    starts at random; spread: of the half-normal h = (2/a)^1/2, nan where all clusters have the same Sigma.
    """

    Q0: Array
    t0: Array
    Q0_clusters: Array
    t0_clusters: Array
    free_Sigma: CovarianceUpdate
    restricted_Sigma: ResidualPrior
    free_Psi: CovarianceUpdate
    restricted_Psi: ResidualPrior
    Sigma_start: Array
    Psi_start: Array
    spread: float = math.nan

    @property
    def for_kernel(self) -> SamplerPriors:
        """These priors as one argument of the kernel."""
        return SamplerPriors(
            self.free_Sigma, self.restricted_Sigma, self.free_Psi, self.restricted_Psi, self.Q0, self.t0,
            self.Q0_clusters, self.t0_clusters, RATE, self.spread,
        )  # fmt: skip


@dataclass
class LatentChain:
    """The state of a chain, sufficient to continue it exactly: `LatentState`, on the working scale, and its generator."""

    Y: Array
    cutpoints: Array
    beta: Array
    B: Array
    Sigma: Array
    Psi: Array
    V: Array
    cluster_cutpoints: Array
    gamma: Array
    residuals: Array
    likeness: Array
    rng: np.random.Generator

    @property
    def state(self) -> LatentState:
        """The part that the kernel changes in place."""
        return LatentState(*(getattr(self, name) for name in LatentState._fields))


@dataclass(frozen=True)
class LatentDraws(StridedDraws):
    """Kept draws on the working scale, chains first: the arrays of `bayesimp.kernels.latent.records.Kept`.

    mean and sd of the missing values by cluster and incomplete variable, and cells, are in the units of the data.
    """

    beta: Array
    Sigma: Array
    Psi: Array
    cutpoints: Array
    gamma: Array
    cluster_cutpoints: Array
    likeness: Array
    residuals: Array
    B: Array
    mean: Array
    sd: Array
    cluster_mean: Array
    cluster_sd: Array
    cells: Array


@dataclass(frozen=True)
class LatentTask(StridedTask):
    """Iterations of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    table, priors
        The table and priors as read by the sampler.
    every
        One in `every` iterations is kept.
    stride
        Cells are kept for one in `stride` kept draws.
    residuals, effects
        Whether the residual covariances of the clusters, and their effects, are kept.
    """

    table: LatentTable
    priors: LatentPriors
    every: int = 1
    stride: int = 1
    residuals: bool = False
    effects: bool = False

    @property
    def counted(self) -> int:
        """The number of missing cells."""
        return self.table.counted

    def start(self, seed: int, chain: int) -> LatentChain:
        """Chain `chain` at its dispersed start: no effects, no correlations, random scales."""
        rng, st, priors = chain_rng(seed, chain), self.table.working.statistics, self.priors
        clusters = self.table.of_clusters
        r, w = st.r, clusters.V.shape[1]
        Sigma = np.where(
            np.isnan(priors.Sigma_start), np.diag(np.exp(rng.normal(0.0, 0.5, r))), priors.Sigma_start
        )
        Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, w)))
        Psi = np.where(np.isnan(priors.Psi_start), Psi, priors.Psi_start)
        residuals, likeness = Sigma[None].copy(), math.nan
        if not math.isnan(priors.spread):
            residuals = np.repeat(residuals, st.clusters, axis=0)
            likeness = 2.0 / (priors.spread * math.exp(rng.normal(0.0, 0.5))) ** 2
        return LatentChain(
            self.table.Y.copy(), starting_cutpoints(self.table.variables, self.table.rows.level, 0),
            np.zeros((st.p, r)), np.zeros((st.clusters, st.q, r)), Sigma, Psi, clusters.V.copy(),
            starting_cutpoints(clusters.variables, clusters.level.rows.level, r * st.q),
            np.zeros((len(clusters.fixed), w)), residuals, np.array([likeness]), rng,
        )  # fmt: skip

    def room(self, chains: Sequence[LatentChain], iterations: int) -> LatentDraws:
        """Arrays for the draws of these chains."""
        table, D, c = self.table, iterations // self.every, len(chains)
        clusters, st = table.of_clusters, table.working.statistics
        w, p2, m = clusters.V.shape[1], len(clusters.fixed), st.clusters
        V, V2, kept = len(table.incomplete), len(clusters.incomplete), D // self.stride
        of_rows, of_clusters = int(table.columns.cut[-1]), int(clusters.level.columns.cut[-1])
        G = m if self.residuals else 1
        shapes = (
            (D, st.p, st.r), (D, st.r, st.r), (D, w, w), (D, of_rows), (D, p2, w), (D, of_clusters), (D, 1),
            (D if self.residuals else 0, G, st.r, st.r), (D if self.effects else 0, m, st.q, st.r),
            (D, m, V), (D, m, V), (D, m, V2), (D, m, V2), (kept, table.counted),
        )  # fmt: skip
        return LatentDraws(*(np.empty((c, *shape)) for shape in shapes))

    def advance(
        self, chain: LatentChain, number: int, into: LatentDraws | None, place: int, start: int, stop: int
    ) -> None:
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
        code = latent_gibbs(
            chain.rng, stop - start, every, self.stride, False, own, table.level, table.group,
            table.of_clusters.level, self.priors.for_kernel, chain.state, Kept(*slots),
        )  # fmt: skip
        if code:
            raise failed(code, number, into is None, start, stop)


def starting_cutpoints(
    variables: Sequence[LatentVariable], level: NDArray[np.int64], before: int
) -> NDArray[np.float64]:
    """(c,) cutpoints from the observed shares, the first of each variable 0.

    level (n, w): observed levels by column, -1 where there are none; before: columns before those of the variables.
    """
    out = [np.empty(0)]
    for variable in variables:
        if variable.cutpoints:
            seen = level[:, before + variable.first]
            count = np.bincount(seen[seen >= 0], minlength=len(variable.levels)) + 0.5
            c = ndtri(np.cumsum(count)[:-1] / count.sum())
            out.append(c - c[0])
    return np.concatenate(out)

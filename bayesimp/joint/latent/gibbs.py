"""Chains of the joint model on latent normals as tasks of an executor, and the draws that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesimp.errors import SamplingError
from bayesimp.joint.gibbs import FAILURES
from bayesimp.joint.latent.table import LatentTable
from bayesimp.joint.strided import StridedDraws, StridedTask
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.kernels.latent.gibbs import latent_gibbs
from bayesimp.kernels.latent.residual import ResidualPrior
from bayesimp.sampling.chains import chain_rng

__all__ = ["LatentChain", "LatentDraws", "LatentPriors", "LatentTask"]

Array = NDArray[np.float64]
RATE = 1.0  # of the exponential prior of the increments between cutpoints, as of every ordinal variable


@dataclass(frozen=True)
class LatentPriors:
    """Priors on the working scale, as the kernel reads them.

    Q0 (r p, r p), t0 (r p,) of vec(beta); Sigma free and restricted; Psi; Sigma_start (r, r), Psi_start (rq, rq): known
    values, nan where a chain starts at random.
    """

    Q0: Array
    t0: Array
    free_Sigma: CovarianceUpdate
    restricted_Sigma: ResidualPrior
    Psi: CovarianceUpdate
    Sigma_start: Array
    Psi_start: Array


@dataclass
class LatentChain:
    """Where a chain is, enough to continue it exactly; on the working scale.

    Y (N, r): numbers and latent values of observed levels; cutpoints (c,); beta (p, r); B (m, q, r); Sigma (r, r);
    Psi (rq, rq).
    """

    Y: Array
    cutpoints: Array
    beta: Array
    B: Array
    Sigma: Array
    Psi: Array
    rng: np.random.Generator


@dataclass(frozen=True)
class LatentDraws(StridedDraws):
    """Kept draws on the working scale, chains first.

    beta (chains, D, p, r), Sigma (chains, D, r, r), Psi (chains, D, rq, rq), cutpoints (chains, D, c);
    mean, sd (chains, D, m, V): of the missing values by cluster and incomplete variable, in the units of the data;
    cells (chains, D / stride, cells): missing cells, variable by variable.
    """

    beta: Array
    Sigma: Array
    Psi: Array
    cutpoints: Array
    mean: Array
    sd: Array
    cells: Array


@dataclass(frozen=True)
class LatentTask(StridedTask):
    """Iterations of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    table, priors
        As the sampler reads them.
    every
        One of so many iterations is kept.
    stride
        One of so many kept draws has its cells kept.
    """

    table: LatentTable
    priors: LatentPriors
    every: int = 1
    stride: int = 1

    @property
    def counted(self) -> int:
        """The number of missing cells."""
        return self.table.counted

    @cached_property
    def _cutpoints(self) -> Array:
        """Where chains start: cutpoints of the observed shares, the first of each variable 0."""
        out = [np.empty(0)]
        for variable in self.table.variables:
            if variable.cutpoints:
                seen = self.table.rows.level[:, variable.first]
                count = np.bincount(seen[seen >= 0], minlength=len(variable.levels)) + 0.5
                c = ndtri(np.cumsum(count)[:-1] / count.sum())
                out.append(c - c[0])
        return np.concatenate(out)

    def start(self, seed: int, chain: int) -> LatentChain:
        """Chain `chain` at its dispersed start: no effects, no correlations, scales at random."""
        rng, st, priors = chain_rng(seed, chain), self.table.working.statistics, self.priors
        r = st.r
        Sigma = np.where(
            np.isnan(priors.Sigma_start), np.diag(np.exp(rng.normal(0.0, 0.5, r))), priors.Sigma_start
        )
        Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, r * st.q)))
        Psi = np.where(np.isnan(priors.Psi_start), Psi, priors.Psi_start)
        return LatentChain(
            self.table.Y.copy(), self._cutpoints.copy(), np.zeros((st.p, r)), np.zeros((st.clusters, st.q, r)), Sigma,
            Psi, rng,
        )  # fmt: skip

    def room(self, chains: Sequence[LatentChain], iterations: int) -> LatentDraws:
        """Arrays for the draws of these chains."""
        table, D, c = self.table, iterations // self.every, len(chains)
        st, V = table.working.statistics, len(table.incomplete)
        rq = st.r * st.q
        shapes = (
            (st.p, st.r), (st.r, st.r), (rq, rq), (int(table.columns.cut[-1]),), (st.clusters, V), (st.clusters, V),
        )  # fmt: skip
        cells = np.empty((c, D // self.stride, self.counted))
        beta, Sigma, Psi, cutpoints, mean, sd = (np.empty((c, D, *shape)) for shape in shapes)
        return LatentDraws(beta, Sigma, Psi, cutpoints, mean, sd, cells)

    def advance(
        self, chain: LatentChain, number: int, into: LatentDraws | None, place: int, start: int, stop: int
    ) -> None:
        """Iterations start .. stop - 1 of a chain, in place; into None: warm-up, of which nothing is kept.

        Raises
        ------
        SamplingError
            The chain reached a state from which it cannot go on; the message says what failed.
        """
        if into is None:
            every, nothing = stop - start + 1, self.room([chain], 0)
            slots = [a[0] for a in (*nothing.arrays, nothing.cells)]
        else:
            every, slots = self.every, self.slots(into, place, start, stop)
        m = self.table.moments
        own = m._replace(XY=m.XY.copy(), YY=m.YY.copy(), ZY=m.ZY.copy())  # the latent part is the chain's
        p = self.priors
        code = latent_gibbs(
            chain.rng, stop - start, every, self.stride, own, self.table.rows, self.table.columns, self.table.cells,
            p.free_Sigma, p.restricted_Sigma, p.Psi, p.Q0, p.t0, RATE, chain.Y, chain.cutpoints, chain.beta, chain.B,
            chain.Sigma, chain.Psi, *slots,
        )  # fmt: skip
        if code:
            raise SamplingError(_failed(code, number, "warm-up" if into is None else "sampling", start, stop))


def _failed(code: int, chain: int, stage: str, start: int, stop: int) -> str:
    what = FAILURES.get(code, "a latent value lies too far from the bounds of its level")
    return (
        f"Chain {chain}, {stage}, between iterations {start} and {stop}: {what}. Often a response is (nearly) a "
        f"combination of "
        "others, or (nearly) constant within clusters: take it off the left side. Otherwise give beta a normal prior, "
        "or the "
        "covariances a larger nu."
    )

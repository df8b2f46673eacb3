"""The Gibbs sampler of the joint normal model as chains: init -> State; run(State) -> kept draws.

The computation is in kernels/normal/gibbs.py, priors/gibbs.py prepares the priors; this file has starting values and
storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsInt

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SamplingError
from bayesimp.joint.scale import Working
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.kernels.normal import gibbs as kernel
from bayesimp.kernels.normal.effects import Moments, moments
from bayesimp.kernels.normal.imputed import IncompleteCells, incomplete_cells
from bayesimp.notation import Array
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update
from bayesimp.sampling.chains import Report, chain_rng, run_chains
from bayesimp.sampling.executors import Executor, ThreadExecutor, run_level

__all__ = [
    "NormalChainState",
    "GibbsTask",
    "JointDraws",
    "failed",
    "sample_gibbs",
]

FAILURES = {
    1: "Sigma lost its positive definiteness",
    2: "the precision of a cluster's effects is not positive definite",
    3: "the fixed effects are not identified",
    4: "Psi lost its positive definiteness",
    6: "the scale of a latent variable has no proper distribution, since a covariance matrix is singular to rounding",
}
TOO_FAR = "a latent value lies too far from the bounds of its level"  # for every other failure code


def failed(code: SupportsInt, chain: int, warm_up: bool, start: int, stop: int) -> SamplingError:
    """The error for a chain that cannot continue; code: the value that a kernel of a joint model returned."""
    return SamplingError(
        f"Chain {chain}, {'warm-up' if warm_up else 'sampling'}, between iterations {start} and {stop}: "
        f"{FAILURES.get(int(code), TOO_FAR)}. Often a response is (nearly) a linear combination of others, or (nearly) "
        "constant within clusters: remove it from the left side. Otherwise give beta a normal prior, or the covariances "
        "a larger nu."
    )


@dataclass
class NormalChainState:
    """The state of a chain, from which it continues exactly: (Sigma, Psi) on the working scale, and the generator."""

    Sigma: np.ndarray
    Psi: np.ndarray
    rng: np.random.Generator


@dataclass(frozen=True)
class JointDraws:
    """Kept draws.

    beta (chains, D, p, r), Sigma (chains, D, r, r), Psi (chains, D, rq, rq);
    mean, sd (chains, D, m, r): drawn mean and sd of the missing values by cluster.
    """

    beta: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @property
    def chains(self) -> int:
        """The number of chains."""
        return self.beta.shape[0]

    @property
    def draws(self) -> int:
        """The number of draws kept in each chain."""
        return self.beta.shape[1]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All arrays, in order."""
        return self.beta, self.Sigma, self.Psi, self.mean, self.sd

    def __add__(self, later: JointDraws) -> JointDraws:
        """These draws followed by those of the same chains, continued."""
        pairs = zip(self.arrays, later.arrays, strict=True)
        return JointDraws(*(np.concatenate(pair, axis=1) for pair in pairs))

    def on_data_scale(self, working: Working) -> JointDraws:
        """The draws in the units and cluster order of the table, from the working scale and canonical cluster order."""
        scale, place = working.scale, np.argsort(working.order)
        return JointDraws(
            scale.beta(self.beta), scale.Sigma(self.Sigma), scale.Psi(self.Psi),
            self.mean[:, :, place] * scale.s, self.sd[:, :, place] * scale.s,
        )  # fmt: skip

    def truncated(self, draws: int) -> JointDraws:
        """The first `draws` draws of every chain."""
        return JointDraws(*(a[:, :draws] for a in self.arrays))


def initial_state(seed: int, chain: int, priors: pr.Priors, r: int, q: int) -> NormalChainState:
    """A dispersed start: standard deviations on the working scale times log-normal factors, no correlations."""
    rng = chain_rng(seed, chain)
    Sigma = np.diag(np.exp(rng.normal(0.0, 0.5, r)))
    Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, r * q)))
    known_Sigma, known_Psi = priors.Sigma.known_value, priors.Psi.known_value
    return NormalChainState(
        Sigma if known_Sigma is None else known_Sigma, Psi if known_Psi is None else known_Psi, rng
    )


@dataclass(frozen=True)
class GibbsTask:
    """Iterations of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    working
        The table on the working scale.
    priors
        Resolved priors on the working scale, except that of beta, which is on the scale of the data.
    every
        Every `every`-th iteration is kept.
    """

    working: Working
    priors: pr.Priors
    every: int = 1

    @cached_property
    def constants(
        self,
    ) -> tuple[Moments, CovarianceUpdate, CovarianceUpdate, Array, Array, IncompleteCells, Array]:
        """The kernel's arguments other than the state of a chain."""
        st, working, priors = self.working.statistics, self.working, self.priors
        m = moments(st)
        update_Sigma = covariance_update(priors.Sigma, st.r)
        update_Psi = covariance_update(priors.Psi, st.r * st.q)
        Q0, t0 = beta_prior(priors.beta, working.scale, st.r)
        check_proper(update_Sigma, int(m.pattern_rows.sum()), st.r, "Sigma", "rows")
        check_proper(update_Psi, st.clusters, st.r * st.q, "Psi", "clusters")
        return m, update_Sigma, update_Psi, Q0, t0, incomplete_cells(st), working.scale.offset

    def room(self, chains: Sequence[NormalChainState], iterations: int) -> JointDraws:
        """Arrays for the draws of these chains."""
        st = self.working.statistics
        rq = st.r * st.q
        shapes = [(st.p, st.r), (st.r, st.r), (rq, rq), (st.clusters, st.r), (st.clusters, st.r)]
        return JointDraws(*(np.empty((len(chains), iterations // self.every, *shape)) for shape in shapes))

    def advance(
        self, chain: NormalChainState, number: int, into: JointDraws | None, place: int, start: int, stop: int
    ) -> None:
        """Run iterations start .. stop-1 of a chain in place; without `into` (warm-up) nothing is kept.

        Raises
        ------
        SamplingError
            The chain reached a state from which it cannot continue; the message says which matrix failed.
        """
        if into is None:
            every, slots = stop - start + 1, [a[0] for a in self.room([chain], 0).arrays]
        else:
            every, slots = (
                self.every,
                [a[place, start // self.every : stop // self.every] for a in into.arrays],
            )
        beta, Sigma, Psi, mean, sd = slots
        code = kernel.gibbs(
            chain.rng,
            stop - start,
            every,
            *self.constants,
            chain.Sigma,
            chain.Psi,
            beta,
            Sigma,
            Psi,
            mean,
            sd,
        )
        if code:
            raise failed(code, number, into is None, start, stop)

    def put(self, into: JointDraws, place: int, start: int, piece: JointDraws) -> None:
        """Copy the draws of one chain into those of all."""
        first = start // self.every
        for a, b in zip(into.arrays, piece.arrays, strict=True):
            a[place, first : first + b.shape[1]] = b[0]


def sample_gibbs(
    working: Working,
    priors: pr.Priors,
    states: list[NormalChainState],
    *,
    tune: int,
    draws: int,
    thin: int = 1,
    workers: int | None = None,
    executor: Executor | None = None,
    report: Report | None = None,
    task_type: type[GibbsTask] | None = None,
) -> JointDraws:
    """Advance the chains from `states` (updated in place) by tune + draws * thin iterations.

    Priors are resolved and on the working scale, except that of beta, which is on the scale of the data. task_type: what
    is kept of the draws; None: everything (`GibbsTask`). Returns the kept
    draws; if the run was interrupted, fewer than requested, the same number for each chain. The states are then those of
    the last draw kept, if there is one.

    Raises
    ------
    SamplingError
        The chain reached a state from which it cannot continue; the message says which matrix failed.
    """
    executor = ThreadExecutor(workers) if executor is None else executor
    task = (task_type or GibbsTask)(working, priors, thin)
    kept = task.room(states, draws * thin)
    if not _compiled(task, states, report):
        return kept.truncated(0)
    with executor.session(task) as session:
        if tune and min(session.run(states, None, 0, tune, report=report, stage="warm-up")) < tune:
            return kept.truncated(0)
        done = run_level(session, states, kept, draws * thin, multiple=thin, report=report)
    return kept.truncated(done // thin)


def _compiled(task: GibbsTask, states: list[NormalChainState], report: Report | None) -> bool:
    """Compile the kernel, once per machine, and report it; False if this was interrupted."""
    task.constants  # noqa: B018  # priors are refused here, before anything runs
    if kernel.gibbs.signatures:
        return True
    nothing = task.room(states, 0)
    stage = "compiling, first use only"
    return run_chains(
        lambda c, a, b: task.advance(states[c], c, nothing, c, 0, 0), 1, 1, report=report, stage=stage
    ) == [1]

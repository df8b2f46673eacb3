"""The Gibbs sampler of the joint normal model as chains: init -> State; run(State) -> kept draws.

The numbers are made in kernels/normal/gibbs.py; here are starting values, storage and the reading of priors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SamplingError, SpecificationError
from bayesimp.joint.scale import Working
from bayesimp.kernels.normal import gibbs as kernel
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.imputed import incomplete_cells
from bayesimp.sampling.chains import Report, chain_rng, run_chains
from bayesimp.sampling.executors import Executor, ThreadExecutor, run_level

__all__ = [
    "ChainState",
    "GibbsTask",
    "JointDraws",
    "beta_prior",
    "check_proper",
    "covariance_update",
    "is_conjugate",
    "sample_gibbs",
]

FAILURES = {
    1: "Sigma lost its positive definiteness",
    2: "the precision of a cluster's effects is not positive definite",
    3: "the fixed effects are not identified",
    4: "Psi lost its positive definiteness",
}


@dataclass
class ChainState:
    """Where a chain stands, enough to continue it exactly: (Sigma, Psi) on the working scale, generator."""

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
        return self.beta.shape[0]

    @property
    def draws(self) -> int:
        return self.beta.shape[1]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All of them, in order."""
        return self.beta, self.Sigma, self.Psi, self.mean, self.sd

    def __add__(self, later: JointDraws) -> JointDraws:
        """The same chains, continued."""
        pairs = zip(self.arrays, later.arrays, strict=True)
        return JointDraws(*(np.concatenate(pair, axis=1) for pair in pairs))

    def on_data_scale(self, working: Working) -> JointDraws:
        """From the working scale and canonical order of clusters to the units and clusters of the table."""
        scale, place = working.scale, np.argsort(working.order)
        return JointDraws(
            scale.beta(self.beta), scale.Sigma(self.Sigma), scale.Psi(self.Psi),
            self.mean[:, :, place] * scale.s, self.sd[:, :, place] * scale.s,
        )  # fmt: skip

    def truncated(self, draws: int) -> JointDraws:
        """The first draws of every chain."""
        return JointDraws(*(a[:, :draws] for a in self.arrays))


def is_conjugate(prior: pr.CovariancePrior) -> bool:
    """Whether the Gibbs kernel has an update for this prior."""
    match prior:
        case pr.InverseWishart() | pr.HuangWand() | pr.Fixed():
            return True
        case pr.Diagonal(variances=pr.HalfT() | pr.InverseWishart()):
            return True
    return False


def covariance_update(prior: pr.CovariancePrior, d: int) -> kernel.CovarianceUpdate:
    """A resolved prior on the working scale, as the kernel reads it."""
    scale, sd = np.zeros((d, d)), np.ones(d)
    match prior:
        case pr.InverseWishart():
            nu, V = prior.numbers
            return kernel.CovarianceUpdate(kernel.INVERSE_WISHART, nu, np.linalg.inv(V), sd)
        case pr.HuangWand():
            return kernel.CovarianceUpdate(kernel.HUANG_WAND, float(prior.nu), scale, np.array(prior.scale))
        case pr.Diagonal(variances=pr.HalfT() as inner):
            return kernel.CovarianceUpdate(
                kernel.DIAGONAL_HALF_T, float(inner.nu), scale, np.array(inner.scale)
            )
        case pr.Diagonal(variances=pr.InverseWishart() as inner):
            nu, v = inner.numbers
            return kernel.CovarianceUpdate(kernel.DIAGONAL_INVERSE_GAMMA, nu, np.diag(1.0 / v), sd)
        case pr.Fixed():
            return kernel.CovarianceUpdate(kernel.FIXED, 0.0, scale, sd)
    raise SpecificationError(
        f"The Gibbs sampler has no update for {prior!r}; use sampler='nuts', which takes every prior."
    )


def check_proper(update: kernel.CovarianceUpdate, n: int, d: int, where: str, what: str) -> None:
    """Refuse an improper prior on the covariance `where` that n rows or clusters (`what`) do not make up for."""
    if update.kind == kernel.INVERSE_WISHART and not update.nu + n > d - 1:
        raise SpecificationError(
            f"The improper prior on {where} (nu = {update.nu:g}) with {n} {what} leaves an improper posterior: "
            f"nu + {n} must exceed {d - 1}. Take a larger nu."
        )


def initial_state(seed: int, chain: int, priors: pr.Priors, r: int, q: int) -> ChainState:
    """Dispersed start: standard deviations of the working scale times log-normal factors, no correlations."""
    rng = chain_rng(seed, chain)
    Sigma = np.diag(np.exp(rng.normal(0.0, 0.5, r)))
    Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, r * q)))
    if isinstance(priors.Sigma, pr.Fixed):
        Sigma = np.array(priors.Sigma.value, dtype=float)
    if isinstance(priors.Psi, pr.Fixed):
        Psi = np.array(priors.Psi.value, dtype=float)
    return ChainState(Sigma, Psi, rng)


def beta_prior(
    prior: pr.Flat | pr.Normal | pr.Weak, scale, r: int, where: str = "beta"
) -> tuple[np.ndarray, np.ndarray]:
    """Precision Q0 (rp, rp) of vec(beta_w), and Q0 mu0, for a prior stated on the scale of the data.

    scale: has T (p, p), s (r,) and working_beta, with beta = T beta_w diag(s) but for a constant (joint/scale.py,
    fcs/table.py). So Q0 is block diagonal with blocks s_k^2 T' D_k T, D_k = diag(1/sd_k^2).
    """
    p = len(scale.T)
    Q0, t0 = np.zeros((r * p, r * p)), np.zeros(r * p)
    if isinstance(prior, pr.Flat):
        return Q0, t0
    if isinstance(prior, pr.Weak):  # a prior on the working scale, where predictors have sd 1
        sds = np.full((r, p), prior.sd)
        if getattr(scale, "intercept", 0) >= 0:
            sds[:, getattr(scale, "intercept", 0)] = prior.intercept
        return np.diag(1.0 / sds.ravel() ** 2), t0
    try:
        mean = np.broadcast_to(np.asarray(prior.mean, dtype=float), (p, r))
        sd = np.broadcast_to(np.asarray(prior.sd, dtype=float), (p, r))
    except ValueError:
        raise SpecificationError(
            f"Normal prior on {where}: mean and sd must broadcast to ({p} columns of X, {r} responses)."
        ) from None
    mean_w = scale.working_beta(mean)
    for k in range(r):
        block = slice(k * p, (k + 1) * p)
        Q0[block, block] = scale.s[k] ** 2 * scale.T.T @ np.diag(1.0 / sd[:, k] ** 2) @ scale.T
        t0[block] = Q0[block, block] @ mean_w[:, k]
    return Q0, t0


@dataclass(frozen=True)
class GibbsTask:
    """Iterations of the Gibbs sampler: a task of `bayesimp.sampling.executors`, which can be pickled.

    Attributes
    ----------
    working
        The table on the working scale.
    priors
        Resolved and on the working scale, but for the one of beta, which is on the scale of the data.
    every
        One of so many iterations is kept.
    """

    working: Working
    priors: pr.Priors
    every: int = 1

    @cached_property
    def constants(self) -> tuple:
        """What the kernel reads besides the state of a chain."""
        st, working, priors = self.working.statistics, self.working, self.priors
        m = moments(st)
        update_Sigma = covariance_update(priors.Sigma, st.r)
        update_Psi = covariance_update(priors.Psi, st.r * st.q)
        Q0, t0 = beta_prior(priors.beta, working.scale, st.r)
        check_proper(update_Sigma, int(m.pattern_rows.sum()), st.r, "Sigma", "rows")
        check_proper(update_Psi, st.clusters, st.r * st.q, "Psi", "clusters")
        return m, update_Sigma, update_Psi, Q0, t0, incomplete_cells(st), working.scale.offset

    def room(self, chains: Sequence[ChainState], iterations: int) -> JointDraws:
        """Arrays for the draws of these chains."""
        st = self.working.statistics
        rq = st.r * st.q
        shapes = [(st.p, st.r), (st.r, st.r), (rq, rq), (st.clusters, st.r), (st.clusters, st.r)]
        return JointDraws(*(np.empty((len(chains), iterations // self.every, *shape)) for shape in shapes))

    def advance(
        self, chain: ChainState, number: int, into: JointDraws | None, place: int, start: int, stop: int
    ) -> None:
        """Iterations start .. stop-1 of a chain, in place; into None: warm-up, of which nothing is kept.

        Raises
        ------
        SamplingError
            The chain reached a state from which it cannot go on; the message says which matrix failed.
        """
        if into is None:
            every, slots = stop - start + 1, [a[0] for a in self.room([chain], 0).arrays]
        else:
            every, slots = (
                self.every,
                [a[place, start // self.every : stop // self.every] for a in into.arrays],
            )
        code = kernel.gibbs(chain.rng, stop - start, every, *self.constants, chain.Sigma, chain.Psi, *slots)
        stage = "warm-up" if into is None else "sampling"
        if code:
            raise SamplingError(
                f"Chain {number}, {stage}, between iterations {start} and {stop}: {FAILURES[code]}. Often a "
                "response is (nearly) a linear combination of others, or (nearly) constant within clusters: "
                "take it off the left side. Otherwise give beta a normal prior, or the covariances a larger nu."
            )

    def put(self, into: JointDraws, place: int, start: int, piece: JointDraws) -> None:
        """Copy the draws of one chain into those of all."""
        first = start // self.every
        for a, b in zip(into.arrays, piece.arrays, strict=True):
            a[place, first : first + b.shape[1]] = b[0]


def sample_gibbs(
    working: Working,
    priors: pr.Priors,
    states: list[ChainState],
    *,
    tune: int,
    draws: int,
    thin: int = 1,
    workers: int | None = None,
    executor: Executor | None = None,
    report: Report | None = None,
) -> JointDraws:
    """Advance the chains from `states` (updated in place) by tune + draws * thin iterations.

    Priors are resolved and on the working scale, but for the one of beta, which is on the scale of the data.
    Returns the kept draws; fewer than asked for, of equal number by chain, if the run was interrupted. Then the states
    are those of the last draw kept, but where none is.

    Raises
    ------
    SamplingError
        The chain reached a state from which it cannot go on; the message says which matrix failed.
    """
    executor = ThreadExecutor(workers) if executor is None else executor
    task = GibbsTask(working, priors, thin)
    kept = task.room(states, draws * thin)
    if not _compiled(task, states, report):
        return kept.truncated(0)
    with executor.session(task) as session:
        if tune and min(session.run(states, None, 0, tune, report=report, stage="warm-up")) < tune:
            return kept.truncated(0)
        done = run_level(session, states, kept, draws * thin, multiple=thin, report=report)
    return kept.truncated(done // thin)


def _compiled(task: GibbsTask, states: list[ChainState], report: Report | None) -> bool:
    """Compile the kernel, once a machine, and say so; False if this was interrupted."""
    task.constants  # noqa: B018  # priors are refused here, before anything runs
    if kernel.gibbs.signatures:
        return True
    nothing = task.room(states, 0)
    stage = "compiling, first use only"
    return run_chains(
        lambda c, a, b: task.advance(states[c], c, nothing, c, 0, 0), 1, 1, report=report, stage=stage
    ) == [1]

"""The Gibbs sampler of the joint normal model as chains: init -> State; run(State) -> kept draws.

The numbers are made in kernels/normal/gibbs.py; here are starting values and storage, priors are read by priors/gibbs.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SamplingError
from bayesimp.joint.scale import Working
from bayesimp.kernels.normal import gibbs as kernel
from bayesimp.kernels.normal.effects import moments
from bayesimp.kernels.normal.imputed import incomplete_cells
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update
from bayesimp.sampling.chains import Report, chain_rng, run_chains, run_level

__all__ = [
    "ChainState",
    "JointDraws",
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

    def __add__(self, later: JointDraws) -> JointDraws:
        """The same chains, continued."""
        pairs = [(getattr(self, f), getattr(later, f)) for f in ("beta", "Sigma", "Psi", "mean", "sd")]
        return JointDraws(*(np.concatenate(pair, axis=1) for pair in pairs))

    def on_data_scale(self, working: Working) -> JointDraws:
        """From the working scale and canonical order of clusters to the units and clusters of the table."""
        scale, place = working.scale, np.argsort(working.order)
        return JointDraws(
            scale.beta(self.beta), scale.Sigma(self.Sigma), scale.Psi(self.Psi),
            self.mean[:, :, place] * scale.s, self.sd[:, :, place] * scale.s,
        )  # fmt: skip

    def truncated(self, draws: int) -> JointDraws:
        return JointDraws(*(getattr(self, f)[:, :draws] for f in ("beta", "Sigma", "Psi", "mean", "sd")))


def initial_state(seed: int, chain: int, priors: pr.Priors, r: int, q: int) -> ChainState:
    """Dispersed start: standard deviations of the working scale times log-normal factors, no correlations."""
    rng = chain_rng(seed, chain)
    Sigma = np.diag(np.exp(rng.normal(0.0, 0.5, r)))
    Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, r * q)))
    known_Sigma, known_Psi = priors.Sigma.known_value, priors.Psi.known_value
    return ChainState(
        Sigma if known_Sigma is None else known_Sigma, Psi if known_Psi is None else known_Psi, rng
    )


def sample_gibbs(
    working: Working,
    priors: pr.Priors,
    states: list[ChainState],
    *,
    tune: int,
    draws: int,
    thin: int = 1,
    workers: int | None = None,
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
    st = working.statistics
    m, incomplete = moments(st), incomplete_cells(st)
    update_Sigma = covariance_update(priors.Sigma, st.r)
    update_Psi = covariance_update(priors.Psi, st.r * st.q)
    Q0, t0 = beta_prior(priors.beta, working.scale, st.r)
    check_proper(update_Sigma, int(m.pattern_rows.sum()), st.r, "Sigma", "rows")
    check_proper(update_Psi, st.clusters, st.r * st.q, "Psi", "clusters")
    chains, rq = len(states), st.r * st.q
    shapes = [(st.p, st.r), (st.r, st.r), (rq, rq), (st.clusters, st.r), (st.clusters, st.r)]
    kept = [np.empty((chains, draws, *shape)) for shape in shapes]

    def advance(chain: int, start: int, stop: int, into: list[np.ndarray], every: int, stage: str) -> None:
        state = states[chain]
        slots = [a[chain, start // every : stop // every] for a in into]
        code = kernel.gibbs(
            state.rng, stop - start, every, m, update_Sigma, update_Psi, Q0, t0, incomplete,
            working.scale.offset, state.Sigma, state.Psi, *slots,
        )  # fmt: skip
        if code:
            raise SamplingError(
                f"Chain {chain}, {stage}, between iterations {start} and {stop}: {FAILURES[code]}. Often a "
                "response is (nearly) a linear combination of others, or (nearly) constant within clusters: "
                "take it off the left side. Otherwise give beta a normal prior, or the covariances a larger nu."
            )

    if not kernel.gibbs.signatures:
        idle = [np.empty((1, 0, *shape)) for shape in shapes]
        compiled = run_chains(
            lambda c, a, b: advance(c, 0, 0, idle, 1, "compiling"),
            1,
            1,
            report=report,
            stage="compiling, first use only",
        )
        if compiled == [0]:
            return JointDraws(*kept).truncated(0)
    if tune:
        nothing = [np.empty((chains, 1, *shape)) for shape in shapes]
        done = run_chains(
            lambda c, a, b: advance(c, a, b, nothing, tune + 1, "warm-up"),
            chains, tune, workers=workers, report=report, stage="warm-up",
        )  # fmt: skip
        if min(done) < tune:
            return JointDraws(*kept).truncated(0)
    every = run_level(
        lambda c, a, b: advance(c, a, b, kept, thin, "sampling"),
        chains, draws * thin, multiple=thin, workers=workers, report=report,
    )  # fmt: skip
    return JointDraws(*kept).truncated(every // thin)

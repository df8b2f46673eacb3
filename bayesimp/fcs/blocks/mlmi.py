"""Blocks for multilevel imputation from fitted models (MLMI; Jolani 2025): kernels/mlmi/draw.py.

A visit is a step around the fit, then one update of the sampler of `methods.Bayes` (kernels/glmm/gibbs.py). Both leave
the same posterior invariant; the first alone visits the neighbourhood of Psi = 0 too rarely if clusters are small.
tests/fcs/test_glmm_criteria.py compares the pair with NUTS. Priors are the defaults of `methods.Bayes`, so the two
methods draw from the same posterior by different moves.

The published algorithm (kernels/mlmi/published.py) has no priors; how often it departs from its target is counted.
"""

from __future__ import annotations

import numpy as np

from bayesimp import priors as pr
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import Chain, Parameters, summed
from bayesimp.fcs.blocks.glmm import GeneralisedBlock, glmm_beta_prior
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.covariance.update import HUANG_WAND
from bayesimp.kernels.glmm.gibbs import FAILURES as GIBBS_FAILURES
from bayesimp.kernels.glmm.gibbs import GlmmPrior, glmm_step, new_tallies
from bayesimp.kernels.mlmi import published
from bayesimp.kernels.mlmi.draw import EVENTS, FAILURES, TALLIES, mlmi_step
from bayesimp.priors.gibbs import covariance_update

__all__ = ["MlmiBlock", "PublishedBlock"]

GIBBS = 100  # offset of the codes of that update, to separate them from those of the fit


class MlmiBlock(GeneralisedBlock):
    """`methods.MLMI`."""

    no_likelihood = ""
    no_prior = "its priors are fixed; method 'bayes', which draws from the same posterior, has a log prior"

    words = {
        **FAILURES,
        **EVENTS,
        **{-GIBBS - code: ("failed", text) for code, text in GIBBS_FAILURES.items()},
        **GeneralisedBlock.words,
    }

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        scale, name = self.chained.scale, self.chained.block.name
        self.Q0, self.t0 = glmm_beta_prior(
            pr.Weak(), scale, self.chained.block, self.rows.y, f"beta of '{name}'"
        )
        Psi = scale.working_Psi_prior(scale.Psi_prior(pr.default().Psi, f"Psi of '{name}'"))
        update = covariance_update(Psi, self.q)
        assert update.kind == HUANG_WAND, "kernels/mlmi/target.py has the density of the default prior"
        self.nu, self.sd = update.nu, update.sd
        self.prior = GlmmPrior(self.Q0, self.t0, update)
        self.heavy = True

    def init(self, chain: Chain) -> Parameters:
        """The general start, with counts of proposals and acceptances."""
        theta = super().init(chain)
        theta.own |= {"tallies": np.zeros(len(TALLIES), dtype=np.int64), "gibbs_tallies": new_tallies()}
        return theta

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Linear predictors (n, r)."""
        return self._predictors(chain, theta)

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A Laplace fit, a draw around it, then draws of the missing values."""
        f, own = self.rows.factors(chain.V), theta.own
        rows = self.merged(chain.V, f)
        k = self.p + self.q * (self.q + 1) // 2
        fit = np.empty(k), np.empty((self.table.clusters, self.q)), np.empty((k, k))
        code = mlmi_step(
            chain.rng, rows, 1.0, self.Q0, self.t0, self.nu, self.sd, *fit,
            theta.beta[:, 0], theta.Psi, theta.B[:, :, 0], own["tallies"],
        )  # fmt: skip
        if code < 0:
            return code
        update = (
            chain.rng,
            rows,
            1,
            self.prior,
            theta.beta,
            own["aux"],
            theta.Psi,
            theta.B,
            own["gibbs_tallies"],
        )
        failed = glmm_step(*update)
        if failed:
            return -GIBBS - failed
        return code | self.fill(chain, theta, f)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Acceptance rates of the proposals."""
        n = dict(zip(TALLIES, summed(thetas, "tallies"), strict=True))
        text = f"accepted by Metropolis steps: {n['accepted'] / max(n['proposals'], 1):.0%} of parameters"
        text += f", {n['effects accepted'] / max(n['effect proposals'], 1):.0%} of cluster effects"
        return [Event("acceptance", self.chained.block.name, text, 1)]


class PublishedBlock(GeneralisedBlock):
    """`methods.MLMI(published=True)`."""

    no_likelihood = ""

    words = {
        1: (
            "no fit",
            published.FAILURES[published.FAILED][1]
            + "; the values of the last visit are kept, as in his code",
        ),
        **GeneralisedBlock.words,
    }

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.incomplete = np.zeros(table.clusters, dtype=bool)
        self.incomplete[self.rows.hole_cluster] = True
        self.single = published.single_rows(self.observed(table.start, self.rows.factors(table.start)))

    def init(self, chain: Chain) -> Parameters:
        """The general start, with the state of the published algorithm."""
        theta = super().init(chain)
        p, q, m = self.p, self.q, self.table.clusters
        theta.own |= published.new_state(m, p, q)._asdict()
        theta.own["tallies"] = np.zeros(len(published.PUBLISHED_TALLIES), dtype=np.int64)
        return theta

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Linear predictors (n, r)."""
        return self._predictors(chain, theta)

    def step(self, chain: Chain, theta: Parameters) -> int:
        """One step of the published algorithm, then draws of the missing values."""
        f, own = self.rows.factors(chain.V), theta.own
        state = published.PublishedState(*(own[name] for name in published.PublishedState._fields))
        code = published.published_step(
            chain.rng, self.merged(chain.V, f), 1.0, self.single, self.incomplete, state,
            theta.beta[:, 0], theta.Psi, theta.B[:, :, 0], own["tallies"],
        )  # fmt: skip
        if code == published.FAILED:
            return 1
        return self.fill(chain, theta, f)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """How often each departure from the target occurred, and out of how many occasions."""
        name = self.chained.block.name
        n = dict(zip(published.PUBLISHED_TALLIES, summed(thetas, "tallies"), strict=True))
        out = []
        for tally, (total, text) in published.EVENTS.items():
            if n[tally]:
                share = f"{n[tally] / n[total]:.1%} of {n[total]:,} {total}"
                out.append(Event(tally, name, f"{text} ({share})", int(n[tally])))
        return out

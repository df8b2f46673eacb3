"""Blocks of the chained-equations loop that sample a PyMC model, with any prior or written by the user.

The samplers are in fcs/blocks/pymc_normal.py and fcs/blocks/pymc_user.py. The blocks pass them the data of each cycle
and store their state with the parameters of the chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import FREE, Chain, Parameters, ShiftedRows, log_priors
from bayesimp.fcs.blocks.glmm import glmm_beta_prior
from bayesimp.fcs.blocks.normal import NormalBlock
from bayesimp.fcs.blocks.pymc_density import ModelTerms
from bayesimp.fcs.blocks.pymc_normal import NormalConditional
from bayesimp.fcs.blocks.pymc_user import UserConditional
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.covariance.factor import effects
from bayesimp.methods import PyMC
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.priors.gibbs import beta_prior
from bayesimp.sampling.hmc_block import HmcState, events

__all__ = ["GeneralisedModel", "OwnModel", "PriorModel", "completed_chain", "pack_state", "unpack_state"]


def pack_state(state: HmcState) -> dict[str, np.ndarray]:
    """A state of HMC as entries of `Parameters.own`."""
    counts = [state.transitions, state.acceptance, state.divergences]
    return {"hmc": state.theta, "hmc_counts": np.array(counts, dtype=float)}


def unpack_state(theta: Parameters) -> HmcState:
    """The state of HMC from `Parameters.own`."""
    transitions, acceptance, divergences = theta.own["hmc_counts"]
    return HmcState(theta.own["hmc"], int(transitions), float(acceptance), int(divergences))


class PriorModel(NormalBlock):
    """The normal conditional model under any prior of the library (`methods.PyMC(priors)`)."""

    adapts = True
    method: PyMC
    no_prior = ""

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        method, scale, name = self.method, self.chained.scale, self.chained.block.name
        p, q, r = self.sizes
        priors = pr.default() if method.priors is None else method.priors
        Sigma = pr.rescale(pr.resolve(priors.Sigma, scale.s, f"Sigma of '{name}'"), scale.s)
        Psi = scale.working_Psi_prior(scale.Psi_prior(priors.Psi, f"Psi of '{name}'"))
        self.Q0, self.t0 = beta_prior(priors.beta, scale, r, f"beta of '{name}'")
        options = {} if method.transitions is None else {"transitions": method.transitions}
        self.model = NormalConditional(
            pr.Priors(Sigma, Psi, pr.Flat()),
            p,
            q,
            beta_prior=(self.Q0, self.t0),
            name=name,
            **options,
        )

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of beta, sigma2 and Psi."""
        return log_priors(self, theta)

    def adapt(self, chain: Chain) -> None:
        """Tune step size and metric of HMC on the completed data of this chain."""
        self.model.adapt(chain.rng, self.moments(chain)[1])

    def init(self, chain: Chain) -> Parameters:
        """The general start, with a state of HMC."""
        theta = super().init(chain)
        theta.own |= pack_state(self.model.start(chain.rng, self.moments(chain)[1]))
        return theta

    def step(self, chain: Chain, theta: Parameters) -> int:
        """HMC transitions, draws of what is integrated out, then draws of the missing values."""
        f, m = self.moments(chain)
        state = unpack_state(theta)
        theta.beta, Sigma, theta.Psi, theta.B = self.model.step(chain.rng, state, m)
        theta.Sigma = Sigma[None]
        theta.own |= pack_state(state)
        return self.fill(chain, theta, f)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Divergences and acceptance of HMC."""
        return events(map(unpack_state, thetas), self.chained.block.name)


class OwnModel(ShiftedRows):
    """A PyMC model that the user wrote (`methods.PyMC(model=...)`), on rows in the working scale.

    A response without an identity link is not standardised: it consists of 0 and 1, counts, level codes from 0,
    proportions, or positive numbers divided by their mean.
    """

    adapts = True
    method: PyMC
    no_prior = ""
    no_effects = "effects are variables of your own model, in the posterior under their names there"
    no_new_clusters = "which variables are the effects of clusters only you know, so use new_clusters=False"
    has_own_density = True
    keep: tuple[str, ...] = ()  # computed quantities of the model to keep besides its free variables

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.block_rows = BlockRows(table, number)
        chain = completed_chain(table)
        method = self.method
        options = {} if method.transitions is None else {"transitions": method.transitions}
        self.link = method.link
        function, priors = self._function(method)
        observed = self.rows(chain)[0]
        self._declared = function, observed, priors
        self.model = UserConditional(function, observed, priors, keep=self.keep, **options)

    def _function(self, method: PyMC) -> tuple[Callable, pr.Priors | None]:
        assert method.model is not None
        return method.model, method.priors

    def rows(self, chain: Chain) -> tuple[ConditionalData, ConditionalData]:
        """The current rows where the variable is observed (and fitted), and those where it is missing."""
        block, rows = self.chained.block, self.block_rows
        f = rows.factors(chain.V)
        fixed, random = (tuple(c.name for c in part) for part in (block.fixed, block.random))
        family = block.distribution
        levels = len(block.levels) if family.is_factor else 0
        y = rows.y + self.chained.terms.offset[-1] if family.is_normal else rows.y
        out = []
        for y_part, (X, Z), codes, trials in (
            (y, rows.observed(chain.V, f), rows.cluster, rows.trials),
            (np.zeros(len(rows.hole_cluster)), rows.missing(chain.V, f), rows.hole_cluster, rows.hole_trials),
        ):
            out.append(
                ConditionalData(
                    block.name,
                    y_part,
                    X,
                    Z,
                    codes,
                    self.table.clusters,
                    fixed,
                    random,
                    family=block.family,
                    link=family.link(self.link),
                    levels=levels,
                    trials=trials if block.trials else None,
                )
            )
        return out[0], out[1]

    @cached_property
    def terms(self) -> ModelTerms:
        """The terms of the model's log density."""
        return ModelTerms(*self._declared)

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why rows have none: other terms of the model."""
        return self.terms.refusal

    @property
    def fitted_rows(self) -> BlockRows:
        """The rows where the variable is observed."""
        return self.block_rows

    def log_densities(self, chain: Chain, theta: Parameters) -> np.ndarray:
        """By the model's own node, with the unit of the response."""
        of_rows, _ = self.terms(theta.own["hmc"], self.rows(chain)[0])
        normal, rows = self.chained.block.distribution.is_normal, self.block_rows
        return of_rows - np.log(float(self.table.scale[rows.k]) if normal else rows.unit)

    def replicates(self, rng: np.random.Generator, chain: Chain, theta: Parameters) -> np.ndarray:
        """Drawn by the model's own node."""
        observed = self.rows(chain)[0]
        drawn = self.model.replicates(rng, unpack_state(theta), observed)
        return drawn - self.chained.terms.offset[-1] if self.chained.block.distribution.is_normal else drawn

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of every free variable, as the model scales it; effects of clusters are among them."""
        return self.terms(theta.own["hmc"], self._declared[1])[1]

    def adapt(self, chain: Chain) -> None:
        """Tune step size and metric of HMC on the completed data of this chain."""
        self.model.adapt(chain.rng, self.rows(chain)[0])

    def init(self, chain: Chain) -> Parameters:
        """An initial state of HMC; the user's free variables are kept as parameters."""
        observed = self.rows(chain)[0]
        state = self.model.start(chain.rng, observed)
        return Parameters(own=pack_state(state) | self._free(state, observed))

    def step(self, chain: Chain, theta: Parameters) -> int:
        """HMC transitions of the user's model, then draws of the missing values."""
        observed, missing = self.rows(chain)
        state = unpack_state(theta)
        values = self.model.step_rows(chain.rng, state, observed, missing)
        theta.own |= pack_state(state) | self._free(state, observed)
        if self.chained.block.distribution.is_normal:
            values = values - self.chained.terms.offset[-1] + self.shift
        self.block_rows.put(chain.V, values)
        return 0

    def _free(self, state: HmcState, observed: ConditionalData) -> dict[str, np.ndarray]:
        return {f"{FREE}{name}": x for name, x in self.model.parameters(state, observed).items()}

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Divergences and acceptance of HMC."""
        return events(map(unpack_state, thetas), self.chained.block.name)


class GeneralisedModel(OwnModel):
    """The generalised linear mixed model of a family under any prior of the library (`methods.PyMC(priors)`).

    The model is `bayesimp.models.conditional_glmm.conditional_glmm`.
    """

    keep = ("Psi",)
    no_effects = no_new_clusters = ""

    def _function(self, method: PyMC) -> tuple[Callable, pr.Priors]:
        from bayesimp.models.conditional_glmm import conditional_glmm

        return conditional_glmm, self._working_priors(
            pr.default() if method.priors is None else method.priors
        )

    def _working_priors(self, priors: pr.Priors) -> pr.Priors:
        """The priors on the working scale."""
        scale, name, block = self.chained.scale, self.chained.block.name, self.chained.block
        Psi = scale.working_Psi_prior(scale.Psi_prior(priors.Psi, f"Psi of '{name}'"))
        Q0, t0 = glmm_beta_prior(priors.beta, scale, block, self.block_rows.y, f"beta of '{name}'")
        self.Q0, self.t0 = Q0, t0
        precision = np.diag(Q0)
        if not np.allclose(Q0, np.diag(precision)):
            raise SpecificationError(
                f"'{name}': when predictors are centred, a normal prior in the units of the data is correlated, which "
                "the PyMC model does not allow. Use priors.Weak(), which refers to centred predictors, or 'bayes'."
            )
        beta: pr.Flat | pr.Normal = pr.Flat()
        if precision.any():
            shape = block.predictors, len(block.fixed)
            mean, sd = (t0 / precision).reshape(shape).T, (1.0 / np.sqrt(precision)).reshape(shape).T
            beta = pr.Normal(mean, sd)
        return pr.Priors(Psi=Psi, beta=beta, name=priors.name)

    def init(self, chain: Chain) -> Parameters:
        """As `OwnModel.init`, with parameters named as in other methods."""
        theta = super().init(chain)
        return self._named(theta)

    def step(self, chain: Chain, theta: Parameters) -> int:
        """As `OwnModel.step`, with parameters named as in other methods."""
        code = super().step(chain, theta)
        self._named(theta)
        return code

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of beta, Psi and auxiliary parameters, as for method 'bayes'."""
        free = super().log_prior(theta)
        return log_priors(self, theta) | {
            a.name: free[a.sampled] for a in self.chained.block.distribution.auxiliaries if a.sampled in free
        }

    def _independent(self, theta: Parameters) -> np.ndarray:
        """(m, r q) effects before they have their covariance (models/conditional_glmm.py)."""
        return theta.own["hmc"][self.terms.place("u")].reshape(self.table.clusters, -1)

    def effects(self, theta: Parameters) -> np.ndarray:
        """b = u L', L L' = Psi."""
        b = effects(self._independent(theta), np.ascontiguousarray(theta.Psi))
        return b.reshape(len(b), self.chained.block.predictors, -1).transpose(0, 2, 1)

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """u ~ N(0, I)."""
        hmc = theta.own["hmc"].copy()
        if len(self.chained.block.random):
            place = self.terms.place("u")
            hmc[place] = rng.standard_normal(place.stop - place.start)
        return replace(theta, own=theta.own | {"hmc": hmc})

    def _named(self, theta: Parameters) -> Parameters:
        """Name beta and Psi as in other blocks, and shape and cutpoints as in results."""
        own = theta.own
        theta.beta, theta.Psi = own.pop(f"{FREE}beta"), own.pop(f"{FREE}Psi")
        # variables from which Psi is computed (standard deviations, Psi at centred columns) are redundant
        for name in [name for name in own if name.startswith(f"{FREE}Psi_")]:
            own.pop(name)
        own.pop(f"{FREE}u")
        for auxiliary in self.chained.block.distribution.auxiliaries:
            if f"{FREE}{auxiliary.sampled}" in own:
                unit = self.block_rows.unit if auxiliary.has_unit else 1.0
                own[f"{FREE}{auxiliary.name}"] = (
                    auxiliary.from_sampled(own.pop(f"{FREE}{auxiliary.sampled}")) * unit
                )
        return theta


def completed_chain(table: ChainedTable) -> Chain:
    """A chain with missing values set to means, to find the shapes of the rows."""
    V = np.nan_to_num(table.start)
    table.derive(V)
    return Chain(np.random.default_rng(0), V, [])

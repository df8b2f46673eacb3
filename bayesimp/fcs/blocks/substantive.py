"""Blocks for variables in analyses: parameters given the completed data, values given the analyses.

A visit to a variable, given the current values of all others (fcs/blocks/factors.py), draws

    theta_k, Psi_k, b_ki | completed data         in its own model: the analysis, if it is the response of one
    x_kij  ~  p_k(x | others, theta_k, b_ki)  prod_l p_l(y_l | x, ..., theta_l, b_li)      l: the analyses that x is in

Unlike in an ordinary block, the fit of a covariate's model uses its imputed values, because these depend on the
responses of the analyses, which the model lacks. The parameters of the analyses are drawn at the visits to their
responses, once per cycle. Nothing is rejected: values are enumerated, drawn from an exact normal distribution, or by
slice sampling (kernels/factors/cells.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesimp.events import Event
from bayesimp.fcs.blocks.base import (
    BEYOND,
    FREE,
    Block,
    Chain,
    Parameters,
    log_priors,
    summed,
    without_limits,
)
from bayesimp.fcs.blocks.factors import Substantive
from bayesimp.fcs.blocks.glmm import acceptance
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.joint.glmm.chain import ChainState, fill_censored, numbers
from bayesimp.joint.glmm.pointwise import drawn_responses, log_density_of
from bayesimp.joint.glmm.sampler import Sampler
from bayesimp.kernels.factors.arrays import Work
from bayesimp.kernels.families.codes import NORMAL
from bayesimp.kernels.families.responses import dispersed_aux
from bayesimp.kernels.glmm.gibbs import FAILURES, TALLIES
from bayesimp.table.variables import without_round_off

__all__ = ["SubstantiveBlock"]

Array = NDArray[np.float64]
TUNING = 40  # visits that tune the step of the joint move of effects and cells, on a chain that is discarded


class SubstantiveBlock(Block):
    """A variable in an analysis."""

    words: Mapping[int, tuple[str, str]] = {
        **{-code: ("failed", message) for code, message in FAILURES.items()},
        BEYOND: (
            "values held",
            "the distribution of some values given the analysis was not finite, so they did not change. Take "
            "the logarithm of a predictor with a wide range",
        ),
    }
    heavy = True
    no_prior = ""
    has_own_density = True

    def __init__(self, table: ChainedTable, number: int, models: Substantive) -> None:
        super().__init__(table, number)
        self.models, self.name = models, self.chained.block.name
        self.k = models.names.index(self.name)
        self.factor, self.updates = models.table.factors[self.k], self.method.updates
        self.Q0, self.t0 = models.priors.beta[self.k]
        self.step_size = 0.5
        self.adapts = bool(len(models.table.bare[self.k]))
        first = {c.block.name: b for b, c in reversed(list(enumerate(table.blocks)))}
        self.places = [first[name] for name in models.names]
        self.rows = BlockRows(table, number)
        self.own = models.holes[self.name]
        if self.factor.at_cluster:
            self.drawn = np.zeros(len(self.rows.holes), dtype=bool)
            self.drawn[self.own.loop] = np.isnan(models.table.Y[self.own.row, self.k])

    def init(self, chain: Chain) -> Parameters:
        """Initial parameters: random scales, no effects; a cluster-level variable gets one value per cluster."""
        rng, factor, k, priors = chain.rng, self.factor, self.k, self.models.priors
        aux = dispersed_aux(rng, factor.code, len(factor.levels))
        known, sd = priors.known[k], np.exp(rng.normal(0.0, 0.3, 1))
        Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, factor.effects))) if known is None else known.copy()
        if not np.isnan(priors.known_sd[k]):
            sd[:] = priors.known_sd[k]
        own = {
            "aux": aux, "sd": sd, "effects": np.zeros((self.table.clusters, factor.effects)),
            "tallies": np.zeros((len(TALLIES), 2), dtype=np.int64), "moved": np.zeros(2, dtype=np.int64),
        }  # fmt: skip
        theta = Parameters(np.zeros((len(factor.fixed), factor.predictors)), Psi=Psi, own=own)
        self._keep(theta)
        if factor.at_cluster:
            start = rng.choice(self.models.table.observed[k], self.models.table.clusters)
            V = self.models.table.V[:, self.own.variable]
            each = numbers(self.models.table, k, start)[self.models.table.arrays.cluster]
            self._put(chain, np.where(np.isnan(V), each, V))
        if len(self.models.table.free[k]) < len(self.models.table.missing[k]):
            self._start_beyond_limits(chain)
        return theta

    def _start_beyond_limits(self, chain: Chain) -> None:
        """Start censored values beyond their limits, and leave the others unchanged."""
        table, own = self.models.table, self.own
        V, Y = table.V.copy(), table.Y.copy()
        fill_censored(table, self.k, chain.rng, V, Y)
        others = np.isnan(V[own.row, own.variable])
        column = own.column + self.table.p
        V[own.row[others], own.variable] = self.table.on_data_scale(
            column, chain.V[own.loop[others], own.column]
        )
        self._put(chain, V[:, own.variable])

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Nothing to do: the factors contain the shift (`factors.substantive`)."""

    def adapt(self, chain: Chain) -> None:
        """Tune the step of the joint move of effects and cells in clusters where the variable is never observed."""
        if not chain.theta:
            return
        sampler = self._sampler(chain)
        for _ in range(TUNING):
            sampler.update_cells(self.k, tune=True)
        self.step_size = float(sampler.chain.step[self.k])

    def step(self, chain: Chain, theta: Parameters) -> int:
        """Draw parameters of its own model given the completed data, then missing values given the analyses as well."""
        sampler, k, table = self._sampler(chain), self.k, self.models.table
        for _ in range(self.updates):
            failed = sampler.update_parameters(k)
            if failed:
                return -failed
            if not sampler.update_covariance(k):
                return -1
        V = sampler.state.V[:, self.own.variable]
        sampler.update_cells(k)
        rows = table.free[k]
        if table.leaf[k] and len(rows):
            V[rows] = numbers(table, k, sampler.leaf(k))
        self._put(chain, V)
        self._keep(theta)
        theta.own["moved"] += sampler.chain.moved[k]
        return BEYOND if sampler.chain.failed else 0

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why rows have none."""
        if self.factor.at_cluster:
            return "it has one value for each cluster, and terms of the likelihood are rows"
        return without_limits(self.chained)

    @property
    def fitted_rows(self) -> BlockRows:
        """The rows where the variable is observed."""
        return self.rows

    def _fitted(self) -> NDArray[np.int64]:
        """(n,) the same, as rows of the factors."""
        place = np.empty(len(self.models.table.row), dtype=np.int64)
        place[self.models.table.row] = np.arange(len(place))
        return place[self.rows.places()[: len(self.rows.y)]]

    def log_densities(self, chain: Chain, theta: Parameters) -> Array:
        """By its own model: p_k(x | others, theta_k, b_k), of an analysis for its response."""
        return log_density_of(self._sampler(chain), self.k, self._fitted())

    def replicates(self, rng: np.random.Generator, chain: Chain, theta: Parameters) -> Array:
        """Drawn by its own model."""
        thetas = [theta if b == self.places[self.k] else own for b, own in enumerate(chain.theta)]
        sampler = self._sampler(replace(chain, theta=thetas))
        y = drawn_responses(sampler, self.k, self._fitted(), rng)
        a, table, rows = self.models.table.arrays, self.table, self.rows
        if len(rows.levels):
            v = a.value[a.level[self.k] : a.level[self.k + 1]][y.astype(np.int64)]
            return np.abs(v[:, None] - rows.levels).argmin(axis=1).astype(float)
        v = a.center[self.k] + a.unit[self.k] * y
        if self.factor.family.is_standardised:
            return (v - table.center[rows.k]) / table.scale[rows.k] + rows.origin
        return v / rows.unit

    def effects(self, theta: Parameters) -> Array:
        """In the loop's order of clusters."""
        b = theta.own["effects"][np.argsort(self.models.table.order)[self.table.order]]
        return b.reshape(len(b), self.factor.predictors, -1).transpose(0, 2, 1)

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """N(0, Psi)."""
        b = rng.standard_normal(theta.own["effects"].shape)
        b = b @ np.linalg.cholesky(theta.Psi).T if theta.Psi.size else b
        return replace(theta, own=theta.own | {"effects": b})

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of beta, sigma2, Psi and auxiliary parameters."""
        aux = theta.own["aux"]
        each = self.factor.family.auxiliaries if aux.size else ()
        own = {a.name: float(a.log_prior(aux)) for a in each if a.log_prior is not None}
        return log_priors(self, theta) | own

    def _sampler(self, chain: Chain) -> Sampler:
        """The sampler of factors at the values and parameters of the chain, which it changes in place."""
        models, table = self.models, self.models.table
        thetas = [chain.theta[b] for b in self.places]
        V, Y = table.V.copy(), table.Y.copy()
        for name, holes in models.holes.items():
            k = holes.column + self.table.p
            here = np.isnan(table.V[holes.row, holes.variable])  # the others are known from their clusters
            at = holes.row[here]
            V[at, holes.variable] = self.table.on_data_scale(k, chain.V[holes.loop[here], holes.column])
            if name in models.names:
                f = models.names.index(name)
                lower, upper = table.limits[f]
                V[at, holes.variable] = without_round_off(V[at, holes.variable], lower[at], upper[at], name)
                Y[at, f] = self._response(f, V[at, holes.variable])
        K = len(thetas)
        sd = np.array([theta.own["sd"][0] for theta in thetas])
        state = ChainState(
            V, Y, [t.beta for t in thetas], [t.own["aux"] for t in thetas], sd, [t.Psi for t in thetas],
            [t.own["effects"] for t in thetas], chain.rng, np.stack([t.own["tallies"] for t in thetas]),
            np.full(K, self.step_size), np.zeros((K, 2), dtype=np.int64),
        )  # fmt: skip
        for f, theta in enumerate(
            thetas
        ):  # share memory, so that the sampler changes the parameters in place
            theta.own["sd"], theta.own["tallies"] = state.sd[f : f + 1], state.tallies[f]
        work = [
            Work(*(np.empty_like(a) for a in own)) if f == self.k else own
            for f, own in enumerate(models.work)
        ]
        return Sampler(table, models.priors, state, self.name, work)

    def _response(self, f: int, v: Array) -> Array:
        """Convert numbers used in formulas to the responses of factor f's model."""
        a = self.models.table.arrays
        first, last = a.level[f], a.level[f + 1]
        if last == first:
            return (v - a.center[f]) / a.unit[f]
        values = a.value[first:last]
        order = np.argsort(values)
        return order[np.searchsorted(values[order], v)].astype(float)

    def _put(self, chain: Chain, V: Array) -> None:
        """Pass the values (n,) of the variable, with rows in the order of the factors, to the loop."""
        k, own = self.own.column + self.table.p, self.own
        working = (V[own.row] - self.table.center[k]) / self.table.scale[k]
        support = self.chained.block.distribution.support
        if support.is_positive:
            working = np.maximum(working, self.rows.least)
        if support.is_below_one:
            working = np.minimum(working, self.rows.most)
        chain.V[own.loop, own.column] = working

    def _keep(self, theta: Parameters) -> None:
        """Store the parameters that results show: the residual variance, cutpoints or shapes."""
        if self.factor.code == NORMAL:
            theta.Sigma = (theta.own["sd"] ** 2).reshape(1, 1, 1)
        for auxiliary in self.factor.family.auxiliaries if theta.own["aux"].size else ():
            unit = self.models.table.arrays.unit[self.k] if auxiliary.has_unit else 1.0
            theta.own[f"{FREE}{auxiliary.name}"] = np.asarray(auxiliary.from_kernel(theta.own["aux"]) * unit)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Acceptance rates of Metropolis steps."""
        events = acceptance(self.name, summed(thetas, "tallies")) if self.factor.code != NORMAL else []
        tried, accepted = summed(thetas, "moved")
        if tried:
            text = (
                f"accepted by joint moves of effects and values in {len(self.models.table.bare[self.k])} clusters "
                f"without observed values: {accepted / tried:.0%} (step {self.step_size:.2f}, tuned before the run)"
            )
            events.append(Event("acceptance", self.name, text, 1))
        return events
